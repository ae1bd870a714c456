//! `lifeboat diff`: what two recovery points of one source differ in, a line each as restic prints them.

use std::io::{BufWriter, Write};

use clap::Args;
use serde_json::{Value, json};

use super::browse::{find_point, kind_word, path_bytes};
use super::global::Global;
use super::output;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result, byte_path};
use crate::recovery::browse::{self, tree_id};
use crate::recovery::diff::{self, Change, Difference, metadata_changes};
use crate::report::humane;
use crate::repository::{BlobId, BlobReader, Node, NodeKind};
use crate::site::records::PointRecord;

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Id of the earlier recovery point, or the beginning of one
    from: String,
    /// Id of the later recovery point, or the beginning of one
    to: String,
    /// Only what is at or below this path, absolute as it was on the primary
    path: Option<String>,
}

/// Counts of one kind of entry.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    added: u64,
    removed: u64,
    changed: u64,
}

/// What all differences come to.
#[derive(Debug, Default)]
struct Summary {
    files: Counts,
    directories: Counts,
    others: Counts,
    added_bytes: u64,
    removed_bytes: u64,
}

/// Differences as they go into the JSON document.
#[derive(Debug, Default)]
struct Lists {
    added: Vec<Value>,
    removed: Vec<Value>,
    changed: Vec<Value>,
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let (system, from) = find_point(global, &arguments.from)?;
    let (other_system, to) = find_point(global, &arguments.to)?;
    if (&system.policy.system, &from.source) != (&other_system.policy.system, &to.source) {
        return Err(Failure::wrong_input(format!("{} and {} are points of different sources", from.id, to.id))
            .hint("`lifeboat points --source NAME` lists the points of one source"));
    }
    if from.is_elsewhere() != to.is_elsewhere() {
        return Err(Failure::wrong_input(format!("{} and {} lie in different repositories", from.id, to.id))
            .hint("restore both and compare the directories"));
    }
    let path = path_bytes(arguments.path.as_deref().unwrap_or("/"))?;
    let reader = system.point_readers()?.of(&to)?;
    if global.json { print_json(&reader, &from, &to, &path) } else { print_lines(&reader, &from, &to, &path) }?;
    Ok(0)
}

fn print_json(reader: &BlobReader, from: &PointRecord, to: &PointRecord, path: &[u8]) -> Result<()> {
    let (mut lists, mut summary) = (Lists::default(), Summary::default());
    compare(reader, from, to, path, &mut |difference| {
        summary.count(difference);
        lists.take(difference);
        Ok(())
    })?;
    output::json(&json!({
        "source": to.source, "from": from.id, "to": to.id,
        "added": lists.added, "removed": lists.removed, "changed": lists.changed,
        "summary": summary.json(),
    }))
}

/// Lines come out while the trees are walked: nothing is collected.
fn print_lines(reader: &BlobReader, from: &PointRecord, to: &PointRecord, path: &[u8]) -> Result<()> {
    let mut output = BufWriter::new(std::io::stdout().lock());
    let mut summary = Summary::default();
    let compared = compare(reader, from, to, path, &mut |difference| {
        summary.count(difference);
        written(writeln!(output, "{}", line(difference)))
    });
    // What was found before a damage is shown all the same.
    written(output.flush())?;
    compared?;
    written(output.write_all(summary.text().as_bytes()).and_then(|()| output.flush()))
}

/// A reader that went away (`| head`) ends the command quietly.
fn written(outcome: std::io::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        outcome => outcome.or_fail(|| "cannot write to standard output".to_owned()),
    }
}

/// Hands every difference at or below a path to the sink.
fn compare(
    reader: &BlobReader,
    from: &PointRecord,
    to: &PointRecord,
    path: &[u8],
    sink: &mut diff::DifferenceSink<'_>,
) -> Result<()> {
    let (before, after) = (tree_id(&from.tree)?, tree_id(&to.tree)?);
    if path.iter().all(|byte| *byte == b'/') {
        return diff::trees(reader, b"", (Some(before), Some(after)), sink);
    }
    let entry = |tree: &BlobId| browse::find_entry(reader, tree, path);
    let (before, after) = (entry(&before)?, entry(&after)?);
    let Some(found) = after.as_ref().or(before.as_ref()) else {
        let path = byte_path::escape(path);
        return Err(Failure::wrong_input(format!("{path} is in neither of the two recovery points"))
            .hint("`lifeboat ls POINT` shows what is"));
    };
    let path = found.path.clone();
    let node = |entry: &Option<browse::Entry>| entry.as_ref().map(|entry| entry.node.clone());
    let (before, after) = (node(&before), node(&after));
    diff::entries(reader, &path, before.as_ref(), after.as_ref(), sink)?;
    let subtree = |node: Option<Node>| node.and_then(|node| node.subtree);
    diff::trees(reader, &path, (subtree(before), subtree(after)), sink)
}

/// As restic prints it: a letter, four spaces, the path; a directory's with a slash at its end.
fn line(difference: &Difference<'_>) -> String {
    let letter = match difference.change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Content => 'M',
        Change::Metadata => 'U',
        Change::Type => 'T',
    };
    let is_directory = kind(difference) == NodeKind::Directory;
    let slash = if is_directory { "/" } else { "" };
    format!("{letter}    {}{slash}", byte_path::escape(difference.path))
}

/// What the entry is, or was if it is there no more.
fn kind(difference: &Difference<'_>) -> NodeKind {
    difference.after.or(difference.before).map_or(NodeKind::File, |node| node.kind)
}

impl Lists {
    fn take(&mut self, difference: &Difference<'_>) {
        let path = byte_path::escape(difference.path);
        let size = |node: Option<&Node>| node.filter(|node| node.kind == NodeKind::File).map(|node| node.size);
        let word = |node: Option<&Node>| node.map(|node| kind_word(node.kind));
        let (before, after) = (difference.before, difference.after);
        match difference.change {
            Change::Added => self.added.push(json!({ "path": path, "kind": word(after), "size": size(after) })),
            Change::Removed => self.removed.push(json!({ "path": path, "kind": word(before), "size": size(before) })),
            change => self.changed.push(json!({
                "path": path, "what": what(change), "kind": word(after), "kind_before": word(before),
                "size": size(after), "size_before": size(before),
                "attributes": before.zip(after).map(|(before, after)| metadata_changes(before, after)),
                "added_bytes": difference.added_bytes, "removed_bytes": difference.removed_bytes,
            })),
        }
    }
}

/// The word for a change in the JSON document.
fn what(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Content => "content",
        Change::Metadata => "metadata",
        Change::Type => "type",
    }
}

impl Summary {
    fn count(&mut self, difference: &Difference<'_>) {
        let counts = match kind(difference) {
            NodeKind::File => &mut self.files,
            NodeKind::Directory => &mut self.directories,
            _ => &mut self.others,
        };
        *match difference.change {
            Change::Added => &mut counts.added,
            Change::Removed => &mut counts.removed,
            Change::Content | Change::Metadata | Change::Type => &mut counts.changed,
        } += 1;
        self.added_bytes += difference.added_bytes;
        self.removed_bytes += difference.removed_bytes;
    }

    fn json(&self) -> Value {
        let counts =
            |counts: Counts| json!({ "added": counts.added, "removed": counts.removed, "changed": counts.changed });
        json!({
            "files": counts(self.files), "directories": counts(self.directories), "others": counts(self.others),
            "added_bytes": self.added_bytes, "removed_bytes": self.removed_bytes,
        })
    }

    fn text(&self) -> String {
        let row = |name: &str, counts: Counts| {
            let Counts { added, removed, changed } = counts;
            format!("{name:<13}{added:>6} added, {removed:>6} removed, {changed:>6} changed\n")
        };
        let bytes = |name: &str, bytes: u64| format!("{name:<13}{}\n", humane::bytes(bytes));
        [
            "\n".to_owned(),
            row("Files:", self.files),
            row("Directories:", self.directories),
            row("Others:", self.others),
            bytes("Added:", self.added_bytes),
            bytes("Removed:", self.removed_bytes),
        ]
        .concat()
    }
}
