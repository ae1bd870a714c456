//! Where: places that hold objects. The trait first, then directories and buckets, then the DR site's layout.

pub mod cache;
pub mod dr;
pub mod local;
mod marker;
pub mod object_store;
pub mod place;
mod read_only;
pub mod records;
#[cfg(feature = "aws")]
pub mod s3;

pub use cache::CachedStore;
pub use dr::DrSite;
pub use object_store::{ObjectInfo, ObjectStore, PutMode, StagedObject, StoreError, StoreErrorKind};
pub use place::{BucketPlace, SitePlace};
pub use read_only::ReadOnlyStore;
