//! A PostgreSQL cluster as a source: whole under write load, restored into something that runs, or a sentence.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::postgres::{Cluster, PASSWORD, Writer, as_server_user, make_orders, programs};
use common::{Field, World};

/// A system whose source `accounts` is the cluster behind `SHOP_DSN`.
fn world(dsn: &str, keys: &str, plan: &str) -> World {
    let mut world = World::new();
    world.set_variable("SHOP_DSN", dsn);
    write_policy(&world, keys, plan);
    world
}

fn write_policy(world: &World, keys: &str, plan: &str) {
    let head = world.policy_head("shop", "{ rpo = \"1h\", rto = \"15m\" }");
    let source = "[[source]]\nname = \"accounts\"\nkind = \"postgres\"\ndsn = \"env:SHOP_DSN\"\n";
    world.write_policy("shop", &format!("{head}{source}{keys}\n{plan}"));
}

fn sql_check(query: &str, expect: &str) -> String {
    format!("[[plan.drill.check]]\nsql = \"{query}\"\non = \"accounts\"\nexpect = \"{expect}\"\n")
}

const RESTORE: &str = "[[plan.drill.step]]\nrestore = \"accounts\"\n";
const BEACON: &str = "beacon = { sql = \"select max(at) from orders\" }\n";

#[test]
fn a_cluster_under_write_load_comes_back_whole_and_runs() {
    let cluster = Cluster::start();
    make_orders(&cluster);
    cluster.sql("postgres", "create database other");
    cluster.sql("other", "create table notes (id int); insert into notes select generate_series(1, 1000)");
    let world = world(&cluster.dsn(PASSWORD), BEACON, "");
    let writer = Writer::start(&cluster);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let _ = world.run(["backup", "shop"]).expect(0);
    let commits = writer.stop();
    let point = world.points("shop").pop().unwrap();
    let data_time: jiff::Timestamp = point.text("data_time").parse().unwrap();
    let before = commits.iter().filter(|at| **at < data_time).count();
    assert!(before > 20 && before < commits.len(), "{before} of {} commits before the data time", commits.len());

    let plan = [
        RESTORE.to_owned(),
        sql_check("select count(*) from orders", &format!(">= {before}")),
        sql_check("select sum(balance) from accounts", "= 1000"),
        sql_check("select (select count(*) from orders) - orders from counted", "= 0"),
        sql_check("select rolreplication from pg_roles where rolname = 'backup'", "t"),
        "[[plan.drill.check]]\ncommand = \"psql -X -A -t -h $LIFEBOAT_SOURCE_ACCOUNTS -U owner -d other -c 'select count(*) \
         from notes'\"\nexpect = \"= 1000\"\n"
            .to_owned(),
    ];
    write_policy(&world, BEACON, &plan.concat());
    let drill = world.run(["drill", "shop", "--json"]).expect(0);
    let document = drill.json();
    assert_eq!(document["passed"], true, "{document:#}");
    let report = fs::read_to_string(document.text("report")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let measured = &report["recovered_to"];
    assert!(report.to_string().contains("beacon"), "{measured:#}");
    assert!(!report.to_string().contains("hunter2"));
    assert_eq!(processes_below(&world.state()), Vec::<String>::new(), "the scratch server is gone");

    // What did not change is not stored again.
    let second = world.run(["backup", "shop", "--json"]).expect(0).json();
    let (bytes, added) = (second["points"][0].number("bytes"), second["points"][0].number("added_bytes"));
    assert!(added < bytes / 4.0, "{added} of {bytes} bytes are new");
    let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
}

/// Command lines of processes whose working directory or open files lie below this directory.
fn processes_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let inside = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
        if inside {
            found.push(
                String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).unwrap_or_default()).into_owned(),
            );
        }
    }
    found
}

#[test]
fn what_an_operator_restores_starts_with_the_servers_own_program() {
    let cluster = Cluster::start();
    cluster.sql("shop", "create table notes (id int); insert into notes select generate_series(1, 1000)");
    // Nobody who locks a table holds the backup up.
    let mut lock = cluster.psql("shop").stdin(Stdio::piped()).spawn().unwrap();
    let order = b"begin; lock table notes in access exclusive mode; select pg_sleep(600);\n";
    std::io::Write::write_all(lock.stdin.as_mut().unwrap(), order).unwrap();
    let locks = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted";
    common::wait_until("the table is locked", || cluster.sql("postgres", locks) == "1");
    let world = world(&cluster.dsn(PASSWORD), "", "");
    let _ = world.run(["backup", "shop"]).expect(0);
    lock.kill().unwrap();
    lock.wait().unwrap();

    let restored = world.restore_source("shop", "accounts", "restored");
    assert_eq!(fs::read_to_string(restored.join("PG_VERSION")).unwrap().trim(), version());
    assert!(restored.join("backup_label").exists() && restored.join("global/pg_control").exists());
    // As docs/databases.md has it.
    let data = cluster.scratch("restored");
    let copied = Command::new("cp").arg("-a").arg(&restored).arg(&data).status().unwrap();
    assert!(copied.success());
    cluster.own(&data);
    let checked = as_server_user(programs().join("pg_verifybackup")).arg(&data).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let control = |action: &[&str]| {
        let mut command = as_server_user(programs().join("pg_ctl"));
        command.arg("-D").arg(&data).arg("-w").arg("-l").arg(data.join("log")).args(action);
        assert!(command.status().unwrap().success(), "{action:?}");
    };
    let options = format!("-c listen_addresses='' -k {}", data.display());
    control(&["-o", &options, "start"]);
    let mut psql = cluster.psql("shop");
    let output = psql.env("PGHOST", &data).args(["-c", "select count(*) from notes"]).output().unwrap();
    control(&["-m", "fast", "stop"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1000");
}

fn version() -> String {
    programs().parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_server_that_cannot_be_read_leaves_no_point_and_a_sentence() {
    let mut cluster = Cluster::start();
    let no_point = |world: &World, words: &[&str]| {
        let output = world.run(["backup", "shop"]).expect(1).says(words);
        assert!(!output.stderr.contains("hunter2") && !output.stderr.contains("wrong-one"), "{}", output.stderr);
        assert_eq!(world.points("shop"), Vec::<serde_json::Value>::new());
    };
    no_point(&world(&cluster.dsn("wrong-one"), "", ""), &["no connection", "password authentication failed"]);
    let good = cluster.dsn(PASSWORD);
    no_point(&world(&good, "database = \"absent\"\n", ""), &["database \"absent\" does not exist"]);
    no_point(&world("host=/x secret=hunter2", "", ""), &["`secret` is not known"]);

    // Programs that are older than the server, break off in the middle, and end well all the same.
    let real = programs().join("pg_basebackup");
    let real = real.display();
    for (script, keys, words) in [
        (
            "echo 'pg_basebackup (PostgreSQL) 14.2'".to_owned(),
            "",
            vec!["pg_basebackup", "is of version 14", &version()],
        ),
        (with_version(&format!("{real} \"$@\" | head -c 3000000; kill -9 $$")), "", vec!["signal 9"]),
        (with_version(&format!("{real} \"$@\" | head -c 3000000; exit 0")), "", vec!["base backup cannot be read"]),
        (with_version(&format!("{real} --no-manifest \"$@\"")), "", vec!["without its list of files"]),
        (with_version("exec sleep 61"), "timeout = \"3s\"\n", vec!["took longer than 3 s"]),
    ] {
        let world = World::new();
        let directory = world.path("programs");
        fs::create_dir(&directory).unwrap();
        std::os::unix::fs::symlink(programs().join("psql"), directory.join("psql")).unwrap();
        fs::write(directory.join("pg_basebackup"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(directory.join("pg_basebackup"), PermissionsExt::from_mode(0o755)).unwrap();
        let mut world = world;
        world.set_variable("SHOP_DSN", &good);
        write_policy(&world, &format!("programs = \"{}\"\n{keys}", directory.display()), "");
        no_point(&world, &words);
        let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
    }

    // The server leaves out what lies behind a link, and does not tell its list.
    let number = cluster.sql("shop", "create table moved as select 1; select pg_relation_filepath('moved')");
    let elsewhere = cluster.scratch("elsewhere");
    let inside = cluster.scratch("data").join(&number);
    fs::rename(&inside, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &inside).unwrap();
    let partial = world(&good, "", "");
    let _ = partial.run(["backup", "shop"]).expect(3).says(&["leaves such out"]);
    assert_eq!(partial.points("shop")[0]["state"], "partial");
    fs::remove_file(&inside).unwrap();
    fs::rename(&elsewhere, &inside).unwrap();
    let database = inside.parent().unwrap();
    fs::rename(database, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, database).unwrap();
    no_point(&world(&good, "", ""), &["lacks a database", "PG_VERSION"]);

    cluster.sql("postgres", "alter role backup noreplication");
    no_point(&world(&good, "", ""), &["may not read the whole cluster", "replication"]);
    cluster.sql("postgres", "alter role backup replication");
    cluster.stop();
    no_point(&world(&good, "", ""), &["no connection to the PostgreSQL server"]);
}

fn with_version(script: &str) -> String {
    format!("[ \"$1\" = --version ] && exec echo 'pg_basebackup (PostgreSQL) {}.0'\n{script}", version())
}

#[test]
fn its_password_is_in_no_argument_list_and_in_no_file() {
    let cluster = Cluster::start();
    cluster
        .sql("shop", "create table notes as select repeat(md5(n::text), 30) as text from generate_series(1, 20000) n");
    let world = world(&cluster.dsn(PASSWORD), "", "");
    let mut backup = world.command(["backup", "shop"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut seen = Vec::new();
    while backup.try_wait().unwrap().is_none() {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            assert!(!contains(&line, PASSWORD), "{}", String::from_utf8_lossy(&line));
            seen.push(line);
        }
    }
    assert!(seen.iter().any(|line| contains(line, "pg_basebackup")), "it was looked at while the program ran");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut backup.stderr.take().unwrap(), &mut said).unwrap();
    assert!(backup.wait().unwrap().success() && !said.contains(PASSWORD), "{said}");
    for file in common::files_below(&world.dr()).into_iter().chain(common::files_below(&world.state())) {
        assert!(!contains(&fs::read(&file).unwrap(), PASSWORD), "{}", file.display());
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
