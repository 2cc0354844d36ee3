//! The published test vectors of RFC 7748 §5.2 and §6.1.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use betanet_sphinx::x25519::{x25519, x25519_base};

fn bytes(hex: &str) -> [u8; 32] {
    assert_eq!(64, hex.len());
    std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
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

#[test]
fn single_multiplications_match_the_rfc() {
    for [scalar, u, product] in single_vectors() {
        assert_eq!(product, x25519(&scalar, &u));
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

#[test]
fn a_point_of_small_order_gives_zeros() {
    assert_eq!([0; 32], x25519(&[0x42; 32], &[0; 32]));
}
