//! Hard links: the first name of a file is restored, the others are linked to it by descriptor.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, CWD, OFlags};
use rustix::io::{self, Errno};

use super::contents::{Batch, FileJob};
use super::outcome::Trouble;
use super::target::{Identity, cannot};
use super::work::{Place, Work};
use crate::ground::Result;
use crate::repository::{Node, NodeKind};

/// Different files that claim the same inode and still are told apart; honest points have one.
const GROUPS_PER_INODE_MAX: usize = 8;

/// Number of a group of names of one object.
pub(super) type GroupId = usize;

/// What became of the first name.
#[derive(Debug, Clone)]
pub(super) enum FirstEnd {
    Restored {
        place: Place,
        identity: Identity,
    },
    /// The stored content is not whole: no other name can do better.
    Damaged(String),
    /// The target did not take it there; another name may fare better.
    Refused(String),
}

struct Group {
    node: Arc<Node>,
    end: Option<FirstEnd>,
}

/// How an entry is to be made.
pub(super) enum Admission {
    /// By itself; others may link to it.
    First { group: Option<GroupId>, note: Option<String> },
    /// As a further name.
    Further(GroupId),
}

/// All objects with several names, and the names that wait for their first.
#[derive(Default)]
pub(super) struct Links {
    by_inode: HashMap<(u64, u64), Vec<GroupId>>,
    groups: Vec<Group>,
    waiting: Vec<(GroupId, Place)>,
}

impl Links {
    /// As [`Links::admit`], for a file; also gives what is kept of its entry: all of it only when other names may
    /// have to be compared with it.
    pub(super) fn admit_file(&mut self, node: &Node) -> (Admission, Arc<Node>) {
        let own = Arc::new(if node.links <= 1 { attributes(node) } else { node.clone() });
        (self.admit(&own), own)
    }

    /// Decides whether an entry is the first name of its object.
    pub(super) fn admit(&mut self, node: &Arc<Node>) -> Admission {
        if node.links <= 1 {
            return Admission::First { group: None, note: None };
        }
        let known = self.by_inode.entry((node.device_id, node.inode)).or_default();
        if let Some(&group) = known.iter().find(|&&group| same_object(&self.groups[group].node, node)) {
            return Admission::Further(group);
        }
        let note = (!known.is_empty())
            .then(|| "its other names were saved with other content or attributes; it is restored by itself".into());
        if known.len() >= GROUPS_PER_INODE_MAX {
            return Admission::First { group: None, note };
        }
        let group = self.groups.len();
        known.push(group);
        self.groups.push(Group { node: Arc::clone(node), end: None });
        Admission::First { group: Some(group), note }
    }

    /// Lets a further name wait until its first is restored.
    pub(super) fn wait(&mut self, group: GroupId, place: Place) {
        self.waiting.push((group, place));
    }

    /// Notes what became of the first name.
    pub(super) fn end(&mut self, group: Option<GroupId>, end: FirstEnd) {
        if let Some(group) = group {
            self.groups[group].end = Some(end);
        }
    }

    /// What became of the first name, once it was tried.
    pub(super) fn first(&self, group: GroupId) -> Option<&FirstEnd> {
        self.groups[group].end.as_ref()
    }

    /// Links all waiting names. Where the first name could not be written or cannot be linked, the next one is
    /// restored by itself.
    ///
    /// # Errors
    /// When the target as a whole cannot be written.
    pub(super) fn link_waiting(&mut self, work: &Work<'_>, batch: &mut Batch) -> Result<()> {
        while !self.waiting.is_empty() {
            for (group, place) in std::mem::take(&mut self.waiting) {
                self.link_one(work, batch, group, place)?;
                if batch.is_full() {
                    batch.write(work, self)?;
                }
            }
            batch.write(work, self)?;
        }
        Ok(())
    }

    fn link_one(&mut self, work: &Work<'_>, batch: &mut Batch, group: GroupId, place: Place) -> Result<()> {
        let node = Arc::clone(&self.groups[group].node);
        match self.groups[group].end.clone() {
            None => self.waiting.push((group, place)),
            Some(FirstEnd::Damaged(reason)) => {
                work.outcome.damaged();
                work.missing(&place, &[reason]);
            }
            Some(FirstEnd::Refused(_)) => {
                self.groups[group].end = None;
                let job = FileJob { place, node: Arc::clone(&node), group: Some(group), notes: Vec::new() };
                batch.add(work, self, job, &node.content);
            }
            Some(FirstEnd::Restored { place: first, identity }) => match hard_link(work, &first, identity, &place) {
                Ok(()) => {
                    work.outcome.restored(0);
                    work.progress.advance(node.size);
                }
                Err(Trouble::Entry(reason)) => {
                    let notes = vec![not_linked(&reason)];
                    let job = FileJob { place, node: Arc::clone(&node), group: None, notes };
                    batch.add(work, self, job, &node.content);
                }
                Err(Trouble::Target(failure)) => return Err(failure),
            },
        }
        Ok(())
    }
}

/// The sentence for a name that could not be linked.
pub(super) fn not_linked(reason: &str) -> String {
    format!("it could not be hard-linked to its other names ({reason}) and is restored by itself")
}

/// An entry without its name and content: tens of thousands of them are held at a time.
fn attributes(node: &Node) -> Node {
    Node {
        name: Vec::new(),
        user: String::new(),
        group: String::new(),
        link_target: None,
        xattrs: node.xattrs.clone(),
        content: Vec::new(),
        ..*node
    }
}

/// Two entries that say the same of everything but their name.
fn same_object(one: &Node, other: &Node) -> bool {
    let NodeKind::File = one.kind else {
        return one.kind == other.kind
            && one.link_target == other.link_target
            && one.device == other.device
            && same_attributes(one, other);
    };
    other.kind == NodeKind::File
        && one.size == other.size
        && one.content == other.content
        && same_attributes(one, other)
}

fn same_attributes(one: &Node, other: &Node) -> bool {
    (one.mode, one.uid, one.gid, one.modified) == (other.mode, other.uid, other.gid, other.modified)
        && one.xattrs == other.xattrs
}

/// Gives an object of this restore a further name. The object is found by descriptor and proved to be the one that
/// was restored; no link is followed.
pub(super) fn hard_link(work: &Work<'_>, first: &Place, identity: Identity, place: &Place) -> Result<(), Trouble> {
    let from = work.directories.open(first.directory)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let object = fs::openat(&from, first.name.as_bytes(), flags, fs::Mode::empty())
        .map_err(|errno| cannot("be linked", errno))?;
    let stat = fs::fstat(&object).map_err(|errno| cannot("be linked", errno))?;
    if Identity::of(&stat) != identity {
        return Err(Trouble::Entry("somebody replaced the other name during the restore".into()));
    }
    let at = work.directories.open(place.directory)?;
    let ((), temporary) =
        work.directories.place(at.as_fd(), &place.name, place.existing, |name| link_object(&object, &at, name))?;
    match temporary {
        Some(temporary) => work.directories.settle(at.as_fd(), &temporary, &place.name),
        None => Ok(()),
    }
}

fn link_object(object: &impl AsFd, at: &impl AsFd, name: &[u8]) -> io::Result<()> {
    let magic_link = format!("/proc/self/fd/{}", object.as_fd().as_raw_fd());
    match fs::linkat(CWD, magic_link, at, name, AtFlags::SYMLINK_FOLLOW) {
        // Without /proc a privileged process links the descriptor itself.
        Err(Errno::NOENT) => fs::linkat(object, "", at, name, AtFlags::EMPTY_PATH),
        result => result,
    }
}
