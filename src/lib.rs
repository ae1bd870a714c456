//! lifeboat: backup and disaster-recovery orchestrator.
//!
//! The rooms, from the faces down; a room uses only rooms below it.
//!
//! | room | what it is |
//! |---|---|
//! | [`cli`] | one file per command; turns results into text or JSON and an exit code |
//! | [`jobs`] | every kind of run from begin to ledger |
//! | [`backup`] | source -> recovery point: files, logs, image, sqlite, postgres, command |
//! | [`lifecycle`] | keep, archive, expire; the only room that may delete |
//! | [`recovery`] | plans: restore and drill; steps, checks, targets, measurement |
//! | [`report`] | what people read of a drill |
//! | [`engine`] | how work survives: runs, durable steps, locks |
//! | [`catalog`] | what happened, queryable (SQLite); a journal and a cache |
//! | [`ledger`] | the chained record at the DR site |
//! | [`repository`] | bytes, deduplicated and sealed: restic's repository format, version 2 |
//! | [`site`] | where: the object store trait, local directories, the DR site's layout |
//! | [`database`] | other people's databases: connection strings, programs, scratch servers |
//! | [`policy`] | what the operator asked for: parse and validate, no I/O |
//! | [`ground`] | clock, secrets, failures, progress, byte paths: what every room stands on |

pub mod database;
pub mod ground;
pub mod policy;
pub mod site;

pub mod catalog;
pub mod ledger;
pub mod repository;

pub mod engine;

pub mod backup;
pub mod lifecycle;
pub mod recovery;
pub mod report;

pub mod jobs;

pub mod cli;
