//! One entry that is no directory: opened without following links and without disturbing it, described, and for a
//! file its content stored or kept from the earlier point.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::content::Stability;
use super::grown::store_file;
use super::metadata::{XattrAccess, is_described_by, kind_of, node_of, read_xattrs, time_is_clamped};
use super::session::{LinkedFile, Session, Trouble};
use crate::repository::{Chunking, Node, NodeKind};

/// Where an entry is found and how it is to be read.
pub(super) struct Place<'a> {
    /// The directory, open.
    pub directory: BorrowedFd<'a>,
    pub name: &'a CStr,
    /// Its absolute path, for messages.
    pub path: &'a [u8],
    /// What the earlier point has under this path.
    pub earlier: Option<&'a Node>,
    /// Whether a symlink is followed: the configured path alone.
    pub follow: bool,
    pub stability: Stability,
    /// Called before a read that may take long.
    pub before_long_read: &'a dyn Fn(),
}

/// An entry as it was captured.
pub(super) enum Seen {
    /// Exactly as the earlier point has it.
    Same,
    Node(Box<Node>),
}

/// A file of so many bytes takes long to read.
const LONG_READ: u64 = 64 << 10;

/// Captures a file, symlink, device, FIFO or socket and counts it.
///
/// # Errors
/// The source's side when the entry is not in the point; what is there inexactly is named in the session instead.
pub(super) fn capture_entry(session: &Session<'_>, place: &Place<'_>) -> Result<Seen, Trouble> {
    if let Some(seen) = unchanged_file(session, place) {
        return Ok(seen);
    }
    // A look first: opening a FIFO would wait, opening a device could act on it.
    let flags = if place.follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let stat = statat(place.directory, place.name, flags).map_err(|error| describe(error, "looked at"))?;
    let node = match kind_of(&stat) {
        Some(NodeKind::File) if session.held.contains(stat.st_dev, stat.st_ino) => Err(Trouble::Source(
            "lifeboat itself has this database open: leave it out, or make it a source of kind `sqlite`".to_owned(),
        )),
        Some(NodeKind::File) => capture_file(session, place),
        Some(NodeKind::Directory) => Err(Trouble::Source("it became a directory while it was read".to_owned())),
        Some(_) => capture_special(session, place),
        None => Err(Trouble::Source("it is of a kind this system does not know".to_owned())),
    };
    node.map(|node| Seen::Node(Box::new(node)))
}

/// A file that nothing happened to since the earlier point: it is not opened for reading. Its extended attributes are
/// asked for all the same, since what the earlier backup saw of them hung on its rights. All is asked of one reference,
/// so that it is all of one inode.
fn unchanged_file(session: &Session<'_>, place: &Place<'_>) -> Option<Seen> {
    let earlier = place.earlier.filter(|earlier| earlier.kind == NodeKind::File && earlier.links < 2)?;
    let reference = open_reference(place).ok()?;
    let stat = fstat(&reference).ok()?;
    if session.held.contains(stat.st_dev, stat.st_ino) {
        return None;
    }
    if !is_described_by(&stat, earlier, &session.owners) {
        return moved_file(session, place, earlier, (reference, &stat));
    }
    if !session.is_unchanged(earlier, earlier) {
        return None;
    }
    let seen = match read_xattrs(XattrAccess::Reference(reference.as_fd())) {
        Ok(xattrs) if xattrs == earlier.xattrs => Seen::Same,
        Ok(xattrs) => Seen::Node(Box::new(Node { xattrs, ..earlier.clone() })),
        Err(reason) => {
            session.miss(place.path, reason);
            Seen::Node(Box::new(Node { xattrs: Vec::new(), ..earlier.clone() }))
        }
    };
    note_clamped_time(session, place.path, &stat);
    session.progress.advance(earlier.size);
    session.count(earlier, true);
    Some(seen)
}

/// An unchanged file of which something is told differently now: the device's number after a restart, the owner's name.
fn moved_file(
    session: &Session<'_>,
    place: &Place<'_>,
    earlier: &Node,
    (reference, stat): (OwnedFd, &Stat),
) -> Option<Seen> {
    let kind = kind_of(stat).filter(|kind| *kind == NodeKind::File)?;
    let mut node = node_of(place.name.to_bytes(), kind, stat, &session.owners);
    if node.links > 1 || !session.is_unchanged(&node, earlier) {
        return None;
    }
    node.content.clone_from(&earlier.content);
    complete(session, place.path, &mut node, stat, XattrAccess::Reference(reference.as_fd()));
    session.progress.advance(node.size);
    session.count(&node, true);
    Some(Seen::Node(Box::new(node)))
}

/// A mere reference, which neither waits nor acts.
fn open_reference(place: &Place<'_>) -> Result<OwnedFd, Trouble> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | no_follow(place.follow);
    openat(place.directory, place.name, flags, Mode::empty()).map_err(|error| describe(error, "opened"))
}

fn no_follow(follow: bool) -> OFlags {
    if follow { OFlags::empty() } else { OFlags::NOFOLLOW }
}

/// Opens for reading without touching the access time where that is permitted (the owner, or root).
pub(super) fn open_quietly(
    directory: BorrowedFd<'_>,
    name: &CStr,
    flags: OFlags,
    follow: bool,
) -> Result<OwnedFd, Errno> {
    // Without O_NONBLOCK a FIFO put in the file's place would hold the backup for ever.
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | no_follow(follow);
    match openat(directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(directory, name, flags, Mode::empty()),
        result => result,
    }
}

fn capture_file(session: &Session<'_>, place: &Place<'_>) -> Result<Node, Trouble> {
    let opened = open_quietly(place.directory, place.name, OFlags::empty(), place.follow);
    let file = File::from(opened.map_err(|error| describe(error, "opened"))?);
    let stat = fstat(&file).map_err(|error| describe(error, "looked at"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Trouble::Source("something else took its place while it was read".to_owned()));
    }
    let name = place.name.to_bytes();
    let mut node = node_of(name, NodeKind::File, &stat, &session.owners);
    let link = LinkedFile { device_id: node.device_id, inode: node.inode };
    let twin = if node.links > 1 { session.linked_before(link) } else { None };
    if let Some(known) = known_content(session, place, &node, twin.as_ref()) {
        node.content = known;
        session.progress.advance(node.size);
    } else {
        if node.size >= LONG_READ {
            (place.before_long_read)();
        }
        let chunking = place.earlier.map_or(Chunking::Content, |earlier| Chunking::Like(&earlier.content));
        let read = store_file(session, place, &file, (&stat, &node), chunking)?;
        if read.changed {
            session.miss(place.path, "it changed while it was read, each of 3 times");
        }
        node = node_of(name, NodeKind::File, &read.stat, &session.owners);
        node.size = read.content.bytes;
        node.content = read.content.blobs;
    }
    complete(session, place.path, &mut node, &stat, XattrAccess::Open(file.as_fd()));
    let first_link = node.links < 2 || session.remember_link(link, &node);
    session.count(&node, first_link);
    Ok(node)
}

/// Content that needs no read: of another name of the same file, or of the unchanged earlier version.
fn known_content(
    session: &Session<'_>,
    place: &Place<'_>,
    node: &Node,
    twin: Option<&Node>,
) -> Option<Vec<crate::repository::BlobId>> {
    let same = |twin: &&Node| (twin.size, twin.modified, twin.changed) == (node.size, node.modified, node.changed);
    let unchanged = |earlier: &&Node| session.is_unchanged(node, earlier);
    twin.filter(same).or_else(|| place.earlier.filter(unchanged)).map(|known| known.content.clone())
}

fn capture_special(session: &Session<'_>, place: &Place<'_>) -> Result<Node, Trouble> {
    let reference = open_reference(place)?;
    let stat = fstat(&reference).map_err(|error| describe(error, "looked at"))?;
    let special = |kind: &NodeKind| !matches!(kind, NodeKind::File | NodeKind::Directory);
    let changed = || Trouble::Source("something else took its place while it was read".to_owned());
    let kind = kind_of(&stat).filter(special).ok_or_else(changed)?;
    let mut node = node_of(place.name.to_bytes(), kind, &stat, &session.owners);
    if kind == NodeKind::Symlink {
        let target = readlinkat(&reference, c"", Vec::new()).map_err(|error| describe(error, "read"))?;
        node.link_target = Some(target.into_bytes());
    }
    complete(session, place.path, &mut node, &stat, XattrAccess::Reference(reference.as_fd()));
    session.count(&node, true);
    Ok(node)
}

/// Adds the extended attributes and names what the format or the permissions do not let through.
pub(super) fn complete(session: &Session<'_>, path: &[u8], node: &mut Node, stat: &Stat, access: XattrAccess<'_>) {
    match read_xattrs(access) {
        Ok(xattrs) => node.xattrs = xattrs,
        Err(reason) => session.miss(path, reason),
    }
    note_clamped_time(session, path, stat);
}

fn note_clamped_time(session: &Session<'_>, path: &[u8], stat: &Stat) {
    if time_is_clamped(stat) {
        session.miss(path, "its time lies outside of the years 0 to 9999 and is kept as the nearest of them");
    }
}

/// The reason why something could not be done with an entry, in words.
pub(super) fn describe(error: Errno, what: &str) -> Trouble {
    Trouble::Source(match error {
        Errno::NOENT => "it vanished before it could be read".to_owned(),
        Errno::LOOP => "a symbolic link took its place while it was read".to_owned(),
        Errno::ACCESS | Errno::PERM => format!("it cannot be {what}: permission denied"),
        Errno::MFILE | Errno::NFILE => format!("it cannot be {what}: too many open files, raise the limit (ulimit -n)"),
        error => format!("it cannot be {what}: {error}"),
    })
}
