//! What bounds the memory of the program, measured: a directory of 200,000 entries, an image of 1 TB. The bounds stand in
//! docs/performance.md; they are asserted here with the room that a debug build and another allocator need.

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::World;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

const MIB: u64 = 1 << 20;
const TERABYTE: u64 = 1 << 40;

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

#[test]
fn a_directory_of_200_000_entries_stays_within_its_bound() {
    let world = world();
    for number in 0..200_000 {
        fs::write(world.primary().join(format!("entry-{number:06}")), "").unwrap();
    }
    world.write_files_policy("home");
    let _ = peak_of(&world, &["backup", "home"]);
    let _ = peak_of(&world, &["backup", "home"]);
    let target = world.path("restored");
    let _ = peak_of(&world, &["restore", "home", "--source", "files", "--to", target.to_str().unwrap()]);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 200_000);
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

fn terabyte(kind: &str) {
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
    let _ = peak_of(&world, &["backup", "home"]);
    let _ = peak_of(&world, &["backup", "home"]);
    let target = world.path("restored");
    let _ = peak_of(&world, &["restore", "home", "--source", "disk", "--to", target.to_str().unwrap()]);
    let restored = common::files_below(&target).pop().unwrap();
    assert_holds(&image, &restored);
    assert_holds(&restored, &image);
    assert!(restored.metadata().unwrap().blocks() * 512 < 8 * MIB);
    let stored = common::directory_bytes(&world.dr());
    eprintln!("stored {stored}");
}

#[test]
fn a_sparse_image_of_a_terabyte_stays_within_its_bound() {
    terabyte("image");
}

#[test]
fn a_sparse_file_of_a_terabyte_stays_within_its_bound() {
    terabyte("files");
}
