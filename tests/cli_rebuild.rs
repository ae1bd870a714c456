//! The DR site and the repository password are enough: everything else is deleted, and comes back.

mod common;

use std::fs;

use common::{Field, World, orders, tree};

const PLAN: &str = r#"
[[plan.drill.step]]
restore = "files"
[[plan.drill.step]]
restore = "orders"
[[plan.drill.step]]
script = "start.sh"
after = ["restore files", "restore orders"]
[[plan.drill.check]]
sql = "select count(*) from orders"
on = "orders"
expect = "> 0"
[[plan.drill.check]]
command = "cat started"
expect = "yes"
"#;

fn system_with_a_plan() -> World {
    let world = World::new();
    let primary = world.primary();
    fs::create_dir(primary.join("tree")).unwrap();
    tree::make_awkward(&primary.join("tree"));
    orders::make(&primary.join("orders.db"));
    let sources = format!(
        "[[source]]\nname = \"files\"\nkind = \"files\"\npaths = [\"{0}/tree\"]\n\
         [[source]]\nname = \"orders\"\nkind = \"sqlite\"\npath = \"{0}/orders.db\"\n\
         beacon = {{ sql = \"select max(at) from orders\" }}\n",
        primary.display()
    );
    let head = world.policy_head("shop", "{ rpo = \"1h\", rto = \"15m\" }");
    world.write_policy("shop", &format!("{head}{sources}{PLAN}"));
    world.write_script("start.sh", "#!/bin/sh\nset -eu\ntest -d files\necho yes > started\n");
    world
}

#[test]
fn a_new_machine_needs_the_dr_site_and_the_password_alone() {
    let world = system_with_a_plan();
    for _ in 0..2 {
        let _ = world.run(["backup", "shop"]).expect(0);
    }
    let first_drill = world.run(["drill", "shop", "--json"]).expect(0).json();
    let points = world.points("shop");
    let reference = world.path("reference");
    assert!(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(world.primary().join("tree"))
            .arg(&reference)
            .status()
            .unwrap()
            .success()
    );

    fs::remove_dir_all(world.primary()).unwrap();
    fs::remove_dir_all(world.state()).unwrap();
    fs::remove_dir_all(world.policies()).unwrap();
    // The site is found under another path, as on another machine.
    let moved = world.path("mounted/dr");
    fs::create_dir(world.path("mounted")).unwrap();
    fs::rename(world.dr(), &moved).unwrap();

    let password = format!("file:{}", world.password_file().display());
    let rebuild = ["rebuild", "--from", moved.to_str().unwrap(), "--repository-password", &password];
    let _ = world.run(rebuild).expect(0);
    assert!(world.policies().join("shop.toml").exists());
    let _ = world.run(["check"]).expect(0);
    assert_eq!(world.points("shop"), points);
    let status = world.run(["status", "shop", "--json"]).json();
    assert_eq!(status["systems"][0]["sources"].as_array().unwrap().len(), 2);
    let drills = world.run(["drills", "shop", "--json"]).expect(0).list("drills");
    assert_eq!(drills.len(), 1);

    tree::assert_same(&reference, &world.restore_source("shop", "files", "restored"));
    let drill = world.run(["drill", "shop", "--json"]).expect(0).json();
    assert_eq!(drill["passed"], true);
    assert_ne!(drill["drill"], first_drill["drill"], "the numbering goes on");
    assert!(drill.text("report").starts_with(moved.to_str().unwrap()), "{drill:#}");
}

#[test]
fn rebuild_refuses_what_is_no_dr_site_and_a_wrong_password() {
    let world = World::new();
    fs::write(world.primary().join("file"), "x").unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    fs::remove_dir_all(world.state()).unwrap();
    fs::remove_dir_all(world.policies()).unwrap();
    let from = |directory: &std::path::Path| {
        let password = format!("file:{}", world.password_file().display());
        world.run(["rebuild", "--from", directory.to_str().unwrap(), "--repository-password", &password])
    };
    let _ = from(&world.primary()).expect(2);
    let _ = from(&world.path("nowhere")).expect(2).says(&["nowhere"]);
    fs::write(world.password_file(), "wrong\n").unwrap();
    let _ = from(&world.dr()).expect(2).says(&["password"]);
    assert!(!world.policies().join("home.toml").exists());
}
