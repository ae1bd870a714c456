//! Opens what lies below a directory, and nothing outside of it: restored data may hold any symlink.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Opens `path` below `root` for reading. Symlinks that stay below `root` are followed, all others refused;
/// a FIFO or device does not block the open.
pub fn open(root: &Path, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(open_with(root, path, flags)?))
}

/// As [`open`], but only to look at it: works for every kind of entry and needs no permission to read.
pub fn look(root: &Path, path: &Path) -> io::Result<File> {
    Ok(File::from(open_with(root, path, OFlags::PATH | OFlags::CLOEXEC)?))
}

fn open_with(root: &Path, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let root = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match openat2(&root, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
        // Old kernels and some container filters do not know openat2.
        Err(Errno::NOSYS | Errno::PERM) => walk(root, path, flags),
        Err(Errno::XDEV | Errno::LOOP) => Err(outside(path)),
        opened => Ok(opened?),
    }
}

/// One component at a time, following no symlink at all.
fn walk(root: OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let names: Vec<_> = path
        .components()
        .filter(|component| *component != Component::CurDir)
        .map(|component| match component {
            Component::Normal(name) => Ok(name),
            _ => Err(outside(path)),
        })
        .collect::<io::Result<_>>()?;
    let Some((last, parents)) = names.split_last() else { return Ok(openat(&root, ".", flags, Mode::empty())?) };
    let mut directory = root;
    for name in parents {
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        directory = openat(&directory, *name, step, Mode::empty())?;
    }
    Ok(openat(&directory, *last, flags | OFlags::NOFOLLOW, Mode::empty())?)
}

fn outside(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{} leads out of the target directory", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_inside_are_followed_and_links_outside_refused() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("a")).unwrap();
        fs::write(outer.path().join("secret"), "no").unwrap();
        fs::write(root.join("a/file"), "yes").unwrap();
        symlink("a", root.join("inside")).unwrap();
        symlink("../secret", root.join("outside")).unwrap();
        symlink(outer.path().join("secret"), root.join("absolute")).unwrap();
        let mut text = String::new();
        open(&root, Path::new("inside/file")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "yes");
        for refused in ["outside", "absolute", "../secret", "/etc/passwd", "a/../../secret"] {
            assert!(open(&root, Path::new(refused)).is_err(), "{refused}");
        }
        assert_eq!(open(&root, Path::new("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_walk_for_old_kernels_follows_no_link() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/file"), "yes").unwrap();
        symlink("a", root.path().join("link")).unwrap();
        let directory = || openat(CWD, root.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(walk(directory(), Path::new("./a/file"), OFlags::RDONLY).is_ok());
        assert!(walk(directory(), Path::new("link/file"), OFlags::RDONLY).is_err());
        assert!(walk(directory(), Path::new("../a"), OFlags::RDONLY).is_err());
    }
}
