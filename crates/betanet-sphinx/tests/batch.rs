//! Batches give, byte for byte, what packets give one by one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, reason = "test code")]

#[path = "common/net.rs"]
#[allow(dead_code, reason = "each test uses its own part")]
mod common;

use betanet_sphinx::{
    Action, BuildError, Draft, Geometry, Hop, MAX_HOPS, Native, NodeKeys, PACKET_LEN, PacketError, ReplayFilter,
    ReplayTag, SecretKey, SurbDraft, UnwrapResult, build_forward, build_forward_batch, build_surb, build_surb_batch,
    unwrap, unwrap_batch, unwrap_batch_with,
};
use common::{Net, Seen, mailbox, rng, surb_id};
use proptest::prelude::*;

const GEOMETRY: Geometry = Geometry::NATIVE;

/// Ways to spoil a packet, or to leave it alone.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Forward { hops: usize },
    Reply { hops: usize },
    CopyOf(usize),
    Flip { bit: usize },
    Truncated { len: usize },
    BadAlpha,
    WeakAlpha,
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => (1..=MAX_HOPS).prop_map(|hops| Kind::Forward { hops }),
        2 => (1..=MAX_HOPS).prop_map(|hops| Kind::Reply { hops }),
        2 => any::<usize>().prop_map(Kind::CopyOf),
        2 => (0..PACKET_LEN * 8).prop_map(|bit| Kind::Flip { bit }),
        1 => (0..PACKET_LEN + 9).prop_map(|len| Kind::Truncated { len }),
        1 => Just(Kind::BadAlpha),
        1 => Just(Kind::WeakAlpha),
    ]
}

/// Packets for the first node of `net`.
fn packets(net: &mut Net, kinds: &[Kind]) -> Vec<Vec<u8>> {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for kind in kinds {
        let packet = match *kind {
            Kind::Forward { hops } => net.forward(hops, &[7; 100]).0.to_vec(),
            Kind::Reply { hops } => {
                let path = net.path(hops);
                let (surb, _) = build_surb(&mut net.rng, 0, &path, mailbox(), surb_id()).unwrap();
                let mut packet = [0; PACKET_LEN];
                surb.reply(b"answer", &mut packet).unwrap();
                packet.to_vec()
            }
            Kind::CopyOf(which) if packets.is_empty() => vec![0; which % 9],
            Kind::CopyOf(which) => packets[which % packets.len()].clone(),
            Kind::Flip { bit } => {
                let mut packet = net.forward(1, b"").0.to_vec();
                packet[bit / 8] ^= 1 << (bit % 8);
                packet
            }
            Kind::Truncated { len } => {
                let mut packet = net.forward(2, b"").0.to_vec();
                packet.resize(len, 0);
                packet
            }
            Kind::BadAlpha => {
                let mut packet = net.forward(2, b"").0.to_vec();
                packet[GEOMETRY.alpha()].fill(0xff);
                packet
            }
            Kind::WeakAlpha => {
                let mut packet = net.forward(2, b"").0.to_vec();
                packet[GEOMETRY.alpha()].fill(0);
                packet
            }
        };
        packets.push(packet);
    }
    packets
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// INV-SPHINX-16
    #[test]
    fn a_batch_unwraps_as_its_packets_do_one_by_one(
        seed: u64,
        kinds in proptest::collection::vec(kinds(), 0..80),
    ) {
        let mut net = Net::new(seed);
        let mut batch = packets(&mut net, &kinds);
        let mut single = batch.clone();
        let secret = net.nodes[0].secret.clone();
        let (mut seen_by_batch, mut seen_singly) = (Seen::default(), Seen::default());

        let expected: Vec<UnwrapResult> =
            single.iter_mut().map(|packet| unwrap(&secret, packet, &mut seen_singly)).collect();
        let mut outcomes = vec![Err(PacketError::NoKey)];
        unwrap_batch(&secret, &mut batch, &mut seen_by_batch, &mut outcomes);

        prop_assert_eq!(expected, outcomes);
        prop_assert!(single == batch, "packets end up the same");
        prop_assert_eq!(seen_singly.len(), seen_by_batch.len());
    }

    /// INV-SPHINX-16
    #[test]
    fn a_batch_builds_as_its_packets_do_one_by_one(
        seed: u64,
        shapes in proptest::collection::vec((0..=MAX_HOPS + 1, 0_usize..2100, 0_u8..3), 0..12),
    ) {
        let net = Net::new(seed);
        let hops: Vec<Hop> = net.path(MAX_HOPS).into_iter().cycle().take(MAX_HOPS + 1).collect();
        let payload = vec![9; 2100];
        let drafts: Vec<Draft> = shapes
            .iter()
            .map(|(path, len, parity)| Draft::new(*parity, &hops[..*path], mailbox(), &payload[..*len]))
            .collect();

        let mut single = vec![[0; PACKET_LEN]; drafts.len()];
        let mut single_rng = rng(seed);
        let expected: Vec<_> = drafts
            .iter()
            .zip(&mut single)
            .map(|(draft, out)| {
                build_forward(&mut single_rng, draft.parity, draft.path, draft.to, draft.payload, out)
            })
            .collect();
        let mut batch = vec![[0; PACKET_LEN]; drafts.len()];
        let outcomes = build_forward_batch(&mut rng(seed), &drafts, &mut batch);

        prop_assert_eq!(&expected, &outcomes);
        for ((single, batch), outcome) in single.iter().zip(&batch).zip(&outcomes) {
            prop_assert!(outcome.is_err() || single == batch);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// INV-SPHINX-16
    #[test]
    fn each_surb_of_a_batch_brings_its_own_answer_home(
        seed: u64,
        shapes in proptest::collection::vec((0..=MAX_HOPS + 1, 0_u8..3), 0..12),
    ) {
        let mut net = Net::new(seed);
        let hops: Vec<Hop> = net.path(MAX_HOPS).into_iter().cycle().take(MAX_HOPS + 1).collect();
        let drafts: Vec<SurbDraft> = (0_u8..)
            .zip(&shapes)
            .map(|(number, (path, parity))| SurbDraft {
                parity: *parity,
                path: &hops[..*path],
                mailbox: [number; 16].into(),
                surb_id: [number ^ 0xff; 16].into(),
            })
            .collect();
        let made = build_surb_batch(&mut rng(seed), &drafts);
        prop_assert_eq!(made.len(), drafts.len());
        for (draft, made) in drafts.iter().zip(made) {
            let alone = build_surb(&mut net.rng, draft.parity, draft.path, draft.mailbox, draft.surb_id);
            let (surb, opener) = match (made, alone) {
                (Ok(made), Ok(_)) => made,
                (made, alone) => {
                    prop_assert_eq!(made.err(), alone.err(), "what spoils one spoils no other");
                    continue;
                }
            };
            let (mut packet, delays) = ([0; PACKET_LEN], opener.delays().to_vec());
            surb.reply(&draft.surb_id.as_bytes()[..], &mut packet).unwrap();
            let Action::Reply { mailbox, surb_id, delta } = net.carry(draft.path.len(), &mut packet, &delays) else {
                panic!("no reply at its end")
            };
            prop_assert_eq!((mailbox, surb_id), (draft.mailbox, draft.surb_id));
            prop_assert_eq!(&opener.open(&mut packet[delta]).unwrap()[..], &draft.surb_id.as_bytes()[..]);
        }
    }
}

/// INV-SPHINX-05
#[test]
fn of_eight_copies_in_one_batch_the_first_passes() {
    let mut net = Net::new(1);
    let (packet, _) = net.forward(3, b"payload");
    let mut batch = vec![packet; 8];
    let mut outcomes = Vec::new();
    let node = &mut net.nodes[0];
    unwrap_batch(&node.secret, &mut batch, &mut node.seen, &mut outcomes);
    assert!(outcomes[0].is_ok());
    assert_eq!(vec![Err(PacketError::Replay); 7], outcomes[1..]);
    unwrap_batch(&node.secret, &mut [packet], &mut node.seen, &mut outcomes);
    assert_eq!(vec![Err(PacketError::Replay)], outcomes);
}

#[test]
fn an_empty_batch_has_no_outcomes() {
    let mut net = Net::new(2);
    let node = &mut net.nodes[0];
    let mut outcomes = vec![Err(PacketError::NoKey)];
    unwrap_batch(&node.secret, &mut <[Vec<u8>; 0]>::default(), &mut node.seen, &mut outcomes);
    assert!(outcomes.is_empty());
    assert!(build_forward_batch::<Native, [u8; PACKET_LEN]>(&mut net.rng, &[], &mut []).is_empty());
}

/// Two keys, or one of them, each with its own memory.
struct Two {
    keys: [Option<SecretKey>; 2],
    seen: [Seen; 2],
}

impl NodeKeys for Two {
    fn secret(&self, parity: u8) -> Result<&SecretKey, PacketError> {
        self.keys[usize::from(parity)].as_ref().ok_or(PacketError::NoKey)
    }

    fn check_and_insert(&mut self, parity: u8, tag: &ReplayTag) -> Result<(), PacketError> {
        self.seen[usize::from(parity)].check_and_insert(tag)
    }
}

#[test]
fn packets_of_both_parities_share_a_batch() {
    let mut net = Net::new(3);
    let mut batch: Vec<_> = (0..20)
        .map(|number| {
            let parity = number % 2;
            let hop = net.nodes[usize::from(parity)].hop;
            let mut packet = [0; PACKET_LEN];
            build_forward(&mut net.rng, parity, &[hop], mailbox(), &[number], &mut packet).unwrap();
            packet
        })
        .collect();
    let mut without_the_second = batch.clone();
    let keys = [Some(net.nodes[0].secret.clone()), Some(net.nodes[1].secret.clone())];
    let mut two = Two { keys, seen: Default::default() };
    let mut outcomes = Vec::new();
    unwrap_batch_with::<Native, _>(&mut two, &mut batch, &mut outcomes);
    for (number, (outcome, packet)) in outcomes.iter().zip(&batch).enumerate() {
        let Action::Deliver { payload, .. } = &outcome.as_ref().unwrap().action else { panic!("not at its end") };
        assert_eq!(number, usize::from(packet[payload.start]));
    }
    assert_eq!([10, 10], [two.seen[0].len(), two.seen[1].len()]);

    let mut one = Two { keys: [two.keys[0].take(), None], seen: Default::default() };
    unwrap_batch_with::<Native, _>(&mut one, &mut without_the_second, &mut outcomes);
    for (number, outcome) in outcomes.iter().enumerate() {
        assert_eq!((number % 2 == 1).then_some(PacketError::NoKey), outcome.as_ref().err().copied());
    }
}

#[test]
fn a_buffer_of_the_wrong_length_spoils_its_own_packet_alone() {
    let mut net = Net::new(4);
    let path = net.path(2);
    let draft = Draft::new(1, &path, mailbox(), b"hello");
    let mut out = vec![vec![0; PACKET_LEN], vec![0; PACKET_LEN - 1], vec![0; PACKET_LEN]];
    let outcomes = build_forward_batch(&mut net.rng, &[draft; 3], &mut out);
    assert_eq!(Err(BuildError::WrongBuffer { len: PACKET_LEN - 1 }), outcomes[1]);
    for good in [0, 2] {
        let action = net.carry(2, &mut out[good].clone(), outcomes[good].as_ref().unwrap());
        assert!(matches!(action, Action::Deliver { .. }));
    }
}
