//! Keep, archive, expire; the only room that may delete. Archiving is what stands today; nothing deletes yet.

pub mod archive;
mod cold_object;
