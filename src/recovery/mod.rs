//! Plans: restore and drill; steps, checks, targets, measurement.
//!
//! | file | what it is |
//! |---|---|
//! | [`browse`] | looks into a stored tree: list, walk, stream a file |
//! | [`diff`](mod@diff) | what two stored trees differ in |
//! | [`restore`] | writes a stored tree below a target directory |
//! | [`plan`] | pure: which steps may run now, in which ranks |
//! | [`points`] | pure: which recovery point a source is restored from |
//! | [`drill`](mod@drill) | one plan as a durable run: declare, isolate, steps, checks, clean up |
//! | [`isolate`](mod@isolate) | hides the primary from the process that runs a drill |
//! | [`measure`] | how new the restored data is: beacons |
//! | `steps`, `scripts` | one step of a plan: restore, script, wait |
//! | `checks` | command, http, tcp, sql, file |
//! | `surroundings` | what scripts and checks are given: directories, environment |
//! | `cleanup`, `remove` | ends a drill's processes and deletes its target |
//! | `beneath`, `sqlite` | reads below a directory and never outside; reads one value of a database |

pub mod browse;
pub mod diff;
pub mod drill;
pub mod isolate;
pub mod measure;
pub mod plan;
pub mod points;
pub mod restore;

mod beneath;
mod checks;
mod cleanup;
mod databases;
mod remove;
mod scripts;
mod sqlite;
mod steps;
mod surroundings;

pub use drill::{DrillContext, drill};
pub use isolate::{isolate, primary_paths};
pub use points::points_at;
