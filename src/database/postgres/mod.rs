//! PostgreSQL.
//!
//! | module | what it is |
//! |---|---|
//! | `connection` | connection strings as variables of an environment, so that no password stands in an argument list |
//! | `programs` | which of the installed programs suits a server's version |
//! | `client` | what is asked of a server that is backed up |
//! | `scratch` | a server on a restored cluster, for the checks of a drill |

pub mod client;
pub mod connection;
pub mod programs;
pub mod scratch;
