//! Bad input gets a sentence: file, line, column, what was expected; exit code 2; nothing started, nothing made.

mod common;

use std::fs;

use common::World;

/// A policy that is right, one construct a line; `LINE 5` and so on below count on it.
const GOOD: &str = r#"system = "shop"
timezone = "UTC"
objectives = { rpo = "1h", rto = "15m" }
[primary]
provider = "local"
[dr]
provider = "local"
path = "@DR@"
repository_password = "file:@PASSWORD@"
[[source]]
name = "files"
kind = "files"
paths = ["@PRIMARY@"]
[[source]]
name = "orders"
kind = "sqlite"
path = "@PRIMARY@/orders.db"
[schedule]
backup = "daily 00:30"
[[plan.drill.step]]
name = "one"
restore = "files"
[[plan.drill.step]]
name = "two"
restore = "orders"
after = ["one"]
[[plan.drill.check]]
sql = "select 1"
on = "orders"
expect = "> 0"
"#;

struct Case {
    /// Line of [`GOOD`], from 1, that is replaced.
    line: usize,
    text: &'static str,
    /// Where in that line the message must point: this text begins there.
    at: &'static str,
    says: &'static [&'static str],
}

const CASES: [Case; 15] = [
    Case { line: 1, text: "systen = \"shop\"", at: "systen", says: &["systen", "\"system\""] },
    Case { line: 1, text: "system = 5", at: "5", says: &["5"] },
    Case { line: 1, text: "system = \"../shop\"", at: "\"../shop", says: &["../shop"] },
    Case {
        line: 2,
        text: "timezone = \"Europe/Pariss\"",
        at: "\"Europe",
        says: &["Europe/Pariss", "\"Europe/Paris\""],
    },
    Case { line: 3, text: "objectives = { rpo = \"1 hour and a bit\" }", at: "\"1 hour", says: &["1 hour and a bit"] },
    Case { line: 5, text: "provider = \"locl\"", at: "\"locl", says: &["locl", "\"local\""] },
    Case { line: 8, text: "path = \"@PRIMARY@/dr\"", at: "\"", says: &["files"] },
    Case { line: 9, text: "repository_password = \"hunter2-hunter2\"", at: "\"hunter2", says: &["file:", "env:"] },
    Case { line: 12, text: "kind = \"file\"", at: "\"file\"", says: &["file", "\"files\""] },
    Case { line: 13, text: "paths = \"@PRIMARY@\"", at: "\"", says: &["paths"] },
    Case { line: 15, text: "name = \"files\"", at: "\"files\"", says: &["files"] },
    Case { line: 19, text: "backup = \"daily 25:30\"", at: "\"daily", says: &["25:30"] },
    Case { line: 22, text: "restore = \"filez\"", at: "\"filez", says: &["filez", "\"files\""] },
    Case { line: 26, text: "after = [\"on\"]", at: "\"on\"", says: &["on", "\"one\""] },
    Case { line: 29, text: "on = \"ordrs\"", at: "\"ordrs", says: &["ordrs", "\"orders\""] },
];

fn filled(world: &World, text: &str) -> String {
    text.replace("@DR@", world.dr().to_str().unwrap())
        .replace("@PASSWORD@", world.password_file().to_str().unwrap())
        .replace("@PRIMARY@", world.primary().to_str().unwrap())
}

fn with_line(line: usize, text: &str) -> String {
    let mut lines: Vec<&str> = GOOD.lines().collect();
    lines[line - 1] = text;
    lines.join("\n")
}

fn assert_nothing_made(world: &World) {
    assert!(!world.dr().exists(), "no DR site was made");
    assert!(!world.primary().join("dr").exists());
    assert!(!world.state().exists() || common::files_below(&world.state()).is_empty(), "no state was made");
}

#[test]
fn the_good_policy_is_good() {
    let world = World::new();
    let path = world.write_policy("shop", &filled(&world, GOOD));
    let _ = world.run(["check", path.to_str().unwrap()]).expect(0);
    let _ = world.run(["check"]).expect(0);
    assert_nothing_made(&world);
}

#[test]
fn each_mistake_is_pointed_at_and_nothing_starts() {
    for case in CASES {
        let world = World::new();
        fs::write(world.password_file(), "secret\n").unwrap();
        let path = world.write_policy("shop", &filled(&world, &with_line(case.line, case.text)));
        let place = format!("shop.toml:{}:{}", case.line, case.text.find(case.at).unwrap() + 1);
        for arguments in [vec!["check", path.to_str().unwrap()], vec!["backup", "shop"]] {
            let output = world.run(arguments).expect(2).says(&[&place]).says(case.says);
            assert!(!output.stderr.contains("hunter2"), "a secret is not repeated");
        }
        assert_nothing_made(&world);
    }
}

#[test]
fn a_cycle_names_its_steps() {
    let world = World::new();
    let text = with_line(22, "restore = \"files\"\nafter = [\"two\"]");
    world.write_policy("shop", &filled(&world, &text));
    let _ = world.run(["check"]).expect(2).says(&["shop.toml:", "one", "two"]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let world = World::new();
    let text = with_line(2, "timezon = \"UTC\"").replace("daily 00:30", "daily 24:61");
    world.write_policy("shop", &filled(&world, &text));
    let _ = world.run(["check"]).expect(2).says(&["shop.toml:2:1", "shop.toml:19:"]);
}

#[test]
fn what_is_no_toml_is_said_to_be_none() {
    let world = World::new();
    world.write_policy("shop", "system = \"shop\"\nthis is not TOML\n");
    let _ = world.run(["check"]).expect(2).says(&["shop.toml:2:"]);
    fs::write(world.policies().join("shop.toml"), b"system = \"\xff\xfe\"\n").unwrap();
    let _ = world.run(["check"]).expect(2).says(&["shop.toml"]);
}

#[test]
fn usage_and_unknown_systems_are_wrong_input() {
    let world = World::new();
    let path = world.write_policy("shop", &filled(&world, GOOD));
    let _ = world.run(["backup", "shpo"]).expect(2).says(&["shpo", "shop"]);
    let _ = world.run(["backup", "shop", "--source", "ordrs"]).expect(2).says(&["ordrs", "orders"]);
    let _ = world.run(["drill", "shpo"]).expect(2).says(&["shpo"]);
    let _ = world.run(["bakup", "shop"]).expect(2).says(&["backup"]);
    let _ = world.run(["restore", "shop"]).expect(2).says(&["--to"]);
    let missing = path.with_file_name("missing.toml");
    let _ = world.run(["check", missing.to_str().unwrap()]).expect(2).says(&["missing.toml"]);
    assert_nothing_made(&world);
}

#[test]
fn a_wrong_password_is_wrong_input_and_changes_nothing() {
    let world = World::new();
    fs::write(world.primary().join("file"), "x").unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    let before = common::files_below(&world.dr());
    fs::write(world.password_file(), "not the password\n").unwrap();
    let target = world.path("target");
    for arguments in [
        vec!["backup", "home"],
        vec!["restore", "home", "--to", target.to_str().unwrap()],
        vec!["verify", "home", "--read-data"],
    ] {
        let _ = world.run(arguments).expect(2).says(&["password"]);
    }
    assert!(!target.exists());
    let stored = |path: &&std::path::PathBuf| !path.starts_with(world.dr().join("ledger"));
    let after = common::files_below(&world.dr());
    assert!(after.iter().filter(stored).eq(before.iter().filter(stored)), "{after:?}");
}
