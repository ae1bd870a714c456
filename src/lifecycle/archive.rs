//! Archives a recovery point into a cold directory: a self-contained object, read back before it counts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cold_object::{self, ColdObject};
use crate::engine::Run;
use crate::engine::system::System;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result, byte_path, durable_file};
use crate::policy::ArchiveTarget;
use crate::repository::Repository;
use crate::site::records::{ArchiveRecord, PointRecord, RECORD_FORMAT};

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
            .hint("add `archive = { which = \"monthly\", to = \"directory\", path = \"/mnt/cold\" }` below [retention]")),
    }
}

/// Archives one point. A point that is archived already is left as it is.
///
/// # Errors
/// When the point cannot be read whole, or the cold directory or the DR site cannot be written.
pub async fn archive(run: &Run, system: &System, repository: &Repository, point: &PointRecord) -> Result<ArchiveRecord> {
    let id = format!("archive-{}", point.id);
    let path = cold_directory(system)?.join(format!("{}.tar.zst", point.id));
    let object = run
        .step("write archive", || {
            let (repository, point, path) = (repository.clone(), point.clone(), path.clone());
            let progress = std::sync::Arc::clone(&system.progress);
            blocking(move || {
                progress.begin(&format!("archiving {}", point.source), Some(point.bytes));
                let written = write_object(&repository, &point, &path, progress.as_ref());
                progress.end();
                written
            })
        })
        .await?;
    run.step("read back", || {
        let (path, object) = (path.clone(), object.clone());
        blocking(move || cold_object::read_back(&path, &object))
    })
    .await?;
    let record = run.step("record archive", || async { record(run, system, point, &id, &path, &object) }).await?;
    system.catalog.put_archive(&record)?;
    Ok(record)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.or_fail(|| "a worker thread ended unexpectedly".to_owned())?
}

/// Writes below a temporary name that the next attempt uses again, so that a kill leaves at most one unfinished file.
fn write_object(
    repository: &Repository,
    point: &PointRecord,
    path: &Path,
    progress: &dyn crate::ground::Progress,
) -> Result<ColdObject> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let doing = || format!("cannot write the archive {}", path.display());
    durable_file::create_directories(directory).or_fail(doing)?;
    let temporary = directory.join(format!(".writing-{}.tar.zst", point.id));
    let file = std::fs::File::create(&temporary).or_fail(doing)?;
    let object = cold_object::write(&repository.reader()?, point, &file, progress).map_err(|error| error.context(doing()))?;
    file.sync_all().or_fail(doing)?;
    std::fs::rename(&temporary, path).or_fail(doing)?;
    durable_file::sync_directory(directory).or_fail(doing)?;
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
