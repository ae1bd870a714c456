//! Other people's databases: how they are reached, their programs, and scratch servers on restored data.
//!
//! | module | what it is |
//! |---|---|
//! | `connection` | connection strings as variables of an environment, so that no password stands in an argument list |
//! | `programs` | which of the installed programs suits a server's version |
//! | `postgres` | what is asked of a PostgreSQL server that is backed up |
//! | `scratch` | a server on restored data, for the checks of a drill |

pub mod connection;
pub mod postgres;
pub mod programs;
pub mod scratch;
