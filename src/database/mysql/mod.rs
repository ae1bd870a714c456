//! MariaDB and MySQL.
//!
//! | module | what it is |
//! |---|---|
//! | `connection` | connection strings as an option file that lies nowhere |
//! | `version` | of whom and how new a server or a program is |
//! | `programs` | which of the installed programs suits a server |
//! | `client` | asks a server that is backed up, by its own client |
//! | `facts` | what must be known of a server before its dump |
//! | `rows` | rows of an answer |
//! | `dump` | how a dump is ordered, and how its end is known |
//! | `locks` | whom a dump waits for, and for how long |
//! | `scratch` | a server that a restored dump is loaded into, for the checks of a drill |

pub mod client;
pub mod connection;
pub mod dump;
pub mod facts;
pub mod locks;
pub mod programs;
mod rows;
pub mod scratch;
pub mod version;
