//! Packets arrive, in both directions and over every number of hops.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, reason = "test code")]

#[path = "common/net.rs"]
#[allow(dead_code, reason = "each test uses its own part")]
mod common;

use betanet_sphinx::{Action, PACKET_LEN, SURB_LEN, Surb, USER_PAYLOAD_LEN, build_surb, parity_of};
use common::{Net, mailbox, surb_id};
use proptest::prelude::*;

fn delivered(net: &mut Net, hops: usize, payload: &[u8]) -> Vec<u8> {
    let (mut packet, delays) = net.forward(hops, payload);
    assert_eq!(Ok(1), parity_of(&packet));
    match net.carry(hops, &mut packet, &delays) {
        Action::Deliver { mailbox: to, payload } => {
            assert_eq!(mailbox(), to);
            packet[payload].to_vec()
        }
        other => panic!("the last hop says {other:?}"),
    }
}

fn replied(net: &mut Net, hops: usize, payload: &[u8]) -> Vec<u8> {
    let path = net.path(hops);
    let (surb, opener) = build_surb(&mut net.rng, 0, &path, mailbox(), surb_id()).unwrap();
    let surb = Surb::parse(&surb.to_bytes()).unwrap();
    assert_eq!(path[0].node, surb.first());
    let mut packet = [0; PACKET_LEN];
    surb.reply(payload, &mut packet).unwrap();
    assert_eq!(Ok(0), parity_of(&packet));
    let delays = opener.delays().to_vec();
    match net.carry(hops, &mut packet, &delays) {
        Action::Reply { mailbox: to, surb_id: id, delta } => {
            assert_eq!((mailbox(), surb_id()), (to, id));
            assert_eq!(id, opener.surb_id());
            opener.open(&mut packet[delta]).unwrap()
        }
        other => panic!("the last hop says {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// INV-SPHINX-01
    #[test]
    fn a_forward_packet_delivers_its_payload(
        seed: u64,
        hops in 1_usize..=7,
        payload in proptest::collection::vec(any::<u8>(), 0..=USER_PAYLOAD_LEN),
    ) {
        prop_assert_eq!(&payload, &delivered(&mut Net::new(seed), hops, &payload));
    }

    /// INV-SPHINX-01
    #[test]
    fn a_reply_delivers_its_payload_to_the_maker_of_the_surb(
        seed: u64,
        hops in 1_usize..=7,
        payload in proptest::collection::vec(any::<u8>(), 0..=USER_PAYLOAD_LEN),
    ) {
        prop_assert_eq!(&payload, &replied(&mut Net::new(seed), hops, &payload));
    }
}

#[test]
fn the_shortest_and_the_longest_payload_arrive_over_every_number_of_hops() {
    for hops in 1..=7 {
        for payload in [vec![], vec![0], vec![0; USER_PAYLOAD_LEN], vec![0xff; USER_PAYLOAD_LEN]] {
            let mut net = Net::new(hops as u64);
            assert_eq!(payload, delivered(&mut net, hops, &payload));
            assert_eq!(payload, replied(&mut net, hops, &payload));
        }
    }
}

/// INV-SPHINX-02: forward packets and replies of every number of hops have one length at every hop, and so have SURBs.
#[test]
fn every_number_of_hops_gives_packets_and_surbs_of_one_size() {
    for hops in 1..=7 {
        let mut net = Net::new(hops as u64);
        let (mut packet, delays) = net.forward(hops, b"x");
        assert_eq!(hops, delays.len());
        // `unwrap` takes nothing but this length, so that what it leaves has it too.
        net.carry(hops, packet.as_mut_slice(), &delays);
        let path = net.path(hops);
        let (surb, _) = build_surb(&mut net.rng, 0, &path, mailbox(), surb_id()).unwrap();
        assert_eq!(SURB_LEN, surb.to_bytes().len());
    }
}

#[test]
fn a_path_may_visit_a_node_twice() {
    let mut net = Net::new(5);
    let there_and_back = [0, 1, 0].map(|node: usize| net.nodes[node].hop);
    let mut packet = [0; PACKET_LEN];
    betanet_sphinx::build_forward(&mut net.rng, 1, &there_and_back, mailbox(), b"loop", &mut packet).unwrap();
    for node in [0, 1] {
        assert!(matches!(net.unwrap_at(node, &mut packet).unwrap().action, Action::Forward { .. }));
    }
    assert!(matches!(net.unwrap_at(0, &mut packet).unwrap().action, Action::Deliver { .. }));
}

/// INV-SPHINX-09: the end of the last hop's β is random, not a run of zeros whose length tells that of the path.
#[test]
fn the_last_hop_finds_no_trace_of_the_path_length_in_beta() {
    let geometry = betanet_sphinx::Geometry::NATIVE;
    for hops in 1..=7 {
        let mut net = Net::new(hops as u64);
        let (mut packet, delays) = net.forward(hops, b"x");
        net.carry(hops, &mut packet, &delays);
        let beta = &packet[geometry.beta()];
        let longest_run = beta.split(|byte| *byte != 0).map(<[u8]>::len).max();
        assert!(longest_run < Some(8), "{hops} hops leave {longest_run:?} zero bytes in a row");
    }
}

#[test]
fn two_packets_of_one_payload_share_nothing_but_version_and_parity() {
    let mut net = Net::new(6);
    let (one, _) = net.forward(3, b"same");
    let (two, _) = net.forward(3, b"same");
    assert_eq!(one[..2], two[..2]);
    let equal = one[2..].iter().zip(&two[2..]).filter(|(a, b)| a == b).count();
    assert!(equal < 60, "{equal} equal bytes");
}
