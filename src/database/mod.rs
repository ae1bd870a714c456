//! Other people's databases: how they are reached, their programs, and scratch servers on restored data.
//!
//! | module | what it is |
//! |---|---|
//! | `postgres` | PostgreSQL: connection strings, its client, its programs by version, a server on a restored cluster |
//! | `mysql` | MariaDB and MySQL: the same, and a server that a restored dump is loaded into |
//! | `server` | what scratch servers of every kind share: who runs them, whose the data is, the end of a log |
//! | `said` | what an installed program says of its version |

pub mod mysql;
pub mod postgres;
mod said;
mod server;
