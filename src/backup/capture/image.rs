//! Source kind `image`: a disk image file or a block device, stored as a regular file.
//!
//! Blocks are cut at fixed places, since a disk is written in place: a change in one block moves nothing else, and the
//! next backup adds only the blocks that changed. [`super::blocks`] says how large they are.

use std::fs::File;

use rustix::fs::{FileType, SeekFrom, seek};

use super::content::{Stability, store_range, store_settled};
use super::session::Session;
use super::single::{SingleFile, fatal};
use super::{Captured, blocks};
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};
use crate::repository::NodeKind;

/// Captures an image.
///
/// # Errors
/// When it is neither a file nor a block device, cannot be read, or the repository cannot be written.
pub(super) fn capture_image(session: Session<'_>, path: &str) -> Result<Captured> {
    let image = SingleFile::open(path)?;
    match FileType::from_raw_mode(image.stat.st_mode) {
        FileType::RegularFile => capture_file(session, image, path),
        FileType::BlockDevice => capture_device(session, image, path),
        _ => Err(Failure::wrong_input(format!("{path} is neither a file nor a block device"))
            .hint("for a directory use a source of kind `files`")),
    }
}

fn capture_file(session: Session<'_>, image: SingleFile, path: &str) -> Result<Captured> {
    let file = duplicate(&image, path)?;
    let mut node = image.node(&session);
    let earlier = session.earlier_node(&image.path);
    if let Some(earlier) = earlier.filter(|earlier| session.is_unchanged(&node, earlier)) {
        node.content = earlier.content;
        session.progress.advance(node.size);
        return image.finish(session, node);
    }
    let blocks = blocks::of_image(node.size);
    let read = store_settled(&session, &file, blocks, Stability::Live).map_err(|trouble| fatal(trouble, path))?;
    if read.changed {
        session.miss(&image.path, "it changed while it was read: what is stored is a mixture of before and after");
    }
    node.size = read.content.bytes;
    node.content = read.content.blobs;
    image.finish(session, node)
}

/// A device has no time of its last write: it is read whole, and a change under the read goes unseen.
fn capture_device(session: Session<'_>, image: SingleFile, path: &str) -> Result<Captured> {
    let file = duplicate(&image, path)?;
    let size = seek(&file, SeekFrom::End(0))
        .map_err(|error| Failure::failed(format!("cannot tell the size of the device {path}: {error}")))?;
    if size == 0 {
        return Err(Failure::failed(format!("the device {path} has no medium: its size is 0")));
    }
    let mut node = image.node(&session);
    let content = store_range(&session, &file, 0..size, false, blocks::of_image(size));
    let content = content.map_err(|trouble| fatal(trouble, path))?;
    if content.bytes != size {
        return Err(Failure::failed(format!("the device {path} ended after {} of {size} bytes", content.bytes)));
    }
    node.kind = NodeKind::File;
    node.size = size;
    node.content = content.blobs;
    image.finish(session, node)
}

/// The same open file, as the type that reads.
fn duplicate(image: &SingleFile, path: &str) -> Result<File> {
    image.fd.try_clone().map(File::from).or_fail(|| format!("cannot open {path}"))
}
