//! Keep, archive, expire; the only room that may delete.
