//! Collects what a restore did and what it could not do, from several threads.

use std::sync::{Mutex, PoisonError};

use super::RestoreSummary;
use crate::ground::Failure;
use crate::site::records::Missing;

/// Entries of [`RestoreSummary::missing`] and [`RestoreSummary::unsafe_links`] that are named; all are counted.
const NAMED_MAX: usize = 1_000;

/// Longest path that is written out in a message, in bytes; a longer one loses its middle.
const PATH_TEXT_MAX: usize = 32 * 1024;

/// Why one step failed: because of this entry, or because the target as a whole is unusable.
#[derive(Debug)]
pub(super) enum Trouble {
    /// This entry alone; the reason is half a sentence.
    Entry(String),
    /// The target is full, read-only or broken: going on makes no sense.
    Target(Failure),
}

/// The running account of a restore.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    summary: Mutex<RestoreSummary>,
}

impl Outcome {
    /// An entry stands, exactly or with its deviations named.
    pub(super) fn restored(&self, bytes: u64) {
        let mut summary = self.lock();
        summary.entries += 1;
        summary.bytes += bytes;
    }

    /// Names an entry that is not restored exactly. Nothing happens without a reason.
    pub(super) fn missing(&self, path: impl FnOnce() -> String, reasons: &[String]) {
        if reasons.is_empty() {
            return;
        }
        let mut summary = self.lock();
        summary.missing_count += 1;
        if summary.missing.len() < NAMED_MAX {
            summary.missing.push(Missing { path: shorten(path()), reason: reasons.join("; ") });
        }
    }

    /// An entry, named by [`Outcome::missing`], is lost in the repository.
    pub(super) fn damaged(&self) {
        self.lock().damaged_count += 1;
    }

    /// Names a symlink that leads out of the target.
    pub(super) fn unsafe_link(&self, text: impl FnOnce() -> String) {
        let mut summary = self.lock();
        if summary.unsafe_links.len() < NAMED_MAX {
            summary.unsafe_links.push(shorten(text()));
        }
    }

    /// The account, in the order of the paths.
    pub(super) fn finish(self) -> RestoreSummary {
        let mut summary = self.summary.into_inner().unwrap_or_else(PoisonError::into_inner);
        summary.missing.sort_by(|one, other| one.path.cmp(&other.path));
        summary
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RestoreSummary> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shorten(text: String) -> String {
    if text.len() <= PATH_TEXT_MAX {
        return text;
    }
    let head = (0..=PATH_TEXT_MAX / 2).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let tail = (text.len() - PATH_TEXT_MAX / 2..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    format!("{} ... {}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_are_named_and_all_are_counted() {
        let outcome = Outcome::default();
        for number in 0..1_500 {
            outcome.missing(|| format!("/{number}"), &["gone".into()]);
        }
        outcome.missing(|| "/fine".into(), &[]);
        let summary = outcome.finish();
        assert_eq!((summary.missing.len(), summary.missing_count), (1_000, 1_500));
    }

    #[test]
    fn a_monstrous_path_keeps_its_ends() {
        let text = shorten(format!("/head{}tail", "é/".repeat(100_000)));
        assert!(text.starts_with("/head") && text.ends_with("tail") && text.len() < PATH_TEXT_MAX + 10);
    }
}
