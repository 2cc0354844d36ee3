#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_mix::view::{Beacon, Consensus, ConsensusHash, DelaySection, Verified};
use betanet_sphinx::DelayInput;
use ed25519_dalek::SigningKey;

use super::*;
use crate::state::write_private;

fn prepare(delays: &mut Delays, current: Epoch, views: &[NetworkView]) -> Result<(), StateError> {
    if let Some(unwritten) = delays.missing_seeds(current, views) {
        delays.adopt(unwritten.write()?);
    }
    Ok(())
}

const LENGTH_MS: u64 = 20_000;
const MEAN_MS: u64 = 15;
const NOW: Epoch = Epoch(100);

fn clock() -> EpochClock {
    EpochClock::new(LENGTH_MS, 2_000).unwrap()
}

fn view(epoch: Epoch, beacon: Beacon) -> NetworkView {
    let start = clock().start_of(epoch);
    let consensus = Consensus {
        network: "test".into(),
        epoch,
        revision: 0,
        epoch_length_ms: LENGTH_MS,
        skew_ms: clock().skew_ms(),
        mean_delay_ms: MEAN_MS,
        valid_after_ms: start,
        fresh_until_ms: start + LENGTH_MS,
        valid_until_ms: start + 2 * LENGTH_MS,
        previous_hash: ConsensusHash::default(),
        one_operator: true,
        delays: DelaySection { beacon, ..DelaySection::default() },
        nodes: Vec::new(),
    };
    NetworkView::new(Verified::sign(consensus, &SigningKey::from_bytes(&[1; 32])).unwrap()).unwrap()
}

/// The first consensus of a network and those after it.
fn chain(epochs: u64) -> Vec<NetworkView> {
    let mut views = vec![view(NOW, Beacon::genesis("test"))];
    while let Some(last) = views.last().filter(|last| last.consensus().epoch.0 < NOW.0 + epochs) {
        views.push(view(last.consensus().epoch.next(), last.consensus().next_beacon()));
    }
    views
}

fn owed(delays: &Delays, epoch: Epoch) -> Option<std::time::Duration> {
    delays.source(epoch).map(|source| source.owed(&DelayInput::from([7; 16])))
}

fn owed_proof(epoch: Epoch, beacon: Beacon) -> OwedProof {
    OwedProof { epoch, seed: DelaySeed { beacon, mean_ms: MEAN_MS } }
}

/// INV-DELAY-09
#[test]
fn delays_are_the_same_after_a_restart_and_whatever_consensus_comes_later() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let views = chain(2);
    let mut first = Delays::open(&state).unwrap();
    assert_eq!(None, owed(&first, NOW));
    prepare(&mut first, NOW, &views[..1]).unwrap();
    let before = owed(&first, NOW);
    // The key of the epoch before is accepted too; that of the next follows when its time has come.
    assert!(before.is_some() && owed(&first, NOW.previous()).is_some() && owed(&first, NOW.next()).is_none());
    assert_ne!(before, owed(&first, NOW.previous()));
    let key = first.public_key();
    drop(first);

    let mut second = Delays::open(&state).unwrap();
    assert_eq!((key, before), (second.public_key(), owed(&second, NOW)));
    let foreign = [view(NOW, Beacon::genesis("another"))];
    prepare(&mut second, NOW, &foreign).unwrap();
    assert_eq!(before, owed(&second, NOW));
}

/// INV-DELAY-08: with or without its own consensus, an epoch has the same delays.
#[test]
fn an_authority_that_is_away_changes_nothing() {
    let delays_by = |current: Epoch, views: &[NetworkView], epoch: Epoch| {
        let dir = tempfile::tempdir().unwrap();
        write_private(&dir.path().join(KEY_FILE), &[3; 32]).unwrap();
        let mut delays = Delays::open(&StateDir::open(dir.path()).unwrap()).unwrap();
        prepare(&mut delays, current, views).unwrap();
        owed(&delays, epoch)
    };
    let views = chain(2);
    let next = NOW.next();
    let known = delays_by(next, &views[..2], next);
    assert!(known.is_some());
    // Ahead of the boundary, on time without the consensus, and with nothing but the consensus.
    assert_eq!(known, delays_by(NOW, &views[..2], next));
    assert_eq!(known, delays_by(next, &views[..1], next));
    assert_eq!(known, delays_by(next, &views[1..2], next));
    // Not before the boundary without the consensus, and not by a beacon that does not follow.
    assert_eq!(None, delays_by(NOW, &views[..1], next));
    assert_eq!(None, delays_by(next, &[views[0].clone(), view(next, Beacon::default())], next));
    assert_eq!(None, delays_by(next.next(), &views[..1], next.next()));
}

/// INV-DELAY-10
#[test]
fn a_proof_is_published_when_its_key_has_passed_and_every_packet_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut delays = Delays::open(&StateDir::open(dir.path()).unwrap()).unwrap();
    let views = chain(30);
    for past in 0..13 {
        prepare(&mut delays, Epoch(NOW.0 + past), &views).unwrap();
    }
    let epoch = Epoch(NOW.0 + 10);
    let out = epoch.next().next();
    let cap_ms = 10 * MEAN_MS;
    let now = Instant::now();
    let reveals =
        |current: Epoch, now_ms: u64| delays.revealed(current, &clock(), now_ms, now).last().map(|proof| proof.epoch);
    assert_eq!(Some(epoch.previous()), reveals(out, clock().start_of(out) + cap_ms - 1));
    assert_eq!(Some(epoch), reveals(out, clock().start_of(out) + cap_ms));
    // A clock that runs ahead of the keys reveals nothing that is still in use.
    assert_eq!(Some(epoch.previous()), reveals(out.previous(), clock().start_of(out) + LENGTH_MS));

    for past in 13..30 {
        prepare(&mut delays, Epoch(NOW.0 + past), &views).unwrap();
    }
    let published = delays.revealed(Epoch(NOW.0 + 30), &clock(), clock().start_of(Epoch(NOW.0 + 40)), now);
    assert_eq!(NodeDescriptor::MAX_PROOFS, published.len());
    assert!(published.is_sorted_by(|one, next| one.epoch < next.epoch));
    for proof in published {
        let beacon = delays.seeds[&proof.epoch].beacon;
        let beta = proof.verify(&delays.public_key(), &beacon).unwrap();
        let again = VrfDelays::new(std::time::Duration::from_millis(MEAN_MS), &beta);
        assert_eq!(owed(&delays, proof.epoch), Some(again.owed(&DelayInput::from([7; 16]))));
    }
}

/// INV-DELAY-10: a node that gives up a key late tells its β as much later.
#[test]
fn the_cap_counts_from_when_the_key_was_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let mut delays = Delays::open(&state).unwrap();
    prepare(&mut delays, NOW, &chain(1)).unwrap();
    let current = NOW.next().next();
    let late_ms = clock().start_of(current) + LENGTH_MS / 2;
    let given_up = Instant::now();
    let cap = std::time::Duration::from_millis(10 * MEAN_MS);
    let tells = |delays: &Delays, now: Instant| {
        delays.revealed(current, &clock(), late_ms, now).iter().any(|proof| proof.epoch == NOW)
    };
    delays.retire(&[NOW], given_up);
    assert!(!tells(&delays, given_up));
    assert!(!tells(&delays, given_up + cap.saturating_sub(std::time::Duration::from_nanos(1))));
    assert!(tells(&delays, given_up + cap));
    // A process that ended let go of all its packets.
    drop(delays);
    assert!(tells(&Delays::open(&state).unwrap(), given_up));
}

/// INV-LINK-14
#[test]
fn seeds_that_cannot_be_saved_are_not_used_and_are_the_same_once_they_can() {
    let dir = tempfile::tempdir().unwrap();
    let mut delays = Delays::open(&StateDir::open(dir.path()).unwrap()).unwrap();
    let blocked = dir.path().join("delays.json.new");
    std::fs::create_dir(&blocked).unwrap();
    let views = chain(1);
    assert!(prepare(&mut delays, NOW, &views).is_err());
    assert_eq!(None, owed(&delays, NOW));
    std::fs::remove_dir(&blocked).unwrap();
    // By now the consensus is gone; what the node owes a proof of is not.
    prepare(&mut delays, Epoch(NOW.0 + 9), &[]).unwrap();
    assert_eq!(views[0].consensus().delays.beacon, delays.seeds[&NOW].beacon);
    assert!(owed(&delays, NOW).is_some());
}

/// INV-DELAY-14: what a node slept through it proves once it is told the beacon, before what nobody asked for.
#[test]
fn proofs_that_are_asked_for_come_first_also_of_epochs_that_the_node_missed() {
    let dir = tempfile::tempdir().unwrap();
    let mut delays = Delays::open(&StateDir::open(dir.path()).unwrap()).unwrap();
    let views = chain(30);
    for past in 0..12 {
        prepare(&mut delays, Epoch(NOW.0 + past), &views).unwrap();
    }
    let (missed, known) = (Epoch(NOW.0 - 5), Epoch(NOW.0 + 1));
    let current = Epoch(NOW.0 + 11);
    let beacon = Beacon::genesis("another");
    // One of the epochs is not over.
    delays.owe(vec![
        owed_proof(missed, beacon),
        owed_proof(known, Beacon::default()),
        owed_proof(current.previous(), beacon),
    ]);
    let now_ms = clock().start_of(current) + LENGTH_MS / 2;
    let told = delays.revealed(current, &clock(), now_ms, Instant::now());
    let epochs: Vec<_> = told.iter().map(|proof| proof.epoch.0).collect();
    assert_eq!(vec![missed.0, known.0, current.0 - 3, current.0 - 2], epochs);
    told.first().unwrap().verify(&delays.public_key(), &beacon).unwrap();
    // Of an epoch with delays of its own it proves those, whatever it is asked.
    let own = delays.seeds.get(&known).unwrap().beacon;
    told.get(1).unwrap().verify(&delays.public_key(), &own).unwrap();
}

/// INV-DELAY-15
#[test]
fn a_clock_that_is_set_back_forgets_the_seeds_of_the_future_and_uses_none_that_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let mut delays = Delays::open(&state).unwrap();
    let views = chain(3);
    for past in 0..3 {
        prepare(&mut delays, Epoch(NOW.0 + past), &views).unwrap();
    }
    let future = Epoch(NOW.0 + 2);
    let before = owed(&delays, future);
    // What was slept through and is proven counts as told.
    let missed = owed_proof(NOW.previous().previous(), Beacon::default());
    delays.owe(vec![missed]);
    delays.set_back(future, NOW.next());
    prepare(&mut delays, missed.epoch, &[view(missed.epoch, missed.seed.beacon)]).unwrap();
    assert!(delays.seeds.contains_key(&missed.epoch) && owed(&delays, missed.epoch).is_none());
    let mut delays = Delays::open(&state).unwrap();
    for past in 0..3 {
        prepare(&mut delays, Epoch(NOW.0 + past), &views).unwrap();
    }
    delays.set_back(future, NOW.next());
    // What may have been told is not waited by again: the proof of the first epoch.
    assert!(owed(&delays, NOW).is_none() && owed(&delays, NOW.next()).is_some() && owed(&delays, future).is_none());
    // When its time comes, the epoch has the delays that its consensus says then.
    prepare(&mut delays, future, &[view(future, Beacon::genesis("another"))]).unwrap();
    assert!(owed(&delays, future).is_some() && owed(&delays, future) != before);
}

/// INV-DELAY-15: also where the clock was set back between two runs.
#[test]
fn seeds_of_the_future_that_a_former_process_left_do_not_push_out_those_of_now() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let views = chain(30);
    let mut former = Delays::open(&state).unwrap();
    for past in 0..30 {
        prepare(&mut former, Epoch(NOW.0 + past), &views).unwrap();
    }
    drop(former);
    let mut later = Delays::open(&state).unwrap();
    let early = Epoch(NOW.0 - 50);
    prepare(&mut later, early, &[view(early, Beacon::genesis("another"))]).unwrap();
    assert!(owed(&later, early).is_some());
    let kept: Vec<_> = later.seeds.keys().copied().collect();
    assert_eq!(vec![early.previous(), early], kept);
}

/// INV-LINK-81: seeds follow from the consensuses, so that nothing is lost with their file.
#[test]
fn a_damaged_file_of_seeds_is_made_anew_with_the_same_delays() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let probe = DelayInput::from([5; 16]);
    let owed = |delays: &Delays| delays.source(NOW).unwrap().owed(&probe);
    let mut first = Delays::open(&state).unwrap();
    prepare(&mut first, NOW, &chain(1)).unwrap();
    std::fs::write(state.join(SEEDS_FILE), "[").unwrap();
    let mut second = Delays::open(&state).unwrap();
    assert!(second.source(NOW).is_none());
    prepare(&mut second, NOW, &chain(1)).unwrap();
    assert_eq!(owed(&first), owed(&second));
    assert!(Delays::open(&state).unwrap().source(NOW).is_some());
}
