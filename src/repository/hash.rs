//! SHA-256 of many inputs side by side: each lane of a vector register works on an input of its own.
//!
//! One input after the other is bound by the chain of additions within a round: 0.2 to 0.4 GB/s on a processor without
//! SHA instructions. Sixteen side by side (AVX-512) take the same time as one, eight (AVX2) a little more. Where the
//! processor has SHA instructions, one after the other is as fast, and `sha2` uses them.

mod constants;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod lanes_16;
#[cfg(target_arch = "x86_64")]
mod lanes_8;
#[cfg(target_arch = "x86_64")]
mod lanes_8_wide;

use constants::INITIAL;

/// Bytes of a block.
const BLOCK: usize = 64;
/// With fewer inputs than this, sixteen lanes are slower than eight that are full: a block in all lanes takes as long
/// as one alone.
#[cfg(target_arch = "x86_64")]
const WORTH_16: usize = 13;
/// With fewer inputs than this, one after the other is faster than eight lanes of AVX2. Those of AVX-512 are faster
/// even for one.
#[cfg(target_arch = "x86_64")]
const WORTH_8: usize = 2;

/// Most inputs that any processor hashes side by side.
pub(super) const LANES_MAX: usize = 16;

/// With fewer lanes in use than this it pays to continue later, beside others.
pub(super) const LANES_WORTH: usize = 6;

/// The state of one hash between blocks.
type State = [u32; 8];

/// How this processor hashes several inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// One after the other.
    Single,
    #[cfg(target_arch = "x86_64")]
    Lanes8,
    #[cfg(target_arch = "x86_64")]
    Lanes16,
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl")
}

impl Unit {
    fn of_this_processor() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("sha") {
                return Self::Single;
            }
            if has_avx512() {
                return Self::Lanes16;
            }
            if is_x86_feature_detected!("avx2") {
                return Self::Lanes8;
            }
        }
        Self::Single
    }
}

/// So many inputs make full use of this processor; one where one after the other is as fast.
pub(super) fn lanes() -> usize {
    match Unit::of_this_processor() {
        Unit::Single => 1,
        #[cfg(target_arch = "x86_64")]
        Unit::Lanes8 => 8,
        #[cfg(target_arch = "x86_64")]
        Unit::Lanes16 => 16,
    }
}

/// How far the hash of one input has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    state: State,
    /// Blocks that are done.
    blocks: usize,
}

impl Default for Begun {
    fn default() -> Self {
        Self { state: INITIAL, blocks: 0 }
    }
}

impl Begun {
    fn part<'a>(&self, input: &'a [u8]) -> Part<'a> {
        Part { state: self.state, blocks: &input.as_chunks().0[self.blocks..], begun: self.blocks > 0 }
    }
}

/// Hashes side by side until fewer than `least` inputs are on their way: those are to be continued with others beside
/// them, since a lane that is empty costs as much as a full one. In order; `Err` with how far it came.
pub(super) fn hash_some(inputs: &[(&[u8], Begun)], least: usize) -> Vec<Result<[u8; 32], Begun>> {
    hash_some_with(Unit::of_this_processor(), inputs, least)
}

fn hash_some_with(unit: Unit, inputs: &[(&[u8], Begun)], least: usize) -> Vec<Result<[u8; 32], Begun>> {
    let parts: Vec<_> = inputs.iter().map(|(input, begun)| begun.part(input)).collect();
    let ends = advance_some(unit, &parts, least).into_iter().zip(inputs);
    ends.map(|(Part { state, blocks, .. }, (input, _))| {
        let (all, rest) = input.as_chunks::<BLOCK>();
        match blocks.len() {
            0 => Ok(finish(state, rest, input.len() as u64)),
            left => Err(Begun { state, blocks: all.len() - left }),
        }
    })
    .collect()
}

/// Hashes of several streams of which a part each is at hand at a time.
pub(super) struct Streams {
    states: Vec<State>,
    lengths: Vec<u64>,
}

impl Streams {
    pub(super) fn new(count: usize) -> Self {
        Self { states: vec![INITIAL; count], lengths: vec![0; count] }
    }

    /// Takes the next part of each stream. Only a stream's last one may have a length that is no multiple of 64; after
    /// it comes nothing but empty parts. Gives the hashes of the streams that ended so.
    pub(super) fn advance(&mut self, parts: &[&[u8]]) -> Vec<Option<[u8; 32]>> {
        let starts = self.states.iter().zip(parts);
        let starts: Vec<_> =
            starts.map(|(state, part)| Part { state: *state, blocks: part.as_chunks().0, begun: false }).collect();
        self.states = advance(Unit::of_this_processor(), &starts);
        for (length, part) in self.lengths.iter_mut().zip(parts) {
            *length += part.len() as u64;
        }
        let ends = parts.iter().zip(&self.states).zip(&self.lengths);
        ends.map(|((part, state), length)| {
            let rest = part.as_chunks::<BLOCK>().1;
            (!rest.is_empty()).then(|| finish(*state, rest, *length))
        })
        .collect()
    }

    /// The hash of a stream that ended on a whole block.
    pub(super) fn finish(&self, stream: usize) -> [u8; 32] {
        finish(self.states[stream], &[], self.lengths[stream])
    }
}

/// Whole blocks to be hashed from a state on.
#[derive(Clone, Copy)]
struct Part<'a> {
    state: State,
    blocks: &'a [[u8; BLOCK]],
    /// Somebody waits for it longer than for others.
    begun: bool,
}

/// The states after all blocks of each part.
fn advance(unit: Unit, parts: &[Part<'_>]) -> Vec<State> {
    advance_some(unit, parts, 1).into_iter().map(|part| part.state).collect()
}

/// What is left of each part when fewer than `least`, but at least one, have any blocks left. One after the other, where
/// that is as fast, leaves none.
fn advance_some<'a>(unit: Unit, parts: &[Part<'a>], least: usize) -> Vec<Part<'a>> {
    let mut lanes = Lanes::new(parts);
    match unit {
        Unit::Single => lanes.run_singly(),
        #[cfg(target_arch = "x86_64")]
        Unit::Lanes8 => {
            lanes.run::<8>(lanes_8::compress, WORTH_8.max(least));
            if least <= WORTH_8 {
                lanes.run_singly();
            }
        }
        #[cfg(target_arch = "x86_64")]
        Unit::Lanes16 => {
            lanes.run::<16>(lanes_16::compress, WORTH_16.max(least));
            lanes.run::<8>(lanes_8_wide::compress, least);
        }
    }
    lanes.parts
}

fn advance_one(mut state: State, blocks: &[[u8; BLOCK]]) -> State {
    sha2::block_api::compress256(&mut state, blocks);
    state
}

/// Parts on their way.
struct Lanes<'a> {
    parts: Vec<Part<'a>>,
    /// Numbers of those with blocks to come.
    waiting: Vec<usize>,
}

impl<'a> Lanes<'a> {
    fn new(parts: &[Part<'a>]) -> Self {
        let waiting = (0..parts.len()).filter(|number| !parts[*number].blocks.is_empty()).collect();
        Self { parts: parts.to_vec(), waiting }
    }

    /// `L` parts at once, those begun and then the longest first, who ends makes room for the next, until fewer than `least` are left.
    /// `compress` advances all lanes by so many blocks each.
    #[cfg(target_arch = "x86_64")]
    fn run<const L: usize>(
        &mut self,
        compress: impl Fn(&mut [[u32; L]; 8], &[&[[u8; BLOCK]]; L], usize),
        least: usize,
    ) {
        let mut states = INITIAL.map(|word| [word; L]);
        let mut lanes: [Option<usize>; L] = [None; L];
        let parts = &self.parts;
        self.waiting.sort_by_key(|number| (parts[*number].begun, parts[*number].blocks.len()));
        loop {
            for (at, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.is_none()) {
                *lane = self.waiting.pop();
                if let Some(number) = *lane {
                    set_lane(&mut states, at, &self.parts[number].state);
                }
            }
            let running = lanes.iter().flatten().count();
            if running < least.clamp(1, L) {
                for (at, number) in lanes.iter().enumerate().filter_map(|(at, lane)| Some((at, (*lane)?))) {
                    self.parts[number].state = lane_of(&states, at);
                    self.parts[number].begun = true;
                    self.waiting.push(number);
                }
                return;
            }
            let blocks = |number: &usize| self.parts[*number].blocks;
            let shortest = lanes.iter().flatten().map(blocks).min_by_key(|blocks| blocks.len()).unwrap_or_default();
            // A lane without a part repeats another's blocks; nobody looks at its state.
            compress(&mut states, &lanes.map(|lane| lane.as_ref().map_or(shortest, blocks)), shortest.len());
            for (at, lane) in lanes.iter_mut().enumerate() {
                let Some(number) = *lane else { continue };
                let part = &mut self.parts[number];
                part.blocks = &part.blocks[shortest.len()..];
                if part.blocks.is_empty() {
                    part.state = lane_of(&states, at);
                    *lane = None;
                }
            }
        }
    }

    /// What is left, one after the other.
    fn run_singly(&mut self) {
        for part in &mut self.parts {
            *part = Part { state: advance_one(part.state, part.blocks), blocks: &[], begun: true };
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn lane_of<const L: usize>(states: &[[u32; L]; 8], at: usize) -> State {
    std::array::from_fn(|word| states[word][at])
}

#[cfg(target_arch = "x86_64")]
fn set_lane<const L: usize>(states: &mut [[u32; L]; 8], at: usize, state: &State) {
    for (words, word) in states.iter_mut().zip(state) {
        words[at] = *word;
    }
}

/// The padded rest, and the words as bytes (FIPS 180-4, 5.1.1 and 6.2).
fn finish(mut state: State, rest: &[u8], length: u64) -> [u8; 32] {
    let mut last = [[0; BLOCK]; 2];
    let bytes = last.as_flattened_mut();
    bytes[..rest.len()].copy_from_slice(rest);
    bytes[rest.len()] = 0x80;
    let used = if rest.len() < BLOCK - 8 { 1 } else { 2 };
    bytes[used * BLOCK - 8..used * BLOCK].copy_from_slice(&(length * 8).to_be_bytes());
    sha2::block_api::compress256(&mut state, &last[..used]);
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    hash
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    fn units() -> Vec<Unit> {
        let mut units = vec![Unit::Single];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                units.push(Unit::Lanes8);
            }
            if has_avx512() {
                units.push(Unit::Lanes16);
            }
        }
        units
    }

    /// As callers do: what is left is continued, with ever fewer beside it.
    fn hash_all(unit: Unit, inputs: &[&[u8]], least: usize) -> Vec<[u8; 32]> {
        let mut hashes = vec![None; inputs.len()];
        let mut left: Vec<(usize, Begun)> = (0..inputs.len()).map(|number| (number, Begun::default())).collect();
        while !left.is_empty() {
            let some: Vec<_> = left.iter().map(|(number, begun)| (inputs[*number], *begun)).collect();
            let ends = hash_some_with(unit, &some, least.min(left.len()));
            let before = left.len();
            let mut numbers = std::mem::take(&mut left).into_iter();
            for (end, (number, _)) in ends.into_iter().zip(&mut numbers) {
                match end {
                    Ok(hash) => hashes[number] = Some(hash),
                    Err(begun) => left.push((number, begun)),
                }
            }
            assert!(left.len() < before && left.len() < least, "no progress");
        }
        hashes.into_iter().map(Option::unwrap).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Lengths around every border of a block and of the padding, and numbers of inputs around those of lanes.
        #[test]
        fn side_by_side_is_the_same_as_one_after_the_other(
            lengths in prop::collection::vec(prop_oneof![0..200_usize, 0..5_000_usize], 0..40),
            seed: u8,
            least in 1..20_usize,
        ) {
            let inputs: Vec<Vec<u8>> = lengths
                .iter()
                .enumerate()
                .map(|(number, length)| (0..*length).map(|at| (at * 31 + number * 7) as u8 ^ seed).collect())
                .collect();
            let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
            let expected: Vec<[u8; 32]> = inputs.iter().map(|input| Sha256::digest(input).into()).collect();
            for unit in units() {
                prop_assert_eq!(&hash_all(unit, &inputs, least), &expected, "{:?}", unit);
            }
        }
    }

    #[test]
    fn streams_give_the_same_whatever_their_lengths() {
        let inputs: Vec<Vec<u8>> = [0, 64, 65, 640, 10_000, 128, 1].map(|length| vec![length as u8; length]).to_vec();
        let mut streams = Streams::new(inputs.len());
        let mut hashes = vec![None; inputs.len()];
        for from in (0..10_112).step_by(128) {
            let part = |input: &Vec<u8>| from.min(input.len())..(from + 128).min(input.len());
            let parts: Vec<&[u8]> = inputs.iter().map(|input| &input[part(input)]).collect();
            for (hash, ended) in hashes.iter_mut().zip(streams.advance(&parts)) {
                *hash = ended.or(*hash);
            }
        }
        for (number, input) in inputs.iter().enumerate() {
            let hash: [u8; 32] = Sha256::digest(input).into();
            assert_eq!(hashes[number].unwrap_or_else(|| streams.finish(number)), hash, "{}", input.len());
        }
    }
}
