//! Arithmetic mod p = 2^255 − 19 in four lanes, with AVX2 and FMA.
//!
//! AVX2's widest integer multiplication takes 32 bits, so an element would need ten limbs and a hundred products. The
//! fused multiply-add of doubles takes 53: a limb of 51 bits is an exactly representable integer, and two FMAs yield
//! both halves of a product exactly. With s and t multiples of 2^51 between 2^103 and 2^104, where doubles are multiples
//! of 2^51 themselves:
//!
//! - t = fma(a, b, s) is s + a·b rounded to a multiple of 2^51, so t − s is the high half;
//! - fma(a, b, s − t) is the low half, exact, at most 2^50 in size.
//!
//! Every operand is zero or an integer of normal size: no subnormals, infinities or NaNs, the only values on which
//! these instructions take another time (ADR 8). Rounding is to nearest, as Rust takes for granted.
//!
//! | form | limbs | bound |
//! |---|---|---|
//! | [`Tight`] | doubles, integers x_k | \|x_k\| ≤ 2^50, and \|x_0\| ≤ 2^50 + 2^14 |
//! | [`Raw`] | 64-bit integers, x_k plus a known offset, mod 2^64 | \|x_k\| < 2^57.1 |
//! | [`Digits`] | 64-bit integers x_k | 0 ≤ x_k < 2^51, and x_0 < 2^51 + 2^14 |
//!
//! for a value of Σ x_k·2^(51k). Sums become integers by reading a double's bits: in one binade they grow by 1 per unit
//! of the last place. The exponent bits that come along are the same for all results of a function: the offset of a raw
//! element, [`PRODUCT`] or [`SQUARE`]. [`carry`] takes it off with the constant it adds anyway.

use std::arch::x86_64::{
    __m256d, __m256i, _mm256_add_epi64, _mm256_add_pd, _mm256_and_si256, _mm256_blendv_pd, _mm256_castpd_si256,
    _mm256_castsi256_pd, _mm256_fmadd_pd, _mm256_loadu_si256, _mm256_mul_epu32, _mm256_or_si256, _mm256_set1_epi64x,
    _mm256_set1_pd, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_sub_epi64, _mm256_sub_pd,
};

use super::super::lanes;

/// Lanes of one vector.
pub(super) const LANES: usize = 4;

/// One word of each.
pub(super) type Words = lanes::Words<LANES>;

/// An operand of a multiplication.
#[derive(Clone, Copy)]
pub(super) struct Tight([__m256d; 5]);

/// A sum of products before its carries.
#[derive(Clone, Copy)]
pub(super) struct Raw([__m256i; 5]);

/// An element as integers.
#[derive(Clone, Copy)]
pub(super) struct Digits([__m256i; 5]);

/// What the limbs of a raw element are off by, mod 2^64.
pub(super) type Offset = [i64; 5];

/// The bits of 1.5·2^103, from where high halves are counted in units of 2^51. Products of less than 2^102 together do
/// not lead out of the binade: three of them, which are below 3·2^100·(1 + 2^−34).
const HIGH: i64 = 0x4668_0000_0000_0000;

/// The bits of 1.5·2^52, from where low halves are counted in units of 1. Two of them, at most 2^51 together, lead at
/// most to the edges of the binade.
const LOW: i64 = 0x4338_0000_0000_0000;

/// The bits of 1.5·2^103 + 1.5·2^52, which is three more last places.
const HIGH_AND_LOW: i64 = HIGH + 3;

/// The bits of 2^52, whose last place is 1.
const UNIT: i64 = 0x4330_0000_0000_0000;

const DIGIT: i64 = (1 << 51) - 1;

/// (A + 2) / 4 − 1 for the curve's A = 486,662, in the form of RFC 7748.
const A24: f64 = 121_665.0;

/// The offset of what [`mul`] gives.
pub(super) const PRODUCT: Offset = offset([1, 1, 2, 2, 3, 2, 2, 1, 1]);

/// The offset of what [`square`] gives.
pub(super) const SQUARE: Offset = offset([1, 1, 1, 2, 2, 2, 1, 1, 1]);

/// The offset of what [`add_a24`] adds.
pub(super) const TIMES_A24: Offset = offset([1, 1, 1, 1, 1, 0, 0, 0, 0]);

/// No offset.
pub(super) const NONE: Offset = [0; 5];

/// The offset of a [`fold`] of columns that so many pairs of sums have been joined into.
const fn offset([n0, n1, n2, n3, n4, n5, n6, n7, n8]: [i64; 9]) -> Offset {
    const fn column(lows: i64, highs: i64) -> i64 {
        lows.wrapping_mul(LOW).wrapping_add(highs.wrapping_mul(HIGH))
    }
    const fn limb(near: i64, far: i64) -> i64 {
        near.wrapping_add(far.wrapping_mul(19))
    }
    [
        limb(column(n0, 0), column(n5, n4)),
        limb(column(n1, n0), column(n6, n5)),
        limb(column(n2, n1), column(n7, n6)),
        limb(column(n3, n2), column(n8, n7)),
        limb(column(n4, n3), column(0, n8)),
    ]
}

/// The offset of a sum.
pub(super) const fn both([a0, a1, a2, a3, a4]: Offset, [b0, b1, b2, b3, b4]: Offset) -> Offset {
    [a0.wrapping_add(b0), a1.wrapping_add(b1), a2.wrapping_add(b2), a3.wrapping_add(b3), a4.wrapping_add(b4)]
}

/// The offset of a difference.
pub(super) const fn less([a0, a1, a2, a3, a4]: Offset, [b0, b1, b2, b3, b4]: Offset) -> Offset {
    [a0.wrapping_sub(b0), a1.wrapping_sub(b1), a2.wrapping_sub(b2), a3.wrapping_sub(b3), a4.wrapping_sub(b4)]
}

/// What to add to a raw element of this offset to have its limbs free of it and positive: 2^8·p, whose limbs are above
/// 2^58.9, more than the 2^58.1 that the sum or difference of two results can reach.
const fn clearing(offset: Offset) -> Offset {
    const BOTTOM: i64 = ((1 << 51) - 19) << 8;
    const OTHER: i64 = DIGIT << 8;
    less([BOTTOM, OTHER, OTHER, OTHER, OTHER], offset)
}

/// [`clearing`] with 2^50 more in each limb, which [`tighten`] takes off again to centre the digits on zero.
const fn centring(offset: Offset) -> Offset {
    both(clearing(offset), [1 << 50; 5])
}

/// Loads one word per lane.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn load(words: &Words) -> __m256i {
    // SAFETY: `words` is a reference to 32 readable bytes; the unaligned form asks for nothing else.
    unsafe { _mm256_loadu_si256(words.0.as_ptr().cast()) }
}

/// Stores one word per lane.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn store(vector: __m256i, words: &mut Words) {
    // SAFETY: `words` is an exclusive reference to 32 writable bytes; the unaligned form asks for nothing else.
    unsafe { _mm256_storeu_si256(words.0.as_mut_ptr().cast(), vector) }
}

/// Digits below 2^51 from memory.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn load_digits(digits: &[Words; 5]) -> Digits {
    let [d0, d1, d2, d3, d4] = digits;
    Digits([load(d0), load(d1), load(d2), load(d3), load(d4)])
}

/// Digits to memory.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn store_digits(a: &Digits, digits: &mut [Words; 5]) {
    for (vector, words) in a.0.iter().zip(digits) {
        store(*vector, words);
    }
}

/// A small constant.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn small(value: i64) -> Digits {
    let zero = all(0);
    Digits([all(value), zero, zero, zero, zero])
}

/// Digits as a raw element of the given offset.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn raw(a: &Digits, offset: Offset) -> Raw {
    let ([a0, a1, a2, a3, a4], [o0, o1, o2, o3, o4]) = (a.0, offset);
    Raw([plus(a0, all(o0)), plus(a1, all(o1)), plus(a2, all(o2)), plus(a3, all(o3)), plus(a4, all(o4))])
}

/// a + b; the offsets add up.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn add(a: &Raw, b: &Raw) -> Raw {
    let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (a.0, b.0);
    Raw([plus(a0, b0), plus(a1, b1), plus(a2, b2), plus(a3, b3), plus(a4, b4)])
}

/// a − b; the offsets too.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn sub(a: &Raw, b: &Raw) -> Raw {
    let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (a.0, b.0);
    Raw([
        _mm256_sub_epi64(a0, b0),
        _mm256_sub_epi64(a1, b1),
        _mm256_sub_epi64(a2, b2),
        _mm256_sub_epi64(a3, b3),
        _mm256_sub_epi64(a4, b4),
    ])
}

/// Lane by lane `b` where the top bit of `choice` is set, else `a`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn select(choice: __m256i, a: &Tight, b: &Tight) -> Tight {
    let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (a.0, b.0);
    let mask = _mm256_castsi256_pd(choice);
    Tight([
        _mm256_blendv_pd(a0, b0, mask),
        _mm256_blendv_pd(a1, b1, mask),
        _mm256_blendv_pd(a2, b2, mask),
        _mm256_blendv_pd(a3, b3, mask),
        _mm256_blendv_pd(a4, b4, mask),
    ])
}

/// [`select`] for digits.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn select_digits(choice: __m256i, a: &Digits, b: &Digits) -> Digits {
    let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (a.0, b.0);
    let pick = |a: __m256i, b: __m256i| {
        let (a, b) = (_mm256_castsi256_pd(a), _mm256_castsi256_pd(b));
        _mm256_castpd_si256(_mm256_blendv_pd(a, b, _mm256_castsi256_pd(choice)))
    };
    Digits([pick(a0, b0), pick(a1, b1), pick(a2, b2), pick(a3, b3), pick(a4, b4)])
}

/// Brings a sum or difference of at most two results, of the given offset together, into tight form.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn carry(a: &Raw, offset: Offset) -> Tight {
    tighten(&chain(a, centring(offset)))
}

/// [`carry`] to digits.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn carry_to_digits(a: &Raw, offset: Offset) -> Digits {
    chain(a, clearing(offset))
}

/// One pass upwards over limbs that `constant` makes positive and smaller than 2^60: they hand on less than 2^9, and the
/// top one 19 times as much to the bottom, which is below 2^14.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn chain(a: &Raw, constant: Offset) -> Digits {
    let ([a0, a1, a2, a3, a4], [c0, c1, c2, c3, c4]) = (a.0, constant);
    let digit = all(DIGIT);
    let r0 = plus(a0, all(c0));
    let r1 = plus(plus(a1, all(c1)), _mm256_srli_epi64::<51>(r0));
    let r2 = plus(plus(a2, all(c2)), _mm256_srli_epi64::<51>(r1));
    let r3 = plus(plus(a3, all(c3)), _mm256_srli_epi64::<51>(r2));
    let r4 = plus(plus(a4, all(c4)), _mm256_srli_epi64::<51>(r3));
    let over = _mm256_mul_epu32(_mm256_srli_epi64::<51>(r4), all(19));
    Digits([
        plus(_mm256_and_si256(r0, digit), over),
        _mm256_and_si256(r1, digit),
        _mm256_and_si256(r2, digit),
        _mm256_and_si256(r3, digit),
        _mm256_and_si256(r4, digit),
    ])
}

/// Digits as doubles, less 2^50 each: with the exponent of 2^52 over it, a digit is the double 2^52 + digit.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn tighten(a: &Digits) -> Tight {
    const CENTRE: f64 = 4_503_599_627_370_496.0 + 1_125_899_906_842_624.0;
    let double = |digit: __m256i| {
        let double = _mm256_castsi256_pd(_mm256_or_si256(digit, all(UNIT)));
        _mm256_sub_pd(double, _mm256_set1_pd(CENTRE))
    };
    let [a0, a1, a2, a3, a4] = a.0;
    Tight([double(a0), double(a1), double(a2), double(a3), double(a4)])
}

/// a·b, of offset [`PRODUCT`].
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn mul(a: &Tight, b: &Tight) -> Raw {
    let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (a.0, b.0);
    fold(&[
        one((a0, b0)),
        two((a0, b1), (a1, b0)),
        join(two((a0, b2), (a1, b1)), one((a2, b0))),
        join(two((a0, b3), (a1, b2)), two((a2, b1), (a3, b0))),
        join(join(two((a0, b4), (a1, b3)), two((a2, b2), (a3, b1))), one((a4, b0))),
        join(two((a1, b4), (a2, b3)), two((a3, b2), (a4, b1))),
        join(two((a2, b4), (a3, b3)), one((a4, b2))),
        two((a3, b4), (a4, b3)),
        one((a4, b4)),
    ])
}

/// a², of offset [`SQUARE`]. Factors are doubled, not products; [`two`] takes no two doubled products.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn square(a: &Tight) -> Raw {
    let [a0, a1, a2, a3, a4] = a.0;
    let twice = |x: __m256d| _mm256_add_pd(x, x);
    let (d0, d1, d2, d3) = (twice(a0), twice(a1), twice(a2), twice(a3));
    fold(&[
        one((a0, a0)),
        one((d0, a1)),
        two((d0, a2), (a1, a1)),
        join(one((d0, a3)), one((d1, a2))),
        join(two((d0, a4), (a2, a2)), one((d1, a3))),
        join(one((d1, a4)), one((d2, a3))),
        two((d2, a4), (a3, a3)),
        one((d3, a4)),
        one((a4, a4)),
    ])
}

/// init + 121665·e; the offset grows by [`TIMES_A24`]. Products are below 2^67, so high halves are below 2^16 + 1.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn add_a24(init: &Raw, e: &Tight) -> Raw {
    let ([i0, i1, i2, i3, i4], [e0, e1, e2, e3, e4]) = (init.0, e.0);
    let a24 = _mm256_set1_pd(A24);
    let (p0, p1, p2) = (one((e0, a24)), one((e1, a24)), one((e2, a24)));
    let (p3, p4) = (one((e3, a24)), one((e4, a24)));
    Raw([
        plus(plus(i0, p0.low), times_19(p4.high)),
        plus(plus(i1, p1.low), p0.high),
        plus(plus(i2, p2.low), p1.high),
        plus(plus(i3, p3.low), p2.high),
        plus(plus(i4, p4.low), p3.high),
    ])
}

/// The products of one column: low halves, counted from [`LOW`], and high halves, counted from [`HIGH`], as bits.
#[derive(Clone, Copy)]
struct Column {
    low: __m256i,
    high: __m256i,
}

/// Two limbs to be multiplied.
type Factors = (__m256d, __m256d);

/// Nine columns to five limbs: high halves move up by one column, and five columns up is a factor of 19.
///
/// A column of n products holds low halves of at most n·2^50 and high ones of at most n·2^49 together, n being 1, 2, 3,
/// 4, 5, 4, 3, 2, 1 (doubled ones counted twice). With the high halves from below that is 7·2^50 at most in the first
/// five columns and 6.5·2^50 in those above, so a limb is below (7 + 19·6.5)·2^50 < 2^57.1.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn fold(columns: &[Column; 9]) -> Raw {
    let [k0, k1, k2, k3, k4, k5, k6, k7, k8] = *columns;
    Raw([
        plus(k0.low, times_19(plus(k5.low, k4.high))),
        plus(plus(k1.low, k0.high), times_19(plus(k6.low, k5.high))),
        plus(plus(k2.low, k1.high), times_19(plus(k7.low, k6.high))),
        plus(plus(k3.low, k2.high), times_19(plus(k8.low, k7.high))),
        plus(plus(k4.low, k3.high), times_19(k8.high)),
    ])
}

/// The column of one product.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn one((a, b): Factors) -> Column {
    let high = _mm256_fmadd_pd(a, b, counted_from(HIGH));
    let low = _mm256_fmadd_pd(a, b, _mm256_sub_pd(counted_from(HIGH_AND_LOW), high));
    Column { low: _mm256_castpd_si256(low), high: _mm256_castpd_si256(high) }
}

/// The column of two products, a doubled one and a plain one at most. The second is counted on from the first.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn two((a, b): Factors, (c, d): Factors) -> Column {
    let first = _mm256_fmadd_pd(a, b, counted_from(HIGH));
    let low = _mm256_fmadd_pd(a, b, _mm256_sub_pd(counted_from(HIGH_AND_LOW), first));
    let high = _mm256_fmadd_pd(c, d, first);
    let low = _mm256_add_pd(low, _mm256_fmadd_pd(c, d, _mm256_sub_pd(first, high)));
    Column { low: _mm256_castpd_si256(low), high: _mm256_castpd_si256(high) }
}

/// The column of the products of both.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn join(a: Column, b: Column) -> Column {
    Column { low: plus(a.low, b.low), high: plus(a.high, b.high) }
}

/// The double with these bits.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn counted_from(bits: i64) -> __m256d {
    _mm256_castsi256_pd(all(bits))
}

/// 19·a as 2·9·a + a. One doubling is hidden from the compiler: it knows that all this is a multiplication by 19, which
/// AVX2 has not for 64 bits, and would put five instructions in place of these four.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn times_19(a: __m256i) -> __m256i {
    let nine = plus(_mm256_slli_epi64::<3>(a), a);
    let eighteen: __m256i;
    // SAFETY: one AVX2 addition between registers: it reads and writes no memory, stack or flags.
    unsafe {
        std::arch::asm!(
            "vpaddq {out}, {nine}, {nine}",
            out = lateout(ymm_reg) eighteen,
            nine = in(ymm_reg) nine,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    plus(eighteen, a)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn all(value: i64) -> __m256i {
    _mm256_set1_epi64x(value)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn plus(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi64(a, b)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests;
