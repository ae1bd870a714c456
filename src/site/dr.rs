//! The DR site: everything needed to bring a system back, in one store.
//!
//! ```text
//! lifeboat.json              what this place is: format, system
//! repository/                restic repository, format version 2
//! policies/<sha256>.toml     every policy that was ever in force
//! policy-in-force.json       which one is, and its recovery scripts
//! scripts/<sha256>           recovery scripts by content
//! points/<point>.json        one record per recovery point, written last
//! archives/<archive>.json    one record per archive
//! ledger/<number>.json       the chained record of every run
//! runs/<run>.jsonl           the step journal of every finished run
//! reports/<drill>/           report.json, report.html, events.jsonl of a drill
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use lifeboat_verify::report::Report;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::marker::Marker;
use super::object_store::{Below, ObjectStore, PutMode, StoreError, StoreErrorKind};
use super::place::SitePlace;
use super::records::{
    ArchiveRecord, POINTS, POLICY_IN_FORCE, PointRecord, PolicyInForce, RECORD_FORMAT, parse, record_bytes,
};
use crate::ground::{Failure, Result, durable_file, sha256_hex};

const POLICIES: &str = "policies/";
const SCRIPTS: &str = "scripts/";
/// Handle to a system's DR site. Executing a recovery plan needs this and nothing else.
#[derive(Clone)]
pub struct DrSite {
    store: Arc<dyn ObjectStore>,
    system: String,
    id: String,
    place: SitePlace,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Failure::failed(error.message);
        match error.kind {
            StoreErrorKind::Full => failure.hint("make room at the DR site, then run the command again"),
            StoreErrorKind::Denied => failure.hint("give the user who runs lifeboat access to it"),
            _ => failure,
        }
    }
}

impl DrSite {
    /// Opens the site of `system`.
    ///
    /// # Errors
    /// Wrong input when there is none, or it belongs to another system.
    pub fn open(place: &SitePlace, system: &str) -> Result<Self> {
        let site = Self::recognise(place)?;
        if site.system != system {
            return Err(Failure::wrong_input(format!(
                "{} is the DR site of the system {:?}, not of {system:?}",
                place.describe(),
                site.system
            ))
            .hint("give each system a DR directory, or a prefix in a bucket, of its own"));
        }
        Ok(site)
    }

    /// Opens the site in a place, whatever system it belongs to.
    pub fn recognise(place: &SitePlace) -> Result<Self> {
        let store = place.store()?;
        let marker = Marker::read(store.as_ref(), place)?;
        Ok(Self { store, system: marker.system, id: marker.id, place: place.clone() })
    }

    /// Whether nothing is there at all: neither a site nor anything else that would have to be told of.
    pub fn is_absent(place: &SitePlace) -> Result<bool> {
        match place {
            SitePlace::Directory(path) => Ok(!path.exists()),
            SitePlace::Bucket(_) => Marker::is_absent(place.store()?.as_ref()),
        }
    }

    /// Opens the site in a place, making it when the place is empty or absent.
    ///
    /// # Errors
    /// Wrong input when the place holds something else: an unmounted or mistaken place is not written to.
    pub fn open_or_create(place: &SitePlace, system: &str) -> Result<Self> {
        let store = place.store()?;
        let taken = match place {
            SitePlace::Directory(directory) => holds_something(directory)?,
            SitePlace::Bucket(_) => !store.list("")?.is_empty(),
        };
        if taken {
            return Self::open(place, system);
        }
        let marker = Marker::new(system, None)?;
        match marker.write_new(store.as_ref())? {
            true => Ok(Self { store, system: marker.system, id: marker.id, place: place.clone() }),
            false => Self::open(place, system),
        }
    }

    /// Writes the marker of a site again that has lost it or holds a damaged one; false when it is whole. The site gets
    /// the id by which this machine knew it, if `known` tells it for the site's system. With `system`, only its site is mended.
    ///
    /// # Errors
    /// When the place is none of lifeboat's, or it cannot be told of which system it is.
    pub fn mend_marker(
        place: &SitePlace,
        system: Option<&str>,
        known: impl Fn(&str) -> Option<String>,
    ) -> Result<bool> {
        Marker::mend(place.store()?.as_ref(), place, system, known)
    }

    /// Where it is.
    pub fn place(&self) -> &SitePlace {
        &self.place
    }

    /// Tells this site from another of the same system.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The system it belongs to.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// The whole site's store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The place of the repository.
    pub fn repository_store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(Below::new(Arc::clone(&self.store), "repository"))
    }

    /// For people: the directory or the address of the bucket.
    pub fn describe(&self) -> String {
        self.store.describe()
    }

    /// Stores a policy and its scripts by content and puts them in force; nothing is written when they are already.
    pub fn put_policy_in_force(&self, text: &str, scripts: &BTreeMap<String, Vec<u8>>, now: Timestamp) -> Result<()> {
        let policy = sha256_hex(text.as_bytes());
        let hashes: BTreeMap<String, String> =
            scripts.iter().map(|(name, content)| (name.clone(), sha256_hex(content))).collect();
        // One that is damaged is replaced, and so is what is damaged of that which it names.
        let current = self.policy_in_force().ok().flatten();
        let in_force = current.is_some_and(|current| current.policy == policy && current.scripts == hashes);
        self.put_by_hash(&policy_key(&policy), text.as_bytes(), in_force)?;
        for content in scripts.values() {
            self.put_by_hash(&script_key(&sha256_hex(content)), content, in_force)?;
        }
        if in_force {
            return Ok(());
        }
        let in_force =
            PolicyInForce { format: RECORD_FORMAT, system: self.system.clone(), policy, scripts: hashes, since: now };
        Ok(self.store.put(POLICY_IN_FORCE, &record_bytes(&in_force)?, PutMode::Replace)?)
    }

    /// The policy in force, `None` before the first backup.
    pub fn policy_in_force(&self) -> Result<Option<PolicyInForce>> {
        match self.store.get(POLICY_IN_FORCE) {
            Ok(bytes) => parse(POLICY_IN_FORCE, &bytes).map(Some),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Text of a stored policy, checked against its hash.
    pub fn policy_text(&self, hash: &str) -> Result<String> {
        let bytes = self.get_by_hash(&policy_key(hash), hash)?;
        String::from_utf8(bytes).map_err(|_| Failure::failed(format!("the stored policy {hash} is not text")))
    }

    /// The scripts of the policy in force by file name, each checked against its hash.
    pub fn scripts(&self, in_force: &PolicyInForce) -> Result<BTreeMap<String, Vec<u8>>> {
        let read = |(name, hash): (&String, &String)| Ok((name.clone(), self.get_by_hash(&script_key(hash), hash)?));
        in_force.scripts.iter().map(read).collect()
    }

    /// What is damaged of the policy in force and its scripts, a sentence each.
    pub fn policy_damage(&self) -> Result<Vec<String>> {
        let in_force = match self.policy_in_force() {
            Ok(None) => return Ok(Vec::new()),
            Ok(Some(in_force)) => in_force,
            Err(failure) => return Ok(vec![failure.message]),
        };
        let policy = [policy_key(&in_force.policy)].into_iter().zip([&in_force.policy]);
        let scripts = in_force.scripts.values().map(|hash| (script_key(hash), hash));
        let read = policy.chain(scripts).map(|(key, hash)| self.get_by_hash(&key, hash));
        Ok(read.filter_map(|read| read.err().map(|failure| failure.message)).collect())
    }

    /// Writes a point's record, once. A record with the same content is left as it is. Returns its SHA-256.
    pub fn put_point(&self, point: &PointRecord) -> Result<String> {
        self.put_record(&format!("points/{}.json", point.id), point)
    }

    /// The record of one point, when it is there.
    pub fn point(&self, id: &str) -> Result<Option<PointRecord>> {
        self.get_record(&format!("points/{id}.json"))
    }

    /// SHA-256 of a point's record as it lies there, `None` when it is gone.
    pub fn record_sha256(&self, id: &str) -> Result<Option<String>> {
        match self.store.get(&format!("points/{id}.json")) {
            Ok(bytes) => Ok(Some(sha256_hex(&bytes))),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All points by rising sequence, and a sentence for each record that cannot be read; the listing is complete, or
    /// an error.
    pub fn points(&self) -> Result<(Vec<PointRecord>, Vec<String>)> {
        let (mut points, damage): (Vec<PointRecord>, _) = self.list_records(POINTS)?;
        points.sort_by(|left, right| (left.sequence, &left.id).cmp(&(right.sequence, &right.id)));
        Ok((points, damage))
    }

    /// Ids of all points, without reading them.
    pub fn point_ids(&self) -> Result<Vec<String>> {
        self.record_names(POINTS)
    }

    /// Ids of all archives, without reading them.
    pub fn archive_ids(&self) -> Result<Vec<String>> {
        self.record_names("archives/")
    }

    fn record_names(&self, prefix: &str) -> Result<Vec<String>> {
        let objects = self.store.list(prefix)?;
        Ok(objects.iter().filter_map(|object| record_name(&object.key)).map(str::to_owned).collect())
    }

    /// Writes an archive's record, once. Returns its SHA-256.
    pub fn put_archive(&self, archive: &ArchiveRecord) -> Result<String> {
        self.put_record(&format!("archives/{}.json", archive.id), archive)
    }

    /// The record of one archive, when it is there.
    pub fn archive(&self, id: &str) -> Result<Option<ArchiveRecord>> {
        self.get_record(&format!("archives/{id}.json"))
    }

    /// All archives, and a sentence for each record that cannot be read.
    pub fn archives(&self) -> Result<(Vec<ArchiveRecord>, Vec<String>)> {
        self.list_records("archives/")
    }

    /// Numbers of the drills whose reports are stored.
    pub fn report_numbers(&self) -> Result<Vec<u64>> {
        let objects = self.store.list("reports/")?;
        let number = |key: &str| key.strip_prefix("reports/")?.strip_suffix("/report.json")?.parse().ok();
        Ok(objects.iter().filter_map(|object| number(&object.key)).collect())
    }

    /// A stored report.
    ///
    /// # Errors
    /// Wrong input when there is none of that number; failed when it is damaged.
    pub fn report(&self, number: u64) -> Result<Report> {
        let key = format!("{}/report.json", report_directory(number));
        let bytes = self.store.get(&key).map_err(|error| match error.kind {
            StoreErrorKind::NotFound => Failure::wrong_input(format!("there is no report of drill {number}"))
                .hint("`lifeboat drills` lists them"),
            _ => Failure::from(error),
        })?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::failed(format!("the report {key} at the DR site is damaged: {error}")))
    }

    /// Stores evidence (a run's journal, a report's parts), replacing what an interrupted attempt wrote.
    pub fn put_evidence(&self, key: &str, bytes: &[u8]) -> Result<String> {
        self.store.put(key, bytes, PutMode::Replace)?;
        Ok(sha256_hex(bytes))
    }

    fn put_record<T: Serialize>(&self, key: &str, record: &T) -> Result<String> {
        let bytes = record_bytes(record)?;
        self.put_once(key, &bytes)?;
        Ok(sha256_hex(&bytes))
    }

    /// For names that stand for one content: an equal object is success, a different one is damage.
    fn put_once(&self, key: &str, bytes: &[u8]) -> Result<()> {
        match self.store.put(key, bytes, PutMode::CreateNew) {
            Ok(()) => Ok(()),
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => {
                if self.store.get(key)? == bytes {
                    return Ok(());
                }
                Err(Failure::failed(format!("{}/{key} is there already with other content", self.describe())))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// For names that are the hash of the content, so that a different object is damaged and is replaced. One that may
    /// not be read is taken for whole, and when it is `expected` it is not written before it is seen to be lost.
    fn put_by_hash(&self, key: &str, bytes: &[u8], expected: bool) -> Result<()> {
        if !expected {
            match self.store.put(key, bytes, PutMode::CreateNew) {
                Ok(()) => return Ok(()),
                Err(error) if matches!(error.kind, StoreErrorKind::Denied | StoreErrorKind::Full) => {
                    return Err(error.into());
                }
                // There already, or so damaged that the store itself says so.
                Err(_) => {}
            }
        }
        let lost = match self.store.get(key) {
            Ok(stored) => stored != bytes,
            Err(error) => error.kind == StoreErrorKind::NotFound,
        };
        if lost {
            self.store.put(key, bytes, PutMode::Replace)?;
        }
        Ok(())
    }

    fn get_by_hash(&self, key: &str, hash: &str) -> Result<Vec<u8>> {
        let bytes = self.store.get(key)?;
        if sha256_hex(&bytes) == hash {
            return Ok(bytes);
        }
        Err(Failure::failed(format!("{}/{key} is damaged: its SHA-256 is not {hash}", self.describe())))
    }

    fn get_record<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        match self.store.get(key) {
            Ok(bytes) => parse(key, &bytes).map(Some),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn list_records<T: DeserializeOwned>(&self, prefix: &str) -> Result<(Vec<T>, Vec<String>)> {
        let (mut records, mut damage) = (Vec::new(), Vec::new());
        let objects = self.store.list(prefix)?;
        for object in objects.iter().filter(|object| object.key.ends_with(".json")) {
            let read = self.store.get(&object.key).map_err(Failure::from);
            match read.and_then(|bytes| parse(&object.key, &bytes)) {
                Ok(record) => records.push(record),
                Err(failure) => damage.push(failure.message),
            }
        }
        Ok((records, damage))
    }
}

/// Where the report of a drill lies.
pub fn report_directory(number: u64) -> String {
    format!("reports/{number:06}")
}

fn policy_key(hash: &str) -> String {
    format!("{POLICIES}{hash}.toml")
}

fn script_key(hash: &str) -> String {
    format!("{SCRIPTS}{hash}")
}

fn holds_something(directory: &Path) -> Result<bool> {
    match std::fs::read_dir(directory).map(|mut entries| entries.any(|entry| foreign(entry.ok()))) {
        Ok(taken) => Ok(taken),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::failed(format!("cannot read the DR directory {}: {error}", directory.display()))),
    }
}

/// Something in a directory that neither an empty file system has of itself nor a first backup killed early leaves.
fn foreign(entry: Option<std::fs::DirEntry>) -> bool {
    entry.is_some_and(|entry| {
        let name = entry.file_name();
        name != "lost+found" && !durable_file::is_temporary(&name)
    })
}

fn record_name(key: &str) -> Option<&str> {
    key.rsplit('/').next()?.strip_suffix(".json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::FailureKind;

    fn at(path: &Path) -> SitePlace {
        SitePlace::Directory(path.to_owned())
    }

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    #[test]
    fn a_site_is_of_one_system_and_a_foreign_directory_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let dr = directory.path().join("dr");
        DrSite::open_or_create(&at(&dr), "shop").unwrap();
        DrSite::open_or_create(&at(&dr), "shop").unwrap();
        assert_eq!(DrSite::open(&at(&dr), "other").err().unwrap().kind, FailureKind::WrongInput);
        let foreign = directory.path().join("home");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("letter"), "dear").unwrap();
        assert_eq!(DrSite::open_or_create(&at(&foreign), "shop").err().unwrap().kind, FailureKind::WrongInput);
        assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1);
    }

    #[test]
    fn the_policy_in_force_is_kept_by_content_and_checked_when_read() {
        let directory = tempfile::tempdir().unwrap();
        let site = DrSite::open_or_create(&at(directory.path()), "shop").unwrap();
        assert_eq!(site.policy_in_force().unwrap(), None);
        let scripts = BTreeMap::from([("start.sh".to_owned(), b"#!/bin/sh\n".to_vec())]);
        site.put_policy_in_force("system = 'shop'", &scripts, now()).unwrap();
        let in_force = site.policy_in_force().unwrap().unwrap();
        assert_eq!(site.policy_text(&in_force.policy).unwrap(), "system = 'shop'");
        assert_eq!(site.scripts(&in_force).unwrap(), scripts);
        let stored = directory.path().join(format!("policies/{}.toml", in_force.policy));
        std::fs::write(stored, "system = 'shoq'").unwrap();
        assert!(site.policy_text(&in_force.policy).unwrap_err().message.contains("damaged"));
        assert_eq!(site.policy_damage().unwrap().len(), 1);
        std::fs::remove_file(directory.path().join(script_key(&in_force.scripts["start.sh"]))).unwrap();
        assert_eq!(site.policy_damage().unwrap().len(), 2);
        // The next backup brings both back.
        site.put_policy_in_force("system = 'shop'", &scripts, now()).unwrap();
        assert_eq!(site.policy_damage().unwrap(), Vec::<String>::new());
        assert_eq!(site.policy_in_force().unwrap().unwrap(), in_force);
    }
}
