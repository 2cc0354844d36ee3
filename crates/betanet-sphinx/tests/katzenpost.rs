//! Katzenpost's published vectors for X25519: every header at every hop. Payloads are not looked at.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, reason = "test code")]

#[path = "common/net.rs"]
#[allow(dead_code, reason = "each test uses its own part")]
mod common;
#[path = "common/outside.rs"]
mod outside;

use std::time::Duration;

use betanet_sphinx::suite::{KatzenpostAction, KatzenpostLast};
use betanet_sphinx::{Geometry, Katzenpost, PacketError, SecretKey, Suite, unwrap_with};
use common::{Seen, flip_each_bit};
use outside::{bytes, cases};
use serde_json::Value;

const FILE: &str = "katzenpost_sphinx_x25519_forward.json";
const GEOMETRY: Geometry = Geometry::KATZENPOST;

/// The secret of the node at `hop`.
fn secret(case: &Value, hop: usize) -> SecretKey {
    SecretKey::from_bytes(bytes(&case["Nodes"][hop]["PrivateKey"]).try_into().unwrap())
}

#[test]
fn every_header_of_the_vectors_unwraps_at_every_hop() {
    let Some(cases) = cases(FILE) else { return };
    let mut steps = 0;
    for case in &cases {
        let path = case["Path"].as_array().unwrap();
        for hop in 0..path.len() {
            let mut packet = bytes(&case["Packets"][hop]);
            let delta = packet[GEOMETRY.delta()].to_vec();
            let mut seen = Seen::default();
            let unwrapped = unwrap_with::<Katzenpost>(&secret(case, hop), &mut packet, &mut seen).unwrap();
            let command = bytes(&path[hop]["Commands"][0]);
            if let Some(next) = path.get(hop + 1) {
                assert_eq!(0x80, command[0]);
                let milliseconds = u32::from_be_bytes(command[1..].try_into().unwrap());
                let id: [u8; 32] = bytes(&next["ID"]).try_into().unwrap();
                assert_eq!(KatzenpostAction::Forward { next: id.into() }, unwrapped.action);
                assert_eq!(Duration::from_millis(milliseconds.into()), unwrapped.delay);
                let next_packet = bytes(&case["Packets"][hop + 1]);
                assert_eq!(next_packet[..GEOMETRY.header_len], packet[..GEOMETRY.header_len]);
            } else {
                assert_eq!(0x02, command[0]);
                let last = KatzenpostLast { recipient: Some(command[1..].try_into().unwrap()), surb_id: None };
                assert_eq!(KatzenpostAction::Last(last), unwrapped.action);
                assert_eq!(Duration::ZERO, unwrapped.delay);
            }
            assert_eq!(delta, packet[GEOMETRY.delta()], "payloads are left alone");
            let mut copy = bytes(&case["Packets"][hop]);
            let again = unwrap_with::<Katzenpost>(&secret(case, hop), &mut copy, &mut seen);
            assert_eq!(Err(PacketError::Replay), again);
            steps += 1;
        }
    }
    assert_eq!(9, steps);
}

#[test]
fn every_flipped_bit_of_a_header_is_refused() {
    let Some(cases) = cases(FILE) else { return };
    let packet = bytes(&cases[1]["Packets"][0]);
    flip_each_bit(&packet, 0..GEOMETRY.header_len, |bit, altered| {
        let error = unwrap_with::<Katzenpost>(&secret(&cases[1], 0), altered, &mut Seen::default()).unwrap_err();
        let expected = [PacketError::UnknownVersion, PacketError::BadAlpha, PacketError::BadMac];
        assert!(expected.contains(&error), "bit {bit}: {error:?}");
    });
}

#[test]
fn every_length_is_theirs() {
    assert_eq!((82, 410, 476, 611), (GEOMETRY.block_len, GEOMETRY.beta_len, GEOMETRY.header_len, GEOMETRY.packet_len));
    assert_eq!(572, GEOMETRY.surb_len);
    assert_eq!((34..444, 444..476), (GEOMETRY.beta(), GEOMETRY.gamma()));
}

#[test]
fn malformed_commands_are_refused() {
    let mut block = [0; 82];
    assert!(Katzenpost::read_block(&block).is_ok());
    block[81] = 1;
    assert_eq!(Some(PacketError::BadCommand), Katzenpost::read_block(&block).err(), "a byte behind the end");
    // Sixteen delays, and two bytes in which none of these fits.
    for command in [0x01, 0x02, 0x03, 0x04, 0x80, 0xff] {
        block.fill(0x80);
        block[80] = command;
        assert_eq!(Some(PacketError::BadCommand), Katzenpost::read_block(&block).err(), "{command:#x}");
    }
}
