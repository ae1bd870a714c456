//! `lifeboat init`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::global::Global;
use super::output;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result, SecretReference, durable_file};
use crate::policy;
use crate::site::SitePlace;

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the system
    #[arg(long, value_name = "NAME")]
    system: String,
    /// The DR site: a directory on another device, or s3://bucket/prefix
    #[arg(long, value_name = "DR")]
    dr: PathBuf,
    /// Address of an S3 server other than AWS
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Region of the bucket; without it AWS_REGION, else us-east-1
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// A directory tree or file to back up; may be given several times
    #[arg(long, value_name = "DIR")]
    files: Vec<PathBuf>,
    /// A pattern of log files; may be given several times
    #[arg(long, value_name = "GLOB")]
    logs: Vec<PathBuf>,
    /// A disk image or block device
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// A SQLite database
    #[arg(long, value_name = "FILE")]
    sqlite: Option<PathBuf>,
    /// A PostgreSQL connection, as a reference: env:NAME, file:PATH or command:...
    #[arg(long, value_name = "REF")]
    postgres: Option<String>,
    /// A MariaDB or MySQL connection, as a reference
    #[arg(long, value_name = "REF")]
    mysql: Option<String>,
    /// The repository's password, as a reference; without it a random one is made in a file beside the policy
    #[arg(long, value_name = "REF")]
    repository_password: Option<String>,
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let reference = arguments.repository_password.as_deref();
    if reference.is_some_and(|reference| SecretReference::parse(reference).is_none()) {
        return Err(Failure::wrong_input("--repository-password is no reference")
            .hint("write env:NAME, file:PATH or command:...; never the password itself"));
    }
    let policies = absolute(&global.policies())?;
    let path = policies.join(format!("{}.toml", arguments.system));
    let password_file = policies.join(format!("{}.password", arguments.system));
    let reference = match &arguments.repository_password {
        Some(reference) => reference.clone(),
        None => format!("file:{}", utf8(&password_file)?),
    };
    let text = policy_text(arguments, &reference)?;
    policy::parse(&path.display().to_string(), &text).map_err(Failure::from)?;
    if path.exists() {
        return Err(Failure::wrong_input(format!("{} is there already", path.display()))
            .hint("edit it, or name another system"));
    }
    durable_file::create_directories(&policies).or_fail(|| format!("cannot make {}", policies.display()))?;
    let made = arguments.repository_password.is_none();
    if made {
        make_password(&password_file)?;
    }
    durable_file::create_new(&path, text.as_bytes(), 0o644).or_fail(|| format!("cannot write {}", path.display()))?;
    announce(global, arguments, &path, made.then_some(&password_file))?;
    Ok(0)
}

/// 256 random bits as 64 hex digits. One that is there already is kept: a repository may depend on it.
fn make_password(path: &Path) -> Result<()> {
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random).or_fail(|| "no random bytes to be had".to_owned())?;
    match durable_file::create_new(path, format!("{}\n", hex::encode(random)).as_bytes(), 0o600) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        written => written.or_fail(|| format!("cannot write {}", path.display())),
    }
}

fn announce(global: &Global, arguments: &Arguments, path: &Path, password: Option<&PathBuf>) -> Result<()> {
    if global.json {
        return output::json(&json!({
            "system": arguments.system, "policy": path, "repository_password_file": password,
        }));
    }
    output::line(&format!("wrote the policy {}", path.display()))?;
    if let Some(password) = password {
        output::line(&format!("made the repository's password in {}", password.display()))?;
        output::line("keep a copy of it elsewhere: without the password nothing can be restored")?;
    }
    output::line(&format!("next: lifeboat backup {}", arguments.system))
}

fn policy_text(arguments: &Arguments, password: &str) -> Result<String> {
    let mut document = DocumentMut::new();
    document["system"] = value(&arguments.system);
    document["timezone"] = value("UTC");
    let mut objectives = toml_edit::InlineTable::new();
    objectives.insert("rpo", "24h".into());
    objectives.insert("rto", "4h".into());
    document["objectives"] = value(objectives);
    document["primary"] = table([("provider", "local".to_owned())]);
    document["dr"] = dr_table(arguments, password)?;
    let mut sources = ArrayOfTables::new();
    for (name, paths) in [("files", &arguments.files), ("logs", &arguments.logs)] {
        if !paths.is_empty() {
            let mut source = source_table(name);
            let paths: Result<toml_edit::Array> = paths.iter().map(|path| utf8(&absolute(path)?)).collect();
            source["paths"] = value(paths?);
            sources.push(source);
        }
    }
    for (name, path) in [("image", &arguments.image), ("sqlite", &arguments.sqlite)] {
        if let Some(path) = path {
            let mut source = source_table(name);
            source["path"] = value(utf8(&absolute(path)?)?);
            sources.push(source);
        }
    }
    for (name, dsn) in [("postgres", &arguments.postgres), ("mysql", &arguments.mysql)] {
        if let Some(dsn) = dsn {
            let mut source = source_table(name);
            source["dsn"] = value(dsn);
            sources.push(source);
        }
    }
    if sources.is_empty() {
        return Err(Failure::wrong_input("there is nothing to back up")
            .hint("give at least one of --files, --logs, --image, --sqlite, --postgres, --mysql"));
    }
    document["source"] = Item::ArrayOfTables(sources);
    document["schedule"] = table([("backup", "daily 00:30".to_owned())]);
    document["retention"] = table([("online", "90d".to_owned())]);
    Ok(document.to_string())
}

fn dr_table(arguments: &Arguments, password: &str) -> Result<Item> {
    let place = SitePlace::parse(&arguments.dr, arguments.endpoint.as_deref(), arguments.region.as_deref())?;
    let password = ("repository_password", password.to_owned());
    let place = match place {
        SitePlace::Directory(path) => {
            return Ok(table([("provider", "local".to_owned()), ("path", utf8(&path)?), password]));
        }
        SitePlace::Bucket(place) => place,
    };
    let mut dr = table([("provider", "aws".to_owned()), ("region", place.region), ("bucket", place.bucket)]);
    for (key, text) in [("prefix", place.options.prefix), ("endpoint", place.options.endpoint)] {
        if let Some(text) = text {
            dr[key] = value(text);
        }
    }
    dr[password.0] = value(password.1);
    Ok(dr)
}

fn source_table(name: &str) -> Table {
    let mut source = Table::new();
    source["name"] = value(name);
    source["kind"] = value(name);
    source
}

fn table<const N: usize>(entries: [(&str, String); N]) -> Item {
    let mut table = Table::new();
    for (key, text) in entries {
        table[key] = value(text);
    }
    Item::Table(table)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).or_fail(|| format!("cannot make {} absolute", path.display()))
}

fn utf8(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::wrong_input(format!("the path {} is not UTF-8 and cannot stand in a policy", path.display()))
    })
}
