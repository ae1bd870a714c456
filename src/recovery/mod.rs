//! Plans: restore and drill; steps, checks, targets, measurement.

pub mod restore;
