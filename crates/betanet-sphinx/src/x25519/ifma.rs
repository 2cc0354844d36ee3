//! Eight ladders side by side on AVX-512 IFMA.

#![allow(
    unsafe_code,
    reason = "vector loads and stores, and the one call into code compiled for features found at run time"
)]

mod field;
mod multiples;

use std::arch::x86_64::{_mm512_rol_epi64, _mm512_set1_epi64, _mm512_test_epi64_mask};

use zeroize::Zeroize;

use self::field::{Fixed, LANES, Raw, Tight, Words};
use super::batch::{Engine, Fraction};
use super::field51::Fe;
use super::lanes::{gather, scatter, swaps};

pub(super) use self::multiples::Multiples;

/// Proof that this processor, under this operating system, runs the instructions of this module.
#[derive(Clone, Copy)]
pub(super) struct Ifma(());

impl Ifma {
    pub(super) fn detect() -> Option<Self> {
        (std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512ifma"))
            .then_some(Self(()))
    }
}

impl Engine for Ifma {
    const LANES: usize = LANES;
    // Eight cost less than one and a half one by one.
    const WORTH: usize = 2;

    fn ladders(self, scalars: &[[u64; 4]], points: &[[u64; 4]], out: &mut [Fraction]) {
        // SAFETY: `self` exists only where `detect` found the features that `ladders` is compiled for.
        unsafe { ladders(scalars, points, out) }
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn ladders(scalars: &[[u64; 4]], points: &[[u64; 4]], out: &mut [Fraction]) {
    let mut digits = [Words::ZERO; 5];
    let mut flips = [Words::ZERO; 4];
    let mut last: u8 = 0;
    for (lane, (scalar, point)) in scalars.iter().zip(points).take(LANES).enumerate() {
        scatter(&mut digits, lane, digits_of(point));
        scatter(&mut flips, lane, swaps(scalar));
        let [lowest, ..] = scalar;
        last |= u8::from(lowest & 1 == 1) << lane;
    }
    let (x, z) = ladder(&field::from_digits(&digits), &flips, last);
    let (mut x_limbs, mut z_limbs) = (digits, digits);
    field::to_limbs(&x, &mut x_limbs);
    field::to_limbs(&z, &mut z_limbs);
    for (lane, fraction) in out.iter_mut().take(LANES).enumerate() {
        let element = |limbs| Fe::from_words(words_of(gather(limbs, lane)));
        *fraction = Fraction::new(element(&x_limbs), element(&z_limbs));
    }
    for words in flips.iter_mut().chain(&mut x_limbs).chain(&mut z_limbs) {
        words.0.zeroize();
    }
}

/// The Montgomery ladder of RFC 7748 §5 with one change: the two points are never swapped.
///
/// What a step doubles is in (x2, z2), what it adds up in (x3, z3). Bit t of `flips` (bit t of the scalar xor bit t + 1)
/// says that the other point is to be doubled next. The sum and the difference of both points are computed anyway; the
/// one pair or the other is squared. The cross products da and cb would merely trade places, which turns the sign of
/// their difference, and that is squared.
///
/// Sums and differences are taken before carries, eleven of which remain in a step.
#[target_feature(enable = "avx512f,avx512ifma")]
#[allow(clippy::many_single_char_names, reason = "the names of RFC 7748")]
fn ladder(x1: &Tight, flips: &[Words; 4], last: u8) -> (Tight, Tight) {
    let (zero, bias, one) = (field::zero(), field::bias(), field::small(1));
    let fixed = Fixed::of(x1);
    // Invariant: x2 and x3 are biased, z2 and z3 plain.
    let (mut x2, mut z2) = (field::add(&bias, &one), zero);
    let (mut x3, mut z3) = (field::add(&bias, &field::widen(x1)), one);
    let mut bit = _mm512_set1_epi64(1 << 62);
    for (word, bits) in flips.iter().rev().zip([63, 64, 64, 64]) {
        let word = field::load(word);
        for _ in 0..bits {
            let swap = _mm512_test_epi64_mask(word, bit);
            bit = _mm512_rol_epi64::<63>(bit);

            let a = field::carry(&field::add(&x2, &z2));
            let b = field::carry(&field::sub(&x2, &z2));
            let c = field::carry(&field::add(&x3, &z3));
            let d = field::carry(&field::sub(&x3, &z3));

            let aa = field::square_biased(&field::select(swap, &a, &c));
            let bb = field::square(&field::select(swap, &b, &d));
            let da = field::mul(&bias, &d, &a);
            let cb = field::mul(&zero, &c, &b);

            let e = field::carry(&field::sub(&aa, &bb));
            let difference = field::carry(&field::sub(&da, &cb));
            let sum = field::carry(&field::add(&da, &cb));
            let f = field::carry(&field::add_a24(&aa, &e));

            let dd = field::carry(&field::square(&difference));
            x2 = field::mul(&bias, &field::carry(&aa), &field::carry(&bb));
            z2 = field::mul(&zero, &e, &f);
            z3 = fixed.mul(&dd);
            x3 = field::square_biased(&sum);
        }
    }
    let pick = |a: &Raw, b: &Raw| field::carry(&field::select_raw(last, a, b));
    (pick(&x2, &x3), pick(&z2, &z3))
}

/// Cuts a number below 2^256 into digits of 52 bits; bit 255 is dropped, as RFC 7748 asks for a u-coordinate.
fn digits_of([w0, w1, w2, w3]: &[u64; 4]) -> [u64; 5] {
    const DIGIT: u64 = (1 << 52) - 1;
    [
        w0 & DIGIT,
        ((w0 >> 52) | (w1 << 12)) & DIGIT,
        ((w1 >> 40) | (w2 << 24)) & DIGIT,
        ((w2 >> 28) | (w3 << 36)) & DIGIT,
        (w3 >> 16) & ((1 << 47) - 1),
    ]
}

/// The number below 2^256 whose tight limbs these are.
fn words_of([t0, t1, t2, t3, t4]: [u64; 5]) -> [u64; 4] {
    const DIGIT: u64 = (1 << 52) - 1;
    let (d1, d2, d3) = (t1 & DIGIT, t2 & DIGIT, t3 & DIGIT);
    [(t0 & DIGIT) | (d1 << 52), (d1 >> 12) | (d2 << 40), (d2 >> 24) | (d3 << 28), (d3 >> 36) | (t4 << 16)]
}
