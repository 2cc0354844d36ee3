//! The published test vectors of RFC 7748 §5.2 and §6.1, on every path this machine has.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::Write;

use betanet_sphinx::x25519::{X25519Path, x25519, x25519_base, x25519_batch_on};

fn bytes(hex: &str) -> [u8; 32] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

/// The paths to test; says which are left out.
#[allow(clippy::explicit_write, reason = "the harness hides what a passing test prints through `eprintln!`")]
fn available_paths() -> Vec<X25519Path> {
    let (available, absent): (Vec<_>, Vec<_>) = X25519Path::ALL.into_iter().partition(|path| path.is_available());
    for path in absent {
        writeln!(std::io::stderr(), "SKIPPED: this machine has no {} path", path.name()).unwrap();
    }
    available
}

/// Scalar, u-coordinate, product.
fn single_vectors() -> [[[u8; 32]; 3]; 2] {
    [
        [
            bytes("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
            bytes("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"),
            bytes("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"),
        ],
        [
            bytes("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
            bytes("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"),
            bytes("95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"),
        ],
    ]
}

/// Both vectors in turn in all lanes, and in every lane the iteration of §5.2.
#[test]
fn single_multiplications_match_the_rfc() {
    for [scalar, u, product] in single_vectors() {
        assert_eq!(product, x25519(&scalar, &u));
    }
    for path in available_paths() {
        let vectors: Vec<_> = single_vectors().into_iter().cycle().take(8).collect();
        let column = |i: usize| vectors.iter().map(|vector| vector[i]).collect::<Vec<_>>();
        let mut out = [[0; 32]; 8];
        x25519_batch_on(path, &column(0), &column(1), &mut out).unwrap();
        assert_eq!(column(2), out, "{path:?}");
    }
}

#[test]
fn the_key_exchange_matches_the_rfc() {
    let alice = bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let alice_public = bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    let bob_public = bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    let shared = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(alice_public, x25519_base(&alice));
    assert_eq!(bob_public, x25519_base(&bob));
    assert_eq!(shared, x25519(&alice, &bob_public));
    assert_eq!(shared, x25519(&bob, &alice_public));
}

/// k ← X25519(k, u) and u ← the old k, `times` times from k = u = 9, in all eight lanes.
fn iterate(path: X25519Path, times: usize) -> [u8; 32] {
    let mut nine = [0; 32];
    nine[0] = 9;
    let (mut scalars, mut points) = ([nine; 8], [nine; 8]);
    for _ in 0..times {
        let mut products = [[0; 32]; 8];
        x25519_batch_on(path, &scalars, &points, &mut products).unwrap();
        points = scalars;
        scalars = products;
    }
    assert_eq!([scalars[0]; 8], scalars, "{path:?}: the lanes differ");
    scalars[0]
}

#[test]
fn a_thousand_iterations_match_the_rfc() {
    let once = bytes("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
    let thousandth = bytes("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
    for path in available_paths() {
        assert_eq!(once, iterate(path, 1), "{path:?}");
        assert_eq!(thousandth, iterate(path, 1_000), "{path:?}");
    }
}

#[test]
#[ignore = "takes minutes: `make test-long`"]
fn a_million_iterations_match_the_rfc() {
    let millionth = bytes("7c3911e0ab2586fd864497297e575e6f3bc601c0883c30df5f4dd2d24f665424");
    for path in available_paths() {
        assert_eq!(millionth, iterate(path, 1_000_000), "{path:?}");
    }
}
