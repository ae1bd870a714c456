//! What a process wrote: a bounded tail, secrets masked.

use std::collections::VecDeque;

use super::Secret;

/// Most bytes of output that are kept as evidence.
pub const OUTPUT_LIMIT: usize = 16 * 1024;

/// Replaces every occurrence of a secret by `***`.
pub fn mask(bytes: &[u8], secrets: &[Secret]) -> Vec<u8> {
    let mut values: Vec<&[u8]> = secrets.iter().map(Secret::expose).filter(|value| !value.is_empty()).collect();
    // A secret may hold another one: the longer goes first.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    let mut masked = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(value) = values.iter().find(|value| rest.starts_with(value)) {
            masked.extend_from_slice(b"***");
            rest = &rest[value.len()..];
        } else {
            masked.push(*first);
            rest = tail;
        }
    }
    masked
}

/// [`mask`] for text.
pub fn mask_text(text: &str, secrets: &[Secret]) -> String {
    String::from_utf8_lossy(&mask(text.as_bytes(), secrets)).into_owned()
}

/// The end of a stream, in bounded memory.
#[derive(Debug)]
pub struct Tail {
    bytes: VecDeque<u8>,
    /// A little more is kept than shown, so that a secret cut by the limit can be left out.
    margin: usize,
    overflowed: bool,
}

impl Tail {
    /// A tail for output in which these secrets may appear.
    pub fn new(secrets: &[Secret]) -> Self {
        let margin = secrets.iter().map(|secret| secret.expose().len()).max().unwrap_or(0);
        Self { bytes: VecDeque::new(), margin, overflowed: false }
    }

    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(OUTPUT_LIMIT + self.margin);
        if excess > 0 {
            self.bytes.drain(..excess);
            self.overflowed = true;
        }
    }

    /// What was kept as text, masked, at most [`OUTPUT_LIMIT`] bytes of it.
    pub fn text(&self, secrets: &[Secret]) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let masked = mask(&bytes, secrets);
        let start = if self.overflowed { self.margin.min(masked.len()) } else { 0 };
        let start = start.max(masked.len().saturating_sub(OUTPUT_LIMIT));
        String::from_utf8_lossy(&masked[start..]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_the_longer_first() {
        let secrets = [Secret::new("key"), Secret::new("key-of-gold"), Secret::new("")];
        assert_eq!(mask_text("a key-of-gold and a key.", &secrets), "a *** and a ***.");
    }

    #[test]
    fn only_the_end_is_kept_and_no_part_of_a_cut_secret() {
        let secrets = [Secret::new("hunter2")];
        let mut tail = Tail::new(&secrets);
        tail.push(b"hunter2");
        tail.push(&[b'x'; OUTPUT_LIMIT]);
        tail.push(b"abcd");
        let text = tail.text(&secrets);
        assert!(text.len() <= OUTPUT_LIMIT && text.ends_with("xabcd"));
        assert!(!text.contains('2'), "the cut secret's end must not show: {}", &text[..20]);
    }

    #[test]
    fn short_output_is_kept_whole() {
        let mut tail = Tail::new(&[Secret::new("hunter2")]);
        tail.push(b"all is well\n");
        assert_eq!(tail.text(&[]), "all is well\n");
    }
}
