//! Every way to compute a batch gives the same bytes: those of Project Wycheproof, of the one-at-a-time functions, and
//! of curve25519-dalek.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "common/outside.rs"]
mod outside;

use std::io::Write;

use betanet_sphinx::x25519::{
    X25519Path, active_path, x25519, x25519_base, x25519_batch, x25519_batch_on, x25519_batch_unclamped,
    x25519_batch_unclamped_on,
};
use curve25519_dalek::{MontgomeryPoint, Scalar, scalar::clamp_integer};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

type Bytes = [u8; 32];

const SEED: u64 = 0x5f32_5519;

/// The paths to test; says which are left out.
#[allow(clippy::explicit_write, reason = "the harness hides what a passing test prints through `eprintln!`")]
fn available_paths() -> Vec<X25519Path> {
    let (available, absent): (Vec<_>, Vec<_>) = X25519Path::ALL.into_iter().partition(|path| path.is_available());
    for path in absent {
        writeln!(std::io::stderr(), "SKIPPED: this machine has no {} path", path.name()).unwrap();
    }
    available
}

fn random(rng: &mut ChaCha20Rng) -> Bytes {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn hex32(value: &serde_json::Value) -> Bytes {
    hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

/// p − `below`, for `below` ≤ 19 or 2^255 − 19 + (19 − below) up to 2^255 − 1 for negative ones.
fn near_p(offset: i16) -> Bytes {
    let mut bytes = [0xff; 32];
    bytes[0] = u8::try_from(0xed + offset).unwrap();
    bytes[31] = 0x7f;
    bytes
}

fn power_of_two(i: usize) -> Bytes {
    let mut bytes = [0; 32];
    bytes[i / 8] = 1 << (i % 8);
    bytes
}

/// Adds `delta`, −1 or 1, to a little-endian number, wrapping at 2^256.
fn plus(mut bytes: Bytes, delta: i8) -> Bytes {
    for byte in &mut bytes {
        let (sum, carried) = if delta > 0 { byte.overflowing_add(1) } else { byte.overflowing_sub(1) };
        *byte = sum;
        if !carried {
            break;
        }
    }
    bytes
}

/// All u-coordinates of order 1, 2, 4 and 8 on the curve and its twist, canonical and not.
fn small_order_points() -> Vec<Bytes> {
    let mut points = vec![[0; 32], power_of_two(0)];
    for point in [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ] {
        points.push(hex::decode(point).unwrap().try_into().unwrap());
    }
    points.extend([near_p(-1), near_p(0), near_p(1)]);
    let with_top_bit = points.clone().into_iter().map(|mut point| {
        point[31] |= 0x80;
        point
    });
    points.extend(with_top_bit.collect::<Vec<_>>());
    points
}

/// Points and scalars around every place where some radix puts a carry: all powers of two, one more, one less, and all
/// non-canonical and nearly non-canonical ones.
fn edges() -> Vec<Bytes> {
    let mut edges = small_order_points();
    edges.extend((-20..=18).map(near_p));
    for i in 0..256 {
        edges.extend([power_of_two(i), plus(power_of_two(i), 1), plus(power_of_two(i), -1)]);
        // All ones but for one bit.
        edges.push(power_of_two(i).map(|byte| !byte));
    }
    edges.extend([[0xff; 32], [0x55; 32], [0xaa; 32]]);
    edges
}

/// Checks all paths, and batches of all lengths up to some, against the one-at-a-time function.
fn check_clamped(scalars: &[Bytes], points: &[Bytes], paths: &[X25519Path]) {
    let expected: Vec<_> = scalars.iter().zip(points).map(|(k, u)| x25519(k, u)).collect();
    for path in paths {
        let mut out = vec![[0x99; 32]; expected.len()];
        x25519_batch_on(*path, scalars, points, &mut out).unwrap();
        for (i, (expected, actual)) in expected.iter().zip(&out).enumerate() {
            assert_eq!(
                hex::encode(expected),
                hex::encode(actual),
                "{path:?}, seed {SEED:#x}, entry {i}: scalar {}, point {}",
                hex::encode(scalars[i]),
                hex::encode(points[i]),
            );
        }
    }
}

fn check_unclamped(scalars: &[Bytes], points: &[Bytes], paths: &[X25519Path]) {
    let mut expected = vec![[0; 32]; scalars.len()];
    x25519_batch_unclamped_on(X25519Path::Scalar, scalars, points, &mut expected).unwrap();
    for path in paths {
        let mut out = vec![[0x99; 32]; expected.len()];
        x25519_batch_unclamped_on(*path, scalars, points, &mut out).unwrap();
        for (i, (expected, actual)) in expected.iter().zip(&out).enumerate() {
            assert_eq!(
                hex::encode(expected),
                hex::encode(actual),
                "{path:?}, seed {SEED:#x}, entry {i}: scalar {}, point {}",
                hex::encode(scalars[i]),
                hex::encode(points[i]),
            );
        }
    }
}

#[test]
fn every_path_gives_what_wycheproof_says() {
    let Some(file) = outside::document("wycheproof_x25519_test.json") else { return };
    let tests: Vec<_> =
        file["testGroups"].as_array().unwrap().iter().flat_map(|group| group["tests"].as_array().unwrap()).collect();
    assert_eq!(file["numberOfTests"].as_u64(), u64::try_from(tests.len()).ok());
    let column = |name: &str| tests.iter().map(|test| hex32(&test[name])).collect::<Vec<_>>();
    let (scalars, points, shared) = (column("private"), column("public"), column("shared"));
    for (i, test) in tests.iter().enumerate() {
        assert_eq!(shared[i], x25519(&scalars[i], &points[i]), "tcId {}", test["tcId"]);
    }
    for path in available_paths() {
        let mut out = vec![[0; 32]; tests.len()];
        x25519_batch_on(path, &scalars, &points, &mut out).unwrap();
        for (i, test) in tests.iter().enumerate() {
            assert_eq!(shared[i], out[i], "{path:?}, tcId {}", test["tcId"]);
        }
    }
}

#[test]
fn paths_agree_on_ten_thousand_random_inputs() {
    agree_on_random_inputs(10_000);
}

#[test]
#[ignore = "takes minutes: `make test-long`"]
fn paths_agree_on_a_million_random_inputs() {
    agree_on_random_inputs(1_000_000);
}

fn agree_on_random_inputs(inputs: usize) {
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let paths = available_paths();
    for _ in 0..inputs / 1_000 {
        let scalars: Vec<_> = (0..1_000).map(|_| random(&mut rng)).collect();
        let points: Vec<_> = (0..1_000).map(|_| random(&mut rng)).collect();
        check_clamped(&scalars, &points, &paths);
        // Thrice the work of the others, so a tenth of it.
        check_unclamped(&scalars[..100], &points[..100], &paths);
    }
}

#[test]
fn paths_agree_on_edges() {
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let (paths, edges) = (available_paths(), edges());
    let random: Vec<_> = edges.iter().map(|_| random(&mut rng)).collect();
    check_clamped(&random, &edges, &paths);
    check_clamped(&edges, &random, &paths);
    let reversed: Vec<_> = edges.iter().rev().copied().collect();
    check_clamped(&edges, &reversed, &paths);
    check_unclamped(&random, &edges, &paths);
    check_unclamped(&edges, &random, &paths);
    check_unclamped(&edges, &reversed, &paths);
}

#[test]
fn points_of_small_order_give_zeros_and_spoil_no_other_lane() {
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let small = small_order_points();
    for path in available_paths() {
        for (position, point) in small.iter().enumerate() {
            let scalars: Vec<_> = (0..21).map(|_| random(&mut rng)).collect();
            let mut points: Vec<_> = (0..21).map(|_| random(&mut rng)).collect();
            points[position] = *point;
            let mut out = vec![[0x99; 32]; 21];
            x25519_batch_on(path, &scalars, &points, &mut out).unwrap();
            assert_eq!([0; 32], out[position], "{path:?}, {}", hex::encode(point));
            for i in (0..21).filter(|i| *i != position) {
                assert_eq!(x25519(&scalars[i], &points[i]), out[i], "{path:?}, lane {i}");
            }
        }
        let scalars = vec![[0x77; 32]; small.len()];
        let mut out = vec![[0x99; 32]; small.len()];
        x25519_batch_on(path, &scalars, &small, &mut out).unwrap();
        assert_eq!(vec![[0; 32]; small.len()], out, "{path:?}");
    }
}

#[test]
fn batches_of_every_length_are_complete() {
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let scalars: Vec<_> = (0..140).map(|_| random(&mut rng)).collect();
    let points: Vec<_> = (0..140).map(|_| random(&mut rng)).collect();
    let expected: Vec<_> = scalars.iter().zip(&points).map(|(k, u)| x25519(k, u)).collect();
    for path in available_paths() {
        for len in (0..20).chain(62..68).chain([127, 128, 129, 131, 140]) {
            let mut out = vec![[0x99; 32]; 140];
            x25519_batch_on(path, &scalars[..len], &points[..len], &mut out[..len]).unwrap();
            assert_eq!(expected[..len], out[..len], "{path:?}, {len}");
            assert!(out[len..].iter().all(|rest| *rest == [0x99; 32]), "{path:?}, {len}");
        }
        // The shortest slice decides.
        for (k, u, o) in [(5, 70, 70), (70, 5, 70), (70, 70, 5), (0, 9, 9)] {
            let mut out = vec![[0x99; 32]; 140];
            x25519_batch_on(path, &scalars[..k], &points[..u], &mut out[..o]).unwrap();
            let len = k.min(u).min(o);
            assert_eq!(expected[..len], out[..len], "{path:?}");
            assert!(out[len..].iter().all(|rest| *rest == [0x99; 32]), "{path:?}");
        }
    }
}

/// A packet's maker multiplies its factors mod ℓ and once; a chain of nodes multiplies by one after the other.
#[test]
fn a_product_of_clamped_scalars_does_what_they_do_in_turn() {
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let chains: Vec<[Bytes; 3]> = (0..40).map(|_| [random(&mut rng), random(&mut rng), random(&mut rng)]).collect();
    let points: Vec<_> = (0..40).map(|_| x25519_base(&random(&mut rng))).collect();
    let expected: Vec<_> = chains
        .iter()
        .zip(&points)
        .map(|(chain, point)| chain.iter().fold(*point, |point, factor| x25519(factor, &point)))
        .collect();
    let products: Vec<_> = chains
        .iter()
        .map(|chain| {
            let factors = chain.iter().map(|f| Scalar::from_bytes_mod_order(clamp_integer(*f)));
            factors.product::<Scalar>().to_bytes()
        })
        .collect();
    for path in available_paths() {
        let mut out = vec![[0; 32]; 40];
        x25519_batch_unclamped_on(path, &products, &points, &mut out).unwrap();
        assert_eq!(expected, out, "{path:?}");
    }
    let mut out = vec![[0; 32]; 40];
    x25519_batch_unclamped(&products, &points, &mut out);
    assert_eq!(expected, out);
}

#[test]
fn an_unclamped_scalar_is_used_as_it_is() {
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let points: Vec<_> = (0..8).map(|_| x25519_base(&random(&mut rng))).collect();
    let scalars: Vec<_> = (0..8).map(|_| Scalar::from_bytes_mod_order(random(&mut rng))).collect();
    let bytes: Vec<_> = scalars.iter().map(Scalar::to_bytes).collect();
    for path in available_paths() {
        let mut out = [[0x99; 32]; 8];
        x25519_batch_unclamped_on(path, &bytes, &points, &mut out).unwrap();
        for i in 0..8 {
            assert_eq!((MontgomeryPoint(points[i]) * scalars[i]).to_bytes(), out[i], "{path:?}");
        }
        x25519_batch_unclamped_on(path, &[power_of_two(0); 8], &points, &mut out).unwrap();
        assert_eq!(points, out, "{path:?}: once a point is the point");
        x25519_batch_unclamped_on(path, &[[0; 32]; 8], &points, &mut out).unwrap();
        assert_eq!([[0; 32]; 8], out, "{path:?}: no times a point is the point at infinity");
        x25519_batch_unclamped_on(path, &[power_of_two(255); 8], &points, &mut out).unwrap();
        assert_eq!([[0; 32]; 8], out, "{path:?}: bit 255 is ignored");
    }
}

#[test]
fn a_batch_takes_the_active_path_and_clamps() {
    let path = active_path().unwrap();
    assert!(path.is_available());
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let scalars: Vec<_> = (0..11).map(|_| random(&mut rng)).collect();
    let points: Vec<_> = (0..11).map(|_| random(&mut rng)).collect();
    let (mut out, mut explicit) = ([[0; 32]; 11], [[0; 32]; 11]);
    x25519_batch(&scalars, &points, &mut out);
    x25519_batch_on(path, &scalars, &points, &mut explicit).unwrap();
    assert_eq!(explicit, out);
    for i in 0..11 {
        assert_eq!(MontgomeryPoint(points[i]).mul_clamped(scalars[i]).to_bytes(), out[i]);
    }
}

#[test]
fn a_path_that_is_absent_is_refused_by_name_and_leaves_the_output_alone() {
    for path in X25519Path::ALL {
        let mut out = [[0x99; 32]; 8];
        let result = x25519_batch_on(path, &[[1; 32]; 8], &[[9; 32]; 8], &mut out);
        assert_eq!(path.is_available(), result.is_ok());
        if let Err(error) = result {
            assert_eq!(path, error.path);
            assert!(error.to_string().contains(path.name()), "{error}");
            assert_eq!([[0x99; 32]; 8], out);
        }
    }
}
