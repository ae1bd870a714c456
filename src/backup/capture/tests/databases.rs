//! SQLite databases are copied consistently while others write.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, params};

use super::super::Captured;
use super::super::sqlite::{copy_database, ensure_space};
use super::fake::{FakeStore, missing};
use crate::ground::{Failure, FailureKind};
use crate::policy::SourceKind;

fn capture(store: &FakeStore<'_>, path: &Path) -> Result<Captured, Failure> {
    store.capture(&SourceKind::Sqlite { path: path.to_str().unwrap().to_owned() }, None)
}

/// Opens what was stored, written out to a new place.
fn reopen(store: &FakeStore<'_>, captured: &Captured, path: &Path, to: &Path) -> Connection {
    let content = store.content(&store.node(captured, path));
    assert_eq!(content[18..20], [1, 1], "no write-ahead log belongs to it");
    fs::write(to.join("restored.db"), content).unwrap();
    Connection::open(to.join("restored.db")).unwrap()
}

fn new_bank(path: &Path, journal: &str) -> Connection {
    let bank = Connection::open(path).unwrap();
    bank.busy_timeout(Duration::from_secs(20)).unwrap();
    bank.query_row(&format!("PRAGMA journal_mode = {journal}"), [], |row| row.get::<_, String>(0)).unwrap();
    bank.execute_batch(
        "PRAGMA synchronous = OFF;
         CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
         INSERT INTO account VALUES (1, 500), (2, 500);
         CREATE TABLE entry (id INTEGER PRIMARY KEY, filler BLOB);",
    )
    .unwrap();
    bank
}

/// Moves money and adds a row in each transaction, until told to stop; tells the last committed row.
fn write_on(path: &Path, committed: &AtomicI64, stop: &AtomicBool) {
    let mut bank = Connection::open(path).unwrap();
    bank.busy_timeout(Duration::from_secs(20)).unwrap();
    bank.execute_batch("PRAGMA synchronous = OFF").unwrap();
    let mut next = committed.load(Ordering::SeqCst) + 1;
    while !stop.load(Ordering::SeqCst) {
        let transfer = bank.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        transfer.execute("UPDATE account SET balance = balance - ?1 WHERE id = 1", [next]).unwrap();
        transfer.execute("INSERT INTO entry VALUES (?1, zeroblob(3000))", [next]).unwrap();
        transfer.execute("UPDATE account SET balance = balance + ?1 WHERE id = 2", [next]).unwrap();
        transfer.commit().unwrap();
        committed.store(next, Ordering::SeqCst);
        next += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn consistent_under_load(journal: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank.db");
    let bank = new_bank(&path, journal);
    let filler = vec![7_u8; 3000];
    bank.execute_batch("BEGIN").unwrap();
    for id in 1..=12_000 {
        bank.execute("INSERT INTO entry VALUES (?1, ?2)", params![id, filler]).unwrap();
    }
    bank.execute_batch("COMMIT").unwrap();
    let (committed, stop) = (AtomicI64::new(12_000), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| write_on(&path, &committed, &stop));
        for _ in 0..2 {
            let store = FakeStore::default();
            let before = committed.load(Ordering::SeqCst);
            let captured = capture(&store, &path).unwrap();
            let after = committed.load(Ordering::SeqCst) + 1;
            let to = tempfile::tempdir().unwrap();
            let copy = reopen(&store, &captured, &path, to.path());
            let one = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(one("SELECT sum(balance) FROM account"), 1000);
            let newest = one("SELECT max(id) FROM entry");
            assert!((before..=after).contains(&newest), "{before} <= {newest} <= {after}");
            assert_eq!(one("SELECT count(*) FROM entry"), newest);
            assert_eq!(missing(&captured), []);
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(committed.into_inner() > 12_000, "the writer wrote");
}

#[test]
fn a_copy_is_consistent_while_others_write_with_a_write_ahead_log() {
    consistent_under_load("WAL");
}

#[test]
fn a_copy_is_consistent_while_others_write_with_a_rollback_journal() {
    consistent_under_load("DELETE");
}

#[test]
fn rows_that_lie_only_in_the_write_ahead_log_are_taken_and_the_original_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank.db");
    let bank = new_bank(&path, "WAL");
    bank.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO entry VALUES (77, NULL)").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let before = (fs::read(&path).unwrap(), fs::read(directory.path().join("bank.db-wal")).unwrap());
    let store = FakeStore::default();
    let captured = capture(&store, &path).unwrap();
    let after = (fs::read(&path).unwrap(), fs::read(directory.path().join("bank.db-wal")).unwrap());
    assert!(before == after, "reading writes nothing");
    assert_eq!((captured.roots.as_slice(), captured.entries), (&[path.clone()][..], 1));
    assert_eq!(store.node(&captured, &path).mode, 0o640);
    let to = tempfile::tempdir().unwrap();
    let copy = reopen(&store, &captured, &path, to.path());
    assert_eq!(copy.query_row("SELECT id FROM entry", [], |row| row.get::<_, i64>(0)).unwrap(), 77);
}

#[test]
fn one_changed_row_adds_few_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank.db");
    let bank = new_bank(&path, "DELETE");
    bank.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO entry SELECT i, randomblob(2000) FROM n",
    )
    .unwrap();
    let store = FakeStore::default();
    capture(&store, &path).unwrap();
    let first = store.blobs();
    bank.execute_batch("UPDATE entry SET filler = randomblob(2000) WHERE id = 1000").unwrap();
    capture(&store, &path).unwrap();
    assert!(first > 50 && store.blobs() - first <= 3, "{first} blobs, then {}", store.blobs());
}

#[test]
fn what_is_no_database_gets_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("text.db");
    fs::write(&path, "not a database, though long enough to be looked at. ".repeat(100)).unwrap();
    let store = FakeStore::default();
    let failure = capture(&store, &path).unwrap_err();
    assert!(failure.message.contains("is not a SQLite database, or it is encrypted"), "{failure}");
    let failure = capture(&store, &directory.path().join("gone.db")).unwrap_err();
    assert!(failure.message.contains("cannot open") && failure.message.contains("gone.db"), "{failure}");
    let failure = capture(&store, directory.path()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::WrongInput);
}

#[test]
fn a_damaged_database_is_no_recovery_point() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank.db");
    let bank = new_bank(&path, "DELETE");
    bank.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO entry SELECT i, zeroblob(1000) FROM n",
    )
    .unwrap();
    drop(bank);
    let mut bytes = fs::read(&path).unwrap();
    for page in [4, 5, 6, 7] {
        bytes[page * 4096..page * 4096 + 200].fill(0xee);
    }
    fs::write(&path, bytes).unwrap();
    let failure = capture(&FakeStore::default(), &path).unwrap_err();
    assert!(failure.message.contains("is damaged"), "{failure}");
}

#[test]
fn a_locked_database_and_a_full_disk_get_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank.db");
    let bank = new_bank(&path, "DELETE");
    bank.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let failure = copy_database(&path, directory.path(), Duration::from_millis(50)).unwrap_err();
    assert!(failure.message.contains("stayed locked by another process"), "{failure}");
    let failure = ensure_space(&path, directory.path(), 1 << 60).unwrap_err();
    assert!(failure.message.contains("no room for a copy of"), "{failure}");
    assert!(ensure_space(&path, directory.path(), 1).is_ok());
}

#[test]
fn a_database_that_this_process_has_open_is_named_and_keeps_its_locks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank.db");
    let bank = new_bank(&path, "DELETE");
    fs::copy(&path, directory.path().join("other.db")).unwrap();
    let locks = || {
        let inode = format!(":{} ", fs::metadata(&path).unwrap().ino());
        fs::read_to_string("/proc/locks").unwrap().lines().filter(|line| line.contains(&inode)).count()
    };
    bank.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let before = locks();
    assert!(before > 0);
    let store = FakeStore::default();
    let captured = store.capture(&super::fake::files(&[directory.path()], &[]), None).unwrap();
    assert_eq!(locks(), before);
    let named = missing(&captured);
    assert!(named.len() == 1 && named[0].0.ends_with("bank.db") && named[0].1.contains("`sqlite`"), "{named:?}");
    assert_eq!(store.names(&captured, directory.path()), ["other.db"]);
}

#[test]
fn an_empty_database_is_one_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty.db");
    fs::write(&path, "").unwrap();
    let store = FakeStore::default();
    let captured = capture(&store, &path).unwrap();
    assert_eq!(missing(&captured), []);
    assert!(store.node(&captured, &path).size <= 4096);
}
