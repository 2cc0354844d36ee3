use betanet_sphinx::x25519::KnownPoints;
use betanet_sphinx::{Hop, MailboxId, SecretKey, Surb, SurbId, USER_PAYLOAD_LEN, build_surb};
use proptest::prelude::*;
use rand_core::Rng;

use super::seal::SealError;
use super::*;
use crate::fixtures::{id, rng};

fn surb(seed: u64) -> Surb {
    let mut rng = rng(seed);
    let path = [Hop { node: id(1), key: SecretKey::generate(&mut rng).public() }];
    build_surb(&mut rng, 0, &path, MailboxId::from([1; 16]), SurbId::from([2; 16])).unwrap().0
}

fn item(seq: u64) -> ItemRef {
    ItemRef { edge: id(1), seq }
}

fn fragments(id: u8, expiry_ms: u64, len: usize) -> Vec<Fragment> {
    let mut rng = rng(9);
    let mut body = vec![0; len];
    rng.fill_bytes(&mut body);
    let outbound = Outbound::new(MessageId([id; 16]), expiry_ms, &[], &body).unwrap();
    (0..outbound.total()).map(|index| Fragment::parse(&outbound.fragment(&mut rng, index).unwrap()).unwrap()).collect()
}

/// INV-MSG-01: the layout is the specification's table.
#[test]
fn the_layout_is_what_the_tables_say() {
    assert_eq!(USER_PAYLOAD_LEN, 2048);
    assert_eq!((SEALED_LEN, FRAGMENT_LEN, FRAGMENT_DATA_LEN, REPLY_DATA_LEN), (1590, 1530, 1500, 2042));
    let mut rng = rng(1);
    let surb = surb(2);
    let sealed = [0x5a; SEALED_LEN];
    let payload = encode_envelope(&mut rng, EnvelopeKind::AckWanted, Some(&surb), &sealed);
    assert_eq!(payload.len(), USER_PAYLOAD_LEN);
    assert_eq!(payload[0], 1);
    assert_eq!(payload[1..458], surb.to_bytes());
    assert_eq!(payload[458..], sealed);
    assert_eq!(encode_envelope(&mut rng, EnvelopeKind::Plain, None, &sealed)[0], 0);
    assert_eq!(encode_envelope(&mut rng, EnvelopeKind::Cover, None, &sealed)[0], 2);

    let outbound = Outbound::new(MessageId([0xab; 16]), 0x0102_0304_0506_0708, &[], &[0xcd; 1600]).unwrap();
    let bytes = outbound.fragment(&mut rng, 1).unwrap();
    assert_eq!(bytes[..16], [0xab; 16]);
    assert_eq!(bytes[16..18], [0, 1]);
    assert_eq!(bytes[18..20], [0, 2]);
    assert_eq!(bytes[20..28], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bytes[28..30], 101_u16.to_be_bytes());
    assert_eq!(bytes[30..131], [0xcd; 101]);
    // The stream starts with the number of SURBs.
    assert_eq!(outbound.fragment(&mut rng, 0).unwrap()[30..32], [0, 0xcd]);

    let reply = &reply_parts(&[0xee; 2043], 2).unwrap()[1];
    assert_eq!(reply[..], [0, 1, 0, 2, 0, 1, 0xee]);
    assert_eq!(encode_ack(), [1]);
}

#[test]
fn envelopes_say_whether_an_ack_is_wanted() {
    let mut rng = rng(1);
    let surb = surb(2);
    let sealed = [1; SEALED_LEN];
    let wanted = encode_envelope(&mut rng, EnvelopeKind::AckWanted, Some(&surb), &sealed);
    let envelope = Envelope::parse(&wanted).unwrap();
    assert_eq!(envelope.ack_surb().unwrap().to_bytes(), surb.to_bytes());
    assert!(matches!(envelope.sealed, Sealed::Fragment(inside) if *inside == sealed));
    let plain = encode_envelope(&mut rng, EnvelopeKind::Plain, None, &sealed);
    assert!(Envelope::parse(&plain).unwrap().ack_surb().is_none());
    let mut broken = wanted.clone();
    broken[33] = 0xff;
    assert!(Envelope::parse(&broken).unwrap().ack_surb().is_none());
    for len in [0, 1, 2047, 2049] {
        let error = Envelope::parse(&vec![0; len]).unwrap_err();
        assert_eq!(error, EnvelopeError::WrongLength { len });
    }
    assert!(matches!(Envelope::parse(&[3; 2048]).unwrap().sealed, Sealed::Bulk(inside) if inside.len() == 2047));
    assert_eq!(Envelope::parse(&[4; 2048]).err(), Some(EnvelopeError::UnknownKind { kind: 4 }));
    assert!(is_stored_ack(&encode_ack()) && !is_stored_ack(&[]) && !is_stored_ack(&[1, 0]) && !is_stored_ack(&[2]));
}

/// INV-MSG-02: a fragment opens for its recipient as it was sealed, and not if any bit changed.
#[test]
fn a_sealed_fragment_opens_unchanged_or_not_at_all() {
    let mut rng = rng(3);
    let key = SealingKey::generate(&mut rng);
    let context = Sealer::new(&mut rng, &key.public(), 5).unwrap();
    let fragment = [0x77; FRAGMENT_LEN];
    let sealed = context.seal(&mut rng, &fragment).unwrap();
    let mut cache = ContextCache::new(key, 4);
    let opened = cache.open(&sealed).unwrap();
    assert_eq!((*opened.fragment, opened.hops), (fragment, 5));
    for byte in 0..SEALED_LEN {
        let mut changed = sealed.clone();
        changed[byte] ^= 1 << (byte % 8);
        assert_eq!(cache.open(&changed).unwrap_err(), SealError::Open, "byte {byte}");
    }
    // Nothing that failed to open was remembered.
    assert_eq!(cache.len(), 1);
    let mut stranger = ContextCache::new(SealingKey::generate(&mut rng), 4);
    assert_eq!(stranger.open(&sealed).unwrap_err(), SealError::Open);
}

/// INV-MSG-03: sealing the same fragment again gives other bytes.
#[test]
fn every_sending_looks_different() {
    let mut rng = rng(4);
    let key = SealingKey::generate(&mut rng);
    let sealer = Sealer::new(&mut rng, &key.public(), 3).unwrap();
    let fragment = [0; FRAGMENT_LEN];
    let (one, two) = (sealer.seal(&mut rng, &fragment).unwrap(), sealer.seal(&mut rng, &fragment).unwrap());
    assert_eq!(one[..32], two[..32], "one context per message");
    assert_ne!(one[32..], two[32..]);
    let other = Sealer::new(&mut rng, &key.public(), 3).unwrap().seal(&mut rng, &fragment).unwrap();
    assert_ne!(one[..32], other[..32], "another context for another message");
}

#[test]
fn what_is_prepared_together_is_used_once_and_changes_no_outcome() {
    let mut rng = rng(7);
    let (key, other) = (SealingKey::generate(&mut rng), SealingKey::generate(&mut rng));
    let (recipient, second) = (key.public(), other.public());
    let mut agreements = Agreements::default();
    agreements.prepare(&mut rng, &mut KnownPoints::default(), &[recipient, second, recipient, [0; 32]]);
    assert_eq!(Some(SealError::BadKey), Sealer::by(&mut agreements, &mut rng, &[0; 32], 3).err());
    let fragment = [5; FRAGMENT_LEN];
    // One more for each than was prepared.
    let to = [recipient, recipient, second, recipient, second];
    let sealed = to.map(|to| Sealer::by(&mut agreements, &mut rng, &to, 3).unwrap().seal(&mut rng, &fragment).unwrap());
    let contexts: std::collections::HashSet<_> = sealed.iter().map(|sealed| &sealed[..ENC_LEN]).collect();
    assert_eq!(to.len(), contexts.len());

    // What is prepared may also be for somebody else, no sealed fragment at all, or never come.
    let prepared = || sealed.iter().map(|sealed| &sealed[..]).chain([&[0; SEALED_LEN][..], &[1; 3]]);
    for recipient in [key, other] {
        let own = recipient.public();
        let mut cache = ContextCache::new(recipient, 2);
        for _ in 0..2 {
            cache.prepare(prepared());
            for (sealed, to) in sealed.iter().zip(to).skip(1) {
                let opened = cache.open(sealed);
                assert_eq!(to == own, opened.is_ok_and(|opened| *opened.fragment == fragment && opened.hops == 3));
            }
            assert_eq!(Some(SealError::Open), cache.open(&[0; SEALED_LEN]).err());
        }
    }
}

#[test]
fn the_context_cache_is_bounded_and_still_opens_what_it_forgot() {
    let mut rng = rng(5);
    let key = SealingKey::generate(&mut rng);
    let sealed: Vec<_> = (0..6)
        .map(|_| Sealer::new(&mut rng, &key.public(), 1).unwrap().seal(&mut rng, &[1; FRAGMENT_LEN]).unwrap())
        .collect();
    let mut cache = ContextCache::new(key, 3);
    for _ in 0..2 {
        for one in &sealed {
            assert_eq!(cache.open(one).unwrap().hops, 1);
            assert!(cache.len() <= 3);
        }
    }
}

#[test]
fn keys_are_kept_and_not_shown() {
    let key = SealingKey::generate(&mut rng(6));
    let back = SealingKey::from_bytes(key.to_bytes().clone());
    assert_eq!(back.public(), key.public());
    assert!(!format!("{key:?}").contains(&hex::encode(key.to_bytes().as_slice())));
    assert!(Sealer::new(&mut rng(6), &[0; 32], 3).is_err(), "a key of small order is refused");
}

/// INV-MSG-11: a SURB that stands in a message twice is one SURB.
#[test]
fn streams_keep_surbs_and_body() {
    let surbs = [surb(1), surb(2), surb(3)];
    let body = vec![9; 4000];
    let outbound = Outbound::new(MessageId([1; 16]), 5, &surbs, &body).unwrap();
    assert_eq!(usize::from(outbound.total()), (1 + 3 * 457 + 4000_usize).div_ceil(1500));
    let mut rng = rng(7);
    let parts = (0..outbound.total()).map(|index| outbound.fragment(&mut rng, index).unwrap());
    let stream: Vec<u8> = parts.flat_map(|bytes| Fragment::parse(&bytes).unwrap().data.into_vec()).collect();
    assert!(outbound.fragment(&mut rng, outbound.total()).is_none());
    let parsed = parse_stream(stream.clone()).unwrap();
    assert_eq!(parsed.body, body);
    assert!(parsed.head.surbs.iter().zip(&surbs).all(|(one, other)| one.to_bytes() == other.to_bytes()));
    let mut damaged = stream.clone();
    damaged[1 + 457 + 32] = 0xff;
    let parsed = parse_stream(damaged).unwrap();
    assert_eq!((parsed.head.surbs.len(), parsed.head.bad_surbs, parsed.body.len()), (2, 1, 4000));
    let mut doubled = stream.clone();
    doubled.copy_within(1..458, 458);
    // Another key or another end of the header makes no other packet of it.
    (doubled[914], doubled[800]) = (!doubled[914], !doubled[800]);
    let parsed = parse_stream(doubled).unwrap();
    assert_eq!((parsed.head.surbs.len(), parsed.head.bad_surbs, parsed.body.len()), (2, 1, 4000));
    assert_eq!(parse_stream(stream[..1000].to_vec()).unwrap_err(), StreamError::Truncated);
    assert_eq!(parse_stream(Vec::new()).unwrap_err(), StreamError::Truncated);
}

#[test]
fn messages_over_the_limit_are_not_cut() {
    let id = MessageId([1; 16]);
    let too_long = Outbound::new(id, 0, &[], vec![0; MAX_MESSAGE_LEN + 1]).unwrap_err();
    assert_eq!(too_long, StreamError::TooLong { len: MAX_MESSAGE_LEN + 1 });
    assert_eq!(Outbound::new(id, 0, &[], vec![0; MAX_MESSAGE_LEN]).unwrap().total(), 44740);
    let many: Vec<_> = (0..256).map(|_| surb(1)).collect();
    assert_eq!(Outbound::new(id, 0, &many, b"").unwrap_err(), StreamError::TooManySurbs { count: 256 });
}

/// INV-MSG-11: every SURB is used, spare ones repeat the parts in turn.
#[test]
fn replies_use_every_surb() {
    let body: Vec<u8> = (0..=250).cycle().take(5000).collect();
    let parts = reply_parts(&body, 7).unwrap();
    assert_eq!(parts.len(), 7);
    assert_eq!((&parts[0], &parts[1]), (&parts[3], &parts[4]));
    assert_eq!(parts[0], parts[6]);
    for order in [[0, 1, 2], [5, 1, 6], [2, 4, 3]] {
        let mut assembler = ReplyAssembler::default();
        let pushed = order.map(|index| assembler.push(&ReplyPart::parse(&parts[index]).unwrap(), 7));
        assert_eq!(pushed, [ReplyPush::Kept, ReplyPush::Kept, ReplyPush::Complete(body.clone())]);
    }
    assert_eq!(reply_parts(&body, 2), None);
    assert_eq!(reply_parts(&[], 0), None);
    let empty = reply_parts(&[], 2).unwrap();
    let part = ReplyPart::parse(&empty[1]).unwrap();
    assert_eq!(ReplyAssembler::default().push(&part, 2), ReplyPush::Complete(Vec::new()));
}

/// INV-MSG-16
#[test]
fn malformed_replies_are_told_apart() {
    let encode = |index: u16, total: u16, len: u16, data: usize| {
        let mut bytes: Vec<u8> = [index, total, len].iter().flat_map(|field| field.to_be_bytes()).collect();
        bytes.resize(6 + data, 0);
        bytes
    };
    let broken =
        [(0, 0, 0, 0), (1, 1, 1, 1), (0, 2, 5, 5), (1, 2, 0, 0), (0, 1, 9, 8), (0, 1, 2043, 2042), (0xffff, 0, 0, 3)];
    for (index, total, len, data) in broken {
        assert_eq!(ReplyPart::parse(&encode(index, total, len, data)), None, "{index} {total} {len}");
    }
    assert_eq!(ReplyPart::parse(&[0; 5]), None);
    let mut assembler = ReplyAssembler::default();
    let part = |index, total| ReplyPart { index, total, data: &[1] };
    assert_eq!(assembler.push(&part(0, 9), 8), ReplyPush::Inconsistent, "more parts than SURBs");
    assert_eq!(assembler.push(&part(0, 3), 8), ReplyPush::Kept);
    assert_eq!(assembler.push(&part(0, 3), 8), ReplyPush::Duplicate);
    assert_eq!(assembler.push(&part(1, 2), 8), ReplyPush::Inconsistent);
}

#[test]
fn a_message_is_whole_in_any_order_and_its_items_stay_until_the_commit() {
    let mut reassembler = Reassembler::new(ReassemblyLimits::default());
    let parts = fragments(1, 10_000, 4000);
    assert_eq!(reassembler.insert(0, 0, item(1), [1; 32], parts[2].clone()), Inserted::Kept);
    assert_eq!(reassembler.insert(0, 0, item(1), [1; 32], parts[2].clone()), Inserted::SameItem);
    assert_eq!(reassembler.insert(0, 0, item(2), [1; 32], parts[2].clone()), Inserted::Useless("duplicate_fragment"));
    assert_eq!(reassembler.insert(0, 0, item(3), [1; 32], parts[0].clone()), Inserted::Kept);
    let Inserted::Complete(stream) = reassembler.insert(0, 0, item(4), [1; 32], parts[1].clone()) else { panic!() };
    assert_eq!(stream.len(), 4001);
    // Delivered, not committed: repeats of the items are known, other copies are useless.
    assert_eq!(reassembler.insert(0, 0, item(4), [1; 32], parts[1].clone()), Inserted::SameItem);
    assert_eq!(reassembler.insert(0, 0, item(5), [1; 32], parts[1].clone()), Inserted::Useless("duplicate_message"));
    assert_eq!(reassembler.commit(parts[0].id), Some(vec![item(1), item(3), item(4)]));
    assert_eq!(reassembler.used_bytes(), 0);
    assert_eq!(reassembler.commit(parts[0].id), Some(Vec::new()));
    assert_eq!(reassembler.insert(0, 0, item(4), [1; 32], parts[1].clone()), Inserted::Useless("duplicate_message"));
    // The id is forgotten when the message is not taken any more, and not before its sender has given up.
    let (end, rested) = (10_000 + 2_700_000, 286_000);
    for (now_ms, wall_ms, known) in [(rested, end - 1, 1), (rested - 1, end, 1), (rested, end, 0)] {
        assert_eq!(reassembler.expire(now_ms, wall_ms), []);
        assert_eq!(reassembler.remembered().count(), known);
    }
    assert_eq!(reassembler.insert(rested, end, item(9), [1; 32], parts[1].clone()), Inserted::Deferred("held_back"));
}

/// INV-MSG-08: fragments under different contexts never mix.
#[test]
fn two_sendings_of_one_message_do_not_mix() {
    let mut reassembler = Reassembler::new(ReassemblyLimits::default());
    let (one, two) = (fragments(1, 10_000, 2000), fragments(1, 20_000, 4000));
    assert_eq!(reassembler.insert(0, 0, item(1), [1; 32], one[0].clone()), Inserted::Kept);
    assert_eq!(reassembler.insert(0, 0, item(2), [2; 32], two[1].clone()), Inserted::Kept);
    assert_eq!(reassembler.insert(0, 0, item(3), [2; 32], two[0].clone()), Inserted::Kept);
    let Inserted::Complete(stream) = reassembler.insert(0, 0, item(4), [2; 32], two[2].clone()) else { panic!() };
    assert_eq!(stream.len(), 4001);
    assert_eq!(reassembler.commit(MessageId([1; 16])), Some((1..=4).map(item).collect()));
    assert_eq!((reassembler.unfinished(), reassembler.used_bytes()), (0, 0));
}

/// INV-MSG-23: what can never become a message is refused with a reason.
#[test]
fn impossible_fragments_are_refused() {
    let limits = ReassemblyLimits { max_lifetime_ms: 50_000, message_bytes: 10_000, ..ReassemblyLimits::default() };
    let mut reassembler = Reassembler::new(limits);
    let part = fragments(1, 60_000, 4000)[0].clone();
    let mut refused = |now_ms, change: &dyn Fn(&mut Fragment)| {
        let mut fragment = part.clone();
        change(&mut fragment);
        reassembler.insert(now_ms, now_ms, item(1), [1; 32], fragment)
    };
    assert_eq!(refused(0, &|part| part.total = 8), Inserted::Useless("message_too_large"));
    assert_eq!(refused(20_000, &|_| ()), Inserted::Kept);
    assert_eq!(refused(20_000, &|part| part.total = 4), Inserted::Useless("inconsistent_fragment"));
    assert_eq!(refused(20_000, &|part| part.expiry_ms += 1), Inserted::Useless("inconsistent_fragment"));
    let (end, rested) = (60_000 + 2_700_000, 20_000 + 286_000);
    assert_eq!(reassembler.expire(rested, end - 1), []);
    assert_eq!(reassembler.expire(rested - 1, end), [], "its sender may be there");
    assert_eq!(reassembler.expire(rested, end), [item(1)]);
    assert_eq!(reassembler.used_bytes(), 0);
}

/// INV-MSG-07: a message takes memory also where its fragments bring no data.
#[test]
fn an_unfinished_message_counts_as_what_it_takes_beside_its_data() {
    let mut reassembler = Reassembler::new(ReassemblyLimits::default());
    for n in 1..=1_000_u64 {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let last = Fragment { id: MessageId(id), index: 1, total: 2, expiry_ms: 60_000, data: Box::default() };
        assert_eq!(reassembler.insert(0, 0, item(n), [0; 32], last), Inserted::Kept);
    }
    // Its own node of a map, with room for eleven fragments, and its places in two others.
    assert!(reassembler.used_bytes() >= 1_000 * 900, "{}", reassembler.used_bytes());
    assert_eq!(reassembler.expire(10_000_000, 10_000_000).len(), 1_000);
    assert_eq!(reassembler.used_bytes(), 0);
}

/// INV-MSG-07: a flood of unfinished messages stays within the limit and does not keep an honest one out.
#[test]
fn a_flood_of_unfinished_messages_neither_grows_memory_nor_stops_others() {
    let limits = ReassemblyLimits { total_bytes: 20_000, idle_ms: 1_000, ..ReassemblyLimits::default() };
    let mut reassembler = Reassembler::new(limits);
    for n in 0..200_u8 {
        let fragment = Fragment { id: MessageId([n; 16]), total: 2, ..fragments(1, 60_000, 3000)[0].clone() };
        reassembler.insert(0, 0, item(u64::from(n)), [n; 32], fragment);
        assert!(reassembler.used_bytes() <= 20_000);
    }
    assert_eq!(reassembler.unfinished(), 7);
    let honest = fragments(250, 60_000, 6000);
    let mut done = false;
    let mut now_ms = 0;
    // Every round stands for one request for deferred items: the flood comes again, and the honest message with it.
    for _ in 0..250 {
        now_ms += 1_001;
        reassembler.take_redeliver(now_ms, now_ms);
        for (seq, fragment) in (1000..).zip(&honest) {
            done |= matches!(
                reassembler.insert(now_ms, now_ms, item(seq), [250; 32], fragment.clone()),
                Inserted::Complete(_)
            );
        }
        for n in 0..200_u8 {
            let fragment = Fragment { id: MessageId([n; 16]), total: 2, ..fragments(1, 60_000, 3000)[0].clone() };
            reassembler.insert(now_ms.min(59_000), now_ms.min(59_000), item(u64::from(n)), [n; 32], fragment);
        }
        assert!(reassembler.used_bytes() <= 20_000);
        if done {
            break;
        }
    }
    assert!(done, "the honest message never had its turn");
}

/// INV-MSG-04: an id is forgotten when its message has expired or its sender has given up, and never to make room.
#[test]
fn when_the_memory_of_ids_is_full_new_messages_wait() {
    let limits = ReassemblyLimits { remembered_ids: 3, repeat_ms: 5_000, ..ReassemblyLimits::default() };
    let mut reassembler = Reassembler::new(limits);
    let whole = |n: u8| Fragment { id: MessageId([n; 16]), ..fragments(1, 60_000, 100)[0].clone() };
    let mut insert = |now_ms: u64, n: u8| {
        let inserted = reassembler.insert(now_ms, now_ms, item(n.into()), [n; 32], whole(n));
        if matches!(inserted, Inserted::Complete(_)) {
            assert!(reassembler.uncommitted_until(whole(n).id).is_some());
            reassembler.commit(whole(n).id).unwrap();
        }
        (inserted, reassembler.take_redeliver(now_ms, now_ms))
    };
    for n in 1..=3 {
        assert!(matches!(insert(u64::from(n) * 1_000, n).0, Inserted::Complete(_)));
    }
    assert_eq!(insert(5_999, 4), (Inserted::Deferred("ids_full"), false));
    for n in 1..=3 {
        assert_eq!(insert(5_999, n).0, Inserted::Useless("duplicate_message"));
    }
    // The sender of the first has given up, so its place is free and the fourth is asked for again.
    assert_eq!(insert(6_000, 2), (Inserted::Useless("duplicate_message"), true));
    assert!(matches!(insert(6_000, 4).0, Inserted::Complete(_)));
    assert_eq!(insert(6_999, 5), (Inserted::Deferred("ids_full"), false));
    assert_eq!(insert(6_999, 2).0, Inserted::Useless("duplicate_message"));
}

#[test]
fn ids_from_before_a_restart_are_all_taken() {
    let mut reassembler = Reassembler::new(ReassemblyLimits { remembered_ids: 2, ..ReassemblyLimits::default() });
    for n in [1, 2, 3] {
        reassembler.remember(0, MessageId([n; 16]), 60_000);
    }
    assert!(reassembler.remembered().map(|(id, _)| id.0[0]).eq([1, 2, 3]));
}

/// INV-MSG-07: what will not be finished is deleted, but not what lies at an edge that the client could not reach.
#[test]
fn unfinished_messages_are_given_up_when_their_senders_must_be_gone() {
    let limits = ReassemblyLimits { repeat_ms: 5_000, ..ReassemblyLimits::default() };
    let mut reassembler = Reassembler::new(limits);
    let parts = fragments(1, 60_000, 4000);
    for (now_ms, part) in [(0, 0), (3_000, 1)] {
        let kept = reassembler.insert(now_ms, 0, item(now_ms), [1; 32], parts[part].clone());
        assert_eq!(kept, Inserted::Kept);
    }
    assert_eq!(reassembler.give_up(12_999, 0), []);
    assert_eq!(reassembler.give_up(13_000, 3_001), [], "an edge was away until a moment later");
    assert_eq!(reassembler.give_up(13_000, 3_000), [item(0), item(3_000)]);
    assert_eq!((reassembler.unfinished(), reassembler.used_bytes()), (0, 0));
}

/// INV-MSG-07: unfinished messages leave room in the mailbox for others.
#[test]
fn a_crowd_of_unfinished_messages_gives_way_at_its_edge() {
    let limits = ReassemblyLimits { unfinished_items: 10, idle_ms: 1_000, ..ReassemblyLimits::default() };
    let mut reassembler = Reassembler::new(limits);
    for n in 0..15_u8 {
        let fragment = Fragment { id: MessageId([n; 16]), total: 2, ..fragments(1, 60_000, 3000)[0].clone() };
        reassembler.insert(u64::from(n), 0, item(u64::from(n)), [n; 32], fragment);
    }
    assert_eq!(reassembler.give_up(999, 0), [], "each may be finished in a moment");
    assert_eq!(reassembler.give_up(1_002, 0), [0, 1, 2].map(item), "the rest is not idle");
    assert_eq!(reassembler.give_up(9_000, 0), [3, 4].map(item), "the rest is no crowd");
}

proptest! {
    /// INV-MSG-16: no bytes make a parser panic.
    #[test]
    fn parsers_take_any_bytes(bytes: Vec<u8>, fragment in prop::collection::vec(any::<u8>(), FRAGMENT_LEN)) {
        let _ = Envelope::parse(&bytes);
        let _ = ReplyPart::parse(&bytes);
        let _ = parse_stream(bytes);
        let array: [u8; FRAGMENT_LEN] = fragment.try_into().unwrap();
        if let Some(parsed) = Fragment::parse(&array) {
            prop_assert!(parsed.index < parsed.total && !parsed.data.is_empty());
            prop_assert!(parsed.data.len() <= FRAGMENT_DATA_LEN);
        }
    }

    #[test]
    fn fragments_round_trip(seed: u64, len in 0_usize..20_000, expiry_ms: u64) {
        let mut rng = rng(seed);
        let mut body = vec![0; len];
        rng.fill_bytes(&mut body);
        let outbound = Outbound::new(MessageId([3; 16]), expiry_ms, &[], &body).unwrap();
        let mut stream = Vec::new();
        for index in 0..outbound.total() {
            let fragment = Fragment::parse(&outbound.fragment(&mut rng, index).unwrap()).unwrap();
            prop_assert_eq!((fragment.index, fragment.total, fragment.expiry_ms), (index, outbound.total(), expiry_ms));
            stream.extend_from_slice(&fragment.data);
        }
        prop_assert_eq!(parse_stream(stream).unwrap().body, body);
    }

    /// INV-MSG-26: whatever the clocks of sender and recipient show, a message is delivered once, now or when they agree.
    #[test]
    fn a_clock_that_is_wrong_delays_a_message_and_loses_none(
        sender_s in -2_600_000_i64..2_600_000, recipient_s in -2_600_000_i64..2_600_000, lifetime_ms in 1_000_u64..3_600_000,
        len in 0_usize..5_000, jumps in prop::collection::vec(-2_600_000_i64..2_600_000, 0..4),
    ) {
        const TRUE_MS: u64 = 1_800_000_000_000;
        let shown = |offset_s: i64| TRUE_MS.saturating_add_signed(offset_s * 1_000);
        let mut reassembler = Reassembler::new(ReassemblyLimits::default());
        let parts = fragments(1, shown(sender_s) + lifetime_ms, len);
        let hand_over = |reassembler: &mut Reassembler, now_ms: u64, wall_ms: u64| {
            let inserted = (1..).zip(&parts).map(|(seq, part)| reassembler.insert(now_ms, wall_ms, item(seq), [1; 32], part.clone()));
            inserted.collect::<Vec<_>>()
        };
        let is_whole = |inserted: &[Inserted]| inserted.iter().any(|one| matches!(one, Inserted::Complete(_)));
        let mut now_ms = 0;
        let mut first = hand_over(&mut reassembler, now_ms, shown(recipient_s));
        prop_assert!(!first.iter().any(|one| matches!(one, Inserted::Useless(_))), "{:?}", first);
        if !is_whole(&first) {
            prop_assert!(first.iter().all(|one| *one == Inserted::Deferred("held_back")), "{:?}", first);
            prop_assert!(!reassembler.take_redeliver(now_ms, shown(recipient_s)), "it would come again for ever");
            prop_assert!(reassembler.take_redeliver(now_ms, shown(sender_s)), "the clocks agree");
            first = hand_over(&mut reassembler, now_ms, shown(sender_s));
        }
        prop_assert!(is_whole(&first));
        prop_assert!(reassembler.commit(MessageId([1; 16])).is_some());
        // However the clock jumps while the sender may repeat it, it does not come twice.
        for jump in jumps {
            now_ms += 60_000;
            reassembler.expire(now_ms, shown(jump));
            let again = hand_over(&mut reassembler, now_ms, shown(jump));
            prop_assert!(again.iter().all(|one| *one == Inserted::Useless("duplicate_message")), "{:?}", again);
        }
    }
}

/// INV-MSG-26: what seems to be too late lies at its edge, but not so much of it that it crowds the edge.
#[test]
fn what_is_held_back_is_bounded_and_forgotten_with_its_edge() {
    let mut reassembler = Reassembler::new(ReassemblyLimits::default());
    let part = fragments(1, 60_000, 100)[0].clone();
    let late_ms = 60_000 + 2_700_000;
    let insert = |reassembler: &mut Reassembler, seq: u64, wall_ms| {
        let fragment = Fragment { id: MessageId([u8::try_from(seq % 251).unwrap(); 16]), ..part.clone() };
        reassembler.insert(0, wall_ms, item(seq), [1; 32], fragment)
    };
    for seq in 0..4_096 {
        assert_eq!(insert(&mut reassembler, seq, late_ms), Inserted::Deferred("held_back"));
    }
    assert_eq!(insert(&mut reassembler, 5_000, late_ms), Inserted::Useless("expired"));
    assert_eq!(insert(&mut reassembler, 7, late_ms), Inserted::Deferred("held_back"), "known");
    reassembler.keep_held_back(&[id(1)]);
    assert_eq!(insert(&mut reassembler, 5_000, late_ms), Inserted::Useless("expired"));
    reassembler.keep_held_back(&[id(2)]);
    assert_eq!(insert(&mut reassembler, 5_000, late_ms), Inserted::Deferred("held_back"));
    assert!(matches!(insert(&mut reassembler, 5_000, late_ms - 1), Inserted::Complete(_)));
}

/// INV-MSG-26: an expiry far ahead is no reason to refuse a message, nor to remember its id for ever.
#[test]
fn an_expiry_far_ahead_is_taken_and_not_believed() {
    let mut reassembler = Reassembler::new(ReassemblyLimits::default());
    for (n, expiry_ms) in [(1, u64::MAX), (2, 30 * 86_400_000), (3, 60_000)] {
        let part = fragments(n, expiry_ms, 100)[0].clone();
        assert!(matches!(reassembler.insert(0, 0, item(n.into()), [n; 32], part), Inserted::Complete(_)));
        reassembler.commit(MessageId([n; 16])).unwrap();
    }
    let end = 7 * 86_400_000 + 2_700_000;
    reassembler.expire(end, end - 1);
    assert_eq!(reassembler.remembered().count(), 3);
    reassembler.expire(end, end);
    assert_eq!(reassembler.remembered().count(), 0);
}
