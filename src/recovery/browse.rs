//! Looks into a stored tree: resolve a path, walk entries, stream a file.

use std::io::Write;

use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result, byte_path};
use crate::repository::{BlobId, BlobKind, BlobReader, Node, NodeKind};

/// One entry with the whole path that it was saved under, as bytes beginning with `/`.
#[derive(Debug, Clone)]
pub struct Entry {
    pub path: Vec<u8>,
    pub node: Node,
}

/// Reads a tree id as records write it.
pub fn tree_id(text: &str) -> Result<BlobId> {
    BlobId::from_hex(text).ok_or_else(|| Failure::failed(format!("{text:?} is no tree id")))
}

/// Children of the directory at `path` (empty: the root), or the file itself. Symlinks are not followed.
///
/// # Errors
/// Wrong input when the path names nothing.
pub fn list(reader: &BlobReader, tree: &BlobId, path: &[u8]) -> Result<Vec<Entry>> {
    let Some(entry) = resolve(reader, tree, path)? else {
        return children(reader, tree, b"");
    };
    match (entry.node.kind, &entry.node.subtree) {
        (NodeKind::Directory, Some(subtree)) => children(reader, subtree, &entry.path),
        _ => Ok(vec![entry]),
    }
}

fn children(reader: &BlobReader, tree: &BlobId, parent: &[u8]) -> Result<Vec<Entry>> {
    let nodes = reader.read_tree(tree)?;
    Ok(nodes.into_iter().map(|node| Entry { path: [parent, b"/", &node.name[..]].concat(), node }).collect())
}

/// The entry at a path; `None` for the root.
///
/// # Errors
/// Wrong input when the path names nothing.
pub fn resolve(reader: &BlobReader, tree: &BlobId, path: &[u8]) -> Result<Option<Entry>> {
    if components(path).next().is_none() {
        return Ok(None);
    }
    let found = find_entry(reader, tree, path)?;
    let names_nothing = || {
        Failure::wrong_input(format!("{} is not in this recovery point", byte_path::escape(path)))
            .hint("`lifeboat ls POINT` shows what is")
    };
    found.map(Some).ok_or_else(names_nothing)
}

/// The entry at a path; `None` when there is none there, and for the root, which is no entry.
///
/// # Errors
/// When a directory on the way cannot be read.
pub fn find_entry(reader: &BlobReader, tree: &BlobId, path: &[u8]) -> Result<Option<Entry>> {
    let mut tree = Some(*tree);
    let mut found: Option<Entry> = None;
    for name in components(path) {
        let Some(directory) = tree else { return Ok(None) };
        let node = reader.read_tree(&directory)?.into_iter().find(|node| node.name == name);
        let Some(node) = node else { return Ok(None) };
        tree = node.subtree;
        let parent = found.map_or_else(Vec::new, |entry| entry.path);
        found = Some(Entry { path: [&parent[..], b"/", name].concat(), node });
    }
    Ok(found)
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

/// Calls `visit` for every entry, parents before children.
pub fn walk(reader: &BlobReader, tree: &BlobId, visit: &mut dyn FnMut(&Entry) -> Result<()>) -> Result<()> {
    let mut waiting = vec![(*tree, Vec::new())];
    while let Some((tree, parent)) = waiting.pop() {
        for entry in children(reader, &tree, &parent)? {
            visit(&entry)?;
            if let Some(subtree) = entry.node.subtree {
                waiting.push((subtree, entry.path));
            }
        }
    }
    Ok(())
}

/// Streams a file's content, one blob at a time: memory does not grow with the file.
///
/// # Errors
/// Wrong input when the path names nothing or no file; failed when the content is damaged, with how much of it was
/// written before: what went out cannot be taken back.
pub fn stream(reader: &BlobReader, tree: &BlobId, path: &[u8], output: &mut dyn Write) -> Result<()> {
    let entry = resolve(reader, tree, path)?.filter(|entry| entry.node.kind == NodeKind::File);
    let entry = entry.ok_or_else(|| Failure::wrong_input(format!("{} is no file", byte_path::escape(path))))?;
    let size = entry.node.size;
    let cut = |position: u64| {
        let path = byte_path::escape(&entry.path);
        format!("only {position} of the {size} bytes of {path} were written")
    };
    let mut position = 0;
    for blob in &entry.node.content {
        let content = reader.read(BlobKind::Data, blob).map_err(|error| {
            let _ = output.flush();
            Failure::from(error).context(cut(position)).hint("an earlier or later recovery point may hold it whole")
        })?;
        match output.write_all(&content) {
            // The reader has seen enough, as `head` has.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.or_fail(|| "cannot write the file's content".to_owned())?,
        }
        position += content.len() as u64;
    }
    match output.flush() {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
        flushed => flushed.or_fail(|| "cannot write the file's content".to_owned())?,
    }
    if position == size {
        return Ok(());
    }
    let path = byte_path::escape(&entry.path);
    Err(Failure::failed(format!("{path} is damaged: its content has {position} bytes, not the {size} of its size")))
}
