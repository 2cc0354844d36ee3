//! The operations at the ends of their bounds, against arithmetic on one element; and the bounds themselves.

use std::arch::x86_64::_mm512_setzero_si512;
use std::io::Write;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::super::Ifma;
use super::{
    BIAS, Fixed, LANES, Raw, Tight, Words, add, add_a24, bias, carry, from_digits, load, mul, select, square,
    square_biased, sub, to_limbs,
};
use crate::x25519::field51::Fe;

type Limbs = [u64; 5];

const DIGIT: u64 = (1 << 52) - 1;
const TIGHT_TOP: u64 = (1 << 47) + (1 << 11);
const PLAIN: u64 = (1 << 56) - 1;

fn row(words: [u64; LANES]) -> Words {
    crate::x25519::lanes::Words(words)
}

fn rows(of_lanes: &[Limbs; LANES]) -> [Words; 5] {
    std::array::from_fn(|k| row(std::array::from_fn(|lane| of_lanes[lane][k])))
}

fn lanes(rows: &[Words; 5]) -> [Limbs; LANES] {
    std::array::from_fn(|lane| std::array::from_fn(|k| rows[k].0[lane]))
}

fn sum(a: Fe, b: Fe) -> Fe {
    // Products have limbs below 2^51 + 2^15.
    let (a, b) = (a.mul(Fe::ONE).to_limbs(), b.mul(Fe::ONE).to_limbs());
    Fe::from_limbs(std::array::from_fn(|k| a[k] + b[k])).mul(Fe::ONE)
}

fn minus(a: Fe) -> Fe {
    let [low, high] = [u64::MAX - 19, u64::MAX >> 1];
    a.mul(Fe::from_words([low, u64::MAX, u64::MAX, high]))
}

/// Σ limb_k·2^(52k).
fn value(limbs: Limbs) -> Fe {
    let radix = Fe::from_words([1 << 52, 0, 0, 0]);
    limbs.iter().rev().fold(Fe::default(), |high, limb| sum(high.mul(radix), Fe::from_words([*limb, 0, 0, 0])))
}

fn tight_value(limbs: Limbs) -> Fe {
    let [t0, t1, t2, t3, t4] = limbs;
    value([t0 & DIGIT, t1 & DIGIT, t2 & DIGIT, t3 & DIGIT, t4])
}

/// Limbs at either end of their range, or anywhere in it, with noise above digits.
fn limbs(rng: &mut ChaCha20Rng, top: u64, others: u64) -> Limbs {
    let mut limb = |max: u64| match rng.next_u32() % 4 {
        0 => 0,
        1 | 2 => max,
        _ => rng.next_u64() % (max + 1),
    };
    [limb(others), limb(others), limb(others), limb(others), limb(top)]
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn raw_lanes(raw: &Raw) -> [Limbs; LANES] {
    let mut rows = [Words::ZERO; 5];
    to_limbs(&Tight(raw.0), &mut rows);
    lanes(&rows)
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn check(rng: &mut ChaCha20Rng) {
    let tight: [[Limbs; LANES]; 2] =
        std::array::from_fn(|_| std::array::from_fn(|_| limbs(rng, TIGHT_TOP, u64::MAX - 1)));
    let plain: [[Limbs; LANES]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| limbs(rng, PLAIN, PLAIN)));
    let [a, b] = tight.map(|lanes| from_digits(&rows(&lanes)));
    let [p, q] = plain.map(|lanes| Raw(rows(&lanes).map(|row| load(&row))));
    let no = Raw([_mm512_setzero_si512(); 5]);

    let product = raw_lanes(&mul(&no, &a, &b));
    let biased_product = raw_lanes(&mul(&bias(), &a, &b));
    let fixed_product = raw_lanes(&Fixed::of(&a).mul(&b));
    let squared = raw_lanes(&square(&a));
    let biased_squared = raw_lanes(&square_biased(&a));
    let scaled = raw_lanes(&add_a24(&p, &b));
    let biased = add(&bias(), &p);
    let total = add(&biased, &q);
    let difference = sub(&biased, &q);
    let carried = [total, difference, add(&biased, &no)].map(|raw| {
        let mut rows = [Words::ZERO; 5];
        to_limbs(&carry(&raw), &mut rows);
        lanes(&rows)
    });
    let chosen = raw_lanes(&Raw(select(0b1010_0101, &a, &b).0));

    for lane in 0..LANES {
        let [a, b] = [tight[0][lane], tight[1][lane]];
        let [p, q] = [plain[0][lane], plain[1][lane]];
        let bytes = |fe: Fe| fe.to_bytes();
        let expected = bytes(tight_value(a).mul(tight_value(b)));
        for product in [product[lane], biased_product[lane], fixed_product[lane]] {
            assert_eq!(expected, bytes(value(product)), "{a:x?} · {b:x?}");
        }
        let expected = bytes(tight_value(a).square());
        for squared in [squared[lane], biased_squared[lane]] {
            assert_eq!(expected, bytes(value(squared)), "{a:x?} squared");
        }
        for plain in [product[lane], fixed_product[lane], squared[lane]] {
            assert!(plain.iter().all(|limb| *limb <= PLAIN), "{plain:x?}");
        }
        for biased in [biased_product[lane], biased_squared[lane]] {
            for (limb, bias) in biased.iter().zip(BIAS) {
                assert!(limb - u64::try_from(bias).unwrap() <= PLAIN, "{biased:x?}");
            }
        }
        let a24 = Fe::from_words([121_665, 0, 0, 0]);
        let expected = bytes(sum(value(p), tight_value(b).mul(a24)));
        assert_eq!(expected, bytes(value(scaled[lane])), "{p:x?} + 121665 · {b:x?}");
        let expected = [sum(value(p), value(q)), sum(value(p), minus(value(q))), value(p)].map(bytes);
        for (expected, carried) in expected.iter().zip(&carried) {
            let carried = carried[lane];
            assert_eq!(*expected, bytes(tight_value(carried)), "{p:x?}, {q:x?}");
            assert!(carried[4] <= TIGHT_TOP, "{carried:x?}");
        }
        let expected = if 0b1010_0101 >> lane & 1 == 1 { b } else { a };
        assert_eq!(expected, chosen[lane]);
    }
}

#[test]
#[allow(clippy::explicit_write, reason = "the harness hides what a passing test prints through `eprintln!`")]
fn operations_are_right_and_within_bounds_at_the_ends_of_their_ranges() {
    if Ifma::detect().is_none() {
        writeln!(std::io::stderr(), "SKIPPED: this machine has no ifma path").unwrap();
        return;
    }
    let mut rng = ChaCha20Rng::seed_from_u64(0x001f_a511);
    for _ in 0..2_000 {
        // SAFETY: `detect` has found the features.
        unsafe { check(&mut rng) };
    }
}
