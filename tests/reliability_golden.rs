//! Repositories of every release, and of restic, kept in `tests/golden/`: today's program restores them identically. One of a
//! newer format is refused with a clear text.
//!
//! `MAKE_GOLDEN=1` writes those that are missing, from the same tree; what is there is never written again.

mod common;
#[path = "common/engine/mod.rs"]
mod engine;

use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::{World, is_root, noise, tree};
use engine::sample::{self, Sample, password};
use lifeboat::ground::{NoProgress, Secret};
use lifeboat::recovery::restore::{RestoreRequest, restore};
use lifeboat::repository::{Repository, RepositoryError, VerifyDepth, fuzzing};
use lifeboat::site::ObjectStore;
use lifeboat::site::local::LocalStore;

const PASSWORD: &str = "golden password";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The tree that every golden repository holds. It never changes: what changed would need golden repositories anew.
fn fixed_tree(root: &Path) {
    fs::create_dir_all(root.join("conf/empty")).unwrap();
    fs::write(root.join("conf/server.xml"), "<server port=\"9443\"/>\n").unwrap();
    fs::write(root.join("nothing"), "").unwrap();
    fs::write(root.join("noise"), noise(25, 60_000)).unwrap();
    fs::write(root.join("text"), "2026-01-02T03:04:05Z INFO request served\n".repeat(2000)).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(200_000).unwrap();
    sparse.write_all_at(b"in the middle", 120_000).unwrap();
    for name in [&b"not-utf8-\xff"[..], b"new\nline", "cr\u{e8}me <&>".as_bytes()] {
        fs::write(root.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    fs::hard_link(root.join("text"), root.join("conf/text-again")).unwrap();
    symlink("../noise", root.join("conf/link")).unwrap();
    for (name, mode) in [("noise", 0o600), ("text", 0o644), ("conf", 0o750), ("nothing", 0o400), ("conf/empty", 0o555)]
    {
        fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
    }
    let mut all = vec![root.join("conf")];
    for directory in [root.to_owned(), root.join("conf")] {
        all.extend(
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with("conf")),
        );
    }
    // The directory last: everything else is in it or beside it.
    all.rotate_left(1);
    for path in all {
        let time = rustix::fs::Timespec { tv_sec: 1_700_000_000, tv_nsec: 123_456_789 };
        let both = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, &path, &both, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Differences that matter here: a user who is not root cannot give files away, which the restore has said.
fn assert_same(expected: &Path, actual: &Path) {
    let mut lines = tree::differences(expected, actual);
    lines.retain(|line| is_root() || !line.contains(": owner is "));
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

fn unpack(name: &str, into: &Path) {
    let archive = zstd::Decoder::new(File::open(golden(name)).unwrap()).unwrap();
    tar::Archive::new(archive).unpack(into).unwrap();
}

/// Packs a directory under a name, unless there is such a golden file already.
fn pack(directory: &Path, inside: &str, name: &str) {
    if golden(name).exists() {
        return;
    }
    fs::create_dir_all(golden("")).unwrap();
    let mut archive = tar::Builder::new(zstd::Encoder::new(File::create(golden(name)).unwrap(), 19).unwrap());
    archive.mode(tar::HeaderMode::Deterministic);
    archive.append_dir_all(inside, directory).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
}

fn making() -> bool {
    std::env::var_os("MAKE_GOLDEN").is_some()
}

/// The whole DR site of each release: a new machine, the password, and everything is back.
#[test]
fn dr_sites_of_every_release_restore_identically() {
    if making() {
        let world = World::new();
        fixed_tree(&world.primary());
        fs::write(world.password_file(), PASSWORD).unwrap();
        world.write_files_policy("golden");
        let _ = world.run(["backup", "golden"]).expect(0);
        pack(&world.dr(), "dr", concat!("lifeboat-", env!("CARGO_PKG_VERSION"), ".tar.zst"));
    }
    let mut releases = 0;
    for path in common::files_below(&golden("")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("lifeboat-") {
            continue;
        }
        releases += 1;
        let world = World::new();
        fixed_tree(&world.primary());
        unpack(&name, &world.path(""));
        fs::write(world.password_file(), PASSWORD).unwrap();
        let password = format!("file:{}", world.password_file().display());
        let _ = world
            .run(["rebuild", "--from", world.dr().to_str().unwrap(), "--repository-password", &password])
            .expect(0);
        let target = world.path("restored");
        let to = target.to_str().unwrap();
        let exit = if is_root() { 0 } else { 3 };
        let _ = world.run(["restore", "golden", "--source", "files", "--to", to]).expect(exit);
        assert_same(&world.primary(), &target);
        let _ = world.run(["verify", "golden", "--read-data"]).expect(0);
        let _ = world.run(["ledger", "verify", "golden"]).expect(0);
    }
    assert!(releases >= 1, "there is a golden DR site");
}

/// As restic 0.14 wrote it, with version 1 and version 2 of the format.
#[test]
fn repositories_of_restic_restore_identically() {
    for version in ["1", "2"] {
        let name = format!("restic-0.14-format-{version}.tar.zst");
        let directory = tempfile::tempdir().unwrap();
        let (expected, store) = (directory.path().join("tree"), directory.path().join("repository"));
        fs::create_dir(&expected).unwrap();
        fixed_tree(&expected);
        if making() {
            restic(&store, &expected, &["init", "--repository-version", version]);
            restic(&store, &expected, &["backup", "--host", "golden", "."]);
            pack(&store, "repository", &name);
            fs::remove_dir_all(&store).unwrap();
        }
        unpack(&name, directory.path());
        let repository = Repository::open(Arc::new(LocalStore::new(&store)), &Secret::new(PASSWORD)).unwrap();
        let full = VerifyDepth::Data { percent: 100, seed: 0 };
        assert_eq!(repository.verify(full, &NoProgress).unwrap().damage, [""; 0]);
        let request = RestoreRequest {
            tree: repository.snapshots().unwrap()[0].tree,
            roots: vec![PathBuf::from("/")],
            only: Vec::new(),
            overwrite: false,
            privileged: is_root(),
        };
        let target = directory.path().join("restored");
        let summary = restore(&repository.reader().unwrap(), &request, &target, &NoProgress).unwrap();
        assert!(!is_root() || summary.missing_count == 0, "{:?}", summary.missing);
        assert_same(&expected, &target);
    }
}

fn restic(repository: &Path, tree: &Path, arguments: &[&str]) {
    let mut command = Command::new("restic");
    command.arg("--no-cache").arg("--repo").arg(repository).args(arguments).env("RESTIC_PASSWORD", PASSWORD);
    assert!(command.current_dir(tree).output().unwrap().status.success(), "restic {arguments:?}");
}

/// A repository that a later program made: refused before anything is done with it, naming the version.
#[test]
fn a_newer_format_is_refused_with_a_clear_text() {
    let (_, store) = Sample::make(1, 1);
    let repository = Repository::open(store.clone(), &password()).unwrap();
    let plain = fuzzing::open(&repository, store.bytes("config").to_vec()).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&plain).unwrap();
    config["version"] = 3.into();
    config["a_field_of_the_future"] = true.into();
    store.set("config", fuzzing::seal(&repository, config.to_string().as_bytes()).unwrap());
    let before = store.list("").unwrap();
    let Err(error) = Repository::open(store.clone(), &password()) else { panic!("it was opened") };
    assert!(matches!(error, RepositoryError::Unsupported(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("version 3") && text.contains("1 and 2"), "{text}");
    assert_eq!(store.list("").unwrap(), before, "nothing was touched");
    assert!(sample::verify(store).iter().any(|line| line.contains("version 3")));
}

/// The same through the program: wrong input, a sentence, and nothing written.
#[test]
fn the_program_leaves_a_repository_of_a_newer_format_alone() {
    let world = World::new();
    fs::write(world.primary().join("file"), "content").unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    let secret = fs::read_to_string(world.password_file()).unwrap();
    let store = LocalStore::new(world.dr().join("repository"));
    let repository = Repository::open(Arc::new(store.clone()), &Secret::new(secret.trim_end())).unwrap();
    let plain = fuzzing::open(&repository, store.get("config").unwrap()).unwrap();
    let newer = String::from_utf8(plain).unwrap().replace("\"version\":2", "\"version\":3");
    let sealed = fuzzing::seal(&repository, newer.as_bytes()).unwrap();
    store.put("config", &sealed, lifeboat::site::PutMode::Replace).unwrap();
    let before = common::files_below(&world.dr().join("repository"));
    for command in [&["backup", "home"][..], &["verify", "home"], &["restore", "home", "--to", "target"]] {
        let _ = world.run(command).expect(2).says(&["format version 3", "versions 1 and 2"]);
    }
    assert_eq!(common::files_below(&world.dr().join("repository")), before, "nothing was written");
}
