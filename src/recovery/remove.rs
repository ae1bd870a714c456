//! Deletes a directory tree: follows no symlink, crosses no mount, whatever modes the restored directories have.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::fs::{chmodat, openat, renameat, statx, unlinkat};
use rustix::io::Errno;

use crate::ground::{byte_path, os_reason};

/// Most leftovers that are named.
const NAMED: usize = 100;
/// Deeper directories are first moved up to the root of the tree: each level of depth holds a file descriptor.
const DEPTH: usize = 64;

/// Deletes `root` and all below it; names what could not be deleted, with the reason. A missing root is success. Blocks.
pub fn remove_tree(root: &Path) -> Vec<String> {
    let mut removal = Removal { left: Vec::new(), top: None, device: (0, 0), moved: 0 };
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = root.file_name().and_then(|name| CString::new(name.as_bytes()).ok()) else {
        return vec![format!("{}: this is no directory of a drill", byte_path::escape_path(root))];
    };
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, parent, directory, Mode::empty()) {
        Ok(parent) => {
            let mut path = root.to_path_buf();
            removal.remove(&parent, &name, &mut path, 0);
        }
        Err(Errno::NOENT) => {}
        Err(error) => removal.leave(root, &describe(error)),
    }
    removal.left
}

struct Removal {
    left: Vec<String>,
    top: Option<OwnedFd>,
    device: (u32, u32),
    moved: u64,
}

impl Removal {
    fn leave(&mut self, path: &Path, reason: &str) {
        let text = format!("{}: {reason}", byte_path::escape_path(path));
        if self.left.len() < NAMED && !self.left.contains(&text) {
            self.left.push(text);
        }
    }

    /// True when the entry is gone (or moved up to be deleted later), so that another look at its directory pays.
    fn remove(&mut self, parent: &OwnedFd, name: &CStr, path: &mut PathBuf, depth: usize) -> bool {
        let done = self.try_remove(parent, name, path, depth);
        match done {
            Ok(gone) => gone,
            Err(Errno::NOENT) => true,
            Err(error) => {
                self.leave(path, &describe(error));
                false
            }
        }
    }

    fn try_remove(&mut self, parent: &OwnedFd, name: &CStr, path: &mut PathBuf, depth: usize) -> Result<bool, Errno> {
        let seen = statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE | StatxFlags::MODE)?;
        if FileType::from_raw_mode(u32::from(seen.stx_mode)) != FileType::Directory {
            unlinkat(parent, name, AtFlags::empty())?;
            return Ok(true);
        }
        if self.is_mount(&seen, depth) {
            self.leave(path, "something is mounted there");
            return Ok(false);
        }
        if u32::from(seen.stx_mode) & 0o700 != 0o700 {
            chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
        }
        if depth >= DEPTH {
            return self.move_up(parent, name);
        }
        self.empty(parent, name, path, depth)?;
        unlinkat(parent, name, AtFlags::REMOVEDIR)?;
        Ok(true)
    }

    fn is_mount(&mut self, seen: &Statx, depth: usize) -> bool {
        let device = (seen.stx_dev_major, seen.stx_dev_minor);
        if depth == 0 {
            self.device = device;
        }
        device != self.device || seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    }

    fn move_up(&mut self, parent: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
        let top = self.top.as_ref().ok_or(Errno::INVAL)?;
        self.moved += 1;
        renameat(parent, name, top, format!(".lifeboat-deep-{}", self.moved))?;
        Ok(true)
    }

    /// Deletes the content, looking again until a look changes nothing: names may be passed over while others go.
    fn empty(&mut self, parent: &OwnedFd, name: &CStr, path: &mut PathBuf, depth: usize) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(parent, name, flags, Mode::empty())?;
        if depth == 0 {
            self.top = directory.try_clone().ok();
        }
        let mut entries = Dir::read_from(&directory)?;
        loop {
            let mut changed = false;
            for entry in entries.by_ref() {
                let entry = entry?;
                if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    continue;
                }
                path.push(OsStr::from_bytes(entry.file_name().to_bytes()));
                changed |= self.remove(&directory, entry.file_name(), path, depth + 1);
                path.pop();
            }
            if !changed {
                return Ok(());
            }
            entries.rewind();
        }
    }
}

fn describe(error: Errno) -> String {
    os_reason(&error.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_goes_and_what_links_point_to_stays() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("drill");
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir(outer.path().join("kept")).unwrap();
        fs::write(outer.path().join("kept/file"), "x").unwrap();
        symlink(outer.path().join("kept"), root.join("a/link")).unwrap();
        for number in 0..2_000 {
            fs::write(root.join(format!("a/b/{number}")), "x").unwrap();
        }
        fs::set_permissions(root.join("a/b/c"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o500)).unwrap();
        assert_eq!(remove_tree(&root), Vec::<String>::new());
        assert!(!root.exists());
        assert!(outer.path().join("kept/file").exists());
        assert_eq!(remove_tree(&root), Vec::<String>::new(), "a missing tree is success");
    }

    #[test]
    fn a_root_that_is_a_link_goes_alone() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("file"), "x").unwrap();
        symlink(outer.path(), outer.path().join("drill")).unwrap();
        assert!(remove_tree(&outer.path().join("drill")).is_empty());
        assert!(outer.path().join("file").exists());
    }

    #[test]
    fn a_mount_is_not_entered() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("drill");
        for name in ["tmpfs", "bind", "plain"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::create_dir(outer.path().join("kept")).unwrap();
        fs::write(outer.path().join("kept/file"), "x").unwrap();
        // In a thread of its own, since a mount namespace belongs to a thread.
        let (inner, kept) = (root.clone(), outer.path().join("kept"));
        let mounted = std::thread::spawn(move || {
            use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
            #[allow(deprecated, reason = "no file descriptors are unshared")]
            rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).ok()?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).ok()?;
            mount("test", inner.join("tmpfs"), "tmpfs", MountFlags::empty(), None).ok()?;
            mount_bind(&kept, inner.join("bind")).ok()?;
            Some(remove_tree(&inner))
        });
        let Some(left) = mounted.join().unwrap() else { return };
        assert_eq!(left.iter().filter(|left| left.ends_with("something is mounted there")).count(), 2, "{left:?}");
        assert!(!root.join("plain").exists());
        assert!(outer.path().join("kept/file").exists());
    }

    #[test]
    fn depth_costs_no_file_descriptors() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("drill");
        let mut path = root.clone();
        for _ in 0..700 {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("file"), "x").unwrap();
        assert_eq!(remove_tree(&root), Vec::<String>::new());
        assert!(!root.exists());
    }
}
