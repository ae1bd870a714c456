//! What two stored trees differ in: both are walked side by side, and directories with one id in both are not entered.
//!
//! Compared is what a restore would bring back. Inode numbers, the time of the last change of metadata and the time of
//! the last access are not: they tell of the disk, not of the data.
//!
//! Memory: the entries of the directories on the way down to the one being compared, of both trees.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::ground::failure::OrFail;
use crate::ground::{Result, byte_path};
use crate::repository::{BlobId, BlobKind, BlobReader, Node, NodeKind};

/// What happened to an entry from one tree to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Added,
    Removed,
    /// A file's bytes, a symlink's target or a device's number.
    Content,
    /// Owner, mode, time of modification or extended attributes, and nothing else.
    Metadata,
    /// Another kind of entry has its name.
    Type,
}

/// One difference.
#[derive(Debug)]
pub struct Difference<'a> {
    /// The whole path that it was saved under, as bytes beginning with `/`.
    pub path: &'a [u8],
    pub change: Change,
    pub before: Option<&'a Node>,
    pub after: Option<&'a Node>,
    /// Bytes of the pieces that only the later version has.
    pub added_bytes: u64,
    /// Bytes of the pieces that only the earlier version has.
    pub removed_bytes: u64,
}

/// Hears of each difference.
pub type DifferenceSink<'a> = dyn FnMut(&Difference<'_>) -> Result<()> + 'a;

/// One name, as it is in both trees.
type Pair = (Option<Node>, Option<Node>);

/// A directory on the way down and the entries in it still to be compared.
struct Frame {
    path: Vec<u8>,
    pairs: std::vec::IntoIter<Pair>,
}

/// Compares what lies below two trees, both of the directory at `path` (empty for the root). `None` is a directory that
/// is not there. Entries come sorted, directories before what is in them; all that is below an added or removed
/// directory is added or removed.
///
/// # Errors
/// When a directory cannot be read, or what the sink says.
pub fn trees(
    reader: &BlobReader,
    path: &[u8],
    (before, after): (Option<BlobId>, Option<BlobId>),
    sink: &mut DifferenceSink<'_>,
) -> Result<()> {
    let mut stack = Vec::new();
    stack.extend(open(reader, path.to_vec(), before, after)?);
    while let Some(frame) = stack.last_mut() {
        let Some((before, after)) = frame.pairs.next() else {
            stack.pop();
            continue;
        };
        let name = before.as_ref().or(after.as_ref()).map_or(&b""[..], |node| &node.name);
        let path = [&frame.path[..], b"/", name].concat();
        entries(reader, &path, before.as_ref(), after.as_ref(), sink)?;
        let subtree = |node: &Option<Node>| node.as_ref().and_then(|node| node.subtree);
        stack.extend(open(reader, path, subtree(&before), subtree(&after))?);
    }
    Ok(())
}

/// Compares one entry with its other version, without what is below it.
///
/// # Errors
/// What the sink says.
pub fn entries(
    reader: &BlobReader,
    path: &[u8],
    before: Option<&Node>,
    after: Option<&Node>,
    sink: &mut DifferenceSink<'_>,
) -> Result<()> {
    let change = match (before, after) {
        (None, None) => return Ok(()),
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Removed,
        (Some(before), Some(after)) if before.kind != after.kind => Change::Type,
        (Some(before), Some(after)) if has_other_content(before, after) => Change::Content,
        (Some(before), Some(after)) if metadata_changes(before, after).is_empty() => return Ok(()),
        _ => Change::Metadata,
    };
    let (added_bytes, removed_bytes) = (only_in(reader, after, before), only_in(reader, before, after));
    sink(&Difference { path, change, before, after, added_bytes, removed_bytes })
}

/// Names of the attributes, of those that a restore brings back, in which two entries differ.
pub fn metadata_changes(before: &Node, after: &Node) -> Vec<&'static str> {
    let checks = [
        ("mode", before.mode != after.mode),
        ("owner", (before.uid, &before.user) != (after.uid, &after.user)),
        ("group", (before.gid, &before.group) != (after.gid, &after.group)),
        ("modified", before.modified != after.modified),
        ("xattrs", before.xattrs != after.xattrs),
    ];
    checks.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

fn has_other_content(before: &Node, after: &Node) -> bool {
    (&before.content, before.size, &before.link_target, before.device)
        != (&after.content, after.size, &after.link_target, after.device)
}

/// Bytes of the blobs of `node` that `other` does not have.
fn only_in(reader: &BlobReader, node: Option<&Node>, other: Option<&Node>) -> u64 {
    let Some(node) = node.filter(|node| node.kind == NodeKind::File) else { return 0 };
    let Some(other) = other.filter(|other| other.kind == NodeKind::File) else { return node.size };
    if node.content == other.content {
        return 0;
    }
    let known: HashSet<&BlobId> = other.content.iter().collect();
    let own = node.content.iter().filter(|blob| !known.contains(blob));
    own.filter_map(|blob| reader.length(BlobKind::Data, blob)).sum()
}

/// A directory's entries side by side; `None` when there is nothing to compare.
fn open(reader: &BlobReader, path: Vec<u8>, before: Option<BlobId>, after: Option<BlobId>) -> Result<Option<Frame>> {
    if before == after {
        return Ok(None);
    }
    let read = |tree: Option<BlobId>| match tree {
        None => Ok(Vec::new()),
        Some(tree) => reader.read_tree(&tree).or_fail(|| {
            let shown = if path.is_empty() { "/".to_owned() } else { byte_path::escape(&path) };
            format!("cannot compare the directory {shown}")
        }),
    };
    let pairs = side_by_side(read(before)?, read(after)?);
    Ok(Some(Frame { path, pairs: pairs.into_iter() }))
}

/// Merges two lists that are sorted by name.
fn side_by_side(before: Vec<Node>, after: Vec<Node>) -> Vec<Pair> {
    let mut pairs = Vec::with_capacity(before.len().max(after.len()));
    let (mut before, mut after) = (before.into_iter().peekable(), after.into_iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => before.name.cmp(&after.name),
        };
        pairs.push(match order {
            Ordering::Less => (before.next(), None),
            Ordering::Greater => (None, after.next()),
            Ordering::Equal => (before.next(), after.next()),
        });
    }
}
