//! A real S3 server of one's own, and a proxy before it that does what networks and servers do on a bad day.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod proxy;
pub mod server;

pub use proxy::{Fault, Proxy, Request};
pub use server::{ACCESS, SECRET, server};
