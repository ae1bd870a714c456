//! What an interrupted command leaves is ended by the next one, of whatever kind, and nothing asked for is skipped.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use common::{World, noise, tree};

fn backed_up() -> World {
    let world = World::new();
    for number in 0..3 {
        fs::write(world.primary().join(format!("file-{number}")), noise(number, 10_000)).unwrap();
    }
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    world
}

/// Kills a command at a place of its journal; it must get that far.
fn kill(world: &mut World, command: &[&str], place: u64) {
    world.set_variable("LIFEBOAT_KILL_AT", place.to_string());
    let status = world.command(command).output().unwrap().status;
    world.clear_variables();
    assert_eq!(status.signal(), Some(9), "{command:?} ended before place {place}: {status}");
}

fn unfinished(world: &World) -> Vec<String> {
    let status = world.run(["status", "home", "--json"]).expect(0).json();
    let incidents = status["systems"][0]["incidents"].as_array().unwrap();
    incidents.iter().map(ToString::to_string).filter(|incident| incident.contains("interrupted")).collect()
}

#[test]
fn a_drill_without_a_written_plan_restores_every_source() {
    let world = World::new();
    let mut policy = world.policy_head("home", "{ rpo = \"1h\", rto = \"15m\" }");
    for source in ["one", "two", "three"] {
        let path = world.primary().join(source);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), source).unwrap();
        let path = path.display();
        policy += &format!("[[source]]\nname = \"{source}\"\nkind = \"files\"\npaths = [\"{path}\"]\n");
    }
    world.write_policy("home", &policy);
    let _ = world.run(["backup", "home"]).expect(0);
    let drill = world.run(["drill", "home", "--json"]).expect(0).json();
    assert_eq!(drill["passed"], true);
    let report = fs::read_to_string(drill["report"].as_str().unwrap()).unwrap();
    for source in ["one", "two", "three"] {
        assert!(report.contains(&format!("\"restore {source}\"")), "{source} was restored: {report}");
    }
}

#[test]
fn each_command_ends_what_others_left() {
    if !cfg!(debug_assertions) {
        return common::skip("the places exist in debug builds only");
    }
    let mut world = backed_up();
    kill(&mut world, &["backup", "home"], 8);
    assert_eq!(unfinished(&world).len(), 1);
    let _ = world.run(["drill", "home"]).expect(0);
    assert_eq!(unfinished(&world), [""; 0], "the drill continued the backup");

    kill(&mut world, &["drill", "home"], 8);
    assert_eq!(unfinished(&world).len(), 1);
    let _ = world.run(["backup", "home"]).expect(0);
    assert_eq!(unfinished(&world), [""; 0], "the backup continued the drill");
    let drills = world.run(["drills", "home", "--json"]).expect(0).list("drills");
    assert_eq!(drills.iter().map(|drill| drill["drill"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);

    kill(&mut world, &["restore", "home", "--source", "files", "--to", "half"], 3);
    assert_eq!(unfinished(&world).len(), 1);
    let _ = world.run(["backup", "home"]).expect(0);
    assert_eq!(unfinished(&world), [""; 0], "the restore is entered as interrupted");
    let _ = world.run(["ledger", "verify", "home"]).expect(0);
}

#[test]
fn a_restore_given_again_restores_everything_again() {
    if !cfg!(debug_assertions) {
        return common::skip("the places exist in debug builds only");
    }
    let mut world = backed_up();
    let target = world.path("target");
    let command = ["restore", "home", "--source", "files", "--to", target.to_str().unwrap()];
    for place in 1..=8 {
        kill(&mut world, &command, place);
        let _ = fs::remove_dir_all(&target);
        let _ = world.run(command).expect(0);
        tree::assert_same(&world.primary(), &target);
        fs::remove_dir_all(&target).unwrap();
    }
}

#[test]
fn an_archive_is_made_once() {
    let world = backed_up();
    let path = world.policies().join("home.toml");
    let text = fs::read_to_string(&path).unwrap();
    let cold = world.path("cold");
    let rule =
        format!("[retention]\narchive = {{ which = \"all\", to = \"directory\", path = \"{}\" }}\n", cold.display());
    fs::write(&path, format!("{text}{rule}")).unwrap();
    let point = world.newest_point("home", "files");
    let first = world.run(["archive", "home", "--point", &point, "--json"]).expect(0).list("archives");
    let object = common::files_below(&cold).pop().unwrap();
    let made = fs::metadata(&object).unwrap().modified().unwrap();
    fs::remove_dir_all(world.state()).unwrap();
    let again = world.run(["archive", "home", "--point", &point, "--json"]).expect(0).list("archives");
    assert_eq!(first, again);
    assert_eq!(fs::metadata(&object).unwrap().modified().unwrap(), made, "the cold object was left alone");
    let _ = world.run(["archive", "home"]).expect(0).says(&["nothing is due"]);

    let unpacked = world.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let script =
        format!("zstd -dc {} | tar x -C {} && sha256sum -c --quiet SHA256SUMS", object.display(), unpacked.display());
    let script = script.replace("&& sha256sum", &format!("&& cd {} && sha256sum", unpacked.display()));
    let checked = std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
    assert!(checked.success(), "zstd, tar and sha256sum read it");
}

/// What lies below a directory that others write to.
fn bytes_below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        metadata => metadata.map_or(0, |metadata| metadata.len()),
    };
    entries.map(bytes).sum()
}

/// Starts a command, ends it by TERM as soon as there is something, and gives what it said.
fn terminated(world: &World, command: &[&str], begun: impl Fn() -> bool) -> String {
    let child = world.command(command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    common::wait_until("the command has begun", begun);
    let id = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    said
}

#[test]
fn a_service_manager_that_ends_a_command_gets_a_sentence_and_the_next_one_goes_on() {
    let world = World::new();
    fs::write(world.primary().join("large"), noise(1, 96 << 20)).unwrap();
    world.write_files_policy("home");
    let written = |directory: &Path| bytes_below(directory) > 1 << 20;
    let said = terminated(&world, &["backup", "home"], || written(&world.dr()));
    assert!(said.contains("error: interrupted") && said.contains("the next command continues"), "{said}");
    let _ = world.run(["backup", "home"]).expect(0);
    let target = world.path("target");
    let restore = ["restore", "home", "--to", target.to_str().unwrap()];
    let said = terminated(&world, &restore, || written(&target));
    assert!(said.contains("the target is incomplete") && said.contains("--overwrite"), "{said}");
    let _ = world.run(restore.into_iter().chain(["--overwrite"])).expect(0);
    assert_eq!(tree::differences(&world.primary(), &target.join("files")), Vec::<String>::new());
}
