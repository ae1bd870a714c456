//! What the operator asked for: one TOML file per system. Parse and validate, no I/O.
//!
//! [`parse`] turns text into a [`Policy`] or into [`PolicyErrors`], each with file, line and column.
//!
//! | file | what it does |
//! |---|---|
//! | `keys`, `source_keys`, `plan_keys` (of the types in `table`) | every key, described once |
//! | `form`, `time`, `expectation` | what the texts under those keys may look like |
//! | `parse` | the way through: the next three rows in order |
//! | `shape` | holds the keys and their types against the tables |
//! | `meaning`, `places`, `plans` | hold against each other what spans keys |
//! | `build` | makes the model |
//! | `diagnostics`, `nearest` | how mistakes are told, secrets hidden, and the nearest name found |
//! | `schema`, `reference` | the JSON Schema and the key reference, made from `keys` |
//! | `queries`, `graph` | what others ask of a policy; the order of steps |

mod build;
mod diagnostics;
mod exclude;
mod expectation;
mod form;
mod graph;
mod keys;
mod meaning;
mod nearest;
mod node;
mod parse;
mod places;
mod plan_keys;
mod plans;
mod queries;
mod reference;
mod schema;
mod shape;
mod source_keys;
mod table;
mod time;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ground::SecretReference;

pub use diagnostics::{PolicyError, PolicyErrors};
pub use exclude::Exclude;
pub use parse::parse;
pub use reference::reference;
pub use schema::schema;
pub use time::{Misfit, format_duration, parse_cadence, parse_duration, parse_window};

/// A glob pattern as policies mean it: `*` and `?` stay within a directory, `**` crosses directories.
///
/// # Errors
/// When the pattern is malformed.
pub fn glob(pattern: &str) -> Result<globset::Glob, globset::Error> {
    globset::GlobBuilder::new(pattern).literal_separator(true).build()
}

/// The one name that a component of a pattern stands for: `[[]1]` is `[1]`. `None` when it may match several.
pub fn literal(component: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = component.chars();
    while let Some(character) = rest.next() {
        match character {
            '*' | '?' | '{' | '}' => return None,
            '\\' => name.push(rest.next()?),
            '[' => {
                let inner = rest.next()?;
                let is_single = !matches!(inner, '!' | '^') && rest.next()? == ']';
                name.push(is_single.then_some(inner)?);
            }
            _ => name.push(character),
        }
    }
    Some(name)
}

/// Whether a text may be the name of a system or a source: lower-case letters, digits, `-`, `_`, `.`; starts with a
/// letter or digit; at most 64 bytes.
pub fn is_name(text: &str) -> bool {
    form::is_name(text)
}

/// A validated policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Name of the system: lower-case letters, digits, `-`, `_`, `.`; starts with a letter or digit; at most 64 bytes.
    pub system: String,
    /// IANA time zone of schedule, window and retention. Default `UTC`.
    pub timezone: String,
    /// What is promised.
    pub objectives: Objectives,
    /// Where the system runs.
    pub primary: Primary,
    /// Where everything needed to bring it back is kept.
    pub dr: DrLocation,
    /// What is backed up, in the order written. At least one.
    pub sources: Vec<Source>,
    /// What runs around a whole backup.
    pub hooks: Option<Hooks>,
    /// When.
    pub schedule: Schedule,
    /// What is kept.
    pub retention: Retention,
    /// Plans by name; the plan called `drill` is the default one of `lifeboat drill`.
    pub plans: BTreeMap<String, Plan>,
    /// Who hears of it. Values are secret references or plain addresses; delivered by a later room.
    pub notify: Option<Notify>,
    /// The text it was parsed from, byte for byte.
    pub text: String,
}

/// Objectives; absent means none was set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objectives {
    /// Most data that may be lost, as time.
    pub rpo: Option<Duration>,
    /// Longest time until the system serves again.
    pub rto: Option<Duration>,
}

/// The primary site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Primary {
    /// This machine.
    Local,
    /// An AWS region.
    Aws { region: String },
}

/// The DR site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrLocation {
    /// A directory.
    Local { path: String, repository_password: SecretReference },
    /// A bucket in an AWS region.
    Aws {
        region: String,
        bucket: String,
        kms_key: Option<String>,
        repository_password: SecretReference,
        /// How the bucket is used.
        options: Box<BucketOptions>,
    },
}

/// How a bucket is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketOptions {
    /// Directory in the bucket.
    pub prefix: Option<String>,
    /// Address of another S3 server.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path; by default where there is an endpoint.
    pub path_style: Option<bool>,
    /// Storage class of packs.
    pub storage_class: Option<String>,
    pub object_lock: Option<ObjectLock>,
    /// Both or none of `access_key` and `secret_key`.
    pub access_key: Option<SecretReference>,
    pub secret_key: Option<SecretReference>,
    pub session_token: Option<SecretReference>,
}

/// For how long stored objects are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectLock {
    /// Whether nobody at all may lift it.
    pub compliance: bool,
    pub days: u32,
}

/// One thing that is backed up.
#[derive(Debug, Clone)]
pub struct Source {
    /// Unique in the system; same alphabet as the system's name.
    pub name: String,
    /// What it is and where.
    pub kind: SourceKind,
    /// Time mark inside the data.
    pub beacon: Option<Beacon>,
    /// What runs around its backup.
    pub hooks: Option<Hooks>,
}

/// What runs before and after a source or a whole backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Program and arguments; empty for nothing.
    pub before: Vec<String>,
    /// As `before`.
    pub after: Vec<String>,
    /// How long each may take.
    pub timeout: Duration,
}

/// What a source is and where.
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// Directory trees and single files, absolute paths.
    Files { paths: Vec<String>, exclude: Vec<String> },
    /// Append-only files, absolute glob patterns; how often they are read whole, whatever is known of them.
    Logs { paths: Vec<String>, exclude: Vec<String>, full_read: Duration },
    /// A disk image file or block device.
    Image { path: String },
    /// A SQLite database, taken with the online backup API.
    Sqlite { path: String },
    /// A whole PostgreSQL cluster.
    Postgres(PostgresCluster),
    /// All databases of a MariaDB or MySQL server.
    Mysql(MysqlServer),
    /// What a command writes to its standard output.
    Command(CommandOutput),
    /// An existing restic repository, whose snapshots are taken over where they are.
    Repository(ExistingRepository),
    /// EBS volumes; AWS only.
    Ebs { select: EbsSelection, crash_consistent: Option<String> },
    /// RDS instance or cluster; AWS only.
    Rds {
        instance: Option<String>,
        cluster: Option<String>,
        user: Option<SecretReference>,
        password: Option<SecretReference>,
    },
}

impl SourceKind {
    /// The word used for it in policies and records: `files`, `logs`, `image`, `sqlite`, `postgres`, `mysql`, `command`,
    /// `repository`, `ebs`, `rds`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Files { .. } => "files",
            Self::Logs { .. } => "logs",
            Self::Image { .. } => "image",
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres(_) => "postgres",
            Self::Mysql(_) => "mysql",
            Self::Command(_) => "command",
            Self::Repository(_) => EXISTING_REPOSITORY,
            Self::Ebs { .. } => "ebs",
            Self::Rds { .. } => "rds",
        }
    }
}

/// A PostgreSQL cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresCluster {
    /// Where the connection string is found.
    pub dsn: SecretReference,
    /// The database that `sql` checks and beacons are asked; by default the one connected to.
    pub database: Option<String>,
    /// Directory of PostgreSQL's programs; by default where distributions keep them.
    pub programs: Option<String>,
    /// How long a backup of it may take.
    pub timeout: Duration,
}

/// A MariaDB or MySQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqlServer {
    /// Where the connection string is found.
    pub dsn: SecretReference,
    /// The database that `sql` checks and beacons are asked; by default the one connected to.
    pub database: Option<String>,
    /// Directory of the vendor's programs; by default where distributions keep them.
    pub programs: Option<String>,
    /// How long a backup of it may take.
    pub timeout: Duration,
}

/// A command whose standard output is a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// The program and its arguments; at least one.
    pub run: Vec<String>,
    /// Name of the file that its output becomes.
    pub file: String,
    /// Variables of its environment beside the usual ones.
    pub environment: Vec<(String, SecretReference)>,
    pub timeout: Duration,
}

impl CommandOutput {
    /// For messages: the program without its arguments, which may hold anything.
    pub fn name(&self) -> String {
        self.run.first().cloned().unwrap_or_default()
    }
}

/// The kind's word of sources whose data stays where it is: the points of such a source lie in an existing repository.
pub const EXISTING_REPOSITORY: &str = "repository";

/// An existing restic repository, and which of its snapshots are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingRepository {
    /// Its directory.
    pub path: String,
    pub password: SecretReference,
    /// Only snapshots of this host.
    pub host: Option<String>,
    /// Only snapshots that carry all of these tags.
    pub tags: Vec<String>,
}

/// Which EBS volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EbsSelection {
    /// Volumes that carry the tag `key=value`.
    Tag { key: String, value: String },
    /// Volumes by id.
    Volumes(Vec<String>),
    /// All volumes of an instance.
    Instance(String),
}

/// How to read the newest moment that the data itself testifies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beacon {
    /// One value: RFC 3339 text or Unix seconds (fractions allowed). Databases only.
    Sql(String),
    /// A file below the source's restored root whose content is one such value.
    File(String),
    /// The newest modification time among the restored entries; right only for data that is written all the time.
    NewestEntry,
}

/// When backups and drills run.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    pub backup: Option<Cadence>,
    pub drill: Option<Cadence>,
    /// Local wall-clock window that a start must fall in.
    pub window: Option<Window>,
}

/// How often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cadence {
    /// `daily HH:MM`
    Daily { hour: u8, minute: u8 },
    /// `every 30m`
    Every(Duration),
    /// A cron line with 5 or 6 fields, validated by croner.
    Cron(String),
    /// `auto`
    Auto,
}

/// `HH:MM-HH:MM`; an end before the start is on the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Minutes after midnight.
    pub start_minute: u16,
    /// Minutes after midnight, 0..=1440.
    pub end_minute: u16,
}

/// What is kept. No rule at all keeps everything.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    /// Every point younger than this is kept.
    pub online: Option<Duration>,
    /// Beyond it: the newest point of each period.
    pub keep: KeepRules,
    /// What goes to cold storage.
    pub archive: Option<ArchiveRule>,
}

/// Grandfather-father-son counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeepRules {
    pub last: Option<u32>,
    pub hourly: Option<u32>,
    pub daily: Option<u32>,
    pub weekly: Option<u32>,
    pub monthly: Option<u32>,
    pub yearly: Option<u32>,
}

/// Which points go cold, when, where, for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveRule {
    /// `daily`, `weekly`, `monthly`, `yearly` or `all`.
    pub which: String,
    pub after: Option<Duration>,
    pub to: ArchiveTarget,
    pub keep: Option<Duration>,
}

/// A cold place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveTarget {
    Directory {
        path: String,
    },
    /// A Glacier vault.
    Glacier {
        vault: String,
    },
    /// An S3 storage class: `GLACIER`, `DEEP_ARCHIVE`, `GLACIER_IR`.
    S3Class {
        class: String,
    },
}

/// An ordered graph of recovery steps and checks.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Steps in the order written; `after` makes the graph. Names are unique within the plan.
    pub steps: Vec<Step>,
    /// Checks, run when all steps are done, in the order written.
    pub checks: Vec<Check>,
}

/// One recovery step.
#[derive(Debug, Clone)]
pub struct Step {
    /// As written, or made from the action (`restore files`, `script start.sh`).
    pub name: String,
    pub action: StepAction,
    /// Names of steps that must be done before.
    pub after: Vec<String>,
    /// Longest time it may take.
    pub timeout: Duration,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepAction {
    /// Restores a source into `to` (relative, plain components; default: the source's name) below the drill's target
    /// directory.
    Restore { source: String, to: String },
    /// Runs a script stored at the DR site.
    Script { file: String, args: Vec<String> },
    /// Waits.
    Wait { duration: Duration },
}

/// One check.
#[derive(Debug, Clone)]
pub struct Check {
    /// As written, or made from the kind (`sql on orders`).
    pub name: String,
    pub kind: CheckKind,
    /// Retried until it passes or this has gone by. Default 30 s for http and tcp, otherwise one attempt with 60 s.
    pub within: Duration,
    /// Whether a failed attempt is tried again until `within` is over.
    pub retry: bool,
}

/// What a check looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// `/bin/sh -c` in the target directory; exit code 0, and standard output as `expect` says.
    Command { line: String, expect: Option<Expectation> },
    /// GET; status (default 200) and a text in the body. `tls_verify = false` accepts any certificate.
    Http { url: String, status: u16, body: Option<String>, tls_verify: bool },
    /// `host:port` accepts a connection.
    Tcp { address: String },
    /// One value from the restored database of source `on`.
    Sql { query: String, on: String, expect: Expectation },
    /// A path below the target directory exists and, if given, has this SHA-256 (lower-case hex).
    File { path: String, sha256: Option<String> },
}

/// `> 0`, `>= 5`, `< 7`, `<= 7`, `!= x`, `= x`, or a plain text for equality. Numeric when both sides are numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    pub comparison: Comparison,
    pub value: String,
}

/// Operator of an [`Expectation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// Who hears of it.
#[derive(Debug, Clone)]
pub struct Notify {
    pub mail: Option<Mail>,
    pub webhook: Option<SecretReference>,
    pub heartbeat: Option<SecretReference>,
}

/// Mail delivery.
#[derive(Debug, Clone)]
pub struct Mail {
    pub to: Vec<String>,
    pub smtp: SecretReference,
    /// `mon 08:00`
    pub weekly: Option<String>,
}
