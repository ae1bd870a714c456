//! The files of a PostgreSQL cluster as a base backup streams them, in one tar archive (PostgreSQL's documentation,
//! pg_basebackup), and the list of what belongs to them (the same, section "Backup Manifest Format").

use std::collections::BTreeMap;
use std::io::{self, Read};

use jiff::Timestamp;
use serde::Deserialize;
use tar::{Archive, EntryType};

use super::session::Session;
use super::trees::plain_file;
use crate::ground::byte_path::escape;
use crate::ground::{Failure, Result};
use crate::repository::{Chunking, ContentError, Node, NodeKind, RepositoryError};

/// Where a cluster lies in its tree.
pub(super) const CLUSTER_ROOT: &str = "/postgresql";
/// The list of what belongs to the backup.
const MANIFEST: &[u8] = b"backup_manifest";
/// Most bytes of that list that are read: some 700,000 files.
const MANIFEST_MAX: u64 = 128 << 20;
/// Mode of the data directory itself, which the archive does not hold.
const ROOT_MODE: u32 = 0o700;

/// What was read of a cluster.
pub(super) struct Cluster {
    chunking: Chunking<'static>,
    root: Node,
    /// Every directory by its path, the root's is empty.
    directories: BTreeMap<Vec<u8>, Directory>,
    manifest: Vec<u8>,
}

#[derive(Default)]
struct Directory {
    node: Option<Node>,
    entries: Vec<Node>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "Files")]
    files: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Path")]
    path: Option<String>,
    /// Hex, of a name that is not UTF-8.
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
}

impl Listed {
    fn bytes(&self) -> Option<Vec<u8>> {
        let encoded = || hex::decode(self.encoded_path.as_ref()?).ok();
        self.path.as_ref().map(|path| path.clone().into_bytes()).or_else(encoded)
    }
}

impl Cluster {
    /// One of which nothing was read yet; its files are cut so.
    pub fn new(chunking: Chunking<'static>, now: Timestamp) -> Self {
        let mut root = plain_file(b"", now);
        (root.kind, root.mode) = (NodeKind::Directory, ROOT_MODE);
        Self { chunking, root, directories: BTreeMap::new(), manifest: Vec::new() }
    }

    /// Stores what the archive holds, and reads to the very end of the stream.
    ///
    /// # Errors
    /// The stream's: it is no archive, or broken off. The repository's.
    pub fn read(&mut self, session: &Session<'_>, stream: &mut dyn Read) -> Result<(), ContentError> {
        let mut archive = Archive::new(stream);
        for entry in archive.entries().map_err(ContentError::Source)? {
            let mut entry = entry.map_err(ContentError::Source)?;
            let path = plain_path(&entry.path_bytes()).map_err(ContentError::Source)?;
            let mut node = self.describe(&path, entry.header()).map_err(ContentError::Source)?;
            match entry.header().entry_type() {
                EntryType::Regular => self.store_file(session, &path, &mut node, &mut entry)?,
                EntryType::Directory => {
                    session.count(&node, true);
                    self.directories.entry(path).or_default().node = Some(node);
                    continue;
                }
                other => return Err(source(&path, &format!("is an entry of a kind that is not expected ({other:?})"))),
            }
            session.count(&node, true);
            self.directories.entry(parent(&path).to_vec()).or_default().entries.push(node);
        }
        // The program waits until what follows the archive's end is taken too.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(ContentError::Source)?;
        Ok(())
    }

    fn store_file(
        &mut self,
        session: &Session<'_>,
        path: &[u8],
        node: &mut Node,
        entry: &mut dyn Read,
    ) -> Result<(), ContentError> {
        let expected = node.size;
        let stored = if path == MANIFEST {
            entry.take(MANIFEST_MAX).read_to_end(&mut self.manifest).map_err(ContentError::Source)?;
            let mut whole = self.manifest.as_slice().chain(entry);
            session.store.store_content(&mut whole, Chunking::Content)?
        } else {
            session.store.store_content(entry, self.chunking)?
        };
        if stored.bytes != expected {
            return Err(source(path, &format!("ends after {} of {expected} bytes", stored.bytes)));
        }
        node.content = stored.blobs;
        Ok(())
    }

    fn describe(&mut self, path: &[u8], header: &tar::Header) -> io::Result<Node> {
        let time = Timestamp::from_second(i64::try_from(header.mtime()?).unwrap_or(0)).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut node = plain_file(&path[parent(path).len()..], time);
        node.name = node.name.strip_prefix(b"/").unwrap_or(&node.name).to_vec();
        // Set-id bits have no meaning in a cluster, and root restores them.
        node.mode = header.mode()? & 0o777;
        let id = |id: u64| u32::try_from(id).unwrap_or(0);
        (node.uid, node.gid) = (id(header.uid()?), id(header.gid()?));
        let name = |name: Option<&[u8]>| String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        (node.user, node.group) = (name(header.username_bytes()), name(header.groupname_bytes()));
        (self.root.uid, self.root.gid) = (node.uid, node.gid);
        (self.root.user, self.root.group) = (node.user.clone(), node.group.clone());
        if header.entry_type() == EntryType::Directory {
            (node.kind, node.links) = (NodeKind::Directory, 0);
        } else {
            node.size = header.entry_size()?;
        }
        Ok(node)
    }

    /// Holds what was stored against the server's list and the numbers of its databases, stores the directories, and gives the
    /// cluster's own node.
    ///
    /// # Errors
    /// When something of the list is missing or has another size. The repository's.
    pub fn finish(mut self, session: &Session<'_>, databases: &[u32]) -> Result<Node> {
        self.compare(databases)?;
        let mut root = self.root;
        // From the deepest up: a path sorts before the paths below it.
        while let Some((path, directory)) = self.directories.pop_last() {
            let mut entries = directory.entries;
            entries.sort_by(|one, other| one.name.cmp(&other.name));
            let subtree = session.store.store_tree(entries).map_err(|error: RepositoryError| Failure::from(error))?;
            if path.is_empty() {
                root.subtree = Some(subtree);
                return Ok(root);
            }
            let known = directory.node.ok_or_else(|| lacks(&path, "its directory"))?;
            let above = self.directories.entry(parent(&path).to_vec()).or_default();
            above.entries.push(Node { subtree: Some(subtree), ..known });
        }
        Err(Failure::failed("the base backup holds nothing"))
    }

    fn compare(&self, databases: &[u32]) -> Result<()> {
        let manifest: Manifest = serde_json::from_slice(&self.manifest).map_err(|_| {
            Failure::failed("the base backup came without its list of files, or with one that is damaged")
        })?;
        let mut sizes = BTreeMap::new();
        for (path, directory) in &self.directories {
            for node in &directory.entries {
                let full = if path.is_empty() { node.name.clone() } else { [path, &b"/"[..], &node.name].concat() };
                sizes.insert(full, node.size);
            }
        }
        for listed in &manifest.files {
            let path = listed.bytes().ok_or_else(|| Failure::failed("the base backup's list of files is damaged"))?;
            match sizes.get(&path) {
                None => return Err(lacks(&path, "a file")),
                Some(size) if *size != listed.size => return Err(lacks(&path, "a part of a file")),
                Some(_) => {}
            }
        }
        // What the server skipped is not in its list either.
        let lost = databases.iter().map(|number| format!("base/{number}/PG_VERSION").into_bytes());
        lost.into_iter().find(|path| !sizes.contains_key(path)).map_or(Ok(()), |path| Err(lacks(&path, "a database")))
    }
}

fn lacks(path: &[u8], what: &str) -> Failure {
    Failure::failed(format!("the base backup lacks {what} that belongs to it: {}", escape(path)))
}

fn source(path: &[u8], why: &str) -> ContentError {
    ContentError::Source(io::Error::other(format!("{} {why}", escape(path))))
}

/// Without `./` before it and the slash at the end of a directory's name; anything but plain names below the root is refused.
fn plain_path(path: &[u8]) -> io::Result<Vec<u8>> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let is_plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    if !path.split(|byte| *byte == b'/').all(is_plain) {
        return Err(io::Error::other(format!("{} is no name below a data directory", escape(path))));
    }
    Ok(path.to_vec())
}

fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)]
}
