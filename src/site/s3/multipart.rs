//! Large objects, put in parts: each part confirmed by its checksum, the upload given up whole when one fails.

use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::super::object_store::{PutMode, StoreError};
use super::trouble::{Trouble, What};
use super::write::{Found, checksum, checksum_of, compare, trouble_of};
use super::{Shared, object, remove};

const PUT: &str = "s3:PutObject";

/// Stores an object in parts.
pub(super) async fn put(shared: &Arc<Shared>, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
    let doing = format!("write {}", shared.name(key));
    let sum = checksum_of(key, &body);
    if mode == PutMode::CreateNew {
        // Before megabytes are sent for nothing; the condition of the last call decides.
        let found = compare(shared, key, &body, &sum).await?;
        if !matches!(found, Found::Absent)
            && let Some(answer) = shared.settle(key, &doing, &found, true, false)
        {
            return answer;
        }
    }
    let upload = begin(shared, key, &doing).await?;
    let sent = send_parts(shared, key, &upload, &body, &doing).await;
    let outcome = match sent {
        Ok(parts) => complete(shared, key, &upload, parts, mode, &doing).await,
        Err(error) => Err(error),
    };
    let taken = match outcome {
        Ok(taken) => taken,
        Err(error) => {
            // What cannot be given up now is swept away later.
            let _ = remove::abort(shared, key, &upload).await;
            return Err(error);
        }
    };
    // The server joined the parts: whether rightly is seen before it counts.
    let found = confirm(shared, key, &body, &sum).await?;
    if taken {
        let _ = remove::abort(shared, key, &upload).await;
    }
    let lost = || {
        Err(Trouble::last(What::Other, "what the server joined of the parts is not what was sent").into_error(&doing))
    };
    shared.settle(key, &doing, &found, taken, !taken).unwrap_or_else(lost)
}

async fn begin(shared: &Shared, key: &str, doing: &str) -> Result<String, StoreError> {
    let begun = shared.persist(shared.limits.silence, |client, _| async move {
        let mut request = client
            .create_multipart_upload()
            .bucket(&shared.place.bucket)
            .key(shared.full(key))
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .set_storage_class(object::storage_class(&shared.place, key));
        if let Some((mode, until)) = object::retention(&shared.place, key) {
            request = request.object_lock_mode(mode).object_lock_retain_until_date(until);
        }
        let answer = request.send().await.map_err(|error| shared.judge(&error, PUT))?;
        answer.upload_id().map(str::to_owned).ok_or_else(|| Trouble::unclear("the server gives the upload no id"))
    });
    begun.await.map_err(|ended| ended.into_error(doing))
}

/// Sends all parts, several at a time.
async fn send_parts(
    shared: &Arc<Shared>,
    key: &str,
    upload: &str,
    body: &Bytes,
    doing: &str,
) -> Result<Vec<CompletedPart>, StoreError> {
    let size = shared.limits.part.max(1);
    let ranges = (0..body.len()).step_by(size).map(|start| start..body.len().min(start + size));
    let mut waiting: Vec<(usize, Range<usize>)> = ranges.enumerate().collect();
    waiting.reverse();
    let mut parts: Vec<Option<CompletedPart>> = vec![None; waiting.len()];
    let mut under_way = JoinSet::new();
    let lost = || Trouble::last(What::Other, "a part was lost on the way").into_error(doing);
    loop {
        while under_way.len() < shared.limits.parallel_puts.max(1)
            && let Some((index, range)) = waiting.pop()
        {
            let (shared, key, upload) = (Arc::clone(shared), key.to_owned(), upload.to_owned());
            let (bytes, doing) = (body.slice(range), doing.to_owned());
            under_way.spawn(async move { (index, send_part(&shared, &key, &upload, index, bytes, &doing).await) });
        }
        let Some(done) = under_way.join_next().await else { break };
        let (index, part) = done.map_err(|_| lost())?;
        parts[index] = Some(part?);
    }
    parts.into_iter().collect::<Option<Vec<_>>>().ok_or_else(lost)
}

async fn send_part(
    shared: &Shared,
    key: &str,
    upload: &str,
    index: usize,
    bytes: Bytes,
    doing: &str,
) -> Result<CompletedPart, StoreError> {
    let number = i32::try_from(index + 1).unwrap_or(i32::MAX);
    let sum = checksum(&bytes);
    let longest = shared.limits.moving(bytes.len() as u64);
    let sent = shared.persist(longest, |client: Client, _| {
        let (bytes, sum) = (bytes.clone(), sum.clone());
        async move {
            let request = client
                .upload_part()
                .bucket(&shared.place.bucket)
                .key(shared.full(key))
                .upload_id(upload)
                .part_number(number)
                .content_length(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
                .checksum_sha256(&sum)
                .body(ByteStream::from(bytes));
            let answer = request.customize().disable_payload_signing().send().await;
            let answer = answer.map_err(|error| shared.judge(&error, PUT))?;
            if answer.checksum_sha256().is_some_and(|given| given != sum) {
                return Err(Trouble::unclear("the server has got other bytes than were sent"));
            }
            let tag = answer.e_tag().ok_or_else(|| Trouble::unclear("the answer has no ETag"))?;
            Ok(CompletedPart::builder().part_number(number).e_tag(tag).checksum_sha256(sum).build())
        }
    });
    sent.await.map_err(|ended| ended.into_error(doing))
}

/// Joins the parts; true when something else is there already.
async fn complete(
    shared: &Shared,
    key: &str,
    upload: &str,
    parts: Vec<CompletedPart>,
    mode: PutMode,
    doing: &str,
) -> Result<bool, StoreError> {
    let all = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let mut maybe_done = false;
    let joined = shared.persist(shared.limits.silence * 4, |client: Client, before| {
        maybe_done |= before.maybe_done;
        let all = all.clone();
        async move {
            let request = client
                .complete_multipart_upload()
                .bucket(&shared.place.bucket)
                .key(shared.full(key))
                .upload_id(upload)
                .multipart_upload(all)
                .set_if_none_match((mode == PutMode::CreateNew).then(|| "*".to_owned()));
            let answer = request.send().await.map_err(|error| shared.judge(&error, PUT))?;
            answer.e_tag().map(drop).ok_or_else(|| Trouble::unclear("the answer has no ETag"))
        }
    });
    match joined.await {
        Ok(()) => Ok(false),
        Err(ended) => match trouble_of(&ended).map(|trouble| trouble.what) {
            Some(What::Conflict) => Ok(!maybe_done),
            // An earlier try joined them, and its answer was lost.
            Some(What::Missing) if maybe_done => Ok(false),
            _ => Err(ended.into_error(doing)),
        },
    }
}

/// Looks at what was joined. A server keeps a checksum of checksums for it, so that its bytes are read back where that
/// is permitted; where it is not, the parts' checksums and the size must do.
async fn confirm(shared: &Shared, key: &str, body: &Bytes, sum: &str) -> Result<Found, StoreError> {
    match compare(shared, key, body, sum).await? {
        Found::Unreadable { same_size: true } => Ok(Found::Same),
        found => Ok(found),
    }
}
