//! Source -> recovery point.
//!
//! [`capture`] reads one source into the repository and returns a root tree; the run around it writes the record.

pub mod capture;
pub mod hooks;
pub mod outcome;
pub mod run;
pub mod snapshots;
