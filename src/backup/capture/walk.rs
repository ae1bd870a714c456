//! Walks directory trees and captures what a [`Selection`] takes.
//!
//! By directory descriptors and never through a symlink. Several threads share the work: to list a directory, or to
//! capture a few of its entries; the newest work comes first, so that the walk is depth first. Each cold directory and
//! inode is waited for, hence many threads. A directory is stored as soon as its last entry is in, by whichever thread
//! brought it: held in memory are only directories that are still being read, at most as many at each depth as there
//! are threads.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, fstat, statat};
use rustix::io::Errno;

use super::content::Stability;
use super::directory::{Directory, Entries, Entry, batches};
use super::entry::{Place, Seen, capture_entry, complete, describe, open_quietly};
use super::exclude::Selection;
use super::metadata::{XattrAccess, node_of};
use super::pseudo::is_pseudo;
use super::session::{Session, Trouble, lock};
use super::stack::Stack;
use super::trees::{Captive, open_parent};
use crate::repository::{BlobId, Node, NodeKind, RepositoryError};

/// Bytes of a directory that are asked for at once; any name fits.
const LISTED_AT_ONCE: usize = 32 << 10;

/// Work for a thread.
enum Job {
    /// List a directory.
    List(Arc<Directory>),
    /// Open and list a directory of this one; whether it may be reached by a symlink.
    Enter(Arc<Directory>, CString, bool),
    /// Capture entries of a directory.
    Capture(Arc<Directory>, Vec<Entry>),
}

/// Captures the trees below `tops`, each an absolute path without trailing slash, none beneath another.
/// A top that is no directory or cannot be opened is named as missing. `followed` are the paths at which a symlink is
/// followed: those the operator named.
///
/// # Errors
/// Only the repository's.
pub(super) fn walk(
    session: &Session<'_>,
    selection: &dyn Selection,
    stability: Stability,
    tops: &[Vec<u8>],
    followed: &HashSet<Vec<u8>>,
) -> Result<Vec<Captive>, RepositoryError> {
    let walk = Walk {
        session,
        selection,
        stability,
        followed,
        captives: Mutex::default(),
        failure: Mutex::default(),
        stopped: AtomicBool::new(false),
        jobs: Stack::new(),
    };
    raise_open_files_limit();
    std::thread::scope(|scope| {
        let tops_to_come = walk.jobs.busy();
        for _ in 0..session.readers {
            let walk = &walk;
            scope.spawn(move || walk.work());
        }
        for top in tops {
            walk.start(top);
        }
        drop(tops_to_come);
    });
    match walk.failure.into_inner().unwrap_or_default() {
        Some(error) => Err(error),
        None => Ok(walk.captives.into_inner().unwrap_or_default()),
    }
}

struct Walk<'a> {
    session: &'a Session<'a>,
    selection: &'a dyn Selection,
    stability: Stability,
    followed: &'a HashSet<Vec<u8>>,
    captives: Mutex<Vec<Captive>>,
    failure: Mutex<Option<RepositoryError>>,
    stopped: AtomicBool,
    jobs: Stack<Job>,
}

impl Walk<'_> {
    /// Captures one top: a directory with all beneath it, or a single entry.
    fn start(&self, top: &[u8]) {
        let opened = if top == b"/" {
            self.open_top_directory(TopName::Root, top)
        } else {
            match open_parent(top) {
                Ok((parent, name)) => self.open_top(&parent, name, top),
                Err(error) => Err(describe(error, "reached")),
            }
        };
        match opened {
            Ok(Some(directory)) => self.jobs.push([Job::List(directory)]),
            Ok(None) => {}
            Err(Trouble::Source(_)) if !exists(top) => self.session.miss(top, "it does not exist"),
            Err(trouble) => self.note(top, trouble),
        }
    }

    /// A directory to descend into; `None` when it was a single entry, captured here.
    fn open_top(&self, parent: &OwnedFd, name: CString, top: &[u8]) -> Result<Option<Arc<Directory>>, Trouble> {
        let stat = statat(parent, &name, AtFlags::empty()).map_err(|error| describe(error, "looked at"))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return self.open_top_directory(TopName::Entry(parent.as_fd(), name), top);
        }
        let earlier = self.session.earlier_node(top);
        let place = Place {
            directory: parent.as_fd(),
            name: &name,
            path: top,
            earlier: earlier.as_ref(),
            follow: true,
            stability: self.stability,
            before_long_read: &|| {},
        };
        let node = match (capture_entry(self.session, &place)?, earlier) {
            (Seen::Node(node), _) => *node,
            (Seen::Same, Some(earlier)) => earlier,
            (Seen::Same, None) => return Ok(None),
        };
        lock(&self.captives).push(Captive { path: top.to_vec(), node });
        Ok(None)
    }

    fn open_top_directory(&self, name: TopName<'_>, top: &[u8]) -> Result<Option<Arc<Directory>>, Trouble> {
        let (at, name) = match &name {
            TopName::Root => (rustix::fs::CWD, c"/"),
            TopName::Entry(at, name) => (*at, name.as_c_str()),
        };
        let fd = open_quietly(at, name, OFlags::DIRECTORY, true).map_err(|error| describe(error, "opened"))?;
        if is_pseudo(&fd) {
            return Err(Trouble::Source("it is a view of the kernel's state and holds no data".to_owned()));
        }
        let tree = self.session.earlier_tree(top);
        let directory = self.describe_directory(fd, name.to_bytes(), top.to_vec(), tree, None)?;
        Ok(Some(Arc::new(directory)))
    }

    /// A thread's life. After a failure what waits is taken and left.
    fn work(&self) {
        while let Some((job, _busy)) = self.jobs.take() {
            if self.stopped.load(Ordering::Relaxed) {
                continue;
            }
            match job {
                Job::List(directory) => self.list(directory),
                Job::Enter(parent, name, follow) => self.enter(parent, &name, follow),
                Job::Capture(directory, entries) => self.capture(directory, entries),
            }
        }
    }

    /// Lists a directory and hands out what is in it. What cannot be listed is named, and the directory kept as far as
    /// it was seen.
    fn list(&self, directory: Arc<Directory>) {
        let mut names = Vec::new();
        let mut buffer = Vec::with_capacity(LISTED_AT_ONCE);
        let mut entries = RawDir::new(&directory.fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => names.push((entry.file_name().to_owned(), entry.file_type())),
                // It was removed meanwhile, and so was all that was in it.
                Err(Errno::NOENT) => break,
                Err(error) => {
                    self.note(&directory.path, describe(error, "listed to its end"));
                    break;
                }
            }
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        // A listing that others change may give a name twice.
        names.dedup_by(|a, b| a.0 == b.0);
        let (mut below, mut entries) = (Vec::new(), Vec::new());
        let mut path = join(&directory.path, b"");
        let stem = path.len();
        for (name, kind) in names {
            path.truncate(stem);
            path.extend_from_slice(name.to_bytes());
            self.meet(&directory, &path, (name, kind), &mut below, &mut entries);
        }
        let batches = batches(entries).map(|batch| Job::Capture(Arc::clone(&directory), batch));
        // The last that is put on the stack is the first that is taken.
        let jobs: Vec<Job> = below.into_iter().rev().chain(batches).collect();
        directory.outstanding.fetch_add(jobs.len(), Ordering::AcqRel);
        self.jobs.push(jobs);
        self.release(directory);
    }

    /// Adds an entry to the directories to be entered or the others to be captured, or leaves it out.
    fn meet(
        &self,
        directory: &Arc<Directory>,
        path: &[u8],
        (name, kind): (CString, FileType),
        below: &mut Vec<Job>,
        entries: &mut Vec<Entry>,
    ) {
        let follow = self.followed.contains(path);
        let enters_link = follow || (kind != FileType::Directory && self.selection.follows(path));
        let relative = path.get(directory.top_length..).unwrap_or_default();
        let relative = relative.strip_prefix(b"/").unwrap_or(relative);
        if is_directory(directory, &name, kind, enters_link) {
            if self.selection.enters(path, relative) {
                below.push(Job::Enter(Arc::clone(directory), name, enters_link));
            }
        } else if self.selection.takes(path, relative) {
            entries.push((name, follow));
        }
    }

    fn enter(&self, parent: Arc<Directory>, name: &CStr, follow: bool) {
        let path = join(&parent.path, name.to_bytes());
        match self.open_directory(&parent, name, &path, follow) {
            Ok(Opened::Real(directory)) => return self.list(Arc::new(directory)),
            Ok(Opened::Empty(node)) => self.deliver_empty(&parent, node),
            Err(trouble) => self.note(&path, trouble),
        }
        self.release(parent);
    }

    fn open_directory(
        &self,
        parent: &Arc<Directory>,
        name: &CStr,
        path: &[u8],
        follow: bool,
    ) -> Result<Opened, Trouble> {
        let fd = match open_quietly(parent.fd.as_fd(), name, OFlags::DIRECTORY, follow) {
            Err(error @ (Errno::ACCESS | Errno::PERM)) => {
                self.note(path, describe(error, "opened"));
                return self.unreadable_directory(parent, name, path).map(Opened::Empty);
            }
            result => result.map_err(|error| describe(error, "opened"))?,
        };
        let tree = parent.position(name.to_bytes()).and_then(|index| parent.earlier[index].subtree);
        let is_pseudo = is_mount_point(parent, &fd) && (path == b"/dev" || is_pseudo(&fd));
        let tree = if is_pseudo { None } else { tree };
        let parent = Some(Arc::clone(parent));
        let directory = self.describe_directory(fd, name.to_bytes(), path.to_vec(), tree, parent)?;
        Ok(if is_pseudo { Opened::Empty(directory.node) } else { Opened::Real(directory) })
    }

    /// The node of a directory that may not be opened.
    fn unreadable_directory(&self, parent: &Directory, name: &CStr, path: &[u8]) -> Result<Node, Trouble> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let reference = rustix::fs::openat(&parent.fd, name, flags, rustix::fs::Mode::empty());
        let reference = reference.map_err(|error| describe(error, "opened"))?;
        let stat = fstat(&reference).map_err(|error| describe(error, "looked at"))?;
        let mut node = node_of(name.to_bytes(), NodeKind::Directory, &stat, &self.session.owners);
        complete(self.session, path, &mut node, &stat, XattrAccess::Reference(reference.as_fd()));
        Ok(node)
    }

    fn describe_directory(
        &self,
        fd: OwnedFd,
        name: &[u8],
        path: Vec<u8>,
        earlier: Option<BlobId>,
        parent: Option<Arc<Directory>>,
    ) -> Result<Directory, Trouble> {
        let stat = fstat(&fd).map_err(|error| describe(error, "looked at"))?;
        let mut node = node_of(name, NodeKind::Directory, &stat, &self.session.owners);
        complete(self.session, &path, &mut node, &stat, XattrAccess::Open(fd.as_fd()));
        let entries = self.session.earlier_entries(earlier);
        Ok(Directory {
            fd,
            top_length: parent.as_ref().map_or(path.len(), |parent| parent.top_length),
            path,
            node,
            // One that cannot be read looks empty: it is not to be relied on then.
            earlier_tree: earlier.filter(|_| !entries.is_empty()),
            earlier: entries,
            captured: Mutex::default(),
            outstanding: AtomicUsize::new(1),
            parent,
        })
    }

    /// Stores a directory as empty and hands it to its parent.
    fn deliver_empty(&self, parent: &Directory, mut node: Node) {
        if !self.selection.keeps_empty_directories() {
            return;
        }
        match self.session.store.store_tree(Vec::new()) {
            Ok(tree) => {
                node.subtree = Some(tree);
                self.session.count(&node, true);
                parent.deliver(node);
            }
            Err(error) => self.stop(error),
        }
    }

    /// Captures entries of a directory.
    fn capture(&self, directory: Arc<Directory>, entries: Vec<Entry>) {
        let left = RefCell::new(entries.into_iter());
        // Others take on what would wait behind a long read.
        let before_long_read = || {
            let left: Vec<Entry> = left.borrow_mut().by_ref().collect();
            if !left.is_empty() {
                directory.outstanding.fetch_add(1, Ordering::AcqRel);
                self.jobs.push([Job::Capture(Arc::clone(&directory), left)]);
            }
        };
        let mut captured = Entries::default();
        let mut path = join(&directory.path, b"");
        let stem = path.len();
        loop {
            let Some((name, follow)) = left.borrow_mut().next() else { break };
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            path.truncate(stem);
            path.extend_from_slice(name.to_bytes());
            let earlier = directory.position(name.to_bytes());
            let place = Place {
                directory: directory.fd.as_fd(),
                name: &name,
                path: &path,
                earlier: earlier.map(|index| &directory.earlier[index]),
                follow,
                stability: self.stability,
                before_long_read: &before_long_read,
            };
            match capture_entry(self.session, &place) {
                Ok(Seen::Same) => captured.same.extend(earlier),
                Ok(Seen::Node(node)) => captured.others.push(*node),
                Err(trouble) => self.note(&path, trouble),
            }
        }
        directory.take_in(captured);
        self.release(directory);
    }

    /// A piece of a directory's work is done. The last one stores it, and then its parent if that was the parent's last.
    fn release(&self, mut directory: Arc<Directory>) {
        while directory.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            if self.stopped.load(Ordering::Relaxed) || !self.store(&directory) {
                return;
            }
            let Some(parent) = directory.parent.clone() else { return };
            directory = parent;
        }
    }

    /// Stores a directory that is complete and hands its node up; `false` when the capture has to end.
    fn store(&self, directory: &Directory) -> bool {
        let captured = std::mem::take(&mut *lock(&directory.captured));
        let is_empty = captured.same.is_empty() && captured.others.is_empty();
        if is_empty && directory.parent.is_some() && !self.selection.keeps_empty_directories() {
            return true;
        }
        if is_empty && directory.parent.is_none() && !directory.earlier.is_empty() {
            let before = directory.earlier.len();
            let reason = format!("it is empty now and had {before} entries in the point before: is it mounted?");
            self.session.miss(&directory.path, reason);
        }
        let tree = match self.store_entries(directory, captured) {
            Ok(tree) => tree,
            Err(error) => {
                self.stop(error);
                return false;
            }
        };
        let node = Node { subtree: Some(tree), ..directory.node.clone() };
        self.session.count(&node, true);
        match &directory.parent {
            Some(parent) => parent.deliver(node),
            None => lock(&self.captives).push(Captive { path: directory.path.clone(), node }),
        }
        true
    }

    /// Stores a directory's entries; when they are what the earlier point has, its tree is the one.
    fn store_entries(&self, directory: &Directory, captured: Entries) -> Result<BlobId, RepositoryError> {
        let Entries { same, others: mut nodes } = captured;
        match directory.earlier_tree {
            Some(tree)
                if nodes.is_empty()
                    && same.len() == directory.earlier.len()
                    && self.session.store.contains_tree(&tree) =>
            {
                Ok(tree)
            }
            _ => {
                nodes.extend(same.into_iter().map(|index| directory.earlier[index].clone()));
                self.session.store.store_tree(nodes)
            }
        }
    }

    fn note(&self, path: &[u8], trouble: Trouble) {
        match trouble {
            Trouble::Source(reason) => self.session.miss(path, reason),
            Trouble::Repository(error) => self.stop(error),
        }
    }

    fn stop(&self, error: RepositoryError) {
        self.stopped.store(true, Ordering::Relaxed);
        lock(&self.failure).get_or_insert(error);
    }
}

/// A directory on the way down.
enum Opened {
    Real(Directory),
    /// Recorded without what is in it.
    Empty(Node),
}

/// How a top directory is opened.
enum TopName<'a> {
    Root,
    Entry(BorrowedFd<'a>, CString),
}

/// Each directory on the way down is held open. The usual soft limit of 1,024 is there for programs that use
/// `select`; raising it to the hard one is every process's right.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Refused, the walk goes on and names what it cannot open.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

fn exists(path: &[u8]) -> bool {
    std::fs::metadata(os(path)).map_or_else(|error| error.kind() != std::io::ErrorKind::NotFound, |_| true)
}

/// `directory/name`, right for `/` too.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    [directory, b"/", name].concat()
}

fn is_directory(directory: &Directory, name: &CStr, kind: FileType, follow: bool) -> bool {
    let flags = match kind {
        FileType::Symlink if follow => AtFlags::empty(),
        FileType::Unknown if follow => AtFlags::empty(),
        FileType::Unknown => AtFlags::SYMLINK_NOFOLLOW,
        kind => return kind == FileType::Directory,
    };
    statat(&directory.fd, name, flags).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn is_mount_point(parent: &Directory, fd: &OwnedFd) -> bool {
    fstat(fd).is_ok_and(|stat| stat.st_dev != parent.node.device_id)
}

/// An absolute path's bytes as an `OsStr`.
pub(super) fn os(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(path)
}
