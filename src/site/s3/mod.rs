//! A bucket as an object store: AWS S3, or another server that speaks S3.
//!
//! | file | what it is |
//! |---|---|
//! | `mod` | the store: blocking calls over a runtime of its own |
//! | `limits` | times, sizes and numbers; the environment may set them |
//! | `client` | endpoint, credentials |
//! | `trouble` | an answer that is no success: what it means, what to do, in words |
//! | `persist` | trying again: jitter, budget, pace |
//! | `object` | what an object's key says of it: class, lock, whether its name is its hash |
//! | `write`, `multipart` | puts; large ones in parts |
//! | `read`, `remove` | gets, listings, sizes; deletes and what broken uploads left |
//!
//! What is believed: an object is stored when the server says so *and* gives back the SHA-256 that was sent with it;
//! a server that does not give it back is asked for the object itself. "It is there already" is believed after a
//! comparison. A listing is complete, or an error.

mod client;
mod limits;
mod multipart;
mod object;
mod persist;
mod read;
mod remove;
mod trouble;
mod write;

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::runtime::{Handle, Runtime};

use super::object_store::{ObjectInfo, ObjectStore, PutMode, StoreError, StoreErrorKind};
use super::place::BucketPlace;
use persist::Pace;

/// Readers that wait for a bucket at any moment.
const WAITING_READS: usize = 3;

pub use limits::Limits;
pub use remove::Abandoned;

/// What all calls of one store share.
struct Shared {
    place: BucketPlace,
    limits: Limits,
    /// Made at the first call, and again when credentials have expired.
    client: tokio::sync::Mutex<Option<aws_sdk_s3::Client>>,
    /// Requests under way.
    gate: tokio::sync::Semaphore,
    pace: Pace,
}

/// Objects in a bucket below a prefix.
pub struct S3Store {
    shared: Arc<Shared>,
    runtime: Mutex<Option<Runtime>>,
}

impl S3Store {
    /// A store that asks nothing of the server yet.
    pub fn new(place: BucketPlace, limits: Limits) -> Self {
        let shared = Shared {
            place,
            gate: tokio::sync::Semaphore::new(limits.requests),
            limits,
            client: tokio::sync::Mutex::default(),
            pace: Pace::default(),
        };
        Self { shared: Arc::new(shared), runtime: Mutex::default() }
    }

    /// Uploads in parts that were begun before `age` ago and neither finished nor given up.
    pub fn abandoned(&self, age: std::time::Duration) -> Result<Vec<Abandoned>, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.call(async move { remove::abandoned(&shared, age).await })
    }

    /// Does work on the store's own runtime, so that any thread may call, one of another runtime too.
    fn call<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = crossbeam_channel::bounded(1);
        self.handle()?.spawn(async move {
            // Nobody waits any more only when the process is coming down.
            let _ = answer.send(work.await);
        });
        answered.recv().unwrap_or_else(|_| Err(own(format!("the call to {} broke off", self.shared.place.address()))))
    }

    fn handle(&self) -> Result<Handle, StoreError> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let made = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3")
            .enable_all()
            .build()
            .map_err(|error| own(format!("cannot start the threads that talk to S3: {error}")))?;
        Ok(runtime.insert(made).handle().clone())
    }
}

impl Drop for S3Store {
    fn drop(&mut self) {
        // Waiting for it would not be allowed on a thread of another runtime.
        if let Some(runtime) = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

/// An error of this machine.
fn own(message: String) -> StoreError {
    StoreError { kind: StoreErrorKind::Other, message }
}

impl ObjectStore for S3Store {
    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StoreError> {
        object::check_key(key)?;
        let (shared, key, body) = (Arc::clone(&self.shared), key.to_owned(), Bytes::copy_from_slice(bytes));
        self.call(async move { write::put(&shared, &key, body, mode).await })
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        object::check_key(key)?;
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        self.call(async move { read::get(&shared, &key, None).await })
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        object::check_key(key)?;
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        self.call(async move { read::get(&shared, &key, Some(range)).await })
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let (shared, prefix) = (Arc::clone(&self.shared), prefix.to_owned());
        self.call(async move { read::list(&shared, &prefix).await })
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        object::check_key(key)?;
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        self.call(async move { Ok(read::head(&shared, &key).await?.map(|head| head.size)) })
    }

    fn modified(&self, key: &str) -> Result<Option<Timestamp>, StoreError> {
        object::check_key(key)?;
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        self.call(async move { Ok(read::head(&shared, &key).await?.and_then(|head| head.modified)) })
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        object::check_key(key)?;
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        self.call(async move { remove::delete(&shared, &key).await })
    }

    fn describe(&self) -> String {
        self.shared.place.address()
    }

    fn parallel_puts(&self) -> usize {
        self.shared.limits.parallel_puts
    }

    fn waiting_reads(&self) -> usize {
        WAITING_READS
    }

    fn pause(&self) {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            if let Ok(mut client) = self.shared.client.try_lock() {
                *client = None;
            }
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        }
    }

    fn sweep(&self) -> Result<Vec<String>, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.call(async move { remove::sweep(&shared).await })
    }
}

impl Shared {
    /// The key in the bucket.
    fn full(&self, key: &str) -> String {
        match &self.place.options.prefix {
            Some(prefix) => format!("{prefix}/{key}"),
            None => key.to_owned(),
        }
    }

    /// An object's address, for people.
    fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.place.address())
    }
}
