//! `lifeboat rebuild`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::global::{Global, PolicyFile, read_policy};
use super::output;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Progress, Result, SecretReference};
use crate::jobs::rebuild::{Filled, bring_back_policy, fill_catalog};
use crate::site::DrSite;

/// Arguments of `rebuild`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The DR site's directory as it is now
    #[arg(long = "from", value_name = "DR")]
    from: PathBuf,
    /// Where the repository's password is now: env:NAME, file:PATH or command:...
    #[arg(long, value_name = "REF")]
    repository_password: Option<String>,
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let password = arguments.repository_password.as_deref().map(parse_reference).transpose()?;
    let from = std::path::absolute(&arguments.from).or_fail(|| format!("{} is no path", arguments.from.display()))?;
    let dr = DrSite::recognise_local(&from)?;
    let policies = std::path::absolute(global.policies()).or_fail(|| "the policies directory is no path".to_owned())?;
    if let Some(reference) = &password {
        // A wrong password is said before anything is written.
        crate::repository::Repository::open(dr.repository_store(), &reference.resolve()?).map_err(Failure::from)?;
    }
    let (path, _) = bring_back_policy(&dr, &from, password.as_ref(), &policies)?;
    let (_, catalog) = global.catalog()?;
    let Filled { points, archives, drills, damage } = fill_catalog(&dr, &catalog)?;
    let system = global.open_system(PolicyFile { policy: read_policy(&path)?, path: path.clone() })?;
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
    damage.iter().for_each(|sentence| global.terminal().warn(sentence));
    Ok(if damage.is_empty() { 0 } else { 3 })
}

fn parse_reference(text: &str) -> Result<SecretReference> {
    SecretReference::parse(text).ok_or_else(|| {
        Failure::wrong_input("--repository-password is no reference")
            .hint("write env:NAME, file:PATH or command:...; never the password itself")
    })
}
