//! What changes, vanishes or cannot be read is named; what did not change is not read.

#![allow(clippy::disallowed_methods, reason = "tests set files' times against the machine's clock")]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};

use super::super::Earlier;
use super::fake::{FakeStore, Heard, earlier, files, logs, missing};
use crate::policy::SourceKind;

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Files of one directory, each with its name as content.
fn tree(names: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in names {
        fs::write(root.path().join(name), format!("content of {name}")).unwrap();
    }
    root
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_file_that_changes_once_is_read_again_and_whole() {
    let root = tree(&["a"]);
    let path = root.path().join("a");
    let store = FakeStore {
        disturbance: Some(Box::new(|number| {
            if number == 1 {
                fs::write(&path, "quite another content").unwrap();
            }
        })),
        ..FakeStore::default()
    };
    let captured = store.capture(&files(&[root.path()], &[]), None).unwrap();
    assert_eq!(missing(&captured), []);
    assert_eq!(store.content(&store.node(&captured, &path)), b"quite another content");
    assert_eq!(store.contents_read.load(Ordering::SeqCst), 2);
}

#[test]
fn a_file_that_never_holds_still_is_kept_and_named() {
    let root = tree(&["a", "b"]);
    let path = root.path().join("a");
    let store = FakeStore { disturbance: Some(Box::new(|_| append(&path, "more"))), ..FakeStore::default() };
    let captured = store.capture(&files(&[&path], &[]), None).unwrap();
    assert_eq!(store.contents_read.load(Ordering::SeqCst), 3);
    assert_eq!(missing(&captured), [(text(&path), "it changed while it was read, each of 3 times".to_owned())]);
    assert_eq!(store.content(&store.node(&captured, &path)), b"content of amoremore");
    assert_eq!(captured.missing_count, 1);
}

#[test]
fn a_file_that_shrinks_under_the_read_is_named_and_its_size_is_that_of_its_content() {
    let root = tree(&["a"]);
    let path = root.path().join("a");
    let lengths = AtomicUsize::new(12);
    let store = FakeStore {
        disturbance: Some(Box::new(|_| {
            let length = lengths.fetch_sub(2, Ordering::SeqCst) as u64;
            OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
        })),
        ..FakeStore::default()
    };
    let captured = store.capture(&files(&[root.path()], &[]), None).unwrap();
    assert_eq!(captured.missing_count, 1);
    assert_eq!(store.content(&store.node(&captured, &path)), b"content ");
}

#[test]
fn a_file_that_vanishes_between_listing_and_reading_is_named() {
    let root = tree(&["a", "b", "z"]);
    let last = root.path().join("z");
    let store = FakeStore {
        disturbance: Some(Box::new(|number| {
            if number == 1 {
                fs::remove_file(&last).unwrap();
            }
        })),
        ..FakeStore::default()
    };
    let captured = store.capture(&files(&[root.path()], &[]), None).unwrap();
    assert_eq!(missing(&captured), [(text(&last), "it vanished before it could be read".to_owned())]);
    assert_eq!(store.names(&captured, root.path()), ["a", "b"]);
}

#[test]
fn a_symlink_put_in_a_files_place_is_recorded_and_not_followed() {
    let root = tree(&["a", "z"]);
    let last = root.path().join("z");
    let store = FakeStore {
        disturbance: Some(Box::new(|number| {
            if number == 1 {
                fs::remove_file(&last).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", &last).unwrap();
            }
        })),
        ..FakeStore::default()
    };
    let captured = store.capture(&files(&[root.path()], &[]), None).unwrap();
    assert_eq!(store.node(&captured, &last).link_target.as_deref(), Some(&b"/etc/passwd"[..]));
    assert_eq!(store.contents_read.load(Ordering::SeqCst), 1);
}

#[test]
fn a_full_repository_ends_the_capture_and_is_not_taken_for_an_unreadable_file() {
    let root = tree(&["a", "b", "c", "d"]);
    for readers in [1, 4] {
        let store = FakeStore { full_from: Some(2), ..FakeStore::default() };
        let failure = store.capture_heard(&files(&[root.path()], &[]), None, &Heard::default(), readers).unwrap_err();
        assert!(failure.message.contains("the disk of the repository is full"), "{failure}");
    }
}

#[test]
fn what_may_not_be_read_is_named_and_the_rest_goes_on() {
    let root = tree(&["open", "secret"]);
    fs::create_dir(root.path().join("closed")).unwrap();
    fs::write(root.path().join("closed/inside"), "x").unwrap();
    for (name, mode) in [("secret", 0o000), ("closed", 0o000)] {
        fs::set_permissions(root.path().join(name), Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    let store = FakeStore::default();
    let kind = files(&[root.path()], &[]);
    let captured = as_nobody(|| store.capture(&kind, None)).unwrap();
    fs::set_permissions(root.path().join("closed"), Permissions::from_mode(0o755)).unwrap();
    let denied = "it cannot be opened: permission denied".to_owned();
    let mut named = missing(&captured);
    named.sort();
    assert_eq!(
        named,
        [(text(&root.path().join("closed")), denied.clone()), (text(&root.path().join("secret")), denied)]
    );
    assert_eq!(store.names(&captured, root.path()), ["closed", "open"]);
    assert_eq!(store.names(&captured, &root.path().join("closed")), [""; 0]);
}

/// Runs with the rights of an ordinary user: in a thread of its own, whose file system user alone changes.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if !rustix::process::geteuid().is_root() {
        return work();
    }
    std::thread::scope(|scope| {
        let body = move || {
            let nobody = rustix::fs::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            work()
        };
        scope.spawn(body).join().unwrap()
    })
}

#[test]
fn unchanged_files_are_not_read_and_still_counted() {
    let root = tree(&["a", "b"]);
    fs::write(root.path().join("empty"), "").unwrap();
    let kind = files(&[root.path()], &[]);
    let store = FakeStore::default();
    let first = store.capture(&kind, None).unwrap();
    assert_eq!(store.contents_read.load(Ordering::SeqCst), 2);
    let heard = Heard::default();
    let second = store.capture_heard(&kind, earlier(&first), &heard, 4).unwrap();
    assert_eq!(store.contents_read.load(Ordering::SeqCst), 2, "nothing is read");
    assert_eq!(store.node(&second, root.path()).subtree, store.node(&first, root.path()).subtree);
    assert_eq!((second.entries, second.bytes), (first.entries, first.bytes));
    assert_eq!(heard.bytes.into_inner(), first.bytes);
}

type Change = fn(&Path);

#[test]
fn any_change_makes_a_file_be_read_again() {
    let changes: [(&str, Change); 4] = [
        ("appended", |path| append(path, "x")),
        ("same size, time put back", |path| {
            let before = fs::metadata(path).unwrap().modified().unwrap();
            fs::write(path, "CONTENT OF a").unwrap();
            File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
        }),
        ("touched", |path| {
            let time = SystemTime::now() + Duration::from_secs(5);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }),
        ("replaced", |path| {
            let metadata = fs::metadata(path).unwrap();
            fs::write(path.with_extension("new"), "CONTENT OF a").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
            File::options().write(true).open(path).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
        }),
    ];
    for (name, change) in changes {
        let root = tree(&["a", "b"]);
        let kind = files(&[root.path()], &[]);
        let store = FakeStore::default();
        let first = store.capture(&kind, None).unwrap();
        // A change within the grain of the kernel's clock would leave the same ctime; that is the next test's matter.
        std::thread::sleep(Duration::from_millis(20));
        let path = root.path().join("a");
        change(&path);
        let second = store.capture(&kind, earlier(&first)).unwrap();
        assert_eq!(store.contents_read.load(Ordering::SeqCst), 3, "{name}");
        assert_eq!(store.content(&store.node(&second, &path)), fs::read(&path).unwrap(), "{name}");
    }
}

#[test]
fn a_file_as_young_as_the_earlier_backup_is_read_again() {
    let root = tree(&["a"]);
    let kind = files(&[root.path()], &[]);
    let store = FakeStore::default();
    let first = store.capture(&kind, None).unwrap();
    let changed = store.node(&first, &root.path().join("a")).changed;
    let reads_with = |began: Timestamp| {
        let before = store.contents_read.load(Ordering::SeqCst);
        store.capture(&kind, Some(Earlier { tree: first.tree, began, full_read: None })).unwrap();
        store.contents_read.load(Ordering::SeqCst) - before
    };
    assert_eq!(reads_with(changed), 1);
    assert_eq!(reads_with(changed + SignedDuration::from_millis(100)), 1);
    assert_eq!(reads_with(changed + SignedDuration::from_millis(101)), 0);
}

#[test]
fn content_that_is_no_longer_stored_is_read_again() {
    let root = tree(&["a"]);
    let kind = files(&[root.path()], &[]);
    let store = FakeStore::default();
    let first = store.capture(&kind, None).unwrap();
    store.forget_blobs();
    let second = store.capture(&kind, earlier(&first)).unwrap();
    assert_eq!(store.contents_read.load(Ordering::SeqCst), 2);
    assert_eq!(store.content(&store.node(&second, &root.path().join("a"))), b"content of a");
}

#[test]
fn a_damaged_earlier_point_costs_time_and_not_the_backup() {
    let root = tree(&["a"]);
    let store = FakeStore::default();
    let heard = Heard::default();
    let lost = Earlier { tree: crate::repository::BlobId([7; 32]), began: Timestamp::MAX, full_read: None };
    let captured = store.capture_heard(&files(&[root.path()], &[]), Some(lost), &heard, 1).unwrap();
    assert_eq!(missing(&captured), []);
    assert!(heard.warnings.into_inner().unwrap()[0].contains("no such tree"));
}

#[test]
fn a_source_that_became_empty_is_missed() {
    let root = tree(&["a"]);
    let kind = files(&[root.path()], &[]);
    let store = FakeStore::default();
    let first = store.capture(&kind, None).unwrap();
    fs::remove_file(root.path().join("a")).unwrap();
    let second = store.capture(&kind, earlier(&first)).unwrap();
    assert!(second.missing.len() == 1 && second.missing[0].reason.contains("is empty now"), "{:?}", second.missing);
}

#[test]
fn a_log_may_grow_while_it_is_read() {
    let root = tree(&["app.log"]);
    let path = root.path().join("app.log");
    let store = FakeStore { disturbance: Some(Box::new(|_| append(&path, "later line"))), ..FakeStore::default() };
    let captured = store.capture(&logs(&[format!("{}/*.log", root.path().display())]), None).unwrap();
    assert_eq!(missing(&captured), []);
    assert_eq!(store.contents_read.load(Ordering::SeqCst), 1);
    assert_eq!(store.content(&store.node(&captured, &path)), b"content of app.log");
}

#[test]
fn a_log_that_is_cut_while_it_is_read_is_read_again() {
    let root = tree(&["app.log"]);
    let path = root.path().join("app.log");
    let store = FakeStore {
        disturbance: Some(Box::new(|number| {
            if number == 1 {
                fs::write(&path, "new").unwrap();
            }
        })),
        ..FakeStore::default()
    };
    let captured = store.capture(&logs(&[text(&path)]), None).unwrap();
    assert_eq!(missing(&captured), []);
    assert_eq!(store.content(&store.node(&captured, &path)), b"new");
}

#[test]
fn an_image_adds_only_changed_blocks_and_is_named_when_it_changes_under_the_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("disk.img");
    let blocks: Vec<u8> = (0..5 * 1024 * 1024_u32).map(|index| (index >> 20) as u8 + 1).collect();
    fs::write(&path, &blocks).unwrap();
    let kind = SourceKind::Image { path: text(&path) };
    let mut store = FakeStore::default();
    let first = store.capture(&kind, None).unwrap();
    assert_eq!((store.blobs(), first.bytes, first.entries), (5, 5 * 1024 * 1024, 1));
    assert_eq!(first.roots, std::slice::from_ref(&path));
    let unchanged = store.capture(&kind, earlier(&first)).unwrap();
    assert_eq!(store.node(&unchanged, &path), store.node(&first, &path));
    assert_eq!(store.contents_read.load(Ordering::SeqCst), 1);
    store.disturbance = Some(Box::new(|_| {
        File::options().write(true).open(&path).unwrap().write_at(b"new", 3 * 1024 * 1024 + 5).unwrap();
    }));
    std::thread::sleep(Duration::from_millis(20));
    let second = store.capture(&kind, None).unwrap();
    assert_eq!(store.blobs(), 6);
    assert_eq!(second.missing_count, 1);
    assert!(second.missing[0].reason.starts_with("it changed while it was read"));
}
