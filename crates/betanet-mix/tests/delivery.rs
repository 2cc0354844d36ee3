//! Whole messages through real packets over a network that loses, duplicates and reorders.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use betanet_mix::courier::{CourierConfig, FailReason, SendOptions};
use betanet_mix::message::{MAX_MESSAGE_LEN, MessageId, REPLY_DATA_LEN};
use betanet_testkit::{Behaviour, ClientIndex, Faults, MemoryNetwork, Plan, seeded_rng};
use proptest::prelude::*;
use rand_core::Rng;

const HOUR_MS: u64 = 3_600_000;
const LEVELS: [u8; 4] = [1, 3, 5, 7];

fn rough() -> Faults {
    Faults { packet_loss: 0.2, link_loss: 0.0, duplication: 0.1, redelivery: 0.1, latency_ms: (1, 80) }
}

/// With a fifth of the packets lost, one fragment in 10⁷ fails sixteen times; random seeds deserve better odds.
fn patient() -> Plan {
    Plan { courier: CourierConfig { max_tries: 40, ..CourierConfig::default() }, ..Plan::default() }
}

fn body(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    seeded_rng(seed).fill_bytes(&mut bytes);
    bytes
}

fn pair(seed: u64, plan: Plan, faults: Faults) -> (MemoryNetwork, ClientIndex, ClientIndex) {
    let mut network = MemoryNetwork::new(seed, plan, faults);
    let (alice, bob) = (network.add_client(), network.add_client());
    (network, alice, bob)
}

fn is_sent(network: &MemoryNetwork, from: ClientIndex, id: MessageId) -> bool {
    let client = network.client(from);
    client.sent.contains(&id) || client.failed.iter().any(|(failed, _)| *failed == id)
}

/// Runs until the network is quiet and checks that nothing more comes out.
fn settle(network: &mut MemoryNetwork) {
    network.run(60_000, |_| false);
}

/// INV-MSG-04, INV-MSG-05: a message arrives once, its send ends once.
fn message_arrives_once(seed: u64, len: usize, hops: u8, faults: Faults) {
    let (mut network, alice, bob) = pair(seed, patient(), faults);
    let body = body(seed, len);
    let id = network.send(alice, bob, &body, SendOptions::hops(hops)).unwrap();
    assert!(network.run(HOUR_MS, |network| is_sent(network, alice, id)), "seed {seed}: the send did not end");
    settle(&mut network);
    let (sender, recipient) = (network.client(alice), network.client(bob));
    assert_eq!(sender.failed, [], "seed {seed}");
    assert_eq!(sender.sent, [id], "seed {seed}");
    assert_eq!(recipient.delivered.len(), 1, "seed {seed}");
    assert_eq!((recipient.delivered[0].id, recipient.delivered[0].hops), (id, hops), "seed {seed}");
    assert!(recipient.delivered[0].body == body, "seed {seed}: the body changed on the way");
    assert_eq!((network.stored_items(alice), network.stored_items(bob)), (0, 0), "seed {seed}: items were left behind");
    let stats = sender.courier.stats();
    assert_eq!((stats.in_flight, stats.outgoing_messages), (0, 0), "seed {seed}");
    assert_eq!(sender.courier.next_wakeup(), None, "seed {seed}: a timer was left behind");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn messages_of_any_size_arrive_exactly_once(
        seed: u64,
        len in prop_oneof![4 => 0_usize..60_000, 1 => 60_000_usize..=500 * 1024],
        level in 0_usize..4,
    ) {
        message_arrives_once(seed, len, LEVELS[level], rough());
    }

    #[test]
    fn requests_are_answered_exactly_once(seed: u64, len in 0_usize..20_000, level in 0_usize..4, surbs in 12_u8..24) {
        let mut network = MemoryNetwork::new(seed, patient(), rough());
        let of_level = CourierConfig { level: Some(LEVELS[level]), ..patient().courier };
        let (alice, bob) = (network.add_client_with(of_level), network.add_client_with(of_level));
        network.client_mut(bob).behaviour = Behaviour::Echo;
        let body = body(seed, len);
        let options = SendOptions::hops(LEVELS[level]);
        let id = network.request(alice, bob, &body, options, surbs, HOUR_MS / 4).unwrap();
        network.run(HOUR_MS, |network| {
            let client = network.client(alice);
            !client.replies.is_empty() || !client.failed.is_empty()
        });
        settle(&mut network);
        let (sender, recipient) = (network.client(alice), network.client(bob));
        // The request itself is repeated until it arrives; each packet of the answer has one chance, so only the
        // answer may be missing, and then the request fails in so many words.
        prop_assert_eq!(recipient.delivered.len(), 1, "seed {}", seed);
        prop_assert!(recipient.delivered[0].body == body);
        prop_assert_eq!(recipient.delivered[0].reply_capacity, usize::from(surbs) * REPLY_DATA_LEN);
        prop_assert_eq!(recipient.replied.len(), 1);
        match (&sender.replies[..], &sender.failed[..]) {
            ([(replied, answer)], []) => prop_assert!(*replied == id && *answer == body),
            ([], [(failed, FailReason::ReplyTimeout { stored: true, .. })]) => prop_assert_eq!(*failed, id),
            other => prop_assert!(false, "seed {seed}: {other:?}"),
        }
        prop_assert_eq!(sender.courier.stats().open_requests, 0);
        prop_assert_eq!(network.stored_items(bob), 0);
    }
}

#[test]
fn half_a_megabyte_arrives_at_every_level() {
    for (seed, hops) in (100..).zip(LEVELS) {
        message_arrives_once(seed, 500 * 1024, hops, rough());
    }
}

#[test]
fn a_message_survives_a_fifth_of_losses_on_every_single_link() {
    let faults = Faults { packet_loss: 0.0, link_loss: 0.2, ..rough() };
    for (seed, hops) in [(7, 1), (8, 3)] {
        let courier = CourierConfig { max_tries: 60, ..CourierConfig::default() };
        let (mut network, alice, bob) = pair(seed, Plan { courier, ..Plan::default() }, faults);
        let body = body(seed, 30_000);
        let id = network.send(alice, bob, &body, SendOptions::hops(hops)).unwrap();
        assert!(
            network.run(HOUR_MS, |network| network.client(alice).sent == [id]),
            "{:?}",
            network.client(alice).failed
        );
        assert!(network.client(bob).delivered[0].body == body);
    }
}

/// INV-MSG-11: spare reply packets repeat the answer, so one of them is enough for a short one.
#[test]
fn a_short_answer_survives_the_loss_of_most_of_its_packets() {
    let mut answered = 0;
    for seed in 0..20 {
        let (mut network, alice, bob) = pair(seed, Plan::default(), Faults { packet_loss: 0.5, ..Faults::default() });
        network.client_mut(bob).behaviour = Behaviour::Echo;
        network.request(alice, bob, b"short", SendOptions::hops(3), 16, 300_000).unwrap();
        network.run(300_000, |network| !network.client(alice).replies.is_empty());
        answered += network.client(alice).replies.len();
    }
    // All sixteen copies are lost once in 65,536 runs.
    assert_eq!(answered, 20);
}

#[test]
fn many_requests_run_side_by_side() {
    let (mut network, alice, bob) = pair(3, Plan::default(), Faults { latency_ms: (1, 60), ..Faults::default() });
    network.client_mut(bob).behaviour = Behaviour::Echo;
    let bodies: Vec<_> = (0..40).zip((0..).step_by(97)).map(|(seed, len)| body(seed, len)).collect();
    let ids: Vec<_> =
        bodies.iter().map(|body| network.request(alice, bob, body, SendOptions::hops(3), 4, 60_000).unwrap()).collect();
    assert!(network.run(60_000, |network| network.client(alice).replies.len() == 40));
    for (id, answer) in &network.client(alice).replies {
        let place = ids.iter().position(|other| other == id).unwrap();
        assert_eq!(answer, &bodies[place]);
    }
    assert_eq!(network.client(alice).failed, []);
}

/// INV-MSG-21: what is outstanding never exceeds the window, whatever the credit.
#[test]
fn a_large_message_stays_within_the_window() {
    let (mut network, alice, bob) = pair(4, Plan::default(), Faults { packet_loss: 0.05, ..Faults::default() });
    let body = body(4, 190_000);
    network.send(alice, bob, &body, SendOptions::hops(3)).unwrap();
    let mut most = 0;
    let done = network.run(HOUR_MS, |network| {
        let stats = network.client(alice).courier.stats();
        most = most.max(stats.in_flight);
        assert!(stats.window <= CourierConfig::default().max_window);
        network.client(alice).sent.len() == 1
    });
    assert!(done && (32..=CourierConfig::default().max_window).contains(&most), "{most}");
}

#[test]
fn a_module_crosses_a_quiet_network_within_seconds() {
    let (mut network, alice, bob) = pair(5, Plan::default(), Faults::default());
    network.send(alice, bob, &body(5, 300_000), SendOptions::hops(3)).unwrap();
    // Virtual time: what the protocol itself waits for, without the arithmetic.
    assert!(network.run(2_000, |network| network.client(alice).sent.len() == 1));
    assert_eq!(network.client(alice).courier.stats().fragments_resent, 0);
}

/// INV-MSG-08: what was not committed is delivered again after a restart, fragments from before and after it together.
#[test]
fn a_recipient_that_restarts_in_the_middle_loses_and_repeats_nothing() {
    for seed in 0..6 {
        let (mut network, alice, bob) = pair(seed, Plan::default(), rough());
        let body = body(seed, 120_000);
        let id = network.send(alice, bob, &body, SendOptions::hops(3)).unwrap();
        for _ in 0..4 {
            network.run(400, |network| !network.client(bob).delivered.is_empty());
            network.restart(bob);
        }
        assert!(
            network.run(HOUR_MS, |network| is_sent(network, alice, id) && !network.client(bob).delivered.is_empty())
        );
        settle(&mut network);
        // A commit is remembered by the process; a message delivered right before a restart was deleted with it.
        assert_eq!(network.client(bob).delivered.len(), 1, "seed {seed}");
        assert!(network.client(bob).delivered[0].body == body);
    }
}

#[test]
fn an_uncommitted_message_is_delivered_again_after_a_restart_and_a_committed_one_is_not() {
    let (mut network, alice, bob) = pair(6, Plan::default(), Faults::default());
    network.client_mut(bob).behaviour = Behaviour::Hold;
    let first = network.send(alice, bob, b"first", SendOptions::hops(3)).unwrap();
    let second = network.send(alice, bob, b"second", SendOptions::hops(3)).unwrap();
    assert!(network.run(60_000, |network| network.client(bob).delivered.len() == 2));
    network.commit(bob, first);
    network.restart(bob);
    settle(&mut network);
    let ids: Vec<_> = network.client(bob).delivered[2..].iter().map(|message| message.id).collect();
    assert_eq!(ids, [second]);
    network.commit(bob, second);
    assert_eq!(network.stored_items(bob), 0);
    // Repeatable, and unknown ids are told apart.
    assert_eq!(network.client_mut(bob).courier.commit(second), Some(Vec::new()));
    assert_eq!(network.client_mut(bob).courier.commit(MessageId([9; 16])), None);
}

/// INV-MSG-08: a sender that restarts and sends the same id again, cut differently, does not spoil the message.
#[test]
fn a_resend_under_the_same_id_arrives_once() {
    let (mut network, alice, bob) = pair(9, Plan::default(), Faults { packet_loss: 0.3, ..Faults::default() });
    let id = MessageId([7; 16]);
    let body = body(9, 40_000);
    let options = SendOptions { id: Some(id), ..SendOptions::hops(3) };
    network.send(alice, bob, &body, options).unwrap();
    network.run(120, |_| false);
    network.restart(alice);
    // The second sending carries SURBs, so the same bytes of the body lie in other fragments.
    network.request(alice, bob, &body, options, 3, HOUR_MS).unwrap();
    assert!(network.run(HOUR_MS, |network| is_sent(network, alice, id)));
    settle(&mut network);
    assert_eq!(network.client(bob).delivered.len(), 1);
    assert!(network.client(bob).delivered[0].body == body);
    assert_eq!(network.stored_items(bob), 0);
}

/// INV-MSG-06: `Sent` means stored: the recipient was never there, and gets everything when it comes.
#[test]
fn a_sent_message_lies_at_the_recipients_edges() {
    let (mut network, alice, bob) = pair(20, Plan::default(), rough());
    network.detach(bob);
    let body = body(20, 50_000);
    let id = network.send(alice, bob, &body, SendOptions::hops(3)).unwrap();
    assert!(network.run(HOUR_MS, |network| network.client(alice).sent == [id]));
    assert!(network.stored_items(bob) >= 34, "50,001 bytes of stream make 34 fragments");
    assert_eq!(network.client(bob).delivered.len(), 0);
    network.faults.packet_loss = 1.0;
    network.attach(bob);
    assert!(network.run(10_000, |network| network.client(bob).delivered.len() == 1));
    assert!(network.client(bob).delivered[0].body == body);
}

/// INV-MSG-10: acks that come late, twice, for nothing, or damaged are counted and change nothing.
#[test]
fn late_and_repeated_acks_are_counted_and_ignored() {
    let faults = Faults { latency_ms: (1, 2_000), redelivery: 0.5, ..Faults::default() };
    let (mut network, alice, bob) = pair(10, Plan::default(), faults);
    let id = network.send(alice, bob, &body(10, 90_000), SendOptions::hops(3)).unwrap();
    assert!(network.run(HOUR_MS, |network| is_sent(network, alice, id)));
    settle(&mut network);
    let stats = network.client(alice).courier.stats();
    assert!(stats.dropped["unknown_surb"] > 0 && stats.fragments_resent > 0);
    assert_eq!(stats.fragments_acked, u64::from(90_001_u32.div_ceil(1500)));
    assert_eq!((network.client(alice).sent.len(), network.client(bob).delivered.len()), (1, 1));
}

/// INV-MSG-05: a recipient that cannot be reached makes the send fail, with the reason, once.
#[test]
fn an_unreachable_recipient_fails_the_send() {
    let (mut network, alice, bob) = pair(11, Plan::default(), Faults { packet_loss: 1.0, ..Faults::default() });
    let id = network.send(alice, bob, b"void", SendOptions::hops(3)).unwrap();
    assert!(network.run(HOUR_MS, |network| !network.client(alice).failed.is_empty()));
    settle(&mut network);
    assert_eq!(network.client(alice).failed, [(id, FailReason::NoAck { tries: 16 })]);
    assert_eq!(network.client(alice).courier.stats().failed["no_ack"], 1);
    assert_eq!(network.client(alice).courier.stats().in_flight, 0);
}

#[test]
fn a_message_waits_for_its_edges_and_goes_out_when_they_are_back() {
    let (mut network, alice, bob) = pair(12, Plan::default(), Faults::default());
    let id = network.send(alice, bob, &body(12, 700_000), SendOptions::hops(3)).unwrap();
    network.run(100, |_| false);
    network.detach(alice);
    network.run(20_000, |_| false);
    assert_eq!(network.client(alice).failed, []);
    network.attach(alice);
    assert!(network.run(HOUR_MS, |network| network.client(alice).sent == [id]));
    assert_eq!(network.client(bob).delivered.len(), 1);
}

#[test]
fn a_message_without_edges_for_too_long_fails_with_what_is_missing() {
    let (mut network, alice, bob) = pair(13, Plan::default(), Faults::default());
    let id = network.send(alice, bob, &body(13, 700_000), SendOptions::hops(3)).unwrap();
    network.run(50, |_| false);
    network.detach(alice);
    assert!(network.run(HOUR_MS, |network| !network.client(alice).failed.is_empty()));
    let [(failed, FailReason::NoPath { waited_ms, error })] = &network.client(alice).failed[..] else {
        panic!("{:?}", network.client(alice).failed)
    };
    assert_eq!(*failed, id);
    assert!(*waited_ms >= 30_000 && error.to_string().contains("0 of 1"), "{error}");
}

/// INV-MSG-19, INV-MSG-18: traffic goes on across key changes.
#[test]
fn messages_cross_epoch_boundaries() {
    let plan = Plan { epoch_ms: 20_000, skew_ms: 2_000, ..Plan::default() };
    let (mut network, alice, bob) = pair(14, plan, rough());
    for round in 0..12_u64 {
        let body = body(round, 5_000);
        let id = network.send(alice, bob, &body, SendOptions::hops(3)).unwrap();
        assert!(network.run(HOUR_MS, |network| network.client(alice).sent.contains(&id)));
        network.run(4_000, |_| false);
    }
    assert_eq!(network.client(bob).delivered.len(), 12);
    assert_eq!(network.client(alice).failed, []);
    assert!(network.now_ms() > betanet_testkit::START_MS + 40_000);
}

#[test]
fn loops_come_back_or_are_reported_lost() {
    let (mut network, alice, _) = pair(15, Plan::default(), Faults::default());
    let pings: Vec<_> = LEVELS.iter().map(|hops| network.ping(alice, *hops).unwrap()).collect();
    assert!(network.run(60_000, |network| network.client(alice).pongs.len() == 4));
    let mut back: Vec<_> = network.client(alice).pongs.iter().map(|(ping, _)| *ping).collect();
    back.sort_unstable();
    assert_eq!(back, pings);
    network.faults.packet_loss = 1.0;
    let lost = network.ping(alice, 3).unwrap();
    assert!(network.run(60_000, |network| network.client(alice).lost_pings == [lost]));
}

/// INV-MSG-07: more than fits is deferred, not lost, and memory stays within its bound.
#[test]
fn a_recipient_with_little_memory_gets_everything_in_the_end() {
    let (mut network, alice, _) = pair(17, Plan::default(), rough());
    let mut small = CourierConfig::default();
    small.reassembly.total_bytes = 120_000;
    small.reassembly.idle_ms = 2_000;
    let bob = network.add_client_with(small);
    let bodies: Vec<_> = (0..8).map(|n| body(n, 60_000)).collect();
    for body in &bodies {
        network.send(alice, bob, body, SendOptions::hops(3)).unwrap();
    }
    let mut most = 0;
    let done = network.run(HOUR_MS, |network| {
        most = most.max(network.client(bob).courier.stats().reassembly_bytes);
        network.client(bob).delivered.len() == 8
    });
    let stats = network.client(bob).courier.stats();
    assert!(done, "{stats:?}");
    assert!(most <= 120_000 && stats.dropped["reassembly_full"] > 0, "{most} {stats:?}");
    settle(&mut network);
    let mut got: Vec<_> = network.client(bob).delivered.iter().map(|message| message.body.clone()).collect();
    let mut expected = bodies;
    got.sort();
    expected.sort();
    assert!(got == expected);
    assert_eq!(network.client(alice).failed, []);
}

/// INV-MSG-23: garbage in a mailbox is counted by reason and deleted; it stops nothing.
#[test]
fn garbage_is_counted_and_deleted() {
    let (mut network, alice, bob) = pair(18, Plan::default(), Faults::default());
    network.plant(bob, vec![0; 2048]);
    network.plant(bob, vec![9; 2048]);
    network.plant(bob, vec![1; 17]);
    network.plant(bob, Vec::new());
    let id = network.send(alice, bob, b"still fine", SendOptions::hops(3)).unwrap();
    assert!(
        network.run(60_000, |network| network.client(alice).sent == [id] && network.client(bob).delivered.len() == 1)
    );
    let stats = network.client(bob).courier.stats();
    assert_eq!((stats.dropped["bad_envelope"], stats.dropped["not_for_us"]), (3, 1));
    assert_eq!(network.stored_items(bob), 0);
}

#[test]
fn a_message_over_the_limit_is_refused_at_once() {
    let (mut network, alice, bob) = pair(19, Plan::default(), Faults::default());
    let refused = network.send(alice, bob, &vec![0; MAX_MESSAGE_LEN + 1], SendOptions::hops(1)).unwrap_err();
    assert!(refused.to_string().contains("67108864"), "{refused}");
}
