//! What quickstart tells: words on the way, and at the end what happened and what to try next.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::QuickstartArguments;
use super::changes::Changes;
use super::children::{Drill, Lifeboat, shell_word};
use super::place::{Place, SYSTEM};
use crate::ground::failure::{Failure, OrFail, Result};

/// Words on the way, on stderr, if any are wanted.
pub struct Voice {
    wanted: bool,
}

impl Voice {
    /// Silent unless `wanted`.
    pub fn new(wanted: bool) -> Self {
        Self { wanted }
    }

    /// One line.
    pub fn say(&self, line: &str) {
        if self.wanted {
            // A closed stderr is no reason to stop.
            let _ = writeln!(io::stderr(), "==> {line}");
        }
    }
}

/// What one round of quickstart led to.
pub struct Outcome {
    /// Point objects of `points --json`.
    pub points: Vec<Value>,
    /// Archive objects of `archive --json`.
    pub archives: Vec<Value>,
    /// The drill.
    pub drill: Drill,
    /// Commits to the database during the backups.
    pub orders: u64,
    /// Commits to the PostgreSQL cluster during the backups, when there is one.
    pub signed_up: Option<u64>,
    /// What changed before the last backup.
    pub changes: Changes,
    /// Whether a backup was partial.
    pub partial: bool,
}

impl Outcome {
    /// The drill's, or 3 when the drill was good but a backup was partial.
    pub fn exit_code(&self) -> u8 {
        if self.drill.exit_code == 0 && self.partial { 3 } else { self.drill.exit_code }
    }

    /// Prints the outcome on stdout: a document with `--json`, otherwise text.
    pub fn tell(&self, place: &Place, lifeboat: &Lifeboat, arguments: &QuickstartArguments) -> Result<()> {
        let text = if arguments.json { format!("{:#}\n", self.document(place)) } else { self.text(place, lifeboat) };
        match io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
        .or_fail(|| "cannot print the outcome".to_owned())
    }

    fn document(&self, place: &Place) -> Value {
        let drill = &self.drill.document;
        json!({
            "system": SYSTEM,
            "policy": place.policy(),
            "policies": place.policies(),
            "state": place.state(),
            "primary": place.primary(),
            "dr": place.dr(),
            "repository": place.repository(),
            "repository_password_file": place.password_file(),
            "points": self.points,
            "archives": self.archives,
            "drill": drill["drill"],
            "drill_report": drill["report"],
            "drill_report_html": drill["report_html"],
            "rpo_seconds": drill["rpo_seconds"],
            "rto_seconds": drill["rto_seconds"],
            "passed": drill["passed"],
        })
    }

    fn text(&self, place: &Place, lifeboat: &Lifeboat) -> String {
        let mut text = format!("\nWhat happened to the shop in {}:\n\n", place.root().display());
        text.push_str(&self.what_happened(place));
        text.push_str(&format!("\nTry next:\n{}", try_next(place, lifeboat)));
        text
    }

    fn what_happened(&self, place: &Place) -> String {
        let bytes = self.points.iter().filter_map(|point| point["bytes"].as_u64()).sum::<u64>();
        let stored = directory_bytes(&place.repository());
        let archive = self.archives.first();
        let lines = [
            ("backups", format!("{} points, {} as it would be restored", self.points.len(), size(bytes))),
            ("", self.written()),
            ("changes", format!("{} files, {}.war, logs rotated", self.changes.files, self.changes.released)),
            ("DR site", place.dr().display().to_string()),
            ("", format!("{} stored{}", size(stored), saving(bytes, stored))),
            ("archive", archive.map_or_else(|| "none".to_owned(), archive_line)),
            ("drill", self.verdict()),
            ("RPO", self.measured("rpo")),
            ("RTO", self.measured("rto")),
            ("report", word(&self.drill.document["report_html"])),
        ];
        lines.iter().map(|(name, value)| format!("  {name:<9}{value}\n")).collect()
    }

    fn written(&self) -> String {
        let customers = self.signed_up.map(|customers| format!(" and {customers} customers signed up"));
        format!("{} orders were written{} while the backups ran", self.orders, customers.unwrap_or_default())
    }

    fn verdict(&self) -> String {
        let number = &self.drill.document["drill"];
        match self.drill.exit_code {
            0 => format!("{} passed", word(number)),
            4 => format!("{} passed its checks, but missed an objective", word(number)),
            _ => format!("{} FAILED; the report says which check or step", word(number)),
        }
    }

    /// A number and the method that gave it, as the report has them.
    fn measured(&self, which: &str) -> String {
        let Some(seconds) = self.drill.document[format!("{which}_seconds")].as_f64() else {
            return "not measured".to_owned();
        };
        let report = self.report();
        let told = |key: &str| report[key].as_str().unwrap_or("unknown").to_owned();
        let method = match which {
            "rpo" => format!("decided by {}, method: {}", told("rpo_source"), told("rpo_method")),
            _ => format!("from the declared incident to the last check, {}", told("rto_check")),
        };
        format!("{seconds:.1} s, {method}")
    }

    /// The drill's report; null when it cannot be read, since this is only told.
    fn report(&self) -> Value {
        let path = self.drill.document["report"].as_str().unwrap_or_default();
        fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }
}

/// The exactly three commands to try next.
fn try_next(place: &Place, lifeboat: &Lifeboat) -> String {
    let command = lifeboat.command_line();
    let target = shell_word(&place.root().join("restored").to_string_lossy());
    [
        format!("{command} points {SYSTEM}"),
        format!("{command} restore {SYSTEM} --source files --to {target}"),
        format!("{command} drill {SYSTEM}"),
    ]
    .map(|line| format!("  {line}\n"))
    .concat()
}

/// The point of `source` before its newest one; its only one if there is no other.
///
/// # Errors
/// Failed when `source` has no point.
pub fn older_point(points: &[Value], source: &str) -> Result<String> {
    let mut ours: Vec<(Timestamp, &str)> = Vec::new();
    for point in points.iter().filter(|point| point["source"] == source) {
        let time = point["available_time"].as_str().unwrap_or_default();
        let time = time.parse().or_fail(|| format!("the point {} has no time", point["id"]))?;
        ours.push((time, point["id"].as_str().unwrap_or_default()));
    }
    ours.sort();
    let older = ours.len().checked_sub(2).or(ours.len().checked_sub(1));
    older.map(|index| ours[index].1.to_owned()).ok_or_else(|| Failure::failed(format!("{source} has no point")))
}

fn archive_line(archive: &Value) -> String {
    let bytes = archive["bytes"].as_u64().unwrap_or_default();
    format!("{} ({}), point {}", word(&archive["location"]), size(bytes), word(&archive["point"]))
}

/// A JSON value as a person writes it.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn saving(bytes: u64, stored: u64) -> String {
    match (bytes, bytes.checked_sub(stored)) {
        (1.., Some(saved)) => format!(", {} % saved by deduplication and compression", saved * 100 / bytes),
        _ => String::new(),
    }
}

fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Bytes of all files below a directory; what cannot be read counts nothing, since this is only told.
fn directory_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.metadata().ok()?, entry.path())))
        .map(|(metadata, path)| if metadata.is_dir() { directory_bytes(&path) } else { metadata.len() })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(id: &str, source: &str, time: &str) -> Value {
        json!({"id": id, "source": source, "available_time": time})
    }

    #[test]
    fn the_older_point_is_the_one_before_the_newest_of_its_source() {
        let points = [
            point("b", "files", "2026-11-22T00:00:09.5Z"),
            point("a", "files", "2026-11-22T00:00:09Z"),
            point("c", "files", "2026-11-22T00:00:10Z"),
            point("x", "logs", "2026-11-22T00:00:11Z"),
        ];
        assert_eq!(older_point(&points, "files").unwrap(), "b");
        assert_eq!(older_point(&points, "logs").unwrap(), "x");
        assert!(older_point(&points, "disk").is_err());
    }

    #[test]
    fn a_partial_backup_is_not_hidden_by_a_good_drill() {
        let outcome = |exit_code, partial| {
            let drill = Drill { document: json!({}), exit_code };
            let changes = Changes { released: "shop", files: 1 };
            Outcome { points: vec![], archives: vec![], drill, orders: 0, signed_up: None, changes, partial }
                .exit_code()
        };
        assert_eq!([outcome(0, false), outcome(0, true), outcome(1, true), outcome(4, false)], [0, 3, 1, 4]);
    }
}
