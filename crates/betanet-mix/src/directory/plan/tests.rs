#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

use crate::view::{DelayProof, Fault, Role, node_id_of};
use crate::vrf;
use betanet_sphinx::SecretKey;

use super::*;
use crate::directory::{Consensuses, NetworkConstants};
use crate::fixtures::fresh_rng;

const LENGTH: u64 = 10_000;
const START: u64 = 1000 * LENGTH;

fn terms(expect: usize) -> Terms {
    let constants =
        NetworkConstants { network: "test".into(), epoch_length_ms: LENGTH, skew_ms: LENGTH / 10, mean_delay_ms: 15 };
    Terms { constants, expect, one_operator: true, door: Door::Open }
}

fn ledger(expect: usize, saved: &Saved) -> Ledger {
    Ledger::open(&terms(expect), clock(), saved, START)
}

fn clock() -> EpochClock {
    EpochClock::new(LENGTH, LENGTH / 10).unwrap()
}

fn descriptor(key: &SigningKey, epochs: &[u64], issued_ms: u64) -> Signed {
    showing(key, epochs, issued_ms, &vrf_key(key), Vec::new())
}

/// Every node's VRF key follows from its identity here.
fn vrf_key(key: &SigningKey) -> vrf::VrfSecretKey {
    vrf::VrfSecretKey::from_seed(key.as_bytes())
}

fn showing(
    key: &SigningKey,
    epochs: &[u64],
    issued_ms: u64,
    vrf_key: &vrf::VrfSecretKey,
    delay_proofs: Vec<DelayProof>,
) -> Signed {
    let node = NodeDescriptor {
        id: node_id_of(key),
        role: Role::Middle,
        link_address: "127.0.0.1:1".parse().unwrap(),
        keys: epochs.iter().map(|epoch| (Epoch(*epoch), SecretKey::generate(&mut fresh_rng()).public())).collect(),
        vrf_key: vrf_key.public(),
        delay_proofs,
        issued_ms,
        expires_ms: issued_ms + 3 * LENGTH,
    };
    Verified::sign(node, key).unwrap().signed().clone()
}

fn key() -> SigningKey {
    SigningKey::generate(&mut fresh_rng())
}

/// INV-LINK-08
#[test]
fn the_first_consensus_waits_for_the_expected_nodes_and_comes_at_once() {
    let (signer, one, two) = (key(), key(), key());
    let mut ledger = ledger(2, &Saved::default());
    ledger.put_node(node_id_of(&one), &descriptor(&one, &[1000], START), Shown::default(), START).unwrap();
    assert!(ledger.due(&signer, START).unwrap().is_empty());
    ledger.put_node(node_id_of(&two), &descriptor(&two, &[1000], START), Shown::default(), START).unwrap();
    let due = ledger.due(&signer, START).unwrap();
    assert_eq!(1, due.len());
    assert_eq!((Epoch(1000), 0, 2), (due[0].epoch, due[0].revision, due[0].nodes.len()));
    assert!(ledger.due(&signer, START + 1).unwrap().is_empty());
}

/// INV-LINK-08
#[test]
fn a_network_with_a_dead_node_starts_without_it() {
    let (signer, one) = (key(), key());
    let mut ledger = ledger(2, &Saved::default());
    let late = START + GENESIS_PATIENCE_MS;
    ledger.put_node(node_id_of(&one), &descriptor(&one, &[1001], late), Shown::default(), late).unwrap();
    assert_eq!(1, ledger.due(&signer, late).unwrap().len());
}

/// INV-LINK-08
#[test]
fn the_next_epoch_is_published_a_quarter_before_it_starts() {
    let (signer, one) = (key(), key());
    let mut ledger = ledger(1, &Saved::default());
    let node = descriptor(&one, &[1000, 1001], START);
    ledger.put_node(node_id_of(&one), &node, Shown::default(), START).unwrap();
    let first = ledger.due(&signer, START).unwrap().remove(0);
    let ahead = START + LENGTH - LENGTH / 4;
    assert!(ledger.due(&signer, ahead - 1).unwrap().is_empty());
    let next = ledger.due(&signer, ahead).unwrap().remove(0);
    assert_eq!((Epoch(1001), 0), (next.epoch, next.revision));
    assert_eq!(first.hash(), next.previous_hash);
    assert_eq!(START + LENGTH, next.valid_after_ms);
}

/// INV-LINK-59
#[test]
fn an_epoch_is_revised_for_a_node_that_comes_back_after_the_next_one_was_signed() {
    let (signer, one) = (key(), key());
    let mut ledger = ledger(1, &Saved::default());
    ledger.put_node(node_id_of(&one), &descriptor(&one, &[1000, 1001], START), Shown::default(), START).unwrap();
    let opening = ledger.due(&signer, START).unwrap().remove(0);
    let ahead = START + LENGTH - LENGTH / 4;
    let next = ledger.due(&signer, ahead).unwrap().remove(0);
    // It has lost its keys, and publishes others for both epochs.
    let back = descriptor(&one, &[1000, 1001], ahead + 1);
    ledger.put_node(node_id_of(&one), &back, Shown::default(), ahead + 1).unwrap();
    let revised = ledger.due(&signer, ahead + 1 + LENGTH / 20).unwrap();
    let named: Vec<_> = revised.iter().map(|one| (one.epoch.0, one.revision, one.previous_hash)).collect();
    assert_eq!(vec![(1000, 1, opening.hash()), (1001, 1, next.hash())], named);
    let keys = back.verify_node().unwrap().keys.clone();
    assert!(revised.iter().all(|one| one.nodes[0].keys == keys));

    // Who holds what was signed before takes both, and sends by the revised one until the boundary.
    let mut held = Consensuses::new("test".into(), node_id_of(&signer));
    for one in [&opening, &next].into_iter().chain(&revised) {
        assert!(held.accept(one.signed(), ahead).unwrap());
    }
    assert_eq!(revised[0].hash(), held.at(ahead + LENGTH / 20).unwrap().hash());
    assert_eq!(revised[1].hash(), held.at(START + LENGTH).unwrap().hash());

    // The chain goes on from the latest epoch, also after a restart.
    let again = Ledger::open(&terms(1), clock(), &ledger.save(), ahead + LENGTH / 10);
    assert_eq!(vec![1000, 1001], again.consensuses.iter().map(|one| one.epoch.0).collect::<Vec<_>>());
    assert_eq!(revised[1].hash(), again.tip.unwrap().hash);
}

/// INV-LINK-08
#[test]
fn changed_keys_lead_to_one_revision_after_they_have_settled() {
    let (signer, one) = (key(), key());
    let mut ledger = ledger(1, &Saved::default());
    let node = descriptor(&one, &[1000, 1001], START);
    ledger.put_node(node_id_of(&one), &node, Shown::default(), START).unwrap();
    ledger.due(&signer, START).unwrap();
    let node = descriptor(&one, &[1000, 1001], START + 10);
    ledger.put_node(node_id_of(&one), &node, Shown::default(), START + 10).unwrap();
    assert!(ledger.due(&signer, START + 20).unwrap().is_empty());
    let settled = START + 10 + LENGTH / 20;
    let due = ledger.due(&signer, settled).unwrap();
    assert_eq!(vec![1], due.iter().map(|one| one.revision).collect::<Vec<_>>());
    assert!(ledger.due(&signer, settled + 1).unwrap().is_empty());
}

/// INV-LINK-90
#[test]
fn a_node_that_publishes_all_the_time_holds_up_no_revision() {
    let (signer, one, two) = (key(), key(), key());
    let mut ledger = ledger(2, &Saved::default());
    let put = |ledger: &mut Ledger, node: &SigningKey, descriptor: &Signed, now_ms| {
        ledger.put_node(node_id_of(node), descriptor, Shown::default(), now_ms).unwrap();
    };
    let restless = descriptor(&two, &[1000, 1001], START);
    put(&mut ledger, &one, &descriptor(&one, &[1000, 1001], START), START);
    put(&mut ledger, &two, &restless, START);
    assert_eq!(1, ledger.due(&signer, START).unwrap().len());
    let restless = restless.verify_node().unwrap();
    let mut now = START;
    // The second change is held up no longer than the first was.
    for revision in 1..=2 {
        now += 10;
        let changed = (now, descriptor(&one, &[1000, 1001], now));
        put(&mut ledger, &one, &changed.1, now);
        let revised = loop {
            now += 200;
            assert!(now <= changed.0 + 3_000, "not revised");
            let again = NodeDescriptor { issued_ms: now, ..(*restless).clone() };
            put(&mut ledger, &two, Verified::sign(again, &two).unwrap().signed(), now);
            if let Some(revised) = ledger.due(&signer, now).unwrap().pop() {
                break revised;
            }
        };
        assert_eq!((Epoch(1000), revision), (revised.epoch, revised.revision));
        let keys = &revised.nodes.iter().find(|node| node.id == node_id_of(&one)).unwrap().keys;
        assert_eq!(&changed.1.verify_node().unwrap().keys, keys);
    }
}

/// INV-LINK-08
#[test]
fn a_restarted_authority_goes_on_with_the_chain() {
    let (signer, one) = (key(), key());
    let mut first = ledger(1, &Saved::default());
    let node = descriptor(&one, &[1000, 1001], START);
    first.put_node(node_id_of(&one), &node, Shown::default(), START).unwrap();
    let consensus = first.due(&signer, START).unwrap().remove(0);
    let text = serde_json::to_string(&first.save()).unwrap();

    let mut second = ledger(1, &serde_json::from_str(&text).unwrap());
    assert!(second.due(&signer, START + 1).unwrap().is_empty());
    let next = second.due(&signer, START + LENGTH - 1).unwrap().remove(0);
    assert_eq!(consensus.hash(), next.previous_hash);
}

#[test]
fn foreign_and_outdated_descriptors_are_refused() {
    let (one, two) = (key(), key());
    let mut ledger = ledger(1, &Saved::default());
    let node = descriptor(&one, &[1000], START);
    assert!(ledger.put_node(node_id_of(&two), &node, Shown::default(), START).is_err());
    assert!(ledger.put_node(node_id_of(&one), &node, Shown::default(), START + 100 * LENGTH).is_err());
    ledger.put_node(node_id_of(&one), &node, Shown::default(), START).unwrap();
    let older = descriptor(&one, &[1000], START - 1);
    assert!(ledger.put_node(node_id_of(&one), &older, Shown::default(), START).is_err());
    let lasting = descriptor(&two, &[1000], START + LENGTH + 1);
    let refused = ledger.put_node(node_id_of(&two), &lasting, Shown::default(), START).unwrap_err();
    assert!(refused.contains("4 epochs"), "{refused}");
}

#[test]
fn what_has_been_told_is_not_sorted_out_again_until_something_changes() {
    let (one, two) = (key(), key());
    let mut run = Run::start(&[&one]);
    let later = START + LENGTH / 2;
    assert!(run.due(later).is_empty());
    assert_eq!(BTreeSet::from([(Epoch(1000), true)]), run.ledger.told);
    run.publish(1000, [(&two, Vec::new())]);
    assert!(run.ledger.told.is_empty());
    assert_eq!(1, run.due(later).len());
}

/// The epochs that a node at the start of `epoch` has keys for.
fn held(epoch: u64) -> [u64; 3] {
    [epoch - 1, epoch, epoch + 1]
}

fn start_of(epoch: u64) -> u64 {
    epoch * LENGTH
}

/// A network of its own with nodes that publish their keys each epoch, from 1000 on.
struct Run {
    signer: SigningKey,
    ledger: Ledger,
    beacons: BTreeMap<Epoch, Beacon>,
}

impl Run {
    fn start(nodes: &[&SigningKey]) -> Self {
        let mut run = Self { signer: key(), ledger: ledger(nodes.len(), &Saved::default()), beacons: BTreeMap::new() };
        run.publish(1000, nodes.iter().map(|node| (*node, Vec::new())));
        assert_eq!(1, run.due(START).len());
        run
    }

    /// The authority is ended and started again at `now_ms`.
    fn restart(&mut self, now_ms: u64) {
        let text = serde_json::to_string(&self.ledger.save()).unwrap();
        self.ledger = Ledger::open(&terms(1), clock(), &serde_json::from_str(&text).unwrap(), now_ms);
    }

    fn publish<'a>(&mut self, epoch: u64, nodes: impl IntoIterator<Item = (&'a SigningKey, Vec<DelayProof>)>) {
        for (node, proofs) in nodes {
            self.put(node, &showing(node, &held(epoch), start_of(epoch), &vrf_key(node), proofs), start_of(epoch))
                .unwrap();
        }
    }

    fn put(&mut self, node: &SigningKey, descriptor: &Signed, now_ms: u64) -> Result<(), String> {
        self.ledger.put_node(node_id_of(node), descriptor, Shown::default(), now_ms)
    }

    fn due(&mut self, now_ms: u64) -> Vec<Verified<Consensus>> {
        let due = self.ledger.due(&self.signer, now_ms).unwrap();
        self.beacons.extend(due.iter().map(|one| (one.epoch, one.delays.beacon)));
        due
    }

    /// The consensus of `epoch`, signed ahead of it.
    fn ahead(&mut self, epoch: u64) -> Verified<Consensus> {
        let mut due = self.due(start_of(epoch) - LENGTH / 4);
        due.retain(|one| one.epoch == Epoch(epoch));
        due.pop().unwrap()
    }

    fn proof(&self, node: &SigningKey, epoch: u64) -> DelayProof {
        DelayProof::make(&vrf_key(node), Epoch(epoch), &self.beacons[&Epoch(epoch)]).1
    }
}

fn lists(consensus: &Consensus, node: &SigningKey) -> bool {
    consensus.nodes.iter().any(|one| one.id == node_id_of(node))
}

/// INV-DELAY-08
#[test]
fn all_revisions_of_an_epoch_state_one_beacon_and_lead_to_one() {
    let (one, two) = (key(), key());
    let mut run = Run::start(&[&one]);
    let first = run.ledger.consensuses[0].clone();
    assert_eq!(Beacon::genesis("test"), first.delays.beacon);
    run.publish(1000, [(&two, Vec::new())]);
    let revised = run.due(START + LENGTH / 2).remove(0);
    assert_eq!((1, first.delays.beacon), (revised.revision, revised.delays.beacon));
    assert_eq!((first.hash(), first.next_beacon()), (revised.opening_hash(), revised.next_beacon()));
    let next = run.ahead(1001);
    assert_eq!((Beacon::after(first.hash()), revised.hash()), (next.delays.beacon, next.previous_hash));
    // After a pause of more than an epoch it still follows from the consensus before.
    let proofs = [1000, 1001].map(|epoch| run.proof(&one, epoch)).into();
    run.publish(1005, [(&one, proofs)]);
    let later = run.due(start_of(1005)).remove(0);
    assert_eq!((Epoch(1005), next.next_beacon()), (later.epoch, later.delays.beacon));
}

/// INV-DELAY-12
#[test]
fn a_vrf_key_stands_in_a_consensus_before_its_node_carries_traffic() {
    let (one, two) = (key(), key());
    let mut run = Run::start(&[&one]);
    run.publish(1000, [(&two, Vec::new())]);
    // Nobody's key stands before a network's first epoch, and whoever comes in it waits for nothing.
    assert!(lists(&run.due(START + LENGTH / 2).remove(0), &two));
    assert!(lists(&run.ahead(1001), &two));

    let three = key();
    run.publish(1001, [(&one, Vec::new()), (&two, Vec::new()), (&three, Vec::new())]);
    let announced = run.ahead(1002);
    assert!(lists(&announced, &two) && !lists(&announced, &three));
    assert!(announced.shows_key(node_id_of(&three), &vrf_key(&three).public()));
    run.publish(1002, [(&one, Vec::new()), (&two, Vec::new()), (&three, Vec::new())]);
    assert!(lists(&run.ahead(1003), &three));
}

/// INV-DELAY-12: whoever knows a consensus of an epoch knows the next beacon, and could choose a key by it. It waits an
/// epoch more, whatever makes the authority revise the consensus meanwhile.
#[test]
fn a_vrf_key_that_comes_after_the_next_beacon_is_known_waits_for_the_one_after() {
    let (one, two, other) = (key(), key(), vrf::VrfSecretKey::from_seed(&[9; 32]));
    let mut run = Run::start(&[&one, &two]);
    let shown = run.ahead(1001);
    run.publish(1001, [(&one, Vec::new())]);
    let late = showing(&two, &held(1001), start_of(1001), &other, Vec::new());
    run.put(&two, &late, start_of(1001)).unwrap();
    // A node that changes its key is out of this epoch, which leads to a revision.
    let revised = run.due(start_of(1001) + LENGTH / 2).pop().unwrap();
    assert_eq!((Epoch(1001), shown.next_beacon()), (revised.epoch, revised.next_beacon()));
    assert!(!lists(&revised, &two) && !revised.shows_key(node_id_of(&two), &other.public()));
    let next = run.ahead(1002);
    assert!(!lists(&next, &two) && next.shows_key(node_id_of(&two), &other.public()));
    run.publish(1002, [(&one, Vec::new())]);
    let again = showing(&two, &held(1002), start_of(1002), &other, Vec::new());
    run.put(&two, &again, start_of(1002)).unwrap();
    // Nor does a restart of the authority in between bring it in sooner, or keep it out.
    run.restart(start_of(1002) + LENGTH / 2);
    let after = run.ahead(1003);
    assert!(after.nodes.iter().any(|node| node.vrf_key == other.public()));
}

/// INV-DELAY-11
#[test]
fn a_node_that_does_not_show_its_proof_is_named_and_left_out_until_it_does() {
    let (one, two) = (key(), key());
    let mut run = Run::start(&[&one, &two]);
    for epoch in 1001..1004 {
        run.ahead(epoch);
        let proofs = if epoch == 1003 { vec![run.proof(&one, 1000)] } else { Vec::new() };
        // The second node shows nothing.
        run.publish(epoch, [(&one, proofs), (&two, Vec::new())]);
    }
    // Its key of epoch 1000 passed at 1002; a whole epoch later the proof is demanded.
    assert!(lists(&run.ledger.consensuses.last().unwrap().clone(), &two));
    let demanding = run.ahead(1004);
    assert!(lists(&demanding, &one) && !lists(&demanding, &two));
    let named: Vec<_> = demanding.delays.left_out.iter().map(|node| (node.id, node.epoch, node.fault)).collect();
    assert_eq!(vec![(node_id_of(&two), Epoch(1000), Fault::Missing)], named);
    // What was checked is published.
    let shown = &demanding.nodes.iter().find(|node| node.id == node_id_of(&one)).unwrap().delay_proofs;
    assert_eq!(&vec![run.proof(&one, 1000)], shown);

    let proof = run.proof(&two, 1000);
    run.publish(1004, [(&two, vec![proof])]);
    let revised = run.due(start_of(1004) + LENGTH / 2).remove(0);
    assert!(lists(&revised, &two) && revised.delays.left_out.is_empty());
}

/// INV-DELAY-11
#[test]
fn a_wrong_or_early_proof_is_refused_and_a_wrong_one_is_named() {
    let (one, two) = (key(), key());
    let mut run = Run::start(&[&one, &two]);
    let honest = run.proof(&two, 1000);
    run.ahead(1001);
    let early = showing(&two, &held(1001), start_of(1001), &vrf_key(&two), vec![honest.clone()]);
    assert!(run.put(&two, &early, start_of(1001)).unwrap_err().contains("in use"));
    run.publish(1001, [(&one, Vec::new()), (&two, Vec::new())]);
    run.ahead(1002);
    run.publish(1002, [(&one, Vec::new()), (&two, Vec::new())]);
    let now = start_of(1002) + LENGTH / 2;
    let beta = DelayProof { beta: [7; 64], ..honest.clone() };
    let mut proof = honest.clone();
    proof.proof[50] ^= 1;
    let foreign = run.proof(&one, 1000);
    for wrong in [beta, proof, foreign] {
        let descriptor = showing(&two, &held(1002), now, &vrf_key(&two), vec![wrong]);
        assert!(run.put(&two, &descriptor, now).unwrap_err().contains("refused"));
    }
    let next = run.ahead(1003);
    assert!(lists(&next, &one) && !lists(&next, &two));
    assert_eq!(Fault::Wrong, next.delays.left_out[0].fault);
    let descriptor = showing(&two, &held(1003), start_of(1003), &vrf_key(&two), vec![honest]);
    run.put(&two, &descriptor, start_of(1003)).unwrap();
    run.publish(1003, [(&one, Vec::new())]);
    assert!(lists(&run.due(start_of(1003) + LENGTH / 2).remove(0), &two));
}

/// INV-DELAY-11: a restarted authority knows who owes what, and waits an epoch for what it may have missed.
#[test]
fn duties_survive_a_restart_of_the_authority() {
    let (one, two) = (key(), key());
    let mut run = Run::start(&[&one, &two]);
    for epoch in 1001..1004 {
        run.ahead(epoch);
        run.publish(epoch, [(&one, Vec::new()), (&two, Vec::new())]);
    }
    run.restart(start_of(1004) - LENGTH / 2);
    assert!(lists(&run.ahead(1004), &two));
    let shown: Vec<_> = [1000, 1001].map(|epoch| run.proof(&one, epoch)).into();
    run.publish(1004, [(&one, shown), (&two, Vec::new())]);
    let next = run.ahead(1005);
    assert!(lists(&next, &one) && !lists(&next, &two));
    assert_eq!((Epoch(1000), Fault::Missing), (next.delays.left_out[0].epoch, next.delays.left_out[0].fault));
}

/// INV-LINK-24
#[test]
fn an_authority_whose_clock_was_set_back_far_drops_the_future_and_goes_on_with_another_beacon() {
    let one = key();
    let mut run = Run::start(&[&one]);
    let last = run.ahead(1001);
    let back = 500;
    let saved = run.ledger.save();
    assert_eq!(start_of(back), saved.present(&run.ledger.clock, start_of(back)));
    run.restart(start_of(back));
    assert_eq!(0, run.ledger.consensuses().count());
    run.publish(back, [(&one, Vec::new())]);
    let first = run.due(start_of(back)).remove(0);
    assert_eq!((Epoch(back), 0, last.hash()), (first.epoch, first.revision, first.previous_hash));
    // The same epoch may have been lived through before: what nodes told of it then must not fit now.
    assert_eq!(last.next_beacon(), first.delays.beacon);
    assert!(lists(&run.ahead(back + 1), &one));
    // Another restart forgets nothing of it.
    run.restart(start_of(back) + LENGTH / 2);
    assert_eq!(2, run.ledger.consensuses().count());
}

/// INV-LINK-24
#[test]
fn a_clock_that_went_back_a_little_makes_no_epoch_happen_twice() {
    let mut run = Run::start(&[&key()]);
    run.ahead(1001);
    let saved = run.ledger.save();
    let signed = start_of(1001) - LENGTH / 4;
    let clock = run.ledger.clock;
    for (shown, present) in [
        (signed + 5, signed + 5),
        (signed - 5, signed),
        (signed - 16 * LENGTH, signed),
        (signed - 16 * LENGTH - 1, signed - 16 * LENGTH - 1),
    ] {
        assert_eq!(present, saved.present(&clock, shown));
    }
    assert_eq!(7, Saved::default().present(&clock, 7));
}

/// INV-LINK-24
#[test]
fn a_descriptor_with_a_date_of_the_future_does_not_stand_in_the_way_of_later_ones() {
    let one = key();
    let mut ledger = ledger(1, &Saved::default());
    let ahead = descriptor(&one, &[1000], START + LENGTH / 2);
    ledger.put_node(node_id_of(&one), &ahead, Shown::default(), START).unwrap();
    let right = descriptor(&one, &[1000], START + 1);
    ledger.put_node(node_id_of(&one), &right, Shown::default(), START + 1).unwrap();
}

/// INV-DELAY-13: all nodes were away together, and nobody has seen the consensuses that listed them.
#[test]
fn a_network_without_a_good_node_opens_again_and_starts_its_accounts_anew() {
    let (one, two) = (key(), key());
    let mut run = Run::start(&[&one, &two]);
    run.ahead(1001);
    for epoch in 1002..1007 {
        assert!(run.due(start_of(epoch)).is_empty());
    }
    // They come back one after the other; the first is not alone for ever, and the second not late.
    run.publish(1007, [(&one, Vec::new())]);
    assert!(run.due(start_of(1007)).is_empty());
    run.publish(1007, [(&two, Vec::new())]);
    let again = run.due(start_of(1007) + 1).remove(0);
    assert!(lists(&again, &one) && lists(&again, &two) && again.delays.left_out.is_empty());
    run.publish(1008, [(&one, Vec::new()), (&two, Vec::new())]);
    assert!(lists(&run.ahead(1008), &two));
    // From here on everything is owed again.
    for epoch in 1009..1011 {
        run.publish(epoch - 1, [(&one, Vec::new()), (&two, Vec::new())]);
        run.ahead(epoch);
    }
    let owed: Vec<_> = run.ledger.owed_by(node_id_of(&two)).iter().map(|owed| owed.epoch.0).collect();
    assert_eq!(vec![1007, 1008, 1009, 1010], owed);
}

/// INV-DELAY-13
#[test]
fn a_paused_network_does_not_wait_for_ever_for_those_who_stay_away() {
    let (one, two) = (key(), key());
    let mut run = Run::start(&[&one, &two]);
    run.publish(1007, [(&one, Vec::new())]);
    assert!(run.due(start_of(1007)).is_empty());
    assert!(lists(&run.due(start_of(1007) + LENGTH / 4).remove(0), &one));
}

/// INV-DELAY-14
#[test]
fn who_was_away_is_told_what_to_prove_and_is_back_with_the_next_consensus() {
    let (one, two) = (key(), key());
    let mut run = Run::start(&[&one, &two]);
    let mut shown = 1000;
    // The second node is suspended right after the first epoch's consensus.
    for epoch in 1001..1006 {
        run.ahead(epoch);
        let proofs = if epoch < 1002 { Vec::new() } else { vec![run.proof(&one, shown)] };
        shown += u64::from(epoch > 1001);
        run.publish(epoch, [(&one, proofs)]);
    }
    run.publish(1005, [(&two, Vec::new())]);
    let named = run.due(start_of(1005) + LENGTH / 2).remove(0);
    assert!(!lists(&named, &two));
    let owed = run.ledger.owed_by(node_id_of(&two));
    assert_eq!(vec![Epoch(1000), Epoch(1001)], owed.iter().map(|owed| owed.epoch).collect::<Vec<_>>());
    let proofs = owed.iter().map(|owed| owed.seed.delays(&vrf_key(&two), owed.epoch).1).collect();
    let now = start_of(1005) + LENGTH / 2;
    run.put(&two, &showing(&two, &held(1005), now, &vrf_key(&two), proofs), now).unwrap();
    assert!(run.ledger.owed_by(node_id_of(&two)).is_empty());
    let next = run.ahead(1006);
    assert!(lists(&next, &two) && next.delays.left_out.is_empty());
}

/// INV-DELAY-11
#[test]
fn a_proof_that_was_never_shown_is_forgiven_after_64_epochs() {
    let (one, two) = (key(), key());
    let mut run = Run::start(&[&one, &two]);
    for epoch in 1001..1066 {
        let proofs = if epoch < 1003 { Vec::new() } else { vec![run.proof(&one, epoch - 3)] };
        // The first node alone keeps the network going.
        let both = [(&one, proofs), (&two, Vec::new())];
        run.publish(epoch - 1, both);
        run.ahead(epoch);
        let owes = run.ledger.owed_by(node_id_of(&two)).iter().any(|owed| owed.epoch == Epoch(1000));
        assert_eq!(epoch < 1065, owes, "{epoch}");
    }
}
