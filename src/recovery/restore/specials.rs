//! Symlinks, devices and FIFOs: made when all files stand, and given their attributes at once by descriptor.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io;

use super::links::{Admission, FirstEnd, GroupId, Links, hard_link, not_linked};
use super::metadata::{self, Handle};
use super::outcome::Trouble;
use super::target::{DirectoryId, Identity, cannot};
use super::work::{Place, Work};
use crate::ground::Result;
use crate::ground::byte_path::escape;
use crate::repository::{Node, NodeKind};

/// An entry without content, with what is already known not to be exact.
pub(super) struct Special {
    pub(super) place: Place,
    pub(super) node: Arc<Node>,
    pub(super) notes: Vec<String>,
}

/// Makes all of them, symlinks before devices and FIFOs.
///
/// # Errors
/// When the target as a whole cannot be written.
pub(super) fn make_all(work: &Work<'_>, links: &mut Links, specials: Vec<Special>) -> Result<()> {
    let (symlinks, others): (Vec<_>, Vec<_>) =
        specials.into_iter().partition(|special| special.node.kind == NodeKind::Symlink);
    for special in symlinks.into_iter().chain(others) {
        make_or_link(work, links, special)?;
    }
    Ok(())
}

fn make_or_link(work: &Work<'_>, links: &mut Links, mut special: Special) -> Result<()> {
    let group = match links.admit(&special.node) {
        Admission::First { group, note } => {
            special.notes.extend(note);
            group
        }
        Admission::Further(group) => {
            if let Some(FirstEnd::Restored { place, identity }) = links.first(group) {
                match hard_link(work, place, *identity, &special.place) {
                    Ok(()) => {
                        account(work, &special, special.notes.clone());
                        return Ok(());
                    }
                    Err(Trouble::Entry(reason)) => special.notes.push(not_linked(&reason)),
                    Err(Trouble::Target(failure)) => return Err(failure),
                }
            }
            None
        }
    };
    make_first(work, links, special, group)
}

fn make_first(work: &Work<'_>, links: &mut Links, special: Special, group: Option<GroupId>) -> Result<()> {
    let mut reasons = special.notes.clone();
    match make(work, &special) {
        Ok((identity, inexact)) => {
            reasons.extend(inexact);
            account(work, &special, reasons);
            links.end(group, FirstEnd::Restored { place: special.place, identity });
        }
        Err(Trouble::Entry(reason)) => {
            reasons.push(reason.clone());
            work.missing(&special.place, &reasons);
            links.end(group, FirstEnd::Refused(reason));
        }
        Err(Trouble::Target(failure)) => {
            let path = work.path(special.place.directory, Some(special.place.name.as_bytes()));
            return Err(failure.context(format!("restoring {path}")));
        }
    }
    Ok(())
}

fn account(work: &Work<'_>, special: &Special, reasons: Vec<String>) {
    work.outcome.restored(0);
    work.missing(&special.place, &reasons);
    let Some(target) = special.node.link_target.as_deref().filter(|_| special.node.kind == NodeKind::Symlink) else {
        return;
    };
    let depth = work.directories.components(special.place.directory).len();
    if leads_out(target, depth) {
        work.outcome.unsafe_link(|| {
            format!("{} -> {}", work.path(special.place.directory, Some(special.place.name.as_bytes())), escape(target))
        });
    }
}

/// Whether a link target, `depth` directories below the target, is absolute or climbs out of it. Judged by its text:
/// what other links on the way would do is not looked at.
fn leads_out(target: &[u8], depth: usize) -> bool {
    let mut below = depth;
    for component in target.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if below == 0 => return true,
            b".." => below -= 1,
            _ => below += 1,
        }
    }
    target.starts_with(b"/")
}

fn make(work: &Work<'_>, special: &Special) -> Result<(Identity, Vec<String>), Trouble> {
    let Special { place, node, .. } = special;
    check(work, node).map_err(Trouble::Entry)?;
    let at = work.directories.open(place.directory)?;
    let ((), temporary) =
        work.directories.place(at.as_fd(), &place.name, place.existing, |name| create(at.as_fd(), name, node))?;
    let name = temporary.as_deref().unwrap_or(place.name.as_bytes());
    let dressed = dress(work, at.as_fd(), name, place.directory, node);
    match (dressed, &temporary) {
        (Ok(made), Some(temporary)) => work.directories.settle(at.as_fd(), temporary, &place.name).map(|()| made),
        (Err(trouble), Some(temporary)) => {
            let _ = fs::unlinkat(&at, &temporary[..], AtFlags::empty());
            Err(trouble)
        }
        (dressed, None) => dressed,
    }
}

/// Whether the entry can be made at all.
fn check(work: &Work<'_>, node: &Node) -> Result<(), String> {
    match node.kind {
        NodeKind::Symlink => match node.link_target.as_deref() {
            None | Some([]) => Err("the symlink has no target".into()),
            Some(target) if target.contains(&0) => Err("the symlink's target holds a NUL byte".into()),
            Some(_) => Ok(()),
        },
        NodeKind::BlockDevice | NodeKind::CharacterDevice if !work.rights.privileged() => {
            Err("the device was left out without privileges".into())
        }
        _ => Ok(()),
    }
}

fn create(at: BorrowedFd<'_>, name: &[u8], node: &Node) -> io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    match node.kind {
        NodeKind::Symlink => fs::symlinkat(node.link_target.as_deref().unwrap_or_default(), at, name),
        NodeKind::BlockDevice => fs::mknodat(at, name, FileType::BlockDevice, mode, node.device),
        NodeKind::CharacterDevice => fs::mknodat(at, name, FileType::CharacterDevice, mode, node.device),
        _ => fs::mknodat(at, name, FileType::Fifo, mode, 0),
    }
}

fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::File => FileType::RegularFile,
        NodeKind::Directory => FileType::Directory,
        NodeKind::Symlink => FileType::Symlink,
        NodeKind::BlockDevice => FileType::BlockDevice,
        NodeKind::CharacterDevice => FileType::CharacterDevice,
        NodeKind::Fifo => FileType::Fifo,
        NodeKind::Socket => FileType::Socket,
    }
}

/// Sets the attributes of what was just made, after proving that it is that.
fn dress(
    work: &Work<'_>,
    at: BorrowedFd<'_>,
    name: &[u8],
    directory: DirectoryId,
    node: &Node,
) -> Result<(Identity, Vec<String>), Trouble> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let object = fs::openat(at, name, flags, Mode::empty()).map_err(|errno| cannot("be looked at", errno))?;
    let stat = fs::fstat(&object).map_err(|errno| cannot("be looked at", errno))?;
    if FileType::from_raw_mode(stat.st_mode) != file_type(node.kind) || stat.st_nlink != 1 {
        return Err(Trouble::Entry("somebody replaced it during the restore".into()));
    }
    let clean = work.directories.hands_down_acl(directory) && node.kind != NodeKind::Symlink;
    let mut reasons = metadata::apply(Handle::Location(object.as_fd()), node, &work.rights, clean);
    let device = matches!(node.kind, NodeKind::BlockDevice | NodeKind::CharacterDevice);
    if device && stat.st_rdev != node.device {
        reasons.push("the target's file system did not keep its device number".into());
    }
    Ok((Identity::of(&stat), reasons))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_that_lead_out_are_told() {
        assert!(leads_out(b"/etc/passwd", 3));
        assert!(leads_out(b"../x", 0));
        assert!(leads_out(b"a/../../x", 0));
        assert!(leads_out(b"../../..", 2));
        assert!(!leads_out(b"../x", 1));
        assert!(!leads_out(b"a/b/../c", 0));
        assert!(!leads_out(b"./x//y", 0));
    }
}
