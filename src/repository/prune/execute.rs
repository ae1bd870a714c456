//! Carrying out a plan. The order of writes is what keeps everybody safe; a kill between any two leaves a state that the
//! next prune understands.
//!
//! Mark: copies of used blobs and their index; the marks; the rest of the index files that name marked packs; then the old
//! index files go, those with marks first. As long as an old index file names a pack, its mark is void.
//! Sweep: packs that are needed again go into the index; the others are deleted; then the marks go.

use std::collections::HashSet;

use jiff::Timestamp;

use super::plan::{Decision, Verdict};
use super::survey::Survey;
use crate::ground::Progress;
use crate::repository::error::RepositoryError;
use crate::repository::index_file::{self, NamedPack, ObjectNote};
use crate::repository::lock::LockGuard;
use crate::repository::repack::Repacker;
use crate::repository::tree::BlobId;
use crate::repository::{Inner, commit, pack, rewrite, snapshot};

/// Index files that name fewer packs than this are small...
const SMALL_OBJECT: usize = 64;
/// ...and are merged when there are more of them than this: each costs every later command a request.
const SMALL_OBJECTS_MAX: usize = 100;
/// Between so many deletions the lock is looked at again.
const DELETIONS_PER_LOOK: usize = 64;

/// restic knows nothing of marks: what it is storing now may rely on a pack that would be marked.
pub(super) fn refuse_foreign(guard: &LockGuard, now: Timestamp) -> Result<(), RepositoryError> {
    match guard.foreign_user(now)? {
        None => Ok(()),
        Some(who) => Err(RepositoryError::Locked(format!(
            "another program is using the repository ({who}) and knows nothing of marked packs; prune when it has ended"
        ))),
    }
}

/// All that an execution needs.
pub(super) struct Work<'a> {
    pub(super) inner: &'a Inner,
    pub(super) guard: &'a LockGuard,
    pub(super) survey: &'a Survey,
    pub(super) verdicts: &'a [Verdict],
    pub(super) now: Timestamp,
    pub(super) progress: &'a dyn Progress,
}

impl Work<'_> {
    fn has(&self, number: usize, decisions: &[Decision]) -> bool {
        self.verdicts.get(number).is_some_and(|verdict| decisions.contains(&verdict.decision))
    }

    /// Names of the packs with one of these decisions.
    fn packs(&self, decisions: &[Decision]) -> HashSet<BlobId> {
        let all = self.survey.packs.iter().enumerate();
        all.filter(|(number, _)| self.has(*number, decisions)).map(|(_, pack)| pack.id).collect()
    }

    fn blobs(&self, only_chosen: bool, decisions: &[Decision]) -> Vec<NamedPack> {
        self.survey.blobs(only_chosen, |number| self.has(number, decisions))
    }

    /// Takes packs out of the index and lists them as to be deleted.
    pub(super) fn mark(&self) -> Result<(), RepositoryError> {
        self.put_back()?;
        self.repack()?;
        let leaving = self.packs(&[Decision::Mark, Decision::Repack]);
        let back = self.packs(&[Decision::PutBack]);
        let old = self.objects_to_replace(&leaving, &back);
        let mut marks = self.blobs(false, &[Decision::Mark, Decision::Repack]);
        marks.extend(self.still_marked(&old, &leaving, &back)?);
        for file in rewrite::in_files(&marks) {
            index_file::save_marks(self.inner, file, self.now)?;
        }
        rewrite::write_rest(self.inner, &old, &leaving)?;
        refuse_foreign(self.guard, self.now)?;
        rewrite::remove(self.inner, &old, self.guard)?;
        self.settle(&marks)
    }

    /// Index files that name a leaving pack, that mark a pack which is named or leaves now, or that are superseded; and
    /// small ones, when they are many.
    fn objects_to_replace(&self, leaving: &HashSet<BlobId>, back: &HashSet<BlobId>) -> Vec<&ObjectNote> {
        let objects = &self.survey.objects;
        let named: HashSet<BlobId> = (objects.iter())
            .filter(|object| !object.superseded)
            .flat_map(|object| object.packs.iter().copied())
            .collect();
        let void = |pack: &BlobId| named.contains(pack) || leaving.contains(pack) || back.contains(pack);
        let is_small = |object: &&ObjectNote| !object.packs.is_empty() && object.packs.len() < SMALL_OBJECT;
        let many_small = objects.iter().filter(is_small).count() > SMALL_OBJECTS_MAX;
        let is_old = |object: &&ObjectNote| {
            object.superseded
                || (many_small && is_small(object))
                || object.packs.iter().any(|pack| leaving.contains(pack))
                || object.marks.iter().any(void)
        };
        if objects.iter().any(|object| !object.superseded && is_old(&object)) {
            objects.iter().filter(is_old).collect()
        } else {
            Vec::new()
        }
    }

    /// Marks in replaced index files that still count. Their margin begins anew.
    fn still_marked(
        &self,
        old: &[&ObjectNote],
        leaving: &HashSet<BlobId>,
        back: &HashSet<BlobId>,
    ) -> Result<Vec<NamedPack>, RepositoryError> {
        let counts = self.packs(&[Decision::Wait, Decision::Delete]);
        let mut marks = Vec::new();
        for object in old.iter().filter(|object| !object.superseded && !object.marks.is_empty()) {
            let marked = rewrite::load_listed(self.inner, &object.id)?.marked;
            marks.extend(
                marked
                    .into_iter()
                    .filter(|(pack, _)| counts.contains(pack) && !leaving.contains(pack) && !back.contains(pack)),
            );
        }
        Ok(marks)
    }

    fn put_back(&self) -> Result<(), RepositoryError> {
        let packs = self.blobs(false, &[Decision::PutBack]);
        rewrite::in_files(&packs).into_iter().try_for_each(|file| index_file::save_proven(self.inner, file).map(drop))
    }

    fn repack(&self) -> Result<(), RepositoryError> {
        let packs = self.blobs(true, &[Decision::Repack]);
        let bytes = packs.iter().flat_map(|(_, blobs)| blobs).map(|entry| u64::from(entry.length)).sum();
        self.progress.begin("copying what is used into new packs", Some(bytes));
        let mut repacker = Repacker::new(self.inner);
        let copied = (packs.iter())
            .flat_map(|(pack, blobs)| blobs.iter().map(move |entry| (pack, entry)))
            .try_for_each(|(pack, entry)| {
                self.progress.advance(u64::from(entry.length));
                repacker.copy(pack, entry)
            });
        let finished = copied.and_then(|()| repacker.finish());
        self.progress.end();
        finished.map(drop)
    }

    /// Looks once more: whatever somebody else did meanwhile, everything used is named by the index in the end. A snapshot
    /// that came since the survey was either saved before this look, or its writer sees what became of the index.
    fn settle(&self, marks: &[NamedPack]) -> Result<(), RepositoryError> {
        let snapshots = snapshot::load_all(self.inner)?.into_iter();
        let fresh = snapshots.filter(|snapshot| !self.survey.snapshots.contains(&snapshot.id));
        let fresh: Vec<BlobId> = fresh.map(|snapshot| snapshot.tree).collect();
        if !fresh.is_empty() {
            commit::put_back_for(self.inner, &fresh)?;
        }
        let stored = index_file::load(self.inner, false)?.index;
        let mut missing: HashSet<usize> = self.survey.not_held_by(&stored).into_iter().collect();
        let foreign = refuse_foreign(self.guard, self.now);
        if foreign.is_err() {
            // It may have read the index before the packs were taken out.
            let marked: HashSet<&BlobId> = marks.iter().map(|(pack, _)| pack).collect();
            let numbers = self.survey.packs.iter().enumerate();
            missing.extend(numbers.filter(|(_, pack)| marked.contains(&pack.id)).map(|(number, _)| number));
        }
        let back = self.survey.blobs(false, |number| missing.contains(&number));
        for file in rewrite::in_files(&back) {
            index_file::save_proven(self.inner, file)?;
        }
        foreign
    }

    /// Deletes packs that were marked long enough ago and that nobody needs.
    pub(super) fn sweep(&self) -> Result<(), RepositoryError> {
        self.put_back()?;
        let doomed: Vec<BlobId> = self.packs(&[Decision::Delete]).into_iter().collect();
        self.progress.begin("removing packs", None);
        let removed = doomed.chunks(DELETIONS_PER_LOOK).try_for_each(|some| self.delete(some));
        self.progress.end();
        removed?;
        self.clear_marks()
    }

    fn delete(&self, packs: &[BlobId]) -> Result<(), RepositoryError> {
        self.guard.insist()?;
        for pack in packs {
            self.inner.store.delete(&pack::key_of(pack))?;
        }
        Ok(())
    }

    /// Removes marks of packs that are gone or named again.
    fn clear_marks(&self) -> Result<(), RepositoryError> {
        let waiting = self.packs(&[Decision::Wait]);
        let over = |object: &&ObjectNote| {
            !object.superseded && !object.marks.is_empty() && !object.marks.iter().all(|pack| waiting.contains(pack))
        };
        let mut old: Vec<&ObjectNote> = self.survey.objects.iter().filter(over).collect();
        if old.is_empty() {
            return Ok(());
        }
        let left = self.still_marked(&old, &HashSet::new(), &self.packs(&[Decision::Delete]))?;
        for file in rewrite::in_files(&left) {
            index_file::save_marks(self.inner, file, self.now)?;
        }
        rewrite::write_rest(self.inner, &old, &HashSet::new())?;
        old.extend(self.survey.objects.iter().filter(|object| object.superseded));
        rewrite::remove(self.inner, &old, self.guard)
    }
}
