//! Attributes: owner, extended attributes, mode, times, in this order, then a look whether they hold.
//!
//! A change of owner clears set-id bits and capabilities, so it comes first; whatever else is changed would move the
//! times, so they come last.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{self, AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io;

use super::target::why;
use crate::ground::byte_path::escape;
use crate::repository::{Node, NodeKind};

const SET_ID_BITS: u32 = 0o6000;
const KNOWN_MODE_BITS: u32 = 0o7777;
/// Largest value of an extended attribute that Linux takes, in bytes.
const XATTR_BYTES_MAX: usize = 64 * 1024;
/// The number that means "leave it as it is" to the kernel.
const NO_OWNER: u32 = u32::MAX;

/// What this process may set and was asked to set.
#[derive(Debug, Clone)]
pub(super) struct Rights {
    privileged: bool,
    /// Groups that an unprivileged owner may give a file to.
    groups: Vec<u32>,
}

impl Rights {
    /// Rights of the calling thread.
    pub(super) fn of_this_thread(privileged: bool) -> Self {
        let user = rustix::process::geteuid();
        let mut groups = Vec::new();
        if !user.is_root() {
            groups.extend(rustix::process::getgroups().unwrap_or_default().iter().map(|group| group.as_raw()));
            groups.push(rustix::process::getegid().as_raw());
        }
        Self { privileged, groups }
    }

    /// Whether owners, set-id bits, devices and privileged attributes are set.
    pub(super) fn privileged(&self) -> bool {
        self.privileged
    }
}

/// A descriptor of the object itself, so that no name is resolved again.
#[derive(Clone, Copy)]
pub(super) enum Handle<'a> {
    /// A file or directory open for use.
    Open(BorrowedFd<'a>),
    /// Opened with `O_PATH`: symlinks, devices, FIFOs.
    Location(BorrowedFd<'a>),
}

impl Handle<'_> {
    /// A descriptor opened with `O_PATH` takes part in some calls only by its magic link.
    fn magic_link(fd: BorrowedFd<'_>) -> String {
        format!("/proc/self/fd/{}", fd.as_raw_fd())
    }

    fn stat(self) -> io::Result<Stat> {
        match self {
            Self::Open(fd) | Self::Location(fd) => fs::fstat(fd),
        }
    }

    fn chown(self, user: Option<Uid>, group: Option<Gid>) -> io::Result<()> {
        match self {
            Self::Open(fd) => fs::fchown(fd, user, group),
            Self::Location(fd) => fs::chownat(fd, "", user, group, AtFlags::EMPTY_PATH),
        }
    }

    fn chmod(self, mode: Mode) -> io::Result<()> {
        match self {
            Self::Open(fd) => fs::fchmod(fd, mode),
            Self::Location(fd) => fs::chmod(Self::magic_link(fd), mode),
        }
    }

    fn set_times(self, times: &Timestamps) -> io::Result<()> {
        match self {
            Self::Open(fd) => fs::futimens(fd, times),
            Self::Location(fd) => fs::utimensat(fd, "", times, AtFlags::EMPTY_PATH),
        }
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> io::Result<()> {
        match self {
            Self::Open(fd) => fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Location(fd) => fs::setxattr(Self::magic_link(fd), name, value, XattrFlags::empty()),
        }
    }

    fn has_xattr(self, name: &[u8], value: &[u8]) -> bool {
        let mut found = vec![0; value.len() + 1];
        let length = match self {
            Self::Open(fd) => fs::fgetxattr(fd, name, &mut found[..]),
            Self::Location(fd) => fs::getxattr(Self::magic_link(fd), name, &mut found[..]),
        };
        length.is_ok_and(|length| found[..length] == *value)
    }

    fn xattr_names(self) -> Vec<Vec<u8>> {
        let mut list = vec![0; XATTR_BYTES_MAX];
        let length = match self {
            Self::Open(fd) => fs::flistxattr(fd, &mut list[..]),
            Self::Location(fd) => fs::listxattr(Self::magic_link(fd), &mut list[..]),
        };
        let list = &list[..length.unwrap_or(0)];
        list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
    }

    fn remove_xattr(self, name: &[u8]) -> io::Result<()> {
        match self {
            Self::Open(fd) => fs::fremovexattr(fd, name),
            Self::Location(fd) => fs::removexattr(Self::magic_link(fd), name),
        }
    }
}

/// Sets all that was saved; answers what could not be set, one half sentence each.
/// With `clean`, attributes that were not saved (inherited, or of an older directory) are taken away first.
pub(super) fn apply(handle: Handle<'_>, node: &Node, rights: &Rights, clean: bool) -> Vec<String> {
    apply_to(handle, handle.stat().ok().as_ref(), node, rights, clean)
}

/// As [`apply`], for an object that was just looked at.
pub(super) fn apply_to(
    handle: Handle<'_>,
    found: Option<&Stat>,
    node: &Node,
    rights: &Rights,
    clean: bool,
) -> Vec<String> {
    let mut reasons = Vec::new();
    let owner_stands = set_owner(handle, found, node, rights, &mut reasons);
    if clean {
        remove_foreign_xattrs(handle, node);
    }
    set_xattrs(handle, node, rights, &mut reasons);
    let mode = set_mode(handle, node, rights, owner_stands, &mut reasons);
    set_times(handle, node, &mut reasons);
    verify(handle, node, mode, &mut reasons);
    reasons
}

/// True when the object belongs to whom it belonged.
fn set_owner(
    handle: Handle<'_>,
    found: Option<&Stat>,
    node: &Node,
    rights: &Rights,
    reasons: &mut Vec<String>,
) -> bool {
    let Some(stat) = found else {
        reasons.push("its owner could not be looked at".into());
        return false;
    };
    let user = (stat.st_uid != node.uid).then_some(node.uid);
    let group = (stat.st_gid != node.gid).then_some(node.gid);
    if user.is_none() && group.is_none() {
        return true;
    }
    if node.uid == NO_OWNER || node.gid == NO_OWNER {
        reasons.push("its saved owner is not a usable number".into());
        return false;
    }
    let own_group = user.is_none() && group.is_some_and(|group| rights.groups.contains(&group));
    if !rights.privileged && !own_group {
        reasons.push(format!("its owner {}:{} was left out without privileges", node.uid, node.gid));
        return false;
    }
    match handle.chown(user.map(Uid::from_raw), group.map(Gid::from_raw)) {
        Ok(()) => true,
        Err(errno) => {
            reasons.push(format!("its owner {}:{} could not be set: {}", node.uid, node.gid, why(errno)));
            false
        }
    }
}

/// Label and integrity attributes belong to the system; only what people and access rights set is taken away.
fn remove_foreign_xattrs(handle: Handle<'_>, node: &Node) {
    for name in handle.xattr_names() {
        let ours = name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_");
        if ours && !node.xattrs.iter().any(|(saved, _)| *saved == name) {
            // Refused only where it could not have been written either; the mode is verified afterwards.
            let _ = handle.remove_xattr(&name);
        }
    }
}

fn needs_privileges(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"trusted.")
}

fn set_xattrs(handle: Handle<'_>, node: &Node, rights: &Rights, reasons: &mut Vec<String>) {
    let mut left_out = Vec::new();
    for (name, value) in &node.xattrs {
        if needs_privileges(name) && !rights.privileged {
            // A label that the system gave by itself is as it was.
            if !handle.has_xattr(name, value) {
                left_out.push(escape(name));
            }
        } else if let Err(reason) = set_xattr(handle, name, value) {
            reasons.push(format!("its attribute {} could not be set: {reason}", escape(name)));
        }
    }
    if !left_out.is_empty() {
        reasons.push(format!("its attributes {} were left out without privileges", left_out.join(", ")));
    }
}

fn set_xattr(handle: Handle<'_>, name: &[u8], value: &[u8]) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty".into());
    }
    if value.len() > XATTR_BYTES_MAX {
        return Err("the value is longer than 64 KiB".into());
    }
    handle.set_xattr(name, value).map_err(why)
}

/// Sets the permission bits and answers what they should now be. Set-id bits are never given to an object whose
/// owner is not the saved one: they would lend somebody else's rights.
fn set_mode(handle: Handle<'_>, node: &Node, rights: &Rights, owner_stands: bool, reasons: &mut Vec<String>) -> u32 {
    let mut mode = node.mode & KNOWN_MODE_BITS;
    if node.mode != mode {
        reasons.push("its mode has unknown bits, which were left out".into());
    }
    if node.kind == NodeKind::Symlink {
        return mode;
    }
    if mode & SET_ID_BITS != 0 && !(rights.privileged && owner_stands) {
        mode &= !SET_ID_BITS;
        reasons.push("its set-id bits were left out".into());
    }
    if let Err(errno) = handle.chmod(Mode::from_raw_mode(mode)) {
        reasons.push(format!("its mode {mode:o} could not be set: {}", why(errno)));
    }
    mode
}

fn set_times(handle: Handle<'_>, node: &Node, reasons: &mut Vec<String>) {
    let times = Timestamps { last_access: timespec(node.accessed), last_modification: timespec(node.modified) };
    if let Err(errno) = handle.set_times(&times) {
        reasons.push(format!("its times could not be set: {}", why(errno)));
    }
}

/// Seconds rounded down and nanoseconds from there, as the kernel wants times before 1970 too.
fn timespec(time: jiff::Timestamp) -> Timespec {
    const PER_SECOND: i128 = 1_000_000_000;
    let nanoseconds = time.as_nanosecond();
    Timespec {
        tv_sec: i64::try_from(nanoseconds.div_euclid(PER_SECOND)).unwrap_or(0),
        tv_nsec: i64::try_from(nanoseconds.rem_euclid(PER_SECOND)).unwrap_or(0),
    }
}

/// File systems without owners, modes or fine times accept them and keep something else: that is named too.
fn verify(handle: Handle<'_>, node: &Node, mode: u32, reasons: &mut Vec<String>) {
    let Ok(stat) = handle.stat() else {
        reasons.push("its attributes could not be verified".into());
        return;
    };
    if !reasons.is_empty() {
        return;
    }
    if (stat.st_uid, stat.st_gid) != (node.uid, node.gid) {
        reasons.push("the target's file system did not keep its owner".into());
    }
    if node.kind != NodeKind::Symlink && stat.st_mode & KNOWN_MODE_BITS != mode {
        reasons.push("the target's file system did not keep its mode".into());
    }
    let wanted = timespec(node.modified);
    if (i128::from(stat.st_mtime), i128::from(stat.st_mtime_nsec)) != (wanted.tv_sec.into(), wanted.tv_nsec.into()) {
        reasons.push("the target's file system did not keep its modification time".into());
    }
}
