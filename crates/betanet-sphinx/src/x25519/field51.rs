//! Arithmetic mod p = 2^255 − 19 on one element, in five limbs of 51 bits: what the lanes leave to do at their end.
//!
//! An element is Σ x_k·2^(51k) with x_k < 2^52 (*reduced*, not canonical). Five products of such limbs, four
//! of them times 19, are below 77·2^104 < 2^111, so no column can overflow its 128 bits.

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::DefaultIsZeroes;

/// A reduced element.
#[derive(Clone, Copy, Default)]
pub(super) struct Fe([u64; 5]);

impl DefaultIsZeroes for Fe {}

const LOW: u64 = (1 << 51) - 1;

impl Fe {
    pub(super) const ONE: Self = Self([1, 0, 0, 0, 0]);

    /// From a number below 2^256, lowest word first.
    pub(super) fn from_words([w0, w1, w2, w3]: [u64; 4]) -> Self {
        Self([
            w0 & LOW,
            ((w0 >> 51) | (w1 << 13)) & LOW,
            ((w1 >> 38) | (w2 << 26)) & LOW,
            ((w2 >> 25) | (w3 << 39)) & LOW,
            w3 >> 12,
        ])
    }

    /// From limbs below 2^52.
    pub(super) fn from_limbs(limbs: [u64; 5]) -> Self {
        Self(limbs)
    }

    /// The limbs, below 2^51 if the number given to [`Fe::from_words`] was below 2^255.
    pub(super) fn to_limbs(self) -> [u64; 5] {
        self.0
    }

    /// The canonical encoding: the representative in [0, p).
    pub(super) fn to_bytes(self) -> [u8; 32] {
        // Carried limbs are at most 2^51 + 19, so the value is below 2p, and q, the carry out of value + 19, is 1
        // exactly when the value is not below p.
        let [x0, x1, x2, x3, x4] = self.carried().0;
        let mut q = (x0 + 19) >> 51;
        for x in [x1, x2, x3, x4] {
            q = (x + q) >> 51;
        }
        let x0 = x0 + 19 * q;
        let x1 = x1 + (x0 >> 51);
        let x2 = x2 + (x1 >> 51);
        let x3 = x3 + (x2 >> 51);
        let x4 = x4 + (x3 >> 51);
        let (x0, x1, x2, x3, x4) = (x0 & LOW, x1 & LOW, x2 & LOW, x3 & LOW, x4 & LOW);
        let words = [x0 | (x1 << 51), (x1 >> 13) | (x2 << 38), (x2 >> 26) | (x3 << 25), (x3 >> 39) | (x4 << 12)];
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Whether this is a multiple of p.
    pub(super) fn is_zero(self) -> Choice {
        self.to_bytes().ct_eq(&[0; 32])
    }

    /// `b` if `choice`, else `a`.
    pub(super) fn select(a: Self, b: Self, choice: Choice) -> Self {
        let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (a.0, b.0);
        let pick = |a: u64, b: u64| u64::conditional_select(&a, &b, choice);
        Self([pick(a0, b0), pick(a1, b1), pick(a2, b2), pick(a3, b3), pick(a4, b4)])
    }

    /// The sum.
    pub(super) fn plus(self, other: Self) -> Self {
        let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (self.0, other.0);
        let add = u64::wrapping_add;
        Self([add(a0, b0), add(a1, b1), add(a2, b2), add(a3, b3), add(a4, b4)]).carried()
    }

    /// The difference.
    pub(super) fn minus(self, other: Self) -> Self {
        self.plus(other.negated())
    }

    /// The negative.
    pub(super) fn negated(self) -> Self {
        // Four times p, of which no limb is below 2^52.
        const LOWEST: u64 = 4 * (LOW - 18);
        let [x0, x1, x2, x3, x4] = self.0;
        let from = |limb: u64, x: u64| limb.wrapping_sub(x);
        Self([from(LOWEST, x0), from(4 * LOW, x1), from(4 * LOW, x2), from(4 * LOW, x3), from(4 * LOW, x4)]).carried()
    }

    /// The product.
    #[inline]
    pub(super) fn mul(self, other: Self) -> Self {
        let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (self.0, other.0);
        // 19·b_k < 2^57.
        let (c1, c2, c3, c4) = (times(19, b1), times(19, b2), times(19, b3), times(19, b4));
        Self::reduce([
            sum([(a0, b0), (a1, c4), (a2, c3), (a3, c2), (a4, c1)]),
            sum([(a0, b1), (a1, b0), (a2, c4), (a3, c3), (a4, c2)]),
            sum([(a0, b2), (a1, b1), (a2, b0), (a3, c4), (a4, c3)]),
            sum([(a0, b3), (a1, b2), (a2, b1), (a3, b0), (a4, c4)]),
            sum([(a0, b4), (a1, b3), (a2, b2), (a3, b1), (a4, b0)]),
        ])
    }

    /// The square.
    #[inline]
    pub(super) fn square(self) -> Self {
        let [a0, a1, a2, a3, a4] = self.0;
        let (d0, d1, d2, d3) = (times(2, a0), times(2, a1), times(2, a2), times(2, a3));
        let (c3, c4) = (times(19, a3), times(19, a4));
        Self::reduce([
            sum([(a0, a0), (d1, c4), (d2, c3)]),
            sum([(d0, a1), (d2, c4), (a3, c3)]),
            sum([(d0, a2), (a1, a1), (d3, c4)]),
            sum([(d0, a3), (d1, a2), (a4, c4)]),
            sum([(d0, a4), (d1, a3), (a2, a2)]),
        ])
    }

    /// The inverse, and zero for zero: the power p − 2 by 254 squarings and 11 products.
    pub(super) fn invert(self) -> Self {
        let (two_hundred_and_fifty, z11) = self.high_power();
        two_hundred_and_fifty.squared(5).mul(z11)
    }

    /// A square root, one of the two; `None` if there is none. The element is public.
    pub(super) fn root(self) -> Option<Self> {
        // As p ≡ 5 (mod 8), a root is the power (p + 3) / 8, or that times a root of −1; 2 has none, so its power
        // (p − 1) / 4 is one of those.
        let root = self.mul(self.power_of_eighth());
        let two = Self::ONE.plus(Self::ONE);
        let other = root.mul(two.power_of_eighth().square().mul(two));
        [root, other].into_iter().find(|root| root.square().to_bytes() == self.to_bytes())
    }

    /// The power (p − 5) / 8 = 2^252 − 3.
    fn power_of_eighth(self) -> Self {
        self.high_power().0.squared(2).mul(self)
    }

    /// The powers 2^250 − 1 and 11.
    fn high_power(self) -> (Self, Self) {
        let z2 = self.square();
        let z9 = z2.squared(2).mul(self);
        let z11 = z9.mul(z2);
        // Named by n: the power 2^n − 1.
        let five = z11.square().mul(z9);
        let ten = five.squared(5).mul(five);
        let twenty = ten.squared(10).mul(ten);
        let forty = twenty.squared(20).mul(twenty);
        let fifty = forty.squared(10).mul(ten);
        let hundred = fifty.squared(50).mul(fifty);
        let two_hundred = hundred.squared(100).mul(hundred);
        (two_hundred.squared(50).mul(fifty), z11)
    }

    fn squared(self, times: u32) -> Self {
        (0..times).fold(self, |x, _| x.square())
    }

    /// Five columns to a reduced element, by two passes that each move all carries at once.
    ///
    /// Columns are below 2^111, the top one, in which nothing has wrapped, below 5·2^104. So the first carries are below
    /// 2^60, or 19·2^56, and its limbs below 2^61; the second carries are below 2^10, or 19·2^10, and its limbs below
    /// 2^51 + 2^15.
    #[inline]
    fn reduce([r0, r1, r2, r3, r4]: [u128; 5]) -> Self {
        let x = [
            (low(r0) & LOW).wrapping_add(times(19, low(r4 >> 51))),
            (low(r1) & LOW).wrapping_add(low(r0 >> 51)),
            (low(r2) & LOW).wrapping_add(low(r1 >> 51)),
            (low(r3) & LOW).wrapping_add(low(r2 >> 51)),
            (low(r4) & LOW).wrapping_add(low(r3 >> 51)),
        ];
        Self(x).carried()
    }

    /// Moves all carries at once.
    #[inline]
    fn carried(self) -> Self {
        let [x0, x1, x2, x3, x4] = self.0;
        Self([
            (x0 & LOW).wrapping_add(times(19, x4 >> 51)),
            (x1 & LOW).wrapping_add(x0 >> 51),
            (x2 & LOW).wrapping_add(x1 >> 51),
            (x3 & LOW).wrapping_add(x2 >> 51),
            (x4 & LOW).wrapping_add(x3 >> 51),
        ])
    }
}

/// A small multiple of a limb. Like `sum` it wraps in type only: the bounds above leave room, and checks in these
/// loops cost more than the additions.
#[inline]
fn times(factor: u64, limb: u64) -> u64 {
    limb.wrapping_mul(factor)
}

#[inline]
fn sum<const N: usize>(products: [(u64, u64); N]) -> u128 {
    let mut sum: u128 = 0;
    for (a, b) in products {
        sum = sum.wrapping_add(u128::from(a).wrapping_mul(u128::from(b)));
    }
    sum
}

#[inline]
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
fn low(x: u128) -> u64 {
    x as u64
}
