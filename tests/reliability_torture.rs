//! Fifty kinds of awkward objects through the program and back: as root exactly, as another user with exactly the differences
//! that docs/restore.md lists, each of them named.

mod common;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use common::{World, is_root, tree};
use rustix::fs::{AtFlags, CWD, FileType, Mode, XattrFlags};

/// A user without any rights.
const USER: u32 = 65_432;

/// Every kind of object and where one stands in the tree; with a star those that only root can make.
const KINDS: &[(&str, &str)] = &[
    ("an empty file", "empty"),
    ("a file of several megabytes", "large"),
    ("a file of zeros", "zeros"),
    ("a sparse file", "sparse"),
    ("a file that is one hole", "only-a-hole"),
    ("a small file", "many/00/file-0"),
    ("an empty directory", "empty-directory"),
    ("a deep file", "deep/er/and/deeper/still/leaf"),
    ("a name with a newline", "new\nline"),
    ("a name like an option", "-leading-dash"),
    ("a name with quotes and backslashes", "back\\slash \"quoted\""),
    ("a name of blanks", " space "),
    ("a composed letter", "cr\u{e8}me"),
    ("the same, decomposed", "cre\u{300}me"),
    ("a name like a pattern", "star*[glob]?"),
    ("upper case", "CASE"),
    ("the same, lower case", "case"),
    ("three dots", "..."),
    ("a name with a backslash escape in it", "\\x41"),
    ("a relative symlink", "link-relative"),
    ("a dangling symlink", "link-dangling"),
    ("an absolute symlink", "link-absolute"),
    ("a symlink to a target that is not UTF-8", "link-not-utf8"),
    ("a symlink to itself", "link-to-itself"),
    ("a symlink that climbs out", "link-climbing"),
    ("a symlink of 4,000 bytes", "link-long"),
    ("a symlink with two names", "link-twice"),
    ("a hard link in another directory", "many/00/hard-1"),
    ("a third name of it", "deep/hard-2"),
    ("a hard link of an empty file", "empty-again"),
    ("a FIFO", "fifo"),
    ("a FIFO with two names", "fifo-again"),
    ("a read-only file", "mode-400"),
    ("a set-uid file", "mode-4755"),
    ("a set-gid file", "mode-2755"),
    ("a sticky file", "mode-1777"),
    ("a sticky directory", "sticky"),
    ("a set-gid directory", "set-gid-directory"),
    ("a read-only directory with content", "read-only/inside"),
    ("a binary attribute", "large"),
    ("an empty attribute", "empty"),
    ("a large attribute", "mode-755"),
    ("an attribute of a directory", "empty-directory"),
    ("times before 1970", "deep/er"),
    ("times of the next century", "fifo"),
    ("* a file without any right", "mode-0"),
    ("* a file of another owner with set-id bits", "owned"),
    ("* a character device", "character"),
    ("* a block device", "block"),
    ("* a capability", "mode-755"),
    ("* an access list", "mode-666"),
    ("* a default access list", "sticky"),
    ("* a trusted attribute", "trusted"),
    ("* a security attribute", "security"),
];

/// What the tests of commands have, and more; as root with the kinds that only root can make.
fn make_tree(root: &Path) {
    tree::make_awkward(root);
    for name in ["cre\u{300}me", "CASE", "case", "...", "\\x41"] {
        fs::write(root.join(name), name).unwrap();
    }
    symlink("link-to-itself", root.join("link-to-itself")).unwrap();
    symlink("../../../etc/passwd", root.join("link-climbing")).unwrap();
    symlink("t".repeat(4_000), root.join("link-long")).unwrap();
    symlink("two names", root.join("link-twice")).unwrap();
    rustix::fs::linkat(CWD, root.join("link-twice"), CWD, root.join("link-twice-again"), AtFlags::empty()).unwrap();
    rustix::fs::linkat(CWD, root.join("fifo"), CWD, root.join("fifo-again"), AtFlags::empty()).unwrap();
    fs::create_dir(root.join("set-gid-directory")).unwrap();
    fs::set_permissions(root.join("set-gid-directory"), Permissions::from_mode(0o2775)).unwrap();
    if is_root() {
        for name in ["trusted", "security"] {
            fs::write(root.join(name), name).unwrap();
            let attribute = format!("{name}.lifeboat-test");
            rustix::fs::lsetxattr(root.join(name), &attribute, b"value", XattrFlags::empty()).unwrap();
        }
    }
    for (kind, path) in KINDS.iter().filter(|(kind, _)| is_root() || !kind.starts_with('*')) {
        assert!(fs::symlink_metadata(root.join(path)).is_ok(), "{kind}: {path} is there");
    }
    for name in [&b"not-utf8-\xff\xfe"[..], b"directory-\xc3\x28"] {
        assert!(fs::symlink_metadata(root.join(std::ffi::OsStr::from_bytes(name))).is_ok());
    }
}

/// Everything of a tree as tar sees it, however deep: its paths are longer than any that a system call takes.
fn tar_sum(directory: &Path) -> String {
    let script = format!("tar -C '{}' --sort=name --numeric-owner -cf - . | sha256sum", directory.display());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Directories one in the other, to a path of twelve kilobytes.
fn make_deep(root: &Path) {
    let script = format!(
        "cd '{}' && n=$(printf 'd%.0s' $(seq 200)) && for i in $(seq 60); do mkdir $n && cd -P ./$n || exit 1; done \
         && echo deep > file && ln -s file link",
        root.display()
    );
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

#[test]
fn what_its_owner_backs_up_comes_back_exactly() {
    let world = World::new();
    make_tree(&world.primary());
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    tree::assert_same(&world.primary(), &world.restore_source("home", "files", "restored"));
}

#[test]
fn a_path_longer_than_any_that_the_kernel_takes_comes_back() {
    let world = World::new();
    make_deep(&world.primary());
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    assert_eq!(tar_sum(&world.primary()), tar_sum(&world.restore_source("home", "files", "restored")));
    // The library's own removal stops at PATH_MAX.
    for name in ["primary", "restored"] {
        assert!(Command::new("rm").arg("-rf").arg(world.path(name)).status().unwrap().success());
    }
}

/// Root's backup in the hands of a user: what a user may not set is missing and named, and nothing else is.
#[test]
fn a_user_without_rights_gets_all_but_the_documented_differences() {
    if !is_root() {
        return common::skip("needs root to make what another user may not restore");
    }
    let world = World::new();
    make_tree(&world.primary());
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);

    let mut theirs = World::new();
    let copied = Command::new("cp").arg("-a").arg(world.dr()).arg(theirs.dr()).status().unwrap();
    assert!(copied.success());
    fs::copy(world.password_file(), theirs.password_file()).unwrap();
    theirs.hand_over(USER);
    let password = format!("file:{}", theirs.password_file().display());
    let (dr, target) = (theirs.dr(), theirs.path("restored"));
    let rebuild = ["rebuild", "--from", dr.to_str().unwrap(), "--repository-password", &password];
    let _ = theirs.run(rebuild).expect(0);
    let restore = ["restore", "home", "--source", "files", "--to", target.to_str().unwrap(), "--json"];
    let restored = theirs.run(restore).expect(3).json().to_string();

    let found: BTreeSet<String> = tree::differences(&world.primary(), &target).into_iter().map(essence).collect();
    let expected = documented(&world.primary());
    let unexpected: Vec<_> = found.difference(&expected).collect();
    assert!(unexpected.is_empty(), "not documented: {unexpected:#?}");
    let too_good: Vec<_> = expected.difference(&found).collect();
    assert!(too_good.is_empty(), "documented as lost, and there: {too_good:#?}");
    for line in &expected {
        let path = line.split(": ").next().unwrap();
        // Other names are escaped in the output.
        if path.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'/') {
            let named =
                restored.contains(path) || names_of(&world.primary(), path).iter().any(|name| restored.contains(name));
            assert!(named, "{line}: {path} is named");
        }
    }
}

/// A path and its object's other names: an object is named once. Looks only, since opening a FIFO would wait.
fn names_of(root: &Path, path: &str) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let wanted = identity(&root.join(path));
    let (mut names, mut waiting) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if wanted.is_some() && identity(&path) == wanted {
                names.extend(path.strip_prefix(root).ok().map(|name| name.to_string_lossy().into_owned()));
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(path);
            }
        }
    }
    names
}

/// Path and which fact, without the values.
fn essence(line: String) -> String {
    let (path, what) = line.split_once(": ").unwrap();
    let fact = what.split_once(" is ").map_or(what, |(fact, _)| fact);
    format!("{path}: {fact}")
}

/// What docs/restore.md says a restore without privileges leaves out, computed from the tree itself.
fn documented(root: &Path) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for path in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let kind = metadata.file_type();
            if kind.is_dir() {
                waiting.push(path.clone());
            }
            if kind.is_char_device() || kind.is_block_device() {
                lines.insert(format!("{name}: missing"));
                continue;
            }
            lines.insert(format!("{name}: owner"));
            if metadata.mode() & 0o6000 != 0 {
                lines.insert(format!("{name}: mode"));
            }
            for attribute in ["security.capability", "security.lifeboat-test", "trusted.lifeboat-test"] {
                let mut value = [0; 100];
                if rustix::fs::lgetxattr(&path, attribute, &mut value[..]).is_ok() {
                    lines.insert(format!("{name}: attribute {attribute}"));
                }
            }
        }
    }
    lines
}

/// A socket is the address of a running program: it is not restored and not missed.
#[test]
fn a_socket_is_neither_restored_nor_missed() {
    let world = World::new();
    fs::write(world.primary().join("file"), "content").unwrap();
    let socket = world.primary().join("socket");
    rustix::fs::mknodat(CWD, &socket, FileType::Socket, Mode::from_raw_mode(0o600), 0).unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    let restored = world.restore_source("home", "files", "restored");
    assert_eq!(tree::differences(&world.primary(), &restored), ["socket: missing"]);
}
