//! The `config` object: version, id and chunker polynomial, sealed.

use serde::{Deserialize, Serialize};

use super::crypto::{self, SealKey};
use super::error::RepositoryError;
use super::polynomial;

/// Name of the object.
pub(super) const CONFIG: &str = "config";

/// What it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Config {
    /// 1 (nothing compressed) or 2.
    pub(super) version: u32,
    /// 64 hexadecimal digits.
    pub(super) id: String,
    /// Hexadecimal; used by restic's chunker only.
    pub(super) chunker_polynomial: String,
}

impl Config {
    /// A new one: version 2, random id and polynomial.
    pub(super) fn generate() -> Result<Self, RepositoryError> {
        Ok(Self {
            version: 2,
            id: hex::encode(crypto::random::<32>()?),
            chunker_polynomial: format!("{:x}", polynomial::random_irreducible()?),
        })
    }

    /// The stored form.
    pub(super) fn seal(&self, key: &SealKey) -> Result<Vec<u8>, RepositoryError> {
        let json = serde_json::to_vec(self)
            .map_err(|error| RepositoryError::machine(format!("cannot encode the configuration: {error}")))?;
        key.seal(&json)
    }

    /// Opens the stored form. `None` when the key does not fit or the bytes were altered.
    pub(super) fn open(key: &SealKey, stored: &[u8]) -> Option<Result<Self, RepositoryError>> {
        let mut bytes = stored.to_vec();
        let plain = key.open(&mut bytes)?;
        Some(Self::parse(plain))
    }

    pub(super) fn parse(plain: &[u8]) -> Result<Self, RepositoryError> {
        let config: Self = serde_json::from_slice(plain)
            .map_err(|error| RepositoryError::Damaged(format!("the object config is damaged: {error}")))?;
        if !(1..=2).contains(&config.version) {
            return Err(RepositoryError::Unsupported(format!(
                "the repository has format version {}; versions 1 and 2 are understood",
                config.version
            )));
        }
        let sound = hex::decode(&config.id).is_ok_and(|id| id.len() == 32)
            && u64::from_str_radix(&config.chunker_polynomial, 16).is_ok_and(polynomial::is_irreducible);
        if sound {
            Ok(config)
        } else {
            Err(RepositoryError::Damaged("the object config is damaged: its values make no sense".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn round_trip_and_foreign_key() {
        let (key, other) = (SealKey::generate().unwrap(), SealKey::generate().unwrap());
        let config = Config::generate().unwrap();
        let stored = config.seal(&key).unwrap();
        assert_eq!(Config::open(&key, &stored).unwrap().unwrap(), config);
        assert!(Config::open(&other, &stored).is_none());
    }

    #[test]
    fn a_newer_version_is_refused_with_its_number() {
        let text = Config { version: 3, ..Config::generate().unwrap() };
        let error = Config::parse(&serde_json::to_vec(&text).unwrap()).unwrap_err();
        assert!(matches!(error, RepositoryError::Unsupported(ref message) if message.contains("version 3")), "{error}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            prop_assert!(Config::parse(&bytes).is_err());
        }
    }
}
