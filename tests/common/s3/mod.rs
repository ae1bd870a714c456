//! A real S3 server of one's own, and a proxy before it that does what networks and servers do on a bad day.

pub mod proxy;
pub mod server;

pub use proxy::{Fault, Proxy, Request};
pub use server::{ACCESS, SECRET, Server, server};
