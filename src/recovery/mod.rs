//! Plans: restore and drill; steps, checks, targets, measurement.

pub mod beneath;
pub mod measure;
pub mod output;
pub mod plan;
pub mod points;
pub mod process;
pub mod reaper;
pub mod restore;
pub mod sqlite;

pub use points::points_at;
