//! `lifeboat rebuild`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::global::{Global, PolicyFile, read_policy};
use super::output;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result, SecretReference};
use crate::jobs::rebuild::bring_back_policy;
use crate::site::{DrSite, SitePlace};

/// Arguments of `rebuild`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The DR site as it is now: its directory, or s3://bucket/prefix
    #[arg(long = "from", value_name = "DR")]
    from: PathBuf,
    /// Address of an S3 server other than AWS
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Region of the bucket; without it AWS_REGION, else us-east-1
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Where the repository's password is now: env:NAME, file:PATH or command:...
    #[arg(long, value_name = "REF")]
    repository_password: Option<String>,
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let password = arguments.repository_password.as_deref().map(parse_reference).transpose()?;
    let from = SitePlace::parse(&arguments.from, arguments.endpoint.as_deref(), arguments.region.as_deref())?;
    global.mend_marker(&from, None)?;
    let dr = DrSite::recognise(&from)?;
    let policies = std::path::absolute(global.policies()).or_fail(|| "the policies directory is no path".to_owned())?;
    if let Some(reference) = &password {
        // A wrong password is said before anything is written.
        crate::repository::Repository::open(dr.repository_store(), &reference.resolve()?).map_err(Failure::from)?;
    }
    let (path, _) = bring_back_policy(&dr, &from, password.as_ref(), &policies)?;
    let system = global.open_system(PolicyFile { policy: read_policy(&path)?, path: path.clone() })?;
    // Everything readable is in the catalog now: what a second look still reports is damaged.
    let damage = system.refresh_catalog()?;
    let name = dr.system();
    let points = system.catalog.points(name)?.len();
    let archives = system.catalog.archives(name)?.len();
    let drills = system.catalog.drills(name)?.len();
    let unlocked = system.open_repository();
    if global.json {
        output::json(&json!({
            "system": dr.system(), "policy": path, "points": points, "archives": archives, "drills": drills,
            "damage": damage,
        }))?;
    } else {
        output::line(&format!(
            "brought back {}: {points} recovery points, {archives} archives, {drills} drills",
            dr.system()
        ))?;
        output::line(&format!("its policy is {}", path.display()))?;
    }
    if let Err(failure) = unlocked {
        return Err(failure.context("policy and catalog are back, but the repository does not open").hint(
            "put the password where the policy looks for it, or name another place with --repository-password REF",
        ));
    }
    Ok(if damage.is_empty() { 0 } else { 3 })
}

fn parse_reference(text: &str) -> Result<SecretReference> {
    SecretReference::parse(text).ok_or_else(|| {
        Failure::wrong_input("--repository-password is no reference")
            .hint("write env:NAME, file:PATH or command:...; never the password itself")
    })
}
