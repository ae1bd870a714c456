//! A store in memory that can disturb the source in the middle of a read and can fail.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::super::session::{Session, components};
use super::super::store::{ContentStore, EarlierTrees};
use super::super::{Captured, Earlier, capture_with};
use crate::ground::{Failure, Progress};
use crate::policy::SourceKind;
use crate::repository::{BlobId, Chunking, ContentError, Node, RepositoryError, StoredContent};

/// Called in the middle of the read of content number so-and-so, from 1.
type Disturbance<'a> = Box<dyn Fn(usize) + Send + Sync + 'a>;

#[derive(Default)]
pub(super) struct FakeStore<'a> {
    pub blobs: Mutex<HashMap<BlobId, Vec<u8>>>,
    pub trees: Mutex<HashMap<BlobId, Vec<Node>>>,
    pub contents_read: AtomicUsize,
    pub disturbance: Option<Disturbance<'a>>,
    /// From this content on the store is full.
    pub full_from: Option<usize>,
}

impl ContentStore for FakeStore<'_> {
    fn store_content(&self, reader: &mut dyn Read, chunking: Chunking<'_>) -> Result<StoredContent, ContentError> {
        let number = self.contents_read.fetch_add(1, Ordering::SeqCst) + 1;
        if self.full_from.is_some_and(|from| number >= from) {
            return Err(RepositoryError::Damaged("the disk of the repository is full".to_owned()).into());
        }
        let mut bytes = vec![0; 4];
        let begun = reader.read(&mut bytes).map_err(ContentError::Source)?;
        bytes.truncate(begun);
        if let Some(disturb) = &self.disturbance {
            disturb(number);
        }
        reader.read_to_end(&mut bytes).map_err(ContentError::Source)?;
        let block = if let Chunking::Fixed(block) = chunking { block } else { 100_000 };
        let blobs = bytes.chunks(block).map(|chunk| self.keep(chunk)).collect();
        Ok(StoredContent { blobs, bytes: bytes.len() as u64 })
    }

    fn store_tree(&self, mut nodes: Vec<Node>) -> Result<BlobId, RepositoryError> {
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(nodes.windows(2).all(|pair| pair[0].name != pair[1].name), "two entries of one name");
        let id = BlobId(Sha256::digest(format!("{nodes:?}").as_bytes()).into());
        self.trees.lock().unwrap().insert(id, nodes);
        Ok(id)
    }

    fn contains(&self, id: &BlobId) -> bool {
        self.blobs.lock().unwrap().contains_key(id)
    }

    fn contains_tree(&self, id: &BlobId) -> bool {
        self.trees.lock().unwrap().contains_key(id)
    }
}

impl EarlierTrees for FakeStore<'_> {
    fn read_tree(&self, id: &BlobId) -> Result<Vec<Node>, RepositoryError> {
        let missing = || RepositoryError::Damaged("no such tree".to_owned());
        self.trees.lock().unwrap().get(id).cloned().ok_or_else(missing)
    }

    fn blob_length(&self, id: &BlobId) -> Option<u64> {
        self.blobs.lock().unwrap().get(id).map(|blob| blob.len() as u64)
    }
}

/// Adds up what it hears.
#[derive(Default)]
pub(super) struct Heard {
    pub bytes: AtomicU64,
    pub warnings: Mutex<Vec<String>>,
}

impl Progress for Heard {
    fn begin(&self, _stage: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }
    fn end(&self) {}
    fn warn(&self, message: &str) {
        self.warnings.lock().unwrap().push(message.to_owned());
    }
}

impl FakeStore<'_> {
    pub fn keep(&self, chunk: &[u8]) -> BlobId {
        let id = BlobId(Sha256::digest(chunk).into());
        self.blobs.lock().unwrap().insert(id, chunk.to_vec());
        id
    }

    pub fn forget_blobs(&self) {
        self.blobs.lock().unwrap().clear();
    }

    pub fn blobs(&self) -> usize {
        self.blobs.lock().unwrap().len()
    }

    /// One reader, so that the order of reads is known.
    pub fn capture(&self, kind: &SourceKind, earlier: Option<Earlier>) -> Result<Captured, Failure> {
        self.capture_heard(kind, earlier, &Heard::default(), 1)
    }

    pub fn capture_heard(
        &self,
        kind: &SourceKind,
        earlier: Option<Earlier>,
        heard: &Heard,
        readers: usize,
    ) -> Result<Captured, Failure> {
        let scratch = tempfile::tempdir().unwrap();
        let mut session = Session::new(self, self, earlier, scratch.path(), heard);
        session.readers = readers;
        let result = capture_with(kind, session);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "the scratch directory is left empty");
        result
    }

    /// As [`FakeStore::capture`], for logs, with the choice to read all of them whole.
    pub fn capture_logs(
        &self,
        kind: &SourceKind,
        earlier: Option<Earlier>,
        reads_whole: bool,
    ) -> Result<Captured, Failure> {
        let (scratch, heard) = (tempfile::tempdir().unwrap(), Heard::default());
        let mut session = Session::new(self, self, earlier, scratch.path(), &heard);
        session.reads_whole = reads_whole;
        capture_with(kind, session)
    }

    /// The tree of a captured point with another node at a path.
    pub fn replace(&self, captured: &Captured, path: &Path, node: Node) -> BlobId {
        let mut below = node;
        for directory in path.ancestors().skip(1) {
            let is_root = directory == Path::new("/");
            let tree = if is_root { captured.tree } else { self.node(captured, directory).subtree.unwrap() };
            let mut nodes = self.read_tree(&tree).unwrap();
            let position = nodes.iter().position(|node| node.name == below.name).unwrap();
            nodes[position] = below;
            let tree = self.store_tree(nodes).unwrap();
            if is_root {
                return tree;
            }
            below = Node { subtree: Some(tree), ..self.node(captured, directory) };
        }
        unreachable!("every absolute path has the root above it")
    }

    /// The node at an absolute path.
    pub fn find(&self, captured: &Captured, path: &Path) -> Option<Node> {
        let mut tree = Some(captured.tree);
        let mut found = None;
        for name in components(path.as_os_str().as_bytes()) {
            let node = self.read_tree(&tree?).unwrap().into_iter().find(|node| node.name == name)?;
            tree = node.subtree;
            found = Some(node);
        }
        found
    }

    pub fn node(&self, captured: &Captured, path: &Path) -> Node {
        self.find(captured, path).unwrap_or_else(|| panic!("{} is not in the tree", path.display()))
    }

    pub fn content(&self, node: &Node) -> Vec<u8> {
        let blobs = self.blobs.lock().unwrap();
        let bytes: Vec<u8> = node.content.iter().flat_map(|id| blobs[id].clone()).collect();
        assert_eq!(bytes.len() as u64, node.size, "the size is that of the content");
        bytes
    }

    /// Names in a captured directory.
    pub fn names(&self, captured: &Captured, path: &Path) -> Vec<String> {
        let tree = if path == Path::new("/") { captured.tree } else { self.node(captured, path).subtree.unwrap() };
        let nodes = self.read_tree(&tree).unwrap();
        nodes.iter().map(|node| OsStr::from_bytes(&node.name).to_string_lossy().into_owned()).collect()
    }
}

pub(super) fn files(paths: &[&Path], exclude: &[&str]) -> SourceKind {
    let paths = paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
    SourceKind::Files { paths, exclude: exclude.iter().map(ToString::to_string).collect() }
}

pub(super) fn logs(patterns: &[String]) -> SourceKind {
    SourceKind::Logs { paths: patterns.to_vec(), exclude: Vec::new(), full_read: Duration::MAX }
}

/// The point just taken, as seen by a run that began long after the files' last change.
pub(super) fn earlier(captured: &Captured) -> Option<Earlier> {
    let began = Timestamp::MAX;
    Some(Earlier { tree: captured.tree, began, full_read: Some(Timestamp::UNIX_EPOCH) })
}

/// Paths and reasons of what is missing.
pub(super) fn missing(captured: &Captured) -> Vec<(String, String)> {
    captured.missing.iter().map(|missing| (missing.path.clone(), missing.reason.clone())).collect()
}
