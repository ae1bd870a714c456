//! Archives a recovery point into a cold directory: a self-contained object, read back before it counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::cold_object::{self, ColdObject};
use crate::engine::Run;
use crate::engine::existing::PointReaders;
use crate::engine::system::System;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Progress, Result, blocking, byte_path, durable_file};
use crate::policy::{ArchiveRule, ArchiveTarget};
use crate::site::records::{ArchiveRecord, PointRecord, PointState, RECORD_FORMAT};

/// What an archive run is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveRequest {
    /// The point's id.
    pub point: String,
}

/// The directory that the policy archives to.
///
/// # Errors
/// Wrong input when the policy has no archive rule, or one that this build does not serve.
pub fn cold_directory(system: &System) -> Result<PathBuf> {
    match system.policy.retention.archive.as_ref().map(|rule| &rule.to) {
        Some(ArchiveTarget::Directory { path }) => Ok(PathBuf::from(path)),
        Some(_) => Err(Failure::wrong_input("the policy archives to AWS, which this version does not serve yet")),
        None => Err(Failure::wrong_input(format!("the policy of {:?} has no archive rule", system.policy.system))
            .hint(
                "add `archive = { which = \"monthly\", to = \"directory\", path = \"/mnt/cold\" }` below [retention]",
            )),
    }
}

/// Archives one point. A point that is archived already is left as it is.
///
/// # Errors
/// When the point cannot be read whole, or the cold directory or the DR site cannot be written.
pub async fn archive(run: &Run, system: &System, readers: &PointReaders, point: &PointRecord) -> Result<ArchiveRecord> {
    let id = format!("archive-{}", point.id);
    if let Some(record) = system.dr.archive(&id)? {
        system.catalog.put_archive(&record)?;
        return Ok(record);
    }
    let path = cold_directory(system)?.join(format!("{}.tar.zst", point.id));
    let object = run
        .step("write archive", || {
            let (readers, point, path) = (readers.clone(), point.clone(), path.clone());
            let progress = std::sync::Arc::clone(&system.progress);
            blocking(move || {
                progress.begin(&format!("archiving {}", point.source), Some(point.bytes));
                let written = write_object(&readers, &point, &path, progress.as_ref());
                progress.end();
                written
            })
        })
        .await?;
    let record = run.step("record archive", || async { record(run, system, point, &id, &path, &object) }).await?;
    system.catalog.put_archive(&record)?;
    Ok(record)
}

/// Writes below a temporary name that the next attempt uses again, so that a kill leaves at most one unfinished file, and
/// reads the object back before it gets its own name.
fn write_object(
    readers: &PointReaders,
    point: &PointRecord,
    path: &Path,
    progress: &dyn Progress,
) -> Result<ColdObject> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let doing = || format!("cannot write the archive {}", path.display());
    durable_file::create_directories(directory).or_fail(doing)?;
    let temporary = directory.join(format!(".writing-{}.tar.zst", point.id));
    let object = write_temporary(readers, point, &temporary, progress).map_err(|failure| {
        // Half an archive on a full disk helps nobody.
        let _ = std::fs::remove_file(&temporary);
        failure.context(doing())
    })?;
    std::fs::rename(&temporary, path).or_fail(doing)?;
    durable_file::sync_directory(directory).or_fail(doing)?;
    Ok(object)
}

fn write_temporary(
    readers: &PointReaders,
    point: &PointRecord,
    temporary: &Path,
    progress: &dyn Progress,
) -> Result<ColdObject> {
    use std::os::unix::fs::OpenOptionsExt;
    let doing = || "cannot write it".to_owned();
    // Files that only their owner may read are in it.
    let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary);
    let file = opened.or_fail(doing)?;
    let object = cold_object::write(&readers.of(point)?, point, &file, progress)?;
    file.sync_all().or_fail(doing)?;
    cold_object::read_back(temporary, &object)?;
    Ok(object)
}

fn record(
    run: &Run,
    system: &System,
    point: &PointRecord,
    id: &str,
    path: &Path,
    object: &ColdObject,
) -> Result<ArchiveRecord> {
    if let Some(record) = system.dr.archive(id)? {
        return Ok(record);
    }
    let record = ArchiveRecord {
        format: RECORD_FORMAT,
        id: id.to_owned(),
        system: point.system.clone(),
        source: point.source.clone(),
        point: point.id.clone(),
        run: run.id().to_owned(),
        data_time: point.data_time,
        archived_time: run.now(),
        tier: "directory".to_owned(),
        location: byte_path::escape_path(path),
        bytes: object.bytes,
        sha256: object.sha256.clone(),
    };
    system.dr.put_archive(&record)?;
    Ok(record)
}

/// The points that a rule asks to archive now: old enough, complete, not archived yet, and the newest of their period
/// (a calendar period in `timezone`) within their source. A rule without `after` archives by hand only. Pure.
///
/// # Errors
/// When the time zone is unknown.
pub fn due(
    points: &[PointRecord],
    archives: &[ArchiveRecord],
    rule: &ArchiveRule,
    timezone: &str,
    now: Timestamp,
) -> Result<Vec<PointRecord>> {
    let zone = TimeZone::get(timezone).or_fail(|| format!("the time zone {timezone:?} is unknown"))?;
    let Some(after) = rule.after else { return Ok(Vec::new()) };
    let age = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
    let mut newest: BTreeMap<(String, String), &PointRecord> = BTreeMap::new();
    for point in points.iter().filter(|point| point.state == PointState::Complete) {
        let period = period(&rule.which, point, &zone);
        let best = newest.entry((point.source.clone(), period)).or_insert(point);
        if point.compare_newness(best).is_gt() {
            *best = point;
        }
    }
    let old_enough = |point: &PointRecord| now.duration_since(point.available_time) >= age;
    let archived = |point: &PointRecord| archives.iter().any(|archive| archive.point == point.id);
    let mut due: Vec<PointRecord> =
        newest.into_values().filter(|point| old_enough(point) && !archived(point)).cloned().collect();
    due.sort_by_key(|point| point.sequence);
    Ok(due)
}

/// A text that is equal for two points of the same period.
fn period(which: &str, point: &PointRecord, zone: &TimeZone) -> String {
    let date = point.data_time.to_zoned(zone.clone()).date();
    match which {
        "yearly" => date.strftime("%Y").to_string(),
        "monthly" => date.strftime("%Y-%m").to_string(),
        "weekly" => date.strftime("%G-W%V").to_string(),
        "daily" => date.to_string(),
        _ => point.id.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(source: &str, sequence: u64, time: &str) -> PointRecord {
        let time: Timestamp = time.parse().unwrap();
        PointRecord {
            format: RECORD_FORMAT,
            id: format!("{source}-{sequence}"),
            system: "shop".into(),
            source: source.into(),
            kind: "files".into(),
            run: "r".into(),
            sequence,
            data_time: time,
            available_time: time,
            bytes: 0,
            added_bytes: 0,
            read_bytes: None,
            full_read: None,
            entries: 0,
            state: PointState::Complete,
            held: false,
            missing: Vec::new(),
            missing_count: 0,
            snapshot: String::new(),
            tree: String::new(),
            roots: Vec::new(),
            policy: String::new(),
            host: String::new(),
            clock_suspect: None,
            database: None,
        }
    }

    fn ids(which: &str, after_days: u64, points: &[PointRecord]) -> Vec<String> {
        let rule = ArchiveRule {
            which: which.into(),
            after: Some(std::time::Duration::from_secs(after_days * 86_400)),
            to: ArchiveTarget::Directory { path: "/cold".into() },
            keep: None,
        };
        let now = "2026-03-15T00:00:00Z".parse().unwrap();
        let due = due(points, &[], &rule, "Europe/Paris", now).unwrap();
        due.into_iter().map(|point| point.id).collect()
    }

    #[test]
    fn the_newest_of_each_period_in_the_zone_is_due_once_it_is_old_enough() {
        let mut points = vec![
            point("a", 1, "2026-01-10T12:00:00Z"),
            // 00:30 on 1 February in Paris.
            point("a", 2, "2026-01-31T23:30:00Z"),
            point("a", 3, "2026-02-20T12:00:00Z"),
            point("b", 4, "2026-01-05T12:00:00Z"),
            point("a", 5, "2026-03-10T12:00:00Z"),
        ];
        assert_eq!(ids("monthly", 7, &points), ["a-1", "a-3", "b-4"]);
        assert_eq!(ids("monthly", 0, &points), ["a-1", "a-3", "b-4", "a-5"]);
        assert_eq!(ids("all", 40, &points), ["a-1", "a-2", "b-4"]);
        assert_eq!(ids("yearly", 400, &points), [""; 0]);
        points[0].state = PointState::Partial;
        assert_eq!(ids("monthly", 7, &points), ["a-3", "b-4"]);
    }
}
