//! What a command printed and how it ended.

use std::process::Command;

use serde_json::Value;

/// What a command left. Unread output is a forgotten assertion.
#[must_use]
#[derive(Debug)]
pub struct Output {
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub code: Option<i32>,
    line: String,
}

impl Output {
    /// Runs a command and takes all it says.
    pub fn of(mut command: Command) -> Self {
        let line = format!("{command:?}");
        let output =
            command.output().unwrap_or_else(|error| panic!("cannot run {line}: {error} (scripts/test installs it)"));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("panicked at"), "{line} panicked:\n{stderr}");
        Self { stdout: output.stdout, stderr, code: output.status.code(), line }
    }

    /// Fails the test unless the exit code is this one.
    pub fn expect(self, code: i32) -> Self {
        let words = format!("{}\nstdout: {}\nstderr: {}", self.line, self.text(), self.stderr);
        assert_eq!(self.code, Some(code), "exit code of {words}");
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The one JSON document on stdout.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{} printed no JSON: {error}\n{}\n{}", self.line, self.text(), self.stderr))
    }

    /// The list under a key of the document.
    pub fn list(&self, key: &str) -> Vec<Value> {
        let document = self.json();
        document[key].as_array().unwrap_or_else(|| panic!("no list {key} in {document:#}")).clone()
    }

    /// Fails the test unless both words of output hold each text.
    pub fn says(self, texts: &[&str]) -> Self {
        let all = format!("{}{}", self.stderr, self.text());
        for text in texts {
            assert!(all.contains(text), "{} does not say {text:?}:\n{all}", self.line);
        }
        self
    }
}

/// Reading JSON in tests.
pub trait Field {
    /// The text under a key.
    fn text(&self, key: &str) -> String;
    /// The number under a key.
    fn number(&self, key: &str) -> f64;
}

impl Field for Value {
    fn text(&self, key: &str) -> String {
        self[key].as_str().unwrap_or_else(|| panic!("no text {key} in {self:#}")).to_owned()
    }

    fn number(&self, key: &str) -> f64 {
        self[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {self:#}"))
    }
}
