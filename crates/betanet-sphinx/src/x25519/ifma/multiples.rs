//! Multiplications of points whose multiples are known, eight side by side: 64 additions each, instead of 255 steps.
//!
//! A scalar is written in 64 digits from −8 to 8 to the base 16. For every other place of them a table holds the
//! multiples 1 to 8 of the point at that place; what the places between come to is taken times 16 in between.
//! Which multiple is taken is a secret, so all eight are read, and the one that is wanted is kept.

use std::arch::x86_64::{
    __m512i, __mmask8, _mm512_abs_epi64, _mm512_and_si512, _mm512_cmpeq_epi64_mask, _mm512_cmplt_epi64_mask,
    _mm512_mask_blend_epi64, _mm512_permutexvar_epi64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_i64x2,
    _mm512_srlv_epi64, _mm512_sub_epi64, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use zeroize::Zeroize;

use super::field::{self, LANES, Raw, Tight, Words};
use super::{Ifma, digits_of, words_of};
use crate::x25519::batch::{Fraction, words};
use crate::x25519::edwards::{self, Affine};
use crate::x25519::field51::Fe;
use crate::x25519::lanes::{gather, scatter};

/// Places of the scalar's digits that have a window of their own.
const WINDOWS: usize = 32;
/// Multiples in a window.
const MULTIPLES: usize = 8;
/// Digits of a scalar.
const PLACES: usize = 2 * WINDOWS;
/// From the largest multiple of a window to the first of the next, 256 times the first of this: 8·2^5.
const DOUBLINGS: usize = 5;

/// (y + x) / 2, (y − x) / 2 and d·x·y of a point, five digits of 52 bits each, and a word of no use.
#[derive(Clone, Copy)]
struct Entry([Words; 2]);

/// Multiples of one point: 32 KiB.
pub(in crate::x25519) struct Multiples(Box<[[Entry; MULTIPLES]]>);

impl Multiples {
    /// Those of a point, which is public; `None` for one of the twist.
    pub(in crate::x25519) fn of(point: &[u8; 32]) -> Option<Self> {
        let d = edwards::d();
        let twice_d = d.plus(d);
        let mut first = edwards::lift(words(point), d)?;
        let mut points = Vec::with_capacity(WINDOWS * MULTIPLES);
        for _ in 0..WINDOWS {
            let mut multiple = first;
            points.push(multiple);
            for _ in 1..MULTIPLES {
                multiple = multiple.add(&first, twice_d);
                points.push(multiple);
            }
            first = (0..DOUBLINGS).fold(multiple, |point, _| point.add(&point, twice_d));
        }
        let half = Fe::from_words([2, 0, 0, 0]).invert();
        let affine = edwards::to_affine(&points);
        let mut entries = affine.iter().map(|point| Entry::of(point, half, d));
        let mut table = vec![[Entry::ZERO; MULTIPLES]; WINDOWS].into_boxed_slice();
        table.iter_mut().flatten().zip(&mut entries).for_each(|(place, entry)| *place = entry);
        Some(Self(table))
    }
}

impl Entry {
    const ZERO: Self = Self([Words::ZERO; 2]);

    /// What adds nothing: x = 0, y = 1.
    const NEUTRAL: Self = {
        // 1/2 is 2^254 − 9.
        const LOWEST: u64 = (1 << 52) - 9;
        const FULL: u64 = (1 << 52) - 1;
        const TOP: u64 = (1 << 46) - 1;
        let [first, second] = [[LOWEST, FULL, FULL, FULL, TOP, LOWEST, FULL, FULL], [FULL, TOP, 0, 0, 0, 0, 0, 0]];
        Self([crate::x25519::lanes::Words(first), crate::x25519::lanes::Words(second)])
    };

    fn of(Affine { x, y }: &Affine, half: Fe, d: Fe) -> Self {
        let parts = [y.plus(*x).mul(half), y.minus(*x).mul(half), x.mul(*y).mul(d)];
        let digits = parts.iter().flat_map(|part| digits_of(&words(&part.to_bytes())));
        let mut entry = Self::ZERO;
        let places = entry.0.iter_mut().flat_map(|words| &mut words.0);
        places.zip(digits).for_each(|(place, digit)| *place = digit);
        entry
    }
}

impl Ifma {
    /// The multiple of the point of each table by the clamped scalar at its place.
    #[allow(clippy::unused_self, reason = "the proof that it can run")]
    pub(in crate::x25519) fn multiples(self, scalars: &[[u64; 4]], tables: &[&Multiples], out: &mut [Fraction]) {
        // SAFETY: `self` exists only where `detect` found the features that `multiples` is compiled for.
        unsafe { multiples(scalars, tables, out) }
    }
}

/// The scalars of all lanes plus 8 at every place of a digit but the last: there a digit is what stands at its place less 8,
/// and nothing is carried from one to the next.
struct Digits([Words; 4]);

impl Digits {
    /// Clamped scalars, which are below 2^255, so that the last digit is 8 at most.
    fn of(scalars: &[[u64; 4]]) -> Self {
        const EIGHTS: [u64; 4] =
            [0x8888_8888_8888_8888, 0x8888_8888_8888_8888, 0x8888_8888_8888_8888, 0x0888_8888_8888_8888];
        let mut digits = Self([Words::ZERO; 4]);
        for (lane, scalar) in scalars.iter().take(LANES).enumerate() {
            let mut sum = *scalar;
            let mut carry = false;
            for (word, eights) in sum.iter_mut().zip(EIGHTS) {
                (*word, carry) = word.carrying_add(eights, carry);
            }
            scatter(&mut digits.0, lane, sum);
            sum.zeroize();
        }
        digits
    }

    /// The sizes of the digits at one place, and which of them are negative.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn at(&self, place: usize) -> (__m512i, __mmask8) {
        let (word, nibble) = (place / 16, i64::try_from(place % 16).unwrap_or_default());
        let words = field::load(self.0.get(word).unwrap_or(&Words::ZERO));
        let digit = _mm512_and_si512(_mm512_srlv_epi64(words, _mm512_set1_epi64(4 * nibble)), _mm512_set1_epi64(15));
        let less = if place == PLACES - 1 { 0 } else { 8 };
        let digit = _mm512_sub_epi64(digit, _mm512_set1_epi64(less));
        (_mm512_abs_epi64(digit), _mm512_cmplt_epi64_mask(digit, _mm512_setzero_si512()))
    }
}

impl Drop for Digits {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|words| words.0.zeroize());
    }
}

/// Sums of points on their way. Invariant: x is plain, y and z are biased.
struct Sums {
    x: Raw,
    y: Raw,
    z: Raw,
    t: Tight,
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn multiples(scalars: &[[u64; 4]], tables: &[&Multiples], out: &mut [Fraction]) {
    let Some(first) = tables.first() else { return };
    let tables: [&Multiples; LANES] = std::array::from_fn(|lane| *tables.get(lane).unwrap_or(first));
    let digits = Digits::of(scalars);
    let (zero, bias) = (field::zero(), field::bias());
    let one = field::add(&bias, &field::small(1));
    let mut sums = Sums { x: zero, y: one, z: one, t: field::carry(&zero) };
    for odd in [1, 0] {
        for window in 0..WINDOWS {
            let (sizes, negative) = digits.at(2 * window + odd);
            add(&mut sums, &pick(&tables, window, sizes), negative);
        }
        if odd == 1 {
            for _ in 0..4 {
                double(&mut sums);
            }
        }
    }
    // u = (z + y) / (z − y).
    let (y, z) = (field::carry(&sums.y), field::carry(&sums.z));
    let (y, z) = (field::mul(&zero, &y, &field::carry(&one)), field::mul(&bias, &z, &field::carry(&one)));
    let (mut above, mut below) = ([Words::ZERO; 5], [Words::ZERO; 5]);
    field::to_limbs(&field::carry(&field::add(&z, &y)), &mut above);
    field::to_limbs(&field::carry(&field::sub(&z, &y)), &mut below);
    for (lane, fraction) in out.iter_mut().take(LANES).enumerate() {
        let element = |limbs| Fe::from_words(words_of(gather(limbs, lane)));
        *fraction = Fraction::new(element(&above), element(&below));
    }
    above.iter_mut().chain(&mut below).for_each(|words| words.0.zeroize());
}

/// The entries of one window that are `sizes` times its first, limb by limb.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn pick(tables: &[&Multiples; LANES], window: usize, sizes: __m512i) -> [Tight; 3] {
    let [neutral_low, neutral_high] = &Entry::NEUTRAL.0;
    let (mut low, mut high) = ([field::load(neutral_low); LANES], [field::load(neutral_high); LANES]);
    let lanes = low.iter_mut().zip(&mut high).zip(tables).zip(0..);
    for (((low, high), table), lane) in lanes {
        let Some([e1, e2, e3, e4, e5, e6, e7, e8]) = table.0.get(window) else { continue };
        let size = _mm512_permutexvar_epi64(_mm512_set1_epi64(lane), sizes);
        // Named here, so that they stay in registers.
        let (mut first, mut second) = (*low, *high);
        for (number, entry) in [(1, e1), (2, e2), (3, e3), (4, e4), (5, e5), (6, e6), (7, e7), (8, e8)] {
            let is_it = _mm512_cmpeq_epi64_mask(size, _mm512_set1_epi64(number));
            let Entry([one, other]) = entry;
            first = _mm512_mask_blend_epi64(is_it, first, field::load(one));
            second = _mm512_mask_blend_epi64(is_it, second, field::load(other));
        }
        (*low, *high) = (first, second);
    }
    let ([s0, s1, s2, s3, s4, d0, d1, d2], [d3, d4, p0, p1, p2, p3, p4, _]) = (transpose(&low), transpose(&high));
    [
        field::from_vectors(&[s0, s1, s2, s3, s4]),
        field::from_vectors(&[d0, d1, d2, d3, d4]),
        field::from_vectors(&[p0, p1, p2, p3, p4]),
    ]
}

/// Word k of vector i to word i of vector k.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn transpose(&[v0, v1, v2, v3, v4, v5, v6, v7]: &[__m512i; LANES]) -> [__m512i; LANES] {
    // Words 0, 2, 4, 6 of two vectors in turn, or 1, 3, 5, 7.
    let pairs = |one, other| (_mm512_unpacklo_epi64(one, other), _mm512_unpackhi_epi64(one, other));
    let ((ab0, ab1), (cd0, cd1), (ef0, ef1), (gh0, gh1)) = (pairs(v0, v1), pairs(v2, v3), pairs(v4, v5), pairs(v6, v7));
    // Of the four pairs in each vector the first and third, or the second and fourth; then once more.
    let even = |one, other| _mm512_shuffle_i64x2::<0b10_00_10_00>(one, other);
    let odd = |one, other| _mm512_shuffle_i64x2::<0b11_01_11_01>(one, other);
    let (low0, low2, high0, high2) = (even(ab0, cd0), odd(ab0, cd0), even(ef0, gh0), odd(ef0, gh0));
    let (low1, low3, high1, high3) = (even(ab1, cd1), odd(ab1, cd1), even(ef1, gh1), odd(ef1, gh1));
    [
        even(low0, high0),
        even(low1, high1),
        even(low2, high2),
        even(low3, high3),
        odd(low0, high0),
        odd(low1, high1),
        odd(low2, high2),
        odd(low3, high3),
    ]
}

/// Adds the entries, or takes them away where they are `negative`.
///
/// The negative of a point has y + x and y − x in each other's place, and −d·x·y, which lets `f` and `g` trade places.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
#[allow(clippy::many_single_char_names, reason = "the names of the formulas' authors")]
fn add(sums: &mut Sums, [sum, difference, product]: &[Tight; 3], negative: __mmask8) {
    let (zero, bias) = (field::zero(), field::bias());
    let above = field::select(negative, sum, difference);
    let below = field::select(negative, difference, sum);
    let a = field::mul(&zero, &field::carry(&field::sub(&sums.y, &sums.x)), &below);
    let b = field::mul(&bias, &field::carry(&field::add(&sums.y, &sums.x)), &above);
    let c = field::mul(&zero, &sums.t, product);
    let (less, more) = (field::carry(&field::sub(&sums.z, &c)), field::carry(&field::add(&sums.z, &c)));
    let (f, g) = (field::select(negative, &less, &more), field::select(negative, &more, &less));
    let (e, h) = (field::carry(&field::sub(&b, &a)), field::carry(&field::add(&b, &a)));
    *sums = Sums {
        x: field::mul(&zero, &e, &f),
        y: field::mul(&bias, &g, &h),
        z: field::mul(&bias, &f, &g),
        t: field::carry(&field::mul(&zero, &e, &h)),
    };
}

/// Doubles. A column of a square is below 10·2^52 + 2^14, three of them below 2^57, and with a bias below 2^58 at the top.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
#[allow(clippy::many_single_char_names, reason = "the names of the formulas' authors")]
fn double(sums: &mut Sums) {
    let (zero, bias) = (field::zero(), field::bias());
    let squared_sum = field::square_biased(&field::carry(&field::add(&sums.y, &sums.x)));
    let a = field::square(&field::carry(&sums.x));
    let b = field::square(&field::carry(&sums.y));
    let c = field::square(&field::carry(&sums.z));
    let h = field::carry(&field::add(&a, &b));
    let e = field::carry(&field::sub(&field::sub(&squared_sum, &a), &b));
    let g = field::carry(&field::sub(&field::add(&bias, &b), &a));
    // With −f and −h in place of f and h all four coordinates turn their signs, which is the same point.
    let f = field::carry(&field::sub(&field::add(&field::add(&bias, &a), &field::add(&c, &c)), &b));
    *sums = Sums {
        x: field::mul(&zero, &e, &f),
        y: field::mul(&bias, &g, &h),
        z: field::mul(&bias, &f, &g),
        t: field::carry(&field::mul(&zero, &e, &h)),
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests;
