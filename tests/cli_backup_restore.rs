//! What goes in comes out: backup and restore through the program, compared attribute by attribute.

mod common;

use std::fs;
use std::os::unix::fs::FileExt;

use common::{Field, World, directory_bytes, is_root, noise, orders, tree};

#[test]
fn an_awkward_tree_comes_back_exactly_and_a_second_backup_adds_little() {
    let world = World::new();
    tree::make_awkward(&world.primary());
    let (dr, primary) = (world.dr(), world.primary());
    let arguments = ["init", "--system", "home", "--dr", dr.to_str().unwrap(), "--files", primary.to_str().unwrap()];
    let _ = world.run(arguments).expect(0).says(&["keep a copy"]);
    let first = world.run(["backup", "home", "--json"]).expect(0).json();
    assert!(!first.text("run").is_empty());
    let stored = directory_bytes(&dr);

    tree::assert_same(&primary, &world.restore_source("home", "files", "restored"));

    fs::write(primary.join("one-more"), "little").unwrap();
    let second = world.run(["backup", "home", "--json"]).expect(0).json();
    assert_ne!(first.text("run"), second.text("run"));
    let added = directory_bytes(&dr) - stored;
    assert!(added < stored / 20, "{added} bytes more on {stored} for one small file");
    tree::assert_same(&primary, &world.restore_source("home", "files", "restored-again"));
}

#[test]
fn every_kind_of_source_comes_back_below_its_name() {
    let world = World::new();
    let primary = world.primary();
    for directory in ["one", "two", "logs"] {
        fs::create_dir(primary.join(directory)).unwrap();
        fs::write(primary.join(directory).join("app.log"), format!("2026-11-22T10:00:00Z {directory}\n")).unwrap();
    }
    let image = fs::File::create(primary.join("disk.img")).unwrap();
    image.set_len(32 << 20).unwrap();
    image.write_all_at(&noise(5, 100_000), 17 << 20).unwrap();
    orders::make(&primary.join("orders.db"));
    let base = primary.display();
    let sources = format!(
        "[[source]]\nname = \"pair\"\nkind = \"files\"\npaths = [\"{base}/one\", \"{base}/two\"]\n\
         [[source]]\nname = \"logs\"\nkind = \"logs\"\npaths = [\"{base}/logs/*.log*\"]\n\
         [[source]]\nname = \"disk\"\nkind = \"image\"\npath = \"{base}/disk.img\"\n\
         [[source]]\nname = \"orders\"\nkind = \"sqlite\"\npath = \"{base}/orders.db\"\n"
    );
    world.write_policy("all", &format!("{}{sources}", world.policy_head("all", "{ rpo = \"1h\" }")));
    let writer = orders::Writer::start(&primary.join("orders.db"));
    let _ = world.run(["backup", "all"]).expect(0);
    writer.stop();

    let target = world.path("restored");
    let _ = world.run(["restore", "all", "--to", target.to_str().unwrap()]).expect(0);
    let below = |source: &str, path: &str| {
        let root = target.join(source).join(primary.join(path).strip_prefix("/").unwrap());
        assert!(root.exists(), "{} is there", root.display());
        root
    };
    tree::assert_same(&primary.join("one"), &below("pair", "one"));
    tree::assert_same(&primary.join("two"), &below("pair", "two"));
    let found = |source: &str, name: &str| {
        let files = common::files_below(&target.join(source));
        files.into_iter().find(|path| path.ends_with(name)).unwrap_or_else(|| panic!("{name} below {source}"))
    };
    assert_eq!(fs::read(found("logs", "app.log")).unwrap(), fs::read(primary.join("logs/app.log")).unwrap());
    assert!(fs::read(found("disk", "disk.img")).unwrap() == fs::read(primary.join("disk.img")).unwrap());
    orders::assert_whole(&found("orders", "orders.db"));
}

#[test]
fn a_point_in_time_a_point_and_a_path_can_be_chosen() {
    let world = World::new();
    let file = world.primary().join("sub/changing");
    fs::create_dir(world.primary().join("sub")).unwrap();
    fs::write(world.primary().join("other"), "other").unwrap();
    world.write_files_policy("home");
    for version in ["first", "second"] {
        fs::write(&file, version).unwrap();
        let _ = world.run(["backup", "home"]).expect(0);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let points = world.points("home");
    assert_eq!(points.len(), 2);
    let restored = |name: &str, choice: &[&str]| {
        let target = world.path(name);
        let fixed = ["restore", "home", "--source", "files", "--to", target.to_str().unwrap()];
        let _ = world.run(fixed.iter().chain(choice)).expect(0);
        target
    };
    let version =
        |name: &str, choice: &[&str]| fs::read_to_string(restored(name, choice).join("sub/changing")).unwrap();
    assert_eq!(version("newest", &[]), "second");
    assert_eq!(version("at", &["--at", &points[0].text("available_time")]), "first");
    assert_eq!(version("point", &["--point", &points[0].text("id")]), "first");

    let part = restored("part", &["--path", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(part.join("sub/changing")).unwrap(), "second");
    assert!(!part.join("other").exists());
    let relative = restored("relative", &["--path", "other"]);
    assert!(relative.join("other").exists() && !relative.join("sub").exists());
}

#[test]
fn a_target_that_is_not_empty_is_left_alone_unless_asked() {
    let world = World::new();
    fs::write(world.primary().join("file"), "good").unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    let target = world.path("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("file"), "precious").unwrap();
    let arguments = ["restore", "home", "--source", "files", "--to", target.to_str().unwrap()];
    let _ = world.run(arguments).expect(2).says(&["not empty", "--overwrite"]);
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "precious");
    let _ = world.run(arguments.iter().chain(&["--overwrite"])).expect(0);
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "good");
}

#[test]
fn a_dry_run_and_unknown_names_write_nothing() {
    let world = World::new();
    fs::write(world.primary().join("file"), "good").unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    let target = world.path("target");
    let to = target.to_str().unwrap();
    let _ = world.run(["restore", "home", "--to", to, "--dry-run"]).expect(0);
    let _ = world.run(["restore", "hom", "--to", to]).expect(2).says(&["hom", "home"]);
    let _ = world.run(["restore", "home", "--to", to, "--point", "files-19990101T000000Z-0000"]).expect(2);
    let _ = world.run(["restore", "home", "--to", to, "--source", "fils"]).expect(2).says(&["fils", "files"]);
    let _ = world.run(["restore", "home", "--to", to, "--at", "2001-01-01T00:00:00Z"]).expect(2);
    assert!(!target.exists());
}

#[test]
fn what_cannot_be_read_is_named_and_the_point_is_partial() {
    let mut world = World::new();
    fs::write(world.primary().join("fine"), "fine").unwrap();
    fs::write(world.primary().join("secret-of-root"), "x").unwrap();
    world.write_files_policy("home");
    if is_root() {
        world.hand_over(65_534);
    }
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(world.primary().join("secret-of-root"), fs::Permissions::from_mode(0o000)).unwrap();
    let _ = world.run(["backup", "home"]).expect(3).says(&["secret-of-root"]);
    assert_eq!(world.points("home")[0].text("state"), "partial");
    let target = world.path("target");
    let output = world.run(["restore", "home", "--source", "files", "--to", target.to_str().unwrap()]);
    assert!(matches!(output.code, Some(0 | 3)), "{output:?}");
    assert_eq!(fs::read_to_string(target.join("fine")).unwrap(), "fine");
}

#[test]
fn a_restore_by_another_user_says_what_it_may_not_set() {
    if !is_root() {
        return common::skip("needs root to make files of other owners");
    }
    let mut world = World::new();
    world.write_files_policy("home");
    fs::write(world.primary().join("of-root"), "of root").unwrap();
    let _ = world.run(["backup", "home"]).expect(0);
    world.hand_over(65_534);
    let target = world.path("target");
    let output = world.run(["restore", "home", "--source", "files", "--to", target.to_str().unwrap()]).expect(3);
    let _ = output.says(&["of-root"]);
    assert_eq!(fs::read_to_string(target.join("of-root")).unwrap(), "of root");
}
