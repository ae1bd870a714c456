//! Reading: objects whole and in part, their size and checksum, and listings that are complete or an error.

use std::ops::Range;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::ChecksumMode;
use jiff::Timestamp;
use tokio::time::timeout;

use super::super::object_store::{ObjectInfo, StoreError, StoreErrorKind};
use super::persist::Ended;
use super::trouble::{Trouble, What};
use super::{Shared, object};
use crate::ground::sha256_hex;

const GET: &str = "s3:GetObject";
const LIST: &str = "s3:ListBucket";
/// An object that says it is larger is not read into memory: nothing of ours is.
const LARGEST: u64 = 1 << 32;

/// What is told of an object without its bytes.
pub(super) struct Head {
    pub(super) size: u64,
    /// When it was stored, by the server's clock; in whole seconds.
    pub(super) modified: Option<Timestamp>,
    /// Base64 of the SHA-256 over the whole object, when the server keeps one.
    pub(super) sha256: Option<String>,
}

/// Reads an object, or the bytes of `range` exactly.
pub(super) async fn get(shared: &Shared, key: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, StoreError> {
    let bytes = fetch(shared, key, range.clone()).await?;
    let as_named = |bytes: &[u8]| object::promised_hash(key).is_none_or(|hash| hash == sha256_hex(bytes));
    if range.is_some() || as_named(&bytes) {
        return Ok(bytes);
    }
    // Either the line or the object is at fault. A second look tells; what is wrong with the object is for the caller,
    // who knows names too, to say.
    fetch(shared, key, None).await
}

/// As [`get`], without the look at the name.
pub(super) async fn fetch(shared: &Shared, key: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, StoreError> {
    let wanted = range.as_ref().map_or(LARGEST, |range| range.end - range.start);
    let got = shared.persist(shared.limits.moving(wanted), |client, _| get_once(shared, client, key, range.clone()));
    let ended = match got.await {
        Ok(bytes) => return Ok(bytes),
        Err(ended) => ended,
    };
    let error = ended.into_error(&format!("read {}", shared.name(key)));
    if error.kind == StoreErrorKind::Denied && is_absent(shared, key).await {
        return Err(StoreError { kind: StoreErrorKind::NotFound, ..error });
    }
    Err(error)
}

/// Whether an object that may not be read is one that is not there: where the permission to list is bound to a prefix,
/// S3 refuses to say so.
async fn is_absent(shared: &Shared, key: &str) -> bool {
    list(shared, key).await.is_ok_and(|objects| objects.iter().all(|object| object.key != key))
}

async fn get_once(shared: &Shared, client: Client, key: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, Trouble> {
    let mut request =
        client.get_object().bucket(&shared.place.bucket).key(shared.full(key)).checksum_mode(ChecksumMode::Enabled);
    if let Some(range) = &range {
        request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
    }
    let silence = shared.limits.silence;
    let late = |_| Trouble::unclear("the server did not answer in time");
    let answer = timeout(silence, request.send()).await.map_err(late)?;
    let answer = answer.map_err(|error| shared.judge(&error, GET))?;
    let length = check_frame(&answer, range.as_ref())?;
    let sum = answer.checksum_sha256().filter(|sum| range.is_none() && !sum.contains('-')).map(str::to_owned);
    let bytes = timeout(shared.limits.moving(length), collect(answer, length, silence)).await.map_err(late)??;
    if sum.is_some_and(|sum| sum != super::write::checksum(&bytes)) {
        return Err(Trouble::unclear("its bytes do not have the SHA-256 that the server keeps of it"));
    }
    Ok(bytes)
}

/// Whether the answer's head is one that an object store gives; how many bytes follow.
fn check_frame(answer: &GetObjectOutput, range: Option<&Range<u64>>) -> Result<u64, Trouble> {
    if answer.e_tag().is_none() {
        return Err(Trouble::unclear("the answer is none of an object store: it has no ETag"));
    }
    let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
    let length = length.ok_or_else(|| Trouble::unclear("the answer does not say how long it is"))?;
    let Some(range) = range else {
        if length > LARGEST {
            return Err(Trouble::last(What::Other, "it is too large to be read whole"));
        }
        return Ok(length);
    };
    let wanted = range.end - range.start;
    let begins = format!("bytes {}-{}/", range.start, range.end - 1);
    if length != wanted || !answer.content_range().is_some_and(|given| given.starts_with(&begins)) {
        let total = answer.content_range().and_then(|given| given.rsplit('/').next()?.parse::<u64>().ok());
        return Err(match total {
            Some(total) if total < range.end => Trouble::last(What::Other, "it is shorter than expected"),
            _ => Trouble::unclear("the server gave other bytes than it was asked for"),
        });
    }
    Ok(length)
}

async fn collect(answer: GetObjectOutput, length: u64, silence: std::time::Duration) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::with_capacity(usize::try_from(length.min(64 << 20)).unwrap_or_default());
    let mut body = answer.body;
    loop {
        let next = timeout(silence, body.next()).await;
        match next.map_err(|_| Trouble::unclear("the server fell silent in the middle of the answer"))? {
            None => break,
            Some(Ok(part)) => bytes.extend_from_slice(&part),
            Some(Err(error)) => return Err(Trouble::unclear(format!("the answer broke off: {error}"))),
        }
        if bytes.len() as u64 > length {
            break;
        }
    }
    if bytes.len() as u64 != length {
        return Err(Trouble::unclear(format!("{} bytes came instead of {length}", bytes.len())));
    }
    Ok(bytes)
}

/// Size and checksum; `None` when there is no such object.
pub(super) async fn head(shared: &Shared, key: &str) -> Result<Option<Head>, StoreError> {
    let asked = shared.persist(shared.limits.silence, |client, _| head_once(shared, client, key));
    match asked.await {
        Ok(head) => Ok(Some(head)),
        Err(Ended::Call(trouble)) if trouble.what == What::Missing => Ok(None),
        Err(Ended::Call(trouble)) if trouble.what == What::Denied && is_absent(shared, key).await => Ok(None),
        Err(ended) => Err(ended.into_error(&format!("look at {}", shared.name(key)))),
    }
}

async fn head_once(shared: &Shared, client: Client, key: &str) -> Result<Head, Trouble> {
    let request =
        client.head_object().bucket(&shared.place.bucket).key(shared.full(key)).checksum_mode(ChecksumMode::Enabled);
    let answer = request.send().await.map_err(|error| shared.judge(&error, GET))?;
    let size = answer.content_length().and_then(|size| u64::try_from(size).ok());
    match (answer.e_tag(), size) {
        (Some(_), Some(size)) => {
            let sha256 = answer.checksum_sha256().filter(|sum| !sum.contains('-')).map(str::to_owned);
            let modified = answer.last_modified().and_then(|time| Timestamp::from_second(time.secs()).ok());
            Ok(Head { size, modified, sha256 })
        }
        _ => Err(Trouble::unclear("the answer is none of an object store: it has no ETag or no length")),
    }
}

/// One page of a listing.
struct Page {
    objects: Vec<ObjectInfo>,
    next: Option<String>,
}

/// All objects below a prefix, sorted by key, each once; complete, or an error.
pub(super) async fn list(shared: &Shared, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
    let doing = || format!("list {}", shared.name(prefix));
    let mut objects: Vec<ObjectInfo> = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let page =
            shared.persist(shared.limits.silence * 2, |client, _| page_once(shared, client, prefix, token.clone()));
        // "Not found" would be taken for "nothing there".
        let page = page.await.map_err(|ended| match ended.into_error(&doing()) {
            error if error.kind == StoreErrorKind::NotFound => StoreError { kind: StoreErrorKind::Other, ..error },
            error => error,
        })?;
        objects.extend(page.objects);
        match page.next {
            None => break,
            Some(next) if token.as_ref() == Some(&next) => {
                return Err(
                    Trouble::last(What::Other, "the server gives the same page again and again").into_error(&doing())
                );
            }
            Some(next) => token = Some(next),
        }
    }
    // The order is the server's affair on some servers, and a page may come twice.
    objects.sort_by(|left, right| left.key.cmp(&right.key));
    objects.dedup();
    if let Some(pair) = objects.windows(2).find(|pair| pair[0].key == pair[1].key) {
        let reason = format!("the server gives two sizes of {}", pair[0].key);
        return Err(Trouble::last(What::Other, reason).into_error(&doing()));
    }
    Ok(objects)
}

async fn page_once(shared: &Shared, client: Client, prefix: &str, token: Option<String>) -> Result<Page, Trouble> {
    let full = shared.full(prefix);
    let request = client.list_objects_v2().bucket(&shared.place.bucket).prefix(&full).set_continuation_token(token);
    let answer = request.send().await.map_err(|error| shared.judge(&error, LIST))?;
    let next = match (answer.is_truncated(), answer.next_continuation_token()) {
        (Some(false), _) => None,
        (Some(true), Some(next)) => Some(next.to_owned()),
        _ => return Err(Trouble::unclear("the listing does not say whether it is complete")),
    };
    let below = shared.full("");
    let mut objects = Vec::with_capacity(answer.contents().len());
    for object in answer.contents() {
        let (Some(key), Some(size)) = (object.key(), object.size()) else {
            return Err(Trouble::unclear("the listing has an entry without name or size"));
        };
        let (Some(relative), true) = (key.strip_prefix(&below), key.starts_with(&full)) else {
            return Err(Trouble::unclear(format!("the listing has {key}, which was not asked for")));
        };
        // Some consoles and servers make empty objects that stand for directories.
        if !relative.ends_with('/') && !relative.is_empty() {
            objects.push(ObjectInfo { key: relative.to_owned(), size: u64::try_from(size).unwrap_or_default() });
        }
    }
    Ok(Page { objects, next })
}
