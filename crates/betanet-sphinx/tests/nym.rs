//! The suite of Nym against its own implementation, the crate `sphinx-packet`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, reason = "test code")]

#[path = "common/net.rs"]
#[allow(dead_code, reason = "each test uses its own part")]
mod common;

use std::time::Duration;

use betanet_sphinx::suite::lioness::Lioness;
use betanet_sphinx::suite::{NymAction, NymLast};
use betanet_sphinx::{
    BuildError, Draft, Geometry, Hop, Nym, PacketError, build_forward_with, unwrap_batch_with, unwrap_with,
};
use common::{Net, flip_each_bit};
use proptest::prelude::*;
use sphinx_packet::header::delays::Delay;
use sphinx_packet::packet::builder::SphinxPacketBuilder;
use sphinx_packet::payload::Payload;
use sphinx_packet::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};
use sphinx_packet::{ProcessedPacketData, SURBMaterial, SphinxPacket};
use x25519_dalek::{PublicKey, StaticSecret};

const GEOMETRY: Geometry = Geometry::NYM;
const TO: NymLast = NymLast { destination: [0xd0; 32], identifier: [0x1d; 16] };

/// A path in their terms.
fn route(path: &[Hop]) -> Vec<Node> {
    let node = |hop: &Hop| Node {
        address: NodeAddressBytes::from_bytes(hop.node.into()),
        pub_key: PublicKey::from(*hop.key.as_bytes()),
    };
    path.iter().map(node).collect()
}

fn destination() -> Destination {
    Destination::new(DestinationAddressBytes::from_bytes(TO.destination), TO.identifier)
}

/// A delay for each hop, all different.
fn holds(hops: usize) -> Vec<Duration> {
    (0..hops).map(|hop| Duration::from_nanos(1_234_567_890 + u64::try_from(hop).unwrap())).collect()
}

fn delays(holds: &[Duration]) -> Vec<Delay> {
    holds.iter().map(|hold| Delay::new_from_nanos(u64::try_from(hold.as_nanos()).unwrap())).collect()
}

/// Carries their packet through our hops and returns the payload.
fn carry_through_ours(net: &mut Net, hops: usize, packet: &mut [u8]) -> Vec<u8> {
    for (place, hold) in holds(hops).into_iter().enumerate() {
        let behind = net.nodes.get(place + 1).map(|node| node.hop.node);
        let node = &mut net.nodes[place];
        let unwrapped = unwrap_with::<Nym>(&node.secret, packet, &mut node.seen).unwrap();
        match unwrapped.action {
            NymAction::Forward { next } => {
                assert_eq!((behind, hold), (Some(next), unwrapped.delay));
            }
            NymAction::Deliver { last, payload } => {
                assert_eq!((TO, hops), (last, place + 1));
                return packet[payload].to_vec();
            }
        }
    }
    panic!("the packet has not come to its end");
}

#[test]
fn every_length_is_theirs() {
    use sphinx_packet::constants::MAX_PATH_LENGTH;
    use sphinx_packet::header::HEADER_SIZE;
    assert_eq!((HEADER_SIZE, MAX_PATH_LENGTH), (GEOMETRY.header_len, GEOMETRY.max_hops));
    assert_eq!((60, 300, 2065, 2413), (GEOMETRY.block_len, GEOMETRY.beta_len, GEOMETRY.delta_len, GEOMETRY.packet_len));
}

#[test]
fn their_packets_unwrap_at_our_hops() {
    for hops in 1..=5 {
        let mut net = Net::new(hops as u64);
        let builder = SphinxPacketBuilder::new().with_payload_size(GEOMETRY.delta_len);
        let message = vec![0xa5; 2048 - hops];
        let packet =
            builder.build_packet(&message, &route(&net.path(hops)), &destination(), &delays(&holds(hops))).unwrap();
        assert_eq!(message, carry_through_ours(&mut net, hops, &mut packet.to_bytes()));
    }
}

#[test]
fn their_replies_unwrap_at_our_hops() {
    for hops in 1..=5 {
        let mut net = Net::new(10 + hops as u64);
        let surb = SURBMaterial::new(route(&net.path(hops)), delays(&holds(hops)), destination());
        let (packet, first) = surb.construct_SURB().unwrap().use_surb(b"answer", GEOMETRY.delta_len).unwrap();
        assert_eq!(net.nodes[0].hop.node.as_bytes(), first.as_bytes());
        assert_eq!(b"answer"[..], carry_through_ours(&mut net, hops, &mut packet.to_bytes()));
    }
}

#[test]
fn our_packets_unwrap_at_their_hops() {
    for hops in 1..=5 {
        for payload in [&b""[..], b"hello", &[1; 2048]] {
            let mut net = Net::new(20 + hops as u64);
            let path = net.path(hops);
            let holds = holds(hops - 1);
            let mut packet = vec![0; GEOMETRY.packet_len];
            let draft = Draft::<Nym> { parity: 0, path: &path, holds: &holds, to: TO, payload };
            build_forward_with(&mut net.rng, &draft, &mut packet).unwrap();

            let mut packet = SphinxPacket::from_bytes(&packet).unwrap();
            for (place, node) in net.nodes[..hops].iter().enumerate() {
                let secret = StaticSecret::from(*node.secret.to_bytes());
                match packet.process(&secret).unwrap().data {
                    ProcessedPacketData::ForwardHop { next_hop_packet, next_hop_address, delay } => {
                        assert_eq!(path[place + 1].node.as_bytes(), next_hop_address.as_bytes());
                        assert_eq!(holds[place], delay.to_duration());
                        packet = next_hop_packet;
                    }
                    ProcessedPacketData::FinalHop { destination, identifier, payload: found } => {
                        assert_eq!(hops, place + 1);
                        assert_eq!((TO.destination, TO.identifier), (destination.as_bytes(), identifier));
                        assert_eq!(payload, found.recover_plaintext().unwrap());
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn both_implementations_leave_the_same_packet_for_the_next_hop() {
    let mut net = Net::new(30);
    let path = net.path(5);
    let mut ours = vec![0; GEOMETRY.packet_len];
    let draft = Draft::<Nym> { parity: 0, path: &path, holds: &[], to: TO, payload: b"same" };
    build_forward_with(&mut net.rng, &draft, &mut ours).unwrap();
    for node in &mut net.nodes[..4] {
        let theirs = SphinxPacket::from_bytes(&ours).unwrap();
        let processed = theirs.process(&StaticSecret::from(*node.secret.to_bytes())).unwrap();
        unwrap_with::<Nym>(&node.secret, &mut ours, &mut node.seen).unwrap();
        let ProcessedPacketData::ForwardHop { next_hop_packet, .. } = processed.data else { panic!("too short") };
        assert_eq!(next_hop_packet.to_bytes(), ours);
    }
}

#[test]
fn their_packets_unwrap_in_batches() {
    struct One(betanet_sphinx::SecretKey, common::Seen);
    impl betanet_sphinx::NodeKeys for One {
        fn secret(&self, _: u8) -> Result<&betanet_sphinx::SecretKey, PacketError> {
            Ok(&self.0)
        }
        fn check_and_insert(&mut self, _: u8, tag: &betanet_sphinx::ReplayTag) -> Result<(), PacketError> {
            betanet_sphinx::ReplayFilter::check_and_insert(&mut self.1, tag)
        }
    }
    let net = Net::new(31);
    let builder = SphinxPacketBuilder::new().with_payload_size(GEOMETRY.delta_len);
    let mut packets: Vec<_> = (1..=5)
        .map(|hops| {
            let route = route(&net.path(hops));
            builder.build_packet(b"many", &route, &destination(), &delays(&holds(hops))).unwrap().to_bytes()
        })
        .collect();
    packets.push(packets[2].clone());
    let mut outcomes = Vec::new();
    let mut node = One(net.nodes[0].secret.clone(), common::Seen::default());
    unwrap_batch_with::<Nym, _>(&mut node, &mut packets, &mut outcomes);
    assert!(matches!(outcomes[0].as_ref().unwrap().action, NymAction::Deliver { .. }));
    for outcome in &outcomes[1..5] {
        assert_eq!(NymAction::Forward { next: net.nodes[1].hop.node }, outcome.as_ref().unwrap().action);
    }
    assert_eq!(Some(PacketError::Replay), outcomes[5].as_ref().err().copied());
}

#[test]
fn altered_packets_are_refused() {
    let mut net = Net::new(32);
    let path = net.path(1);
    let mut packet = vec![0; GEOMETRY.packet_len];
    let draft = Draft::<Nym> { parity: 0, path: &path, holds: &[], to: TO, payload: b"hello" };
    build_forward_with(&mut net.rng, &draft, &mut packet).unwrap();
    let secret = &net.nodes[0].secret;
    let unwrap = |altered: &mut [u8]| unwrap_with::<Nym>(secret, altered, &mut common::Seen::default());
    flip_each_bit(&packet, 0..GEOMETRY.header_len, |bit, altered| {
        let error = unwrap(altered).unwrap_err();
        assert!([PacketError::BadMac, PacketError::BadAlpha].contains(&error), "bit {bit}: {error:?}");
    });
    flip_each_bit(&packet, GEOMETRY.delta(), |bit, altered| {
        assert_eq!(Err(PacketError::BadPayload), unwrap(altered), "bit {bit}");
    });
}

#[test]
fn other_versions_are_refused() {
    use sphinx_packet::version::Version;
    let net = Net::new(33);
    for version in [1, 257, 258, 260] {
        let builder =
            SphinxPacketBuilder::new().with_payload_size(GEOMETRY.delta_len).with_version(Version::new(version));
        let route = route(&net.path(1));
        let mut packet = builder.build_packet(b"", &route, &destination(), &delays(&holds(1))).unwrap().to_bytes();
        let outcome = unwrap_with::<Nym>(&net.nodes[0].secret, &mut packet, &mut common::Seen::default());
        assert_eq!(Err(PacketError::UnknownVersion), outcome, "version {version}");
    }
}

#[test]
fn a_payload_that_does_not_fit_is_refused() {
    let mut net = Net::new(34);
    let path = net.path(1);
    let mut packet = vec![0; GEOMETRY.packet_len];
    let draft = Draft::<Nym> { parity: 0, path: &path, holds: &[], to: TO, payload: &[0; 2049] };
    let outcome = build_forward_with(&mut net.rng, &draft, &mut packet);
    assert_eq!(Err(BuildError::PayloadTooLong { len: 2049, max: 2048 }), outcome);
}

proptest! {
    #[test]
    fn lioness_equals_theirs(key: [[u8; 32]; 6], message in proptest::collection::vec(any::<u8>(), 0..300)) {
        let key: [u8; Lioness::KEY_LEN] = key.as_flattened().try_into().unwrap();
        let len = message.len() + 33;
        let theirs = Payload::encapsulate_message(&message, &[key], len).unwrap().into_bytes();
        let mut ours = [&[0; 16][..], &message, &[1], &[0; 16]].concat();
        let plain = ours.clone();
        let lioness = Lioness::new(&key);
        lioness.encrypt(&mut ours);
        prop_assert_eq!(&theirs, &ours);
        lioness.decrypt(&mut ours);
        prop_assert_eq!(plain, ours);
    }
}
