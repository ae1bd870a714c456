//! Whether stored trees are whole, asked without writing anything: for repositories that belong to others, in which no
//! lock of ours keeps anybody from pruning.
//!
//! Memory: the index, 24 bytes for each directory that it knows, and one directory of each level that is in work.

use std::collections::HashSet;
use std::sync::Arc;

use super::error::RepositoryError;
use super::index::Index;
use super::reader::BlobReader;
use super::tree::{BlobId, NodeKind};
use super::tree_visits::join;
use super::verify::check_content;
use super::{BlobKind, Inner, index_file, pack, unpacked};
use crate::ground::byte_path::escape;

/// So often the index is loaded again when others change it meanwhile.
const ATTEMPTS_MAX: u32 = 5;

/// What a tree holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeSize {
    /// Files, directories and all else.
    pub entries: u64,
    /// Bytes of the files as they would be restored; each name of a file counts.
    pub bytes: u64,
}

impl TreeSize {
    fn add(&mut self, other: Self) {
        self.entries = self.entries.saturating_add(other.entries);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Tells of one tree after the other whether everything that it refers to is stored. What several of them hold in common
/// is read once.
pub struct Inspection {
    inner: Arc<Inner>,
    /// As listed before the index was loaded.
    index_names: HashSet<BlobId>,
    index: Arc<Index>,
    reader: BlobReader,
    /// By a tree's position in the index: its size once all below it was found.
    sizes: Vec<Option<TreeSize>>,
}

/// A directory in work.
struct Frame {
    tree: BlobId,
    name: Vec<u8>,
    /// Directories in it that were not looked at yet.
    below: Vec<(Vec<u8>, BlobId)>,
    size: TreeSize,
}

impl Inspection {
    pub(super) fn begin(inner: &Arc<Inner>) -> Result<Self, RepositoryError> {
        let index_names = index_file::names(inner)?;
        let mut index = index_file::load(inner, true)?.index;
        index.forget_lost_packs(&unpacked::list(inner, pack::PACKS)?.0.into_iter().collect());
        let index = Arc::new(index);
        let sizes = vec![None; index.count(BlobKind::Tree)];
        let reader = BlobReader::new(Arc::clone(inner), Arc::clone(&index));
        Ok(Self { inner: Arc::clone(inner), index_names, index, reader, sizes })
    }

    /// Reads what is stored.
    pub fn reader(&self) -> &BlobReader {
        &self.reader
    }

    /// How much a tree holds, when everything that it refers to is stored.
    ///
    /// # Errors
    /// Damaged, with the first path of which something is missing. When others change the index meanwhile, it is loaded
    /// anew before that is believed.
    pub fn size_of(&mut self, tree: &BlobId) -> Result<TreeSize, RepositoryError> {
        for _ in 0..ATTEMPTS_MAX {
            match self.add_up(tree) {
                Err(_) if index_file::names(&self.inner)? != self.index_names => *self = Self::begin(&self.inner)?,
                size => return size,
            }
        }
        let place = self.inner.store.describe();
        Err(RepositoryError::Locked(format!(
            "the index of the repository in {place} changes faster than it can be read"
        )))
    }

    /// Without recursion: a chain of 10,000 directories must not need a deep stack.
    fn add_up(&mut self, root: &BlobId) -> Result<TreeSize, RepositoryError> {
        let mut frames = vec![self.enter(Vec::new(), *root, &[])?];
        let mut whole = TreeSize::default();
        while let Some(frame) = frames.last_mut() {
            let Some((name, tree)) = frame.below.pop() else {
                let tree = frame.tree;
                whole = frame.size;
                self.remember(&tree, whole);
                frames.pop();
                continue;
            };
            match self.known(&tree) {
                Some(size) => frame.size.add(size),
                None => {
                    // It is met once more, and known then.
                    frame.below.push((name.clone(), tree));
                    frames.push(self.enter(name, tree, &frames)?);
                }
            }
        }
        Ok(whole)
    }

    fn known(&self, tree: &BlobId) -> Option<TreeSize> {
        self.sizes[self.index.position(BlobKind::Tree, tree)?]
    }

    fn remember(&mut self, tree: &BlobId, size: TreeSize) {
        if let Some(position) = self.index.position(BlobKind::Tree, tree) {
            self.sizes[position] = Some(size);
        }
    }

    /// Reads one directory; `above` are those that lead to it.
    fn enter(&self, name: Vec<u8>, tree: BlobId, above: &[Frame]) -> Result<Frame, RepositoryError> {
        let path = || {
            let path = above.iter().map(|frame| &frame.name).chain([&name]).filter(|name| !name.is_empty());
            path.fold(Vec::new(), |path, name| join(&path, name))
        };
        let nodes = self.reader.read_tree(&tree).map_err(|error| {
            let path = path();
            let path = escape(if path.is_empty() { b"/" } else { &path });
            RepositoryError::Damaged(format!("the directory {path} cannot be read: {error}"))
        })?;
        let mut frame = Frame { tree, name: Vec::new(), below: Vec::new(), size: TreeSize::default() };
        for node in nodes {
            let damaged = |what: &str, why: &str| {
                let path = escape(&join(&path(), &node.name));
                RepositoryError::Damaged(format!("the {what} {path} is damaged: {why}"))
            };
            frame.size.entries += 1;
            match (node.kind, node.subtree) {
                (NodeKind::File, _) => {
                    check_content(&self.reader, &node).map_err(|why| damaged("file", &why))?;
                    frame.size.bytes = frame.size.bytes.saturating_add(node.size);
                }
                (NodeKind::Directory, None) => return Err(damaged("directory", "it has no list of entries")),
                (NodeKind::Directory, Some(subtree)) => frame.below.push((node.name, subtree)),
                _ => {}
            }
        }
        frame.name = name;
        Ok(frame)
    }
}
