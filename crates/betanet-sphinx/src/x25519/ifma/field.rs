//! Arithmetic mod p = 2^255 − 19 in eight lanes, with AVX-512 IFMA.
//!
//! `vpmadd52luq` and `vpmadd52huq` multiply the low 52 bits of their operands and add the low or the high half of the
//! product to 64-bit columns. Radix 2^52 therefore needs no doubling of the high halves, and bits above the 52nd of
//! an operand are ignored by the hardware, so a carry leaves them where they are instead of masking them off.
//!
//! Two forms of a field element keep the carries few and the bounds checkable; x_k stands for any lane of limb k.
//!
//! | form | value | bound |
//! |---|---|---|
//! | [`Tight`] | Σ (x_k mod 2^52)·2^(52k) for k < 4, plus x_4·2^208 | x_4 ≤ 2^47 + 2^11 |
//! | [`Raw`] | Σ x_k·2^(52k) | x_4 < 2^58, other x_k < 2^63 |
//!
//! Only tight elements are multiplied, only raw ones added and subtracted, and [`carry`] leads from raw to tight.
//! A raw element *plain* has all x_k < 2^56; *biased* means that [`bias`] (a multiple of p) has been added to a plain one.

use std::arch::x86_64::{
    __m512i, __mmask8, _mm512_add_epi64, _mm512_and_si512, _mm512_loadu_si512, _mm512_madd52hi_epu64,
    _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_srli_epi64,
    _mm512_storeu_si512, _mm512_sub_epi64,
};

use super::super::lanes;

/// Lanes of one vector.
pub(super) const LANES: usize = 8;

/// One word of each.
pub(super) type Words = lanes::Words<LANES>;

/// An operand of a multiplication.
#[derive(Clone, Copy)]
pub(super) struct Tight([__m512i; 5]);

/// A sum of products before its carries.
#[derive(Clone, Copy)]
pub(super) struct Raw([__m512i; 5]);

const TOP_MASK: i64 = (1 << 47) - 1;

/// 2^260 mod p: what a column five places up is worth.
const WRAP: i64 = 32 * 19;

/// (A + 2) / 4 − 1 for the curve's A = 486,662, in the form of RFC 7748.
const A24: i64 = 121_665;

/// The limbs of 2^10·p. Each is at least 2^57 − 2^10, more than any column of a plain element (2^56), and below 2^62.
const BIAS: [i64; 5] = [
    ((1 << 52) - 19) << 10,
    ((1 << 52) - 1) << 10,
    ((1 << 52) - 1) << 10,
    ((1 << 52) - 1) << 10,
    ((1 << 47) - 1) << 10,
];

/// Loads one word per lane.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn load(words: &Words) -> __m512i {
    // SAFETY: `words` is a reference to 64 readable bytes; the unaligned form asks for nothing else.
    unsafe { _mm512_loadu_si512(words.0.as_ptr().cast()) }
}

/// Stores one word per lane.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn store(vector: __m512i, words: &mut Words) {
    // SAFETY: `words` is an exclusive reference to 64 writable bytes; the unaligned form asks for nothing else.
    unsafe { _mm512_storeu_si512(words.0.as_mut_ptr().cast(), vector) }
}

/// A tight element from digits the caller has cut to 52 bits, the last one to 47.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn from_digits(digits: &[Words; 5]) -> Tight {
    let [d0, d1, d2, d3, d4] = digits;
    Tight([load(d0), load(d1), load(d2), load(d3), load(d4)])
}

/// A tight element from such digits, lane by lane.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn from_vectors(digits: &[__m512i; 5]) -> Tight {
    Tight(*digits)
}

/// The limbs of a tight element; those of k < 4 carry noise above bit 51.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn to_limbs(a: &Tight, limbs: &mut [Words; 5]) {
    for (vector, words) in a.0.iter().zip(limbs) {
        store(*vector, words);
    }
}

/// Zero, plain.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn zero() -> Raw {
    Raw([_mm512_setzero_si512(); 5])
}

/// A small constant, plain; `value` is not negative.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn small(value: i64) -> Raw {
    let mut raw = zero();
    raw.0[0] = all(value);
    raw
}

/// Zero as a multiple of p large enough to subtract any plain element from.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn bias() -> Raw {
    Raw([all(BIAS[0]), all(BIAS[1]), all(BIAS[2]), all(BIAS[3]), all(BIAS[4])])
}

/// A freshly loaded element (digits without noise) as a plain raw one.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn widen(a: &Tight) -> Raw {
    Raw(a.0)
}

/// a + b. At most one of them is biased: columns stay below 2^62 + 2^57, the top one below 2^58.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn add(a: &Raw, b: &Raw) -> Raw {
    let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (a.0, b.0);
    Raw([plus(a0, b0), plus(a1, b1), plus(a2, b2), plus(a3, b3), plus(a4, b4)])
}

/// a − b for a biased `a` and a plain `b`: no column goes below zero.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn sub(a: &Raw, b: &Raw) -> Raw {
    let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (a.0, b.0);
    Raw([
        _mm512_sub_epi64(a0, b0),
        _mm512_sub_epi64(a1, b1),
        _mm512_sub_epi64(a2, b2),
        _mm512_sub_epi64(a3, b3),
        _mm512_sub_epi64(a4, b4),
    ])
}

/// Lane by lane `b` where the bit of `choice` is set, else `a`.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn select(choice: __mmask8, a: &Tight, b: &Tight) -> Tight {
    Tight(select_limbs(choice, &a.0, &b.0))
}

/// [`select`] for raw elements.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn select_raw(choice: __mmask8, a: &Raw, b: &Raw) -> Raw {
    Raw(select_limbs(choice, &a.0, &b.0))
}

/// Brings a raw element into tight form.
///
/// What the top limb holds above bit 46 is worth 19 at the bottom: at most 2^11, times 19. From there one pass upwards:
/// a column below 2^63 hands on less than 2^11 + 1, so the top limb ends at most at 2^47 − 1 + 2^11.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn carry(a: &Raw) -> Tight {
    let [r0, r1, r2, r3, r4] = a.0;
    let over = _mm512_srli_epi64::<47>(r4);
    let r4 = _mm512_and_si512(r4, all(TOP_MASK));
    let t0 = lo(r0, over, all(19));
    let t1 = plus(r1, above(t0));
    let t2 = plus(r2, above(t1));
    let t3 = plus(r3, above(t2));
    let t4 = plus(r4, above(t3));
    Tight([t0, t1, t2, t3, t4])
}

/// init + a·b. Plain when `init` is [`zero`], biased when it is [`bias`].
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn mul(init: &Raw, a: &Tight, b: &Tight) -> Raw {
    let (a, b) = (a.0, b.0);
    let mut z = columns(init);
    // Rows from the top, so that the columns the fold needs first are finished first.
    macro_rules! row {
        ($i:literal) => {
            row!($i: 4, 3, 2, 1, 0)
        };
        ($i:literal: $($j:literal),*) => {$(
            z[$i + $j] = lo(z[$i + $j], a[$i], b[$j]);
            z[$i + $j + 1] = hi(z[$i + $j + 1], a[$i], b[$j]);
        )*};
    }
    row!(4);
    row!(3);
    row!(2);
    row!(1);
    row!(0);
    fold(&z)
}

/// A factor of many products: [`Fixed::of`] computes once what `mul` would have to fold every time.
pub(super) struct Fixed([Tight; 5]);

impl Fixed {
    /// a·2^(52k) for k = 0 to 4.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn of(a: &Tight) -> Self {
        let zero = all(0);
        let radix = Tight([zero, all(1), zero, zero, zero]);
        let next = |a: &Tight| carry(&mul(&Raw([zero; 5]), a, &radix));
        let a1 = next(a);
        let a2 = next(&a1);
        let a3 = next(&a2);
        let a4 = next(&a3);
        Self([*a, a1, a2, a3, a4])
    }

    /// a·b, plain: digit k of b times a·2^(52k).
    ///
    /// A column holds ten halves of products at most. What goes up from the fifth is the sum of five high halves of
    /// 52 bits times the 47 and a little of a top limb, so it is below 2^49.5 and its 608-fold has two halves only.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn mul(&self, b: &Tight) -> Raw {
        let mut z = [_mm512_setzero_si512(); 6];
        macro_rules! column {
            ($k:literal) => {
                column!($k: 0, 1, 2, 3, 4)
            };
            ($k:literal: $($i:literal),*) => {$(
                z[$k] = lo(z[$k], self.0[$i].0[$k], b.0[$i]);
                z[$k + 1] = hi(z[$k + 1], self.0[$i].0[$k], b.0[$i]);
            )*};
        }
        column!(4);
        column!(3);
        column!(2);
        column!(1);
        column!(0);
        let [z0, z1, z2, z3, z4, z5] = z;
        let wrap = all(WRAP);
        Raw([lo(z0, z5, wrap), hi(z1, z5, wrap), z2, z3, z4])
    }
}

/// a², plain.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn square(a: &Tight) -> Raw {
    square_onto(&zero(), a)
}

/// a², biased.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn square_biased(a: &Tight) -> Raw {
    // Columns 1 to 4 are doubled below, so they start from half the bias.
    let [b0, b1, b2, b3, b4] = BIAS;
    let init = Raw([all(b0), all(b1 / 2), all(b2 / 2), all(b3 / 2), all(b4 / 2)]);
    square_onto(&init, a)
}

/// init + 121665·e, biased as `init` is.
///
/// Adds less than 2^53 + 2^17 to a column; the top limb's high half is below 2^47·2^17 / 2^52 = 2^12 and wraps.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn add_a24(init: &Raw, e: &Tight) -> Raw {
    let ([r0, r1, r2, r3, r4], [e0, e1, e2, e3, e4]) = (init.0, e.0);
    let a24 = all(A24);
    let over = hi(_mm512_setzero_si512(), e4, a24);
    Raw([
        lo(lo(r0, e0, a24), over, all(WRAP)),
        hi(lo(r1, e1, a24), e0, a24),
        hi(lo(r2, e2, a24), e1, a24),
        hi(lo(r3, e3, a24), e2, a24),
        hi(lo(r4, e4, a24), e3, a24),
    ])
}

/// The products a_i·a_j with i ≠ j are computed once and doubled: by doubling a_4 (still below 2^49), and elsewhere by
/// doubling columns before anything else is added to them. The columns come out as those of `mul`.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn square_onto(init: &Raw, a: &Tight) -> Raw {
    let a = a.0;
    let twice_a4 = plus(a[4], a[4]);
    let mut z = columns(init);
    macro_rules! products {
        ($($i:literal $j:literal),*) => {$(
            z[$i + $j] = lo(z[$i + $j], a[$i], a[$j]);
            z[$i + $j + 1] = hi(z[$i + $j + 1], a[$i], a[$j]);
        )*};
    }
    macro_rules! double {
        ($($k:literal),*) => {$( z[$k] = plus(z[$k], z[$k]); )*};
    }
    macro_rules! products_of_top {
        ($($j:literal),*) => {$(
            z[4 + $j] = lo(z[4 + $j], twice_a4, a[$j]);
            z[5 + $j] = hi(z[5 + $j], twice_a4, a[$j]);
        )*};
    }
    products!(3 2, 3 1, 3 0, 2 1, 2 0, 1 0);
    double!(6, 5, 1, 2, 3, 4);
    products_of_top!(3, 2, 1, 0);
    products!(4 4, 3 3, 2 2, 1 1, 0 0);
    fold(&z)
}

/// Ten columns to five: column k + 5 is worth 608 times column k.
///
/// In: columns 0 to 9 hold at most 1, 3, 5, 7, 9, 9, 7, 5, 3, 1 halves of products, each below 2^52, plus the bias in the
/// first five; column 9 is below (2^47 + 2^11)² / 2^52 < 2^42.01, times 608 is below 2^51.3, so it has no high half.
/// A column above the fifth has three parts: its low 52 bits times 608, low half and high half (below 608), and what
/// is above them (below 16) times 608. Out: at most 2, 4, 6, 8, 10 halves plus 2^14 plus the bias, which is below 2^56.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn fold(z: &[__m512i; 10]) -> Raw {
    let [z0, z1, z2, z3, z4, z5, z6, z7, z8, z9] = *z;
    let wrap = all(WRAP);
    Raw([
        lo(z0, z5, wrap),
        lo(hi(lo(z1, z6, wrap), z5, wrap), above(z5), wrap),
        lo(hi(lo(z2, z7, wrap), z6, wrap), above(z6), wrap),
        lo(hi(lo(z3, z8, wrap), z7, wrap), above(z7), wrap),
        lo(hi(lo(z4, z9, wrap), z8, wrap), above(z8), wrap),
    ])
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn columns(init: &Raw) -> [__m512i; 10] {
    let ([i0, i1, i2, i3, i4], o) = (init.0, _mm512_setzero_si512());
    [i0, i1, i2, i3, i4, o, o, o, o, o]
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn select_limbs(choice: __mmask8, a: &[__m512i; 5], b: &[__m512i; 5]) -> [__m512i; 5] {
    let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (*a, *b);
    [
        _mm512_mask_blend_epi64(choice, a0, b0),
        _mm512_mask_blend_epi64(choice, a1, b1),
        _mm512_mask_blend_epi64(choice, a2, b2),
        _mm512_mask_blend_epi64(choice, a3, b3),
        _mm512_mask_blend_epi64(choice, a4, b4),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn all(value: i64) -> __m512i {
    _mm512_set1_epi64(value)
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn plus(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi64(a, b)
}

/// What a column holds above its 52 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn above(a: __m512i) -> __m512i {
    _mm512_srli_epi64::<52>(a)
}

/// acc + low 52 bits of a·b.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn lo(acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
    _mm512_madd52lo_epu64(acc, a, b)
}

/// acc + high 52 bits of a·b.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn hi(acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
    _mm512_madd52hi_epu64(acc, a, b)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests;
