//! Which entries of a walk are taken. What exclude patterns mean is said in [`crate::policy::Exclude`]. A directory that
//! matches leaves out everything beneath it. The configured path itself is never left out: it was named.

use globset::Glob;

use crate::ground::{Failure, Result};
use crate::policy::Exclude;

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

/// Compiles the exclude patterns of a source.
///
/// # Errors
/// Wrong input for a pattern that is none.
pub(super) fn compile_exclude(patterns: &[String]) -> Result<Exclude> {
    Exclude::new(patterns).map_err(|(pattern, error)| not_a_pattern(&pattern, &error))
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

/// Compiles one pattern of log files.
pub(super) fn compile(pattern: &str) -> Result<Glob> {
    crate::policy::glob(pattern).map_err(|error| not_a_pattern(pattern, &error))
}

fn not_a_pattern(pattern: &str, error: &globset::Error) -> Failure {
    Failure::wrong_input(format!("the pattern `{pattern}` cannot be used: {}", error.kind()))
        .hint("`*` and `?` match within one name, `**` across directories, `[abc]` one of these, `{a,b}` either")
}
