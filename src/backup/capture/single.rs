//! What image and database have in common: one file, stored as a regular file under its absolute path.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use super::Captured;
use super::entry::{complete, open_quietly};
use super::files::normalize;
use super::metadata::{XattrAccess, node_of};
use super::session::{Session, Trouble, components};
use super::trees::{Captive, open_parent, plant};
use super::walk::os;
use crate::ground::{Failure, Result};
use crate::repository::{Node, NodeKind};

/// One file at the path the operator wrote; symlinks on the way are followed.
pub(super) struct SingleFile {
    /// Absolute, normalized.
    pub path: Vec<u8>,
    pub fd: OwnedFd,
    pub stat: Stat,
    is_reference: bool,
}

impl SingleFile {
    /// Opens it for reading.
    ///
    /// # Errors
    /// A sentence that names the path.
    pub fn open(path: &str) -> Result<Self> {
        Self::open_with(path, false)
    }

    /// Opens a mere reference, enough for metadata. Closing it does not give up the POSIX locks which this process
    /// holds on the file, as closing a real descriptor would: that would break SQLite's locking.
    ///
    /// # Errors
    /// A sentence that names the path.
    pub fn reference(path: &str) -> Result<Self> {
        Self::open_with(path, true)
    }

    fn open_with(path: &str, is_reference: bool) -> Result<Self> {
        let normal = normalize(path)?;
        let refuse = |error: Errno| {
            Failure::failed(format!("cannot open {path}: {error}"))
                .hint("check that it exists and that this user may read it")
        };
        let (parent, name) = open_parent(&normal).map_err(refuse)?;
        let opened = if is_reference {
            openat(&parent, &name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        } else {
            open_quietly(parent.as_fd(), &name, OFlags::empty(), true)
        };
        let fd = opened.map_err(refuse)?;
        let stat = fstat(&fd).map_err(refuse)?;
        Ok(Self { path: normal, fd, stat, is_reference })
    }

    /// A regular file's node with this file's metadata; content is still to come.
    pub fn node(&self, session: &Session<'_>) -> Node {
        let name = components(&self.path).last().unwrap_or_default();
        let mut node = node_of(name, NodeKind::File, &self.stat, &session.owners);
        // Other names of it are not part of the point.
        node.links = 1;
        let fd = self.fd.as_fd();
        let access = if self.is_reference { XattrAccess::Reference(fd) } else { XattrAccess::Open(fd) };
        complete(session, &self.path, &mut node, &self.stat, access);
        node
    }

    /// Stores the tree around the finished node and ends the capture.
    ///
    /// # Errors
    /// The repository's.
    pub fn finish(self, session: Session<'_>, node: Node) -> Result<Captured> {
        session.count(&node, true);
        let root = PathBuf::from(os(&self.path));
        let tree = plant(&session, vec![Captive { path: self.path, node }])?;
        session.finish(tree, vec![root])
    }
}

/// A single file has nothing beside it to go on with: its trouble is the capture's.
pub(super) fn fatal(trouble: Trouble, path: &str) -> Failure {
    match trouble {
        Trouble::Source(reason) => Failure::failed(format!("cannot back up {path}: {reason}")),
        Trouble::Repository(error) => error.into(),
    }
}
