//! `lifeboat ledger verify`

use clap::Subcommand;
use lifeboat_verify::chain::verify_chain;
use serde_json::json;

use super::global::Global;
use super::output;
use crate::ground::{Failure, Result};

/// What can be done with the ledger.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the chain: every entry is there, in order and unchanged
    Verify {
        /// The system; may be left out when there is one policy
        system: Option<String>,
    },
}

/// Runs the command.
pub fn command(global: &Global, command: &Command) -> Result<u8> {
    let Command::Verify { system } = command;
    let system = global.open_system(global.policy_of(system.as_deref())?)?;
    let summary = verify_chain(system.ledger().entries()?).map_err(|error| Failure::failed(error.to_string()))?;
    if global.json {
        output::json(&json!({ "system": system.policy.system, "entries": summary.entries, "head": summary.head }))?;
    } else {
        let head = summary.head.as_deref().unwrap_or("nothing yet");
        output::line(&format!("the ledger holds {} entries, unbroken; its head is {}", summary.entries, head))?;
        output::line("a chain alone cannot show that its end was cut off: note the head elsewhere")?;
    }
    Ok(0)
}
