//! Sealing: AES-256 in counter mode, then Poly1305-AES over the cipher text; laid out as nonce, cipher text, tag
//! (restic `doc/design.rst`, "Keys, Encryption and MAC").

use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::RepositoryError;

/// Bytes of the nonce before the cipher text.
const NONCE: usize = 16;
/// Bytes of the tag after it.
const TAG: usize = 16;
/// What sealing adds to a plain text.
pub(super) const OVERHEAD: usize = NONCE + TAG;

/// Fills an array with random bytes of the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], RepositoryError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| RepositoryError::machine(format!("cannot get random bytes from the system: {error}")))?;
    Ok(bytes)
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A key that seals and opens; the master key, or the one derived from a password.
#[cfg_attr(test, derive(Clone))]
pub(super) struct SealKey {
    /// AES-256.
    pub(super) encrypt: Zeroizing<[u8; 32]>,
    /// AES-128 key of the MAC.
    pub(super) mac_k: Zeroizing<[u8; 16]>,
    /// Poly1305 key of the MAC, not clamped.
    pub(super) mac_r: Zeroizing<[u8; 16]>,
}

impl SealKey {
    /// A new random key.
    pub(super) fn generate() -> Result<Self, RepositoryError> {
        Ok(Self {
            encrypt: Zeroizing::new(random()?),
            mac_k: Zeroizing::new(random()?),
            mac_r: Zeroizing::new(random()?),
        })
    }

    /// From 64 derived bytes: encryption key, then `k`, then `r`.
    pub(super) fn from_derived(bytes: &[u8; 64]) -> Self {
        let mut key =
            Self { encrypt: Zeroizing::new([0; 32]), mac_k: Zeroizing::new([0; 16]), mac_r: Zeroizing::new([0; 16]) };
        key.encrypt.copy_from_slice(&bytes[..32]);
        key.mac_k.copy_from_slice(&bytes[32..48]);
        key.mac_r.copy_from_slice(&bytes[48..]);
        key
    }

    /// Seals a plain text under a fresh random nonce.
    pub(super) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, RepositoryError> {
        let mut sealed = Vec::new();
        self.seal_into(plain, &mut sealed)?;
        Ok(sealed)
    }

    /// As [`SealKey::seal`], in place of what the buffer held.
    pub(super) fn seal_into(&self, plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), RepositoryError> {
        let nonce: [u8; NONCE] = random()?;
        sealed.clear();
        sealed.reserve_exact(plain.len() + OVERHEAD);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        self.apply_keystream(&nonce, &mut sealed[NONCE..]);
        let tag = self.tag(&nonce, &sealed[NONCE..]);
        sealed.extend_from_slice(&tag);
        Ok(())
    }

    /// Checks the tag and decrypts in place; `None` when it is not what this key sealed.
    pub(super) fn open<'a>(&self, sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        if sealed.len() < OVERHEAD {
            return None;
        }
        let (nonce, rest) = sealed.split_at_mut(NONCE);
        let (text, tag) = rest.split_at_mut(rest.len() - TAG);
        let nonce: [u8; NONCE] = (&*nonce).try_into().ok()?;
        if !equal_in_constant_time(&self.tag(&nonce, text), tag) {
            return None;
        }
        self.apply_keystream(&nonce, text);
        Some(text)
    }

    fn apply_keystream(&self, nonce: &[u8; NONCE], text: &mut [u8]) {
        let mut cipher = ctr::Ctr128BE::<aes::Aes256>::new((&*self.encrypt).into(), nonce.into());
        cipher.apply_keystream(text);
    }

    /// Poly1305-AES: the one-time key is `r` and the nonce encrypted under `k`; Poly1305 clamps `r` itself.
    fn tag(&self, nonce: &[u8; NONCE], text: &[u8]) -> [u8; TAG] {
        let mut masked = (*nonce).into();
        aes::Aes128::new((&*self.mac_k).into()).encrypt_block(&mut masked);
        let mut one_time = Zeroizing::new([0; 32]);
        one_time[..16].copy_from_slice(&*self.mac_r);
        one_time[16..].copy_from_slice(&masked);
        Poly1305::new((&*one_time).into()).compute_unpadded(text).into()
    }
}

fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn poly1305_aes_gives_the_published_vector() {
        // D. J. Bernstein, "The Poly1305-AES message-authentication code", appendix B, second example.
        let key = SealKey {
            encrypt: Zeroizing::new([0; 32]),
            mac_k: Zeroizing::new(hex::decode("75deaa25c09f208e1dc4ce6b5cad3fbf").unwrap().try_into().unwrap()),
            mac_r: Zeroizing::new(hex::decode("a0f3080000f46400d0c7e9076c834403").unwrap().try_into().unwrap()),
        };
        let nonce = hex::decode("61ee09218d29b0aaed7e154a2c5509cc").unwrap().try_into().unwrap();
        assert_eq!(hex::encode(key.tag(&nonce, b"")), "dd3fab2251f11ac759f0887129cc2ee7");
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_and_any_flip_is_seen(plain: Vec<u8>, at: proptest::sample::Index, bit in 0..8u8) {
            let key = SealKey::generate().unwrap();
            let mut sealed = key.seal(&plain).unwrap();
            let mut flipped = sealed.clone();
            flipped[at.index(sealed.len())] ^= 1 << bit;
            prop_assert!(key.open(&mut flipped).is_none());
            prop_assert_eq!(key.open(&mut sealed), Some(&mut plain.clone()[..]));
        }

        #[test]
        fn arbitrary_bytes_never_open(mut bytes: Vec<u8>) {
            prop_assert!(SealKey::generate().unwrap().open(&mut bytes).is_none());
        }
    }
}
