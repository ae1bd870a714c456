//! What the tests of the repository itself stand on: stores in memory, a repository whose every file is known, and
//! randomness that can be repeated. Taken in by a path, so that the tests of commands need not compile it.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod sample;
pub mod seed;
pub mod store;
