//! Bytes from outside become values or errors, never a panic.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, reason = "test code")]

#[path = "common/net.rs"]
#[allow(dead_code, reason = "each test uses its own part")]
mod common;

use std::collections::HashSet;

use betanet_sphinx::{
    BuildError, Geometry, KeyError, PACKET_LEN, PacketError, PublicKey, ReplyOpener, SURB_LEN, SecretKey, Surb,
    SurbError, USER_PAYLOAD_LEN, build_forward, build_surb, parity_of, unwrap,
};
use common::{Net, Seen, mailbox, surb_id};
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::montgomery::MontgomeryPoint;
use proptest::prelude::*;

proptest! {
    /// INV-SPHINX-10
    #[test]
    fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..=2 * PACKET_LEN), secret: [u8; 32]) {
        let _ = parity_of(&bytes);
        let _ = PublicKey::parse(&bytes);
        let _ = Surb::parse(&bytes);
        if let Ok(opener) = ReplyOpener::parse(&bytes) {
            prop_assert_eq!(&*opener.to_bytes(), &bytes);
        }
        prop_assert!(unwrap(&SecretKey::from_bytes(secret), &mut bytes, &mut Seen::default()).is_err());
    }

    /// INV-SPHINX-10: garbage that gets as far as the MAC.
    #[test]
    fn garbage_behind_a_valid_prefix_is_dropped(
        tail in proptest::collection::vec(any::<u8>(), PACKET_LEN - 2),
        parity in 0_u8..=1,
        secret: [u8; 32],
    ) {
        let mut packet = [&[1, parity], tail.as_slice()].concat();
        packet[33] &= 0x7f;
        let dropped = unwrap(&SecretKey::from_bytes(secret), &mut packet, &mut Seen::default());
        prop_assert_eq!(Err(PacketError::BadMac), dropped);
    }

    /// INV-SPHINX-10
    #[test]
    fn a_reply_opener_refuses_garbage(mut delta in proptest::collection::vec(any::<u8>(), 0..=2 * PACKET_LEN)) {
        let mut net = Net::new(1);
        let path = net.path(3);
        let (_, opener) = build_surb(&mut net.rng, 0, &path, mailbox(), surb_id()).unwrap();
        prop_assert!(opener.open(&mut delta).is_err());
    }

    #[test]
    fn garbage_of_the_right_size_is_not_opened(delta in proptest::collection::vec(any::<u8>(), Geometry::NATIVE.delta_len)) {
        let mut net = Net::new(2);
        let path = net.path(2);
        let (_, opener) = build_surb(&mut net.rng, 0, &path, mailbox(), surb_id()).unwrap();
        prop_assert_eq!(Err(PacketError::BadPayload), opener.open(&mut delta.clone()));
    }

    #[test]
    fn a_generated_key_parses_as_itself(secret: [u8; 32]) {
        let key = SecretKey::from_bytes(secret).public();
        prop_assert_eq!(Ok(key), PublicKey::parse(key.as_bytes()));
        prop_assert_eq!(secret, *SecretKey::from_bytes(secret).to_bytes());
    }

    /// INV-SPHINX-11: u of the curve or of its twist: taken only if dalek finds a point of prime order behind it.
    #[test]
    fn a_public_key_is_taken_only_from_the_prime_order_subgroup(mut u: [u8; 32]) {
        u[31] &= 0x7f;
        let expected = MontgomeryPoint(u).to_edwards(0).is_some_and(|point| point.is_torsion_free());
        prop_assert_eq!(expected, PublicKey::parse(&u).is_ok());
    }
}

/// INV-SPHINX-11
#[test]
fn a_public_key_of_small_order_is_refused() {
    for point in EIGHT_TORSION {
        let u = point.to_montgomery();
        assert_eq!(Err(KeyError::LowOrder), PublicKey::parse(u.as_bytes()), "{:?}", u.as_bytes());
    }
}

/// INV-SPHINX-11
#[test]
fn a_public_key_outside_the_prime_order_subgroup_is_refused() {
    let key = SecretKey::from_bytes([7; 32]).public();
    let point: EdwardsPoint = MontgomeryPoint(*key.as_bytes()).to_edwards(0).unwrap();
    for torsion in &EIGHT_TORSION[1..] {
        let shifted = (point + torsion).to_montgomery();
        assert_eq!(Err(KeyError::NotPrimeOrder), PublicKey::parse(shifted.as_bytes()));
    }
}

/// INV-SPHINX-11
#[test]
fn a_public_key_on_the_twist_is_refused() {
    // u = 2 is a point of the twist: 2³ + 486662·2² + 2 is no square modulo p. So is u = −1.
    let mut two = [0; 32];
    two[0] = 2;
    assert_eq!(Err(KeyError::NotOnCurve), PublicKey::parse(&two));
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    assert_eq!(Err(KeyError::NotOnCurve), PublicKey::parse(&minus_one));
}

/// INV-SPHINX-11
#[test]
fn a_public_key_that_is_not_canonical_is_refused() {
    let mut high_bit = *SecretKey::from_bytes([8; 32]).public().as_bytes();
    high_bit[31] |= 0x80;
    assert_eq!(Err(KeyError::NotCanonical), PublicKey::parse(&high_bit));
    // 9 + p is the base point once more.
    let mut base_again = [0xff; 32];
    (base_again[0], base_again[31]) = (0xf6, 0x7f);
    assert_eq!(Err(KeyError::NotCanonical), PublicKey::parse(&base_again));
    assert_eq!(Err(KeyError::WrongLength { len: 31 }), PublicKey::parse(&[9; 31]));
}

#[test]
fn a_path_of_no_hops_or_too_many_is_refused() {
    let mut net = Net::new(3);
    let mut out = [0; PACKET_LEN];
    let eight = [net.path(7), net.path(1)].concat();
    for (path, error) in [(&[][..], BuildError::EmptyPath), (&eight[..], BuildError::PathTooLong { hops: 8, max: 7 })] {
        assert_eq!(Err(error), build_forward(&mut net.rng, 0, path, mailbox(), b"", &mut out));
        assert_eq!(error, build_surb(&mut net.rng, 0, path, mailbox(), surb_id()).unwrap_err());
    }
}

#[test]
fn a_parity_that_is_not_a_bit_is_refused() {
    let mut net = Net::new(4);
    let path = net.path(1);
    let error = BuildError::BadParity { parity: 2 };
    assert_eq!(Err(error), build_forward(&mut net.rng, 2, &path, mailbox(), b"", &mut [0; PACKET_LEN]));
    assert_eq!(error, build_surb(&mut net.rng, 2, &path, mailbox(), surb_id()).unwrap_err());
}

#[test]
fn a_payload_that_is_too_long_is_refused() {
    let mut net = Net::new(5);
    let path = net.path(2);
    for len in [USER_PAYLOAD_LEN + 1, usize::from(u16::MAX), usize::from(u16::MAX) + 1] {
        let payload = vec![0; len];
        let mut out = [0; PACKET_LEN];
        let error = Err(BuildError::PayloadTooLong { len, max: USER_PAYLOAD_LEN });
        let forward = build_forward(&mut net.rng, 0, &path, mailbox(), &payload, &mut out);
        assert_eq!(error, forward.map(|_| ()));
        let (surb, _) = build_surb(&mut net.rng, 0, &path, mailbox(), surb_id()).unwrap();
        assert_eq!(error, surb.reply(&payload, &mut out));
    }
}

#[test]
fn bytes_that_are_no_surb_are_refused() {
    let mut net = Net::new(6);
    let path = net.path(3);
    let bytes = build_surb(&mut net.rng, 0, &path, mailbox(), surb_id()).unwrap().0.to_bytes();
    assert_eq!(bytes, Surb::parse(&bytes).unwrap().to_bytes());
    for len in [0, 31, 32, SURB_LEN - 33, SURB_LEN - 1] {
        assert_eq!(SurbError::WrongLength { len }, Surb::parse(&bytes[..len]).unwrap_err());
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(SurbError::WrongLength { len: SURB_LEN + 1 }, Surb::parse(&longer).unwrap_err());
    let broken = [
        (32, 0x02, PacketError::UnknownVersion),
        (33, 0x02, PacketError::BadParity),
        (65, 0xff, PacketError::BadAlpha),
    ];
    for (at, byte, error) in broken {
        let mut bytes = bytes;
        bytes[at] = byte;
        assert_eq!(SurbError::BadHeader(error), Surb::parse(&bytes).unwrap_err());
    }
}

#[test]
fn a_reply_opener_survives_being_stored_and_refuses_altered_bytes() {
    let mut net = Net::new(7);
    for hops in 1..=7 {
        let path = net.path(hops);
        let (_, opener) = build_surb(&mut net.rng, 0, &path, mailbox(), surb_id()).unwrap();
        let bytes = opener.to_bytes();
        let again = ReplyOpener::parse(&bytes).unwrap();
        assert_eq!(bytes, again.to_bytes());
        assert_eq!((opener.surb_id(), opener.delays()), (again.surb_id(), again.delays()));
        assert!(ReplyOpener::parse(&bytes[..bytes.len() - 1]).is_err());
        assert!(ReplyOpener::parse(&[&bytes[..], &[0; 48]].concat()).is_err() || hops < 7);
    }
    assert!(ReplyOpener::parse(&[1; 49]).is_err(), "an opener without hops");
    assert!(ReplyOpener::parse(&[2; 97]).is_err(), "an unknown format");
}

#[test]
fn secrets_are_not_shown() {
    let mut net = Net::new(8);
    let path = net.path(1);
    let (surb, opener) = build_surb(&mut net.rng, 0, &path, mailbox(), surb_id()).unwrap();
    assert_eq!("SecretKey(..)", format!("{:?}", net.nodes[0].secret));
    assert_eq!("Surb(..)", format!("{surb:?}"));
    assert_eq!("DelayInput(..)", format!("{:?}", opener.delays()[0]));
    let shown = format!("{opener:?}");
    assert!(shown.len() < 80, "{shown}");
}

#[test]
fn every_reason_is_a_label_of_its_own() {
    let labels: HashSet<_> = PacketError::ALL.iter().map(PacketError::reason).collect();
    assert_eq!(PacketError::ALL.len(), labels.len());
    assert!(labels.iter().all(|label| label.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')));
}
