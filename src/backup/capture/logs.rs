//! Source kind `logs`: files that only grow, named by absolute glob patterns.
//!
//! The walk begins at the fixed part of each pattern and enters only directories that can lead to a match, so that a
//! directory beside the logs which this user may not read is no gap. A line appended during the read is for the next
//! point: each file is read up to the size it had when it was opened, and from where the earlier point ends (`grown`).
//!
//! A symlink to a directory is followed where the pattern has a component for it (`/opt/*/logs/*.log`), as a shell
//! does, and not below `**`. A symlink that itself matches is recorded as a symlink.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use globset::{Candidate, GlobMatcher};

use super::Captured;
use super::content::Stability;
use super::exclude::{Selection, compile, compile_exclude};
use super::files::{normalize, outermost};
use super::log_history::LogHistory;
use super::session::{Session, components};
use super::trees::plant;
use super::walk::{os, walk};
use crate::ground::{Failure, Result};
use crate::policy::literal;

/// Captures the files that match the patterns.
///
/// # Errors
/// When no pattern matches anything, a pattern is none, or the repository cannot be written.
pub(super) fn capture_logs(mut session: Session<'_>, patterns: &[String], exclude: &[String]) -> Result<Captured> {
    session.logs = Some(LogHistory::default());
    let patterns = patterns.iter().map(|pattern| Pattern::parse(pattern)).collect::<Result<Vec<_>>>()?;
    let selection = LogSelection { patterns, exclude: compile_exclude(exclude)? };
    let mut prefixes: Vec<Vec<u8>> = selection.patterns.iter().map(|pattern| pattern.prefix.clone()).collect();
    prefixes.sort();
    prefixes.dedup();
    // A prefix that is not there is reported once, as a pattern without a match.
    let present: Vec<_> = prefixes.iter().filter(|prefix| PathBuf::from(os(prefix)).is_dir()).cloned().collect();
    let followed: HashSet<Vec<u8>> = prefixes.iter().cloned().collect();
    let captives = walk(&session, &selection, Stability::AppendOnly, &outermost(&present), &followed)?;
    selection.judge(&session)?;
    let tree = plant(&session, captives)?;
    session.finish(tree, prefixes.iter().map(|prefix| PathBuf::from(os(prefix))).collect())
}

/// One absolute glob pattern, taken apart.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    /// The directory above the first component that is a pattern (or above the last component, if none is).
    pub prefix: Vec<u8>,
    whole: GlobMatcher,
    /// One per component; shorter than the pattern when from there on any depth can match.
    steps: Vec<GlobMatcher>,
    /// Whether everything beneath the last step can match.
    any_depth: bool,
    matched: AtomicBool,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Wrong input when it is relative, contains `..` or is no pattern.
    pub fn parse(text: &str) -> Result<Self> {
        let parts = split(text);
        let mut fixed: Vec<String> = parts.iter().map_while(|part| literal(part)).collect();
        fixed.truncate(parts.len().saturating_sub(1));
        let slash = if text.starts_with('/') { "/" } else { "" };
        let prefix = normalize(&format!("{slash}{}", fixed.join("/")))?;
        let stepwise = parts.iter().take_while(|part| !part.contains("**") && !part.contains('/')).count();
        let steps = parts[..stepwise].iter().map(|part| Ok(compile(part)?.compile_matcher()));
        Ok(Self {
            prefix,
            whole: compile(&format!("/{}", parts.join("/")))?.compile_matcher(),
            steps: steps.collect::<Result<Vec<_>>>()?,
            any_depth: stepwise < parts.len(),
            matched: AtomicBool::new(false),
            text: text.to_owned(),
        })
    }

    /// Whether this path matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.whole.is_match_candidate(&Candidate::from_bytes(path))
    }

    /// Whether the pattern has a component of its own for this directory, as a shell would follow it.
    pub fn names_directory(&self, directory: &[u8]) -> bool {
        let depth = components(directory).count();
        depth < self.steps.len() + usize::from(self.any_depth)
            && depth <= self.steps.len()
            && self.leads_through(directory)
    }

    /// Whether something beneath this directory can match.
    pub fn leads_through(&self, directory: &[u8]) -> bool {
        let mut steps = self.steps.iter();
        for name in components(directory) {
            match steps.next() {
                Some(step) if step.is_match_candidate(&Candidate::from_bytes(name)) => {}
                Some(_) => return false,
                None => return self.any_depth,
            }
        }
        steps.next().is_some() || self.any_depth
    }
}

/// The components of a pattern; a slash within braces does not part them.
fn split(pattern: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut braces = 0_usize;
    let mut is_escaped = false;
    for character in pattern.chars() {
        match character {
            '{' if !is_escaped => braces += 1,
            '}' if !is_escaped => braces = braces.saturating_sub(1),
            '/' if braces == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        is_escaped = character == '\\' && !is_escaped;
        if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    parts.retain(|part| !part.is_empty() && part != ".");
    parts
}

/// All patterns of one source.
struct LogSelection {
    patterns: Vec<Pattern>,
    exclude: crate::policy::Exclude,
}

impl LogSelection {
    /// Names patterns without a match.
    fn judge(&self, session: &Session<'_>) -> Result<()> {
        let unmatched: Vec<_> =
            self.patterns.iter().filter(|pattern| !pattern.matched.load(Ordering::Relaxed)).collect();
        if unmatched.len() == self.patterns.len() {
            let texts: Vec<_> = unmatched.iter().map(|pattern| pattern.text.as_str()).collect();
            let reason = session.first_missing().map(|reason| format!(" ({reason})")).unwrap_or_default();
            return Err(Failure::failed(format!("no file matches {}{reason}", texts.join(", ")))
                .hint("check the patterns with `ls`, and that this user may read the directories"));
        }
        for pattern in unmatched {
            session.miss(pattern.text.as_bytes(), "no file matches this pattern");
        }
        Ok(())
    }
}

impl Selection for LogSelection {
    fn enters(&self, absolute: &[u8], relative: &[u8]) -> bool {
        let leads = self.patterns.iter().any(|pattern| pattern.leads_through(absolute));
        leads && !self.exclude.matches(absolute, relative)
    }

    fn follows(&self, absolute: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.names_directory(absolute))
    }

    fn takes(&self, absolute: &[u8], relative: &[u8]) -> bool {
        if self.exclude.matches(absolute, relative) {
            return false;
        }
        let mut any = false;
        for pattern in self.patterns.iter().filter(|pattern| pattern.matches(absolute)) {
            pattern.matched.store(true, Ordering::Relaxed);
            any = true;
        }
        any
    }

    fn keeps_empty_directories(&self) -> bool {
        false
    }
}
