//! Which directory lies in which: the DR site, the archive and the sources must not contain each other.
//!
//! Judged by the text alone; links and mounts are looked at by `doctor` and by the backup itself.

use super::diagnostics::{Fault, Faults};
use super::node::{Located, Node};
use super::time::quoted;
use super::{EXISTING_REPOSITORY, Exclude};

/// One path of a source.
struct Place<'a> {
    source: &'a str,
    written: Located<'a>,
    /// Components of the path; of a pattern, those before its first wildcard.
    parts: Vec<&'a str>,
    /// Whether everything below is read: true for directories, and for patterns with `**`.
    deep: bool,
    /// An existing repository: not copied, but nothing may be written below it either.
    existing: bool,
    exclude: Vec<&'a str>,
}

/// Reports a DR site or archive inside a source, and a source inside the DR site.
pub(crate) fn check(root: &Node<'_>, faults: &mut Faults) {
    let places: Vec<Place<'_>> = root.children("source").iter().flat_map(places_of).collect();
    let dr = root.child("dr").and_then(|dr| dr.text("path"));
    let archive = root.child("retention").and_then(|r| r.child("archive")).and_then(|archive| archive.text("path"));
    for place in &places {
        if let Some(dr) = &dr {
            let below_dr = is_inside(&place.parts, &parts(dr.text));
            if !below_dr {
                refuse_inside(place, dr, "the DR site", faults);
            } else {
                refuse_below_dr(place, dr, faults);
            }
        }
        if let Some(archive) = &archive {
            refuse_inside(place, archive, "the archive", faults);
        }
    }
}

fn refuse_inside(place: &Place<'_>, directory: &Located<'_>, what: &str, faults: &mut Faults) {
    if place.deep && is_inside(&parts(directory.text), &place.parts) && !is_excluded(place, directory.text) {
        let why = match place.existing {
            true => "nothing is written into an existing repository",
            false => "every backup would back up the backups",
        };
        let message = format!(
            "{what} {} lies inside {} of source {}: {why}",
            quoted(directory.text),
            quoted(place.written.text),
            quoted(place.source)
        );
        faults.push(Fault::new(directory.span.clone(), message).expected("a directory outside every source"));
    }
}

fn refuse_below_dr(place: &Place<'_>, dr: &Located<'_>, faults: &mut Faults) {
    let relation = if place.parts.len() == parts(dr.text).len() { "is" } else { "lies inside" };
    let message = format!(
        "{} of source {} {relation} the DR site {}",
        quoted(place.written.text),
        quoted(place.source),
        quoted(dr.text)
    );
    faults.push(Fault::new(place.written.span.clone(), message).expected("a path outside the DR site"));
}

fn places_of<'a>(source: &Node<'a>) -> Vec<Place<'a>> {
    let (Some(name), Some(kind)) = (source.text("name"), source.text("kind")) else { return Vec::new() };
    let exclude: Vec<&str> = source.texts("exclude").iter().map(|pattern| pattern.text).collect();
    let place = |written: Located<'a>, patterns: bool| {
        let all = parts(written.text);
        let literal = all.iter().take_while(|part| !patterns || !part.contains(['*', '?', '[', '{'])).count();
        let deep = !patterns || written.text.contains("**");
        let existing = kind.text == EXISTING_REPOSITORY;
        Place { source: name.text, parts: all[..literal].to_vec(), deep, existing, exclude: exclude.clone(), written }
    };
    match kind.text {
        "files" => source.texts("paths").into_iter().map(|path| place(path, false)).collect(),
        "logs" => source.texts("paths").into_iter().map(|path| place(path, true)).collect(),
        "image" | "sqlite" | EXISTING_REPOSITORY => {
            source.text("path").map(|path| place(path, false)).into_iter().collect()
        }
        _ => Vec::new(),
    }
    .into_iter()
    .filter(|place: &Place<'_>| place.written.text.starts_with('/'))
    .collect()
}

/// Components without empty and `.` ones, so that `/srv//shop/` and `/srv/shop` are the same.
fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect()
}

/// Whether `inner` is `outer` or below it.
fn is_inside(inner: &[&str], outer: &[&str]) -> bool {
    inner.starts_with(outer)
}

/// Whether an exclude pattern leaves the directory out, or all that is in it, as `/srv/dr/**` does. Patterns that are
/// none are told of elsewhere.
fn is_excluded(place: &Place<'_>, directory: &str) -> bool {
    let components = parts(directory);
    let Ok(exclude) = Exclude::new(&place.exclude) else { return false };
    (place.parts.len() + 1..=components.len() + 1).any(|count| {
        let shown: Vec<&str> = components.iter().copied().chain(["x"]).take(count).collect();
        let absolute = format!("/{}", shown.join("/"));
        exclude.matches(absolute.as_bytes(), shown[place.parts.len()..].join("/").as_bytes())
    })
}
