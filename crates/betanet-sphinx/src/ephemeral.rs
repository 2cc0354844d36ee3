//! The secret behind α at each hop of a path, known to the packet's maker alone.

use curve25519_dalek::scalar::{Scalar, clamp_integer};
use subtle::{Choice, ConditionallySelectable};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The exponent of α, kept as j with exponent 8j modulo the group order ℓ.
///
/// Each hop multiplies α by a clamped factor b. The maker multiplies j by the same factors modulo ℓ, which is allowed
/// because α and all node keys have prime order ℓ. That spares one multiplication of points per hop and earlier hop.
///
/// A product modulo ℓ is not clamped, but X25519 clamps what it is given. It need not matter: 8j and 8(ℓ − j) give
/// points that are each other's negative, hence the same u, and as 8ℓ lies just above 2^255, exactly one of the two
/// lies in [2^254, 2^255), the range of clamped integers; both are multiples of 8. Only j below 2^125 or above
/// ℓ − 2^125 escapes, which happens with a probability of 2^−126.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Ephemeral(Scalar);

impl Ephemeral {
    /// Starts from 32 random bytes; the exponent is what X25519 makes of them.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let clamped = Zeroizing::new(clamp_integer(*seed));
        Self(Scalar::from_bytes_mod_order(*shift_right_3(&clamped)))
    }

    /// Multiplies with a hop's blinding factor, clamped as the hop clamps it.
    pub(crate) fn blind(&mut self, factor: &[u8; 32]) {
        let factor = Zeroizing::new(Scalar::from_bytes_mod_order(clamp_integer(*factor)));
        self.0 *= &*factor;
    }

    /// The exponent or its negative, whichever X25519's clamping leaves as it is; `None` in the unlikely rest.
    pub(crate) fn clamped(&self) -> Option<Zeroizing<[u8; 32]>> {
        let negative = Zeroizing::new(-&self.0);
        let [.., top] = self.0.as_bytes();
        let is_upper_half = Choice::from((top >> 3) & 1);
        let chosen = Zeroizing::new(Scalar::conditional_select(&negative, &self.0, is_upper_half));
        let exponent = shift_left_3(chosen.as_bytes());
        let [.., top] = *exponent;
        // Secret-dependent, but taken once in 2^126 draws.
        (top & 0xc0 == 0x40).then_some(exponent)
    }
}

/// Divides a little-endian multiple of 8 by 8.
fn shift_right_3(bytes: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let above = bytes.iter().skip(1).chain(&[0]);
    for (to, (low, high)) in out.iter_mut().zip(bytes.iter().zip(above)) {
        *to = (low >> 3) | (high << 5);
    }
    out
}

/// Multiplies a little-endian integer below 2^253 by 8.
fn shift_left_3(bytes: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let below = [0].iter().chain(bytes);
    for (to, (low, high)) in out.iter_mut().zip(below.zip(bytes)) {
        *to = (low >> 5) | (high << 3);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x25519::{x25519, x25519_base};
    use proptest::prelude::*;

    proptest! {
        /// INV-SPHINX-12
        #[test]
        fn multiplying_scalars_equals_chaining_x25519(
            seed: [u8; 32],
            factors in proptest::collection::vec(any::<[u8; 32]>(), 0..7),
            node: [u8; 32],
        ) {
            let mut ephemeral = Ephemeral::new(&seed);
            let mut alpha = x25519_base(&seed);
            let node_key = x25519_base(&node);
            prop_assert_eq!(x25519_base(&ephemeral.clamped().unwrap()), alpha);
            for factor in factors {
                alpha = x25519(&factor, &alpha);
                ephemeral.blind(&factor);
                let exponent = ephemeral.clamped().unwrap();
                prop_assert_eq!(x25519_base(&exponent), alpha);
                prop_assert_eq!(x25519(&exponent, &node_key), x25519(&node, &alpha));
            }
        }

        #[test]
        fn a_clamped_exponent_is_left_alone_by_clamping(seed: [u8; 32], factor: [u8; 32]) {
            let mut ephemeral = Ephemeral::new(&seed);
            ephemeral.blind(&factor);
            let exponent = ephemeral.clamped().unwrap();
            prop_assert_eq!(clamp_integer(*exponent), *exponent);
        }
    }

    #[test]
    fn an_exponent_without_clamped_form_is_refused() {
        for scalar in [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, -Scalar::from(1_u128 << 120)] {
            assert!(Ephemeral(scalar).clamped().is_none());
        }
    }
}
