//! A MariaDB server as a source: whole under write load, restored into something that answers, or a sentence.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use common::mysql::{PASSWORD, PASSWORD_IN_URL, Server, Writer, make_orders, program};
use common::{Field, World};

/// A system whose source `accounts` is the server behind `SHOP_DSN`.
fn world(dsn: &str, keys: &str, plan: &str) -> World {
    let mut world = World::new();
    world.set_variable("SHOP_DSN", dsn);
    write_policy(&world, keys, plan);
    world
}

fn write_policy(world: &World, keys: &str, plan: &str) {
    let head = world.policy_head("shop", "{ rpo = \"1h\", rto = \"15m\" }");
    let source = "[[source]]\nname = \"accounts\"\nkind = \"mysql\"\ndsn = \"env:SHOP_DSN\"\n";
    world.write_policy("shop", &format!("{head}{source}{keys}\n{plan}"));
}

fn sql_check(query: &str, expect: &str) -> String {
    format!("[[plan.drill.check]]\nsql = \"{query}\"\non = \"accounts\"\nexpect = \"{expect}\"\n")
}

const RESTORE: &str = "[[plan.drill.step]]\nrestore = \"accounts\"\n";
const BEACON: &str = "beacon = { sql = \"select max(at) from orders\" }\n";

#[test]
fn a_server_under_write_load_comes_back_whole_and_answers() {
    if common::is_root() && !common::may_pass_closed_directories() {
        return common::skip("root may not pass through closed directories here");
    }
    let server = Server::start();
    make_orders(&server);
    make_the_rest(&server);
    let world = world(&server.dsn("backup", PASSWORD_IN_URL), BEACON, "");
    let writer = Writer::start(&server);
    std::thread::sleep(std::time::Duration::from_millis(500));
    // The primary's own root is not let into a server with its users without a password.
    server.sql("", "alter user root@localhost identified by 'hunter2 of root'");
    let _ =
        world.run(["backup", "shop"]).expect(0).says(&["without transactions", "1, for instance other.plain (Aria)"]);
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
        sql_check("select hex(bytes) from things", "0027005C22FF0A0D1A"),
        sql_check("select count(*) from other.notes", "= 1000"),
        sql_check("select count(*) from other.kept for system_time all", "= 2"),
        sql_check("select 'NULL' as `<a \\\"b>`", "NULL"),
        sql_check("select concat_ws(' ', user, is_role) from mysql.user where user in ('reader')", "reader Y"),
        sql_check("select count(*) from mysql.roles_mapping where user = 'app' and role = 'reader'", "= 1"),
        sql_check("select group_concat(routine_name) from information_schema.routines where routine_schema = 'shop'", "hello"),
        sql_check("select concat(name, ' ', status) from mysql.event", "nightly ENABLED"),
        sql_check("select trigger_name from information_schema.triggers where trigger_schema = 'shop'", "guard"),
        "[[plan.drill.check]]\ncommand = \"cd $LIFEBOAT_SOURCE_ACCOUNTS/server && mariadb --no-defaults --socket=socket -N -e 'select \
         count(*) from shop.large'\"\nexpect = \"> 0\"\n"
            .to_owned(),
    ];
    write_policy(&world, BEACON, &plan.concat());
    let document = world.run(["drill", "shop", "--json"]).json();
    let report = fs::read_to_string(document.text("report")).unwrap();
    assert_eq!(document["passed"], true, "{report}");
    assert!(report.contains("beacon") && !report.contains("hunter2"), "{report}");
    assert_eq!(servers_in(&world.state()), Vec::<String>::new(), "the scratch server is gone");

    // What did not change is not stored again.
    let second = world.run(["backup", "shop", "--json"]).expect(0).json();
    let second = second["points"][0].number("added_bytes");
    let third = world.run(["backup", "shop", "--json"]).expect(0).json();
    let (bytes, third) = (third["points"][0].number("bytes"), third["points"][0].number("added_bytes"));
    assert!(third <= second && third < bytes / 4.0, "{third} of {bytes} bytes are new");
    let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
}

/// Beside the tables that are written: what else a server holds.
fn make_the_rest(server: &Server) {
    server.sql("", "create database other");
    server.sql(
        "other",
        "create table notes (id int) engine=InnoDB; insert into notes select seq from seq_1_to_1000;
         create table plain (id int) engine=Aria;
         create table kept (id int) with system versioning; insert into kept values (1); update kept set id = 2;",
    );
    server.sql(
        "shop",
        "create view large as select * from orders where id > 10; create sequence numbers;
         create procedure hello() select 'hello';
         create event nightly on schedule every 1 second starts '2001-01-01' do delete from orders;
         create table things (id int, bytes blob); insert into things values (1, x'0027005c22ff0a0d1a');
         create trigger guard before delete on things for each row signal sqlstate '45000';
         create role reader; grant select on other.* to reader;
         create user app@'%' identified by 'hunter2 of app'; grant reader to app@'%';",
    );
}

/// Command lines of processes whose working directory lies below this directory.
fn servers_in(directory: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let inside =
        processes.filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory)));
    inside
        .map(|entry| String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).unwrap_or_default()).into_owned())
        .collect()
}

#[test]
fn checks_do_not_write_and_a_dump_that_cannot_be_loaded_is_told() {
    if common::is_root() && !common::may_pass_closed_directories() {
        return common::skip("root may not pass through closed directories here");
    }
    let server = Server::start();
    server.sql("shop", "create table notes (id int); insert into notes values (1), (null)");
    let dsn = server.dsn("backup", PASSWORD_IN_URL);
    let plan = [
        RESTORE.to_owned(),
        sql_check("insert into notes values (7)", "= 1"),
        sql_check("select sleep(30)", "= 0").replace("expect", "within = \"1s\"\nexpect"),
        sql_check("select max(id) from notes where id > 1", "= 1"),
        sql_check("select id from notes where id > 1", "= 1"),
        sql_check("select count(*) from notes", "= 2"),
    ];
    let world = world(&dsn, "", &plan.concat());
    let _ = world.run(["backup", "shop"]).expect(0);
    let document = world.run(["drill", "shop", "--json"]).expect(1).json();
    let report = fs::read_to_string(document.text("report")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let said: Vec<String> =
        checks.iter().map(|check| format!("{} {}", check["passed"], check.text("actual"))).collect();
    for (said, words) in
        said.iter().zip(["READ ONLY", "took longer than", "false no value", "false no value", "true 2"])
    {
        assert!(said.contains(words), "{said}: {words}");
    }

    // A file at the DR site that is no dump.
    fs::create_dir(world.path("programs")).unwrap();
    fake(&world, "mariadb-dump", "echo 'select 1; no statement;'; echo '-- Dump completed'");
    link(&world, &["mariadb"]);
    let own = world.path("programs");
    let plan = [RESTORE.to_owned(), sql_check("select 1", "= 1")].concat();
    write_policy(&world, &format!("programs = \"{}\"\n", own.display()), &plan);
    let _ = world.run(["backup", "shop"]).expect(0);
    write_policy(&world, "", &plan);
    let _ = world.run(["drill", "shop"]).expect(1).says(&["the dump cannot be loaded", "no statement"]);
    assert_eq!(servers_in(&world.state()), Vec::<String>::new());
}

/// A program of this world's own.
fn fake(world: &World, name: &str, script: &str) {
    let version = "mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for Linux";
    let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && exec echo '{version}'\n{script}\n");
    let path = world.path("programs").join(name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn link(world: &World, names: &[&str]) {
    for name in names {
        std::os::unix::fs::symlink(program(name), world.path("programs").join(name)).unwrap();
    }
}

fn no_point(world: &World, words: &[&str]) {
    let output = world.run(["backup", "shop"]).expect(1).says(words);
    assert!(!output.stderr.contains("hunter2") && !output.stderr.contains("wrong-one"), "{}", output.stderr);
    assert_eq!(world.points("shop"), Vec::<serde_json::Value>::new());
}

#[test]
fn a_server_that_cannot_be_read_leaves_no_point_and_a_sentence() {
    let mut server = Server::start();
    server.sql("shop", "create table notes (id int); insert into notes select seq from seq_1_to_100000");
    no_point(&world(&server.dsn("backup", "wrong-one"), "", ""), &["no connection", "Access denied"]);
    let good = server.dsn("backup", PASSWORD_IN_URL);
    no_point(&world(&good, "database = \"absent\"\n", ""), &["Unknown database 'absent'"]);
    let wrong = world("mysql://backup@/shop?secret=hunter2", "", "");
    let _ = wrong.run(["backup", "shop"]).says(&["`secret` is not known"]);

    // Programs that are older than the server, or another's, break off in the middle, and end well all the same.
    let real = program("mariadb-dump");
    let real = real.display();
    let databases = |script: &str| format!("case \"$*\" in *--system*) exec {real} \"$@\" ;; esac\n{script}");
    for (script, keys, words) in [
        (databases(&format!("{real} \"$@\" | head -c 300000; kill -9 $$")), "", vec!["the dump failed", "signal 9"]),
        (databases(&format!("{real} \"$@\" | head -c 300000; exit 0")), "", vec!["breaks off", "Dump completed"]),
        (format!("{real} \"$@\" | head -c 1000"), "", vec!["breaks off"]),
        ("exec sleep 61".to_owned(), "timeout = \"3s\"\n", vec!["took longer than 3 s"]),
    ] {
        let world = world(&good, "", "");
        fs::create_dir(world.path("programs")).unwrap();
        link(&world, &["mariadb"]);
        fake(&world, "mariadb-dump", &script);
        write_policy(&world, &format!("programs = \"{}\"\n{keys}", world.path("programs").display()), "");
        no_point(&world, &words);
        let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
    }
    for said in ["mariadb-dump  Ver 10.19 Distrib 5.5.68-MariaDB, for Linux", "mysqldump  Ver 8.0.36 for Linux"] {
        let world = world(&good, "", "");
        fs::create_dir(world.path("programs")).unwrap();
        link(&world, &["mariadb"]);
        fake(&world, "mysqldump", "");
        let path = world.path("programs/mysqldump");
        fs::write(&path, format!("#!/bin/sh\necho '{said}'\n")).unwrap();
        write_policy(&world, &format!("programs = \"{}\"\n", world.path("programs").display()), "");
        no_point(&world, &["a dump of this server of MariaDB 1", "mysqldump of M", "suitable version"]);
    }
    server.stop();
    no_point(&world(&good, "", ""), &["no connection to the MariaDB or MySQL server"]);
}

#[test]
fn a_user_that_may_too_little_is_told_what_the_backup_lacks() {
    let server = Server::start();
    server.sql("shop", "create table notes (id int); create procedure hello() select 'hello'");
    server.sql("", "create database hidden; create user weak@localhost identified by 'weak'");
    no_point(
        &world(&server.dsn("weak", "weak").replace("/shop?", "/?"), "", ""),
        &["sees no database", "grant select"],
    );
    server.sql("", "grant select, show view on shop.* to weak@localhost");
    let weak = world(&server.dsn("weak", "weak"), "", "");
    let lacks = [
        "lacks a right everywhere",
        "SELECT, SHOW VIEW, TRIGGER, EVENT",
        "they and their grants are not in the backup",
    ];
    no_point(&weak, &["show events", "Access denied"]);
    server.sql("", "grant event on shop.* to weak@localhost");
    let _ = weak.run(["backup", "shop"]).expect(0).says(&lacks);
    let dump = fs::read_to_string(weak.restore_source("shop", "accounts", "weak").join("dump.sql")).unwrap();
    assert!(dump.contains("CREATE TABLE `notes`") && !dump.contains("hidden") && !dump.contains("`hello`"), "{dump}");

    let all = world(&server.dsn("backup", PASSWORD_IN_URL), "", "");
    let told = all.run(["backup", "shop"]).expect(0);
    assert!(!told.stderr.contains("lacks"), "{}", told.stderr);
    let dump = fs::read_to_string(all.restore_source("shop", "accounts", "all").join("dump.sql")).unwrap();
    for words in [
        "hidden",
        "PROCEDURE `hello`",
        "USER IF NOT EXISTS `weak`@`localhost`",
        "GRANT SELECT, SHOW VIEW, EVENT ON `shop`.* TO `weak`",
    ] {
        assert!(dump.contains(words), "{words}: {dump}");
    }
}

#[test]
fn a_locked_table_ends_the_dump_with_its_name() {
    let server = Server::start();
    server.sql("shop", "create table notes (id int); insert into notes values (1)");
    let mut lock = server.client("shop").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    lock.stdin.as_mut().unwrap().write_all(b"lock tables notes write; select sleep(600);\n").unwrap();
    common::wait_until("the table is locked", || {
        server.sql("", "select count(*) from information_schema.processlist where state = 'User sleep'") == "1"
    });
    let world = world(&server.dsn("backup", PASSWORD_IN_URL), "timeout = \"6s\"\n", "");
    no_point(&world, &["the table `shop`.`notes` is locked by another session", "3 s"]);
    lock.kill().unwrap();
    lock.wait().unwrap();
    let session = server.sql("", "select id from information_schema.processlist where state = 'User sleep'");
    server.sql("", &format!("kill {session}"));
    let _ = world.run(["backup", "shop"]).expect(0);
}

#[test]
fn its_password_is_in_no_argument_list_and_in_no_file() {
    let server = Server::start();
    server.sql("shop", "create table notes as select repeat(md5(seq), 30) as text from seq_1_to_20000");
    let mut world = world(&server.dsn("backup", PASSWORD_IN_URL), "", "");
    // What a user has configured for the same programs changes nothing.
    let home = world.path("home-with-options");
    fs::create_dir(&home).unwrap();
    fs::write(home.join(".my.cnf"), "[client]\nuser=nobody\n[mysqldump]\nno-data\ncompact\n").unwrap();
    world.set_variable("HOME", &home);
    let mut backup = world.command(["backup", "shop"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut seen = Vec::new();
    while backup.try_wait().unwrap().is_none() {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            assert!(!holds_password(&line), "{}", String::from_utf8_lossy(&line));
            seen.push(line);
        }
    }
    assert!(seen.iter().any(|line| contains(line, "mariadb-dump")), "it was looked at while the program ran");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut backup.stderr.take().unwrap(), &mut said).unwrap();
    assert!(backup.wait().unwrap().success() && !holds_password(said.as_bytes()), "{said}");
    for file in common::files_below(&world.dr()).into_iter().chain(common::files_below(&world.state())) {
        assert!(!holds_password(&fs::read(&file).unwrap()), "{}", file.display());
    }
    let dump = world.restore_source("shop", "accounts", "restored").join("dump.sql");
    assert!(fs::metadata(dump).unwrap().len() > 20_000 * 900);
}

fn holds_password(bytes: &[u8]) -> bool {
    contains(bytes, PASSWORD) || contains(bytes, PASSWORD_IN_URL)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
