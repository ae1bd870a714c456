//! An answer that is no success: what it means, whether to try again, and in which words a person hears of it.

use std::error::Error;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::{RequestId, RequestIdExt};

use super::super::object_store::{StoreError, StoreErrorKind};
use super::Shared;

/// `SdkError` as every call gives it.
pub(super) type CallError<E> = SdkError<E, aws_sdk_s3::config::http::HttpResponse>;

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing: another try would meet the same.
    None,
    /// Try again.
    Again,
    /// Try again, and ask less often, all calls of this store.
    Slower,
    /// Try again with fresh credentials, once.
    Renew,
}

/// What the answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// No such object.
    Missing,
    /// A conditional put met something.
    Conflict,
    Full,
    Denied,
    Other,
}

/// Why a try did not succeed.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) what: What,
    pub(super) remedy: Remedy,
    /// `the server is overloaded (503 SlowDown, request 4442587FB7D0A2F9)`
    pub(super) reason: String,
    /// Whether it is known that the server did nothing.
    pub(super) undone: bool,
}

impl Trouble {
    /// An answer that cannot be believed, or none: the server may have done what was asked.
    pub(super) fn unclear(reason: impl Into<String>) -> Self {
        Self { what: What::Other, remedy: Remedy::Again, reason: reason.into(), undone: false }
    }

    /// An end, with its reason.
    pub(super) fn last(what: What, reason: impl Into<String>) -> Self {
        Self { what, remedy: Remedy::None, reason: reason.into(), undone: false }
    }

    /// The error as the callers of a store know it. `doing` is as in `cannot {doing}`.
    pub(super) fn into_error(self, doing: &str) -> StoreError {
        let kind = match self.what {
            What::Missing => StoreErrorKind::NotFound,
            What::Conflict => StoreErrorKind::AlreadyExists,
            What::Full => StoreErrorKind::Full,
            What::Denied => StoreErrorKind::Denied,
            What::Other => StoreErrorKind::Other,
        };
        StoreError { kind, message: format!("cannot {doing}: {}", self.reason) }
    }
}

/// What the server said.
struct Said {
    status: u16,
    code: String,
    message: String,
    request: Option<String>,
    /// Region that the bucket is in, when the server names it.
    region: Option<String>,
}

impl Said {
    /// ` (503 SlowDown, request 4442587FB7D0A2F9)`
    fn mark(&self) -> String {
        let code = if self.code.is_empty() { String::new() } else { format!(" {}", self.code) };
        let request = self.request.as_ref().map_or_else(String::new, |id| format!(", request {id}"));
        format!("({}{code}{request})", self.status)
    }
}

impl Shared {
    /// What an error of the SDK means. `action` is the permission that the call needs, as in `s3:PutObject`.
    pub(super) fn judge<E>(&self, error: &CallError<E>, action: &str) -> Trouble
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let place =
            self.place.options.endpoint.as_deref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
        match error {
            SdkError::ServiceError(_) => {
                let said = said(error);
                let mark = said.mark();
                match said.status {
                    200..=299 => Trouble::unclear(format!("the answer{place} says success and holds an error {mark}")),
                    _ => self.judge_answer(&said, action),
                }
            }
            SdkError::ResponseError(response) => {
                let status = response.raw().status().as_u16();
                let said = said(error);
                match status {
                    200..=299 => Trouble::unclear(format!(
                        "the answer of the server{place} is cut or no answer of S3 {}",
                        said.mark()
                    )),
                    _ => self.judge_answer(&said, action),
                }
            }
            SdkError::TimeoutError(_) => Trouble::unclear(format!("the server{place} did not answer in time")),
            SdkError::DispatchFailure(failure) if failure.is_user() || is_about_credentials(error) => no_call(error),
            SdkError::DispatchFailure(_) => {
                Trouble::unclear(format!("the server{place} cannot be reached: {}", innermost(error)))
            }
            _ => no_call(error),
        }
    }

    fn judge_answer(&self, said: &Said, action: &str) -> Trouble {
        let mark = said.mark();
        let bucket = &self.place.bucket;
        let plain = |what, remedy, reason: String| Trouble { what, remedy, reason, undone: said.status < 500 };
        if let Some(trouble) = self.judge_place(said, &mark) {
            return trouble;
        }
        match (said.status, said.code.as_str()) {
            (_, "NoSuchKey" | "NoSuchUpload" | "NotFound") | (404, "") => {
                plain(What::Missing, Remedy::None, format!("there is no such object {mark}"))
            }
            (_, "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" | "ExpiredTokenException") => {
                plain(What::Denied, Remedy::Renew, format!("the credentials have expired {mark}"))
            }
            // A request without a body is refused without words; an expired token is one cause.
            (400, "") => plain(What::Denied, Remedy::Renew, format!("the server refuses the request {mark}")),
            (_, "RequestTimeTooSkewed") => plain(
                What::Denied,
                Remedy::None,
                format!("this machine's clock differs from the server's by more than 15 minutes {mark}: set it right"),
            ),
            (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch") => {
                plain(What::Denied, Remedy::None, format!("the server does not accept these credentials {mark}"))
            }
            (_, "InvalidObjectState") => plain(
                What::Other,
                Remedy::None,
                format!("the object is in cold storage and has to be restored first {mark}"),
            ),
            (_, "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull") | (507, _) => {
                plain(What::Full, Remedy::None, format!("there is no room left in the bucket {bucket} {mark}"))
            }
            (_, "PreconditionFailed" | "ConditionalRequestConflict" | "OperationAborted") | (412 | 409, _) => {
                plain(What::Conflict, Remedy::None, format!("something is there already {mark}"))
            }
            (401 | 403, _) => plain(
                What::Denied,
                Remedy::None,
                format!("access denied {mark}: the credentials in use need {action} there"),
            ),
            (429, _) | (_, "SlowDown" | "TooManyRequests" | "RequestLimitExceeded" | "Throttling") => {
                plain(What::Other, Remedy::Slower, format!("the server is overloaded {mark}"))
            }
            (501, _) => plain(What::Other, Remedy::None, format!("the server cannot do that {mark}")),
            (503, _) => plain(What::Other, Remedy::Slower, format!("the server is overloaded or away {mark}")),
            (500..=599, _) => plain(What::Other, Remedy::Again, format!("the server failed {mark}")),
            (_, "RequestTimeout") => plain(What::Other, Remedy::Again, format!("the bytes came too slowly {mark}")),
            (
                _,
                "BadDigest"
                | "InvalidDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
                | "IncompleteBody",
            ) => plain(What::Other, Remedy::Again, format!("the bytes arrived damaged {mark}")),
            _ => plain(What::Other, Remedy::None, self.own_words(said, &mark)),
        }
    }

    /// Answers that say that the bucket is not where it was looked for.
    fn judge_place(&self, said: &Said, mark: &str) -> Option<Trouble> {
        let (bucket, region) = (&self.place.bucket, &self.place.region);
        let server = self.place.options.endpoint.as_deref().unwrap_or("AWS");
        let elsewhere = matches!(
            said.code.as_str(),
            "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException"
        ) || matches!(said.status, 301 | 307);
        let reason = match said.code.as_str() {
            "NoSuchBucket" => {
                format!("there is no bucket {bucket} on {server} {mark}: make it first, or correct its name")
            }
            _ if elsewhere => {
                let right = said.region.as_ref().filter(|right| *right != region);
                let right = right.map_or_else(String::new, |right| format!(", it is in {right}"));
                format!("the bucket {bucket} is not in the region {region}{right} {mark}: correct the policy's region")
            }
            _ => return None,
        };
        Some(Trouble { what: What::Other, remedy: Remedy::None, reason, undone: true })
    }

    fn own_words(&self, said: &Said, mark: &str) -> String {
        match said.message.trim() {
            "" => format!("the server refuses {mark}"),
            message => format!("the server refuses: {} {mark}", message.trim_end_matches('.')),
        }
    }
}

fn said<E: ProvideErrorMetadata>(error: &CallError<E>) -> Said {
    let response = error.raw_response();
    let meta = error.as_service_error().map(ProvideErrorMetadata::meta);
    let header = |name: &str| response.and_then(|response| response.headers().get(name)).map(str::to_owned);
    Said {
        status: response.map_or(0, |response| response.status().as_u16()),
        code: meta.and_then(|meta| meta.code()).unwrap_or_default().to_owned(),
        message: meta.and_then(|meta| meta.message()).unwrap_or_default().to_owned(),
        request: meta
            .and_then(RequestId::request_id)
            .map(str::to_owned)
            .or_else(|| header("x-amz-request-id"))
            .or_else(|| response.and_then(|response| response.extended_request_id()).map(str::to_owned)),
        region: header("x-amz-bucket-region"),
    }
}

/// The request was never sent: credentials, most of all.
fn no_call<E: Error + 'static>(error: &CallError<E>) -> Trouble {
    let words = innermost(error);
    let (what, reason) = if is_about_credentials(error) {
        (What::Denied, format!("no credentials for S3 are to be had: {words}"))
    } else {
        (What::Other, words)
    };
    Trouble { what, remedy: Remedy::None, reason, undone: true }
}

/// The deepest cause: the SDK's own layers say only that something failed.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match cause.to_string().rsplit_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => cause.to_string(),
    }
}

/// Whether the request was not sent because nobody could sign it.
fn is_about_credentials(error: &dyn Error) -> bool {
    let mut cause = Some(error);
    while let Some(this) = cause {
        let words = this.to_string().to_lowercase();
        if words.contains("credentials") || words.contains("identity") {
            return true;
        }
        cause = this.source();
    }
    false
}
