//! Every promise of docs/invariants.md names tests that exist.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

#[test]
fn every_promise_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/invariants.md")).unwrap();
    let mut numbers = HashSet::new();
    for promise in text.split("\n- **I").skip(1) {
        let (number, rest) = promise.split_once("**").unwrap();
        assert!(numbers.insert(number.to_owned()), "I{number} stands twice");
        let named: Vec<&str> = rest.split('`').skip(1).step_by(2).filter(|text| text.contains(".rs::")).collect();
        assert!(!named.is_empty(), "I{number} names no test");
        for name in named {
            let (file, test) = name.split_once("::").unwrap();
            let source =
                fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("I{number}: {file}: {error}"));
            let at =
                source.find(&format!("fn {test}()")).unwrap_or_else(|| panic!("I{number}: {file} has no test {test}"));
            let before = &source[..at];
            let is_test = before.trim_end_matches("async ").trim_end().ends_with("test]");
            assert!(is_test, "I{number}: {file}::{test} is no test");
        }
    }
    assert!(numbers.len() >= 25, "only {} promises were found", numbers.len());
}
