//! `lifeboat points`

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::global::Global;
use super::output;
use crate::ground::Result;
use crate::recovery::points::points_at;
use crate::report::humane;
use crate::site::records::{PointRecord, PointState};

/// Arguments of `points`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The system; may be left out when there is one policy
    system: Option<String>,
    /// Only this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only the point of each source that a restore would use at this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let system = global.open_system(global.policy_of(arguments.system.as_deref())?)?;
    let mut points = system.catalog.points(&system.policy.system)?;
    if arguments.at.is_some() {
        let all = points.clone();
        points.retain(|point| points_at(&all, &point.source, arguments.at).is_some_and(|chosen| chosen.id == point.id));
    }
    if let Some(source) = &arguments.source {
        points.retain(|point| point.source == *source);
    }
    if global.json {
        output::json(&json!({ "points": points }))?;
    } else if points.is_empty() {
        output::line("no recovery points")?;
    } else {
        let rows: Vec<Vec<String>> = points.iter().map(row).collect();
        output::table(&["POINT", "SOURCE", "DATA TIME", "SIZE>", "ADDED>", "STATE"], &rows)?;
    }
    Ok(0)
}

fn row(point: &PointRecord) -> Vec<String> {
    let state = match point.state {
        PointState::Complete => "complete",
        PointState::Partial => "partial",
    };
    vec![
        point.id.clone(),
        point.source.clone(),
        point.data_time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        humane::bytes(point.bytes),
        humane::bytes(point.added_bytes),
        state.to_owned(),
    ]
}
