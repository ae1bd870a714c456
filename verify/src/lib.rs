//! Evidence formats of lifeboat, and the arithmetic that turns raw events into a drill's numbers.
//!
//! `lifeboat` writes these formats, `lifeboat-verify` recomputes them; both use this code and nothing above it.

pub mod chain;
pub mod compare;
pub mod events;
pub mod report;

use serde::Serialize;

/// Canonical JSON of evidence: indented, fields in declaration order, a newline at the end.
pub fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    // Evidence types have string keys only and write to memory: serialising them cannot fail.
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
