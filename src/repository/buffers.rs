//! Memory of chunks under way. Blocks of a megabyte that every chunk takes anew and gives back to the system cost more
//! than what is done with them in between, and leave holes that no other thread fills.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::chunker::ChunkBuffer;
use super::guarded;

/// Chunks below this are left to the allocator, which is good at them.
const POOLED_FROM: usize = 64 << 10;
/// Bytes that may lie unused.
const UNUSED_MAX: usize = 8 << 20;

/// Bytes of the buffer that a chunk of so many is copied to.
pub(super) fn taken(length: usize) -> usize {
    if length < POOLED_FROM { length } else { length.next_power_of_two() }
}

/// Buffers that wait for their next chunk.
#[derive(Default)]
pub(super) struct Buffers {
    unused: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// A copy of these bytes in a buffer that goes back when it is dropped.
    pub(super) fn copy(self: &Arc<Self>, bytes: &[u8]) -> Plain {
        if bytes.len() < POOLED_FROM {
            return Plain::from(bytes.to_vec());
        }
        let mut buffer = self.take(bytes.len());
        buffer.extend_from_slice(bytes);
        Plain { bytes: buffer, home: Some(Arc::clone(self)) }
    }

    /// An unused one that is large enough and not more than twice as large, empty; else a new one.
    fn take(&self, length: usize) -> Vec<u8> {
        let wanted = taken(length);
        let mut unused = guarded(&self.unused);
        let fitting = unused.iter().position(|buffer| (length..=wanted).contains(&buffer.capacity()));
        let found = fitting.map(|at| unused.remove(at));
        drop(unused);
        found.unwrap_or_else(|| Vec::with_capacity(wanted))
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut unused = guarded(&self.unused);
        unused.push(buffer);
        let mut bytes: usize = unused.iter().map(Vec::capacity).sum();
        while bytes > UNUSED_MAX {
            // The one that nobody wanted for longest.
            bytes -= unused.remove(0).capacity();
        }
    }
}

/// The bytes of a chunk.
pub(super) struct Plain {
    bytes: Vec<u8>,
    home: Option<Arc<Buffers>>,
}

impl From<Vec<u8>> for Plain {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, home: None }
    }
}

impl Deref for Plain {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

/// A few buffers for cutting, lent to the threads that read large contents.
pub(super) struct Windows {
    free: Mutex<Vec<ChunkBuffer>>,
    returned: Condvar,
}

impl Windows {
    pub(super) fn new(count: usize) -> Self {
        let free = std::iter::repeat_with(ChunkBuffer::default).take(count).collect();
        Self { free: Mutex::new(free), returned: Condvar::new() }
    }

    /// One of them, when one is free.
    pub(super) fn borrow(&self) -> Lent<'_> {
        let mut free = guarded(&self.free);
        loop {
            match free.pop() {
                Some(buffer) => return Lent { windows: self, buffer },
                None => free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// A buffer that goes back when it is dropped, whatever happened to the thread that had it.
pub(super) struct Lent<'a> {
    windows: &'a Windows,
    buffer: ChunkBuffer,
}

impl Deref for Lent<'_> {
    type Target = ChunkBuffer;

    fn deref(&self) -> &ChunkBuffer {
        &self.buffer
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut ChunkBuffer {
        &mut self.buffer
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        guarded(&self.windows.free).push(std::mem::take(&mut self.buffer));
        self.windows.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_few_lie_unused() {
        let buffers = Arc::new(Buffers::default());
        let first = buffers.copy(&[1; 300 << 10]);
        let place = first.as_ptr();
        drop(first);
        let second = buffers.copy(&[2; 400 << 10]);
        assert_eq!(second.as_ptr(), place);
        assert!(second.iter().all(|byte| *byte == 2) && second.len() == 400 << 10);
        let many: Vec<Plain> = (0..40).map(|_| buffers.copy(&[3; 512 << 10])).collect();
        drop(many);
        let unused: usize = guarded(&buffers.unused).iter().map(Vec::capacity).sum();
        assert!((4 << 20..=UNUSED_MAX).contains(&unused), "{unused}");
        assert!(buffers.copy(b"few").home.is_none());
    }
}
