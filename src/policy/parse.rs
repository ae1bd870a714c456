//! From text to policy: syntax, then keys and types, then what spans keys, then the model.

use std::ops::Range;

use toml::de::DeTable;

use super::diagnostics::{Fault, Faults, PolicyErrors};
use super::form::Form;
use super::keys::POLICY;
use super::node::Node;
use super::shape::looks_secret;
use super::{Policy, build, meaning, shape};

/// Parses and validates the text of a policy. `file_name` is only shown.
///
/// Looks at nothing but the text: whether paths exist is for `doctor` and for the backup to find out.
///
/// # Errors
/// All mistakes of the text at once, each with its place. When the text is no TOML, only that is reported.
pub fn parse(file_name: &str, text: &str) -> Result<Policy, PolicyErrors> {
    let mut faults = Faults::default();
    let policy = match DeTable::parse(text) {
        Ok(document) => read(&Node::new(document.get_ref(), 0..0), text, &mut faults),
        Err(_) => {
            report_syntax(text, &mut faults);
            None
        }
    };
    match policy {
        Some(policy) if faults.is_empty() => Ok(policy),
        _ => Err(faults.into_errors(file_name, text)),
    }
}

fn read(root: &Node<'_>, text: &str, faults: &mut Faults) -> Option<Policy> {
    shape::check(&POLICY, root, faults);
    meaning::check(root, faults);
    if !faults.is_empty() {
        return None;
    }
    let policy = build::policy(root, text);
    if policy.is_none() {
        // Only a disagreement between the checks and the model can lead here; better said than passed over.
        faults.push(Fault::new(0..0, "this policy passed every check and still could not be read; please report it"));
    }
    policy
}

/// Reports one mistake per line: the parser recovers, and a second one on the same line mostly echoes the first.
fn report_syntax(text: &str, faults: &mut Faults) {
    /// A file that is no TOML at all gives an error for each of its lines; nobody reads further.
    const REPORTED_MAX: usize = 50;
    let (_, errors) = DeTable::parse_recoverable(text);
    let mut reported_lines = std::collections::BTreeSet::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let line = text.bytes().take(span.start).filter(|b| *b == b'\n').count();
        if reported_lines.len() < REPORTED_MAX && reported_lines.insert(line) {
            let why = error.message().lines().collect::<Vec<_>>().join(", ");
            faults.push(Fault::new(span, format!("this is not valid TOML: {why}")));
        }
    }
    secret_places(text).into_iter().for_each(|place| faults.mask(place));
}

/// Places in a text that is no TOML where a secret may be written: what follows `=` after a key that looks like one.
fn secret_places(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    for (equals, _) in text.match_indices('=') {
        let before = text[..equals].trim_end_matches([' ', '\t', '"', '\'']);
        let is_key = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let key = &before[before.trim_end_matches(is_key).len()..];
        let value = text[equals + 1..].trim_start_matches([' ', '\t']);
        let start = text.len() - value.len();
        if looks_secret(key)
            && Form::Secret.check(value.lines().next().unwrap_or_default().trim_matches(['"', '\''])).is_err()
        {
            places.push(start..start + value_length(value));
        }
    }
    places
}

/// To the end of the line; of a text over several lines, to its closing quotes or the end of all.
fn value_length(value: &str) -> usize {
    for quotes in ["\"\"\"", "'''"] {
        if let Some(rest) = value.strip_prefix(quotes) {
            return rest.find(quotes).map_or(value.len(), |end| end + 2 * quotes.len());
        }
    }
    value.find('\n').unwrap_or(value.len())
}
