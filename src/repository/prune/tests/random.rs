//! Random interleavings of the real code: two prunes, two backups and a restore, with machines that sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::plays::{self, Beginning, MARGIN, rules};
use super::stage::{Stage, now};
use crate::ground::NoProgress;
use crate::repository::{Repository, RepositoryError, VerifyDepth};

/// A small generator, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

fn seeds() -> u64 {
    match std::env::var_os("LIFEBOAT_LONG") {
        Some(_) => 50_000,
        None => 2_000,
    }
}

/// Prunes as often as this; somebody else's lock may forbid it.
fn prune(stage: &Stage, repository: &Repository, times: usize) {
    for _ in 0..times {
        match repository.prune(&rules(), now(), &NoProgress) {
            Ok(_) | Err(RepositoryError::Locked(_)) => {}
            Err(error) => stage.violation(format!("prune: {error}")),
        }
    }
}

/// One play; gives the number of points that were made.
fn play(seed: u64, bases: &[Arc<Stage>]) -> usize {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let stage = bases[random.below(bases.len())].copy();
    let sleep_at = (random.below(3) == 0).then(|| random.below(120));
    let jump = [0, MARGIN * 3][random.below(2)];
    if sleep_at.is_some() {
        stage.judge_only_recorded();
    }
    let backup = |random: &mut Random| -> Box<dyn FnOnce(Repository) + Send> {
        let files: Vec<usize> = (0..6).filter(|_| random.below(2) == 0).collect();
        let stage = Arc::clone(&stage);
        Box::new(move |repository| match plays::back_up(&stage, &repository, &files) {
            Ok(()) | Err(RepositoryError::Locked(_)) => {}
            Err(RepositoryError::Damaged(_)) if sleep_at.is_some() => {}
            Err(error) => stage.violation(format!("backup: {error}")),
        })
    };
    let pruner = |times| -> Box<dyn FnOnce(Repository) + Send> {
        let stage = Arc::clone(&stage);
        Box::new(move |repository| prune(&stage, &repository, times))
    };
    let reading = Arc::clone(&stage);
    let restore = Box::new(move |repository: Repository| {
        for tree in reading.recorded() {
            if let Err(error) = plays::restore(&repository, &tree) {
                reading.violation(format!("restore: {error}"));
            }
        }
    });
    let actors: Vec<Box<dyn FnOnce(Repository) + Send>> =
        vec![pruner(3), backup(&mut random), backup(&mut random), restore, pruner(2)];
    let actors: Vec<_> = actors.into_iter().take(2 + random.below(4)).collect();
    let (stay, mut last) = (random.below(95), 0);
    let choose = Box::new(move |ready: &[usize]| {
        if !ready.contains(&last) || random.below(100) >= stay {
            last = ready[random.below(ready.len())];
        }
        last
    });
    stage.sleep_at(sleep_at, &[1, 2], jump);
    stage.play(choose, actors);
    let made = stage.recorded().len() - 1;
    settle(&stage);
    let violations = stage.violations();
    assert!(violations.is_empty(), "seed {seed}: {violations:#?}\n{:#?}", stage.trace());
    made
}

/// In the end everything is whole for every program, and what nobody needs is gone.
fn settle(stage: &Arc<Stage>) {
    let repository = stage.open_aside();
    let clean = |when: &str| {
        let report = repository.verify(VerifyDepth::Data { percent: 100, seed: 1 }, &NoProgress).unwrap();
        report.damage.iter().for_each(|damage| stage.violation(format!("{when}: {damage}")));
    };
    clean("after the play");
    for _ in 0..4 {
        stage.set_clock(stage.clock() + MARGIN * 2);
        prune(stage, &repository, 1);
    }
    clean("after more prunes");
    stage.recorded().iter().for_each(|tree| plays::restore(&repository, tree).unwrap());
    let plan = repository.plan_prune(&rules(), now(), &NoProgress).unwrap();
    if !plan.lines.is_empty() {
        stage.violation(format!("garbage is left: {:?}", plan.lines));
    }
}

#[test]
fn every_referenced_blob_exists_at_all_times_however_prune_backup_and_restore_interleave() {
    let bases: Vec<_> =
        [Beginning::Garbage, Beginning::MarkedLongAgo, Beginning::MarkedJustNow].map(plays::base).into();
    let (next, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed) as u64;
        if seed >= seeds() {
            break;
        }
        made.fetch_add(play(seed, &bases), Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let made = made.into_inner() as u64;
    assert!(made > seeds() / 2, "{made} points in {} plays: the plays must not all end at locks", seeds());
}
