//! Where: places that hold objects. The trait first, then local directories, then the DR site's layout.

pub mod dr;
pub mod local;
pub mod object_store;
pub mod records;

pub use dr::DrSite;
pub use object_store::{ObjectInfo, ObjectStore, PutMode, StagedObject, StoreError, StoreErrorKind};
