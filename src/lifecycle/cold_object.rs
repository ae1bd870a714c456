//! The self-contained object of an archived point: one `tar.zst`, readable in ten years with `zstd` and `tar`.
//!
//! `lifeboat-archive.json` comes first (the point's record), then the tree below `data/` with names, owners, times to
//! the nanosecond and extended attributes (PAX records), and last `SHA256SUMS`, which `sha256sum -c` understands.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::ground::failure::OrFail;
use crate::ground::{Failure, Progress, Result, byte_path};
use crate::repository::{BlobId, BlobKind, BlobReader, Node, NodeKind};
use crate::site::records::PointRecord;

const RECORD_NAME: &str = "lifeboat-archive.json";
const SUMS_NAME: &str = "SHA256SUMS";
const ZSTD_LEVEL: i32 = 3;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColdObject {
    pub bytes: u64,
    /// Of the object, hex.
    pub sha256: String,
}

/// Hashes and counts what passes through.
struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

type Tar<'f> = tar::Builder<zstd::Encoder<'static, HashingWriter<BufWriter<&'f File>>>>;

struct ColdWriter<'a> {
    tar: Tar<'a>,
    reader: &'a BlobReader,
    progress: &'a dyn Progress,
    sums: Vec<u8>,
    /// First name of each file with several links, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

/// Writes the object of `point` into `file`.
pub fn write(reader: &BlobReader, point: &PointRecord, file: &File, progress: &dyn Progress) -> Result<ColdObject> {
    let doing = || "cannot write the archive".to_owned();
    let sink = HashingWriter { inner: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new(), bytes: 0 };
    let mut encoder = zstd::Encoder::new(sink, ZSTD_LEVEL).or_fail(doing)?;
    encoder.include_checksum(true).or_fail(doing)?;
    encoder.multithread(2).or_fail(doing)?;
    let mut writer =
        ColdWriter { tar: tar::Builder::new(encoder), reader, progress, sums: Vec::new(), linked: HashMap::new() };
    let record = serde_json::to_vec_pretty(point).or_fail(doing)?;
    writer.plain_file(RECORD_NAME, &record)?;
    let tree = BlobId::from_hex(&point.tree);
    let tree = tree.ok_or_else(|| Failure::failed(format!("the point {} names no tree", point.id)))?;
    writer.tree(&tree)?;
    let sums = std::mem::take(&mut writer.sums);
    writer.plain_file(SUMS_NAME, &sums)?;
    let mut sink = writer.tar.into_inner().and_then(zstd::Encoder::finish).or_fail(doing)?;
    sink.flush().or_fail(doing)?;
    Ok(ColdObject { bytes: sink.bytes, sha256: hex::encode(sink.hash.finalize()) })
}

impl ColdWriter<'_> {
    fn plain_file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        self.tar.append_data(&mut header, name, content).or_fail(|| format!("cannot add {name}"))
    }

    /// Parents before children. A stack of its own: trees may be deeper than a thread's.
    fn tree(&mut self, root: &BlobId) -> Result<()> {
        let mut waiting = vec![(*root, b"data".to_vec())];
        while let Some((tree, parent)) = waiting.pop() {
            for node in self.reader.read_tree(&tree)? {
                let path = [&parent[..], b"/", &node.name[..]].concat();
                self.entry(&node, &path).map_err(|failure| failure.context(byte_path::escape(&path)))?;
                waiting.extend(node.subtree.map(|subtree| (subtree, path)));
            }
        }
        Ok(())
    }

    fn entry(&mut self, node: &Node, path: &[u8]) -> Result<()> {
        let Some(entry_type) = entry_type(node.kind) else { return Ok(()) };
        let name = Path::new(OsStr::from_bytes(path));
        let mut header = header_of(node, entry_type);
        self.pax_records(node).or_fail(|| "cannot add its attributes".to_owned())?;
        let doing = || "cannot add it".to_owned();
        match node.kind {
            NodeKind::Symlink => {
                let target = OsStr::from_bytes(node.link_target.as_deref().unwrap_or_default());
                self.tar.append_link(&mut header, name, target).or_fail(doing)
            }
            NodeKind::File if node.links > 1 && self.linked.contains_key(&(node.device_id, node.inode)) => {
                let first = self.linked[&(node.device_id, node.inode)].clone();
                header.set_entry_type(EntryType::Link);
                self.tar.append_link(&mut header, name, OsStr::from_bytes(&first)).or_fail(doing)
            }
            NodeKind::File => self.file(node, path, header),
            _ => self.tar.append_data(&mut header, name, io::empty()).or_fail(doing),
        }
    }

    fn file(&mut self, node: &Node, path: &[u8], mut header: Header) -> Result<()> {
        if node.links > 1 {
            self.linked.insert((node.device_id, node.inode), path.to_vec());
        }
        header.set_size(node.size);
        let mut content = Content::new(self.reader, &node.content, self.progress);
        let appended = self.tar.append_data(&mut header, Path::new(OsStr::from_bytes(path)), &mut content);
        appended.or_fail(|| "cannot add its content".to_owned())?;
        let (sum, bytes) = content.finish();
        if bytes != node.size {
            return Err(Failure::failed(format!("its content has {bytes} bytes, its record says {}", node.size)));
        }
        push_sum(&mut self.sums, &sum, path);
        Ok(())
    }

    /// What a plain tar header cannot hold: nanoseconds, times before 1970, extended attributes.
    fn pax_records(&mut self, node: &Node) -> io::Result<()> {
        let nanoseconds = node.modified.as_nanosecond();
        let sign = if nanoseconds < 0 { "-" } else { "" };
        let (seconds, rest) = (nanoseconds.unsigned_abs() / 1_000_000_000, nanoseconds.unsigned_abs() % 1_000_000_000);
        let mut records = vec![("mtime".to_owned(), format!("{sign}{seconds}.{rest:09}").into_bytes())];
        for (name, value) in &node.xattrs {
            records.push((format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value.clone()));
        }
        self.tar.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
    }
}

/// `None` for sockets, which tar cannot hold and which carry no data.
fn entry_type(kind: NodeKind) -> Option<EntryType> {
    match kind {
        NodeKind::File => Some(EntryType::Regular),
        NodeKind::Directory => Some(EntryType::Directory),
        NodeKind::Symlink => Some(EntryType::Symlink),
        NodeKind::BlockDevice => Some(EntryType::Block),
        NodeKind::CharacterDevice => Some(EntryType::Char),
        NodeKind::Fifo => Some(EntryType::Fifo),
        NodeKind::Socket => None,
    }
}

fn header_of(node: &Node, entry_type: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(entry_type);
    header.set_size(0);
    header.set_mode(node.mode);
    header.set_uid(u64::from(node.uid));
    header.set_gid(u64::from(node.gid));
    header.set_mtime(u64::try_from(node.modified.as_second()).unwrap_or(0));
    // Names longer than the field are left out: the numbers count.
    let _ = header.set_username(&node.user);
    let _ = header.set_groupname(&node.group);
    if matches!(node.kind, NodeKind::BlockDevice | NodeKind::CharacterDevice) {
        let _ = header.set_device_major(rustix::fs::major(node.device));
        let _ = header.set_device_minor(rustix::fs::minor(node.device));
    }
    header
}

/// `sha256sum`'s line, with its escapes for names that hold a newline or a backslash.
fn push_sum(sums: &mut Vec<u8>, sum: &str, path: &[u8]) {
    if path.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r')) {
        sums.push(b'\\');
    }
    sums.extend_from_slice(sum.as_bytes());
    sums.extend_from_slice(b"  ");
    for byte in path {
        match byte {
            b'\\' => sums.extend_from_slice(b"\\\\"),
            b'\n' => sums.extend_from_slice(b"\\n"),
            b'\r' => sums.extend_from_slice(b"\\r"),
            _ => sums.push(*byte),
        }
    }
    sums.push(b'\n');
}

/// A file's content, blob after blob, hashed as it passes.
struct Content<'a> {
    reader: &'a BlobReader,
    blobs: std::slice::Iter<'a, BlobId>,
    current: Vec<u8>,
    position: usize,
    hash: Sha256,
    bytes: u64,
    progress: &'a dyn Progress,
}

impl<'a> Content<'a> {
    fn new(reader: &'a BlobReader, blobs: &'a [BlobId], progress: &'a dyn Progress) -> Self {
        let blobs = blobs.iter();
        Self { reader, blobs, current: Vec::new(), position: 0, hash: Sha256::new(), bytes: 0, progress }
    }

    fn finish(self) -> (String, u64) {
        (hex::encode(self.hash.finalize()), self.bytes)
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() {
            let Some(blob) = self.blobs.next() else { return Ok(0) };
            self.current = self.reader.read(BlobKind::Data, blob).map_err(io::Error::other)?;
            self.position = 0;
            self.hash.update(&self.current);
            self.bytes += self.current.len() as u64;
            self.progress.advance(self.current.len() as u64);
        }
        let count = buffer.len().min(self.current.len() - self.position);
        buffer[..count].copy_from_slice(&self.current[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

/// Reads the object back: its size and hash, that it decompresses, and that each file has the sum that it was given.
///
/// # Errors
/// When anything differs.
pub fn read_back(path: &Path, object: &ColdObject) -> Result<()> {
    let doing = || format!("cannot read the archive {} back", path.display());
    let mut raw = File::open(path).or_fail(doing)?;
    let mut hash = HashingWriter { inner: io::sink(), hash: Sha256::new(), bytes: 0 };
    io::copy(&mut raw, &mut hash).or_fail(doing)?;
    if hash.bytes != object.bytes || hex::encode(hash.hash.finalize()) != object.sha256 {
        return Err(Failure::failed(format!("{}: it is not what was written", doing())));
    }
    let decoder = zstd::Decoder::with_buffer(BufReader::new(File::open(path).or_fail(doing)?)).or_fail(doing)?;
    let mut computed = Vec::new();
    let mut written = None;
    for entry in tar::Archive::new(decoder).entries().or_fail(doing)? {
        let mut entry = entry.or_fail(doing)?;
        if entry.header().entry_type() != EntryType::Regular {
            continue;
        }
        let name = entry.path_bytes().into_owned();
        if name == SUMS_NAME.as_bytes() {
            let mut sums = Vec::new();
            entry.read_to_end(&mut sums).or_fail(doing)?;
            written = Some(sums);
        } else if name != RECORD_NAME.as_bytes() {
            let mut sum = HashingWriter { inner: io::sink(), hash: Sha256::new(), bytes: 0 };
            io::copy(&mut entry, &mut sum).or_fail(doing)?;
            push_sum(&mut computed, &hex::encode(sum.hash.finalize()), &name);
        }
    }
    if written.as_ref() == Some(&computed) {
        return Ok(());
    }
    Err(Failure::failed(format!("{}: a file in it does not have the sum that was noted", doing())))
}
