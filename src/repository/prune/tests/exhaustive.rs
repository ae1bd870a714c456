//! Every interleaving of a backup of 10 operations with a prune of 10: 184,756 each. The actors here are models, since the
//! real code is too slow for so many plays; [`the_models_do_what_the_real_code_does`] holds their operations against its trace.

use std::sync::Arc;

use super::plays::{self, Beginning, MARGIN, rules};
use super::stage::{Stage, now};
use crate::ground::NoProgress;
use crate::repository::Repository;

/// One blob that no snapshot needs yet, in pack P; the backup needs it, and stores it in pack N when it does not find P.
#[derive(Debug, Clone, Copy, Default)]
struct Store {
    p_stored: bool,
    /// By the old index file; by one that puts P back.
    p_named: bool,
    p_back: bool,
    p_marked: bool,
    n_stored: bool,
    n_named: bool,
    snapshot: bool,
    recorded: bool,
    backup_lock: bool,
    exclusive: bool,
}

impl Store {
    fn p_in_index(&self) -> bool {
        self.p_named || self.p_back
    }

    fn is_safe(&self) -> bool {
        let readable = (self.p_stored && (self.p_in_index() || self.p_marked)) || (self.n_stored && self.n_named);
        !self.snapshot || readable
    }

    fn is_named(&self) -> bool {
        !self.snapshot || (self.p_stored && self.p_in_index()) || (self.n_stored && self.n_named)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Backup {
    step: usize,
    ended: bool,
    relies_on_p: bool,
    saw_old_index: bool,
    lost: bool,
}

/// What the prune does: marks, sweeps what was marked long ago, or both with a machine asleep between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mark,
    Sweep,
    WholeCycle,
}

#[derive(Debug, Clone, Copy, Default)]
struct Prune {
    step: usize,
    ended: bool,
    saw_snapshot: bool,
    marks: bool,
}

/// Operations of the models and the tokens of the trace that each stands for.
const BACKUP: [(&str, &str); 10] = [
    ("look at locks", "locks?"),
    ("lock", "locks+"),
    ("look at locks again", "locks?"),
    ("load the index", "index? data?"),
    ("store packs", "data+"),
    ("store the index", "index+"),
    ("look before", "locks? index?"),
    ("save the snapshot", "snapshots+"),
    ("look after", "locks? index?"),
    ("unlock", "locks-"),
];

impl Backup {
    /// Looks whether what it relies on is still there: false when it is not, or when somebody is alone in there.
    fn look(&mut self, store: &mut Store) -> bool {
        let changed = self.saw_old_index && !store.p_named;
        if !self.lost && !changed {
            return true;
        }
        if store.exclusive {
            return false;
        }
        (self.lost, self.saw_old_index, store.backup_lock) = (false, store.p_named, true);
        if self.relies_on_p && !store.p_in_index() {
            if !(store.p_stored && store.p_marked) {
                return false;
            }
            store.p_back = true;
        }
        true
    }

    fn go(&mut self, store: &mut Store) {
        let withdraw = |store: &mut Store| (store.snapshot, store.backup_lock) = (false, false);
        let refused = matches!(self.step, 6 | 8) && !self.look(store);
        match self.step {
            0 | 2 if store.exclusive => {
                store.backup_lock = false;
                self.ended = true;
            }
            1 => store.backup_lock = true,
            3 => (self.relies_on_p, self.saw_old_index) = (store.p_in_index() && store.p_stored, store.p_named),
            4 => store.n_stored = !self.relies_on_p,
            5 => store.n_named = store.n_stored,
            6 | 8 if refused => {
                withdraw(store);
                self.ended = true;
            }
            7 => store.snapshot = true,
            9 => (store.recorded, store.backup_lock) = (true, false),
            _ => {}
        }
        self.step += 1;
        self.ended |= self.step == BACKUP.len();
    }
}

const MARK: [(&str, &str); 10] = [
    ("look at locks", "locks?"),
    ("lock", "locks+"),
    ("look at locks again", "locks?"),
    (
        "what is due, who is there",
        "index? locks? index? locks+ locks- locks? index? locks? index? locks+ locks- locks?",
    ),
    ("survey", "snapshots? index? data?"),
    ("store marks", "index+"),
    ("store the rest of the index, none here", "index? locks?"),
    ("remove old index files", "index-"),
    ("settle", "snapshots? index? locks?"),
    ("unlock", "locks-"),
];

impl Prune {
    fn go(&mut self, kind: Kind, store: &mut Store, backup: &mut Backup) {
        match kind {
            Kind::Mark => self.mark(self.step, store),
            Kind::Sweep => self.sweep(self.step, store),
            Kind::WholeCycle => match self.step {
                0..4 => self.mark(self.step + 4, store),
                // A day passes; the backup's machine slept, and others have removed its lock.
                4 => {
                    backup.lost |= store.backup_lock;
                    store.backup_lock = false;
                    self.marks = false;
                }
                _ => self.sweep([1, 2, 4, 6, 9][self.step - 5], store),
            },
        }
        self.step += 1;
        self.ended |= self.step == 10;
    }

    fn mark(&mut self, step: usize, store: &mut Store) {
        match step {
            4 => {
                self.saw_snapshot = store.snapshot;
                self.marks = !store.snapshot && store.p_in_index();
            }
            5 => store.p_marked |= self.marks,
            7 if self.marks => (store.p_named, store.p_back) = (false, false),
            // The settling: a snapshot that came meanwhile is whole for every program in the end.
            7 | 8 if step == 8 && store.snapshot && !store.is_named() => store.p_back = store.p_stored,
            _ => {}
        }
    }

    /// Steps: look, lock, look, look at marks, survey, put back, delete packs, delete marks, -, unlock.
    fn sweep(&mut self, step: usize, store: &mut Store) {
        match step {
            0 | 2 if store.backup_lock => {
                store.exclusive = false;
                self.ended = true;
            }
            1 => store.exclusive = true,
            4 => {
                self.saw_snapshot = store.snapshot && !(store.n_stored && store.n_named);
                self.marks = store.p_marked && !store.p_in_index();
                if self.saw_snapshot && self.marks {
                    store.p_back = true;
                    self.marks = false;
                }
            }
            6 if self.marks => (store.p_stored, store.p_marked) = (false, false),
            9 => store.exclusive = false,
            _ => {}
        }
    }
}

/// Plays every interleaving from here on; how many there were.
fn play(kind: Kind, store: Store, backup: Backup, prune: Prune, path: &mut String) -> u64 {
    // In the whole cycle a pause of a day may hit between the two looks: then the snapshot is withdrawn in the end.
    let counts = kind != Kind::WholeCycle || store.recorded;
    assert!(!counts || store.is_safe(), "{kind:?} {path}: {store:?}");
    if backup.step >= 10 && prune.step >= 10 {
        assert!(store.is_safe() && store.is_named(), "{kind:?} {path} in the end: {store:?}");
        return 1;
    }
    let mut plays = 0;
    if backup.step < 10 {
        let (mut store, mut backup) = (store, backup);
        if backup.ended {
            backup.step += 1
        } else {
            backup.go(&mut store)
        }
        path.push('b');
        plays += play(kind, store, backup, prune, path);
        path.pop();
    }
    if prune.step < 10 {
        let (mut store, mut backup, mut prune) = (store, backup, prune);
        if prune.ended {
            prune.step += 1
        } else {
            prune.go(kind, &mut store, &mut backup)
        }
        path.push('p');
        plays += play(kind, store, backup, prune, path);
        path.pop();
    }
    plays
}

#[test]
fn every_referenced_blob_exists_in_every_interleaving_of_a_backup_and_a_prune() {
    let named = Store { p_stored: true, p_named: true, ..Store::default() };
    let marked = Store { p_stored: true, p_marked: true, ..Store::default() };
    for (kind, store) in [(Kind::Mark, named), (Kind::Sweep, marked), (Kind::WholeCycle, named)] {
        let plays = play(kind, store, Backup::default(), Prune::default(), &mut String::new());
        assert_eq!(plays, 184_756, "20 over 10");
    }
}

/// Tokens of a trace: what kind of object was read (`?`), stored (`+`) or removed (`-`); repetitions once.
fn tokens(stage: &Stage) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    for (_, operation) in stage.trace() {
        let (what, key) = operation.split_once(' ').unwrap();
        let sign = match what {
            "put" => '+',
            "delete" => '-',
            _ => '?',
        };
        let token = format!("{}{sign}", key.split('/').next().unwrap());
        // Dating marks is part of looking at them.
        if tokens.last() != Some(&token) {
            tokens.push(token);
        }
    }
    tokens
}

fn expected(model: &[(&str, &str)]) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    for token in model.iter().flat_map(|(_, tokens)| tokens.split(' ')) {
        if tokens.last().is_none_or(|last| last != token) {
            tokens.push(token.to_owned());
        }
    }
    tokens
}

fn trace_of(stage: &Arc<Stage>, actor: impl FnOnce(Repository) + Send + 'static) -> Vec<String> {
    stage.play(Box::new(|ready| ready[0]), vec![Box::new(actor)]);
    assert_eq!(stage.violations(), Vec::<String>::new());
    tokens(stage)
}

#[test]
fn the_models_do_what_the_real_code_does() {
    let stage = plays::base(Beginning::Garbage).copy();
    let there = Arc::clone(&stage);
    let trace = trace_of(&stage, move |repository| plays::back_up(&there, &repository, &[5]).unwrap());
    assert_eq!(trace, expected(&BACKUP));
    // Without anything to copy: packs that are not needed at all.
    let stage = plays::base_with_whole_garbage();
    let trace = trace_of(&stage, |repository| drop(repository.prune(&rules(), now(), &NoProgress).unwrap()));
    assert_eq!(trace, expected(&MARK));
    stage.set_clock(stage.clock() + 2 * MARGIN);
    let stage = stage.copy();
    let trace = trace_of(&stage, |repository| drop(repository.prune(&rules(), now(), &NoProgress).unwrap()));
    let removed: Vec<&String> = trace.iter().filter(|token| token.ends_with('-') || *token == "snapshots?").collect();
    assert_eq!(removed, ["locks-", "locks-", "locks-", "snapshots?", "data-", "index-", "locks-"]);
}
