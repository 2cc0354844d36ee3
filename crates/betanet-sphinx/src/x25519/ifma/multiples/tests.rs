//! Multiples by tables, against the multiplications of any point.

use std::io::Write;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::super::super::batch::{Engine as _, by_tables};
use super::{Ifma, Multiples};
use crate::x25519::{x25519, x25519_base};

type Bytes = [u8; 32];

const SEED: u64 = 0x5f32_5520;

/// Scalars whose digits are at the ends of their range, and carry on from place to place.
fn scalars(rng: &mut ChaCha20Rng) -> Vec<Bytes> {
    let mut scalars: Vec<Bytes> =
        [0x00, 0xff, 0x88, 0x77, 0x78, 0x87, 0x08, 0x80, 0x7f, 0xf8].map(|byte| [byte; 32]).into();
    scalars.extend((0..31).map(|place| std::array::from_fn(|at| if at < place { 0xff } else { 0 })));
    scalars.extend((0..31).map(|place| std::array::from_fn(|at| if at < place { 0 } else { 0x88 })));
    for _ in 0..150 {
        let mut scalar = [0; 32];
        rng.fill_bytes(&mut scalar);
        scalars.push(scalar);
    }
    scalars
}

#[allow(clippy::explicit_write, reason = "the harness hides what a passing test prints through `eprintln!`")]
fn engine() -> Option<Ifma> {
    let engine = Ifma::detect();
    if engine.is_none() {
        writeln!(std::io::stderr(), "SKIPPED: this machine has no ifma path").unwrap();
    }
    engine
}

fn multiply(engine: Ifma, scalars: &[Bytes], tables: &[&Multiples]) -> Vec<Bytes> {
    let mut out = vec![[0x99; 32]; scalars.len()];
    by_tables(Ifma::LANES, scalars, tables, &mut out, |scalars, tables, out| engine.multiples(scalars, tables, out));
    out
}

#[test]
fn multiples_from_tables_are_those_that_a_ladder_gives() {
    let Some(engine) = engine() else { return };
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let scalars = scalars(&mut rng);
    // Points of prime order, and those of small order on the curve itself.
    let mut points: Vec<Bytes> = scalars.iter().rev().take(11).map(x25519_base).collect();
    let mut nine = [0; 32];
    nine[0] = 9;
    points.extend([nine, [0; 32]]);
    points.push(
        hex::decode("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800").unwrap().try_into().unwrap(),
    );
    let tables: Vec<_> = points.iter().map(|point| Multiples::of(point).unwrap()).collect();
    for turn in 0..points.len() {
        let at = |lane: usize| (lane * (turn + 1) + turn) % points.len();
        let used: Vec<_> = (0..scalars.len()).map(|lane| &tables[at(lane)]).collect();
        let products = multiply(engine, &scalars, &used);
        for (lane, (scalar, product)) in scalars.iter().zip(products).enumerate() {
            let point = points[at(lane)];
            let name = || format!("seed {SEED:#x}: scalar {}, point {}", hex::encode(scalar), hex::encode(point));
            assert_eq!(hex::encode(x25519(scalar, &point)), hex::encode(product), "{}", name());
        }
    }
}

#[test]
fn lanes_that_are_not_filled_disturb_nothing() {
    let Some(engine) = engine() else { return };
    let scalars = scalars(&mut ChaCha20Rng::seed_from_u64(SEED));
    let table = Multiples::of(&x25519_base(&[7; 32])).unwrap();
    let all = multiply(engine, &scalars, &vec![&table; scalars.len()]);
    for len in [0, 1, 7, 9, 63, 65] {
        assert_eq!(all[..len], multiply(engine, &scalars[..len], &vec![&table; len]));
    }
}

#[test]
fn points_of_the_twist_have_no_table() {
    // As many are of the one as of the other; −1 is of the twist, and divides by zero on the way.
    let of_the_twist = (0..64_u8).filter(|first| {
        let mut point = [0; 32];
        point[0] = *first;
        let is_known = Multiples::of(&point).is_some();
        assert_eq!(curve25519_dalek::MontgomeryPoint(point).to_edwards(0).is_some(), is_known, "{first}");
        !is_known
    });
    assert!(of_the_twist.count() > 16);
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    assert!(Multiples::of(&minus_one).is_none());
}
