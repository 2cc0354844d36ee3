//! The byte layout of docs/spec/packet.md, as literals.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, reason = "test code")]

#[path = "common/net.rs"]
#[allow(dead_code, reason = "each test uses its own part")]
mod common;

use betanet_sphinx::suite::{Block, Maker, Native, NativeLast, RoutingCommand, Suite};
use betanet_sphinx::{Action, Geometry, MAX_HOPS, PACKET_LEN, SURB_LEN, USER_PAYLOAD_LEN, build_surb};
use common::{MAILBOX, Net, SURB_ID, mailbox, surb_id};

const GEOMETRY: Geometry = Geometry::NATIVE;

/// INV-SPHINX-02
#[test]
fn every_offset_is_as_specified() {
    assert_eq!((2475, 457, 2048, 7), (PACKET_LEN, SURB_LEN, USER_PAYLOAD_LEN, MAX_HOPS));
    assert_eq!(2, GEOMETRY.prefix_len);
    assert_eq!(2..34, GEOMETRY.alpha());
    assert_eq!(34..50, GEOMETRY.gamma());
    assert_eq!(50..393, GEOMETRY.beta());
    assert_eq!(393..2475, GEOMETRY.delta());
    assert_eq!((49, 343, 393, 2082), (GEOMETRY.block_len, GEOMETRY.beta_len, GEOMETRY.header_len, GEOMETRY.delta_len));
    assert_eq!((16, 16, 2), (GEOMETRY.tag_len, GEOMETRY.mailbox_len, GEOMETRY.length_len));
    assert_eq!(34, GEOMETRY.user_payload_start());
}

#[test]
fn a_packet_starts_with_version_and_parity() {
    let mut net = Net::new(1);
    let path = net.path(1);
    let mut packet = [0; PACKET_LEN];
    for parity in 0..=1 {
        betanet_sphinx::build_forward(&mut net.rng, parity, &path, mailbox(), b"", &mut packet).unwrap();
        assert_eq!([0x01, parity], packet[..2]);
    }
}

#[test]
fn a_delivered_payload_stands_behind_tag_mailbox_and_length() {
    let mut net = Net::new(2);
    let (mut packet, delays) = net.forward(1, b"hello");
    let action = net.carry(1, &mut packet, &delays);
    assert_eq!(Action::Deliver { mailbox: mailbox(), payload: 427..432 }, action);
    let delta = &packet[393..];
    assert_eq!([0; 16], delta[..16]);
    assert_eq!(MAILBOX, delta[16..32]);
    assert_eq!([0, 5], delta[32..34]);
    assert_eq!(b"hello", &delta[34..39]);
    assert!(delta[39..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_surb_starts_with_the_first_node_and_carries_the_header() {
    let mut net = Net::new(3);
    let path = net.path(2);
    let (surb, _) = build_surb(&mut net.rng, 1, &path, mailbox(), surb_id()).unwrap();
    let bytes = surb.to_bytes();
    let mut packet = [0; PACKET_LEN];
    surb.reply(b"", &mut packet).unwrap();
    assert_eq!(path[0].node.as_ref(), &bytes[..32]);
    assert_eq!(packet[..393], bytes[32..425]);
    assert_eq!(32, bytes[425..].len());
}

#[test]
fn routing_blocks_are_laid_out_as_specified() {
    let next = [0xaa; 32];
    let gamma = [0xbb; 16];
    let mut block = [0xcc; 49];
    let forward = RoutingCommand::Forward { next: next.into(), hold: () };
    Native::write_block(&forward, &gamma, &mut block);
    assert_eq!([&[0x00][..], &next, &gamma].concat(), block);
    assert_eq!(Ok(Block { command: forward, next_gamma: &gamma }), Native::read_block(&block));

    let mut block = [0xcc; 49];
    let reply = RoutingCommand::Last(NativeLast::Reply { mailbox: mailbox(), surb_id: surb_id() });
    Native::write_block(&reply, &[], &mut block);
    assert_eq!([&[0x02][..], &MAILBOX, &SURB_ID, &[0xcc; 16]].concat(), block, "free bytes stay random");
    assert_eq!(Ok(Block { command: reply, next_gamma: &[] }), Native::read_block(&block));

    let mut block = [0xcc; 49];
    let deliver = RoutingCommand::Last(NativeLast::Deliver);
    Native::write_block(&deliver, &[], &mut block);
    assert_eq!([&[0x01][..], &[0xcc; 48]].concat(), block, "free bytes stay random");
    assert_eq!(Ok(Block { command: deliver, next_gamma: &[] }), Native::read_block(&block));

    for kind in 0x03..=0xff {
        block[0] = kind;
        assert!(Native::read_block(&block).is_err());
    }
}
