//! What people read of a drill: the page for auditors and the summary for the terminal.
//!
//! Numbers are never made here: they come from [`lifeboat_verify::report`], which recomputes them from raw events.

mod clean;
mod html;
pub mod humane;
mod sections;
mod text;
mod timeline;

#[cfg(test)]
#[path = "../../verify/tests/samples/mod.rs"]
mod samples;

pub use html::html;
pub use text::text;
