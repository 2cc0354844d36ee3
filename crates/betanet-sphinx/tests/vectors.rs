//! INV-SPHINX-15: packets of a second implementation, made by `vectors/native.py` from the specification alone.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, reason = "test code")]

use betanet_sphinx::{
    Action, Geometry, NodeId, PacketError, ReplayFilter, ReplayTag, ReplyOpener, SecretKey, Surb, parity_of, unwrap,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Takes exactly one packet, the one with the expected tag.
struct Expect([u8; 16]);

impl ReplayFilter for Expect {
    fn check_and_insert(&mut self, tag: &ReplayTag) -> Result<(), PacketError> {
        assert_eq!(&self.0, tag.as_bytes());
        Ok(())
    }
}

fn cases(kind: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(include_str!("vectors/native.json")).unwrap();
    let cases: Vec<_> = all.into_iter().filter(|case| case["kind"] == kind).collect();
    assert_eq!(4, cases.len());
    cases
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// Unwraps the packet of a case at all its hops, comparing what each receives, and returns what the last one says.
fn carry(case: &Value, packet: &mut [u8]) -> Action {
    let hops = case["secrets"].as_array().unwrap().len();
    for hop in 0..hops {
        assert_eq!(bytes(&case["headers"][hop]), packet[..Geometry::NATIVE.header_len]);
        if let Some(digest) = case["packet_sha256"].get(hop) {
            assert_eq!(bytes(digest), Sha256::digest(&*packet).as_slice());
        }
        let secret = SecretKey::from_bytes(array(&case["secrets"][hop]));
        let unwrapped = unwrap(&secret, packet, &mut Expect(array(&case["replay_tags"][hop]))).unwrap();
        assert_eq!(&array(&case["delay_inputs"][hop]), unwrapped.delay.as_bytes());
        if hop + 1 == hops {
            return unwrapped.action;
        }
        let next = NodeId::from(array(&case["node_ids"][hop + 1]));
        assert_eq!(Action::Forward { next }, unwrapped.action);
    }
    unreachable!("a path has at least one hop")
}

/// INV-SPHINX-15
#[test]
fn forward_packets_of_the_second_implementation_unwrap_to_the_byte() {
    for case in cases("forward") {
        let mut packet = bytes(&case["packet"]);
        assert_eq!(case["parity"], u64::from(parity_of(&packet).unwrap()));
        let Action::Deliver { mailbox, payload } = carry(&case, &mut packet) else { panic!("not delivered") };
        assert_eq!(&array(&case["mailbox"]), mailbox.as_bytes());
        assert_eq!(bytes(&case["payload"]), packet[payload]);
    }
}

/// INV-SPHINX-15
#[test]
fn surbs_of_the_second_implementation_bring_their_reply_home() {
    for case in cases("reply") {
        let header = bytes(&case["headers"][0]);
        let surb = [bytes(&case["node_ids"][0]), header, bytes(&case["reply_key"])].concat();
        let mut packet = [0; Geometry::NATIVE.packet_len];
        Surb::parse(&surb).unwrap().reply(&bytes(&case["payload"]), &mut packet).unwrap();
        assert_eq!(bytes(&case["packet"]), packet, "the reply is made to the byte as well");

        let Action::Reply { mailbox, surb_id, delta } = carry(&case, &mut packet) else { panic!("not a reply") };
        assert_eq!(&array(&case["mailbox"]), mailbox.as_bytes());
        assert_eq!(&array(&case["surb_id"]), surb_id.as_bytes());
        let mut opener = [&[1], surb_id.as_ref(), &bytes(&case["reply_key"])].concat();
        let keys = case["payload_keys"].as_array().unwrap().iter();
        for (key, delay) in keys.zip(case["delay_inputs"].as_array().unwrap()) {
            opener.extend([bytes(key), bytes(delay)].concat());
        }
        let payload = ReplyOpener::parse(&opener).unwrap().open(&mut packet[delta]);
        assert_eq!(Ok(bytes(&case["payload"])), payload);
    }
}
