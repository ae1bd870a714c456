//! Puts what was captured under its absolute path: `/srv/shop` becomes `srv` in the root tree with `shop` below it,
//! the directories on the way with their own metadata.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{CWD, Mode, OFlags, fstat, open};

use super::entry::{complete, open_quietly};
use super::metadata::{XattrAccess, node_of};
use super::session::{Session, components};
use crate::repository::{BlobId, Node, NodeKind, RepositoryError};

/// Something captured and the absolute path it belongs under. The node of `/` itself carries only its subtree.
#[derive(Debug)]
pub(super) struct Captive {
    pub path: Vec<u8>,
    pub node: Node,
}

/// A place in the tree that is being put together.
enum Branch {
    /// Captured as it is.
    Leaf(Box<Node>),
    /// A directory on the way to something captured.
    Way(BTreeMap<Vec<u8>, Branch>),
}

/// Stores the directories above what was captured and returns the root tree. None of the paths lies beneath another.
///
/// # Errors
/// Only the repository's.
pub(super) fn plant(session: &Session<'_>, captives: Vec<Captive>) -> Result<BlobId, RepositoryError> {
    let mut ways = BTreeMap::new();
    for Captive { path, node } in captives {
        let mut names: Vec<Vec<u8>> = components(&path).map(<[u8]>::to_vec).collect();
        match (names.pop(), node.subtree) {
            (Some(name), _) => insert(&mut ways, &names, name, node),
            (None, Some(root)) => return Ok(root),
            (None, None) => {}
        }
    }
    store_way(session, ways, b"")
}

fn insert(ways: &mut BTreeMap<Vec<u8>, Branch>, way: &[Vec<u8>], name: Vec<u8>, mut node: Node) {
    let Some((first, rest)) = way.split_first() else {
        node.name.clone_from(&name);
        ways.insert(name, Branch::Leaf(Box::new(node)));
        return;
    };
    if let Branch::Way(below) = ways.entry(first.clone()).or_insert_with(|| Branch::Way(BTreeMap::new())) {
        insert(below, rest, name, node);
    }
}

fn store_way(session: &Session<'_>, ways: BTreeMap<Vec<u8>, Branch>, path: &[u8]) -> Result<BlobId, RepositoryError> {
    let mut nodes = Vec::with_capacity(ways.len());
    for (name, branch) in ways {
        nodes.push(match branch {
            Branch::Leaf(node) => *node,
            Branch::Way(below) => {
                let path = [path, b"/", &name].concat();
                let mut node = parent_node(session, &name, &path);
                node.subtree = Some(store_way(session, below, &path)?);
                node
            }
        });
    }
    session.store.store_tree(nodes)
}

/// A directory above a configured path. It may be a symlink on the way there: what it leads to is recorded.
fn parent_node(session: &Session<'_>, name: &[u8], path: &[u8]) -> Node {
    describe_parent(session, name, path).unwrap_or_else(|reason| {
        session.miss(path, format!("the directory above the source cannot be described: {reason}"));
        plain_directory(name)
    })
}

fn describe_parent(session: &Session<'_>, name: &[u8], path: &[u8]) -> Result<Node, rustix::io::Errno> {
    let reference = open(Path::new(OsStr::from_bytes(path)), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&reference)?;
    let mut node = node_of(name, NodeKind::Directory, &stat, &session.owners);
    // Reading is not needed to pass through a directory; then its attributes are reached by the reference.
    match open_quietly(reference.as_fd(), c".", OFlags::DIRECTORY, true) {
        Ok(opened) => complete(session, path, &mut node, &stat, XattrAccess::Open(opened.as_fd())),
        Err(_) => complete(session, path, &mut node, &stat, XattrAccess::Reference(reference.as_fd())),
    }
    Ok(node)
}

/// Stands in for a directory that cannot be looked at.
fn plain_directory(name: &[u8]) -> Node {
    plain(name, NodeKind::Directory, 0o755, Timestamp::UNIX_EPOCH)
}

/// A file that lies nowhere, for its owner alone; content is still to come.
pub(super) fn plain_file(name: &[u8], time: Timestamp) -> Node {
    let mut node = plain(name, NodeKind::File, 0o600, time);
    (node.uid, node.gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    node.links = 1;
    node
}

fn plain(name: &[u8], kind: NodeKind, mode: u32, time: Timestamp) -> Node {
    Node {
        name: name.to_vec(),
        kind,
        mode,
        modified: time,
        accessed: time,
        changed: time,
        uid: 0,
        gid: 0,
        user: String::new(),
        group: String::new(),
        inode: 0,
        device_id: 0,
        size: 0,
        links: 0,
        link_target: None,
        device: 0,
        xattrs: Vec::new(),
        content: Vec::new(),
        subtree: None,
    }
}

/// Opens the directory part of an absolute path, following links as the operator wrote them.
pub(super) fn open_parent(path: &[u8]) -> Result<(std::os::fd::OwnedFd, std::ffi::CString), rustix::io::Errno> {
    let cut = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let parent = if cut == 0 { b"/" } else { &path[..cut] };
    let name = std::ffi::CString::new(path.get(cut + 1..).unwrap_or_default()).map_err(|_| rustix::io::Errno::INVAL)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::openat(CWD, OsStr::from_bytes(parent), flags, Mode::empty())?, name))
}
