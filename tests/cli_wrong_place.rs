//! Places that are not what they seem: an unmounted DR site, a target inside the DR site, records that were changed.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::World;

fn backed_up() -> World {
    let world = World::new();
    fs::write(world.primary().join("file"), "content").unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    world
}

#[test]
fn an_unmounted_dr_site_is_not_taken_for_a_new_one() {
    let world = backed_up();
    let away = world.path("away");
    fs::rename(world.dr(), &away).unwrap();
    for make_mountpoint in [false, true] {
        if make_mountpoint {
            fs::create_dir(world.dr()).unwrap();
        }
        let _ = world.run(["backup", "home"]).expect(2).says(&["no DR site", "mounted"]);
        assert!(common::files_below(&world.dr()).is_empty(), "nothing was written there");
    }
    // Another machine's new site in its place is another site.
    let other = World::new();
    fs::write(other.primary().join("file"), "content").unwrap();
    other.write_files_policy("home");
    let _ = other.run(["backup", "home"]).expect(0);
    fs::remove_dir(world.dr()).unwrap();
    fs::rename(other.dr(), world.dr()).unwrap();
    let _ = world.run(["backup", "home"]).expect(2).says(&["is not the DR site"]);
    fs::rename(world.dr(), other.dr()).unwrap();
    fs::rename(&away, world.dr()).unwrap();
    let _ = world.run(["backup", "home"]).expect(0);
}

#[test]
fn a_restore_into_the_dr_site_is_refused() {
    let world = backed_up();
    let inside = world.dr().join("repository");
    let before = common::files_below(&world.dr()).len();
    let command = ["restore", "home", "--overwrite", "--to", inside.to_str().unwrap()];
    let _ = world.run(command).expect(2).says(&["inside the DR site"]);
    assert_eq!(common::files_below(&world.dr()).len(), before);
}

#[test]
fn a_changed_or_deleted_record_is_damage_to_verify() {
    let world = backed_up();
    let record = common::files_below(&world.dr().join("points")).pop().unwrap();
    fs::set_permissions(&record, fs::Permissions::from_mode(0o600)).unwrap();
    let sound = fs::read_to_string(&record).unwrap();
    fs::write(&record, sound.replace("\"host\": \"", "\"host\": \"x")).unwrap();
    let _ = world.run(["verify", "home"]).expect(1).says(&["is not the one that was written"]);
    fs::remove_file(&record).unwrap();
    let _ = world.run(["verify", "home"]).expect(1).says(&["is gone"]);
    fs::write(&record, sound).unwrap();
    let _ = world.run(["verify", "home"]).expect(0);
}

#[test]
fn a_script_of_root_cannot_uncover_the_primary() {
    if !common::is_root() {
        return common::skip("another user cannot uncover anything");
    }
    let world = backed_up();
    let plan = "[[plan.drill.step]]\nrestore = \"files\"\n[[plan.drill.step]]\nscript = \"uncover.sh\"\n\
        [[plan.drill.check]]\nfile = \"files/file\"\n";
    let path = world.policies().join("home.toml");
    fs::write(&path, format!("{}{plan}", fs::read_to_string(&path).unwrap())).unwrap();
    let primary = world.primary();
    let script = format!(
        "#!/bin/sh\numount -l '{0}' 2>/dev/null\nmkdir b && mount --bind '{0}' b 2>/dev/null\n\
         nsenter -t 1 -m true 2>/dev/null && exit 8\n\
         for way in '{0}/file' b/file '/proc/1/root{0}/file'; do\n\
         if cat \"$way\" 2>/dev/null; then echo \"by $way\"; exit 9; fi\ndone\nexit 0\n",
        primary.display()
    );
    world.write_script("uncover.sh", &script);
    let output = world.run(["drill", "home", "--json"]);
    let report = fs::read_to_string(output.json()["report"].as_str().unwrap()).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    if report["isolation"]["proven"] == true {
        assert_eq!(output.code, Some(0), "{report:#}");
    } else {
        common::skip(&format!("no isolation on this machine: {}", report["isolation"]));
    }
}
