//! Eight lanes of 32 bits with the rotations and three-way logic that AVX-512 has for AVX2's registers.

use std::arch::x86_64::*;

use super::BLOCK;
use super::constants::ROUND;
use super::lanes::compress_with;
use super::lanes_8::transposed;

compress_with!("avx512f,avx512bw,avx512vl", 8, __m256i, _mm256_add_epi32);

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn round([a, b, c, d, e, f, g, h]: [Words; 8], word: Words, constant: u32) -> [Words; 8] {
    const XOR: i32 = 0x96;
    const CHOOSE: i32 = 0xca;
    const MAJORITY: i32 = 0xe8;
    let (e6, e11, e25) = (_mm256_ror_epi32::<6>(e), _mm256_ror_epi32::<11>(e), _mm256_ror_epi32::<25>(e));
    let (a2, a13, a22) = (_mm256_ror_epi32::<2>(a), _mm256_ror_epi32::<13>(a), _mm256_ror_epi32::<22>(a));
    let chosen = _mm256_ternarylogic_epi32::<CHOOSE>(e, f, g);
    let mixed = _mm256_add_epi32(_mm256_ternarylogic_epi32::<XOR>(e6, e11, e25), chosen);
    let fed = _mm256_add_epi32(word, _mm256_set1_epi32(constant.cast_signed()));
    let first = _mm256_add_epi32(_mm256_add_epi32(h, fed), mixed);
    let majority = _mm256_ternarylogic_epi32::<MAJORITY>(a, b, c);
    let second = _mm256_add_epi32(_mm256_ternarylogic_epi32::<XOR>(a2, a13, a22), majority);
    [_mm256_add_epi32(first, second), a, b, c, _mm256_add_epi32(d, first), e, f, g]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn expand(w: &[Words; 16], at: usize) -> Words {
    const XOR: i32 = 0x96;
    let (x, y) = (w[(at + 1) % 16], w[(at + 14) % 16]);
    let (x7, x18, x3) = (_mm256_ror_epi32::<7>(x), _mm256_ror_epi32::<18>(x), _mm256_srli_epi32::<3>(x));
    let (y17, y19, y10) = (_mm256_ror_epi32::<17>(y), _mm256_ror_epi32::<19>(y), _mm256_srli_epi32::<10>(y));
    let low = _mm256_add_epi32(w[at], _mm256_ternarylogic_epi32::<XOR>(x7, x18, x3));
    _mm256_add_epi32(low, _mm256_add_epi32(w[(at + 9) % 16], _mm256_ternarylogic_epi32::<XOR>(y17, y19, y10)))
}
