use proptest::prelude::*;

use super::*;
use crate::epoch::{Epoch, EpochClock};
use crate::fixtures::{EPOCH, NOW_MS, consensus, id, mailbox, node, nodes, signing_key, view, view_of};
use crate::vrf;

fn worker(number: u8) -> WorkerDescriptor {
    WorkerDescriptor {
        id: WorkerId(signing_key(number).verifying_key().to_bytes()),
        name: format!("worker {number}"),
        kinds: vec!["wasm".to_owned()],
        slots: 2,
        memory_bytes: 1 << 30,
        limits: Some(WorkerLimits { wall_ms: 3_600_000, scratch_bytes: 1 << 29, output_bytes: 0 }),
        groups: vec!["lab".to_owned()],
        address: Address::new(vec![mailbox(0), mailbox(2)], [4; 32]).unwrap(),
        level: Some(3),
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + 1000,
    }
}

type Check = fn(&Signed) -> bool;

/// The documents as text, with the check that belongs to each.
fn samples() -> Vec<(Signed, Check)> {
    let node = Verified::sign(node(0, Role::Entry, 0), &signing_key(0)).unwrap();
    let consensus = Verified::sign(consensus(nodes(2)), &signing_key(200)).unwrap();
    let own = Verified::sign(worker(50), &signing_key(50)).unwrap();
    let list = WorkerList { epoch: EPOCH, revision: 3, workers: vec![own.signed().clone()] };
    let list = Verified::sign(list, &signing_key(200)).unwrap();
    vec![
        (node.signed().clone(), |signed| signed.verify_node().is_ok()),
        (consensus.signed().clone(), |signed| signed.verify::<Consensus>(&[id(200)], 1).is_ok()),
        (own.signed().clone(), |signed| signed.verify_worker().is_ok()),
        (list.signed().clone(), |signed| signed.verify::<WorkerList>(&[id(200)], 1).is_ok()),
    ]
}

#[test]
fn an_error_does_not_repeat_a_strangers_text_at_length() {
    let content = format!(r#"{{"\u001b[2J{}": 1}}"#, "x".repeat(3_000));
    for refused in [
        Signed { content: content.clone(), signatures: Vec::new() }.verify_worker().map(drop),
        Signed { content, signatures: Vec::new() }.verify_node().map(drop),
    ] {
        let said = refused.unwrap_err().to_string();
        assert!(said.chars().count() < 500 && !said.contains(char::is_control), "{said}");
        assert!(said.contains("does not parse: unknown field ` [2Jxxx"), "{said}");
    }
}

/// INV-MSG-15: any changed bit of a document or its signature is noticed, and a signature for one kind is none for another.
#[test]
fn changed_documents_are_refused() {
    let samples = samples();
    for (place, (signed, verify)) in samples.iter().enumerate() {
        assert!(verify(signed), "sample {place}");
        for byte in 0..signed.content.len() {
            let mut content = signed.content.clone().into_bytes();
            content[byte] ^= 1;
            if let Ok(content) = String::from_utf8(content) {
                assert!(!verify(&Signed { content, ..signed.clone() }), "sample {place}, byte {byte}");
            }
        }
        for bit in 0..512 {
            let mut changed = signed.clone();
            changed.signatures[0].sig[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(&changed), "sample {place}, bit {bit} of the signature");
        }
        assert!(!verify(&Signed { signatures: Vec::new(), ..signed.clone() }));
        for (other, (_, verify_other)) in samples.iter().enumerate() {
            assert_eq!(verify_other(signed), place == other, "{place} as {other}");
        }
    }
}

/// INV-MSG-15: a document signed by somebody else's key is refused, however it is presented.
#[test]
fn forged_documents_are_refused() {
    // Signed by key 1 in the name of key 0.
    let forged = Verified::sign(node(0, Role::Entry, 0), &signing_key(1)).unwrap();
    assert!(matches!(forged.signed().verify_node(), Err(DocumentError::BadSignature { valid: 0, needed: 1, .. })));
    let mut renamed = forged.signed().clone();
    renamed.signatures[0].key = *id(0).as_bytes();
    assert!(renamed.verify_node().is_err());
    let stolen = Verified::sign(worker(50), &signing_key(51)).unwrap();
    let list = WorkerList { epoch: EPOCH, revision: 0, workers: vec![stolen.signed().clone()] };
    assert!(list.verified(NOW_MS).is_empty());
}

/// INV-MSG-15: a quorum counts distinct keys of the accepted set.
#[test]
fn a_quorum_counts_distinct_accepted_keys() {
    let accepted = [id(200), id(201), id(202), id(203)];
    let mut document = Verified::sign(consensus(nodes(1)), &signing_key(200)).unwrap();
    document.add_signature(&signing_key(200));
    assert_eq!(document.signed().signatures.len(), 1);
    document.add_signature(&signing_key(99));
    let mut signed = document.signed().clone();
    signed.signatures.push(signed.signatures[0].clone());
    let refused = signed.verify::<Consensus>(&accepted, 3).unwrap_err();
    assert!(matches!(refused, DocumentError::BadSignature { valid: 1, needed: 3, .. }), "{refused}");
    assert_eq!(refused.reason(), "document_signature");
    document.add_signature(&signing_key(201));
    document.add_signature(&signing_key(202));
    assert!(document.signed().verify::<Consensus>(&accepted, 3).is_ok());
    // Nobody's signature is never enough.
    assert!(Signed { signatures: Vec::new(), ..signed }.verify::<Consensus>(&[], 0).is_err());
}

/// INV-MSG-16: strict parsing: unknown, repeated and missing fields, odd texts, over-long lists.
#[test]
fn unusual_documents_are_refused() {
    let good = serde_json::to_string(&node(0, Role::Entry, 0)).unwrap();
    let verify = |content: String| {
        let mut signed = Verified::sign(node(0, Role::Entry, 0), &signing_key(0)).unwrap().signed().clone();
        signed.content = content;
        // The signature does not fit any more; the shape is checked first for documents that name their signer.
        signed.verify_node().unwrap_err().reason()
    };
    let change = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} in {good}");
        verify(good.replacen(from, to, 1))
    };
    assert_eq!(verify(good.clone() + " "), "document_signature");
    assert_eq!(change("{", "{\"extra\":1,"), "document_malformed");
    assert_eq!(change("\"role\":\"entry\"", "\"role\":\"entry\",\"role\":\"exit\""), "document_malformed");
    assert_eq!(change("\"role\":\"entry\",", ""), "document_malformed");
    assert_eq!(change("\"entry\"", "\"ENTRY\""), "document_malformed");
    assert_eq!(change(":9000", ":0"), "document_malformed");
    assert_eq!(change("10.0.0.0", "0.0.0.0"), "document_malformed");
    assert_eq!(change("\"99\":", "\"099\":"), "document_malformed");
    assert_eq!(change("\"99\":", "\"100\":"), "document_malformed");
    assert_eq!(change("\"issued_ms\":", "\"issued_ms\":-"), "document_malformed");
    let key = hex::encode(node(0, Role::Entry, 0).keys[&EPOCH].as_bytes());
    assert_eq!(change(&key, &"0".repeat(64)), "document_malformed");
    assert_eq!(change(&key, &key.to_uppercase()), "document_malformed");
    assert_eq!(verify(" ".repeat(5000)), "document_too_large");
    assert_eq!(verify("[".repeat(4000)), "document_malformed");
}

#[test]
fn contradictory_values_are_never_signed() {
    let refuse = |change: &dyn Fn(&mut Consensus)| {
        let mut document = consensus(nodes(1));
        change(&mut document);
        Verified::sign(document, &signing_key(200)).unwrap_err().reason() == "document_rule"
    };
    assert!(refuse(&|document| document.network.clear()));
    assert!(refuse(&|document| document.epoch_length_ms = document.skew_ms));
    assert!(refuse(&|document| document.epoch_length_ms = u64::MAX));
    assert!(refuse(&|document| document.mean_delay_ms = 60_001));
    assert!(refuse(&|document| document.mean_delay_ms = document.epoch_length_ms / 10 + 1));
    assert!(refuse(&|document| document.fresh_until_ms = document.valid_after_ms));
    assert!(refuse(&|document| document.valid_until_ms = document.fresh_until_ms - 1));
    assert!(refuse(&|document| document.nodes.push(document.nodes[0].clone())));
    assert!(refuse(&|document| document.nodes[0].descriptor.keys.clear()));
    assert!(refuse(&|document| document.nodes[0].operator.clear()));
    assert!(refuse(&|document| document.nodes[0].operator = "x".repeat(65)));
    assert!(refuse(&|document| document.nodes[0].operator = "\u{7}".to_owned()));
    let refuse = |change: &dyn Fn(&mut WorkerDescriptor)| {
        let mut document = worker(1);
        change(&mut document);
        Verified::sign(document, &signing_key(1)).is_err()
    };
    assert!(refuse(&|document| document.slots = 0));
    assert!(refuse(&|document| document.kinds.clear()));
    assert!(refuse(&|document| document.groups = vec!["g".to_owned(); 33]));
    assert!(refuse(&|document| document.name = "x".repeat(65)));
    for wrong in [(0, 1, 1), (1 << 53, 1, 1), (1, u64::MAX, 1), (1, 1, 1 << 53)] {
        let (wall_ms, scratch_bytes, output_bytes) = wrong;
        let limits = WorkerLimits { wall_ms, scratch_bytes, output_bytes };
        assert!(refuse(&|document| document.limits = Some(limits)), "{limits:?}");
    }
    assert!(!refuse(&|document| document.limits = None));
    for hops in [0, 8, 255] {
        assert!(refuse(&|document| document.level = Some(hops)), "{hops}");
    }
    assert!([None, Some(1), Some(7)].into_iter().all(|level| !refuse(&|document| document.level = level)));
}

#[test]
fn consensuses_form_a_chain_that_ignores_signatures() {
    let mut one = Verified::sign(consensus(nodes(1)), &signing_key(200)).unwrap();
    let before = one.hash();
    one.add_signature(&signing_key(201));
    assert_eq!(one.hash(), before);
    let next = Consensus { previous_hash: before, ..consensus(nodes(1)) };
    assert_ne!(Verified::sign(next, &signing_key(200)).unwrap().hash(), before);
}

/// INV-MSG-22: a view says when it may be used.
#[test]
fn a_view_knows_its_nodes_and_its_time() {
    let view = view(3);
    assert_eq!((view.edges().count(), view.middles().count(), view.nodes().count()), (4, 3, 7));
    assert_eq!(view.node(id(10)).unwrap().role(), Role::Middle);
    assert!(view.node(id(77)).is_none());
    assert_eq!(view.hop(id(10), EPOCH).unwrap().node, id(10));
    assert!(view.hop(id(10), Epoch(1)).is_none());
    let (after, until) = (view.consensus().valid_after_ms, view.consensus().valid_until_ms);
    let checks = [(after - 30_001, false), (after - 30_000, true), (after, true), (until - 1, true), (until, false)];
    for (now_ms, valid) in checks {
        assert_eq!(view.is_valid_at(now_ms), valid, "{now_ms}");
    }
    assert!(!view.one_operator() && view_of(Consensus { one_operator: true, ..consensus(nodes(0)) }).one_operator());
}

/// INV-MSG-18: keys are used one clock skew late, but for those of nodes that began with the epoch and have no other.
#[test]
fn who_sends_waits_for_the_end_of_an_epoch_that_some_edge_has_a_key_of() {
    let mut all = nodes(1);
    let start_ms = consensus(Vec::new()).valid_after_ms;
    let skew_ms = consensus(Vec::new()).skew_ms;
    let epochs = |nodes: &[Member]| {
        let view = view_of(consensus(nodes.to_vec()));
        [start_ms - 1, start_ms, start_ms + skew_ms - 1, start_ms + skew_ms].map(|now_ms| view.sending_epoch(now_ms))
    };
    let late = EPOCH.previous();
    assert_eq!([late, late, late, EPOCH], epochs(&all));
    for node in all.iter_mut().skip(1) {
        node.descriptor.keys.remove(&late);
    }
    assert_eq!([late, late, late, EPOCH], epochs(&all));
    all[0].descriptor.keys.remove(&late);
    assert_eq!([EPOCH; 4], epochs(&all));
}

/// INV-LINK-93: a descriptor that does not say its limits is taken; one that says a part of them is not.
#[test]
fn workers_may_keep_their_limits_to_themselves() {
    let content = serde_json::to_string(&worker(1)).unwrap();
    let limits = r#","limits":{"wall_ms":3600000,"scratch_bytes":536870912,"output_bytes":0}"#;
    let silent = serde_json::from_str::<WorkerDescriptor>(&content.replace(limits, "")).unwrap();
    assert_eq!(WorkerDescriptor { limits: None, ..worker(1) }, silent);
    // So it was written before there were limits.
    assert_eq!(serde_json::to_string(&silent).unwrap(), content.replace(limits, ""));
    assert!(serde_json::from_str::<WorkerDescriptor>(&content).is_ok());
    for (wrong, right) in
        [(r#","output_bytes":0"#, ""), (":536870912", ":-1"), (":3600000", ":1.5"), ("wall_ms", "fuel")]
    {
        assert!(serde_json::from_str::<WorkerDescriptor>(&content.replace(wrong, right)).is_err(), "{wrong}");
    }
}

#[test]
fn worker_lists_leave_out_what_does_not_hold() {
    let sign = |worker: WorkerDescriptor, key| Verified::sign(worker, &signing_key(key)).unwrap().signed().clone();
    let mut changed = sign(worker(2), 2);
    changed.content = changed.content.replace("\"slots\":2", "\"slots\":9");
    let old = WorkerDescriptor { issued_ms: 1, expires_ms: NOW_MS, ..worker(3) };
    let list = WorkerList { epoch: EPOCH, revision: 1, workers: vec![sign(worker(1), 1), changed, sign(old, 3)] };
    let names: Vec<_> = list.verified(NOW_MS).iter().map(|worker| worker.name.clone()).collect();
    assert_eq!(names, ["worker 1"]);
}

/// INV-MSG-17: an address survives its text form, and a damaged text is refused.
#[test]
fn damaged_addresses_are_refused() {
    let address = Address::new(vec![mailbox(0), mailbox(3)], [0x42; 32]).unwrap();
    let text = address.to_string();
    assert!(text.starts_with("fog1") && text.len() < 256);
    assert_eq!(text.parse::<Address>().unwrap(), address);
    assert_eq!(format!(" {text}\n").parse::<Address>().unwrap(), address);
    for place in 0..text.len() {
        for letter in ["a", "7", "q", "1", "ü", ""] {
            let changed = format!("{}{letter}{}", &text[..place], &text[place + 1..]);
            if changed != text {
                assert!(changed.parse::<Address>().is_err(), "{changed}");
            }
        }
    }
    assert_eq!("fog2abc".parse::<Address>().unwrap_err(), AddressError::NotAnAddress);
    assert_eq!("".parse::<Address>().unwrap_err(), AddressError::NotAnAddress);
    assert_eq!("fog1".parse::<Address>().unwrap_err(), AddressError::NotAnAddress);
    assert!(format!("fog1{}", "a".repeat(100_000)).parse::<Address>().is_err());
}

#[test]
fn addresses_list_one_to_eight_different_edges() {
    let make = |numbers: &[u8]| Address::new(numbers.iter().map(|number| mailbox(*number)).collect(), [0; 32]);
    assert_eq!(make(&[]).unwrap_err(), AddressError::Mailboxes);
    assert_eq!(make(&[1, 1]).unwrap_err(), AddressError::Mailboxes);
    assert!(make(&[1, 2, 3, 4, 5, 6, 7, 8]).is_ok());
    assert_eq!(make(&[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap_err(), AddressError::Mailboxes);
}

proptest! {
    #[test]
    fn addresses_round_trip(numbers in prop::collection::hash_set(0_u8..250, 1..=8), key: [u8; 32]) {
        let address = Address::new(numbers.into_iter().map(mailbox).collect(), key).unwrap();
        prop_assert_eq!(&address.to_string().parse::<Address>().unwrap(), &address);
        prop_assert_eq!(&Address::parse(&address.to_bytes()).unwrap(), &address);
        let json = serde_json::to_string(&address).unwrap();
        prop_assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
    }

    /// INV-MSG-16: no text makes a parser panic.
    #[test]
    fn parsers_take_any_text(text: String, bytes: Vec<u8>) {
        let _ = text.parse::<Address>();
        let _ = format!("fog1{text}").parse::<Address>();
        let _ = Address::parse(&bytes);
        let signed = Signed { content: text, signatures: Vec::new() };
        prop_assert!(signed.verify_node().is_err() && signed.verify_worker().is_err());
    }
}

/// Nothing random enters a signature, so peers that sign or hash the same document get the same bytes.
#[test]
fn signing_is_deterministic() {
    let sign = || Verified::sign(consensus(nodes(2)), &signing_key(200)).unwrap();
    assert_eq!(sign().signed(), sign().signed());
    assert_eq!(sign().hash(), sign().hash());
}

/// INV-DELAY-08: the beacon after a consensus depends on what its first revision says, not on who signed it.
#[test]
fn a_beacon_follows_from_contents_and_not_from_signatures() {
    let mut first = Verified::sign(consensus(nodes(1)), &signing_key(200)).unwrap();
    let beacon = first.next_beacon();
    assert_eq!(beacon, Beacon::after(first.hash()));
    first.add_signature(&signing_key(201));
    assert_eq!(beacon, first.next_beacon());
    let other = Verified::sign(consensus(nodes(2)), &signing_key(200)).unwrap();
    assert_ne!(beacon, other.next_beacon());
    let delays = DelaySection { opening_hash: first.hash(), ..DelaySection::default() };
    let revised = Consensus { revision: 1, delays, ..consensus(nodes(2)) };
    assert_eq!(beacon, Verified::sign(revised.clone(), &signing_key(200)).unwrap().next_beacon());
    // A revision names the first, and the first names none.
    assert!(Verified::sign(Consensus { revision: 0, ..revised }, &signing_key(200)).is_err());
    assert!(Verified::sign(Consensus { revision: 1, ..consensus(nodes(2)) }, &signing_key(200)).is_err());
    // Computed by `hashlib` from docs/spec/delays.md.
    let expected = "d45673ba25728f76c55d6928311fa5999374006922f2df0f0fbe8925436f5092";
    assert_eq!(format!("{:?}", Beacon::genesis("local")), format!("Beacon({expected})"));
    let input = Beacon::genesis("local").input(Epoch(5));
    assert_eq!(hex::encode(input), format!("0000000000000005{expected}"));
}

/// INV-DELAY-02: a published proof holds for its key, epoch and beacon, and for the β beside it.
#[test]
fn published_proofs_are_checked_whole() {
    let key = vrf::VrfSecretKey::from_seed(&[1; 32]);
    let beacon = Beacon::genesis("one");
    let (output, published) = DelayProof::make(&key, EPOCH, &beacon);
    assert_eq!(published.verify(&key.public(), &beacon).unwrap(), output);
    let other = vrf::VrfSecretKey::from_seed(&[2; 32]);
    assert!(published.verify(&other.public(), &beacon).is_err());
    assert!(published.verify(&key.public(), &Beacon::genesis("two")).is_err());
    assert!(DelayProof { epoch: EPOCH.next(), ..published.clone() }.verify(&key.public(), &beacon).is_err());
    for bit in 0..512 {
        let mut forged = published.clone();
        forged.beta[bit / 8] ^= 1 << (bit % 8);
        assert!(forged.verify(&key.public(), &beacon).is_err(), "bit {bit}");
    }
    let descriptor = NodeDescriptor { delay_proofs: vec![published.clone(); 2], ..node(0, Role::Middle, 0) };
    assert!(Verified::sign(descriptor, &signing_key(0)).is_err());
    let proof = |number: u64| DelayProof { epoch: Epoch(number), ..published.clone() };
    for (count, fits) in [(4, true), (5, false)] {
        let descriptor = NodeDescriptor { delay_proofs: (0..count).map(proof).collect(), ..node(0, Role::Middle, 0) };
        assert_eq!(Verified::sign(descriptor, &signing_key(0)).is_ok(), fits);
    }
}

/// The proof of an epoch is demanded when its node has had at least one whole epoch to show it.
#[test]
fn a_proof_is_due_a_whole_epoch_after_it_may_be_published() {
    for (length_ms, mean_ms) in [(600_000, 15), (20_000, 15), (3_000, 5), (20_000, 60_000), (20_000, 0), (10_000, 750)]
    {
        let clock = EpochClock::new(length_ms, 0).unwrap();
        let seed = DelaySeed { beacon: Beacon::default(), mean_ms };
        let signed = |epoch: Epoch| clock.start_of(epoch) - length_ms / 4;
        let due = proof_due(EPOCH, mean_ms, &clock);
        let enough = seed.reveal_ms(EPOCH, &clock) + length_ms;
        assert!(signed(due) >= enough && signed(due.previous()) < enough, "{length_ms} {mean_ms}");
    }
    assert_eq!(proof_due(EPOCH, 15, &EpochClock::new(600_000, 0).unwrap()), Epoch(EPOCH.0 + 4));
}
