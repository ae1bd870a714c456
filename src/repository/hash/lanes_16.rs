//! Sixteen lanes of 32 bits in AVX-512 registers.

use std::arch::x86_64::*;

use super::BLOCK;
use super::constants::ROUND;
use super::lanes::compress_with;

compress_with!("avx512f,avx512bw,avx512vl", 16, __m512i, _mm512_add_epi32);

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn round([a, b, c, d, e, f, g, h]: [Words; 8], word: Words, constant: u32) -> [Words; 8] {
    const XOR: i32 = 0x96;
    const CHOOSE: i32 = 0xca;
    const MAJORITY: i32 = 0xe8;
    let (e6, e11, e25) = (_mm512_ror_epi32::<6>(e), _mm512_ror_epi32::<11>(e), _mm512_ror_epi32::<25>(e));
    let (a2, a13, a22) = (_mm512_ror_epi32::<2>(a), _mm512_ror_epi32::<13>(a), _mm512_ror_epi32::<22>(a));
    let chosen = _mm512_ternarylogic_epi32::<CHOOSE>(e, f, g);
    let mixed = _mm512_add_epi32(_mm512_ternarylogic_epi32::<XOR>(e6, e11, e25), chosen);
    let fed = _mm512_add_epi32(word, _mm512_set1_epi32(constant.cast_signed()));
    let first = _mm512_add_epi32(_mm512_add_epi32(h, fed), mixed);
    let majority = _mm512_ternarylogic_epi32::<MAJORITY>(a, b, c);
    let second = _mm512_add_epi32(_mm512_ternarylogic_epi32::<XOR>(a2, a13, a22), majority);
    [_mm512_add_epi32(first, second), a, b, c, _mm512_add_epi32(d, first), e, f, g]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn expand(w: &[Words; 16], at: usize) -> Words {
    const XOR: i32 = 0x96;
    let (x, y) = (w[(at + 1) % 16], w[(at + 14) % 16]);
    let (x7, x18, x3) = (_mm512_ror_epi32::<7>(x), _mm512_ror_epi32::<18>(x), _mm512_srli_epi32::<3>(x));
    let (y17, y19, y10) = (_mm512_ror_epi32::<17>(y), _mm512_ror_epi32::<19>(y), _mm512_srli_epi32::<10>(y));
    let low = _mm512_add_epi32(w[at], _mm512_ternarylogic_epi32::<XOR>(x7, x18, x3));
    _mm512_add_epi32(low, _mm512_add_epi32(w[(at + 9) % 16], _mm512_ternarylogic_epi32::<XOR>(y17, y19, y10)))
}

/// Word `i` of every lane's block, big-endian, in register `i`: a transposition of 16 by 16 words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn transposed(blocks: &[&[u8; BLOCK]; LANES]) -> [Words; 16] {
    let swap = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    let rows: [Words; 16] = blocks.map(|block| _mm512_shuffle_epi8(bytemuck::cast(*block), swap));
    let mut fours = rows;
    for (fours, rows) in fours.as_chunks_mut::<4>().0.iter_mut().zip(rows.as_chunks::<4>().0) {
        let [a, b, c, d] = *rows;
        let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (low_2, high_2) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        *fours = [
            _mm512_unpacklo_epi64(low, low_2),
            _mm512_unpackhi_epi64(low, low_2),
            _mm512_unpacklo_epi64(high, high_2),
            _mm512_unpackhi_epi64(high, high_2),
        ];
    }
    let mut w = fours;
    for word in 0..4 {
        let (a, b, c, d) = (fours[word], fours[4 + word], fours[8 + word], fours[12 + word]);
        let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (even_2, odd_2) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        w[word] = _mm512_shuffle_i32x4::<0x88>(even, even_2);
        w[4 + word] = _mm512_shuffle_i32x4::<0x88>(odd, odd_2);
        w[8 + word] = _mm512_shuffle_i32x4::<0xdd>(even, even_2);
        w[12 + word] = _mm512_shuffle_i32x4::<0xdd>(odd, odd_2);
    }
    w
}
