//! Makes the sample system: a web-application tree, rotating logs, a disk image, a database, and the policy for it.
//!
//! Making it again completes what a killed quickstart left; nothing is deleted, and a password is never replaced.

use std::fs::{self, File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::content::{Seed, log_line, source_text};
use super::customers::Customers;
use super::place::{Place, SYSTEM};
use super::war::web_archive;
use crate::ground::durable_file;
use crate::ground::failure::{OrFail, Result};

/// Web applications and their sizes in KiB.
pub const WEB_APPLICATIONS: [(&str, usize); 8] = [
    ("shop", 5600),
    ("checkout", 4200),
    ("catalog", 3800),
    ("accounts", 3100),
    ("admin", 2600),
    ("reports", 2200),
    ("search", 1700),
    ("health", 1100),
];
/// How many rotated logs are kept beside `app.log`.
pub const ROTATED_LOGS: u32 = 4;
/// Size of the disk image.
pub const IMAGE_BYTES: u64 = 64 << 20;
/// Money in all accounts together; no transfer changes it.
const TOTAL_BALANCE: i64 = 1_000_000;
const ACCOUNTS: i64 = 50;
const SMALL_FILES: u64 = 3000;
const PATH_IN_TEMPLATE: &str = "/srv/quickstart-shop";

/// Makes or completes the sample system, with a PostgreSQL cluster in its policy when that is wanted. `now` dates its logs and
/// its first orders.
pub fn make(place: &Place, now: Timestamp, customers: bool) -> Result<()> {
    for directory in [place.logs(), place.policies().join("scripts"), place.cold(), place.state()] {
        create_directory(&directory)?;
    }
    make_web_applications(place)?;
    make_logs(place, now)?;
    make_disk_image(&place.disk_image())?;
    make_database(&place.database(), now)?;
    make_policy(place, customers)
}

fn make_web_applications(place: &Place) -> Result<()> {
    let webapp = place.webapp();
    for (number, (name, kibibytes)) in WEB_APPLICATIONS.iter().enumerate() {
        let war = web_archive(name, &mut Seed::new(number as u64), kibibytes * 1024);
        write(&webapp.join(format!("deployment/{name}.war")), &war)?;
    }
    write_checksums(&webapp)?;
    make_configuration(&webapp)?;
    let mut seed = Seed::new(100);
    for number in 0..SMALL_FILES {
        let extension = ["css", "js", "jsp", "html"][(number % 4) as usize];
        let path = small_file(number, extension);
        let lines = 8 + seed.below(90);
        write(&webapp.join(path), source_text(&mut seed, extension, lines).as_bytes())?;
    }
    make_special_files(&webapp)
}

/// Where the small file of this number lies below the web-application tree.
pub fn small_file(number: u64, extension: &str) -> String {
    format!("static/module-{:02}/part-{}/file-{number:04}.{extension}", number % 30, number / 30 % 5)
}

fn make_configuration(webapp: &Path) -> Result<()> {
    let server = "<?xml version=\"1.0\"?>\n<server port=\"8443\">\n  <database file=\"orders.db\"/>\n</server>\n";
    write(&webapp.join("conf/server.xml"), server.as_bytes())?;
    write(&webapp.join("conf/shop.toml"), b"[shop]\nname = \"Quickstart Shop\"\ncurrency = \"EUR\"\nworkers = 8\n")?;
    let mut seed = Seed::new(200);
    for area in ["billing", "delivery", "identity", "mail"] {
        let text = source_text(&mut seed, "properties", 60);
        write(&webapp.join(format!("conf/{area}.properties")), text.as_bytes())?;
    }
    Ok(())
}

/// What a plain copy tends to lose: an executable, a symlink, a hard link, an extended attribute.
fn make_special_files(webapp: &Path) -> Result<()> {
    let start = webapp.join("bin/start.sh");
    write(&start, b"#!/bin/sh\nexec java -jar deployment/shop.war\n")?;
    fs::set_permissions(&start, Permissions::from_mode(0o755))
        .or_fail(|| format!("cannot make {} executable", start.display()))?;
    let link = webapp.join("current.war");
    unless_there(symlink("deployment/shop.war", &link), &link)?;
    let second = webapp.join("conf/server-default.xml");
    unless_there(fs::hard_link(webapp.join("conf/server.xml"), &second), &second)?;
    // Not every file system keeps extended attributes, and the sample is as good without one.
    let flags = rustix::fs::XattrFlags::empty();
    let _ = rustix::fs::setxattr(&start, "user.origin", b"quickstart", flags);
    Ok(())
}

fn unless_there(made: std::io::Result<()>, path: &Path) -> Result<()> {
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).or_fail(|| format!("cannot create {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes the checksums of all web applications, as `sha256sum -c` reads them; the recovery script holds the restored
/// ones against it.
pub fn write_checksums(webapp: &Path) -> Result<()> {
    let mut sums = String::new();
    for (name, _) in WEB_APPLICATIONS {
        let relative = format!("deployment/{name}.war");
        let path = webapp.join(&relative);
        let bytes = fs::read(&path).or_fail(|| format!("cannot read {}", path.display()))?;
        sums.push_str(&format!("{}  {relative}\n", hex::encode(Sha256::digest(bytes))));
    }
    write(&webapp.join("conf/SHA256SUMS"), sums.as_bytes())
}

fn make_logs(place: &Place, now: Timestamp) -> Result<()> {
    let mut seed = Seed::new(300);
    for age in 0..=ROTATED_LOGS {
        let lines = if age == 0 { 6_000 } else { 18_000 };
        let begin = now - SignedDuration::from_hours(i64::from(age) + 1);
        let path = if age == 0 { place.logs().join("app.log") } else { place.logs().join(format!("app.log.{age}")) };
        write_log(&path, &mut seed, begin, lines)?;
    }
    Ok(())
}

/// An hour of log lines from `begin`.
fn write_log(path: &Path, seed: &mut Seed, begin: Timestamp, lines: i32) -> Result<()> {
    let file = File::create(path).or_fail(|| format!("cannot create {}", path.display()))?;
    let mut file = BufWriter::new(file);
    let distance = SignedDuration::from_hours(1) / lines;
    for number in 0..lines {
        let time = begin + distance * number;
        let line = log_line(seed, &format!("{time:.3}"));
        file.write_all(line.as_bytes()).or_fail(|| format!("cannot write {}", path.display()))?;
    }
    file.flush().or_fail(|| format!("cannot write {}", path.display()))
}

/// A labelled image whose blocks are partly data, partly text, and mostly holes.
fn make_disk_image(path: &Path) -> Result<()> {
    let file = File::create(path).or_fail(|| format!("cannot create {}", path.display()))?;
    let mut seed = Seed::new(400);
    let written = file.set_len(IMAGE_BYTES).and_then(|()| file.write_all_at(b"SHOP-DISK-001\n", 0)).and_then(|()| {
        (1..64).filter(|block| block % 4 == 1).try_for_each(|block| {
            let data = if block % 8 == 1 { seed.bytes(768 << 10) } else { vec![block as u8; 768 << 10] };
            file.write_all_at(&data, block << 20)
        })
    });
    written.or_fail(|| format!("cannot write {}", path.display()))
}

fn make_database(path: &Path, now: Timestamp) -> Result<()> {
    fill_database(path, now).or_fail(|| format!("cannot make the database {}", path.display()))
}

fn fill_database(path: &Path, now: Timestamp) -> rusqlite::Result<()> {
    let mut database = Connection::open(path)?;
    database.pragma_update(None, "journal_mode", "wal")?;
    let work = database.transaction()?;
    work.execute_batch(
        "create table if not exists orders (
             id integer primary key, at text not null, customer text not null, amount integer not null);
         create table if not exists accounts (id integer primary key, name text not null, balance integer not null);",
    )?;
    if work.query_row("select count(*) from accounts", [], |row| row.get::<_, i64>(0))? == 0 {
        let mut seed = Seed::new(500);
        for number in 0..2_000_i64 {
            let at = now - SignedDuration::from_secs((2_000 - number) * 40);
            work.execute(
                "insert into orders (at, customer, amount) values (?1, ?2, ?3)",
                params![format!("{at:.3}"), format!("customer-{}", seed.below(400)), seed.below(90_000) as i64],
            )?;
        }
        for number in 0..ACCOUNTS {
            let name = format!("account-{number:02}");
            let share = TOTAL_BALANCE / ACCOUNTS;
            work.execute("insert into accounts (name, balance) values (?1, ?2)", params![name, share])?;
        }
    }
    work.commit()
}

fn make_policy(place: &Place, customers: bool) -> Result<()> {
    let script = place.policies().join("scripts/verify-orders.sh");
    durable_file::replace(&script, include_bytes!("verify-orders.sh"), 0o755)
        .or_fail(|| format!("cannot write {}", script.display()))?;
    make_password(&place.password_file())?;
    if customers {
        let dsn = place.customers_dsn();
        durable_file::replace(&dsn, Customers::dsn(place).as_bytes(), 0o600)
            .or_fail(|| format!("cannot write {}", dsn.display()))?;
    }
    let policy = place.policy();
    durable_file::replace(&policy, policy_text(place, customers).as_bytes(), 0o644)
        .or_fail(|| format!("cannot write {}", policy.display()))
}

/// The policy template with this place's path: as a glob pattern for the logs, and everywhere as TOML text.
fn policy_text(place: &Place, customers: bool) -> String {
    let root = place.root().to_string_lossy();
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let more = if customers { include_str!("customers.toml") } else { "" };
    [include_str!("policy.toml"), more]
        .concat()
        .replace(
            &format!("{PATH_IN_TEMPLATE}/primary/logs"),
            &format!("{}/primary/logs", quoted(&globset::escape(&root))),
        )
        .replace(PATH_IN_TEMPLATE, &quoted(&root))
}

fn make_password(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).or_fail(|| "cannot get random bytes for the repository's password".to_owned())?;
    durable_file::create_new(path, format!("{}\n", hex::encode(bytes)).as_bytes(), 0o600)
        .or_fail(|| format!("cannot write the {SYSTEM} password file {}", path.display()))
}

fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).or_fail(|| format!("cannot create {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        create_directory(parent)?;
    }
    fs::write(path, bytes).or_fail(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_sample_satisfies_its_own_recovery_script_and_can_be_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let (place, _) = Place::claim(directory.path()).unwrap();
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        make(&place, now, false).unwrap();
        let password = fs::read(place.password_file()).unwrap();
        assert_eq!(password.len(), 65);
        make(&place, now, false).unwrap();
        assert_eq!(fs::read(place.password_file()).unwrap(), password, "a password is never replaced");

        let script = place.policies().join("scripts/verify-orders.sh");
        let run = || Command::new("sh").arg(&script).current_dir(place.primary()).output().unwrap();
        let output = run();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(place.primary().join("ready").exists());

        let war = place.webapp().join("deployment/admin.war");
        File::options().write(true).open(&war).unwrap().write_all_at(b"x", 70_000).unwrap();
        assert_eq!(run().status.code(), Some(1), "a damaged web application is noticed");
    }

    #[test]
    fn the_policy_names_this_place() {
        let directory = tempfile::tempdir().unwrap();
        let (place, _) = Place::claim(&directory.path().join("a \"quoted\" [shop]")).unwrap();
        let policy: toml::Table = policy_text(&place, true).parse().unwrap();
        let root = place.root().to_str().unwrap();
        assert_eq!(policy["dr"]["path"].as_str(), place.dr().to_str());
        let sources = policy["source"].as_array().unwrap();
        assert_eq!(sources[3]["path"].as_str(), place.database().to_str());
        assert_eq!(sources[4]["dsn"].as_str(), Some(&*format!("file:{}", place.customers_dsn().display())));
        let logs = sources[1]["paths"][0].as_str().unwrap();
        assert!(globset::Glob::new(logs).unwrap().compile_matcher().is_match(place.logs().join("app.log.1")));
        assert!(!policy_text(&place, true).contains(PATH_IN_TEMPLATE), "{root}");
    }
}
