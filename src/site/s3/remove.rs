//! Deletes, and the clearing away of uploads in parts that were broken off.

use std::time::Duration;

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use jiff::Timestamp;

use super::super::object_store::{StoreError, StoreErrorKind};
use super::Shared;
use super::persist::Ended;
use super::trouble::{Trouble, What};
use super::write::again;
use crate::ground::clock::{Clock, SystemClock};

const DELETE: &str = "s3:DeleteObject";
const LIST_UPLOADS: &str = "s3:ListBucketMultipartUploads";
const ABORT: &str = "s3:AbortMultipartUpload";

/// An upload in parts that was begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abandoned {
    pub key: String,
    pub upload: String,
    pub begun: Timestamp,
}

/// Removes an object; a missing one is success.
pub(super) async fn delete(shared: &Shared, key: &str) -> Result<(), StoreError> {
    let deleted = shared.persist(shared.limits.silence, |client, _| async move {
        let request = client.delete_object().bucket(&shared.place.bucket).key(shared.full(key));
        let answer = request.customize().interceptor(NoHiddenError).send().await;
        answer.map(drop).map_err(|error| again(shared.judge(&error, DELETE)))
    });
    done_or_missing(deleted.await, &format!("delete {}", shared.name(key)))
}

/// Gives up an upload in parts; one that is gone is success.
pub(super) async fn abort(shared: &Shared, key: &str, upload: &str) -> Result<(), StoreError> {
    let aborted = shared.persist(shared.limits.silence, |client, _| async move {
        let request =
            client.abort_multipart_upload().bucket(&shared.place.bucket).key(shared.full(key)).upload_id(upload);
        let answer = request.customize().interceptor(NoHiddenError).send().await;
        answer.map(drop).map_err(|error| again(shared.judge(&error, ABORT)))
    });
    done_or_missing(aborted.await, &format!("give up the upload of {}", shared.name(key)))
}

fn done_or_missing(outcome: Result<(), Ended>, doing: &str) -> Result<(), StoreError> {
    match outcome {
        Err(Ended::Call(trouble)) if trouble.what == What::Missing => Ok(()),
        other => other.map_err(|ended| ended.into_error(doing)),
    }
}

/// Uploads in parts below the prefix that were begun before `age` ago. A server refuses requests from a clock that
/// differs from its own by more than minutes, so that ours may judge days.
pub(super) async fn abandoned(shared: &Shared, age: Duration) -> Result<Vec<Abandoned>, StoreError> {
    let doing = format!("list the uploads under way in {}", shared.place.address());
    let limit = SystemClock.now().as_second() - i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    let mut marker: (Option<String>, Option<String>) = (None, None);
    loop {
        let page = shared.persist(shared.limits.silence, |client, _| {
            let (key, upload) = marker.clone();
            async move {
                let request = client.list_multipart_uploads().bucket(&shared.place.bucket).prefix(shared.full(""));
                let request = request.set_key_marker(key).set_upload_id_marker(upload);
                request.send().await.map_err(|error| shared.judge(&error, LIST_UPLOADS))
            }
        });
        let page = page.await.map_err(|ended| ended.into_error(&doing))?;
        let below = shared.full("");
        for upload in page.uploads() {
            let (Some(key), Some(id), Some(begun)) = (upload.key(), upload.upload_id(), upload.initiated()) else {
                continue;
            };
            let Some(key) = key.strip_prefix(&below) else { continue };
            if begun.secs() <= limit {
                let begun = Timestamp::from_second(begun.secs()).unwrap_or_default();
                found.push(Abandoned { key: key.to_owned(), upload: id.to_owned(), begun });
            }
        }
        let next = (page.next_key_marker().map(str::to_owned), page.next_upload_id_marker().map(str::to_owned));
        if page.is_truncated() != Some(true) || next.0.is_none() {
            found.sort_by(|left, right| (&left.key, left.begun).cmp(&(&right.key, right.begun)));
            return Ok(found);
        }
        if next == marker {
            return Err(Trouble::last(What::Other, "the server gives the same page again and again").into_error(&doing));
        }
        marker = next;
    }
}

/// Gives up uploads that were broken off; one sentence each. Credentials that may not look, and servers that cannot, are
/// no fault of the backup.
pub(super) async fn sweep(shared: &Shared) -> Result<Vec<String>, StoreError> {
    let found = match abandoned(shared, shared.limits.abandoned_after).await {
        Ok(found) => found,
        Err(error) if error.kind == StoreErrorKind::Denied => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut removed = Vec::new();
    for upload in found {
        match abort(shared, &upload.key, &upload.upload).await {
            Ok(()) => {
                removed.push(format!("gave up the upload of {} that was broken off at {}", upload.key, upload.begun))
            }
            Err(error) if error.kind == StoreErrorKind::Denied => return Ok(removed),
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// Refuses an answer that says 200 and holds an error.
#[derive(Debug)]
struct NoHiddenError;

impl Intercept for NoHiddenError {
    fn name(&self) -> &'static str {
        "NoHiddenError"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let body = response.body().bytes().unwrap_or_default();
        let hidden = response.status().is_success() && body.windows(6).any(|part| part == b"<Error");
        if hidden { Err("the answer says that it is one of success and holds an error".into()) } else { Ok(()) }
    }
}
