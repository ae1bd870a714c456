//! What all widths have in common: the rounds over a block, and the loop over blocks.

/// Makes `compress`, with the module's own `round`, `expand` and `transposed`, and its addition.
macro_rules! compress_with {
    ($features:literal, $lanes:literal, $words:ty, $add:ident) => {
        pub(super) const LANES: usize = $lanes;
        type Words = $words;

        /// Advances every lane by so many of its blocks. Only where the processor has been seen to know the instructions.
        pub(super) fn compress(states: &mut [[u32; LANES]; 8], blocks: &[&[[u8; BLOCK]]; LANES], steps: usize) {
            // SAFETY: `Unit::of_this_processor` (and the test) choose these lanes only after detecting the features;
            // there is nothing else that the function asks for.
            unsafe { compress_blocks(states, blocks, steps) }
        }

        #[target_feature(enable = $features)]
        fn compress_blocks(states: &mut [[u32; LANES]; 8], blocks: &[&[[u8; BLOCK]]; LANES], steps: usize) {
            let mut state: [Words; 8] = states.map(bytemuck::cast);
            for step in 0..steps {
                state = compress_block(state, transposed(&blocks.map(|blocks| &blocks[step])));
            }
            *states = state.map(bytemuck::cast);
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn compress_block(state: [Words; 8], mut w: [Words; 16]) -> [Words; 8] {
            let mut s = state;
            for (at, words) in w.iter().enumerate() {
                s = round(s, *words, ROUND[at]);
            }
            for stage in [16, 32, 48] {
                for at in 0..16 {
                    w[at] = expand(&w, at);
                    s = round(s, w[at], ROUND[stage + at]);
                }
            }
            let mut sum = state;
            for (sum, words) in sum.iter_mut().zip(s) {
                *sum = $add(*sum, words);
            }
            sum
        }
    };
}

pub(super) use compress_with;
