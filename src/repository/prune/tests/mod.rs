//! Prune against backup against restore.

mod exhaustive;
mod random;
mod stage;
mod whole;
