//! What snapshots lack, by path.
//!
//! One walk over all trees, each once, tells whether anything is missing. Only then each snapshot is walked alone, so that
//! a loss is named for every snapshot that has it.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::RepairReport;
use crate::ground::Progress;
use crate::ground::byte_path::escape;
use crate::repository::error::RepositoryError;
use crate::repository::index::Index;
use crate::repository::reader::BlobReader;
use crate::repository::tree::{BlobId, Node};
use crate::repository::{BlobKind, Inner, snapshot, unpacked};

/// Losses that are listed; more are counted.
const LISTED_MAX: usize = 10_000;

/// A file or directory that a snapshot cannot give whole any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Whole id.
    pub snapshot: String,
    /// Escaped.
    pub path: String,
    pub why: String,
}

/// Finds losses and enters them in the report.
pub(super) fn find(
    inner: &Arc<Inner>,
    index: Index,
    progress: &dyn Progress,
    report: &mut RepairReport,
) -> Result<(), RepositoryError> {
    progress.begin("looking for what snapshots lack", None);
    let reader = BlobReader::new(Arc::clone(inner), index);
    let mut roots = Vec::new();
    for (id, _) in unpacked::list(inner, snapshot::SNAPSHOTS)?.0 {
        match snapshot::load(inner, &id) {
            Ok(snapshot) => roots.push((snapshot.id, snapshot.tree)),
            Err(RepositoryError::Damaged(why)) => report.damage.push(why),
            Err(error) => return Err(error),
        }
    }
    let (mut seen, mut any) = (HashSet::new(), false);
    for (_, root) in &roots {
        walk(&reader, *root, &mut seen, &mut |_, _| any = true);
    }
    if any {
        for (snapshot, root) in &roots {
            walk(&reader, *root, &mut HashSet::new(), &mut |path, why| {
                if report.losses.len() < LISTED_MAX {
                    report.losses.push(Loss { snapshot: snapshot.clone(), path: escape(path), why });
                } else {
                    report.more_losses += 1;
                }
            });
        }
    }
    progress.end();
    Ok(())
}

/// Hears of every path below a tree that is not whole, and why.
///
/// Trees that were seen are passed over.
fn walk(reader: &BlobReader, root: BlobId, seen: &mut HashSet<BlobId>, lost: &mut dyn FnMut(&[u8], String)) {
    let mut ahead = vec![(root, Vec::new())];
    while let Some((tree, path)) = ahead.pop() {
        // A directory that is not readable is told at each of its places.
        let nodes = match reader.read_tree(&tree) {
            Ok(_) if !seen.insert(tree) => continue,
            Ok(nodes) => nodes,
            Err(error) => {
                let place: &[u8] = if path.is_empty() { b"/" } else { &path };
                lost(place, format!("the directory cannot be read: {error}"));
                continue;
            }
        };
        for node in nodes {
            let below = [&path[..], b"/", &node.name].concat();
            let missing = missing_of(reader, &node);
            if missing > 0 {
                lost(&below, format!("{missing} of its {} parts are lost", node.content.len()));
            }
            ahead.extend(node.subtree.map(|subtree| (subtree, below)));
        }
    }
}

fn missing_of(reader: &BlobReader, node: &Node) -> usize {
    node.content.iter().filter(|id| reader.length(BlobKind::Data, id).is_none()).count()
}
