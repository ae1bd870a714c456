//! Secrets are references, never values, in policies and flags; a resolved secret never prints itself.

use std::fmt;
use std::process::Command;

use zeroize::Zeroizing;

use super::failure::{Failure, Result};

/// A resolved secret. `Debug` and `Display` show dots; memory is wiped on drop.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Wraps raw bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes themselves; keep them out of logs, reports and argument lists.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Where a secret is found: `env:NAME`, `file:PATH` or `command:...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretReference {
    /// An environment variable of lifeboat's own process.
    Env(String),
    /// A file; one trailing newline is not part of the secret.
    File(String),
    /// A command for `/bin/sh -c`; its standard output, without one trailing newline, is the secret.
    Command(String),
}

impl SecretReference {
    /// Parses the written form. `None` when it is not a reference (perhaps the secret itself: do not echo it).
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        if rest.trim().is_empty() {
            return None;
        }
        match scheme {
            "env" => Some(Self::Env(rest.to_owned())),
            "file" => Some(Self::File(rest.to_owned())),
            "command" => Some(Self::Command(rest.to_owned())),
            _ => None,
        }
    }

    /// Fetches the secret. Fails with a wrong-input sentence that names the reference, never the value.
    pub fn resolve(&self) -> Result<Secret> {
        let bytes = match self {
            Self::Env(name) => resolve_env(name)?,
            Self::File(path) => std::fs::read(path)
                .map_err(|error| Failure::wrong_input(format!("cannot read the secret in the file {path}: {error}")))?,
            Self::Command(line) => resolve_command(line)?,
        };
        let trimmed = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let trimmed = trimmed.strip_suffix(b"\r").unwrap_or(trimmed);
        if trimmed.is_empty() {
            return Err(Failure::wrong_input(format!("the secret {self} is empty")));
        }
        Ok(Secret::new(trimmed))
    }
}

fn resolve_env(name: &str) -> Result<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    std::env::var_os(name)
        .map(OsStringExt::into_vec)
        .ok_or_else(|| Failure::wrong_input(format!("the secret env:{name} is not set in the environment")))
}

fn resolve_command(line: &str) -> Result<Vec<u8>> {
    let output = Command::new("/bin/sh").arg("-c").arg(line).stdin(std::process::Stdio::null()).output();
    let output = output.map_err(|error| Failure::wrong_input(format!("cannot run the secret's command: {error}")))?;
    if !output.status.success() {
        return Err(Failure::wrong_input(format!("the secret's command ended with {}", output.status)));
    }
    Ok(output.stdout)
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Command(line) => write!(f, "command:{line}"),
        }
    }
}
