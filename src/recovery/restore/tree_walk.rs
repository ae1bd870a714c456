//! Goes through the stored trees depth first, without recursion: makes directories, gathers files into batches and
//! sets everything else aside until all files stand.

use std::collections::HashSet;
use std::sync::Arc;

use super::contents::{Batch, FileJob};
use super::links::{Admission, Links};
use super::metadata::{self, Handle};
use super::name::EntryName;
use super::outcome::Trouble;
use super::selection::{Layout, Wanted};
use super::specials::Special;
use super::target::DirectoryId;
use super::work::{Place, Work};
use crate::ground::Result;
use crate::ground::byte_path::escape;
use crate::repository::{BlobId, Node, NodeKind};

/// Directories within directories; a deeper tree was made to exhaust something.
const DEPTH_MAX: usize = 20_000;

/// What is left to do for a directory when everything in it stands.
struct Finish {
    node: Option<Box<Node>>,
    reasons: Vec<String>,
}

/// A directory that is still to be made.
struct Child {
    place: Place,
    node: Box<Node>,
    wanted: Wanted,
    notes: Vec<String>,
}

/// A directory whose subdirectories are being made.
struct Frame {
    children: Vec<Child>,
    tree: Option<BlobId>,
}

/// Walks and remembers what comes later.
pub(super) struct Walk<'w, 'a> {
    work: &'w mut Work<'a>,
    batch: Batch,
    links: Links,
    later: Vec<Special>,
    /// By directory number.
    finish: Vec<Finish>,
    /// Trees from the top down to here: a tree within itself would never end.
    above: HashSet<BlobId>,
}

/// What the walk set aside.
pub(super) struct SetAside {
    pub(super) links: Links,
    pub(super) specials: Vec<Special>,
    directories: Vec<Finish>,
}

/// Makes all directories and files.
///
/// # Errors
/// When the target as a whole cannot be written.
pub(super) fn walk(work: &mut Work<'_>, layout: Layout, existing: &HashSet<Vec<u8>>) -> Result<SetAside> {
    let top = Finish { node: layout.node.map(Box::new), reasons: Vec::new() };
    let mut walk = Walk {
        work,
        batch: Batch::default(),
        links: Links::default(),
        later: Vec::new(),
        finish: vec![top],
        above: HashSet::from_iter(layout.tree),
    };
    let children = walk.take_in(0, &layout.entries, &layout.wanted, Some(existing))?;
    walk.descend(Frame { children, tree: layout.tree })?;
    walk.batch.write(walk.work, &mut walk.links)?;
    walk.links.link_waiting(walk.work, &mut walk.batch)?;
    Ok(SetAside { links: walk.links, specials: walk.later, directories: walk.finish })
}

impl Walk<'_, '_> {
    fn descend(&mut self, top: Frame) -> Result<()> {
        let mut stack = vec![top];
        while let Some(frame) = stack.last_mut() {
            if let Some(child) = frame.children.pop() {
                let too_deep = stack.len() >= DEPTH_MAX;
                stack.extend(self.make_directory(child, too_deep)?);
            } else if let Some(tree) = stack.pop().and_then(|frame| frame.tree) {
                self.above.remove(&tree);
            }
        }
        Ok(())
    }

    /// Makes a directory and takes in its entries.
    fn make_directory(&mut self, child: Child, too_deep: bool) -> Result<Option<Frame>> {
        let Child { place, node, wanted, mut notes } = child;
        let made = match self.work.directories.make(place.directory, place.name.clone(), place.existing) {
            Ok(made) => made,
            Err(Trouble::Entry(reason)) => {
                notes.push(format!("{reason}; nothing in it was restored"));
                self.work.missing(&place, &notes);
                return Ok(None);
            }
            Err(Trouble::Target(failure)) => {
                let path = self.work.path(place.directory, Some(place.name.as_bytes()));
                return Err(failure.context(format!("restoring {path}")));
            }
        };
        let subtree = node.subtree;
        let entries = if too_deep { Err("it lies deeper than any real tree".into()) } else { self.entries_of(subtree) };
        let entries = entries.unwrap_or_else(|reason: String| {
            self.work.outcome.damaged();
            notes.push(format!("{reason}; nothing in it was restored"));
            Arc::default()
        });
        self.finish.push(Finish { node: Some(node), reasons: notes });
        let children = self.take_in(made.id, &entries, &wanted, made.existing.as_ref())?;
        let tree = subtree.filter(|&tree| !children.is_empty() && self.above.insert(tree));
        Ok((!children.is_empty()).then_some(Frame { children, tree }))
    }

    fn entries_of(&self, subtree: Option<BlobId>) -> Result<Arc<Vec<Node>>, String> {
        let tree = subtree.ok_or("it has no list of entries")?;
        if self.above.contains(&tree) {
            return Err("it claims to contain itself".into());
        }
        self.work.trees.read(&tree).map_err(|error| format!("its list of entries cannot be read: {error}"))
    }

    /// Sorts a directory's entries: files into the batch, directories to be made, everything else for later.
    fn take_in(
        &mut self,
        directory: DirectoryId,
        nodes: &[Node],
        wanted: &Wanted,
        existing: Option<&HashSet<Vec<u8>>>,
    ) -> Result<Vec<Child>> {
        let mut children = Vec::new();
        let mut seen = HashSet::new();
        for node in nodes {
            let Some(wanted) = wanted.of(&node.name) else { continue };
            let name = match EntryName::new(&node.name) {
                Ok(name) if seen.insert(&node.name) => name,
                Ok(_) => {
                    self.refuse(directory, node, "its directory lists this name twice; the first was restored");
                    continue;
                }
                Err(reason) => {
                    self.refuse(directory, node, reason);
                    continue;
                }
            };
            let existing = existing.is_some_and(|names| names.contains(&node.name));
            let place = Place { directory, name, existing };
            if node.kind == NodeKind::Directory {
                children.push(Child { place, node: Box::new(node.clone()), wanted, notes: contradictions(node) });
            } else {
                self.take_entry(place, node)?;
            }
        }
        // Taken from the end: so they are made in their order.
        children.reverse();
        Ok(children)
    }

    fn refuse(&self, directory: DirectoryId, node: &Node, reason: &str) {
        let path = || format!("{}/{}", self.work.path(directory, None).trim_end_matches('/'), escape(&node.name));
        self.work.outcome.missing(path, &[reason.to_owned()]);
    }

    fn take_entry(&mut self, place: Place, node: &Node) -> Result<()> {
        let mut notes = contradictions(node);
        match node.kind {
            NodeKind::File => {
                let (admission, own) = self.links.admit_file(node);
                match admission {
                    Admission::Further(group) => self.links.wait(group, place),
                    Admission::First { group, note } => {
                        notes.extend(note);
                        let job = FileJob { place, node: own, group, notes };
                        self.batch.add(self.work, &mut self.links, job, &node.content);
                        if self.batch.is_full() {
                            self.batch.write(self.work, &mut self.links)?;
                        }
                    }
                }
            }
            // A socket is an address of a running program and has no content: its program makes it again.
            NodeKind::Socket => {}
            _ => self.later.push(Special { place, node: Arc::new(node.clone()), notes }),
        }
        Ok(())
    }
}

/// What an entry says that does not belong to its kind. It is restored by its kind, and this is named.
fn contradictions(node: &Node) -> Vec<String> {
    let mut found = Vec::new();
    if node.kind != NodeKind::Symlink && node.link_target.is_some() {
        found.push("its entry names a link target although it is no symlink; the target was ignored".into());
    }
    if node.kind != NodeKind::File && !node.content.is_empty() {
        found.push("its entry names content although it is no file; the content was ignored".into());
    }
    if node.kind != NodeKind::Directory && node.subtree.is_some() {
        found.push("its entry names a list of entries although it is no directory; the list was ignored".into());
    }
    found
}

/// Gives all directories their attributes, the deepest first, so that nothing changes a finished one.
///
/// # Errors
/// When the target as a whole cannot be written.
pub(super) fn finish_directories(work: &Work<'_>, set_aside: SetAside) -> Result<()> {
    for (number, finish) in set_aside.directories.into_iter().enumerate().rev() {
        let Ok(id) = DirectoryId::try_from(number) else { continue };
        let Finish { node: Some(node), mut reasons } = finish else { continue };
        match work.directories.open(id) {
            Ok(directory) => {
                let clean = work.directories.adopted(id) || work.directories.hands_down_acl(id);
                reasons.extend(metadata::apply(
                    Handle::Open(std::os::fd::AsFd::as_fd(&*directory)),
                    &node,
                    &work.rights,
                    clean,
                ));
                work.outcome.restored(0);
            }
            Err(Trouble::Entry(reason)) => reasons.push(reason),
            Err(Trouble::Target(failure)) => return Err(failure),
        }
        work.outcome.missing(|| work.path(id, None), &reasons);
    }
    Ok(())
}
