//! Puts: conditional where asked, confirmed by the checksum that the server gives back.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::super::object_store::{PutMode, StoreError, StoreErrorKind};
use super::persist::{Before, Ended};
use super::trouble::{Trouble, What};
use super::{Shared, multipart, object, read};
use std::sync::Arc;

const PUT: &str = "s3:PutObject";
/// A key that is refused as taken and then not there: so often it is tried again before that is an error.
const ROUNDS: u32 = 5;

/// SHA-256 as S3 writes it.
pub(super) fn checksum(bytes: &[u8]) -> String {
    BASE64.encode(Sha256::digest(bytes))
}

/// The same of an object that is to be stored under a key. Where the key says it, it was computed already, and a server
/// that keeps checksums refuses bytes that do not have it.
pub(super) fn checksum_of(key: &str, body: &[u8]) -> String {
    let promised = object::promised_hash(key).and_then(|hash| hex::decode(hash).ok());
    promised.map_or_else(|| checksum(body), |hash| BASE64.encode(hash))
}

/// What one put came to.
enum Outcome {
    /// Stored, and the server gave the checksum back.
    Stored,
    /// The server says stored and gives nothing back that the bytes could be told by.
    Unconfirmed,
    /// Something is there already.
    Taken,
}

/// What lies under a key.
pub(super) enum Found {
    Same,
    Other,
    Absent,
    /// Reading is not permitted; the listing says whether the size is the same.
    Unreadable {
        same_size: bool,
    },
}

/// Stores an object.
pub(super) async fn put(shared: &Arc<Shared>, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
    if body.len() > shared.limits.parts_from {
        return multipart::put(shared, key, body, mode).await;
    }
    let doing = format!("write {}", shared.name(key));
    let sum = checksum_of(key, &body);
    let mut maybe_done = false;
    for _ in 0..ROUNDS {
        let longest = shared.limits.moving(body.len() as u64);
        let put = shared.persist(longest, |client, before: Before| {
            maybe_done |= before.maybe_done;
            put_once(shared, client, key, body.clone(), &sum, mode)
        });
        let taken = match put.await.map_err(|ended| ended.into_error(&doing))? {
            Outcome::Stored => return Ok(()),
            Outcome::Unconfirmed => false,
            Outcome::Taken => true,
        };
        let found = compare(shared, key, &body, &sum).await?;
        if let Some(answer) = shared.settle(key, &doing, &found, taken, maybe_done) {
            return answer;
        }
        maybe_done = true;
    }
    Err(Trouble::last(What::Other, "the server says that it is there already, and then that it is not")
        .into_error(&doing))
}

impl Shared {
    /// What a comparison makes of a put; `None` when it is to be tried again.
    pub(super) fn settle(
        &self,
        key: &str,
        doing: &str,
        found: &Found,
        taken: bool,
        maybe_done: bool,
    ) -> Option<Result<(), StoreError>> {
        let exists = |what: &str| StoreError {
            kind: StoreErrorKind::AlreadyExists,
            message: format!("cannot {doing}: {what} is there already"),
        };
        let failed = |why: &str| Some(Err(Trouble::last(What::Other, why).into_error(doing)));
        let by_content = object::promised_hash(key).is_some();
        match (found, taken) {
            (Found::Same, false) => Some(Ok(())),
            // Ours, from a try whose answer was lost.
            (Found::Same, true) if maybe_done => Some(Ok(())),
            (Found::Same, true) => Some(Err(exists("the same"))),
            (Found::Absent, _) => None,
            (Found::Other, true) if by_content => {
                failed("what lies there is not what its name says: it is damaged; remove it and run the command again")
            }
            (Found::Other, true) => Some(Err(exists("another object"))),
            (Found::Other, false) => None,
            (Found::Unreadable { same_size: true }, true) if by_content => Some(Err(exists("an object of this size"))),
            (Found::Unreadable { same_size: false }, true) if by_content => {
                failed("what lies there has another size than its name says: it is damaged")
            }
            (Found::Unreadable { .. }, true) => Some(Err(exists("an object that may not be read"))),
            (Found::Unreadable { .. }, false) => {
                failed("the server does not confirm checksums, and the credentials may not read the object back")
            }
        }
    }
}

async fn put_once(
    shared: &Shared,
    client: Client,
    key: &str,
    body: Bytes,
    sum: &str,
    mode: PutMode,
) -> Result<Outcome, Trouble> {
    let mut request = client
        .put_object()
        .bucket(&shared.place.bucket)
        .key(shared.full(key))
        .content_length(i64::try_from(body.len()).unwrap_or(i64::MAX))
        .checksum_sha256(sum)
        .set_storage_class(object::storage_class(&shared.place, key))
        .body(ByteStream::from(body.clone()));
    if mode == PutMode::CreateNew {
        request = request.if_none_match("*");
    }
    if let Some((mode, until)) = object::retention(&shared.place, key) {
        request = request.object_lock_mode(mode).object_lock_retain_until_date(until);
    }
    // The checksum is among the signed headers; signing the bytes besides would hash them once more.
    let answer = match request.customize().disable_payload_signing().send().await {
        Ok(answer) => answer,
        Err(error) => {
            let trouble = shared.judge(&error, PUT);
            return if trouble.what == What::Conflict && mode == PutMode::CreateNew {
                Ok(Outcome::Taken)
            } else {
                Err(again(trouble))
            };
        }
    };
    let Some(tag) = answer.e_tag() else {
        return Err(Trouble::unclear("the answer is none of an object store: it has no ETag"));
    };
    match answer.checksum_sha256() {
        Some(given) if given == sum => Ok(Outcome::Stored),
        Some(_) => Err(Trouble::unclear("the server has got other bytes than were sent")),
        None if is_md5_of(tag, &body) => Ok(Outcome::Stored),
        None => Ok(Outcome::Unconfirmed),
    }
}

/// Whether an ETag is the MD5 of these bytes, as servers that keep no other checksum make it of what they have got. It tells
/// bytes that were lost or altered on the way; nothing more is asked of it here.
fn is_md5_of(tag: &str, body: &[u8]) -> bool {
    let tag = tag.trim_matches('"');
    tag.len() == 32 && tag.eq_ignore_ascii_case(&hex::encode(md5::Md5::digest(body)))
}

/// A conflict that nothing was made conditional on passes by: it is tried again.
pub(super) fn again(trouble: Trouble) -> Trouble {
    if trouble.what == What::Conflict { Trouble::unclear(trouble.reason) } else { trouble }
}

/// Compares what lies under a key with what should: by the server's checksum, else byte by byte.
pub(super) async fn compare(shared: &Shared, key: &str, body: &Bytes, sum: &str) -> Result<Found, StoreError> {
    let head = match read::head(shared, key).await {
        Ok(head) => head,
        Err(error) if error.kind == StoreErrorKind::Denied => return compare_by_listing(shared, key, body).await,
        Err(error) => return Err(error),
    };
    let Some(head) = head else { return Ok(Found::Absent) };
    if head.size != body.len() as u64 {
        return Ok(Found::Other);
    }
    let same = match head.sha256 {
        Some(given) => given == sum,
        None => match read::fetch(shared, key, None).await {
            Ok(bytes) if bytes == body[..] => true,
            // Either the line or the object is at fault: a second look tells.
            Ok(_) => read::fetch(shared, key, None).await? == body[..],
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(Found::Absent),
            Err(error) => return Err(error),
        },
    };
    Ok(if same { Found::Same } else { Found::Other })
}

/// For credentials that may put and list, and not read.
async fn compare_by_listing(shared: &Shared, key: &str, body: &Bytes) -> Result<Found, StoreError> {
    let listed = read::list(shared, key).await?.into_iter().find(|object| object.key == key);
    Ok(listed.map_or(Found::Absent, |object| Found::Unreadable { same_size: object.size == body.len() as u64 }))
}

/// The trouble of a call that has ended, where it came as far as a call.
pub(super) fn trouble_of(ended: &Ended) -> Option<&Trouble> {
    match ended {
        Ended::Call(trouble) => Some(trouble),
        Ended::Store(_) => None,
    }
}
