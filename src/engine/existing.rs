//! Existing restic repositories that sources name, and which repository a recovery point is read from.
//!
//! They belong to others: they are opened behind a store that refuses every write, so that not even a lock is left in one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ground::{Failure, Result};
use crate::policy::{ExistingRepository, Policy, Source};
use crate::repository::{BlobId, BlobKind, BlobReader, Repository, RepositoryError};
use crate::site::ReadOnlyStore;
use crate::site::local::LocalStore;
use crate::site::records::PointRecord;

/// Opens the repository of a source, to be read only.
///
/// # Errors
/// Wrong input when there is none, the password does not open it or its format is newer; each names the source.
pub fn open(source: &str, existing: &ExistingRepository) -> Result<Repository> {
    let named = |failure: Failure| failure.context(format!("the existing repository of {source}"));
    let ExistingRepository { path, password, .. } = existing;
    if !Path::new(path).is_dir() {
        return Err(named(
            Failure::wrong_input(format!("{path} is no directory that can be reached"))
                .hint("check the source's `path`, and whether what it lies on is mounted"),
        ));
    }
    let secret = password.resolve().map_err(named)?;
    let store = Arc::new(ReadOnlyStore::new(Arc::new(LocalStore::new(path))));
    Repository::open(store, &secret).map_err(|error| {
        let hint = match &error {
            RepositoryError::WrongPassword(_) => format!("the policy takes its password from {password}"),
            RepositoryError::NotARepository(_) => {
                format!("the source's `path` is the directory that holds `config`, not {path}")
            }
            _ => return named(error.into()),
        };
        named(error.into()).hint(hint)
    })
}

/// The repository that the policy names for a point that lies in an existing one.
///
/// # Errors
/// Wrong input when the policy names none any more; as [`open`].
fn open_for(sources: &[Source], point: &PointRecord) -> Result<Repository> {
    let source = sources.iter().find(|source| source.name == point.source);
    let existing = source.and_then(Source::existing).ok_or_else(|| {
        Failure::wrong_input(format!(
            "the recovery point {} lies in an existing repository, and the policy has no source {:?} of kind \
             `repository` any more",
            point.id, point.source
        ))
        .hint("put the source back into the policy, with the repository's path and password")
    })?;
    open(&point.source, existing)
}

/// Reads recovery points wherever they lie: in the system's own repository, or in the existing one of their source. Each
/// is opened and its index loaded when it is first needed, once. Cheap to clone.
#[derive(Clone)]
pub struct PointReaders {
    shared: Arc<Shared>,
}

struct Shared {
    own: Repository,
    sources: Vec<Source>,
    /// By source; under `None` the own one.
    loaded: Mutex<BTreeMap<Option<String>, BlobReader>>,
}

impl PointReaders {
    /// With the system's own repository, opened, and the policy that says where others are.
    pub fn new(own: Repository, policy: &Policy) -> Self {
        let shared = Shared { own, sources: policy.sources.clone(), loaded: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The reader of the repository that holds this point.
    ///
    /// # Errors
    /// When that repository cannot be opened, its index not be loaded, or the point's data was removed from an existing
    /// one by others.
    pub fn of(&self, point: &PointRecord) -> Result<BlobReader> {
        let reader = self.load(point)?;
        let holds = |tree: BlobId| reader.length(BlobKind::Tree, &tree).is_some();
        if point.is_elsewhere() && !BlobId::from_hex(&point.tree).is_some_and(holds) {
            let snapshot = point.snapshot.get(..8).unwrap_or_default();
            return Err(Failure::failed(format!(
                "the data of the recovery point {} is gone: the existing repository of {} holds its snapshot {snapshot} no \
                 more",
                point.id, point.source
            ))
            .hint("it was forgotten and pruned there; `lifeboat verify` names all such points"));
        }
        Ok(reader)
    }

    fn load(&self, point: &PointRecord) -> Result<BlobReader> {
        let Shared { own, sources, loaded } = &*self.shared;
        let place = point.is_elsewhere().then(|| point.source.clone());
        let locked = || loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = locked().get(&place) {
            return Ok(reader.clone());
        }
        // Two may load it at the same time; the first to finish gives it to both.
        let repository = if place.is_some() { open_for(sources, point)? } else { own.clone() };
        let reader = repository.reader()?;
        Ok(locked().entry(place).or_insert(reader).clone())
    }
}
