//! Four ladders side by side on AVX2.

#![allow(
    unsafe_code,
    reason = "vector loads and stores, and the one call into code compiled for features found at run time"
)]

mod field;

use std::arch::x86_64::{_mm256_add_epi64, _mm256_slli_epi64};

use zeroize::Zeroize;

use self::field::{Digits, LANES, NONE, Offset, PRODUCT, SQUARE, TIMES_A24, Words, both, carry, less};
use super::batch::{Engine, Fraction};
use super::field51::Fe;
use super::lanes::{gather, scatter, swaps};

/// Proof that this processor, under this operating system, runs the instructions of this module.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        (std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

impl Engine for Avx2 {
    const LANES: usize = LANES;
    // Four cost as much as two one by one.
    const WORTH: usize = 3;

    fn ladders(self, scalars: &[[u64; 4]], points: &[[u64; 4]], out: &mut [Fraction]) {
        // SAFETY: `self` exists only where `detect` found the features that `ladders` is compiled for.
        unsafe { ladders(scalars, points, out) }
    }
}

#[target_feature(enable = "avx2,fma")]
fn ladders(scalars: &[[u64; 4]], points: &[[u64; 4]], out: &mut [Fraction]) {
    let mut digits = [Words::ZERO; 5];
    let mut flips = [Words::ZERO; 4];
    let mut last = [Words::ZERO];
    for (lane, (scalar, point)) in scalars.iter().zip(points).take(LANES).enumerate() {
        let [w0, w1, w2, w3] = *point;
        let point = Fe::from_words([w0, w1, w2, w3 & (u64::MAX >> 1)]);
        scatter(&mut digits, lane, point.to_limbs());
        scatter(&mut flips, lane, swaps(scalar));
        let [lowest, ..] = scalar;
        scatter(&mut last, lane, [lowest << 63]);
    }
    let (x, z) = ladder(&field::load_digits(&digits), &flips, &last);
    let (mut x_digits, mut z_digits) = (digits, digits);
    field::store_digits(&x, &mut x_digits);
    field::store_digits(&z, &mut z_digits);
    for (lane, fraction) in out.iter_mut().take(LANES).enumerate() {
        let element = |digits| Fe::from_limbs(gather(digits, lane));
        *fraction = Fraction::new(element(&x_digits), element(&z_digits));
    }
    let secrets = last.iter_mut().chain(&mut flips).chain(&mut x_digits).chain(&mut z_digits);
    for words in secrets {
        words.0.zeroize();
    }
}

/// The ladder of [`super::ifma`], with the same unswapped points and the same eleven carries in a step.
#[target_feature(enable = "avx2,fma")]
#[allow(clippy::many_single_char_names, reason = "the names of RFC 7748")]
fn ladder(x1: &Digits, flips: &[Words; 4], last: &[Words; 1]) -> (Digits, Digits) {
    const PRODUCTS: Offset = both(PRODUCT, PRODUCT);
    const SQUARE_PLUS: Offset = both(SQUARE, PRODUCT);
    const SQUARE_MINUS: Offset = less(SQUARE, PRODUCT);
    const SQUARE_A24: Offset = both(SQUARE, TIMES_A24);

    let (zero, one) = (field::small(0), field::small(1));
    // Invariant: x2, z2 and z3 have the offset of a product, x3 that of a square.
    let (mut x2, mut z2) = (field::raw(&one, PRODUCT), field::raw(&zero, PRODUCT));
    let (mut x3, mut z3) = (field::raw(x1, SQUARE), field::raw(&one, PRODUCT));
    let x1 = carry(&field::raw(x1, NONE), NONE);
    // Bit 255 of the scalar is none of the 255.
    for (word, bits) in flips.iter().rev().zip([63, 64, 64, 64]) {
        let mut word = field::load(word);
        if bits == 63 {
            word = _mm256_slli_epi64::<1>(word);
        }
        for _ in 0..bits {
            let a = carry(&field::add(&x2, &z2), PRODUCTS);
            let b = carry(&field::sub(&x2, &z2), NONE);
            let c = carry(&field::add(&x3, &z3), SQUARE_PLUS);
            let d = carry(&field::sub(&x3, &z3), SQUARE_MINUS);

            let aa = field::square(&field::select(word, &a, &c));
            let bb = field::square(&field::select(word, &b, &d));
            word = _mm256_add_epi64(word, word);
            let da = field::mul(&d, &a);
            let cb = field::mul(&c, &b);

            let e = carry(&field::sub(&aa, &bb), NONE);
            let difference = carry(&field::sub(&da, &cb), NONE);
            let sum = carry(&field::add(&da, &cb), PRODUCTS);
            let f = carry(&field::add_a24(&aa, &e), SQUARE_A24);

            let dd = carry(&field::square(&difference), SQUARE);
            x2 = field::mul(&carry(&aa, SQUARE), &carry(&bb, SQUARE));
            z2 = field::mul(&e, &f);
            z3 = field::mul(&x1, &dd);
            x3 = field::square(&sum);
        }
    }
    let [last] = last;
    let last = field::load(last);
    let digits = field::carry_to_digits;
    (
        field::select_digits(last, &digits(&x2, PRODUCT), &digits(&x3, SQUARE)),
        field::select_digits(last, &digits(&z2, PRODUCT), &digits(&z3, PRODUCT)),
    )
}
