//! Evidence formats of lifeboat, and the arithmetic that turns raw events into a drill's numbers.
//!
//! `lifeboat` writes these formats, `lifeboat-verify` recomputes them; both use this code and nothing above it.

pub mod chain;
pub mod events;
pub mod report;
