//! A repository of many small backups whose every file is known, and a restore of all of it that tells exact from lost
//! from silently wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lifeboat::ground::{NoProgress, Secret};
use lifeboat::repository::{
    BlobId, BlobKind, BlobReader, Chunking, KeyStrength, Node, NodeKind, Repository, RepositoryError, Snapshot,
    VerifyDepth,
};
use lifeboat::site::{ObjectStore, StoreError};

use super::store::MemoryStore;
use crate::common::noise;

/// Directories of one backup.
const WINDOW: usize = 2;
/// Bytes of a block; a file has one to three.
const BLOCK: usize = 2048;

pub fn password() -> Secret {
    Secret::new("password")
}

/// One file as it was backed up.
#[derive(Debug, Clone)]
pub struct Expected {
    pub node: Node,
    pub content: Vec<u8>,
}

/// One backup: the root directory holds the newest few of `d000` and so on, one new each time, the older ones unchanged.
#[derive(Debug, Clone)]
pub struct Backup {
    pub snapshot: String,
    pub tree: BlobId,
}

/// What was backed up, in order.
#[derive(Default, Clone)]
pub struct Sample {
    pub seed: u64,
    pub backups: Vec<Backup>,
    /// Directory number, its node, and its files.
    pub directories: Vec<(Node, Vec<Expected>)>,
}

/// A file of a snapshot that did not come back: number of the backup, directory, name.
pub type Lost = (usize, usize, Vec<u8>);

fn node(name: &str, kind: NodeKind, number: usize) -> Node {
    let time = Timestamp::UNIX_EPOCH + SignedDuration::from_nanos(1_700_000_000_000_000_001 + number as i64);
    Node {
        name: name.as_bytes().to_vec(),
        kind,
        mode: 0o640 + number as u32 % 8,
        modified: time,
        accessed: time,
        changed: time,
        uid: 1000,
        gid: number as u32,
        user: "somebody".to_owned(),
        group: String::new(),
        inode: number as u64,
        device_id: 1,
        size: 0,
        links: 1,
        link_target: None,
        device: 0,
        xattrs: vec![(b"user.number".to_vec(), number.to_string().into_bytes())],
        content: Vec::new(),
        subtree: None,
    }
}

impl Sample {
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// A sample of so many backups in memory.
    pub fn make(seed: u64, backups: usize) -> (Self, Arc<MemoryStore>) {
        let store = MemoryStore::new();
        let mut sample = Self::new(seed);
        let repository = Repository::create(store.clone(), &password(), KeyStrength::Random).unwrap();
        for _ in 0..backups {
            sample.back_up(&repository).unwrap();
        }
        (sample, store)
    }

    /// The directories that a backup holds.
    fn window(backup: usize) -> std::ops::RangeInclusive<usize> {
        (backup + 1).saturating_sub(WINDOW)..=backup
    }

    /// The contents of directory `number`: one of a few blocks of which the middle one is shared by three directories, an
    /// empty one, and one that compresses. Few, since a check reads all of it and there are thousands of checks.
    fn contents(&self, number: usize) -> Vec<(&'static str, Vec<u8>)> {
        let seed = self.seed.wrapping_mul(1000) + number as u64 * 3;
        let text = format!("line of {number}\n").repeat(300).into_bytes();
        let shared = noise(self.seed.wrapping_mul(77) + number as u64 / 3, BLOCK);
        let blocks = [noise(seed + 2, BLOCK), shared, noise(seed + 3, 700)].concat();
        vec![("blocks", blocks), ("empty", Vec::new()), ("text", text)]
    }

    /// Makes the next backup. Nothing is noted when it fails.
    pub fn back_up(&mut self, repository: &Repository) -> Result<(), RepositoryError> {
        let number = self.directories.len();
        let writer = repository.writer(Arc::new(NoProgress))?;
        let mut files = Vec::new();
        for (index, (name, content)) in self.contents(number).into_iter().enumerate() {
            let stored = writer.store_content(&mut &content[..], Chunking::Fixed(BLOCK)).map_err(repository_error)?;
            let plain = node(name, NodeKind::File, number * 10 + index);
            let node = Node { size: content.len() as u64, content: stored.blobs, ..plain };
            files.push(Expected { node, content });
        }
        let subtree = writer.store_tree(files.iter().map(|file| file.node.clone()).collect())?;
        let directory = node(&format!("d{number:03}"), NodeKind::Directory, number);
        let directory = Node { subtree: Some(subtree), ..directory };
        let older = self.directories[*Self::window(number).start()..].iter().map(|(node, _)| node.clone());
        let tree = writer.store_tree(older.chain([directory.clone()]).collect())?;
        writer.finish()?;
        let time = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(480_000 + number as i64);
        let snapshot = repository.save_snapshot(&Snapshot {
            id: String::new(),
            time,
            tree,
            paths: vec!["/srv".to_owned()],
            hostname: "host".to_owned(),
            username: "somebody".to_owned(),
            uid: 1000,
            gid: 1000,
            tags: vec![format!("number={number}")],
            parent: None,
        })?;
        self.directories.push((directory, files));
        self.backups.push(Backup { snapshot, tree });
        Ok(())
    }

    /// The files of a backup.
    pub fn files_of(&self, backup: usize) -> impl Iterator<Item = Lost> {
        Self::window(backup).flat_map(move |number| {
            self.directories[number].1.iter().map(move |file| (backup, number, file.node.name.clone()))
        })
    }

    /// What must be lost with these blobs, directories and contents alike.
    pub fn lost_with(&self, blobs: &BTreeSet<BlobId>) -> BTreeSet<Lost> {
        let mut lost = BTreeSet::new();
        for (number, backup) in self.backups.iter().enumerate() {
            if blobs.contains(&backup.tree) {
                lost.extend(self.files_of(number));
                continue;
            }
            for directory in Self::window(number) {
                let (node, files) = &self.directories[directory];
                let subtree = node.subtree.is_some_and(|tree| blobs.contains(&tree));
                let gone = |file: &&Expected| subtree || file.node.content.iter().any(|id| blobs.contains(id));
                lost.extend(files.iter().filter(gone).map(|file| (number, directory, file.node.name.clone())));
            }
        }
        lost
    }

    /// Whether some root that is not gone leads to a directory: without one nobody knows its name any more.
    pub fn is_reachable(&self, directory: usize, gone: &BTreeSet<BlobId>) -> bool {
        let holds = |(number, backup): (usize, &Backup)| {
            Self::window(number).contains(&directory) && !gone.contains(&backup.tree)
        };
        self.backups.iter().enumerate().any(holds)
    }

    pub fn everything(&self) -> BTreeSet<Lost> {
        (0..self.backups.len()).flat_map(|backup| self.files_of(backup)).collect()
    }

    /// Restores all files of all backups. Gives those that were refused with a sentence.
    ///
    /// # Panics
    /// When anything comes back that is not what was stored: the one thing that must never be.
    pub fn restore(&self, store: Arc<dyn ObjectStore>) -> BTreeSet<Lost> {
        let opened = Repository::open(store, &password()).and_then(|repository| Ok((repository.reader()?, repository)));
        let Ok((reader, repository)) = opened.map_err(has_words) else { return self.everything() };
        let mut check =
            Restore { sample: self, reader, read: HashMap::new(), done: HashMap::new(), lost: BTreeSet::new() };
        for number in 0..self.backups.len() {
            check.backup(&repository, number);
        }
        check.lost
    }
}

fn repository_error(error: lifeboat::repository::ContentError) -> RepositoryError {
    match error {
        lifeboat::repository::ContentError::Repository(error) => error,
        lifeboat::repository::ContentError::Source(error) => panic!("a source in memory cannot fail: {error}"),
    }
}

/// Every refusal must say something to people.
fn has_words(error: RepositoryError) {
    let text = error.to_string();
    assert!(text.contains(' ') && !text.contains("Err(") && !text.contains("Some("), "{text:?} is no sentence");
}

struct Restore<'a> {
    sample: &'a Sample,
    reader: BlobReader,
    /// Blobs that were read already, and whether they came back.
    read: HashMap<BlobId, Option<Vec<u8>>>,
    /// Directories that were read already, and what of each is lost.
    done: HashMap<usize, Vec<Vec<u8>>>,
    lost: BTreeSet<Lost>,
}

impl Restore<'_> {
    fn backup(&mut self, repository: &Repository, number: usize) {
        let sample = self.sample;
        let backup = &sample.backups[number];
        let snapshot = repository.snapshot(&backup.snapshot).map_err(has_words);
        if let Ok(snapshot) = &snapshot {
            assert_eq!(snapshot.tree, backup.tree, "snapshot {number} leads to another tree and nothing was said");
        }
        let root = snapshot.and_then(|snapshot| self.reader.read_tree(&snapshot.tree).map_err(has_words));
        let Ok(root) = root else { return self.lost.extend(sample.files_of(number)) };
        let expected: Vec<&Node> = sample.directories[Sample::window(number)].iter().map(|(node, _)| node).collect();
        assert_eq!(root.iter().collect::<Vec<_>>(), expected, "the root of backup {number}, and nothing was said");
        for directory in Sample::window(number) {
            self.directory(number, directory);
        }
    }

    fn directory(&mut self, backup: usize, number: usize) {
        if !self.done.contains_key(&number) {
            let lost = self.lost_in(number);
            self.done.insert(number, lost);
        }
        self.lost.extend(self.done[&number].iter().map(|name| (backup, number, name.clone())));
    }

    /// Names of the files of a directory that do not come back.
    fn lost_in(&mut self, number: usize) -> Vec<Vec<u8>> {
        let (node, files) = &self.sample.directories[number];
        let Ok(nodes) = self.reader.read_tree(&node.subtree.unwrap()).map_err(has_words) else {
            return files.iter().map(|file| file.node.name.clone()).collect();
        };
        assert!(nodes.iter().eq(files.iter().map(|file| &file.node)), "directory {number} is another: {nodes:?}");
        let mut lost = Vec::new();
        for file in files {
            match self.content(&file.node.content) {
                Some(content) => assert!(content == file.content, "wrong bytes in {:?}", file.node.name),
                None => lost.push(file.node.name.clone()),
            }
        }
        lost
    }

    fn content(&mut self, blobs: &[BlobId]) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        for id in blobs {
            let reader = &self.reader;
            let read = self.read.entry(*id).or_insert_with(|| reader.read(BlobKind::Data, id).map_err(has_words).ok());
            content.extend_from_slice(read.as_ref()?);
        }
        Some(content)
    }
}

/// What a full verification says; an error of it, or of opening, is told as damage too.
pub fn verify(store: Arc<dyn ObjectStore>) -> Vec<String> {
    let full = VerifyDepth::Data { percent: 100, seed: 0 };
    let opened = Repository::open(store, &password());
    match opened.and_then(|repository| repository.verify(full, &NoProgress)) {
        Ok(report) => report.damage,
        Err(error) => vec![error.to_string()],
    }
}

/// The blobs that a pack or an index file names, read here with nothing of the library but its key.
pub fn blobs_named_in(repository: &Repository, key: &str, bytes: &[u8]) -> Result<BTreeSet<BlobId>, StoreError> {
    use lifeboat::repository::fuzzing;
    let mut ids = BTreeSet::new();
    if key.starts_with("data/") {
        let (rest, length) = bytes.split_last_chunk().unwrap();
        let header = rest[rest.len() - u32::from_le_bytes(*length) as usize..].to_vec();
        let plain = fuzzing::open(repository, header).unwrap();
        let mut rest = &plain[..];
        while let Some(&tag) = rest.first() {
            let entry = if tag < 2 { 37 } else { 41 };
            ids.insert(BlobId(rest[entry - 32..entry].try_into().unwrap()));
            rest = &rest[entry..];
        }
    } else if key.starts_with("index/") {
        let plain = fuzzing::open(repository, bytes.to_vec()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&zstd::decode_all(&plain[1..]).unwrap()).unwrap();
        let packs = json["packs"].as_array().unwrap().iter();
        let blobs = packs.flat_map(|pack| pack["blobs"].as_array().unwrap());
        ids.extend(blobs.map(|blob| BlobId::from_hex(blob["id"].as_str().unwrap()).unwrap()));
    }
    Ok(ids)
}

/// All objects by their kind: the part before the first slash.
pub fn by_kind(keys: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in keys {
        kinds.entry(key.split('/').next().unwrap().to_owned()).or_default().push(key.clone());
    }
    kinds
}
