//! What people read of a drill.
