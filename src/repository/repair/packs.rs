//! Which packs are whole, and what damaged ones still give.

use std::collections::HashMap;

use super::{RepairReport, object_of};
use crate::ground::Progress;
use crate::repository::error::RepositoryError;
use crate::repository::index_file::NamedPack;
use crate::repository::pack::{self, PackEntry};
use crate::repository::tree::BlobId;
use crate::repository::{Inner, crypto, unpacked};
use crate::site::StoreErrorKind;

/// A stored pack after it was looked at.
pub(super) enum Found {
    Sound(NamedPack),
    /// Not as it was written; with the blobs it should hold, by its header or by the index.
    Damaged(NamedPack),
}

impl Found {
    pub(super) fn sound(&self) -> Option<&NamedPack> {
        match self {
            Self::Sound(pack) => Some(pack),
            Self::Damaged(_) => None,
        }
    }

    pub(super) fn damaged(&self) -> Option<&NamedPack> {
        match self {
            Self::Damaged(pack) => Some(pack),
            Self::Sound(_) => None,
        }
    }

    pub(super) fn into_sound(self) -> Option<NamedPack> {
        match self {
            Self::Sound(pack) => Some(pack),
            Self::Damaged(_) => None,
        }
    }
}

/// A disk that cannot read one object; anything else says nothing of the object.
pub(super) fn is_unreadable(error: &RepositoryError) -> bool {
    matches!(error, RepositoryError::Store(error) if error.kind == StoreErrorKind::Other)
}

/// Looks at every stored pack; packs that the index names and that are gone are told too.
pub(super) fn examine(
    inner: &Inner,
    known: &HashMap<BlobId, Vec<PackEntry>>,
    headers_only: bool,
    progress: &dyn Progress,
    report: &mut RepairReport,
) -> Result<Vec<Found>, RepositoryError> {
    let (stored, foreign) = unpacked::list(inner, pack::PACKS)?;
    foreign.iter().for_each(|name| progress.warn(&format!("{name} has no name that the format knows")));
    report.packs = stored.len() as u64;
    let there: std::collections::HashSet<&BlobId> = stored.iter().map(|(id, _)| id).collect();
    let mut gone: Vec<&BlobId> = known.keys().filter(|id| !there.contains(id)).collect();
    gone.sort_unstable();
    report.damage.extend(gone.into_iter().map(|id| format!("{} is missing", object_of(id))));
    progress.begin("reading packs", Some(stored.iter().map(|(_, size)| size).sum()));
    let found = (stored.iter())
        .map(|(id, size)| {
            let found = examine_one(inner, id, *size, known.get(id), headers_only, report);
            progress.advance(*size);
            found
        })
        .collect();
    progress.end();
    found
}

fn examine_one(
    inner: &Inner,
    id: &BlobId,
    size: u64,
    known: Option<&Vec<PackEntry>>,
    headers_only: bool,
    report: &mut RepairReport,
) -> Result<Found, RepositoryError> {
    if headers_only {
        match pack::read_header(inner, id, size) {
            Ok(entries) => return Ok(Found::Sound((*id, entries))),
            Err(RepositoryError::Damaged(_)) => {}
            Err(error) if is_unreadable(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let (header, why) = match inner.store.get(&object_of(id)) {
        Ok(bytes) => {
            let header = pack::entries_of(&inner.key, &bytes);
            let whole = crypto::sha256(&bytes) == id.0;
            match header {
                Ok(entries) if whole => return Ok(Found::Sound((*id, entries))),
                Ok(entries) => (Some(entries), "its bytes do not match its name".to_owned()),
                Err(why) => (None, why),
            }
        }
        Err(error) if error.kind == StoreErrorKind::Other => {
            (pack::read_header(inner, id, size).ok(), format!("it cannot be read: {error}"))
        }
        Err(error) => return Err(error.into()),
    };
    report.damage.push(format!("{} is damaged: {why}", object_of(id)));
    let entries = header.or_else(|| known.cloned()).unwrap_or_default();
    Ok(Found::Damaged((*id, entries)))
}
