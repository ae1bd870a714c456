//! Makes the model out of a document in which nothing was found wrong.
//!
//! Every function answers `None` where a value is not as the checks promise; that is a mistake of ours, not of the
//! operator, and [`super::parse`] says so.

use std::time::Duration;

use super::form::parse_variable;
use super::node::Node;
use super::time::{parse_cadence, parse_duration, parse_window};
use super::*;
use crate::ground::SecretReference;

/// How long a source's command or base backup may take unless the source says otherwise.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(12 * 3600);
/// How long a hook may take unless the policy says otherwise.
const HOOK_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How often logs are read whole unless the source says otherwise.
pub(crate) const FULL_READ: Duration = Duration::from_secs(7 * 86_400);
/// Longest time a restore may take unless the step says otherwise.
pub(crate) const RESTORE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(3600);
const WAIT_MARGIN: Duration = Duration::from_secs(60);
/// Longest time of a check that is tried once.
pub(crate) const SINGLE_ATTEMPT: Duration = Duration::from_secs(60);
const RETRIED: Duration = Duration::from_secs(30);

pub(crate) fn policy(root: &Node<'_>, text: &str) -> Option<Policy> {
    Some(Policy {
        system: string(root, "system")?,
        timezone: string(root, "timezone").unwrap_or_else(|| "UTC".to_owned()),
        objectives: root.child("objectives").map(|node| objectives(&node)).unwrap_or_default(),
        primary: primary(&root.child("primary")?)?,
        dr: dr(&root.child("dr")?)?,
        sources: root.children("source").iter().map(source).collect::<Option<_>>()?,
        hooks: root.child("hooks").map(|node| hooks(&node)),
        schedule: root.child("schedule").map(|node| schedule(&node)).unwrap_or_default(),
        retention: root.child("retention").map_or(Some(Retention::default()), |node| retention(&node))?,
        plans: root
            .named("plan")
            .iter()
            .map(|(name, node)| Some((name.text.to_owned(), plan(node)?)))
            .collect::<Option<_>>()?,
        notify: root.child("notify").map(|node| notify(&node)),
        text: text.to_owned(),
    })
}

fn string(node: &Node<'_>, key: &str) -> Option<String> {
    Some(node.text(key)?.text.to_owned())
}

fn strings(node: &Node<'_>, key: &str) -> Vec<String> {
    node.texts(key).into_iter().map(|item| item.text.to_owned()).collect()
}

fn duration(node: &Node<'_>, key: &str) -> Option<Duration> {
    parse_duration(node.text(key)?.text).ok()
}

fn secret(node: &Node<'_>, key: &str) -> Option<SecretReference> {
    SecretReference::parse(node.text(key)?.text)
}

fn expectation(node: &Node<'_>) -> Option<Expectation> {
    Expectation::parse(node.text("expect")?.text).ok()
}

fn objectives(node: &Node<'_>) -> Objectives {
    Objectives { rpo: duration(node, "rpo"), rto: duration(node, "rto") }
}

fn primary(node: &Node<'_>) -> Option<Primary> {
    match node.text("provider")?.text {
        "aws" => Some(Primary::Aws { region: string(node, "region")? }),
        _ => Some(Primary::Local),
    }
}

fn dr(node: &Node<'_>) -> Option<DrLocation> {
    let repository_password = secret(node, "repository_password")?;
    match node.text("provider")?.text {
        "aws" => Some(DrLocation::Aws {
            region: string(node, "region")?,
            bucket: string(node, "bucket")?,
            kms_key: string(node, "kms_key"),
            repository_password,
            options: Box::new(bucket_options(node)),
        }),
        _ => Some(DrLocation::Local { path: string(node, "path")?, repository_password }),
    }
}

fn bucket_options(node: &Node<'_>) -> BucketOptions {
    let object_lock = node.child("object_lock").and_then(|lock| {
        let days = lock.count("days").and_then(|days| u32::try_from(days).ok())?;
        Some(ObjectLock { compliance: lock.text("mode")?.text == "compliance", days })
    });
    BucketOptions {
        prefix: string(node, "prefix").map(|prefix| prefix.trim_matches('/').to_owned()),
        endpoint: string(node, "endpoint"),
        path_style: node.flag("path_style"),
        storage_class: string(node, "storage_class"),
        object_lock,
        access_key: secret(node, "access_key"),
        secret_key: secret(node, "secret_key"),
        session_token: secret(node, "session_token"),
    }
}

fn source(node: &Node<'_>) -> Option<Source> {
    let beacon = match node.child("beacon") {
        Some(beacon) => Some(self::beacon(&beacon)?),
        None => None,
    };
    let hooks = node.child("hooks").map(|node| hooks(&node));
    Some(Source { name: string(node, "name")?, kind: source_kind(node)?, beacon, hooks })
}

fn hooks(node: &Node<'_>) -> Hooks {
    let timeout = duration(node, "timeout").unwrap_or(HOOK_TIMEOUT);
    Hooks { before: strings(node, "before"), after: strings(node, "after"), timeout }
}

fn source_kind(node: &Node<'_>) -> Option<SourceKind> {
    Some(match node.text("kind")?.text {
        "files" => SourceKind::Files { paths: strings(node, "paths"), exclude: strings(node, "exclude") },
        "logs" => SourceKind::Logs {
            paths: strings(node, "paths"),
            exclude: strings(node, "exclude"),
            full_read: duration(node, "full_read").unwrap_or(FULL_READ),
        },
        "image" => SourceKind::Image { path: string(node, "path")? },
        "sqlite" => SourceKind::Sqlite { path: string(node, "path")? },
        "postgres" => SourceKind::Postgres(PostgresCluster {
            dsn: secret(node, "dsn")?,
            database: string(node, "database"),
            programs: string(node, "programs"),
            timeout: duration(node, "timeout").unwrap_or(COMMAND_TIMEOUT),
        }),
        "mysql" => SourceKind::Mysql(MysqlServer {
            dsn: secret(node, "dsn")?,
            database: string(node, "database"),
            programs: string(node, "programs"),
            timeout: duration(node, "timeout").unwrap_or(COMMAND_TIMEOUT),
        }),
        "command" => SourceKind::Command(CommandOutput {
            run: strings(node, "run"),
            file: string(node, "file")?,
            environment: strings(node, "environment").iter().filter_map(|text| parse_variable(text)).collect(),
            timeout: duration(node, "timeout").unwrap_or(COMMAND_TIMEOUT),
        }),
        EXISTING_REPOSITORY => SourceKind::Repository(ExistingRepository {
            path: string(node, "path")?,
            password: secret(node, "password")?,
            host: string(node, "host"),
            tags: strings(node, "tags"),
        }),
        "ebs" => SourceKind::Ebs {
            select: ebs_selection(&node.child("select")?)?,
            crash_consistent: string(node, "crash_consistent"),
        },
        "rds" => SourceKind::Rds {
            instance: string(node, "instance"),
            cluster: string(node, "cluster"),
            user: secret(node, "user"),
            password: secret(node, "password"),
        },
        _ => return None,
    })
}

fn ebs_selection(node: &Node<'_>) -> Option<EbsSelection> {
    if let Some(tag) = node.text("tag") {
        let (key, value) = tag.text.split_once('=')?;
        return Some(EbsSelection::Tag { key: key.to_owned(), value: value.to_owned() });
    }
    match string(node, "instance") {
        Some(instance) => Some(EbsSelection::Instance(instance)),
        None => Some(EbsSelection::Volumes(strings(node, "volumes"))),
    }
}

fn beacon(node: &Node<'_>) -> Option<Beacon> {
    let sql = string(node, "sql").map(Beacon::Sql);
    let file = || string(node, "file").map(Beacon::File);
    let newest = || node.flag("newest_entry").map(|_| Beacon::NewestEntry);
    sql.or_else(file).or_else(newest)
}

fn schedule(node: &Node<'_>) -> Schedule {
    let cadence = |key| parse_cadence(node.text(key)?.text).ok();
    let window = node.text("window").and_then(|window| parse_window(window.text).ok());
    Schedule { backup: cadence("backup"), drill: cadence("drill"), window }
}

fn retention(node: &Node<'_>) -> Option<Retention> {
    let archive = match node.child("archive") {
        Some(rule) => Some(archive(&rule)?),
        None => None,
    };
    Some(Retention {
        online: duration(node, "online"),
        keep: node.child("keep").map(|node| keep(&node)).unwrap_or_default(),
        archive,
    })
}

fn keep(node: &Node<'_>) -> KeepRules {
    let count = |key| node.count(key).and_then(|count| u32::try_from(count).ok());
    KeepRules {
        last: count("last"),
        hourly: count("hourly"),
        daily: count("daily"),
        weekly: count("weekly"),
        monthly: count("monthly"),
        yearly: count("yearly"),
    }
}

fn archive(node: &Node<'_>) -> Option<ArchiveRule> {
    let to = match node.text("to")?.text {
        "directory" => ArchiveTarget::Directory { path: string(node, "path")? },
        "glacier" => ArchiveTarget::Glacier { vault: string(node, "vault")? },
        _ => ArchiveTarget::S3Class { class: string(node, "class")? },
    };
    Some(ArchiveRule {
        which: string(node, "which")?,
        after: duration(node, "after"),
        to,
        keep: duration(node, "keep"),
    })
}

fn plan(node: &Node<'_>) -> Option<Plan> {
    let steps = node.children("step").iter().map(step).collect::<Option<_>>()?;
    let mut checks: Vec<Check> = Vec::new();
    for item in node.children("check") {
        let mut check = check(&item)?;
        // Two checks of one kind are usual; their names are the keys of their results and must differ.
        let base = check.name.clone();
        for number in 2.. {
            if checks.iter().all(|other| other.name != check.name) {
                break;
            }
            check.name = format!("{base} ({number})");
        }
        checks.push(check);
    }
    Some(Plan { steps, checks })
}

fn step(node: &Node<'_>) -> Option<Step> {
    let (action, timeout) = if let Some(source) = string(node, "restore") {
        let to = string(node, "to").unwrap_or_else(|| source.clone());
        (StepAction::Restore { source, to }, RESTORE_TIMEOUT)
    } else if let Some(file) = string(node, "script") {
        (StepAction::Script { file, args: strings(node, "args") }, SCRIPT_TIMEOUT)
    } else {
        let duration = duration(node, "wait")?;
        (StepAction::Wait { duration }, duration + WAIT_MARGIN)
    };
    Some(Step {
        name: step_name(node)?,
        action,
        after: strings(node, "after"),
        timeout: duration(node, "timeout").unwrap_or(timeout),
    })
}

/// As written, or made from the action.
pub(crate) fn step_name(node: &Node<'_>) -> Option<String> {
    if node.has("name") {
        return string(node, "name");
    }
    ["restore", "script", "wait"].iter().find_map(|word| Some(format!("{word} {}", node.text(word)?.text)))
}

fn check(node: &Node<'_>) -> Option<Check> {
    let kind = check_kind(node)?;
    let polls = matches!(kind, CheckKind::Http { .. } | CheckKind::Tcp { .. });
    let within = duration(node, "within");
    Some(Check {
        name: string(node, "name").unwrap_or_else(|| check_name(&kind)),
        within: within.unwrap_or(if polls { RETRIED } else { SINGLE_ATTEMPT }),
        retry: polls || within.is_some(),
        kind,
    })
}

fn check_name(kind: &CheckKind) -> String {
    match kind {
        CheckKind::Command { line, .. } => format!("command {}", line.lines().next().unwrap_or_default()),
        CheckKind::Http { url, .. } => format!("http {url}"),
        CheckKind::Tcp { address } => format!("tcp {address}"),
        CheckKind::Sql { on, .. } => format!("sql on {on}"),
        CheckKind::File { path, .. } => format!("file {path}"),
    }
}

fn check_kind(node: &Node<'_>) -> Option<CheckKind> {
    if let Some(line) = string(node, "command") {
        return Some(CheckKind::Command { line, expect: expectation(node) });
    }
    if let Some(url) = string(node, "http") {
        let status = node.count("status").and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
        let tls_verify = node.flag("tls_verify").unwrap_or(true);
        return Some(CheckKind::Http { url, status, body: string(node, "body"), tls_verify });
    }
    if let Some(query) = string(node, "sql") {
        return Some(CheckKind::Sql { query, on: string(node, "on")?, expect: expectation(node)? });
    }
    if let Some(path) = string(node, "file") {
        return Some(CheckKind::File { path, sha256: string(node, "sha256") });
    }
    Some(CheckKind::Tcp { address: string(node, "tcp")? })
}

fn notify(node: &Node<'_>) -> Notify {
    let mail = node.child("mail").and_then(|mail| {
        Some(Mail { to: strings(&mail, "to"), smtp: secret(&mail, "smtp")?, weekly: string(&mail, "weekly") })
    });
    Notify { mail, webhook: secret(node, "webhook"), heartbeat: secret(node, "heartbeat") }
}
