//! Tests of capture against a store in memory and real directories with awkward content.

mod changes;
mod databases;
mod fake;
mod grown;
mod images;
mod objects;
mod paths;
mod properties;
