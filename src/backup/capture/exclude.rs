//! Which entries the operator leaves out.
//!
//! A pattern that begins with `/` is matched against the absolute path, any other against the path relative to the
//! configured one: `**/tmp/**` must not leave out a whole source because it lies below a directory of that name. `*`
//! and `?` stay within one name, `**` crosses directories. A directory that matches leaves out everything beneath it.
//! The configured path itself is never left out: it was named.

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::ground::{Failure, Result};

/// Decides which entries of a walk are taken.
pub(super) trait Selection: Sync {
    /// Whether to enter a directory. `relative` is the path below the walk's top.
    fn enters(&self, absolute: &[u8], relative: &[u8]) -> bool;
    /// Whether to capture an entry that is no directory.
    fn takes(&self, absolute: &[u8], relative: &[u8]) -> bool;
    /// Whether a symlink to a directory is entered as if it were one.
    fn follows(&self, _absolute: &[u8]) -> bool {
        false
    }
    /// Whether a directory without any captured entry is captured itself.
    fn keeps_empty_directories(&self) -> bool;
}

/// Compiled exclude patterns.
#[derive(Debug)]
pub(super) struct Exclude {
    absolute: GlobSet,
    relative: GlobSet,
}

impl Exclude {
    /// Compiles the patterns of a policy.
    ///
    /// # Errors
    /// Wrong input for a pattern that is none.
    pub fn new(patterns: &[String]) -> Result<Self> {
        let (absolute, relative): (Vec<_>, Vec<_>) = patterns.iter().partition(|pattern| pattern.starts_with('/'));
        let compiled = |patterns: Vec<&String>| {
            glob_set(patterns.into_iter().map(|pattern| compile(pattern)).collect::<Result<Vec<_>>>()?)
        };
        Ok(Self { absolute: compiled(absolute)?, relative: compiled(relative)? })
    }

    /// Whether an entry is left out.
    pub fn matches(&self, absolute: &[u8], relative: &[u8]) -> bool {
        let matched = |set: &GlobSet, path| !set.is_empty() && set.is_match_candidate(&Candidate::from_bytes(path));
        matched(&self.absolute, absolute) || matched(&self.relative, relative)
    }
}

impl Selection for Exclude {
    fn enters(&self, absolute: &[u8], relative: &[u8]) -> bool {
        !self.matches(absolute, relative)
    }

    fn takes(&self, absolute: &[u8], relative: &[u8]) -> bool {
        !self.matches(absolute, relative)
    }

    fn keeps_empty_directories(&self) -> bool {
        true
    }
}

/// Compiles one pattern: `*` stays within a name. A trailing slash is no part of a name.
pub(super) fn compile(pattern: &str) -> Result<Glob> {
    let trimmed = if pattern == "/" { pattern } else { pattern.trim_end_matches('/') };
    GlobBuilder::new(trimmed).literal_separator(true).build().map_err(|error| {
        Failure::wrong_input(format!("the pattern `{pattern}` cannot be used: {}", error.kind()))
            .hint("`*` and `?` match within one name, `**` across directories, `[abc]` one of these, `{a,b}` either")
    })
}

/// Puts compiled patterns together; their positions are kept.
pub(super) fn glob_set(globs: Vec<Glob>) -> Result<GlobSet> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(glob);
    }
    builder.build().map_err(|error| Failure::wrong_input(format!("the patterns are too large together: {error}")))
}
