//! What actors do on the [`super::stage`]: back up, restore, and what they find when they begin.

use std::sync::Arc;

use jiff::SignedDuration;

use super::stage::{Blobs, Stage, now};
use crate::ground::{NoProgress, Secret};
use crate::repository::index_file::INDEXES;
use crate::repository::tree::{BlobId, Node, NodeKind};
use crate::repository::{BlobKind, Chunking, KeyStrength, Repository, RepositoryError, Snapshot};
use crate::site::ObjectStore;

fn node(name: &str, kind: NodeKind, content: Vec<BlobId>, size: u64, subtree: Option<BlobId>) -> Node {
    let time = now();
    Node {
        name: name.as_bytes().to_vec(),
        kind,
        mode: 0o644,
        modified: time,
        accessed: time,
        changed: time,
        uid: 0,
        gid: 0,
        user: String::new(),
        group: String::new(),
        inode: 1,
        device_id: 1,
        size,
        links: 1,
        link_target: None,
        device: 0,
        xattrs: Vec::new(),
        content,
        subtree,
    }
}

/// What the file of this number holds.
pub(super) fn content(number: usize) -> Vec<u8> {
    format!("the content of file {number}, again and again {number}").repeat(3).into_bytes()
}

/// Stores files of these numbers in a directory below another; the tree.
pub(super) fn store(stage: &Stage, repository: &Repository, files: &[usize]) -> Result<BlobId, RepositoryError> {
    let writer = repository.writer(Arc::new(NoProgress))?;
    let (mut nodes, mut blobs) = (Vec::new(), Blobs::new());
    for number in files {
        let plain = content(*number);
        let stored = writer.store_content(&mut &plain[..], Chunking::Content).unwrap();
        blobs.extend(stored.blobs.iter().map(|id| (BlobKind::Data, *id)));
        nodes.push(node(&format!("f{number}"), NodeKind::File, stored.blobs, plain.len() as u64, None));
    }
    let below = writer.store_tree(nodes)?;
    let tree = writer.store_tree(vec![node("d", NodeKind::Directory, Vec::new(), 0, Some(below))])?;
    blobs.extend([(BlobKind::Tree, below), (BlobKind::Tree, tree)]);
    writer.finish()?;
    stage.learn(tree, blobs);
    Ok(tree)
}

pub(super) fn draft(tree: BlobId) -> Snapshot {
    Snapshot {
        id: String::new(),
        time: now(),
        tree,
        paths: vec!["/d".to_owned()],
        hostname: "h".to_owned(),
        username: String::new(),
        uid: 0,
        gid: 0,
        tags: Vec::new(),
        parent: None,
    }
}

/// A backup as a run does it.
pub(super) fn back_up(stage: &Stage, repository: &Repository, files: &[usize]) -> Result<(), RepositoryError> {
    let guard = repository.lock_shared(now())?;
    let tree = store(stage, repository, files)?;
    repository.commit_snapshot(&draft(tree), &guard, now())?;
    stage.record(tree);
    Ok(())
}

/// Reads everything of a tree and compares.
pub(super) fn restore(repository: &Repository, tree: &BlobId) -> Result<(), RepositoryError> {
    let reader = repository.reader()?;
    for directory in reader.read_tree(tree)? {
        for file in reader.read_tree(&directory.subtree.unwrap())? {
            let mut plain = Vec::new();
            for id in &file.content {
                plain.extend(reader.read(BlobKind::Data, id)?);
            }
            let number = String::from_utf8(file.name[1..].to_vec()).unwrap().parse().unwrap();
            assert_eq!(plain, content(number));
        }
    }
    Ok(())
}

/// How a play begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Garbage of several kinds, nothing marked.
    Garbage,
    /// The same, marked long ago.
    MarkedLongAgo,
    /// The same, marked just now.
    MarkedJustNow,
}

/// Seconds that a mark has to be old in these tests.
pub(super) const MARGIN: i64 = 10_000;

pub(super) fn rules() -> super::super::Rules {
    super::super::Rules { margin: SignedDuration::from_secs(MARGIN), ..super::super::Rules::default() }
}

/// A repository with a point that is kept, packs that are used in part or not at all, and what a killed backup left.
pub(super) fn base(beginning: Beginning) -> Arc<Stage> {
    let stage = Stage::new();
    let repository = Repository::create(stage.aside(), &Secret::new("p"), KeyStrength::Random).unwrap();
    stage.know(&repository);
    stage.set_clock(-1_000_000);
    let writer = repository.writer(Arc::new(NoProgress)).unwrap();
    for number in [0, 1, 2] {
        writer.store_content(&mut &content(number)[..], Chunking::Content).unwrap();
    }
    writer.finish().unwrap();
    let kept = store(&stage, &repository, &[0, 1]).unwrap();
    repository.save_snapshot(&draft(kept)).unwrap();
    stage.record(kept);
    store(&stage, &repository, &[2]).unwrap();
    store(&stage, &repository, &[3]).unwrap();
    let before = stage.keys(INDEXES);
    store(&stage, &repository, &[4]).unwrap();
    let killed = stage.keys(INDEXES).into_iter().find(|key| !before.contains(key)).unwrap();
    stage.aside().delete(&killed).unwrap();
    if beginning != Beginning::Garbage {
        let long_ago = if beginning == Beginning::MarkedLongAgo { MARGIN * 5 } else { 50 };
        stage.set_clock(-long_ago);
        let report = repository.prune(&rules(), now(), &NoProgress).unwrap();
        assert!(report.total(super::super::Decision::Mark).0 >= 3, "{report:?}");
        assert!(report.total(super::super::Decision::Repack).0 >= 1, "{report:?}");
    }
    stage.set_clock(0);
    assert_eq!(stage.violations(), Vec::<String>::new());
    stage
}

/// One point, and packs that no snapshot needs at all.
pub(super) fn base_with_whole_garbage() -> Arc<Stage> {
    let stage = Stage::new();
    let repository = Repository::create(stage.aside(), &Secret::new("p"), KeyStrength::Random).unwrap();
    stage.know(&repository);
    stage.set_clock(-1_000_000);
    let kept = store(&stage, &repository, &[0, 1]).unwrap();
    repository.save_snapshot(&draft(kept)).unwrap();
    stage.record(kept);
    store(&stage, &repository, &[3]).unwrap();
    stage.set_clock(0);
    stage.copy()
}
