//! The chunker polynomial of the configuration. Our own chunk boundaries do not use it, but restic refuses a
//! configuration whose polynomial over GF(2) is reducible, and uses it for what it adds to the repository itself.

use super::crypto;
use super::error::RepositoryError;

/// Degree that restic's chunker asks for.
const DEGREE: u32 = 53;

/// A random irreducible polynomial of degree 53. About one in 27 of those with a constant term is irreducible, so that
/// a thousand tries fail with a chance below 10^-16.
pub(super) fn random_irreducible() -> Result<u64, RepositoryError> {
    for _ in 0..1000 {
        let bits = u64::from_le_bytes(crypto::random()?);
        let candidate = bits & ((1 << (DEGREE + 1)) - 1) | 1 << DEGREE | 1;
        if is_irreducible(candidate) {
            return Ok(candidate);
        }
    }
    Err(RepositoryError::machine("cannot find a chunker polynomial: the system's random numbers look broken"))
}

/// Ben-Or's test: no factor of degree up to half of the polynomial's own.
pub(super) fn is_irreducible(polynomial: u64) -> bool {
    let Some(degree) = degree(polynomial).filter(|degree| *degree > 0) else { return false };
    if degree > DEGREE {
        return false;
    }
    let mut power = remainder(0b10, polynomial);
    for _ in 0..degree / 2 {
        power = square(power, polynomial);
        if greatest_common_divisor(polynomial, power ^ remainder(0b10, polynomial)) != 1 {
            return false;
        }
    }
    true
}

fn degree(polynomial: u64) -> Option<u32> {
    polynomial.checked_ilog2()
}

fn remainder(mut value: u64, modulus: u64) -> u64 {
    let Some(modulus_degree) = degree(modulus) else { return 0 };
    while let Some(shift) = degree(value).and_then(|degree| degree.checked_sub(modulus_degree)) {
        value ^= modulus << shift;
    }
    value
}

/// Square modulo a polynomial of degree at most 62, by shift and add.
fn square(value: u64, modulus: u64) -> u64 {
    let mut product = 0;
    let mut shifted = value;
    for bit in 0..u64::BITS {
        if value >> bit & 1 == 1 {
            product ^= shifted;
        }
        shifted = remainder(shifted << 1, modulus);
    }
    product
}

fn greatest_common_divisor(mut left: u64, mut right: u64) -> u64 {
    while right != 0 {
        (left, right) = (right, remainder(left, right));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_polynomials_agree_with_trial_division() {
        for polynomial in 2..512_u64 {
            let has_factor = (2..polynomial)
                .take_while(|factor| degree(*factor) < degree(polynomial))
                .any(|factor| remainder(polynomial, factor) == 0);
            assert_eq!(is_irreducible(polynomial), !has_factor, "{polynomial:b}");
        }
    }

    #[test]
    fn restics_own_test_polynomial_is_irreducible_and_its_square_like_neighbours_are_not() {
        assert!(is_irreducible(0x3DA3358B4DC173));
        assert!(!is_irreducible(0x3DA3358B4DC172));
        assert!(!is_irreducible(1 << 53));
        assert!(!is_irreducible(0));
        assert!(!is_irreducible(u64::MAX));
    }

    #[test]
    fn random_ones_differ_and_have_the_degree() {
        let (first, second) = (random_irreducible().unwrap(), random_irreducible().unwrap());
        assert_ne!(first, second);
        assert_eq!(degree(first), Some(53));
    }
}
