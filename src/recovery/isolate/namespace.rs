//! A mount namespace in which paths are covered.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind, mount_change, mount_remount,
    move_mount, open_tree,
};
use rustix::thread::{CapabilitySet, UnshareFlags, remove_capability_from_bounding_set};

use super::Hide;

/// Enters a mount namespace of its own, as root.
pub(super) fn enter() -> io::Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    private()
}

/// Enters a user and a mount namespace in which the user stays who they are.
///
/// Tried by another process first: some systems let the namespace be made and then refuse every use of it, and there
/// is no way back out.
pub(super) fn enter_as_user() -> io::Result<()> {
    probe()?;
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    private()
}

fn probe() -> io::Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-current-user", "--mount", "true"]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("this system refuses user namespaces")) }
}

#[allow(deprecated, reason = "the call is unsafe only where it unshares file descriptors, which it does not here")]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    Ok(rustix::thread::unshare(flags)?)
}

/// Nothing mounted here is seen outside, nothing mounted outside appears here.
fn private() -> io::Result<()> {
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// Covers a directory with an empty read-only one, anything else with an empty unreadable file.
pub(super) fn cover(hide: &Hide) -> io::Result<()> {
    if hide.directory { cover_directory(hide) } else { cover_file(&hide.path) }
}

fn cover_directory(hide: &Hide) -> io::Result<()> {
    let kept: Vec<OwnedFd> = hide.kept.iter().map(|path| copy_of(path)).collect::<io::Result<_>>()?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("lifeboat-dark", &hide.path, "tmpfs", flags, Some(c"size=64k,mode=0755"))?;
    for (path, copy) in hide.kept.iter().zip(kept) {
        put_back(path, &copy)?;
    }
    Ok(mount_remount(&hide.path, MountFlags::BIND | MountFlags::RDONLY | flags, "")?)
}

/// A detached copy of the mount at a path, taken before the path is covered.
fn copy_of(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, path, flags)?)
}

fn put_back(path: &Path, copy: &OwnedFd) -> io::Result<()> {
    if rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(copy)?.st_mode) == rustix::fs::FileType::Directory {
        DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    } else {
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        File::create(path)?;
    }
    Ok(move_mount(copy, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// The cover's own name is deleted at once; the mount keeps the file.
fn cover_file(path: &Path) -> io::Result<()> {
    let cover = tempfile::NamedTempFile::new()?;
    cover.as_file().set_permissions(fs::Permissions::from_mode(0o000))?;
    mount_bind(cover.path(), path)?;
    // Inside a user namespace flags of the mount below may be locked; empty it is all the same.
    let _ = mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, "");
    Ok(())
}

/// What a program of root would need to uncover, to enter another process's namespace or to read the disk below.
const FORBIDDEN_TO_CHILDREN: [CapabilitySet; 5] = [
    CapabilitySet::SYS_ADMIN,
    CapabilitySet::SYS_PTRACE,
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::MKNOD,
];

/// Takes these capabilities from every program that is started from here on. This process keeps its own: it restores
/// devices. A user namespace that a child makes has them again, but not over the mounts of this one.
pub(super) fn keep_children_in() -> io::Result<()> {
    for capability in FORBIDDEN_TO_CHILDREN {
        match remove_capability_from_bounding_set(capability) {
            // Without the right to take them away nobody has them either: not root.
            Err(rustix::io::Errno::PERM) if !rustix::process::geteuid().is_root() => {}
            removed => removed?,
        }
    }
    Ok(())
}
