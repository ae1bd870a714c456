//! Work that several threads share, the newest first: a tree that is gone through so is gone through depth first, and
//! what waits stays small.

use std::sync::{Condvar, Mutex, PoisonError};

use super::session::lock;

/// Work that waits. What a thread has taken can bring more, so it is over only when nothing waits and nobody works.
pub(super) struct Stack<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: Vec<T>,
    /// Those who may still bring more.
    busy: usize,
    /// Threads that sleep.
    idle: usize,
}

/// Somebody who may still bring work. Given back by being dropped, also when its thread ends by a panic: nobody waits
/// for it then.
pub(super) struct Busy<'a, T>(&'a Stack<T>);

impl<T> Stack<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self { state: Mutex::new(State { waiting: Vec::new(), busy: 0, idle: 0 }), changed: Condvar::new() }
    }

    /// Somebody who brings work from outside: until it is dropped, others wait for it.
    pub fn busy(&self) -> Busy<'_, T> {
        lock(&self.state).busy += 1;
        Busy(self)
    }

    /// Adds work, the last of it to be taken first.
    pub fn push(&self, work: impl IntoIterator<Item = T>) {
        let mut state = lock(&self.state);
        let before = state.waiting.len();
        state.waiting.extend(work);
        let added = (state.waiting.len() - before).min(state.idle);
        drop(state);
        (0..added).for_each(|_| self.changed.notify_one());
    }

    /// The newest work; `None` when all is done.
    pub fn take(&self) -> Option<(T, Busy<'_, T>)> {
        let mut state = lock(&self.state);
        loop {
            if let Some(work) = state.waiting.pop() {
                state.busy += 1;
                return Some((work, Busy(self)));
            }
            if state.busy == 0 {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

impl<T> Drop for Busy<'_, T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.busy -= 1;
        if state.busy == 0 && state.waiting.is_empty() {
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_work_is_done_once_and_everybody_ends() {
        let (stack, done) = (Stack::new(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let outside = stack.busy();
            for _ in 0..8 {
                scope.spawn(|| {
                    while let Some((depth, _busy)) = stack.take() {
                        done.fetch_add(1, Ordering::SeqCst);
                        // Each piece of work brings two more, ten deep.
                        stack.push(std::iter::repeat_n(depth + 1, if depth < 10 { 2 } else { 0 }));
                    }
                });
            }
            std::thread::yield_now();
            stack.push([0, 0]);
            drop(outside);
        });
        assert_eq!(done.into_inner(), 2 * ((1 << 11) - 1));
    }

    #[test]
    fn the_newest_comes_first() {
        let stack = Stack::new();
        stack.push([1, 2, 3]);
        let taken: Vec<i32> = std::iter::from_fn(|| stack.take().map(|(work, _)| work)).collect();
        assert_eq!(taken, [3, 2, 1]);
    }

    #[test]
    fn nobody_waits_for_one_that_ended_by_a_panic() {
        let stack = Stack::new();
        stack.push([1, 2]);
        let ends = |work: i32| assert_ne!(work, 2, "meant to fail");
        let panicked = std::thread::scope(|scope| {
            let first = scope.spawn(|| stack.take().map(|(work, _busy)| ends(work))).join().is_err();
            scope.spawn(|| while stack.take().is_some() {}).join().unwrap();
            first
        });
        assert!(panicked);
    }
}
