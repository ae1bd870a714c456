//! Source -> recovery point.
//!
//! [`capture`] reads one source into the repository and returns a root tree; the run around it writes the record.
//! [`existing`] takes the snapshots of an existing repository over where they are.

pub mod capture;
pub mod existing;
pub mod hooks;
pub mod outcome;
pub mod run;
pub mod snapshots;
