//! What an installed program says of its version.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::ground::process::clean_environment;
use crate::ground::stream::answer;

/// A program says its version at once.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// The answer to `--version`; `None` of a program that does not give one.
pub(super) fn version(path: &Path) -> Option<String> {
    let mut command = Command::new(path);
    clean_environment(&mut command);
    command.arg("--version").stdin(Stdio::null()).current_dir("/");
    let said = answer(command, VERSION_LIMIT, &[]).ok()?;
    if said.trouble(VERSION_LIMIT).is_some() {
        return None;
    }
    Some(String::from_utf8_lossy(&said.read.ok()?).into_owned())
}
