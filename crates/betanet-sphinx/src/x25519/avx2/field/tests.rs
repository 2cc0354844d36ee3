//! The operations at the ends of their bounds, against arithmetic on one element; and the bounds themselves.

use std::arch::x86_64::{__m256i, _mm256_castpd_si256, _mm256_castsi256_pd, _mm256_set_epi64x};
use std::io::Write;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::super::Avx2;
use super::{
    Digits, LANES, NONE, Offset, PRODUCT, Raw, SQUARE, TIMES_A24, Tight, Words, add, add_a24, both, carry,
    carry_to_digits, less, load, mul, select, square, store, sub,
};
use crate::x25519::field51::Fe;

type Limbs = [i64; 5];

const TIGHT: i64 = 1 << 50;
const TIGHT_BOTTOM: i64 = (1 << 50) + (1 << 14);
/// 2^57.1.
const RAW: i64 = 154_460_000_000_000_000;

fn sum(a: Fe, b: Fe) -> Fe {
    // Products have limbs below 2^51 + 2^15.
    let (a, b) = (a.mul(Fe::ONE).to_limbs(), b.mul(Fe::ONE).to_limbs());
    Fe::from_limbs(std::array::from_fn(|k| a[k] + b[k])).mul(Fe::ONE)
}

fn minus(a: Fe) -> Fe {
    let [low, high] = [u64::MAX - 19, u64::MAX >> 1];
    a.mul(Fe::from_words([low, u64::MAX, u64::MAX, high]))
}

/// Σ limb_k·2^(51k).
fn value(limbs: Limbs) -> Fe {
    let radix = Fe::from_words([1 << 51, 0, 0, 0]);
    limbs.iter().rev().fold(Fe::default(), |high, limb| {
        let size = Fe::from_words([limb.unsigned_abs(), 0, 0, 0]);
        sum(high.mul(radix), if *limb < 0 { minus(size) } else { size })
    })
}

/// Limbs at either end of their range, or anywhere in it.
fn limbs(rng: &mut ChaCha20Rng, bottom: i64, others: i64) -> Limbs {
    let mut limb = |max: i64| match rng.next_u32() % 5 {
        0 => 0,
        1 => max,
        2 => -max,
        _ => rng.next_u64().cast_signed() % (max + 1),
    };
    [limb(bottom), limb(others), limb(others), limb(others), limb(others)]
}

#[target_feature(enable = "avx2,fma")]
fn vector(lanes: &[Limbs; LANES], k: usize, to_bits: fn(i64) -> i64) -> __m256i {
    let [l0, l1, l2, l3] = lanes.map(|limbs| to_bits(limbs[k]));
    _mm256_set_epi64x(l3, l2, l1, l0)
}

#[target_feature(enable = "avx2,fma")]
fn tight(lanes: &[Limbs; LANES]) -> Tight {
    let double = |limb: i64| {
        let size = i32::try_from(limb >> 30).map(f64::from).unwrap() * f64::from(1 << 30);
        (size + f64::from(i32::try_from(limb & 0x3fff_ffff).unwrap())).to_bits().cast_signed()
    };
    Tight(std::array::from_fn(|k| _mm256_castsi256_pd(vector(lanes, k, double))))
}

#[target_feature(enable = "avx2,fma")]
fn raw(lanes: &[Limbs; LANES]) -> Raw {
    Raw(std::array::from_fn(|k| vector(lanes, k, |limb| limb)))
}

#[target_feature(enable = "avx2,fma")]
fn lanes_of(vectors: [__m256i; 5]) -> [Limbs; LANES] {
    let rows = vectors.map(|vector| {
        let mut words = Words::ZERO;
        store(vector, &mut words);
        words.0
    });
    std::array::from_fn(|lane| std::array::from_fn(|k| rows[k][lane].cast_signed()))
}

/// A raw element without its offset.
#[target_feature(enable = "avx2,fma")]
fn raw_lanes(raw: &Raw, offset: Offset) -> [Limbs; LANES] {
    lanes_of(raw.0).map(|limbs| less(limbs, offset))
}

#[target_feature(enable = "avx2,fma")]
fn tight_lanes(tight: &Tight) -> [Limbs; LANES] {
    lanes_of(tight.0.map(|limb| _mm256_castpd_si256(limb))).map(|limbs| {
        limbs.map(|bits| {
            let double = f64::from_bits(bits.cast_unsigned());
            let high = (double / f64::from(1 << 30)).floor();
            let low = double - high * f64::from(1 << 30);
            assert!(low.fract() == 0.0 && (0.0..1_073_741_824.0).contains(&low), "{double}");
            let whole = |part: f64| format!("{part:.0}").parse::<i64>().unwrap();
            (whole(high) << 30) + whole(low)
        })
    })
}

#[target_feature(enable = "avx2,fma")]
fn check(rng: &mut ChaCha20Rng) {
    let factors: [[Limbs; LANES]; 2] =
        std::array::from_fn(|_| std::array::from_fn(|_| limbs(rng, TIGHT_BOTTOM, TIGHT)));
    let raws: [[Limbs; LANES]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| limbs(rng, RAW, RAW)));
    let [a, b] = factors.map(|lanes| tight(&lanes));
    let [p, q] = raws.map(|lanes| raw(&lanes));

    let product = raw_lanes(&mul(&a, &b), PRODUCT);
    let squared = raw_lanes(&square(&a), SQUARE);
    let scaled = raw_lanes(&add_a24(&p, &b), TIMES_A24);
    let carried = [
        tight_lanes(&carry(&add(&p, &q), NONE)),
        tight_lanes(&carry(&sub(&p, &q), NONE)),
        tight_lanes(&carry(&mul(&a, &b), PRODUCT)),
        tight_lanes(&carry(&sub(&square(&a), &mul(&a, &b)), less(SQUARE, PRODUCT))),
        tight_lanes(&carry(&add(&square(&a), &mul(&a, &b)), both(SQUARE, PRODUCT))),
    ];
    let Digits(digits) = carry_to_digits(&sub(&p, &q), NONE);
    let digits = lanes_of(digits);
    let choice = load(&crate::x25519::lanes::Words([0, 1 << 63, u64::MAX >> 1, u64::MAX]));
    let chosen = tight_lanes(&select(choice, &a, &b));

    for lane in 0..LANES {
        let [a, b] = [factors[0][lane], factors[1][lane]];
        let [p, q] = [raws[0][lane], raws[1][lane]];
        let bytes = |fe: Fe| fe.to_bytes();
        let (ab, aa) = (value(a).mul(value(b)), value(a).square());
        assert_eq!(bytes(ab), bytes(value(product[lane])), "{a:x?} · {b:x?}");
        assert_eq!(bytes(aa), bytes(value(squared[lane])), "{a:x?} squared");
        for raw in [product[lane], squared[lane]] {
            assert!(raw.iter().all(|limb| limb.abs() < RAW), "{raw:x?}");
        }
        let a24 = Fe::from_words([121_665, 0, 0, 0]);
        let expected = bytes(sum(value(p), value(b).mul(a24)));
        assert_eq!(expected, bytes(value(scaled[lane])), "{p:x?} + 121665 · {b:x?}");
        let (p_plus_q, p_minus_q) = (sum(value(p), value(q)), sum(value(p), minus(value(q))));
        let expected = [p_plus_q, p_minus_q, ab, sum(aa, minus(ab)), sum(aa, ab)].map(bytes);
        for (expected, carried) in expected.iter().zip(&carried) {
            let carried = carried[lane];
            assert_eq!(*expected, bytes(value(carried)), "{a:x?}, {b:x?}, {p:x?}, {q:x?}");
            assert!(carried[0].abs() <= TIGHT_BOTTOM, "{carried:x?}");
            assert!(carried[1..].iter().all(|limb| limb.abs() <= TIGHT), "{carried:x?}");
        }
        assert_eq!(bytes(p_minus_q), bytes(value(digits[lane])), "{p:x?} − {q:x?}");
        assert!(digits[lane][0] < (1 << 51) + (1 << 14), "{digits:x?}");
        assert!(digits[lane].iter().all(|limb| *limb >= 0), "{digits:x?}");
        assert!(digits[lane][1..].iter().all(|limb| *limb < 1 << 51), "{digits:x?}");
        assert_eq!(if lane % 2 == 1 { b } else { a }, chosen[lane]);
    }
}

#[test]
#[allow(clippy::explicit_write, reason = "the harness hides what a passing test prints through `eprintln!`")]
fn operations_are_right_and_within_bounds_at_the_ends_of_their_ranges() {
    if Avx2::detect().is_none() {
        writeln!(std::io::stderr(), "SKIPPED: this machine has no avx2 path").unwrap();
        return;
    }
    let mut rng = ChaCha20Rng::seed_from_u64(0x00a7_c211);
    for _ in 0..2_000 {
        // SAFETY: `detect` has found the features.
        unsafe { check(&mut rng) };
    }
}
