//! Altered, repeated and misdirected packets are dropped for the right reason.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, reason = "test code")]

#[path = "common/net.rs"]
#[allow(dead_code, reason = "each test uses its own part")]
mod common;

use betanet_sphinx::{
    Action, Geometry, PACKET_LEN, PacketError, ReplyOpener, SecretKey, build_surb, parity_of, unwrap,
};
use common::{Net, Seen, flip_each_bit, mailbox, surb_id};

const GEOMETRY: Geometry = Geometry::NATIVE;

fn assert_header_flips_rejected(packet: &[u8], secret: &SecretKey) {
    let mut seen = Seen::default();
    flip_each_bit(packet, 0..GEOMETRY.header_len, |bit, altered| {
        let before = altered.to_vec();
        let error = unwrap(secret, altered, &mut seen).unwrap_err();
        let expected: &[PacketError] = match bit {
            0..8 => &[PacketError::UnknownVersion],
            8 => &[PacketError::BadMac],
            9..16 => &[PacketError::BadParity],
            _ if bit / 8 == GEOMETRY.alpha().end - 1 && bit % 8 == 7 => &[PacketError::BadAlpha],
            _ => &[PacketError::BadMac],
        };
        assert!(expected.contains(&error), "bit {bit}: {error:?}");
        assert_eq!(before, altered, "a rejected packet stays as it was");
    });
    assert_eq!(0, seen.len(), "a rejected packet leaves nothing in the replay filter");
}

/// INV-SPHINX-03
#[test]
fn every_flipped_bit_of_a_forward_header_is_rejected_at_the_next_hop() {
    let mut net = Net::new(1);
    let (mut packet, _) = net.forward(7, b"payload");
    for hop in 0..7 {
        assert_header_flips_rejected(&packet, &net.nodes[hop].secret);
        net.unwrap_at(hop, &mut packet).unwrap();
    }
}

/// INV-SPHINX-03
#[test]
fn every_flipped_bit_of_a_reply_header_is_rejected_at_the_next_hop() {
    let mut net = Net::new(2);
    let path = net.path(3);
    let (surb, _) = build_surb(&mut net.rng, 0, &path, mailbox(), surb_id()).unwrap();
    let mut packet = [0; PACKET_LEN];
    surb.reply(b"payload", &mut packet).unwrap();
    for hop in 0..3 {
        assert_header_flips_rejected(&packet, &net.nodes[hop].secret);
        net.unwrap_at(hop, &mut packet).unwrap();
    }
}

/// INV-SPHINX-04: an altered δ passes the hops, whose MAC does not cover it, and is found out at the last one.
#[test]
fn every_flipped_bit_of_delta_is_detected_at_the_last_hop() {
    let mut net = Net::new(3);
    let (packet, _) = net.forward(2, b"payload");
    flip_each_bit(&packet, GEOMETRY.delta(), |bit, altered| {
        for node in &mut net.nodes {
            node.seen = Seen::default();
        }
        assert!(matches!(net.unwrap_at(0, altered).unwrap().action, Action::Forward { .. }));
        assert_eq!(Err(PacketError::BadPayload), net.unwrap_at(1, altered), "bit {bit}");
    });
}

/// INV-SPHINX-04
#[test]
fn every_flipped_bit_of_delta_is_detected_by_the_opener() {
    let mut net = Net::new(4);
    let path = net.path(1);
    let (surb, opener) = build_surb(&mut net.rng, 1, &path, mailbox(), surb_id()).unwrap();
    let kept = opener.to_bytes();
    let mut packet = [0; PACKET_LEN];
    surb.reply(b"payload", &mut packet).unwrap();
    flip_each_bit(&packet, GEOMETRY.delta(), |bit, altered| {
        net.nodes[0].seen = Seen::default();
        let Action::Reply { delta, .. } = net.unwrap_at(0, altered).unwrap().action else { panic!("not a reply") };
        let opener = ReplyOpener::parse(&kept).unwrap();
        assert_eq!(Err(PacketError::BadPayload), opener.open(&mut altered[delta]), "bit {bit}");
    });
}

/// INV-SPHINX-05
#[test]
fn a_replayed_packet_is_refused_at_every_hop() {
    let mut net = Net::new(5);
    let (mut packet, _) = net.forward(7, b"payload");
    for hop in 0..7 {
        let mut copy = packet;
        net.unwrap_at(hop, &mut packet).unwrap();
        let before = copy;
        assert_eq!(Err(PacketError::Replay), net.unwrap_at(hop, &mut copy));
        assert_eq!(before, copy, "a replay is not unwrapped");
    }
}

/// INV-SPHINX-05: δ does not enter the tag, so that a copy with another payload is a replay as well.
#[test]
fn a_copy_with_another_payload_is_a_replay() {
    let mut net = Net::new(6);
    let (mut packet, _) = net.forward(2, b"payload");
    let mut copy = packet;
    copy[PACKET_LEN - 1] ^= 1;
    net.unwrap_at(0, &mut packet).unwrap();
    assert_eq!(Err(PacketError::Replay), net.unwrap_at(0, &mut copy));
}

/// INV-SPHINX-06
#[test]
fn a_packet_with_the_other_parity_fails_its_mac() {
    let mut net = Net::new(7);
    let (mut packet, _) = net.forward(1, b"payload");
    packet[1] ^= 1;
    assert_eq!(Ok(0), parity_of(&packet));
    assert_eq!(Err(PacketError::BadMac), net.unwrap_at(0, &mut packet));
}

#[test]
fn a_packet_for_another_node_fails_its_mac() {
    let mut net = Net::new(8);
    let (mut packet, _) = net.forward(2, b"payload");
    assert_eq!(Err(PacketError::BadMac), net.unwrap_at(1, &mut packet));
}

#[test]
fn a_packet_of_the_wrong_length_is_refused() {
    let mut net = Net::new(9);
    let (packet, _) = net.forward(1, b"payload");
    let mut longer = packet.to_vec();
    longer.push(0);
    for bytes in [&mut [], &mut packet.to_vec()[..PACKET_LEN - 1], longer.as_mut_slice()] {
        assert_eq!(Err(PacketError::WrongLength), parity_of(bytes));
        assert_eq!(Err(PacketError::WrongLength), net.unwrap_at(0, bytes));
    }
}

/// INV-SPHINX-07
#[test]
fn alpha_of_small_order_is_refused() {
    // All u of order 1, 2, 4 and 8, on the curve and its twist, in canonical form (RFC 7748 §7; Wycheproof).
    let low_order = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let mut net = Net::new(10);
    let (packet, _) = net.forward(1, b"payload");
    for alpha in low_order {
        let mut altered = packet;
        altered[GEOMETRY.alpha()].copy_from_slice(&hex::decode(alpha).unwrap());
        assert_eq!(Err(PacketError::WeakSecret), net.unwrap_at(0, &mut altered), "{alpha}");
    }
}

/// INV-SPHINX-07
#[test]
fn alpha_that_is_not_canonical_is_refused() {
    let mut net = Net::new(11);
    let (packet, _) = net.forward(1, b"payload");
    let mut high_bit = packet;
    high_bit[GEOMETRY.alpha().end - 1] |= 0x80;
    assert_eq!(Err(PacketError::BadAlpha), net.unwrap_at(0, &mut high_bit));
    // p to 2^255 − 1, that is, every value that X25519 would reduce.
    for low in 0xed..=0xff {
        let mut altered = packet;
        altered[GEOMETRY.alpha()].fill(0xff);
        altered[GEOMETRY.alpha().start] = low;
        altered[GEOMETRY.alpha().end - 1] = 0x7f;
        assert_eq!(Err(PacketError::BadAlpha), net.unwrap_at(0, &mut altered), "{low:02x}");
    }
    // p − 2 is canonical, and of large order: only its MAC is wrong.
    let mut largest = packet;
    largest[GEOMETRY.alpha()].fill(0xff);
    largest[GEOMETRY.alpha().start] = 0xeb;
    largest[GEOMETRY.alpha().end - 1] = 0x7f;
    assert_eq!(Err(PacketError::BadMac), net.unwrap_at(0, &mut largest));
}

/// INV-SPHINX-08: α plus a point of small order leads to the same secret, but not past the MAC.
#[test]
fn alpha_shifted_by_a_point_of_small_order_is_refused() {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use curve25519_dalek::montgomery::MontgomeryPoint;
    let mut net = Net::new(12);
    let (packet, _) = net.forward(1, b"payload");
    let alpha: [u8; 32] = packet[GEOMETRY.alpha()].try_into().unwrap();
    let point = MontgomeryPoint(alpha).to_edwards(0).unwrap();
    for torsion in &EIGHT_TORSION[1..] {
        let mut altered = packet;
        altered[GEOMETRY.alpha()].copy_from_slice((point + torsion).to_montgomery().as_bytes());
        assert_eq!(Err(PacketError::BadMac), net.unwrap_at(0, &mut altered));
    }
}

#[test]
fn a_full_replay_cache_drops_the_packet() {
    struct Full;
    impl betanet_sphinx::ReplayFilter for Full {
        fn check_and_insert(&mut self, _: &betanet_sphinx::ReplayTag) -> Result<(), PacketError> {
            Err(PacketError::ReplayCacheFull)
        }
    }
    let mut net = Net::new(13);
    let (mut packet, _) = net.forward(1, b"payload");
    assert_eq!(Err(PacketError::ReplayCacheFull), unwrap(&net.nodes[0].secret, &mut packet, &mut Full));
}

#[test]
fn a_reply_does_not_open_with_the_opener_of_another_surb() {
    let mut net = Net::new(14);
    let path = net.path(2);
    let (surb, _) = build_surb(&mut net.rng, 1, &path, mailbox(), surb_id()).unwrap();
    let (_, other) = build_surb(&mut net.rng, 1, &path, mailbox(), surb_id()).unwrap();
    let mut packet = [0; PACKET_LEN];
    surb.reply(b"payload", &mut packet).unwrap();
    net.unwrap_at(0, &mut packet).unwrap();
    let Action::Reply { delta, .. } = net.unwrap_at(1, &mut packet).unwrap().action else { panic!("not a reply") };
    assert_eq!(Err(PacketError::BadPayload), other.open(&mut packet[delta]));
}

#[test]
fn a_reply_that_names_a_mailbox_is_refused() {
    use betanet_sphinx::suite::PayloadKey;
    let mut net = Net::new(15);
    let path = net.path(1);
    let (surb, opener) = build_surb(&mut net.rng, 1, &path, mailbox(), surb_id()).unwrap();
    let surb = surb.to_bytes();
    let mut packet = [0; PACKET_LEN];
    packet[..GEOMETRY.header_len].copy_from_slice(&surb[32..32 + GEOMETRY.header_len]);
    packet[GEOMETRY.header_len + GEOMETRY.tag_len] = 1;
    let key = PayloadKey::from_bytes(surb[32 + GEOMETRY.header_len..].try_into().unwrap());
    key.encrypt(&mut packet[GEOMETRY.delta()]);
    let Action::Reply { delta, .. } = net.unwrap_at(0, &mut packet).unwrap().action else { panic!("not a reply") };
    assert_eq!(Err(PacketError::BadPayload), opener.open(&mut packet[delta]));
}

/// A packet whose maker knows the keys, but writes a command that does not exist.
#[test]
fn an_unknown_command_is_refused() {
    use betanet_sphinx::suite::{Native, Suite};
    use betanet_sphinx::x25519::x25519;
    use ctr::cipher::StreamCipher;
    let mut net = Net::new(16);
    let (packet, _) = net.forward(1, b"payload");
    let alpha: [u8; 32] = packet[GEOMETRY.alpha()].try_into().unwrap();
    let keys = Native::derive(&x25519(&net.nodes[0].secret.to_bytes(), &alpha));
    for kind in [0x03, 0x80, 0xff] {
        let mut altered = packet;
        Native::stream(&keys).apply_keystream(&mut altered[GEOMETRY.beta()]);
        altered[GEOMETRY.beta().start] = kind;
        Native::stream(&keys).apply_keystream(&mut altered[GEOMETRY.beta()]);
        let (header, _) = altered.split_at_mut(GEOMETRY.header_len);
        let (before, beta) = header.split_at_mut(GEOMETRY.beta().start);
        Native::mac(&keys, &before[..2], &alpha, beta).write(&mut before[GEOMETRY.gamma()]);
        net.nodes[0].seen = Seen::default();
        assert_eq!(Err(PacketError::BadCommand), net.unwrap_at(0, &mut altered), "{kind:#04x}");
    }
}
