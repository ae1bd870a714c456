//! The documents that are made from the code stay what the code says.

use std::path::{Path, PathBuf};

use lifeboat::policy;

const MARK: &str = "<!-- The part below is made from the code: UPDATE_DOCS=1 cargo test --test policy documents -->\n";

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// Compares the file with what the code says, or writes it when `UPDATE_DOCS` is set.
fn hold(name: &str, expected: &str) {
    let path = docs(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).expect("the document can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/{name} is not what the code says; run: UPDATE_DOCS=1 cargo test --test policy documents"
    );
}

#[test]
fn the_schema_file_is_the_schema() {
    let schema = serde_json::to_string_pretty(&policy::schema()).expect("the schema is JSON");
    hold("policy.schema.json", &(schema + "\n"));
}

#[test]
fn the_key_reference_is_the_one_of_the_code() {
    let written = std::fs::read_to_string(docs("policy.md")).expect("docs/policy.md is readable");
    let (prose, _) = written.split_once(MARK).expect("docs/policy.md holds the mark of its generated part");
    hold("policy.md", &format!("{prose}{MARK}\n{}", policy::reference()));
}
