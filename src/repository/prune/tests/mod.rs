//! Prune against backup against restore.

mod exhaustive;
mod plays;
mod random;
mod stage;
mod whole;
