//! Walks directory trees and captures what a [`Selection`] takes.
//!
//! One thread walks, by directory descriptors and never through a symlink, and hands each entry that is no directory
//! to a few reading threads. A directory is stored as soon as its last entry is in, by whichever thread brought it:
//! only directories that are still being read are held in memory, and their number is bounded by the queue and by the
//! depth of the tree.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, fstat, fstatfs, statat};
use rustix::io::Errno;

use super::content::Stability;
use super::entry::{Place, capture_entry, complete, describe, open_quietly};
use super::exclude::Selection;
use super::metadata::{XattrAccess, node_of};
use super::session::{Session, Trouble, lock};
use super::trees::{Captive, open_parent};
use crate::repository::{BlobId, Node, NodeKind, RepositoryError};

/// Entries handed out and not yet read; each may hold its directory open.
const QUEUE: usize = 64;

/// `f_type` of file systems that hold no data but views of the kernel's state: proc, sysfs, devpts, debugfs, tracefs,
/// securityfs, cgroup 1 and 2, bpf, pstore, efivarfs, configfs, selinuxfs, smackfs, mqueue, binfmt_misc, fusectl,
/// rpc_pipefs, nsfs, hugetlbfs. From `linux/magic.h`.
const PSEUDO_FILE_SYSTEMS: [u64; 20] = [
    0x9fa0,
    0x6265_6572,
    0x1cd1,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x27_e0eb,
    0x6367_7270,
    0xcafe_4a11,
    0x6165_676c,
    0xde5e_81e4,
    0x6265_6570,
    0xf97c_ff8c,
    0x4341_5d53,
    0x1980_0202,
    0x4249_4e4d,
    0x6573_5543,
    0x6759_6969,
    0x6e73_6673,
    0x9584_58f6,
];

/// A directory that is being read.
struct Directory {
    fd: OwnedFd,
    /// Absolute.
    path: Vec<u8>,
    /// Bytes of `path` that are the walk's top.
    top_length: usize,
    /// Its own node, without the subtree.
    node: Node,
    /// What the earlier point has in it, sorted by name.
    earlier: Vec<Node>,
    /// The tree of the earlier point with just these.
    earlier_tree: Option<BlobId>,
    captured: Mutex<Vec<Node>>,
    /// Entries not yet in, and one for the walk itself.
    outstanding: AtomicUsize,
    parent: Option<Arc<Directory>>,
}

/// An entry for a reading thread.
struct Job {
    directory: Arc<Directory>,
    name: CString,
    follow: bool,
}

/// A directory on the walk's way and the names in it still to be met.
struct Frame {
    directory: Arc<Directory>,
    names: std::vec::IntoIter<(CString, FileType)>,
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
    };
    raise_open_files_limit();
    std::thread::scope(|scope| {
        let (jobs, queue) = bounded(QUEUE);
        for _ in 0..session.readers {
            let queue: Receiver<Job> = queue.clone();
            let walk = &walk;
            scope.spawn(move || queue.iter().for_each(|job| walk.work(&job)));
        }
        drop(queue);
        for top in tops {
            walk.start(top, &jobs);
        }
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
}

impl Walk<'_> {
    /// Captures one top: a directory with all beneath it, or a single entry.
    fn start(&self, top: &[u8], jobs: &Sender<Job>) {
        let opened = if top == b"/" {
            self.open_top_directory(TopName::Root, top)
        } else {
            match open_parent(top) {
                Ok((parent, name)) => self.open_top(&parent, name, top),
                Err(error) => Err(describe(error, "reached")),
            }
        };
        match opened {
            Ok(Some(directory)) => self.descend(directory, jobs),
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
        };
        let node = capture_entry(self.session, &place)?;
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

    /// Goes through a directory and all beneath it, depth first; a stack of its own bears any depth.
    fn descend(&self, top: Arc<Directory>, jobs: &Sender<Job>) {
        let mut stack = vec![self.frame(top)];
        while let Some(frame) = stack.last_mut() {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let Some((name, kind)) = frame.names.next() else {
                if let Some(frame) = stack.pop() {
                    self.release(frame.directory);
                }
                continue;
            };
            let directory = Arc::clone(&frame.directory);
            if let Some(below) = self.meet(&directory, name, kind, jobs) {
                stack.push(self.frame(below));
            }
        }
    }

    /// Lists a directory. What cannot be listed is named, and the directory kept as far as it was seen.
    fn frame(&self, directory: Arc<Directory>) -> Frame {
        let mut names = Vec::new();
        match Dir::read_from(&directory.fd) {
            Ok(entries) => {
                for entry in entries {
                    match entry {
                        Ok(entry) => names.push((entry.file_name().to_owned(), entry.file_type())),
                        Err(error) => self.note(&directory.path, describe(error, "listed to its end")),
                    }
                }
            }
            Err(error) => self.note(&directory.path, describe(error, "listed")),
        }
        names.retain(|(name, _)| !matches!(name.to_bytes(), b"." | b".."));
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Frame { directory, names: names.into_iter() }
    }

    /// Hands an entry to a reading thread, or returns the directory it is.
    fn meet(
        &self,
        directory: &Arc<Directory>,
        name: CString,
        kind: FileType,
        jobs: &Sender<Job>,
    ) -> Option<Arc<Directory>> {
        let path = join(&directory.path, name.to_bytes());
        let follow = self.followed.contains(&path);
        let enters_link = follow || (kind != FileType::Directory && self.selection.follows(&path));
        let relative = path.get(directory.top_length..).unwrap_or_default();
        let relative = relative.strip_prefix(b"/").unwrap_or(relative);
        if is_directory(directory, &name, kind, enters_link) {
            if !self.selection.enters(&path, relative) {
                return None;
            }
            return self.enter(directory, &name, path, enters_link);
        }
        if self.selection.takes(&path, relative) {
            directory.outstanding.fetch_add(1, Ordering::AcqRel);
            let job = Job { directory: Arc::clone(directory), name, follow };
            if jobs.send(job).is_err() {
                self.stopped.store(true, Ordering::Relaxed);
            }
        }
        None
    }

    fn enter(&self, parent: &Arc<Directory>, name: &CStr, path: Vec<u8>, follow: bool) -> Option<Arc<Directory>> {
        parent.outstanding.fetch_add(1, Ordering::AcqRel);
        match self.open_directory(parent, name, &path, follow) {
            Ok(Opened::Real(directory)) => return Some(Arc::new(directory)),
            Ok(Opened::Empty(node)) => self.deliver_empty(parent, node),
            Err(trouble) => self.note(&path, trouble),
        }
        self.release(Arc::clone(parent));
        None
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
        let earlier = parent.earlier.binary_search_by(|node| node.name.as_slice().cmp(name.to_bytes())).ok();
        let tree = earlier.and_then(|index| parent.earlier[index].subtree);
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
                lock(&parent.captured).push(node);
            }
            Err(error) => self.stop(error),
        }
    }

    /// A reading thread's part: captures one entry.
    fn work(&self, job: &Job) {
        if self.stopped.load(Ordering::Relaxed) {
            return;
        }
        let directory = &job.directory;
        let path = join(&directory.path, job.name.to_bytes());
        let earlier = directory.earlier.binary_search_by(|node| node.name.as_slice().cmp(job.name.to_bytes())).ok();
        let place = Place {
            directory: directory.fd.as_fd(),
            name: &job.name,
            path: &path,
            earlier: earlier.map(|index| &directory.earlier[index]),
            follow: job.follow,
            stability: self.stability,
        };
        match capture_entry(self.session, &place) {
            Ok(node) => lock(&directory.captured).push(node),
            Err(trouble) => self.note(&path, trouble),
        }
        self.release(Arc::clone(directory));
    }

    /// One entry of a directory is in. The last one stores it, and then its parent if that was the parent's last.
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
        if captured.is_empty() && directory.parent.is_some() && !self.selection.keeps_empty_directories() {
            return true;
        }
        if captured.is_empty() && directory.parent.is_none() && !directory.earlier.is_empty() {
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
            Some(parent) => lock(&parent.captured).push(node),
            None => lock(&self.captives).push(Captive { path: directory.path.clone(), node }),
        }
        true
    }

    /// Stores a directory's entries; when they are what the earlier point has, its tree is the one.
    fn store_entries(&self, directory: &Directory, mut captured: Vec<Node>) -> Result<BlobId, RepositoryError> {
        captured.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        match directory.earlier_tree {
            Some(tree) if captured == directory.earlier && self.session.store.contains_tree(&tree) => Ok(tree),
            _ => self.session.store.store_tree(captured),
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

fn is_pseudo(fd: &OwnedFd) -> bool {
    // Wider on some processors than on others; the magic numbers have 32 bits.
    #[allow(clippy::cast_sign_loss, reason = "a magic number, not a quantity")]
    fstatfs(fd).is_ok_and(|system| PSEUDO_FILE_SYSTEMS.contains(&(system.f_type as u64 & 0xffff_ffff)))
}

/// An absolute path's bytes as an `OsStr`.
pub(super) fn os(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(path)
}
