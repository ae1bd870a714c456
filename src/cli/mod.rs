//! Faces for people and scripts: one file per command.
