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
    let mut tree = *tree;
    let mut found: Option<Entry> = None;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        if let Some(entry) = &found {
            tree = entry.node.subtree.ok_or_else(|| names_nothing(path))?;
        }
        let parent = found.map_or_else(Vec::new, |entry| entry.path);
        let node = reader.read_tree(&tree)?.into_iter().find(|node| node.name == name);
        let node = node.ok_or_else(|| names_nothing(path))?;
        found = Some(Entry { path: [&parent[..], b"/", name].concat(), node });
    }
    Ok(found)
}

fn names_nothing(path: &[u8]) -> Failure {
    Failure::wrong_input(format!("{} is not in this recovery point", byte_path::escape(path)))
        .hint("`lifeboat ls POINT` shows what is")
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

/// Streams a file's content.
///
/// # Errors
/// Wrong input when the path names nothing or no file; failed when the content is damaged.
pub fn stream(reader: &BlobReader, tree: &BlobId, path: &[u8], output: &mut dyn Write) -> Result<()> {
    let entry = resolve(reader, tree, path)?.filter(|entry| entry.node.kind == NodeKind::File);
    let entry = entry.ok_or_else(|| Failure::wrong_input(format!("{} is no file", byte_path::escape(path))))?;
    for blob in &entry.node.content {
        let content = reader.read(BlobKind::Data, blob).map_err(Failure::from)?;
        match output.write_all(&content) {
            // The reader has seen enough, as `head` has.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.or_fail(|| "cannot write the file's content".to_owned())?,
        }
    }
    output.flush().or_fail(|| "cannot write the file's content".to_owned())
}
