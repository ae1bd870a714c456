//! What the key of an object says of it.

use aws_sdk_s3::types::{ObjectLockMode, StorageClass};

use super::super::object_store::{StoreError, StoreErrorKind};
use super::super::place::BucketPlace;
use crate::ground::clock::{Clock, SystemClock};

/// Keys are relative, of plain components.
pub(super) fn check_key(key: &str) -> Result<(), StoreError> {
    let plain = key.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if plain && !key.contains(|c: char| c.is_control()) {
        return Ok(());
    }
    Err(StoreError { kind: StoreErrorKind::Other, message: format!("{key:?} is no object name") })
}

/// Kinds of object that are treated differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Packs: large, written once.
    Data,
    /// Written once: the repository's configuration, keys, index and snapshots; points, archives, ledger, policies,
    /// scripts.
    Lasting,
    /// Removed or replaced in the ordinary course: locks, the pointer to the policy in force, journals and reports of
    /// runs that were interrupted.
    Passing,
}

/// What kind an object is, by its key below the DR site.
pub(super) fn kind(key: &str) -> Kind {
    let (place, rest) = key.split_once('/').unwrap_or((key, ""));
    match (place, rest.split('/').next().unwrap_or_default()) {
        ("repository", "data") => Kind::Data,
        ("repository", "locks") => Kind::Passing,
        ("repository" | "policies" | "scripts" | "points" | "archives" | "ledger", _) => Kind::Lasting,
        ("lifeboat.json", _) => Kind::Lasting,
        _ => Kind::Passing,
    }
}

/// The SHA-256 in hex that a key says its object has.
pub(super) fn promised_hash(key: &str) -> Option<&str> {
    let name = key.rsplit('/').next()?;
    let name = if key.starts_with("policies/") { name.strip_suffix(".toml")? } else { name };
    (name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))).then_some(name)
}

/// Storage class of an object, where it is not the bucket's usual one.
pub(super) fn storage_class(place: &BucketPlace, key: &str) -> Option<StorageClass> {
    let class = place.options.storage_class.as_deref().filter(|_| kind(key) == Kind::Data)?;
    Some(StorageClass::from(class))
}

/// How an object is held against deletion, and until when.
pub(super) fn retention(place: &BucketPlace, key: &str) -> Option<(ObjectLockMode, aws_sdk_s3::primitives::DateTime)> {
    let lock = place.options.object_lock.filter(|_| kind(key) != Kind::Passing)?;
    let mode = if lock.compliance { ObjectLockMode::Compliance } else { ObjectLockMode::Governance };
    let until = SystemClock.now().as_second() + i64::from(lock.days) * 24 * 3600;
    Some((mode, aws_sdk_s3::primitives::DateTime::from_secs(until)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{BucketOptions, ObjectLock};

    #[test]
    fn locks_and_what_is_replaced_are_never_held_and_only_packs_have_a_class() {
        let options = BucketOptions {
            storage_class: Some("STANDARD_IA".into()),
            object_lock: Some(ObjectLock { compliance: true, days: 30 }),
            ..BucketOptions::default()
        };
        let place = BucketPlace { region: "us-east-1".into(), bucket: "b".into(), options };
        let held = [
            "repository/config",
            "repository/data/aa/aabb",
            "repository/index/aa",
            "repository/keys/aa",
            "repository/snapshots/aa",
            "points/files-1.json",
            "ledger/00000001.json",
            "lifeboat.json",
        ];
        for key in held {
            assert_eq!(retention(&place, key).map(|(mode, _)| mode), Some(ObjectLockMode::Compliance), "{key}");
        }
        for key in ["repository/locks/aa", "policy-in-force.json", "runs/1.jsonl", "reports/000001/report.json"] {
            assert!(retention(&place, key).is_none(), "{key}");
        }
        assert_eq!(storage_class(&place, "repository/data/aa/aabb"), Some(StorageClass::StandardIa));
        assert_eq!(storage_class(&place, "repository/index/aa"), None);
    }

    #[test]
    fn names_that_are_hashes_are_known() {
        let hash = "0123456789abcdef".repeat(4);
        for key in [format!("repository/data/01/{hash}"), format!("policies/{hash}.toml"), format!("scripts/{hash}")] {
            assert_eq!(promised_hash(&key), Some(hash.as_str()));
        }
        assert_eq!(promised_hash("ledger/00000001.json"), None);
        assert_eq!(promised_hash("repository/config"), None);
    }
}
