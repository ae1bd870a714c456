//! `lifeboat ls`, `find` and `cat`

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use globset::GlobBuilder;
use serde_json::{Value, json};

use super::global::Global;
use super::output;
use crate::engine::system::System;
use crate::ground::{Failure, FailureKind, Result, byte_path};
use crate::recovery::browse::{self, Entry, tree_id};
use crate::report::humane;
use crate::repository::{BlobId, BlobReader, NodeKind};
use crate::site::records::PointRecord;

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct LsArguments {
    /// Id of the recovery point, or the beginning of one
    point: String,
    /// A path in it, absolute as it was on the primary
    path: Option<String>,
}

/// Arguments of `find`.
#[derive(Debug, Args)]
pub struct FindArguments {
    /// The system
    system: String,
    /// Pattern with `*`, `?`, `**`; without a slash it is matched against names
    glob: String,
    /// Only this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only this recovery point
    #[arg(long, value_name = "ID")]
    point: Option<String>,
}

/// Arguments of `cat`.
#[derive(Debug, Args)]
pub struct CatArguments {
    /// Id of the recovery point, or the beginning of one
    point: String,
    /// The file's path, absolute as it was on the primary
    path: String,
}

/// A point, the system it belongs to, and its opened repository.
struct Opened {
    tree: BlobId,
    reader: BlobReader,
}

/// What is kept of an entry that was found; never its list of blobs.
struct Match {
    point: String,
    size: u64,
    shown: Value,
}

/// Runs `ls`.
pub fn ls(global: &Global, arguments: &LsArguments) -> Result<u8> {
    let opened = open_point(global, &arguments.point)?;
    let path = path_bytes(arguments.path.as_deref().unwrap_or("/"))?;
    let entries = browse::list(&opened.reader, &opened.tree, &path)?;
    if global.json {
        let entries: Vec<Value> = entries.iter().map(entry_json).collect();
        output::json(&json!({ "entries": entries }))?;
    } else {
        let rows: Vec<Vec<String>> = entries.iter().map(entry_row).collect();
        output::table(&["MODE", "OWNER>", "SIZE>", "MODIFIED", "PATH"], &rows)?;
    }
    Ok(0)
}

/// Runs `find`.
pub fn find(global: &Global, arguments: &FindArguments) -> Result<u8> {
    let glob = GlobBuilder::new(&arguments.glob)
        .literal_separator(true)
        .build()
        .map_err(|error| Failure::wrong_input(format!("{error}")))?
        .compile_matcher();
    let system = global.open_system(global.policy_of(Some(&arguments.system))?)?;
    let mut points = system.catalog.points(&system.policy.system)?;
    if let Some(source) = &arguments.source {
        points.retain(|point| point.source == *source);
    }
    if let Some(id) = &arguments.point {
        points.retain(|point| point.id.starts_with(id.as_str()));
    }
    let by_name = !arguments.glob.contains('/');
    let readers = system.point_readers()?;
    let (mut matches, mut code) = (Vec::new(), 0);
    for point in &points {
        let reader = match readers.of(point) {
            // Others may have removed it; that must not hide what the rest holds.
            Err(failure) if point.is_elsewhere() => {
                system.progress.warn(&failure.message);
                code = super::exit_code(FailureKind::Partial);
                continue;
            }
            reader => reader?,
        };
        browse::walk(&reader, &tree_id(&point.tree)?, &mut |entry| {
            let subject = if by_name { &entry.node.name } else { &entry.path };
            if glob.is_match(OsStr::from_bytes(subject)) {
                matches.push(Match { point: point.id.clone(), size: entry.node.size, shown: entry_json(entry) });
            }
            Ok(())
        })?;
    }
    if global.json {
        let with_point = |Match { point, mut shown, .. }| {
            shown["point"] = json!(point);
            shown
        };
        output::json(&json!({ "matches": matches.into_iter().map(with_point).collect::<Vec<Value>>() }))?;
    } else {
        let row = |found: &Match| {
            let path = found.shown["path"].as_str().unwrap_or_default().to_owned();
            vec![found.point.clone(), humane::bytes(found.size), path]
        };
        output::table(&["POINT", "SIZE>", "PATH"], &matches.iter().map(row).collect::<Vec<_>>())?;
    }
    Ok(code)
}

/// Runs `cat`.
pub fn cat(global: &Global, arguments: &CatArguments) -> Result<u8> {
    let opened = open_point(global, &arguments.point)?;
    let path = path_bytes(&arguments.path)?;
    browse::stream(&opened.reader, &opened.tree, &path, &mut std::io::stdout().lock())?;
    Ok(0)
}

fn open_point(global: &Global, id: &str) -> Result<Opened> {
    let (system, point) = find_point(global, id)?;
    let reader = system.point_readers()?.of(&point)?;
    Ok(Opened { tree: tree_id(&point.tree)?, reader })
}

/// A point by its id or the beginning of one, among all systems that have a policy here.
pub(super) fn find_point(global: &Global, id: &str) -> Result<(System, PointRecord)> {
    let mut found = Vec::new();
    for path in global.policy_paths()? {
        let Ok(policy) = super::global::read_policy(&path) else { continue };
        let Ok(system) = global.open_system(super::global::PolicyFile { path, policy }) else { continue };
        for point in system.catalog.points(&system.policy.system)? {
            if point.id == id {
                return Ok((system, point));
            }
            if point.id.starts_with(id) {
                found.push((system.clone(), point));
            }
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            Err(Failure::wrong_input(format!("there is no recovery point {id:?}")).hint("`lifeboat points` lists them"))
        }
        count => {
            Err(Failure::wrong_input(format!("{count} recovery points begin with {id:?}")).hint("write more of its id"))
        }
    }
}

/// Paths are written as they are printed, so that what is seen can be pasted.
pub(super) fn path_bytes(text: &str) -> Result<Vec<u8>> {
    Ok(byte_path::unescape(text).unwrap_or_else(|| text.as_bytes().to_vec()))
}

pub(super) fn kind_word(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "file",
        NodeKind::Directory => "directory",
        NodeKind::Symlink => "symlink",
        NodeKind::BlockDevice => "block device",
        NodeKind::CharacterDevice => "character device",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
    }
}

fn entry_json(entry: &Entry) -> Value {
    let node = &entry.node;
    json!({
        "path": byte_path::escape(&entry.path), "kind": kind_word(node.kind), "size": node.size,
        "mode": format!("{:04o}", node.mode), "uid": node.uid, "gid": node.gid, "modified": node.modified,
        "link_target": node.link_target.as_deref().map(byte_path::escape),
    })
}

fn entry_row(entry: &Entry) -> Vec<String> {
    let node = &entry.node;
    let letter = match node.kind {
        NodeKind::File => '-',
        NodeKind::Directory => 'd',
        NodeKind::Symlink => 'l',
        NodeKind::BlockDevice => 'b',
        NodeKind::CharacterDevice => 'c',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
    };
    let target =
        node.link_target.as_deref().map_or_else(String::new, |target| format!(" -> {}", byte_path::escape(target)));
    vec![
        format!("{letter}{:04o}", node.mode),
        format!("{}:{}", node.uid, node.gid),
        humane::bytes(node.size),
        node.modified.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        format!("{}{target}", byte_path::escape(&entry.path)),
    ]
}
