//! Key objects: the master key, sealed with a key that scrypt derives from a password. A repository may have several.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use super::KeyStrength;
use super::crypto::{self, SealKey};
use super::error::RepositoryError;
use crate::ground::Secret;
use crate::ground::clock::{Clock, SystemClock};

/// Directory of the key objects.
pub(super) const KEYS: &str = "keys/";
/// Most memory that a stored key may ask scrypt for, in bytes.
const MEMORY_LIMIT: u64 = 1 << 30;
/// Most parallelism (which here is repetition) that it may ask for.
const REPEAT_LIMIT: u32 = 64;

/// Bytes as JSON has them: base64.
#[derive(Debug, Clone)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    /// `null` is what Go writes for an empty slice that was never made.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        STANDARD.decode(text).map(Self).map_err(de::Error::custom)
    }
}

/// A key object as stored, plain JSON.
#[derive(Debug, Serialize, Deserialize)]
struct KeyFile {
    #[serde(default)]
    created: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: Base64,
    data: Base64,
}

/// The master key inside it.
#[derive(Serialize, Deserialize)]
struct MasterKeyJson {
    mac: MacJson,
    encrypt: Base64,
}

#[derive(Serialize, Deserialize)]
struct MacJson {
    k: Base64,
    r: Base64,
}

/// What trying a password on a key object gave.
pub(super) enum Opened {
    /// The master key.
    Fits(SealKey),
    /// A sound key object for another password, as far as can be told.
    OtherPassword,
}

/// scrypt's N and r; p is 1. The memory is `128 * N * r` bytes.
///
/// A password of 256 random bits cannot be guessed at any speed, so 2^10, 8, 1 (1 MiB, about 2 ms) is there only
/// because the format has no key without scrypt and restic refuses nothing from N = 2 up.
fn cost(strength: KeyStrength) -> (u64, u32) {
    match strength {
        KeyStrength::Random => (1 << 10, 8),
        KeyStrength::Chosen => (1 << 17, 8),
    }
}

/// Seals a master key for a password; returns the bytes of a key object.
pub(super) fn seal(master: &SealKey, password: &Secret, strength: KeyStrength) -> Result<Vec<u8>, RepositoryError> {
    let (n, r) = cost(strength);
    let salt = crypto::random::<64>()?;
    let json = MasterKeyJson {
        mac: MacJson { k: Base64(master.mac_k.to_vec()), r: Base64(master.mac_r.to_vec()) },
        encrypt: Base64(master.encrypt.to_vec()),
    };
    let plain = Zeroizing::new(serde_json::to_vec(&json).map_err(|error| cannot_encode(&error))?);
    let data = derive(password, n, r, 1, &salt)?.seal(&plain)?;
    let (hostname, username) = super::lock::who();
    let created = SystemClock.now().to_string();
    let (salt, data) = (Base64(salt.to_vec()), Base64(data));
    let file = KeyFile { created, username, hostname, kdf: "scrypt".to_owned(), n, r, p: 1, salt, data };
    serde_json::to_vec(&file).map_err(|error| cannot_encode(&error))
}

fn cannot_encode(error: &serde_json::Error) -> RepositoryError {
    RepositoryError::machine(format!("cannot encode the key: {error}"))
}

/// Tries a password on the bytes of a key object. What is wrong with it is said without its name.
pub(super) fn open(stored: &[u8], password: &Secret) -> Result<Opened, RepositoryError> {
    let mut file = parse(stored)?;
    let key = derive(password, file.n, file.r, file.p, &file.salt.0)?;
    match key.open(&mut file.data.0) {
        Some(plain) => parse_master(plain).map(Opened::Fits),
        None => Ok(Opened::OtherPassword),
    }
}

/// Checks the form of a key object and bounds what it asks for.
fn parse(stored: &[u8]) -> Result<KeyFile, RepositoryError> {
    let file: KeyFile = serde_json::from_slice(stored).map_err(|error| damaged(&error.to_string()))?;
    if file.kdf != "scrypt" {
        return Err(RepositoryError::Unsupported(format!(
            "it is derived by {:?}; only scrypt is understood",
            file.kdf
        )));
    }
    if !file.n.is_power_of_two() || file.n < 2 || file.r == 0 || file.p == 0 {
        return Err(damaged("its scrypt parameters make no sense"));
    }
    let memory = file.n.checked_mul(128).and_then(|bytes| bytes.checked_mul(u64::from(file.r)));
    if memory.is_none_or(|bytes| bytes > MEMORY_LIMIT) || file.p > REPEAT_LIMIT {
        return Err(RepositoryError::Unsupported(format!(
            "it asks for scrypt with N={} r={} p={}, more than the limit of 1 GiB",
            file.n, file.r, file.p
        )));
    }
    Ok(file)
}

/// Says whether the bytes have the form of a key object, without a password. The error does not name it.
pub(super) fn check_form(stored: &[u8]) -> Result<(), RepositoryError> {
    parse(stored).map(drop)
}

/// Says whether the bytes have the form of a master key.
pub(super) fn check_master(plain: &[u8]) -> Result<(), RepositoryError> {
    parse_master(plain).map(drop)
}

/// What is wrong with the key; [`RepositoryError::of`] says which key it is.
fn damaged(why: &str) -> RepositoryError {
    RepositoryError::Damaged(why.to_owned())
}

fn parse_master(plain: &[u8]) -> Result<SealKey, RepositoryError> {
    let json: MasterKeyJson = serde_json::from_slice(plain).map_err(|error| damaged(&error.to_string()))?;
    let wrong_length = |_| damaged("its parts have a wrong length");
    Ok(SealKey {
        encrypt: Zeroizing::new(json.encrypt.0.try_into().map_err(wrong_length)?),
        mac_k: Zeroizing::new(json.mac.k.0.try_into().map_err(wrong_length)?),
        mac_r: Zeroizing::new(json.mac.r.0.try_into().map_err(wrong_length)?),
    })
}

fn derive(password: &Secret, n: u64, r: u32, p: u32, salt: &[u8]) -> Result<SealKey, RepositoryError> {
    let mut derived = Zeroizing::new([0; 64]);
    let log_n = n.trailing_zeros() as u8;
    let params = scrypt::Params::new(log_n, r, p).map_err(|error| damaged(&error.to_string()))?;
    scrypt::scrypt(password.expose(), salt, &params, &mut *derived).map_err(|error| damaged(&error.to_string()))?;
    Ok(SealKey::from_derived(&derived))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_password_opens_and_another_does_not() {
        let master = SealKey::generate().unwrap();
        let stored = seal(&master, &Secret::new("right"), KeyStrength::Random).unwrap();
        let Opened::Fits(opened) = open(&stored, &Secret::new("right")).unwrap() else { panic!("must fit") };
        assert_eq!(opened.encrypt, master.encrypt);
        assert_eq!((opened.mac_k, opened.mac_r), (master.mac_k, master.mac_r));
        assert!(matches!(open(&stored, &Secret::new("wrong")).unwrap(), Opened::OtherPassword));
    }

    #[test]
    fn a_key_that_asks_for_too_much_is_refused_before_it_is_tried() {
        let text = r#"{"kdf":"scrypt","N":1073741824,"r":8,"p":1,"salt":"","data":""}"#;
        assert!(matches!(open(text.as_bytes(), &Secret::new("x")), Err(RepositoryError::Unsupported(_))));
        let text = r#"{"kdf":"scrypt","N":3,"r":8,"p":1,"salt":"","data":""}"#;
        assert!(matches!(open(text.as_bytes(), &Secret::new("x")), Err(RepositoryError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            prop_assert!(parse(&bytes).is_err());
            prop_assert!(parse_master(&bytes).is_err());
        }
    }
}
