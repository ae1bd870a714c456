//! Depth, holes, repetition, races, and targets that are full or read-only.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;

use rustix::fs::{Mode, OFlags};

use super::*;
use crate::recovery::restore::target::{Directories, Resolver};

const DEPTH: usize = 10_000;

/// A chain of directories with one file at the bottom: far longer than any path the kernel takes.
fn chain(fake: &mut Fake, depth: usize) -> Vec<Node> {
    let mut nodes = vec![fake.file("at-the-bottom", &[b"deep"])];
    for level in (0..depth).rev() {
        nodes = vec![Node { mode: 0o700 + (level as u32 % 8), ..fake.directory(format!("level-{level}"), nodes) }];
    }
    nodes
}

fn open(at: impl std::os::fd::AsFd, name: &str) -> OwnedFd {
    rustix::fs::openat(at, name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()).unwrap()
}

#[test]
fn ten_thousand_directories_deep_with_few_descriptors_and_little_stack() {
    let name = "limits::ten_thousand_directories_deep_with_few_descriptors_and_little_stack";
    if !in_child(name, &["sh", "-c", "ulimit -n 200; exec \"$@\"", "sh"]) {
        return;
    }
    let little_stack = std::thread::Builder::new().stack_size(256 * 1024);
    little_stack.spawn(restore_deep).unwrap().join().unwrap();
}

fn restore_deep() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let nodes = chain(&mut fake, DEPTH);
    let request = fake.shop(nodes.clone());
    let summary = run(&fake, &request, &sandbox.target()).unwrap();
    assert_eq!(summary.missing, Vec::new());
    assert_eq!(summary.entries, DEPTH as u64 + 2);
    let mut at = open(rustix::fs::CWD, sandbox.target().to_str().unwrap());
    for level in 0..DEPTH {
        at = open(&at, &format!("level-{level}"));
        let stat = rustix::fs::fstat(&at).unwrap();
        assert_eq!(stat.st_mode & 0o7777, 0o700 + (level as u32 % 8));
        assert_eq!(i128::from(stat.st_mtime), i128::from(nodes[0].modified.as_second()), "level {level}");
    }
    let bottom = fs::File::from(open(&at, "at-the-bottom"));
    assert_eq!(std::io::read_to_string(bottom).unwrap(), "deep");
}

#[test]
fn a_tree_deeper_than_any_real_one_is_cut_and_named() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let nodes = chain(&mut fake, 20_010);
    let request = fake.shop(nodes);
    let summary = run(&fake, &request, &sandbox.target()).unwrap();
    assert_eq!(summary.missing_count, 1);
    assert!(summary.missing[0].reason.contains("deeper than any real tree"));
}

#[test]
fn directories_open_without_openat2_and_follow_no_link() {
    for resolver in [Resolver::Beneath, Resolver::ByComponent] {
        let sandbox = Sandbox::new();
        fs::create_dir_all(sandbox.path().join("outside")).unwrap();
        let root = open(rustix::fs::CWD, sandbox.path().to_str().unwrap());
        let mut directories = Directories::new(root, resolver, 2).unwrap();
        let name = |text: &str| crate::recovery::restore::name::EntryName::new(text.as_bytes()).unwrap();
        let mut last = 0;
        for level in 0..100 {
            last = directories.make(last, name(&format!("level-{level}")), false).ok().unwrap().id;
        }
        directories.open(last).unwrap();
        fs::rename(sandbox.path().join("level-0/level-1"), sandbox.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../elsewhere", sandbox.path().join("level-0/level-1")).unwrap();
        assert!(directories.open(40).is_err(), "{resolver:?} followed a link within the target");
    }
}

#[test]
fn holes_are_holes_and_shared_blobs_are_fetched_once() {
    let sandbox = Sandbox::on_disk();
    let mut fake = Fake::default();
    let zeros = vec![0; 4 << 20];
    let nodes = vec![
        fake.file("mostly-holes", &[&zeros, b"island", &zeros, &zeros]),
        fake.file("same-blobs", &[&zeros, &zeros, &zeros, &zeros]),
    ];
    let request = fake.shop(nodes.clone());
    let summary = run(&fake, &request, &sandbox.target()).unwrap();
    assert_exact(&fake, &sandbox.target(), &nodes);
    assert_eq!(summary.bytes, 7 * (4 << 20) + 6);
    assert_eq!(fake.delivered.load(Ordering::Relaxed), 2, "two different blobs in seven places");
    for name in ["mostly-holes", "same-blobs"] {
        let metadata = fs::metadata(sandbox.target().join(name)).unwrap();
        assert!(metadata.blocks() * 512 < 64 * 1024, "{name} takes {} blocks", metadata.blocks());
    }
}

#[test]
fn thousands_of_files_go_through_several_batches() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let mut directories = Vec::new();
    for number in 0..50 {
        let files =
            (0..100u32).map(|file| fake.file(format!("{file:03}"), &[&file.to_le_bytes(), b"-", &[number]])).collect();
        directories.push(fake.directory(format!("{number:03}"), files));
    }
    let request = fake.shop(directories.clone());
    let summary = run(&fake, &request, &sandbox.target()).unwrap();
    assert_eq!((summary.entries, summary.missing_count), (5_051, 0));
    assert_exact(&fake, &sandbox.target(), &directories);
}

/// Swaps a directory of the target for a symlink and back while restores run.
fn swap_until(stop: &AtomicBool, target: &Path, outside: &Path) {
    let (real, aside) = (target.join("a"), target.join("aside"));
    while !stop.load(Ordering::Relaxed) {
        if fs::rename(&real, &aside).is_ok() {
            let _ = std::os::unix::fs::symlink(outside, &real);
            std::thread::yield_now();
            let _ = fs::remove_file(&real);
            let _ = fs::rename(&aside, &real);
        } else {
            let _ = fs::remove_dir_all(&aside);
        }
    }
}

#[test]
fn a_target_swapped_for_a_symlink_a_thousand_times_never_leads_out() {
    let sandbox = Sandbox::new();
    let outside = sandbox.path().join("outside");
    fs::create_dir_all(outside.join("inner")).unwrap();
    fs::write(outside.join("inner/file"), "outside").unwrap();
    let seen = || {
        ["", "inner", "inner/file"]
            .map(|name| (look(&outside.join(name)), fs::metadata(outside.join(name)).unwrap().ctime_nsec()))
    };
    let before = seen();
    let mut fake = Fake::default();
    let inner = vec![Node { mode: 0o4777, ..fake.file("file", &[b"changed"]) }, symlink("link", "/")];
    let inner = fake.directory("inner", inner);
    let a = fake.directory("a", vec![inner]);
    let request = RestoreRequest { overwrite: true, ..fake.shop(vec![a]) };
    fs::create_dir_all(sandbox.target().join("a/inner")).unwrap();
    let stop = AtomicBool::new(false);
    let mut exact = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| swap_until(&stop, &sandbox.target(), &outside));
        for _ in 0..1_000 {
            exact +=
                usize::from(run(&fake, &request, &sandbox.target()).is_ok_and(|summary| summary.missing_count == 0));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(seen(), before);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_dir(outside.join("inner")).unwrap().count(), 1);
    assert!(exact < 1_000, "the race was never met, so nothing was proved");
}

/// Mounts a small file system over a directory, in this process's own mount namespace.
fn mount(sandbox: &Sandbox, options: &str) {
    fs::create_dir(sandbox.target()).unwrap();
    let status =
        Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(sandbox.target()).status().unwrap();
    assert!(status.success());
}

fn unmount(sandbox: &Sandbox) {
    assert!(Command::new("umount").arg(sandbox.target()).status().unwrap().success());
}

#[test]
fn a_target_that_becomes_full_fails_and_keeps_no_half_file() {
    let name = "limits::a_target_that_becomes_full_fails_and_keeps_no_half_file";
    if !is_root() || !in_child(name, &["unshare", "-m"]) {
        return;
    }
    let sandbox = Sandbox::new();
    mount(&sandbox, "size=1m");
    let mut fake = Fake::default();
    let noise = vec![7; 64 << 10];
    // One blob in forty places: it cannot be known beforehand that this does not fit.
    let nodes = vec![fake.file("a-small", &[b"fits"]), fake.file("b-large", &[&noise[..]; 40])];
    let request = fake.shop(nodes.clone());
    let failure = run(&fake, &request, &sandbox.target()).unwrap_err();
    assert!(failure.message.contains("/srv/shop/b-large: the target is full"), "{failure}");
    assert!(!sandbox.target().join("b-large").exists());
    unmount(&sandbox);
}

#[test]
fn what_cannot_fit_is_refused_before_anything_is_written() {
    let name = "limits::what_cannot_fit_is_refused_before_anything_is_written";
    if !is_root() || !in_child(name, &["unshare", "-m"]) {
        return;
    }
    let sandbox = Sandbox::new();
    mount(&sandbox, "size=1m,nr_inodes=20");
    let mut fake = Fake::default();
    let large = vec![fake.file("large", &[&vec![1; 2 << 20]])];
    let large = fake.shop(large);
    let failure = run(&fake, &large, &sandbox.target()).unwrap_err();
    assert!(failure.message.contains("2097152 bytes are needed and 1048576 bytes are free"), "{failure}");
    let many = (0..30).map(|number| fake.file(format!("{number}"), &[])).collect();
    let many = fake.shop(many);
    assert!(run(&fake, &many, &sandbox.target()).unwrap_err().message.contains("inodes"));
    assert_eq!(fs::read_dir(sandbox.target()).unwrap().count(), 0);
    unmount(&sandbox);
}

#[test]
fn a_read_only_target_fails_with_a_sentence() {
    let name = "limits::a_read_only_target_fails_with_a_sentence";
    if !is_root() || !in_child(name, &["unshare", "-m"]) {
        return;
    }
    let sandbox = Sandbox::new();
    mount(&sandbox, "size=1m,ro");
    let mut fake = Fake::default();
    let nodes = vec![fake.file("file", &[b"x"])];
    let request = fake.shop(nodes);
    let failure = run(&fake, &request, &sandbox.target()).unwrap_err();
    assert!(failure.message.contains("cannot be written: Read-only file system"), "{failure}");
    unmount(&sandbox);
}

#[test]
fn a_link_across_file_systems_becomes_a_copy_and_is_named() {
    let name = "limits::a_link_across_file_systems_becomes_a_copy_and_is_named";
    if !is_root() || !in_child(name, &["unshare", "-m"]) {
        return;
    }
    let sandbox = Sandbox::new();
    mount(&sandbox, "size=1m");
    // A nested mount inside the target is part of the target.
    fs::create_dir(sandbox.target().join("a")).unwrap();
    let inner = sandbox.target().join("a");
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&inner).status().unwrap();
    assert!(status.success());
    let mut fake = Fake::default();
    let linked = |node: Node| Node { links: 2, inode: 3, ..node };
    let across = linked(fake.file("across", &[b"x"]));
    let a = fake.directory("a", vec![across.clone()]);
    let request = RestoreRequest { overwrite: true, ..fake.shop(vec![a, Node { name: b"b".to_vec(), ..across }]) };
    let summary = run(&fake, &request, &sandbox.target()).unwrap();
    assert_eq!(summary.missing_count, 1, "{:?}", summary.missing);
    assert!(summary.missing[0].reason.contains("could not be hard-linked"), "{:?}", summary.missing);
    assert_eq!(fs::read(sandbox.target().join("b")).unwrap(), b"x");
    assert_eq!(fs::read(inner.join("across")).unwrap(), b"x");
    assert!(Command::new("umount").arg(&inner).status().unwrap().success());
    unmount(&sandbox);
}

/// Somebody, or the file system's own idea of equal names, puts an entry in place before we do.
struct Intruder<'a>(&'a Fake, PathBuf);

impl StoredTree for Intruder<'_> {
    fn read_tree(&self, id: &BlobId) -> Result<Vec<Node>, RepositoryError> {
        self.0.read_tree(id)
    }

    fn length(&self, id: &BlobId) -> Option<u64> {
        self.0.length(id)
    }

    fn read_many(&self, wanted: &[BlobId], sink: &Sink<'_>) {
        for name in ["file", "link", "fifo"] {
            fs::write(self.1.join(name), "already here").unwrap();
        }
        self.0.read_many(wanted, sink);
    }
}

#[test]
fn a_name_that_turns_out_to_be_taken_is_named_and_not_replaced() {
    for overwrite in [false, true] {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.target()).unwrap();
        let mut fake = Fake::default();
        let file = fake.file("file", &[b"second"]);
        let nodes = vec![node("fifo", NodeKind::Fifo), file, symlink("link", "b"), fake.file("other", &[b"x"])];
        let request = RestoreRequest { overwrite, ..fake.shop(nodes) };
        let summary =
            restore_from(&Intruder(&fake, sandbox.target()), &request, &sandbox.target(), &NoProgress).unwrap();
        assert_eq!(summary.missing_count, 3, "{:?}", summary.missing);
        assert!(summary.missing.iter().all(|missing| missing.reason.contains("takes its name for the same")));
        for name in ["file", "link", "fifo"] {
            assert_eq!(fs::read(sandbox.target().join(name)).unwrap(), b"already here");
        }
        assert_eq!(fs::read(sandbox.target().join("other")).unwrap(), b"x");
    }
}

/// Says one length and delivers another.
struct Liar<'a>(&'a Fake);

impl StoredTree for Liar<'_> {
    fn read_tree(&self, id: &BlobId) -> Result<Vec<Node>, RepositoryError> {
        self.0.read_tree(id)
    }

    fn length(&self, id: &BlobId) -> Option<u64> {
        self.0.length(id)
    }

    fn read_many(&self, wanted: &[BlobId], sink: &Sink<'_>) {
        (0..wanted.len()).all(|position| sink(position, Ok(b"longer than was said")));
    }
}

#[test]
fn content_of_another_length_than_announced_is_damage() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let nodes = vec![fake.file("file", &[b"four"])];
    let request = fake.shop(nodes);
    let summary = restore_from(&Liar(&fake), &request, &sandbox.target(), &NoProgress).unwrap();
    assert!(summary.missing[0].reason.contains("wrong length"), "{:?}", summary.missing);
    assert_eq!(fs::read_dir(sandbox.target()).unwrap().count(), 0);
}

/// Replaces the first name of a file by a link to something else, after one further name was linked to it.
struct Swapper(PathBuf, AtomicUsize);

impl crate::ground::Progress for Swapper {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn end(&self) {}
    fn warn(&self, _: &str) {}

    fn advance(&self, _: u64) {
        // The first call tells of the content, the second of the first further name.
        if self.1.fetch_add(1, Ordering::Relaxed) == 1 {
            fs::rename(self.0.join("outside"), self.0.join("target/a")).unwrap();
        }
    }
}

#[test]
fn a_first_name_replaced_during_the_restore_is_not_linked_to() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path().join("outside"), "outside").unwrap();
    let mut fake = Fake::default();
    let nodes = ["a", "b", "c"].map(|name| Node { links: 3, inode: 7, ..fake.file(name, &[b"mine"]) });
    let request = fake.shop(nodes.to_vec());
    let swapper = Swapper(sandbox.path().to_owned(), AtomicUsize::new(0));
    let summary = restore_from(&fake, &request, &sandbox.target(), &swapper).unwrap();
    assert_eq!(summary.missing.len(), 1, "{:?}", summary.missing);
    assert!(summary.missing[0].reason.contains("somebody replaced"), "{:?}", summary.missing);
    assert_eq!(fs::read(sandbox.target().join("c")).unwrap(), b"mine");
    assert_eq!(fs::metadata(sandbox.target().join("a")).unwrap().nlink(), 1);
}

#[test]
fn a_directory_replaced_by_another_directory_is_noticed() {
    let sandbox = Sandbox::new();
    let root = open(rustix::fs::CWD, sandbox.path().to_str().unwrap());
    let mut directories = Directories::new(root, Resolver::Beneath, 1).unwrap();
    let name = |text: &str| crate::recovery::restore::name::EntryName::new(text.as_bytes()).unwrap();
    for text in ["first", "second"] {
        assert!(directories.make(0, name(text), false).is_ok());
    }
    assert!(directories.open(1).is_ok(), "opened again, since only one is held");
    assert!(directories.open(2).is_ok());
    fs::rename(sandbox.path().join("first"), sandbox.path().join("aside")).unwrap();
    fs::create_dir(sandbox.path().join("first")).unwrap();
    assert!(directories.open(1).is_err());
}

/// Delivers the first piece of every file, does something, and delivers the second of each.
struct Rounds<'a>(Fake, &'a (dyn Fn() + Sync));

impl StoredTree for Rounds<'_> {
    fn read_tree(&self, id: &BlobId) -> Result<Vec<Node>, RepositoryError> {
        self.0.read_tree(id)
    }

    fn length(&self, id: &BlobId) -> Option<u64> {
        self.0.length(id)
    }

    fn read_many(&self, wanted: &[BlobId], sink: &Sink<'_>) {
        for round in 0..2 {
            (round..wanted.len()).step_by(2).for_each(|position| assert!(self.0.deliver(wanted, position, sink)));
            if round == 0 {
                (self.1)();
            }
        }
    }
}

/// More files in work than are held open.
fn three_hundred_of_two_pieces(fake: &mut Fake) -> Vec<Node> {
    let file =
        |number: u32| fake.file(format!("{number:03}"), &[&number.to_le_bytes(), &number.to_be_bytes().repeat(2_000)]);
    (0..300).map(file).collect()
}

#[test]
fn files_closed_between_their_pieces_are_completed() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let nodes = three_hundred_of_two_pieces(&mut fake);
    let request = fake.shop(nodes.clone());
    let rounds = Rounds(fake, &|| {});
    let summary = restore_from(&rounds, &request, &sandbox.target(), &NoProgress).unwrap();
    assert_eq!((summary.entries, summary.missing_count), (301, 0), "{:?}", summary.missing);
    assert_exact(&rounds.0, &sandbox.target(), &nodes);
}

#[test]
fn a_file_replaced_between_its_pieces_is_named_and_what_stands_there_is_left_alone() {
    let sandbox = Sandbox::new();
    let (target, outside) = (sandbox.target(), sandbox.path().join("outside"));
    fs::write(&outside, "outside").unwrap();
    let mut fake = Fake::default();
    let nodes = three_hundred_of_two_pieces(&mut fake);
    let request = fake.shop(nodes);
    let swap = || {
        fs::remove_file(target.join("000")).unwrap();
        std::os::unix::fs::symlink(&outside, target.join("000")).unwrap();
        fs::remove_file(target.join("001")).unwrap();
        fs::hard_link(&outside, target.join("001")).unwrap();
        fs::hard_link(target.join("002"), sandbox.path().join("second name")).unwrap();
    };
    let summary = restore_from(&Rounds(fake, &swap), &request, &target, &NoProgress).unwrap();
    assert_eq!(summary.missing_count, 3, "{:?}", summary.missing);
    assert!(
        summary.missing.iter().all(|missing| missing.reason.contains("somebody replaced")),
        "{:?}",
        summary.missing
    );
    assert_eq!(fs::read(&outside).unwrap(), b"outside");
    assert!(fs::symlink_metadata(target.join("000")).unwrap().is_symlink());
    assert!(!target.join("002").exists(), "half-written, and ours by its inode");
}
