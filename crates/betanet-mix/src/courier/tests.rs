//! Cases that need no network; whole deliveries stand in `tests/delivery.rs`.
use betanet_sphinx::SurbId;
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::fixtures::{EPOCH_MS, NOW_MS, consensus, id, mailbox, nodes, rng, view, view_of};
use crate::message::{EnvelopeKind, Outbound, SEALED_LEN, Sealer, encode_envelope};
use crate::path::PathError;
use crate::pool::Buffer;
use crate::view::{Address, Consensus};

fn courier_with(config: CourierConfig) -> Courier<ChaCha20Rng> {
    let mut rng = rng(1);
    let key = SealingKey::generate(&mut rng);
    let mut courier = Courier::new(config, key, rng);
    courier.set_view(Arc::new(view(8)));
    courier.set_mailboxes(vec![mailbox(0), mailbox(2)]);
    courier
}

fn courier() -> Courier<ChaCha20Rng> {
    courier_with(CourierConfig::default())
}

fn to() -> Address {
    Address::new(vec![mailbox(1), mailbox(3)], SealingKey::generate(&mut rng(2)).public()).unwrap()
}

fn effects(courier: &mut Courier<ChaCha20Rng>) -> Vec<Effect> {
    std::iter::from_fn(|| courier.next_effect()).collect()
}

fn injected(courier: &mut Courier<ChaCha20Rng>) -> Vec<(NodeId, Buffer)> {
    let inject = |effect| if let Effect::Inject { edge, packet } = effect { Some((edge, packet)) } else { None };
    effects(courier).into_iter().filter_map(inject).collect()
}

/// INV-MSG-21: never more packets than credit, nor more outstanding fragments than the window.
#[test]
fn packets_need_credit_and_a_place_in_the_window() {
    let config = CourierConfig { bulk_above: u16::MAX, max_window: 256, ..CourierConfig::default() };
    let mut courier = courier_with(config);
    courier.send(NOW_MS, &to(), vec![0; 400_000], SendOptions::hops(3)).unwrap();
    assert!(courier.next_effect().is_none() && courier.wants_credit());
    courier.grant(NOW_MS, 0);
    assert!(courier.next_effect().is_none());
    courier.grant(NOW_MS, 10);
    assert_eq!(injected(&mut courier).len(), 10);
    courier.grant(NOW_MS, 100_000);
    assert_eq!(injected(&mut courier).len(), 118, "half of the largest window, less the ten before");
    assert!(!courier.wants_credit());
    courier.grant(NOW_MS, 100_000);
    assert!(injected(&mut courier).is_empty());
    assert_eq!(courier.stats().in_flight, 128);
}

/// INV-MSG-03: no two packets of a message share bytes that would tie them together, and edges take turns.
#[test]
fn every_packet_of_a_message_is_fresh() {
    let mut courier = courier();
    courier.send(NOW_MS, &to(), vec![0; 90_000], SendOptions::hops(3)).unwrap();
    courier.grant(NOW_MS, 1000);
    let packets = injected(&mut courier);
    let alphas: std::collections::HashSet<_> = packets.iter().map(|(_, packet)| packet[2..34].to_vec()).collect();
    assert_eq!((packets.len(), alphas.len()), (61, 61));
    let edges: std::collections::HashSet<_> = packets.iter().map(|(edge, _)| *edge).collect();
    assert_eq!(edges, [id(0), id(2)].into());
}

/// INV-MSG-12: what was drawn for a message while it was taken serves its first fragment, unless edges changed meanwhile.
#[test]
fn a_path_that_was_drawn_from_other_mailboxes_is_not_used() {
    let mut courier = courier();
    let id = courier.send(NOW_MS, &to(), b"x", SendOptions::hops(3)).unwrap();
    let drawn = courier.outgoing[&id].drawn.as_ref().unwrap().there.first;
    let other = if drawn == mailbox(0).edge { mailbox(2) } else { mailbox(0) };
    courier.set_mailboxes(vec![other]);
    courier.grant(NOW_MS, 10);
    let edges: Vec<_> = injected(&mut courier).into_iter().map(|(edge, _)| edge).collect();
    assert_eq!(edges, [other.edge]);
}

#[test]
fn messages_take_turns() {
    let mut courier = courier();
    let large = courier.send(NOW_MS, &to(), vec![0; 400_000], SendOptions::hops(1)).unwrap();
    let small = courier.send(NOW_MS, &to(), b"small", SendOptions::hops(1)).unwrap();
    courier.grant(NOW_MS, 2);
    assert_eq!(courier.outgoing[&large].next, 1);
    assert_eq!(courier.outgoing[&small].next, 1);
}

#[test]
fn a_late_ack_leads_to_another_sending_over_another_path() {
    let mut courier = courier();
    courier.send(NOW_MS, &to(), b"x", SendOptions::hops(3)).unwrap();
    courier.grant(NOW_MS, 10);
    let first = injected(&mut courier);
    let due = courier.next_wakeup().unwrap();
    // Six mixing delays of 15 ms stay below 294 ms in all but one of 10,000 cases; 300 ms of slack come on top.
    assert_eq!(due - NOW_MS, 593);
    courier.tick(due - 1);
    assert!(!courier.wants_credit());
    courier.tick(due);
    courier.grant(due, 10);
    let second = injected(&mut courier);
    assert_eq!((first.len(), second.len(), courier.stats().fragments_resent), (1, 1, 1));
    assert_ne!(first[0].1[2..34], second[0].1[2..34]);
    assert_eq!(courier.next_wakeup().unwrap() - due, 2 * 593);
}

/// INV-MSG-22: nothing is sent by an expired consensus; what is under way waits, then fails and says so.
#[test]
fn nothing_is_sent_by_an_expired_consensus() {
    let mut courier = courier();
    let id = courier.send(NOW_MS, &to(), vec![0; 3000], SendOptions::hops(3)).unwrap();
    let late = NOW_MS + 3 * EPOCH_MS;
    assert_eq!(courier.send(late, &to(), b"x", SendOptions::hops(3)), Err(SendError::NoConsensus));
    assert_eq!(courier.ping(late, 3), Err(SendError::NoConsensus));
    courier.grant(late, 10);
    courier.tick(late);
    assert!(effects(&mut courier).is_empty());
    courier.tick(late + 29_999);
    assert!(effects(&mut courier).is_empty());
    courier.tick(late + 30_000);
    let ended = effects(&mut courier);
    let [Effect::Failed { id: failed, reason: FailReason::NoConsensus { waited_ms: 30_000 } }] = &ended[..] else {
        panic!("{ended:?}")
    };
    assert_eq!(*failed, id);
}

/// INV-MSG-24: a request that could not be sent up to its timeout says what was missing, and not that nobody answered.
#[test]
fn a_request_that_waits_for_a_path_at_its_timeout_says_so() {
    let mut courier = courier();
    let ask = |courier: &mut Courier<_>, at_ms| courier.request(at_ms, &to(), b"?", SendOptions::hops(3), 1, 9_000);
    let reason = |courier: &mut Courier<_>| match &effects(courier)[..] {
        [.., Effect::Failed { reason, .. }] => reason.clone(),
        other => panic!("{other:?}"),
    };
    ask(&mut courier, NOW_MS).unwrap();
    courier.set_mailboxes(Vec::new());
    courier.tick(NOW_MS + 1_000);
    courier.tick(NOW_MS + 9_000);
    let FailReason::NoPath { waited_ms: 8_000, error } = reason(&mut courier) else { panic!() };
    assert!(error.lacks_own_edge());
    // What has left and finds no answer is another matter.
    courier.set_mailboxes(vec![mailbox(0), mailbox(2)]);
    ask(&mut courier, NOW_MS + 9_000).unwrap();
    courier.grant(NOW_MS + 9_000, 10);
    courier.tick(NOW_MS + 18_000);
    assert!(matches!(reason(&mut courier), FailReason::ReplyTimeout { stored: false, .. }));
}

/// INV-MSG-21: credit that a blocked message could not use is not asked for; the message goes on when it can.
#[test]
fn a_blocked_message_wants_no_credit_until_something_changes() {
    let mut courier = courier();
    courier.send(NOW_MS, &to(), vec![0; 6000], SendOptions::hops(3)).unwrap();
    let attached = vec![mailbox(0), mailbox(2)];
    courier.set_mailboxes(vec![mailbox(1)]);
    courier.set_view(Arc::new(view(0)));
    courier.grant(NOW_MS, 1);
    assert!(effects(&mut courier).is_empty() && !courier.wants_credit());
    courier.set_mailboxes(attached);
    assert!(courier.wants_credit(), "other mailboxes may do");
    courier.grant(NOW_MS, 1);
    assert!(effects(&mut courier).is_empty() && !courier.wants_credit());
    // Time alone may bring keys, so a blocked message is tried again, but not at every tick.
    courier.tick(NOW_MS);
    assert!(courier.wants_credit());
    courier.grant(NOW_MS, 1);
    courier.tick(NOW_MS + 1);
    assert!(!courier.wants_credit());
    courier.set_view(Arc::new(view(8)));
    assert!(courier.wants_credit(), "another consensus may do");
    courier.grant(NOW_MS + 1, 100);
    assert_eq!(injected(&mut courier).len(), 5);
    // Without edges there is nothing to want.
    courier.send(NOW_MS + 1, &to(), b"x", SendOptions::hops(3)).unwrap();
    courier.set_mailboxes(Vec::new());
    courier.tick(NOW_MS + 2);
    assert!(!courier.wants_credit());
}

/// INV-MSG-22: the consensus in force is found by the wall clock, wherever it was before; timers go on as if nothing was.
#[test]
fn a_wall_clock_that_is_set_right_changes_the_consensus_in_force_and_no_timer() {
    let mut courier = courier();
    // The process started with a clock two hours ahead.
    let ahead = NOW_MS + 7_200_000;
    courier.set_wall_clock(0, ahead);
    assert_eq!(courier.send(0, &to(), b"x", SendOptions::hops(3)), Err(SendError::NoConsensus));
    courier.set_wall_clock(1_000, NOW_MS);
    courier.send(1_000, &to(), b"x", SendOptions::hops(3)).unwrap();
    courier.grant(1_000, 1);
    assert_eq!((injected(&mut courier).len(), courier.next_wakeup()), (1, Some(1_593)));
    // What arrives now is as fresh as its sender says, though long expired by the old clock.
    plant_request(&mut courier, 1, 1);
    assert_eq!(delivered(&mut courier).len(), 1);
    // Set forward, the clock ends nothing early, neither the wait for an ack nor the message.
    courier.set_wall_clock(1_500, NOW_MS + EPOCH_MS);
    courier.tick(1_500);
    assert!(effects(&mut courier).is_empty() && !courier.wants_credit());
    courier.tick(1_593);
    assert!(courier.wants_credit());
}

/// INV-MSG-13: a send that can never work says at once what is missing.
#[test]
fn impossible_sends_are_refused_at_once() {
    let mut courier = courier();
    let path = |result: Result<MessageId, SendError>| match result.unwrap_err() {
        SendError::Path(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(path(courier.send(NOW_MS, &to(), b"", SendOptions::hops(8))), PathError::BadHops { hops: 8 });
    courier.set_view(Arc::new(view(2)));
    let few = path(courier.send(NOW_MS, &to(), b"", SendOptions::hops(5)));
    assert!(matches!(few, PathError::NotEnoughNodes { needed: 3, available: 2, .. }), "{few}");
    courier.set_mailboxes(Vec::new());
    let none = path(courier.send(NOW_MS, &to(), b"", SendOptions::hops(3)));
    assert!(matches!(none, PathError::NotEnoughNodes { needed: 1, available: 0, .. }), "{none}");
    let weak = Address::new(vec![mailbox(1)], [0; 32]).unwrap();
    courier.set_mailboxes(vec![mailbox(0)]);
    assert!(matches!(courier.send(NOW_MS, &weak, b"", SendOptions::hops(1)), Err(SendError::Seal(_))));
    let refused = courier.request(NOW_MS, &to(), b"", SendOptions::hops(1), 0, 1000);
    assert_eq!(refused, Err(SendError::NoReplyPackets));
    assert!(effects(&mut courier).is_empty());
    assert_eq!((courier.stats().outgoing_messages, courier.stats().open_requests), (0, 0));
}

#[test]
fn what_is_under_way_is_bounded() {
    let config = CourierConfig { max_outgoing_messages: 3, max_outgoing_bytes: 1000, ..CourierConfig::default() };
    let mut courier = courier_with(config);
    let mut send = |len| courier.send(NOW_MS, &to(), vec![0; len], SendOptions::hops(1));
    // One message always fits, even one above the limit of bytes.
    let first = send(5000).unwrap();
    assert_eq!(send(1), Err(SendError::Busy { messages: 1, bytes: 5000 }));
    assert!(courier.cancel(first) && !courier.cancel(first));
    let ended = effects(&mut courier);
    assert!(matches!(&ended[..], [Effect::Failed { reason: FailReason::Cancelled, .. }]), "{ended:?}");
    let mut send = |len| courier.send(NOW_MS, &to(), vec![0; len], SendOptions::hops(1));
    assert!((0..3).all(|_| send(10).is_ok()));
    assert_eq!(send(10), Err(SendError::Busy { messages: 3, bytes: 30 }));
}

#[test]
fn an_id_is_under_way_once() {
    let mut courier = courier();
    let options = SendOptions { id: Some(MessageId([5; 16])), ..SendOptions::hops(1) };
    let id = courier.send(NOW_MS, &to(), b"one", options).unwrap();
    assert_eq!(courier.send(NOW_MS, &to(), b"two", options), Err(SendError::Duplicate { id }));
}

#[test]
fn a_message_fails_when_its_lifetime_ends() {
    let mut courier = courier();
    let options = SendOptions { lifetime_ms: Some(2_000), ..SendOptions::hops(1) };
    courier.send(NOW_MS, &to(), b"one", options).unwrap();
    courier.grant(NOW_MS, 1);
    courier.tick(NOW_MS + 2_000);
    let ended = effects(&mut courier);
    assert!(
        ended.iter().any(|effect| matches!(effect, Effect::Failed { reason: FailReason::Expired, .. })),
        "{ended:?}"
    );
    courier.tick(NOW_MS + 100_000);
    assert!(effects(&mut courier).is_empty(), "one end is enough");
    let options = SendOptions { lifetime_ms: Some(u64::MAX), ..SendOptions::hops(1) };
    courier.send(NOW_MS, &to(), b"two", options).unwrap();
    assert_eq!(courier.next_wakeup(), Some(NOW_MS + 7 * 24 * 3_600_000), "recipients take no longer one");
    courier.cancel(courier.turn[0]);
    assert_eq!(courier.stats().in_flight, 0);
}

/// INV-MSG-05: what has ended leaves no timer behind that could end a later message of the same id.
#[test]
fn timers_end_with_what_they_belong_to() {
    let mut courier = courier();
    let options = SendOptions { id: Some(MessageId([5; 16])), ..SendOptions::hops(3) };
    let id = courier.request(NOW_MS, &to(), b"one", options, 1, 9_000).unwrap();
    courier.grant(NOW_MS, 1);
    assert!(courier.cancel(id));
    assert_eq!(courier.next_wakeup(), None);
    let later = NOW_MS + 500;
    courier.request(later, &to(), b"two", options, 1, 60_000).unwrap();
    courier.grant(later, 1);
    effects(&mut courier);
    courier.tick(NOW_MS + 600);
    assert!(!courier.wants_credit(), "the first request's packet was not acknowledged, the second's has time");
    courier.tick(NOW_MS + 9_000);
    assert!(effects(&mut courier).is_empty(), "the first request has timed out, the second has time");
    // Neither does a blocked message leave its patience behind.
    courier.cancel(id);
    courier.send(later, &to(), b"three", options).unwrap();
    courier.set_mailboxes(Vec::new());
    courier.tick(later);
    courier.cancel(id);
    assert_eq!(courier.next_wakeup(), None);
}

/// INV-MSG-04: recipients forget ids after as long as senders may repeat, so no sender repeats for longer.
#[test]
fn nothing_is_sent_again_once_recipients_may_have_forgotten_it() {
    let mut courier = courier();
    let first = courier.send(NOW_MS, &to(), b"x", SendOptions::hops(3)).unwrap();
    let second = courier.send(NOW_MS, &to(), vec![0; 3_000], SendOptions::hops(3)).unwrap();
    let third = courier.send(NOW_MS, &to(), b"y", SendOptions::hops(3)).unwrap();
    courier.grant(NOW_MS, 2);
    // One fragment of the second message arrives, then the driver has no room for long.
    courier.outgoing.get_mut(&second).unwrap().flights.clear();
    effects(&mut courier);
    let late = NOW_MS + 16 * 16_000;
    courier.grant(late, 10);
    let mut ends = Vec::new();
    for effect in effects(&mut courier) {
        match effect {
            Effect::Failed { id, reason } => ends.push((id, reason)),
            Effect::Inject { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(ends.contains(&(first, FailReason::NoAck { tries: 1 })), "{ends:?}");
    assert!(ends.contains(&(second, FailReason::Interrupted { idle_ms: 256_000 })), "{ends:?}");
    assert_eq!((ends.len(), courier.outgoing[&third].next), (2, 1), "nothing of the third was sent before");
}

/// INV-MSG-07: an unfinished message goes when its sender must be gone, but not while an edge is away.
#[test]
fn unfinished_messages_wait_for_edges_that_are_away() {
    let mut courier = courier_with(CourierConfig { mailboxes: 2, ..CourierConfig::default() });
    courier.set_mailboxes(vec![mailbox(0)]);
    let outbound = Outbound::new(MessageId([1; 16]), NOW_MS + 7_200_000, &[], &[0; 3_000]).unwrap();
    let sealer = Sealer::new(&mut rng(3), &courier.sealing_key(), 3).unwrap();
    let closed = sealer.seal(&mut rng(3), &outbound.fragment(&mut rng(3), 0).unwrap()).unwrap();
    let payload = encode_envelope(&mut rng(3), EnvelopeKind::Plain, None, &closed);
    courier.on_forward(NOW_MS, ItemRef { edge: id(0), seq: 4 }, &payload);
    let hour = NOW_MS + 3_600_000;
    courier.tick(NOW_MS);
    courier.tick(hour);
    assert!(effects(&mut courier).is_empty());
    courier.set_mailboxes(vec![mailbox(0), mailbox(2)]);
    courier.tick(hour + 10_000);
    courier.tick(hour + 581_999);
    assert!(effects(&mut courier).is_empty());
    courier.tick(hour + 592_000);
    assert!(matches!(&effects(&mut courier)[..], [Effect::Delete { seqs, .. }] if *seqs == [4]));
    assert_eq!(courier.stats().dropped["given_up"], 1);
}

/// INV-MSG-10: replies to nothing, and damaged ones, are counted, deleted and change nothing.
#[test]
fn damaged_and_unknown_replies_are_counted() {
    let mut courier = courier();
    let item = ItemRef { edge: id(0), seq: 7 };
    courier.on_reply(NOW_MS, item, SurbId::from([9; 16]), &mut [0; 2082]);
    assert!(matches!(&effects(&mut courier)[..], [Effect::Delete { seqs, .. }] if *seqs == [7]));
    courier.send(NOW_MS, &to(), b"x", SendOptions::hops(1)).unwrap();
    courier.grant(NOW_MS, 1);
    let surb_id = *courier.awaiting.keys().next().unwrap();
    courier.on_reply(NOW_MS, item, surb_id, &mut [0; 2082]);
    courier.on_reply(NOW_MS, item, surb_id, &mut []);
    let stats = courier.stats();
    assert_eq!((stats.dropped["unknown_surb"], stats.dropped["bad_ack"]), (2, 1));
    assert_eq!((stats.fragments_acked, stats.in_flight), (0, 1));
    let request = courier.request(NOW_MS, &to(), b"x", SendOptions::hops(1), 1, 1000).unwrap();
    let surb_id = courier.requests[&request].surbs[0];
    courier.on_reply(NOW_MS, item, surb_id, &mut [0; 2082]);
    assert_eq!(courier.stats().dropped["bad_reply"], 1);
    courier.ping(NOW_MS, 1).unwrap();
    let pong = courier.awaiting.iter().find(|(_, awaiting)| matches!(awaiting, Awaiting::Pong { .. }));
    let surb_id = *pong.unwrap().0;
    courier.on_reply(NOW_MS, item, surb_id, &mut [0; 2082]);
    assert!(effects(&mut courier).iter().any(|effect| matches!(effect, Effect::PingLost { .. })));
}

/// INV-MSG-05: a request without an answer fails at its timeout, once.
#[test]
fn a_request_without_an_answer_times_out() {
    let mut courier = courier();
    let id = courier.request(NOW_MS, &to(), b"x", SendOptions::hops(3), 4, 9_000).unwrap();
    courier.grant(NOW_MS, 5);
    courier.tick(NOW_MS + 8_999);
    assert!(!effects(&mut courier).iter().any(|effect| matches!(effect, Effect::Failed { .. })));
    courier.tick(NOW_MS + 9_000);
    let ended = effects(&mut courier);
    let failed = |effect: &&Effect| matches!(effect, Effect::Failed { id: failed, .. } if *failed == id);
    assert_eq!(ended.iter().filter(failed).count(), 1, "{ended:?}");
    courier.tick(NOW_MS + 50_000);
    assert!(effects(&mut courier).is_empty());
    assert!(courier.awaiting.is_empty(), "no SURB is waited for any more");
}

/// A request as it reaches a recipient, written by another courier's parts.
fn plant_request(courier: &mut Courier<ChaCha20Rng>, number: u8, surbs: u8) {
    let mut rng = rng(u64::from(number) + 50);
    let view = view(8);
    let own = Address::new(vec![mailbox(0), mailbox(2)], courier.sealing_key()).unwrap();
    let surbs: Vec<_> = (0..surbs)
        .map(|_| {
            let (epoch, theirs) = (crate::fixtures::EPOCH, [mailbox(1), mailbox(3)]);
            let path = crate::path::select_return(&mut rng, &view, epoch, &own, &theirs, 3).unwrap();
            betanet_sphinx::build_surb(&mut rng, 0, &path.hops, path.mailbox, SurbId::from([1; 16])).unwrap().0
        })
        .collect();
    let outbound = Outbound::new(MessageId([number; 16]), NOW_MS + 60_000, &surbs, b"question").unwrap();
    let sealer = Sealer::new(&mut rng, &courier.sealing_key(), 3).unwrap();
    for index in 0..outbound.total() {
        let fragment = outbound.fragment(&mut rng, index).unwrap();
        let closed = sealer.seal(&mut rng, &fragment).unwrap();
        let payload = encode_envelope(&mut rng, EnvelopeKind::Plain, None, &closed);
        let item = ItemRef { edge: id(0), seq: u64::from(number) * 100 + u64::from(index) };
        courier.on_forward(NOW_MS.wrapping_add_signed(-courier.wall_ahead_ms), item, &payload);
    }
}

fn delivered(courier: &mut Courier<ChaCha20Rng>) -> Vec<Delivery> {
    let deliver = |effect| if let Effect::Deliver { message } = effect { Some(message) } else { None };
    effects(courier).into_iter().filter_map(deliver).collect()
}

/// INV-MSG-11: an answer uses all SURBs, must fit them, and can be given once.
#[test]
fn a_request_is_answered_once_within_its_capacity() {
    let mut courier = courier();
    plant_request(&mut courier, 1, 3);
    let [message] = &delivered(&mut courier)[..] else { panic!() };
    assert_eq!((&message.body[..], message.hops, message.reply_capacity), (&b"question"[..], 3, 3 * 2042));
    let handle = message.reply.unwrap();
    let too_long = courier.reply(NOW_MS, handle, &vec![0; 3 * 2042 + 1]);
    assert_eq!(too_long, Err(ReplyError::TooLong { len: 6127, capacity: 6126 }));
    courier.reply(NOW_MS, handle, b"answer").unwrap();
    assert_eq!(courier.reply(NOW_MS, handle, b"again"), Err(ReplyError::UnknownHandle));
    noted(&mut courier);
    courier.grant(NOW_MS, 2);
    assert!(!effects(&mut courier).iter().any(|effect| matches!(effect, Effect::ReplySent { .. })));
    courier.grant(NOW_MS, 2);
    let rest = effects(&mut courier);
    assert!(matches!(rest[..], [Effect::Inject { .. }, Effect::ReplySent { .. }]), "{rest:?}");
}

/// Takes the one effect that there is, which asks to write down an answer, and says that it is written.
fn noted(courier: &mut Courier<ChaCha20Rng>) -> (MessageId, u64) {
    let asked = effects(courier);
    let [Effect::NoteAnswer { handle, id, until_ms }] = asked[..] else { panic!("{asked:?}") };
    courier.answer_noted(NOW_MS, handle);
    (id, until_ms)
}

/// INV-MSG-25: no packet of an answer leaves before it is written down that its SURBs are used.
#[test]
fn an_answer_waits_until_it_is_written_down() {
    let mut courier = courier();
    plant_request(&mut courier, 1, 3);
    let handle = delivered(&mut courier)[0].reply.unwrap();
    courier.reply(NOW_MS, handle, b"answer").unwrap();
    courier.grant(NOW_MS, 100);
    let asked = effects(&mut courier);
    assert!(matches!(asked[..], [Effect::NoteAnswer { .. }]) && !courier.wants_credit(), "{asked:?}");
    // The disk is full: nothing has left, and the request can be answered later.
    courier.answer_not_noted(handle);
    courier.answer_noted(NOW_MS, handle);
    assert!(!courier.wants_credit());
    courier.reply(NOW_MS, handle, b"answer").unwrap();
    noted(&mut courier);
    courier.grant(NOW_MS, 100);
    assert_eq!(injected(&mut courier).len(), 3);
}

/// INV-MSG-25: a message that was answered and not committed comes again after a restart, without its used SURBs.
#[test]
fn a_message_that_was_answered_before_a_restart_cannot_be_answered_again() {
    let mut first = courier();
    (1..=2).for_each(|number| plant_request(&mut first, number, 3));
    let [answered, open] = &delivered(&mut first)[..] else { panic!() };
    first.reply(NOW_MS, answered.reply.unwrap(), b"answer").unwrap();
    let (id, until_ms) = noted(&mut first);
    assert_eq!((id, first.answered().collect::<Vec<_>>()), (answered.id, vec![(id, until_ms)]));

    let mut second = Courier::new(CourierConfig::default(), SealingKey::generate(&mut rng(1)), rng(77));
    second.set_view(Arc::new(view(8)));
    second.set_own_edges(vec![mailbox(0).edge, mailbox(2).edge]);
    second.remember_answered(NOW_MS, id, until_ms);
    (1..=2).for_each(|number| plant_request(&mut second, number, 3));
    let again = delivered(&mut second);
    assert_eq!((again[0].id, &again[0].body, again[0].reply, again[0].reply_capacity), (id, &answered.body, None, 0));
    assert_eq!((again[1].id, again[1].reply_capacity), (open.id, 3 * 2042));
    assert_ne!(again[1].reply, open.reply, "a handle from before the restart names nothing");
    assert_eq!(second.reply(NOW_MS, open.reply.unwrap(), b""), Err(ReplyError::UnknownHandle));
    assert_eq!(second.stats().dropped["surbs_used"], 1);
    // Once committed it does not come again, so there is nothing to remember.
    second.commit(id).unwrap();
    assert_eq!(second.answered().len(), 0);
    second.commit(open.id).unwrap();
    second.reply(NOW_MS, again[1].reply.unwrap(), b"late").unwrap();
    noted(&mut second);
    assert_eq!(second.answered().len(), 0);
}

#[test]
fn what_was_answered_is_remembered_while_it_may_come_again() {
    let mut courier = courier();
    courier.remember_answered(NOW_MS, MessageId([1; 16]), NOW_MS + 60_000);
    let (soon, late) = (NOW_MS + 1, NOW_MS + 2 * EPOCH_MS);
    for (now_ms, wall_ms, known) in [(soon, late, 1), (late, soon, 1), (late, late, 0)] {
        courier.set_wall_clock(now_ms, wall_ms);
        courier.tick(now_ms);
        assert_eq!(courier.answered().len(), known, "{now_ms} {wall_ms}");
    }
}

#[test]
fn requests_that_wait_for_an_answer_are_bounded_and_expire() {
    let mut courier = courier_with(CourierConfig { max_reply_handles: 2, ..CourierConfig::default() });
    (1..=3).for_each(|number| plant_request(&mut courier, number, 1));
    let handles: Vec<_> = delivered(&mut courier).iter().map(|message| message.reply.unwrap()).collect();
    assert_eq!(courier.reply(NOW_MS, handles[0], b""), Err(ReplyError::UnknownHandle));
    assert!(courier.reply(NOW_MS, handles[1], b"").is_ok());
    let late = NOW_MS + 2 * EPOCH_MS;
    assert_eq!(courier.reply(late, handles[2], b""), Err(ReplyError::UnknownHandle));
    courier.tick(late);
    let stats = courier.stats();
    assert_eq!((stats.dropped["reply_handles_full"], stats.dropped["reply_expired"]), (1, 1));
}

/// INV-MSG-64: reply blocks of others are bounded in bytes, and those who sent most of them make room.
#[test]
fn reply_blocks_are_bounded_in_bytes_and_the_largest_requests_make_room() {
    let max_reply_bytes = 10 * betanet_sphinx::SURB_LEN;
    let mut courier = courier_with(CourierConfig { max_reply_bytes, ..CourierConfig::default() });
    for (number, surbs) in [(1, 1), (2, 6), (3, 2), (4, 3)] {
        plant_request(&mut courier, number, surbs);
    }
    let handles: Vec<_> = delivered(&mut courier).iter().map(|message| message.reply.unwrap()).collect();
    let answers: Vec<_> = handles.iter().map(|handle| courier.reply(NOW_MS, *handle, b"").is_ok()).collect();
    assert_eq!(answers, [true, false, true, true], "12 do not fit, and half of them came together");
    assert_eq!(courier.stats().dropped["reply_handles_full"], 1);
}

#[test]
fn cover_and_garbage_are_deleted_in_one_batch_per_edge() {
    let mut courier = courier();
    let cover = encode_envelope(&mut rng(3), EnvelopeKind::Cover, None, &[0; SEALED_LEN]);
    courier.on_forward(NOW_MS, ItemRef { edge: id(0), seq: 1 }, &cover);
    courier.on_forward(NOW_MS, ItemRef { edge: id(0), seq: 2 }, &[0; 2048]);
    courier.on_forward(NOW_MS, ItemRef { edge: id(2), seq: 1 }, &[]);
    let mut deletes: Vec<_> = effects(&mut courier)
        .into_iter()
        .map(|effect| if let Effect::Delete { edge, seqs } = effect { (edge, seqs) } else { panic!("{effect:?}") })
        .collect();
    let mut expected = vec![(id(0), vec![1, 2]), (id(2), vec![1])];
    deletes.sort();
    expected.sort();
    assert_eq!(deletes, expected);
    assert_eq!(courier.stats().cover_received, 1);
}

#[test]
fn a_new_consensus_changes_the_waiting_time() {
    let mut courier = courier();
    let before = courier.timeout_ms(3, 1);
    courier.set_view(Arc::new(view_of(Consensus { mean_delay_ms: 1_000, ..consensus(nodes(8)) })));
    assert!(before < 600 && courier.timeout_ms(3, 1) > 19_000);
}
