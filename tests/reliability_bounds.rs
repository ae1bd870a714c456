//! What bounds the memory of the program, measured: a directory of 200,000 entries, an image of 1 TB. The bounds stand in
//! docs/performance.md; they are asserted here with the room that a debug build and another allocator need.

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Field, World};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

const MIB: u64 = 1 << 20;
const TERABYTE: u64 = 1 << 40;

/// What the program takes for next to nothing, with what the allocator does not give back while many threads work.
const FIXED: u64 = 80 * MIB;
/// The same when blobs of 8 MiB pass.
const FIXED_LARGE: u64 = 60 * MIB;
/// For each processor beyond two: a worker more, up to eight.
const PER_PROCESSOR: u64 = 4 * MIB;
/// For each entry of the largest directory.
const PER_ENTRY: u64 = 900;
/// For each blob of the largest file.
const PER_BLOB: u64 = 350;

/// Runs a command, which must succeed, and gives the most memory it ever had resident, in bytes.
///
/// The kernel keeps the mark (`VmHWM`), which only rises, until the process ends; it is looked at every 2 ms, so that
/// no more than the growth of the last 2 ms could be missed.
fn peak_of(world: &World, arguments: &[&str]) -> u64 {
    let mut command = world.command(arguments);
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        peak = peak.max(fs::read_to_string(&status).map_or(0, |text| high_water_mark(&text)));
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut words = String::new();
    let _ = child.stderr.take().unwrap().read_to_string(&mut words);
    assert!(ended.success(), "{arguments:?} failed: {words}");
    assert!(peak > 0, "the kernel tells no VmHWM");
    eprintln!("{arguments:?}: {} KiB, {} ms", peak >> 10, begin.elapsed().as_millis());
    peak
}

fn high_water_mark(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

/// A world whose key costs no memory to derive: a generated password of 256 bits.
fn world() -> World {
    let world = World::new();
    fs::write(world.password_file(), "ab".repeat(32)).unwrap();
    world
}

fn workers() -> u64 {
    let processors = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    processors.saturating_sub(2).min(6) * PER_PROCESSOR
}

/// Backup, backup without a change and restore of one directory.
fn directory(entries: u64) {
    let world = world();
    for number in 0..entries {
        fs::write(world.primary().join(format!("entry-{number:06}")), "").unwrap();
    }
    world.write_files_policy("home");
    let target = world.path("restored");
    let restore = ["restore", "home", "--source", "files", "--to", target.to_str().unwrap()];
    for arguments in [&["backup", "home"][..], &["backup", "home"], &restore] {
        let (peak, bound) = (peak_of(&world, arguments), FIXED + workers() + entries * PER_ENTRY);
        assert!(peak < bound, "{arguments:?} of {entries} entries took {} KiB, not {}", peak >> 10, bound >> 10);
    }
    assert_eq!(fs::read_dir(&target).unwrap().count() as u64, entries);
}

#[test]
fn a_directory_of_many_entries_stays_within_its_bound() {
    directory(40_000);
}

#[ignore = "200,000 files take more than a minute"]
#[test]
fn a_directory_of_200_000_entries_stays_within_its_bound() {
    directory(200_000);
}

#[test]
fn an_image_costs_what_changed_in_it() {
    let world = world();
    let image = world.path("disk.img");
    fs::write(&image, common::noise(1, 8 << 20)).unwrap();
    let head = world.policy_head("home", "{ rpo = \"1h\", rto = \"15m\" }");
    world.write_policy("home", &format!("{head}[[source]]\nname = \"disk\"\nkind = \"image\"\npath = {image:?}\n"));
    let back_up = || {
        let _ = world.run(["backup", "home"]).expect(0);
        let point = world.points("home").pop().unwrap();
        (point.number("added_bytes"), point.number("read_bytes"))
    };
    assert!(back_up().0 > 8e6);
    let file = File::options().write(true).open(&image).unwrap();
    file.write_all_at(b"!", 5_000_000).unwrap();
    let (added, read) = back_up();
    assert!((131_072.0..140_000.0).contains(&added), "a changed byte added {added} bytes");
    assert!(read >= 8.0 * MIB as f64);
    // Zeros that are there, then as many that are a hole.
    file.write_all_at(&vec![0; 32 << 20], 8 << 20).unwrap();
    let (added, _) = back_up();
    assert!(added < 20_000.0, "zeros added {added} bytes");
    file.set_len(1 << 30).unwrap();
    let (added, read) = back_up();
    assert!(added < 400_000.0, "a hole added {added} bytes");
    assert!(read <= 40.0 * MIB as f64, "{read} bytes were read of a hole");
}

/// Where a file has data, as the file system tells it.
fn data_of(file: &File) -> Vec<(u64, u64)> {
    let (mut stretches, mut at) = (Vec::new(), 0);
    loop {
        match seek(file, SeekFrom::Data(at)) {
            Ok(start) => {
                at = seek(file, SeekFrom::Hole(start)).unwrap();
                stretches.push((start, at));
            }
            Err(Errno::NXIO) => return stretches,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether all data of one file stands in the other.
fn assert_holds(file: &Path, other: &Path) {
    let (file, other) = (File::open(file).unwrap(), File::open(other).unwrap());
    assert_eq!(file.metadata().unwrap().len(), other.metadata().unwrap().len());
    for (start, end) in data_of(&file) {
        let (mut left, mut right) = (vec![0; (end - start) as usize], vec![0; (end - start) as usize]);
        file.read_exact_at(&mut left, start).unwrap();
        other.read_exact_at(&mut right, start).unwrap();
        assert!(left == right, "{start}..{end} differs");
    }
}

/// Backup, backup without a change and restore of 1 TB with a few MiB of data, which has so many blobs.
fn terabyte(kind: &str, blobs: u64) {
    let world = world();
    let image = world.primary().join("disk.img");
    let file = File::create(&image).unwrap();
    file.set_len(TERABYTE).unwrap();
    for (number, place) in [0, 300 << 30, (777 << 30) + 12_345, TERABYTE - 70_000].into_iter().enumerate() {
        let length = MIB.min(TERABYTE - place) as usize;
        file.write_all_at(&common::noise(number as u64, length), place).unwrap();
    }
    file.sync_all().unwrap();
    let head = world.policy_head("home", "{ rpo = \"1h\", rto = \"15m\" }");
    let key = if kind == "image" { format!("path = {image:?}") } else { format!("paths = [{:?}]", world.primary()) };
    world.write_policy("home", &format!("{head}[[source]]\nname = \"disk\"\nkind = \"{kind}\"\n{key}\n"));
    let target = world.path("restored");
    let restore = ["restore", "home", "--source", "disk", "--to", target.to_str().unwrap()];
    for arguments in [&["backup", "home"][..], &["backup", "home"], &restore] {
        let (peak, bound) = (peak_of(&world, arguments), FIXED_LARGE + workers() + blobs * PER_BLOB);
        assert!(peak < bound, "{arguments:?} of {blobs} blobs took {} KiB, not {}", peak >> 10, bound >> 10);
    }
    let restored = common::files_below(&target).pop().unwrap();
    assert_holds(&image, &restored);
    assert_holds(&restored, &image);
    assert!(restored.metadata().unwrap().blocks() * 512 < 8 * MIB);
    assert!(common::directory_bytes(&world.dr()) < 8 * MIB);
}

#[test]
fn a_sparse_image_of_a_terabyte_stays_within_its_bound() {
    terabyte("image", TERABYTE / (4 * MIB));
}

#[test]
fn a_sparse_file_of_a_terabyte_stays_within_its_bound() {
    terabyte("files", TERABYTE / (8 * MIB));
}
