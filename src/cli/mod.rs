//! Faces for people and scripts: one file per command.
pub mod quickstart;
