//! Stores for tests of the repository: objects in memory, and one that fails a chosen write in a chosen way.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lifeboat::site::{ObjectInfo, ObjectStore, PutMode, StoreError, StoreErrorKind};

fn error(kind: StoreErrorKind, key: &str, why: &str) -> StoreError {
    StoreError { kind, message: format!("memory/{key}: {why}") }
}

/// Objects in memory. A copy costs a pointer per object, so that thousands of damaged copies can be tried.
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Arc<Vec<u8>>>>,
}

impl MemoryStore {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn copy(&self) -> Arc<Self> {
        Arc::new(Self { objects: Mutex::new(self.objects.lock().unwrap().clone()) })
    }

    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    pub fn bytes(&self, key: &str) -> Arc<Vec<u8>> {
        Arc::clone(&self.objects.lock().unwrap()[key])
    }

    pub fn set(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.objects.lock().unwrap().insert(key.to_owned(), Arc::new(bytes.into()));
    }

    pub fn remove(&self, key: &str) {
        self.objects.lock().unwrap().remove(key).unwrap();
    }

    fn find(&self, key: &str) -> Result<Arc<Vec<u8>>, StoreError> {
        let found = self.objects.lock().unwrap().get(key).cloned();
        found.ok_or_else(|| error(StoreErrorKind::NotFound, key, "no such object"))
    }
}

impl ObjectStore for MemoryStore {
    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StoreError> {
        let mut objects = self.objects.lock().unwrap();
        if mode == PutMode::CreateNew && objects.contains_key(key) {
            return Err(error(StoreErrorKind::AlreadyExists, key, "it is there already"));
        }
        objects.insert(key.to_owned(), Arc::new(bytes.to_vec()));
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        self.find(key).map(|bytes| bytes.to_vec())
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let bytes = self.find(key)?;
        let part = bytes.get(range.start as usize..range.end as usize);
        part.map(<[u8]>::to_vec).ok_or_else(|| error(StoreErrorKind::Other, key, "it is shorter than expected"))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let objects = self.objects.lock().unwrap();
        let below = objects.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(below.map(|(key, bytes)| ObjectInfo { key: key.clone(), size: bytes.len() as u64 }).collect())
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.objects.lock().unwrap().get(key).map(|bytes| bytes.len() as u64))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.objects.lock().unwrap().remove(key);
        Ok(())
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

/// How a write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No space left; nothing was written.
    NoSpace,
    /// Over quota; nothing was written.
    Quota,
    /// The device failed; nothing was written.
    Device,
    /// Half of the object lies there under its name, and the write said so.
    Short,
    /// The whole object lies there, but that it is durable could not be had: a failing fsync, an answer that was lost.
    NotDurable,
}

pub const FAULTS: [Fault; 5] = [Fault::NoSpace, Fault::Quota, Fault::Device, Fault::Short, Fault::NotDurable];

impl Fault {
    pub fn kind(self) -> StoreErrorKind {
        match self {
            Self::NoSpace | Self::Quota => StoreErrorKind::Full,
            Self::Device | Self::Short | Self::NotDurable => StoreErrorKind::Other,
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Self::NoSpace => "no space left on device",
            Self::Quota => "disk quota exceeded",
            Self::Device => "input/output error",
            Self::Short => "short write",
            Self::NotDurable => "cannot sync",
        }
    }
}

/// Fails one write.
pub struct FaultyStore {
    pub below: Arc<MemoryStore>,
    fault: Fault,
    /// Writes still to come before the one that fails.
    left: AtomicU64,
    /// The object that was to be written by it.
    pub struck: Mutex<Option<String>>,
}

impl FaultyStore {
    /// `number` counts from 1.
    pub fn new(below: Arc<MemoryStore>, fault: Fault, number: u64) -> Arc<Self> {
        Arc::new(Self { below, fault, left: AtomicU64::new(number), struck: Mutex::new(None) })
    }

    pub fn struck(&self) -> Option<String> {
        self.struck.lock().unwrap().clone()
    }
}

impl ObjectStore for FaultyStore {
    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StoreError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return self.below.put(key, bytes, mode);
        }
        *self.struck.lock().unwrap() = Some(key.to_owned());
        match self.fault {
            Fault::Short => self.below.put(key, &bytes[..bytes.len() / 2], mode)?,
            Fault::NotDurable => self.below.put(key, bytes, mode)?,
            Fault::NoSpace | Fault::Quota | Fault::Device => {}
        }
        Err(error(self.fault.kind(), key, self.fault.words()))
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        self.below.get(key)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.below.get_range(key, range)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.below.list(prefix)
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.below.size(key)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.below.delete(key)
    }

    fn describe(&self) -> String {
        self.below.describe()
    }
}
