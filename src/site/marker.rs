//! `lifeboat.json`: what a place says of itself, and writing it again where it is lost.

use serde::{Deserialize, Serialize};

use super::object_store::{ObjectStore, PutMode, StoreErrorKind};
use super::place::SitePlace;
use super::records::{POINTS, POLICY_IN_FORCE, PointRecord, PolicyInForce, RECORD_FORMAT, parse, record_bytes};
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};

const MARKER: &str = "lifeboat.json";

/// What a DR site says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    format: u32,
    pub system: String,
    /// Random, to tell this site from another of the same system.
    pub id: String,
}

impl Marker {
    /// A marker for a new site; with an id of its own unless one is given.
    pub fn new(system: &str, id: Option<String>) -> Result<Self> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).or_fail(|| "no random bytes to be had".to_owned())?;
        let id = id.unwrap_or_else(|| hex::encode(random));
        Ok(Self { format: RECORD_FORMAT, system: system.to_owned(), id })
    }

    /// Reads the marker of a place.
    ///
    /// # Errors
    /// Wrong input when there is none; failed when it is damaged. Both say what to do.
    pub fn read(store: &dyn ObjectStore, place: &SitePlace) -> Result<Self> {
        match store.get(MARKER) {
            Ok(bytes) => parse(MARKER, &bytes).map_err(|failure| failure.hint(mending(place))),
            Err(error) if error.kind == StoreErrorKind::NotFound => Err(none(store, place)),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a place has neither a marker nor what else a site has from its first backup on.
    pub fn is_absent(store: &dyn ObjectStore) -> Result<bool> {
        Ok(store.size(MARKER)?.is_none() && store.size(POLICY_IN_FORCE)?.is_none())
    }

    /// Writes the marker of a new site; false when there is one already.
    pub fn write_new(&self, store: &dyn ObjectStore) -> Result<bool> {
        match store.put(MARKER, &record_bytes(self)?, PutMode::CreateNew) {
            Ok(()) => Ok(true),
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the marker again where a site of `system` (of any, when none is asked for) has lost it or holds one that is
    /// no record; false when there was nothing to mend. The site gets the id by which this machine knew it, if it is
    /// given. A store that does not answer and a marker of a newer lifeboat are not damage.
    ///
    /// # Errors
    /// Those of [`Marker::read`] when the place is none of lifeboat's, or it cannot be told of which system it is.
    pub fn mend(
        store: &dyn ObjectStore,
        place: &SitePlace,
        system: Option<&str>,
        id: impl Fn(&str) -> Option<String>,
    ) -> Result<bool> {
        let stored = match store.get(MARKER) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind == StoreErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let is_newer = |bytes: &[u8]| {
            let format =
                serde_json::from_slice(bytes).ok().and_then(|value: serde_json::Value| value["format"].as_u64());
            format.is_some_and(|format| format > u64::from(RECORD_FORMAT))
        };
        if stored.as_ref().is_some_and(|bytes| is_newer(bytes) || parse::<Self>(MARKER, bytes).is_ok()) {
            return Ok(false);
        }
        let found = system_of(store)?.filter(|found| system.is_none_or(|system| system == found));
        let Some(found) = found else { return Self::read(store, place).map(|_| false) };
        let marker = Self::new(&found, id(&found))?;
        match stored {
            None => marker.write_new(store).map(drop)?,
            Some(_) => store.put(MARKER, &record_bytes(&marker)?, PutMode::Replace)?,
        }
        Self::read(store, place).map(|_| true)
    }
}

fn mending(place: &SitePlace) -> String {
    format!(
        "`lifeboat repair SYSTEM`, or `lifeboat rebuild --from {}` on a new machine, writes it again",
        place.describe()
    )
}

/// The words for a place without a marker: a site that lost it, or no site.
fn none(store: &dyn ObjectStore, place: &SitePlace) -> Failure {
    let failure = Failure::wrong_input(format!("there is no DR site in {}: it holds no {MARKER}", place.describe()));
    if system_of(store).is_ok_and(|system| system.is_some()) {
        return Failure::failed(format!("the DR site in {} has lost its {MARKER}", place.describe()))
            .hint(mending(place));
    }
    failure.hint(match place {
        SitePlace::Directory(_) => "`lifeboat backup` makes one at the first backup; check that the place is mounted",
        SitePlace::Bucket(_) => "`lifeboat backup` makes one at the first backup; check bucket, prefix and endpoint",
    })
}

/// The system whose site this is by what else it holds: its policy, or any readable point.
fn system_of(store: &dyn ObjectStore) -> Result<Option<String>> {
    if let Some(policy) = record::<PolicyInForce>(store, POLICY_IN_FORCE)? {
        return Ok(Some(policy.system));
    }
    let points = match store.list(POINTS) {
        Err(error) if error.kind == StoreErrorKind::NotFound => Vec::new(),
        listed => listed?,
    };
    for object in points {
        if let Some(point) = record::<PointRecord>(store, &object.key)? {
            return Ok(Some(point.system));
        }
    }
    Ok(None)
}

/// A record, if it is there and can be read.
fn record<T: serde::de::DeserializeOwned>(store: &dyn ObjectStore, key: &str) -> Result<Option<T>> {
    match store.get(key) {
        Ok(bytes) => Ok(parse(key, &bytes).ok()),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;

    use super::*;
    use crate::ground::FailureKind;
    use crate::site::DrSite;

    fn site(directory: &Path) -> (SitePlace, DrSite) {
        let place = SitePlace::Directory(directory.to_owned());
        let site = DrSite::open_or_create(&place, "shop").unwrap();
        (place, site)
    }

    #[test]
    fn a_lost_or_damaged_marker_is_written_again_with_the_id_that_was_known() {
        let directory = tempfile::tempdir().unwrap();
        let (place, site) = site(directory.path());
        site.put_policy_in_force("system = 'shop'", &std::collections::BTreeMap::new(), Timestamp::UNIX_EPOCH).unwrap();
        let store = place.store().unwrap();
        let known = |system: &str| (system == "shop").then(|| site.id().to_owned());
        let file = directory.path().join(MARKER);
        let original = std::fs::read(&file).unwrap();
        for damage in [None, Some(&original[..9]), Some(b"{\"format\": 1}")] {
            std::fs::remove_file(&file).unwrap();
            damage.iter().for_each(|bytes| std::fs::write(&file, bytes).unwrap());
            let failure = DrSite::open(&place, "shop").err().unwrap();
            assert_eq!(failure.kind, FailureKind::Failed);
            assert!(failure.hints.iter().any(|hint| hint.contains("lifeboat rebuild --from")), "{failure:?}");
            assert!(Marker::mend(store.as_ref(), &place, Some("other"), known).is_err());
            assert!(Marker::mend(store.as_ref(), &place, Some("shop"), known).unwrap());
            assert_eq!(std::fs::read(&file).unwrap(), original);
        }
        assert!(!Marker::mend(store.as_ref(), &place, Some("shop"), known).unwrap());
        let newer = b"{\"format\": 999}";
        std::fs::write(&file, newer).unwrap();
        assert!(!Marker::mend(store.as_ref(), &place, Some("shop"), known).unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), newer);
    }

    #[test]
    fn a_place_that_holds_nothing_of_lifeboat_gets_no_marker() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("letter"), "dear").unwrap();
        let place = SitePlace::Directory(directory.path().to_owned());
        let failure = Marker::mend(place.store().unwrap().as_ref(), &place, None, |_| None).unwrap_err();
        assert_eq!(failure.kind, FailureKind::WrongInput);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
