//! Tests of the whole room, on trees that no repository has to write first.

mod hostile;
mod limits;
mod random;
mod requests;
mod torture;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::stored::{Sink, StoredTree};
use super::*;
use crate::ground::{Failure, NoProgress};
use crate::repository::{Node, NodeKind, RepositoryError};

/// A repository in memory. Trees are numbered, so that even a tree within itself can be written down.
#[derive(Default)]
struct Fake {
    trees: HashMap<BlobId, Vec<Node>>,
    blobs: HashMap<BlobId, Vec<u8>>,
    /// In the index, but damaged where it lies.
    damaged: HashSet<BlobId>,
    delivered: AtomicUsize,
}

impl StoredTree for Fake {
    fn read_tree(&self, id: &BlobId) -> Result<Vec<Node>, RepositoryError> {
        self.trees.get(id).cloned().ok_or_else(|| RepositoryError::Damaged("the tree is not in the repository".into()))
    }

    fn length(&self, id: &BlobId) -> Option<u64> {
        self.blobs.get(id).map(|bytes| bytes.len() as u64)
    }

    fn read_many(&self, wanted: &[BlobId], sink: &Sink<'_>) {
        // Two workers from both ends: files are filled from several threads and out of order.
        let halves = wanted.len() / 2;
        std::thread::scope(|scope| {
            scope.spawn(|| (0..halves).all(|position| self.deliver(wanted, position, sink)));
            scope.spawn(|| (halves..wanted.len()).rev().all(|position| self.deliver(wanted, position, sink)));
        });
    }
}

impl Fake {
    fn deliver(&self, wanted: &[BlobId], position: usize, sink: &Sink<'_>) -> bool {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        let id = &wanted[position];
        match self.blobs.get(id).filter(|_| !self.damaged.contains(id)) {
            Some(bytes) => sink(position, Ok(bytes)),
            None => sink(position, Err(RepositoryError::Damaged("the blob's hash does not match".into()))),
        }
    }

    fn blob(&mut self, bytes: &[u8]) -> BlobId {
        let id = BlobId(Sha256::digest(bytes).into());
        self.blobs.insert(id, bytes.to_vec());
        id
    }

    fn file(&mut self, name: impl AsRef<[u8]>, pieces: &[&[u8]]) -> Node {
        let content = pieces.iter().map(|piece| self.blob(piece)).collect();
        let size = pieces.iter().map(|piece| piece.len() as u64).sum();
        Node { content, size, ..node(name, NodeKind::File) }
    }

    fn tree(&mut self, nodes: Vec<Node>) -> BlobId {
        let mut id = [0xfe; 32];
        id[..8].copy_from_slice(&(self.trees.len() as u64).to_le_bytes());
        self.trees.insert(BlobId(id), nodes);
        BlobId(id)
    }

    fn directory(&mut self, name: impl AsRef<[u8]>, nodes: Vec<Node>) -> Node {
        let subtree = Some(self.tree(nodes));
        Node { subtree, mode: 0o755, ..node(name, NodeKind::Directory) }
    }

    /// A point whose single root is /srv/shop with these entries.
    fn shop(&mut self, nodes: Vec<Node>) -> RestoreRequest {
        let shop = self.directory("shop", nodes);
        let srv = self.directory("srv", vec![shop]);
        let tree = self.tree(vec![srv]);
        request(tree, &["/srv/shop"])
    }
}

fn node(name: impl AsRef<[u8]>, kind: NodeKind) -> Node {
    let time = "2026-11-22T01:02:03.123456789Z".parse::<Timestamp>().unwrap();
    Node {
        name: name.as_ref().to_vec(),
        kind,
        mode: if kind == NodeKind::Symlink { 0o777 } else { 0o644 },
        modified: time,
        accessed: time,
        changed: time,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        user: "somebody".into(),
        group: "some".into(),
        inode: 1,
        device_id: 1,
        size: 0,
        links: 1,
        link_target: None,
        device: 0,
        xattrs: Vec::new(),
        content: Vec::new(),
        subtree: None,
    }
}

fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Node {
    Node { link_target: Some(target.as_ref().to_vec()), ..node(name, NodeKind::Symlink) }
}

fn request(tree: BlobId, roots: &[&str]) -> RestoreRequest {
    RestoreRequest {
        tree,
        roots: roots.iter().map(PathBuf::from).collect(),
        only: Vec::new(),
        overwrite: false,
        privileged: is_root(),
    }
}

fn run(fake: &Fake, request: &RestoreRequest, target: &Path) -> Result<RestoreSummary, Failure> {
    restore_from(fake, request, target, &NoProgress)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A directory in memory where there is one: thousands of restores need not wait for a disk.
struct Sandbox(tempfile::TempDir);

impl Sandbox {
    fn new() -> Self {
        // Older kernels keep no attributes of users there.
        let keeps_all = |place: &tempfile::TempDir| {
            rustix::fs::setxattr(place.path(), "user.probe", b"x", rustix::fs::XattrFlags::empty()).is_ok()
        };
        tempfile::tempdir_in("/dev/shm").ok().filter(keeps_all).map_or_else(Self::on_disk, Self)
    }

    fn on_disk() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn target(&self) -> PathBuf {
        self.path().join("target")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Trees deeper than the standard library likes to remove.
        let _ = Command::new("rm").arg("-rf").arg(self.path()).status();
    }
}

/// What stands at one path: everything a restore promises to bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: NodeKind,
    mode: u32,
    owner: (u32, u32),
    modified: i128,
    device: u64,
    content: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn look(path: &Path) -> Seen {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let kind = match metadata.file_type() {
        kind if kind.is_file() => NodeKind::File,
        kind if kind.is_dir() => NodeKind::Directory,
        kind if kind.is_symlink() => NodeKind::Symlink,
        kind if kind.is_fifo() => NodeKind::Fifo,
        kind if kind.is_block_device() => NodeKind::BlockDevice,
        kind if kind.is_char_device() => NodeKind::CharacterDevice,
        _ => NodeKind::Socket,
    };
    let content = match kind {
        NodeKind::File => fs::read(path).unwrap(),
        NodeKind::Symlink => fs::read_link(path).unwrap().into_os_string().into_vec(),
        _ => Vec::new(),
    };
    Seen {
        kind,
        mode: if kind == NodeKind::Symlink { 0o777 } else { metadata.mode() & 0o7777 },
        owner: (metadata.uid(), metadata.gid()),
        modified: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        device: metadata.rdev(),
        content,
        xattrs: xattrs(path),
    }
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let names = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut found: Vec<_> = names.map(|name| (name.to_vec(), xattr(path, name))).collect();
    found.sort();
    found
}

fn xattr(path: &Path, name: &[u8]) -> Vec<u8> {
    let mut value = vec![0; 65536];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
    value.truncate(length);
    value
}

/// What a node should look like once restored.
fn expected(fake: &Fake, node: &Node) -> Seen {
    let content = match node.kind {
        NodeKind::File => node.content.iter().flat_map(|id| fake.blobs[id].clone()).collect(),
        NodeKind::Symlink => node.link_target.clone().unwrap(),
        _ => Vec::new(),
    };
    Seen {
        kind: node.kind,
        mode: node.mode,
        owner: (node.uid, node.gid),
        modified: node.modified.as_nanosecond(),
        device: node.device,
        content,
        xattrs: node.xattrs.clone(),
    }
}

/// Compares a directory with the nodes that should be in it, all the way down, both ways.
fn assert_exact(fake: &Fake, directory: &Path, nodes: &[Node]) {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_vec()).collect();
    let mut wanted: Vec<_> =
        nodes.iter().filter(|node| node.kind != NodeKind::Socket).map(|node| node.name.clone()).collect();
    names.sort();
    wanted.sort();
    assert_eq!(names, wanted, "in {}", directory.display());
    for node in nodes.iter().filter(|node| node.kind != NodeKind::Socket) {
        let path = directory.join(std::ffi::OsStr::from_bytes(&node.name));
        assert_eq!(look(&path), expected(fake, node), "{}", path.display());
        if let Some(subtree) = node.subtree {
            assert_exact(fake, &path, &fake.trees[&subtree]);
        }
    }
}

/// Runs one test of this binary again in a process of its own, behind `wrapper` (for instance a small limit or a
/// mount namespace). True in that process.
fn in_child(name: &str, wrapper: &[&str]) -> bool {
    const MARK: &str = "LIFEBOAT_TEST_CHILD";
    if std::env::var_os(MARK).is_some_and(|mark| mark == name) {
        return true;
    }
    let test = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env(MARK, name)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name}: {text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}
