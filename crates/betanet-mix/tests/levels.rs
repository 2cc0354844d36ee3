//! A client's level holds for what comes as well as for what goes: no requester learns by an edge of its own where a
//! client is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap fails the test")]

use betanet_mix::courier::{CourierConfig, SendError, SendOptions};
use betanet_mix::message::{EnvelopeKind, MessageId, Outbound, Sealer, encode_envelope};
use betanet_mix::view::NodeView;
use betanet_sphinx::{Hop, MailboxId, NodeId, Surb, SurbId, build_surb};
use betanet_testkit::{Behaviour, ClientIndex, Faults, MemoryNetwork, Plan, seeded_rng};

const SECOND_MS: u64 = 1_000;

fn network_with(level: Option<u8>) -> (MemoryNetwork, ClientIndex, ClientIndex) {
    let mut network = MemoryNetwork::new(73, Plan::default(), Faults::default());
    let mallory = network.add_client();
    let bob = network.add_client_with(CourierConfig { level, ..CourierConfig::default() });
    network.client_mut(bob).behaviour = Behaviour::Echo;
    (network, mallory, bob)
}

fn edges_of(network: &MemoryNetwork, client: ClientIndex) -> Vec<NodeId> {
    network.client(client).address().mailboxes().iter().map(|mailbox| mailbox.edge).collect()
}

/// A SURB that begins at `first` and ends there as well, as far as anybody can tell who holds it.
fn surb_from(network: &MemoryNetwork, first: NodeId, number: u8) -> Surb {
    let view = network.view();
    let epoch = view.sending_epoch(network.now_ms());
    let hop = |node: NodeView<'_>| node.hop(epoch);
    let path: Vec<Hop> = [view.node(first), view.middles().next()].into_iter().flatten().filter_map(hop).collect();
    assert_eq!(path.len(), 2);
    let mut rng = seeded_rng(number.into());
    build_surb(&mut rng, epoch.parity(), &path, MailboxId::from([9; 16]), SurbId::from([number; 16])).unwrap().0
}

/// Puts a request with these SURBs, sealed for `hops` hops, into a mailbox of the client, as somebody could who has
/// written a courier of his own.
fn plant(network: &mut MemoryNetwork, to: ClientIndex, hops: u8, surbs: &[Surb]) {
    let mut rng = seeded_rng(1);
    let outbound = Outbound::new(MessageId([7; 16]), network.now_ms() + 60_000, surbs, b"where are you?").unwrap();
    let key = *network.client(to).address().sealing_key();
    let sealer = Sealer::new(&mut rng, &key, hops).unwrap();
    for index in 0..outbound.total() {
        let fragment = outbound.fragment(&mut rng, index).unwrap();
        let closed = sealer.seal(&mut rng, &fragment).unwrap();
        network.plant(to, encode_envelope(&mut rng, EnvelopeKind::Plain, None, &closed));
    }
}

fn dropped(network: &MemoryNetwork, client: ClientIndex, reason: &str) -> u64 {
    network.client(client).courier.stats().dropped.get(reason).copied().unwrap_or_default()
}

/// INV-MSG-73: of the SURBs of a request those are used that begin at edges of the replier's.
#[test]
fn a_requester_with_an_edge_of_its_own_is_not_answered_there() {
    for level in [Some(3), None] {
        let (mut network, _, bob) = network_with(level);
        let own = edges_of(&network, bob);
        let foreign = network.view().edges().map(|node| node.id()).find(|id| !own.contains(id)).unwrap();
        let surbs = [surb_from(&network, foreign, 1), surb_from(&network, own[0], 2), surb_from(&network, foreign, 3)];
        plant(&mut network, bob, 3, &surbs);
        assert!(network.run(SECOND_MS, |network| network.client(bob).replied.len() == 1));
        assert_eq!(dropped(&network, bob, "foreign_surb"), 2);
        let injected = &network.client(bob).injected;
        assert_eq!(injected.values().sum::<u64>(), 1, "over the one SURB that begins at an own edge");
        // Where nothing else is left, there is no way to answer at all.
        let (mut network, _, bob) = network_with(level);
        let surbs = [surb_from(&network, foreign, 4)];
        plant(&mut network, bob, 3, &surbs);
        assert!(network.run(SECOND_MS, |network| network.client(bob).delivered.len() == 1));
        assert_eq!(
            (None, 0),
            (network.client(bob).delivered[0].reply, network.client(bob).delivered[0].reply_capacity)
        );
        assert!(network.client(bob).injected.is_empty());
    }
}

/// INV-MSG-74: sealing for one hop, whose answers go directly, is no way around it.
#[test]
fn a_message_of_another_level_is_refused() {
    for hops in [1, 5] {
        let (mut network, mallory, bob) = network_with(Some(3));
        let surbs = [surb_from(&network, edges_of(&network, bob)[0], 1)];
        plant(&mut network, bob, hops, &surbs);
        assert!(network.run(SECOND_MS, |network| dropped(network, bob, "wrong_level") == 1));
        assert!(network.client(bob).delivered.is_empty() && network.client(bob).injected.is_empty());
        assert_eq!(network.stored_items(bob), 0, "it does not stay in the mailbox either");
        let refused = network.send(bob, mallory, b"x", SendOptions::hops(hops));
        assert_eq!(refused, Err(SendError::WrongLevel { hops, level: 3 }));
    }
}

/// INV-MSG-74: a client without a level has no way to answer a message of one hop, whichever edges its
/// requester has: also where the two share some, by chance.
#[test]
fn whether_a_message_of_one_hop_can_be_answered_is_not_up_to_chance() {
    let (mut network, _, bob) = network_with(None);
    let own = edges_of(&network, bob);
    let surbs = [surb_from(&network, own[0], 1), surb_from(&network, own[1], 2)];
    plant(&mut network, bob, 1, &surbs);
    assert!(network.run(SECOND_MS, |network| network.client(bob).delivered.len() == 1));
    let got = &network.client(bob).delivered[0];
    assert_eq!((got.reply, got.reply_capacity, dropped(&network, bob, "foreign_surb")), (None, 0, 2));
}

/// INV-MSG-74: at PUBLIC, both ends know each other, and answers go to the requester's edge directly.
#[test]
fn a_public_client_answers_directly() {
    let (mut network, mallory, bob) = network_with(Some(1));
    network.request(mallory, bob, b"hello", SendOptions::hops(1), 1, 10 * SECOND_MS).unwrap();
    assert!(network.run(10 * SECOND_MS, |network| network.client(mallory).replies.len() == 1));
    assert_eq!(network.client(mallory).replies[0].1, b"hello");
}
