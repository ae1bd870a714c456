//! A store that belongs to somebody else: whatever is asked of it, nothing is written into it or removed from it.

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use super::object_store::{ObjectInfo, ObjectStore, PutMode, StagedObject, StoreError, StoreErrorKind};

/// Another store, of which only the reading is left.
pub struct ReadOnlyStore(Arc<dyn ObjectStore>);

impl ReadOnlyStore {
    /// Leaves the reading.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self(store)
    }

    fn refused(&self, what: &str) -> StoreError {
        let message = format!("cannot write {what} in {}: it is opened to be read only", self.describe());
        StoreError { kind: StoreErrorKind::Denied, message }
    }
}

impl ObjectStore for ReadOnlyStore {
    fn put(&self, key: &str, _bytes: &[u8], _mode: PutMode) -> Result<(), StoreError> {
        Err(self.refused(key))
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        self.0.get(key)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.0.get_range(key, range)
    }

    fn read_at(&self, key: &str, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.0.read_at(key, offset, into)
    }

    fn will_read(&self, key: &str, range: Range<u64>) {
        self.0.will_read(key, range);
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.0.list(prefix)
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.0.size(key)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        Err(self.refused(key))
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn stage(&self) -> Result<Option<Box<dyn StagedObject>>, StoreError> {
        Err(self.refused("anything"))
    }

    fn waiting_reads(&self) -> usize {
        self.0.waiting_reads()
    }

    fn get_range_kept(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.0.get_range_kept(key, range)
    }

    fn is_at_hand(&self, key: &str) -> bool {
        self.0.is_at_hand(key)
    }

    fn pause(&self) {
        self.0.pause();
    }

    fn modified(&self, key: &str) -> Result<Option<Timestamp>, StoreError> {
        self.0.modified(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::local::LocalStore;

    #[test]
    fn what_is_there_is_read_and_nothing_is_written_or_removed() {
        let directory = tempfile::tempdir().unwrap();
        let inner = Arc::new(LocalStore::new(directory.path()));
        inner.put("data/a", b"content", PutMode::CreateNew).unwrap();
        let store = ReadOnlyStore::new(inner);
        for mode in [PutMode::CreateNew, PutMode::Replace] {
            assert_eq!(store.put("data/b", b"x", mode).unwrap_err().kind, StoreErrorKind::Denied);
        }
        assert_eq!(store.delete("data/a").unwrap_err().kind, StoreErrorKind::Denied);
        assert!(store.stage().is_err_and(|error| error.message.contains("read only")));
        assert_eq!(store.sweep().unwrap(), [""; 0]);
        assert_eq!(store.get("data/a").unwrap(), b"content");
        assert_eq!(store.list("").unwrap().len(), 1);
    }
}
