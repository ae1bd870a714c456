//! Eight lanes of 32 bits in AVX2 registers.

use std::arch::x86_64::*;

use super::BLOCK;
use super::constants::ROUND;
use super::lanes::compress_with;

compress_with!("avx2", 8, __m256i, _mm256_add_epi32);

#[inline]
#[target_feature(enable = "avx2")]
fn rotated<const RIGHT: i32, const LEFT: i32>(words: Words) -> Words {
    const { assert!(RIGHT + LEFT == 32) };
    _mm256_or_si256(_mm256_srli_epi32::<RIGHT>(words), _mm256_slli_epi32::<LEFT>(words))
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(a: Words, b: Words, c: Words) -> Words {
    _mm256_xor_si256(_mm256_xor_si256(a, b), c)
}

#[inline]
#[target_feature(enable = "avx2")]
fn round([a, b, c, d, e, f, g, h]: [Words; 8], word: Words, constant: u32) -> [Words; 8] {
    let chosen = _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g)));
    let mixed = _mm256_add_epi32(xor(rotated::<6, 26>(e), rotated::<11, 21>(e), rotated::<25, 7>(e)), chosen);
    let fed = _mm256_add_epi32(word, _mm256_set1_epi32(constant.cast_signed()));
    let first = _mm256_add_epi32(_mm256_add_epi32(h, fed), mixed);
    let majority = _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_or_si256(a, b)));
    let second = _mm256_add_epi32(xor(rotated::<2, 30>(a), rotated::<13, 19>(a), rotated::<22, 10>(a)), majority);
    [_mm256_add_epi32(first, second), a, b, c, _mm256_add_epi32(d, first), e, f, g]
}

#[inline]
#[target_feature(enable = "avx2")]
fn expand(w: &[Words; 16], at: usize) -> Words {
    let (x, y) = (w[(at + 1) % 16], w[(at + 14) % 16]);
    let x = xor(rotated::<7, 25>(x), rotated::<18, 14>(x), _mm256_srli_epi32::<3>(x));
    let y = xor(rotated::<17, 15>(y), rotated::<19, 13>(y), _mm256_srli_epi32::<10>(y));
    _mm256_add_epi32(_mm256_add_epi32(w[at], x), _mm256_add_epi32(w[(at + 9) % 16], y))
}

/// Word `i` of every lane's block, big-endian, in register `i`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transposed(blocks: &[&[u8; BLOCK]; LANES]) -> [Words; 16] {
    let halves: [[[u8; 32]; 2]; LANES] = blocks.map(|block| bytemuck::cast(*block));
    let low = transposed_half(halves.map(|[low, _]| bytemuck::cast(low)));
    let high = transposed_half(halves.map(|[_, high]| bytemuck::cast(high)));
    std::array::from_fn(|word| if word < 8 { low[word] } else { high[word - 8] })
}

/// A transposition of 8 by 8 words.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed_half(rows: [Words; 8]) -> [Words; 8] {
    let (last, third, second, first) = (0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    let swap = _mm256_set_epi32(last, third, second, first, last, third, second, first);
    let rows = rows.map(|row| _mm256_shuffle_epi8(row, swap));
    let mut fours = rows;
    for (fours, rows) in fours.as_chunks_mut::<4>().0.iter_mut().zip(rows.as_chunks::<4>().0) {
        let [a, b, c, d] = *rows;
        let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (low_2, high_2) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        *fours = [
            _mm256_unpacklo_epi64(low, low_2),
            _mm256_unpackhi_epi64(low, low_2),
            _mm256_unpacklo_epi64(high, high_2),
            _mm256_unpackhi_epi64(high, high_2),
        ];
    }
    let mut words = fours;
    for word in 0..4 {
        words[word] = _mm256_permute2x128_si256::<0x20>(fours[word], fours[4 + word]);
        words[4 + word] = _mm256_permute2x128_si256::<0x31>(fours[word], fours[4 + word]);
    }
    words
}
