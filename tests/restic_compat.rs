//! Our repositories against restic's own program, in both directions, and every kind of damage against verification.

#![allow(clippy::disallowed_methods, reason = "locks are dated by the machine's clock")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use jiff::Timestamp;
use lifeboat::ground::{NoProgress, Secret};
use lifeboat::repository::{
    BlobId, BlobReader, BlobWriter, Chunking, KeyStrength, Node, NodeKind, Repository, RepositoryError, Snapshot,
    VerifyDepth, VerifyReport,
};
use lifeboat::site::local::LocalStore;

const PASSWORD: &str = "correct horse battery staple";
const ALL: VerifyDepth = VerifyDepth::Data { percent: 100, seed: 1 };

/// Runs restic and returns its output; fails the test when it fails.
fn restic(repository: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("restic");
    command.arg("-r").arg(repository).args(arguments);
    command
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("TZ", "UTC")
        .env("RESTIC_CACHE_DIR", repository.with_extension("cache"));
    let output = command.output().expect("restic is not installed: run ./scripts/test, which installs it");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "restic {arguments:?} failed: {text}");
    text
}

fn password() -> Secret {
    Secret::new(PASSWORD)
}

fn create(directory: &Path) -> Repository {
    Repository::create(Arc::new(LocalStore::new(directory)), &password(), KeyStrength::Random).unwrap()
}

fn open(directory: &Path) -> Result<Repository, RepositoryError> {
    Repository::open(Arc::new(LocalStore::new(directory)), &password())
}

/// Bytes that neither compress nor repeat, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// An entry of a tree on disk, as far as both programs keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Directory(u32),
    File(u32, Vec<u8>),
    Symlink(PathBuf),
}

fn scan(root: &Path) -> BTreeMap<PathBuf, Entry> {
    use std::os::unix::fs::PermissionsExt;
    let (mut found, mut ahead) = (BTreeMap::new(), vec![root.to_path_buf()]);
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            let entry = if metadata.is_dir() {
                ahead.push(path.clone());
                Entry::Directory(mode)
            } else if metadata.is_symlink() {
                Entry::Symlink(fs::read_link(&path).unwrap())
            } else {
                Entry::File(mode, fs::read(&path).unwrap())
            };
            found.insert(path.strip_prefix(root).unwrap().to_path_buf(), entry);
        }
    }
    found
}

/// A tree with what is awkward: odd names, empty and large files, links, set-id bits.
fn make_sample(root: &Path, large: usize) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let odd = std::ffi::OsString::from_vec(b"odd \xff\xfe \"q\" \\ <&> \n.txt".to_vec());
    fs::create_dir_all(root.join("a/deep/er")).unwrap();
    fs::create_dir_all(root.join("empty directory")).unwrap();
    fs::write(root.join("a").join(odd), "odd").unwrap();
    fs::write(root.join("a/empty"), "").unwrap();
    fs::write(root.join("a/deep/crème brûlée"), "é".repeat(5000)).unwrap();
    fs::write(root.join("a/deep/er/zeros"), vec![0; 9 << 20]).unwrap();
    fs::write(root.join("large"), noise(5, large)).unwrap();
    fs::write(root.join("log"), b"INFO request served in 3 ms\n".repeat(200_000)).unwrap();
    symlink("../a/empty", root.join("a/link")).unwrap();
    symlink("/nowhere", root.join("dangling")).unwrap();
    fs::write(root.join("set-id"), "x").unwrap();
    fs::set_permissions(root.join("set-id"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(root.join("empty directory"), fs::Permissions::from_mode(0o1770)).unwrap();
}

/// Stores a directory the plain way, as the capturing room does with more care.
fn store_directory(writer: &BlobWriter, directory: &Path, chunking: Chunking) -> BlobId {
    use std::os::unix::fs::MetadataExt;
    let mut nodes = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let time = |seconds, nanoseconds: i64| Timestamp::new(seconds, nanoseconds as i32).unwrap();
        let mut node = Node {
            name: path.file_name().unwrap().as_bytes().to_vec(),
            kind: NodeKind::File,
            mode: metadata.mode() & 0o7777,
            modified: time(metadata.mtime(), metadata.mtime_nsec()),
            accessed: time(metadata.atime(), metadata.atime_nsec()),
            changed: time(metadata.ctime(), metadata.ctime_nsec()),
            uid: metadata.uid(),
            gid: metadata.gid(),
            user: "root".to_owned(),
            group: "root".to_owned(),
            inode: metadata.ino(),
            device_id: metadata.dev(),
            size: 0,
            links: metadata.nlink(),
            link_target: None,
            device: 0,
            xattrs: Vec::new(),
            content: Vec::new(),
            subtree: None,
        };
        if metadata.is_dir() {
            node.kind = NodeKind::Directory;
            node.subtree = Some(store_directory(writer, &path, chunking));
        } else if metadata.is_symlink() {
            node.kind = NodeKind::Symlink;
            node.link_target = Some(fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec());
        } else {
            let stored = writer.store_content(&mut fs::File::open(&path).unwrap(), chunking).unwrap();
            assert_eq!(stored.bytes, metadata.len());
            (node.content, node.size) = (stored.blobs, stored.bytes);
        }
        nodes.push(node);
    }
    writer.store_tree(nodes).unwrap()
}

fn back_up(repository: &Repository, root: &Path, chunking: Chunking) -> String {
    let writer = repository.writer(Arc::new(NoProgress)).unwrap();
    let tree = store_directory(&writer, root, chunking);
    writer.finish().unwrap();
    let snapshot = Snapshot {
        id: String::new(),
        time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        tree,
        paths: vec!["/sample".to_owned()],
        hostname: "host".to_owned(),
        username: "user".to_owned(),
        uid: 0,
        gid: 0,
        tags: vec!["a".to_owned()],
        parent: None,
    };
    repository.save_snapshot(&snapshot).unwrap()
}

/// What a stored tree holds, read blob by blob through [`BlobReader::read_many`].
fn read_back(reader: &BlobReader, tree: &BlobId, at: &Path, found: &mut BTreeMap<PathBuf, Entry>) {
    for node in reader.read_tree(tree).unwrap() {
        let path = at.join(std::ffi::OsStr::from_bytes(&node.name));
        let entry = match node.kind {
            NodeKind::Directory => {
                read_back(reader, &node.subtree.unwrap(), &path, found);
                Entry::Directory(node.mode)
            }
            NodeKind::Symlink => Entry::Symlink(std::ffi::OsString::from_vec(node.link_target.unwrap()).into()),
            NodeKind::File => Entry::File(node.mode, read_content(reader, &node.content)),
            other => panic!("{other:?} is not in the sample"),
        };
        found.insert(path, entry);
    }
}

fn read_content(reader: &BlobReader, blobs: &[BlobId]) -> Vec<u8> {
    let parts = std::sync::Mutex::new(vec![None; blobs.len()]);
    reader.read_many(blobs, &|position, plain| {
        let earlier = parts.lock().unwrap()[position].replace(plain.unwrap().to_vec());
        assert!(earlier.is_none(), "each position once");
        true
    });
    parts.into_inner().unwrap().into_iter().flat_map(|part| part.expect("every position")).collect()
}

fn tree_of(repository: &Repository, tree: &BlobId) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    read_back(&repository.reader().unwrap(), tree, Path::new(""), &mut found);
    found
}

fn assert_sound(report: &VerifyReport) {
    assert_eq!(report.damage, Vec::<String>::new());
}

#[test]
fn restic_checks_and_restores_what_we_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let (sample, place, target) =
        (directory.path().join("sample"), directory.path().join("repository"), directory.path().join("target"));
    make_sample(&sample, 21 << 20);
    let repository = create(&place);
    let first = back_up(&repository, &sample, Chunking::Content);
    fs::write(sample.join("added"), noise(9, 3 << 20)).unwrap();
    let second = back_up(&repository, &sample, Chunking::Fixed(1 << 20));
    let checked = restic(&place, &["check", "--read-data"]);
    assert!(checked.contains("no errors were found"), "{checked}");
    for id in [&first, &second] {
        let target = target.join(id);
        restic(&place, &["restore", id, "--target", target.to_str().unwrap()]);
        let mut expected = scan(&sample);
        if id == &first {
            expected.remove(Path::new("added"));
        }
        assert!(scan(&target) == expected, "restic restored something else from {id}");
    }
    assert!(tree_of(&repository, &repository.snapshot(&first).unwrap().tree).len() > 10);
    assert_sound(&repository.verify(ALL, &NoProgress).unwrap());
    assert_eq!(fs::read_dir(place.join("locks")).unwrap().count(), 0);
}

#[test]
fn we_read_what_restic_wrote_and_add_to_it() {
    for version in ["1", "2"] {
        let directory = tempfile::tempdir().unwrap();
        let (sample, place) = (directory.path().join("sample"), directory.path().join("repository"));
        make_sample(&sample, 3 << 20);
        restic(&place, &["init", "--repository-version", version]);
        restic(&place, &["backup", "--host", "h", sample.to_str().unwrap()]);
        fs::write(sample.join("added"), "later").unwrap();
        restic(&place, &["backup", "--host", "h", "--tag", "t", sample.to_str().unwrap()]);
        let repository = open(&place).unwrap();
        let snapshots = repository.snapshots().unwrap();
        assert_eq!(snapshots.len(), 2);
        assert_eq!((snapshots[1].tags.clone(), snapshots[1].hostname.as_str()), (vec!["t".to_owned()], "h"));
        assert_eq!(snapshots[1].parent.as_ref(), Some(&snapshots[0].id));
        let inside = sample.strip_prefix("/").unwrap();
        let stored: BTreeMap<_, _> = tree_of(&repository, &snapshots[1].tree)
            .into_iter()
            .filter_map(|(path, entry)| Some((path.strip_prefix(inside).ok()?.to_path_buf(), entry)))
            .filter(|(path, _)| !path.as_os_str().is_empty())
            .collect();
        assert!(stored == scan(&sample), "we read something else than restic stored (version {version})");
        let report = repository.verify(ALL, &NoProgress).unwrap();
        assert_sound(&report);
        assert_eq!((report.snapshots, report.packs_read), (2, report.packs));
        back_up(&repository, &sample, Chunking::Content);
        restic(&place, &["prune"]);
        restic(&place, &["check", "--read-data"]);
        assert_sound(&open(&place).unwrap().verify(ALL, &NoProgress).unwrap());
    }
}

#[test]
fn a_tree_of_ours_equals_the_one_restic_makes_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let (sample, place) = (directory.path().join("sample"), directory.path().join("repository"));
    make_sample(&sample, 3 << 20);
    restic(&place, &["init", "--repository-version", "2"]);
    restic(&place, &["backup", sample.to_str().unwrap()]);
    let repository = open(&place).unwrap();
    let reader = repository.reader().unwrap();
    let writer = repository.writer(Arc::new(NoProgress)).unwrap();
    let mut ahead = vec![repository.snapshots().unwrap()[0].tree];
    while let Some(id) = ahead.pop() {
        let nodes = reader.read_tree(&id).unwrap();
        ahead.extend(nodes.iter().filter_map(|node| node.subtree));
        assert!(writer.store_tree(nodes).unwrap() == id, "the same directory gave another blob");
    }
    assert_eq!(writer.finish().unwrap().new_blobs, 0);
}

#[test]
fn both_passwords_of_a_repository_open_it() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("repository");
    let repository = create(&place);
    let second = directory.path().join("second");
    fs::write(&second, "another\n").unwrap();
    restic(&place, &["key", "add", "--new-password-file", second.to_str().unwrap()]);
    let store = Arc::new(LocalStore::new(&place));
    assert_eq!(Repository::open(store.clone(), &Secret::new("another")).unwrap().id(), repository.id());
    assert_eq!(open(&place).unwrap().id(), repository.id());
    assert!(matches!(Repository::open(store, &Secret::new("wrong")), Err(RepositoryError::WrongPassword(_))));
}

#[test]
fn each_side_honours_the_locks_of_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("repository");
    let repository = create(&place);
    let now = Timestamp::now();
    let guard = repository.lock_shared(now).unwrap();
    assert!(restic(&place, &["list", "locks", "--no-lock"]).len() >= 64);
    assert!(matches!(repository.lock_exclusive(now), Err(RepositoryError::Locked(_))));
    let second = repository.lock_shared(now).unwrap();
    drop((guard, second));
    let exclusive = repository.lock_exclusive(now).unwrap();
    let Err(RepositoryError::Locked(who)) = repository.lock_shared(now) else { panic!("must be locked") };
    assert!(who.contains(&std::process::id().to_string()), "{who}");
    drop(exclusive);
    assert_eq!(fs::read_dir(place.join("locks")).unwrap().count(), 0);
    restic(&place, &["check"]);
}

/// All files of a repository below a directory of it.
fn objects(place: &Path, kind: &str) -> Vec<PathBuf> {
    let root = place.join(kind);
    if root.is_file() {
        return vec![root];
    }
    scan(&root)
        .into_iter()
        .filter(|(_, entry)| matches!(entry, Entry::File(..)))
        .map(|(path, _)| root.join(path))
        .collect()
}

/// True when opening or verifying finds fault.
fn is_detected(place: &Path) -> bool {
    match open(place) {
        Ok(repository) => !repository.verify(ALL, &NoProgress).unwrap().damage.is_empty(),
        Err(RepositoryError::Damaged(_) | RepositoryError::NotARepository(_)) => true,
        Err(error) => panic!("an altered repository is damaged, not: {error}"),
    }
}

fn small_repository(place: &Path) -> Repository {
    let sample = place.with_extension("sample");
    fs::create_dir_all(sample.join("inner")).unwrap();
    fs::write(sample.join("inner/one"), noise(1, 5000)).unwrap();
    fs::write(sample.join("two"), "two ".repeat(1000)).unwrap();
    let repository = create(place);
    back_up(&repository, &sample, Chunking::Content);
    repository
}

#[test]
fn every_damage_to_every_kind_of_object_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("repository");
    let repository = small_repository(&place);
    std::mem::forget(repository.lock_shared(Timestamp::now()).unwrap());
    assert!(!is_detected(&place));
    for kind in ["config", "keys", "index", "snapshots", "data", "locks"] {
        let found = objects(&place, kind);
        assert!(!found.is_empty(), "{kind}");
        for path in found {
            let whole = fs::read(&path).unwrap();
            for at in (0..whole.len()).step_by(whole.len().div_ceil(12)).chain([whole.len() - 1]) {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << (at % 8);
                fs::write(&path, flipped).unwrap();
                assert!(is_detected(&place), "byte {at} of {kind}");
            }
            for length in [0, 1, whole.len() / 2, whole.len() - 1] {
                fs::write(&path, &whole[..length]).unwrap();
                assert!(is_detected(&place), "{kind} cut to {length}");
            }
            fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
            assert!(is_detected(&place), "{kind} made longer");
            fs::remove_file(&path).unwrap();
            match kind {
                // The format keeps no record of these; see docs/repository.md.
                "locks" => {}
                "snapshots" => assert!(open(&place).unwrap().snapshots().unwrap().is_empty()),
                _ => assert!(is_detected(&place), "{kind} deleted"),
            }
            fs::write(&path, &whole).unwrap();
        }
    }
    assert!(!is_detected(&place));
}

#[test]
fn damage_names_the_files_that_are_lost() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("repository");
    let repository = small_repository(&place);
    for path in objects(&place, "data") {
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let structure = repository.verify(VerifyDepth::Structure, &NoProgress).unwrap().damage.join("\n");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(structure.contains(name) && structure.contains("is missing"), "{structure}");
        let mut flipped = whole.clone();
        flipped[40] ^= 1;
        fs::write(&path, &flipped).unwrap();
        let data = repository.verify(ALL, &NoProgress).unwrap().damage.join("\n");
        assert!(data.contains(name) && data.contains(" of snapshot "), "{data}");
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_restore_works_without_a_sound_index_and_a_backup_heals_it() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("repository");
    let repository = small_repository(&place);
    let tree = repository.snapshots().unwrap()[0].tree;
    let before = tree_of(&repository, &tree);
    for path in objects(&place, "index") {
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    assert!(tree_of(&repository, &tree) == before);
    back_up(&repository, &place.with_extension("sample"), Chunking::Content);
    objects(&place, "index")
        .iter()
        .filter(|path| !is_named_by_hash(path))
        .for_each(|path| fs::remove_file(path).unwrap());
    assert_sound(&repository.verify(ALL, &NoProgress).unwrap());
    assert!(tree_of(&repository, &tree) == before);
}

fn is_named_by_hash(path: &Path) -> bool {
    BlobId::of(&fs::read(path).unwrap()).to_string() == path.file_name().unwrap().to_str().unwrap()
}
