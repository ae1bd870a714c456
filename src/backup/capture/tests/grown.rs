//! Logs that grow, rotate, shrink and are rewritten: stored exactly, and read only where they are new.

#![allow(clippy::disallowed_methods, reason = "tests need the machine's clock, as runs do, and set files' times")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use proptest::prelude::*;

use super::super::{Captured, Earlier};
use super::fake::{FakeStore, Heard, logs, missing};
use crate::policy::SourceKind;

/// What the store in memory cuts content into.
const BLOB: usize = 100_000;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A directory of logs, backed up as a machine does it: each run begins now and knows the one before.
struct Logs<'a> {
    root: tempfile::TempDir,
    store: FakeStore<'a>,
    last: Option<Earlier>,
}

impl Logs<'_> {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), store: FakeStore::default(), last: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    fn append(&self, name: &str, content: &[u8]) {
        OpenOptions::new().append(true).open(self.path(name)).unwrap().write_all(content).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn kind(&self) -> SourceKind {
        logs(&[format!("{}/**/*.log*", self.root.path().display())])
    }

    fn back_up(&mut self) -> Captured {
        self.back_up_with(false)
    }

    /// Holds every file against what the point has of it.
    fn back_up_with(&mut self, reads_whole: bool) -> Captured {
        let began = Timestamp::now();
        let (kind, earlier) = (self.kind(), self.last);
        let captured = self.store.capture_logs(&kind, earlier, reads_whole).unwrap();
        assert_eq!(missing(&captured), []);
        for name in self.store.names(&captured, self.root.path()) {
            let path = self.path(&name);
            if path.is_file() {
                let stored = self.store.content(&self.store.node(&captured, &path));
                assert!(stored == fs::read(&path).unwrap(), "{name} differs");
            }
        }
        self.last = Some(Earlier { tree: captured.tree, began, full_read: Some(began) });
        captured
    }
}

#[test]
fn what_was_appended_is_read_and_cut_as_a_whole_read_cuts_it() {
    let mut logs = Logs::new();
    logs.write("app.log", &noise(1, 30 * BLOB + 77_777));
    assert_eq!(logs.back_up().read_bytes, 3_077_777);
    logs.append("app.log", &noise(2, 55_555));
    let second = logs.back_up();
    // The first and the last blob compared, then the last blob and what is new.
    assert_eq!(second.read_bytes, 100_000 + 77_777 + 77_777 + 55_555);
    let node = logs.store.node(&second, &logs.path("app.log"));
    logs.last = None;
    let whole = logs.back_up();
    assert_eq!(logs.store.node(&whole, &logs.path("app.log")).content, node.content);
}

#[test]
fn a_short_last_blob_is_not_trusted_without_the_one_before() {
    let mut logs = Logs::new();
    logs.write("app.log", &[noise(1, 5 * BLOB), b"\n".to_vec()].concat());
    logs.back_up();
    let path = logs.path("app.log");
    // Only the blob before the last newline is another one now, and the file grew.
    File::options().write(true).open(&path).unwrap().write_all_at(b"other", 4 * BLOB as u64 + 10).unwrap();
    logs.append("app.log", &noise(2, 1_000));
    logs.back_up();
}

#[test]
fn a_renamed_log_costs_the_comparison_of_its_ends() {
    let mut logs = Logs::new();
    logs.write("app.log", &noise(1, 20 * BLOB));
    logs.write("app.log.1", &noise(2, 20 * BLOB));
    logs.back_up();
    logs.rename("app.log.1", "app.log.2");
    logs.rename("app.log", "app.log.1");
    logs.write("app.log", b"fresh\n");
    assert_eq!(logs.back_up().read_bytes, 4 * BLOB as u64 + 6);
    // Into another directory, after some more lines.
    fs::create_dir(logs.path("old")).unwrap();
    logs.append("app.log.2", b"late\n");
    logs.rename("app.log.2", "old/app.log.2");
    // `app.log` is read again and the ends of `app.log.1` are compared: both are as young as the point before.
    assert_eq!(logs.back_up().read_bytes, 6 + 2 * BLOB as u64 + 3 * BLOB as u64 + 5);
}

#[test]
fn another_file_with_the_same_inode_is_read_whole() {
    let mut logs = Logs::new();
    logs.write("app.log", &noise(1, 8 * BLOB + 5));
    logs.back_up();
    // As a file system does that gives the inode to the next file at once.
    let inode = fs::metadata(logs.path("app.log")).unwrap().ino();
    logs.write("app.log", &noise(3, 9 * BLOB));
    assert_eq!(fs::metadata(logs.path("app.log")).unwrap().ino(), inode);
    assert!(logs.back_up().read_bytes >= 9 * BLOB as u64);
}

#[test]
fn a_change_in_the_first_blob_is_seen_though_the_last_is_as_it_was() {
    let mut logs = Logs::new();
    logs.write("app.log", &noise(1, 8 * BLOB + 70_000));
    logs.back_up();
    File::options().write(true).open(logs.path("app.log")).unwrap().write_all_at(b"other", 50).unwrap();
    logs.append("app.log", b"more\n");
    logs.back_up();
}

#[test]
fn a_size_and_time_set_back_do_not_hide_a_change_in_place() {
    let mut logs = Logs::new();
    logs.write("app.log", &noise(1, 8 * BLOB));
    logs.back_up();
    let path = logs.path("app.log");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    file.write_all_at(b"other", 4 * BLOB as u64).unwrap();
    file.set_modified(modified).unwrap();
    logs.back_up();
}

#[test]
fn content_that_is_no_longer_stored_is_read_again_whole() {
    let mut logs = Logs::new();
    logs.write("app.log", &noise(1, 8 * BLOB));
    logs.back_up();
    logs.store.forget_blobs();
    logs.append("app.log", b"more\n");
    logs.back_up();
}

#[test]
fn a_log_cut_while_its_new_part_is_read_is_read_again_whole() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("app.log");
    fs::write(&path, noise(1, 8 * BLOB)).unwrap();
    let kind = logs(&[path.to_str().unwrap().to_owned()]);
    let mut store = FakeStore::default();
    let first = store.capture(&kind, None).unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more\n").unwrap();
    let cut = path.clone();
    store.disturbance = Some(Box::new(move |number| {
        if number == 2 {
            fs::write(&cut, "new").unwrap();
        }
    }));
    let earlier = Earlier { tree: first.tree, began: Timestamp::now(), full_read: Some(Timestamp::now()) };
    let second = store.capture(&kind, Some(earlier)).unwrap();
    assert_eq!(missing(&second), []);
    assert_eq!(store.content(&store.node(&second, &path)), b"new");
    assert_eq!(store.contents_read.load(Ordering::SeqCst), 3);
}

/// Changes a log between its first and its last blob and lets it grow: the one thing that its ends do not tell.
fn change_in_the_middle(logs: &Logs<'_>) {
    let file = File::options().write(true).open(logs.path("app.log")).unwrap();
    file.write_all_at(b"other", 4 * BLOB as u64 + 3).unwrap();
    logs.append("app.log", b"more\n");
}

#[test]
fn a_full_read_names_what_the_shortcut_kept_wrongly_and_keeps_it_right() {
    let mut logs = Logs::new();
    logs.write("app.log", &noise(1, 8 * BLOB + 70_000));
    logs.write("other.log", &noise(2, 8 * BLOB + 70_000));
    logs.back_up();
    change_in_the_middle(&logs);
    let kind = logs.kind();
    let trusted = logs.store.capture_logs(&kind, logs.last, false).unwrap();
    let path = logs.path("app.log");
    assert!(logs.store.content(&logs.store.node(&trusted, &path)) != fs::read(&path).unwrap(), "the ends tell it now");
    logs.last = Some(Earlier { tree: trusted.tree, began: Timestamp::now(), full_read: Some(Timestamp::now()) });
    let full = logs.back_up_with(true);
    assert_eq!(full.rewritten_count, 1, "{:?}", full.rewritten);
    assert_eq!(full.rewritten[0].path, path.to_str().unwrap());
    assert!(full.rewritten[0].reason.contains("from byte 400000 on"), "{}", full.rewritten[0].reason);
    assert_eq!(logs.back_up_with(true).rewritten_count, 0);
}

#[test]
fn a_full_read_sees_through_times_that_lie() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("app.log");
    fs::write(&path, noise(1, 3 * BLOB)).unwrap();
    let kind = logs(&[path.to_str().unwrap().to_owned()]);
    let store = FakeStore::default();
    let first = store.capture(&kind, None).unwrap();
    // As when a disk gives back other bytes than were written: nothing about the file's times tells.
    let mut node = store.node(&first, &path);
    node.content[1] = node.content[2];
    let tree = store.replace(&first, &path, node);
    let earlier = Some(Earlier { tree, began: Timestamp::MAX, full_read: Some(Timestamp::MAX) });
    assert_eq!(store.capture_logs(&kind, earlier, false).unwrap().read_bytes, 0);
    let full = store.capture_logs(&kind, earlier, true).unwrap();
    assert_eq!(full.rewritten_count, 1);
    assert!(store.content(&store.node(&full, &path)) == fs::read(&path).unwrap());
}

#[test]
fn another_cut_of_the_same_bytes_is_no_difference() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("app.log");
    let content = noise(1, 3 * BLOB);
    fs::write(&path, &content).unwrap();
    let kind = logs(&[path.to_str().unwrap().to_owned()]);
    let store = FakeStore::default();
    let first = store.capture(&kind, None).unwrap();
    let mut node = store.node(&first, &path);
    node.content = content.chunks(70_000).map(|chunk| store.keep(chunk)).collect();
    let tree = store.replace(&first, &path, node);
    let earlier = Some(Earlier { tree, began: Timestamp::now(), full_read: Some(Timestamp::now()) });
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more\n").unwrap();
    let full = store.capture_logs(&kind, earlier, true).unwrap();
    assert_eq!(full.rewritten, []);
}

#[test]
fn unchanged_logs_look_nothing_up() {
    let mut logs = Logs::new();
    logs.write("app.log", &noise(1, 3 * BLOB));
    logs.back_up();
    let (kind, heard) = (logs.kind(), Heard::default());
    let earlier = Earlier { began: Timestamp::MAX, ..logs.last.unwrap() };
    let second = logs.store.capture_heard(&kind, Some(earlier), &heard, 1).unwrap();
    assert_eq!(second.read_bytes, 0);
    assert_eq!(heard.bytes.load(Ordering::SeqCst), 3 * BLOB as u64, "progress counts what is kept");
}

/// What happens to logs between two backups.
#[derive(Debug, Clone)]
enum Event {
    Append(usize),
    Rotate,
    CopyTruncate,
    Truncate(usize),
    Rewrite(usize),
    RewriteInPlace(bool),
    Replace(usize),
    Touch,
    BackUp,
    FullRead,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1..4 * BLOB).prop_map(Event::Append),
        2 => Just(Event::Rotate),
        1 => Just(Event::CopyTruncate),
        1 => (0..100_usize).prop_map(Event::Truncate),
        1 => (0..5 * BLOB).prop_map(Event::Rewrite),
        1 => any::<bool>().prop_map(Event::RewriteInPlace),
        1 => (0..5 * BLOB).prop_map(Event::Replace),
        1 => Just(Event::Touch),
        5 => Just(Event::BackUp),
        1 => Just(Event::FullRead),
    ]
}

fn happen(logs: &mut Logs<'_>, seed: u64, event: &Event) {
    let path = logs.path("app.log");
    let size = fs::metadata(&path).unwrap().len();
    let open = || File::options().write(true).open(&path).unwrap();
    match event {
        Event::Append(length) => logs.append("app.log", &noise(seed, *length)),
        Event::Rotate => {
            for (from, to) in [("app.log.2", "app.log.3"), ("app.log.1", "app.log.2"), ("app.log", "app.log.1")] {
                if logs.path(from).exists() {
                    logs.rename(from, to);
                }
            }
            logs.write("app.log", b"");
        }
        Event::CopyTruncate => {
            fs::copy(&path, logs.path("app.log.1")).unwrap();
            open().set_len(0).unwrap();
        }
        Event::Truncate(percent) => open().set_len(size * *percent as u64 / 100).unwrap(),
        Event::Rewrite(length) => logs.write("app.log", &noise(seed, *length)),
        // At an end of it: what is changed in its middle and then grows is found by the full read alone.
        Event::RewriteInPlace(at_begin) if size > 0 => {
            let at = if *at_begin { 0 } else { size - 1 };
            open().write_all_at(&noise(seed, 1), at).unwrap();
        }
        Event::RewriteInPlace(_) => {}
        Event::Replace(length) => {
            fs::remove_file(&path).unwrap();
            logs.write("app.log", &noise(seed, *length));
        }
        Event::Touch => open().set_modified(std::time::SystemTime::now()).unwrap(),
        Event::BackUp => drop(logs.back_up()),
        Event::FullRead => {
            let full = logs.back_up_with(true);
            assert_eq!(full.rewritten, []);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_to_logs_each_point_holds_what_was_there(events in prop::collection::vec(event(), 1..30)) {
        let mut logs = Logs::new();
        logs.write("app.log", &noise(99, 3 * BLOB));
        for (seed, event) in (0_u64..).zip(&events) {
            happen(&mut logs, seed, event);
        }
        logs.back_up();
    }
}
