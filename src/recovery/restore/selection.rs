//! Which part of a point is asked for, and where it comes to lie below the target.

use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::RestoreRequest;
use super::stored::Trees;
use crate::ground::byte_path::escape_path;
use crate::ground::{Failure, Result};
use crate::repository::{BlobId, Node, NodeKind};

/// What is wanted of one directory. Flat, so that a path of any depth is neither walked nor dropped recursively.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything in it.
    All,
    /// The entries named by component `depth` of the paths in `range`, which are sorted and all longer than `depth`.
    Only { paths: Arc<Vec<Vec<Vec<u8>>>>, range: Range<usize>, depth: usize },
}

impl Wanted {
    fn only(mut paths: Vec<Vec<Vec<u8>>>) -> Self {
        paths.sort();
        if paths.first().is_none_or(Vec::is_empty) {
            return Self::All;
        }
        let range = 0..paths.len();
        Self::Only { paths: Arc::new(paths), range, depth: 0 }
    }

    /// What is wanted of an entry; `None` when the entry is not wanted.
    pub(super) fn of(&self, name: &[u8]) -> Option<Wanted> {
        let Self::Only { paths, range, depth } = self else { return Some(Self::All) };
        let within = &paths[range.clone()];
        let start = range.start + within.partition_point(|path| path[*depth].as_slice() < name);
        let end = range.start + within.partition_point(|path| path[*depth].as_slice() <= name);
        if start == end {
            return None;
        }
        // The shortest path sorts first; when it ends here, everything below is wanted.
        if paths[start].len() == depth + 1 {
            return Some(Self::All);
        }
        Some(Self::Only { paths: Arc::clone(paths), range: start..end, depth: depth + 1 })
    }
}

/// What comes directly into the target.
#[derive(Debug)]
pub(super) struct Layout {
    /// Absolute path in the point that the target stands for.
    pub(super) prefix: PathBuf,
    pub(super) entries: Arc<Vec<Node>>,
    /// Tree of `entries`; none for a root that is no directory.
    pub(super) tree: Option<BlobId>,
    /// The target's own attributes.
    pub(super) node: Option<Node>,
    pub(super) wanted: Wanted,
}

/// Finds what was asked for. Reads trees, writes nothing.
pub(super) fn layout(trees: &Trees<'_>, request: &RestoreRequest) -> Result<Layout> {
    let mut layout = match &request.roots[..] {
        [root] => single_root(trees, request, root)?,
        _ => whole_tree(trees, request, PathBuf::from("/"), None, request.tree)?,
    };
    if !request.only.is_empty() {
        let paths = request.only.iter().map(|path| select(trees, request, &layout, path)).collect::<Result<_>>()?;
        layout.wanted = Wanted::only(paths);
    }
    Ok(layout)
}

fn whole_tree(
    trees: &Trees<'_>,
    request: &RestoreRequest,
    prefix: PathBuf,
    node: Option<Node>,
    tree: BlobId,
) -> Result<Layout> {
    let entries = trees.read(&tree).map_err(|error| {
        Failure::failed(format!("cannot restore {}: {error}", describe(&request.roots)))
            .hint("run `lifeboat verify` on the system, and restore another point")
    })?;
    Ok(Layout { prefix, entries, tree: Some(tree), node, wanted: Wanted::All })
}

fn single_root(trees: &Trees<'_>, request: &RestoreRequest, root: &Path) -> Result<Layout> {
    let names = components(root)?;
    let Some(node) = descend(trees, request, request.tree, &names)? else {
        let missing = format!("the point does not hold its own root {}", escape_path(root));
        return if names.is_empty() {
            whole_tree(trees, request, PathBuf::from("/"), None, request.tree)
        } else {
            Err(Failure::failed(missing).hint("run `lifeboat verify` on the system, and restore another point"))
        };
    };
    match (node.kind, node.subtree) {
        (NodeKind::Directory, Some(tree)) => whole_tree(trees, request, root.to_owned(), Some(node), tree),
        (NodeKind::Directory, None) => {
            Err(Failure::failed(format!("the point is damaged: {} has no list of entries", escape_path(root))))
        }
        _ => {
            let prefix = root.parent().unwrap_or(Path::new("/")).to_owned();
            Ok(Layout { prefix, entries: Arc::new(vec![node]), tree: None, node: None, wanted: Wanted::All })
        }
    }
}

/// Follows names through directories. `None` when a name is not there, or when there is no name.
fn descend(trees: &Trees<'_>, request: &RestoreRequest, tree: BlobId, names: &[Vec<u8>]) -> Result<Option<Node>> {
    let mut tree = Some(tree);
    let mut found = None;
    for name in names {
        let Some(id) = tree else { return Ok(None) };
        let nodes = trees
            .read(&id)
            .map_err(|error| Failure::failed(format!("cannot look into {}: {error}", describe(&request.roots))))?;
        let Some(node) = nodes.iter().find(|node| node.name == *name) else { return Ok(None) };
        tree = node.subtree.filter(|_| node.kind == NodeKind::Directory);
        found = Some(node.clone());
    }
    Ok(found)
}

/// One path of `only` as names below the target, after proving that it names something.
fn select(trees: &Trees<'_>, request: &RestoreRequest, layout: &Layout, path: &Path) -> Result<Vec<Vec<u8>>> {
    let nothing = || {
        Failure::wrong_input(format!("{} names nothing in the point", escape_path(path)))
            .hint("list the point's content with `lifeboat ls`")
    };
    let absolute = match (&request.roots[..], path.is_absolute()) {
        (_, true) => path.to_owned(),
        ([root], false) => root.join(path),
        _ => {
            return Err(Failure::wrong_input(format!(
                "{} is relative, but the point has several roots",
                escape_path(path)
            ))
            .hint("write the absolute path that the entry had"));
        }
    };
    let (wanted, prefix) = (components(&absolute)?, components(&layout.prefix)?);
    let Some(rest) = wanted.strip_prefix(&prefix[..]) else {
        // A directory above the root names all that the point holds of it.
        return if prefix.starts_with(&wanted) { Ok(Vec::new()) } else { Err(nothing()) };
    };
    let exists = match (rest, layout.tree) {
        ([], _) => true,
        (rest, Some(tree)) => descend(trees, request, tree, rest)?.is_some(),
        ([name], None) => layout.entries.iter().any(|node| node.name == *name),
        _ => false,
    };
    if exists { Ok(rest.to_vec()) } else { Err(nothing()) }
}

/// The names of a path, whether absolute or not; `..` is refused, since the stored tree knows no such entry.
fn components(path: &Path) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.as_bytes().to_vec()),
            Component::ParentDir => {
                return Err(Failure::wrong_input(format!("{} holds `..`", escape_path(path)))
                    .hint("write the path without `..`"));
            }
            _ => {}
        }
    }
    Ok(names)
}

fn describe(roots: &[PathBuf]) -> String {
    let named: Vec<_> = roots.iter().take(3).map(|root| escape_path(root)).collect();
    if named.is_empty() { "the point".into() } else { named.join(", ") }
}
