//! `lifeboat check`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::global::{Global, read_policy};
use super::output;
use crate::ground::Result;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Policy files; without any, all of the policies directory
    files: Vec<PathBuf>,
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let paths = if arguments.files.is_empty() { global.policy_paths()? } else { arguments.files.clone() };
    if paths.is_empty() {
        return Err(crate::ground::Failure::wrong_input(format!(
            "there is no policy in {}",
            global.policies().display()
        ))
        .hint("make a first one with `lifeboat init`"));
    }
    let mut code = 0;
    let mut results: Vec<Value> = Vec::new();
    for path in &paths {
        match read_policy(path) {
            Ok(policy) => {
                let sources = policy.sources.len();
                if !global.json {
                    output::line(&format!(
                        "{}: the policy of {:?} is valid, {sources} sources",
                        path.display(),
                        policy.system
                    ))?;
                }
                results.push(json!({ "file": path, "system": policy.system, "valid": true, "errors": [] }));
            }
            Err(failure) => {
                code = 2;
                super::report(&failure);
                let lines: Vec<&str> = failure.message.lines().collect();
                results.push(json!({ "file": path, "valid": false, "errors": lines }));
            }
        }
    }
    if global.json {
        output::json(&json!({ "policies": results }))?;
    }
    Ok(code)
}
