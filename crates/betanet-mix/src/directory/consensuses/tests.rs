#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

use crate::view::{Beacon, Verified, node_id_of};
use ed25519_dalek::SigningKey;

use super::*;
use crate::fixtures::{self, EPOCH_MS, NOW_MS, fresh_rng};
use crate::view::{DelaySection, Role};

fn key() -> SigningKey {
    SigningKey::generate(&mut fresh_rng())
}

/// A consensus in force now that lists the owners of `nodes`.
fn consensus(nodes: &[&SigningKey], revision: u32, previous_hash: ConsensusHash) -> Consensus {
    // Right for the first revision after the opening one, and as good as any for later ones.
    let opening_hash = if revision == 0 { ConsensusHash::default() } else { previous_hash };
    let node = |key: &&SigningKey| {
        let mut node = fixtures::member(1, Role::Middle, 1);
        node.descriptor.id = node_id_of(key);
        node
    };
    Consensus {
        revision,
        previous_hash,
        delays: DelaySection { opening_hash, ..DelaySection::default() },
        ..fixtures::consensus(nodes.iter().map(node).collect())
    }
}

struct Chain {
    authority: SigningKey,
    consensuses: Consensuses,
}

impl Chain {
    fn new() -> Self {
        let authority = key();
        let consensuses = Consensuses::new("fixture".into(), node_id_of(&authority));
        Self { authority, consensuses }
    }

    fn accept(&mut self, consensus: Consensus) -> Result<bool, ConsensusError> {
        self.accept_at(consensus, NOW_MS)
    }

    fn accept_at(&mut self, consensus: Consensus, now_ms: u64) -> Result<bool, ConsensusError> {
        self.consensuses.accept(Verified::sign(consensus, &self.authority).unwrap().signed(), now_ms)
    }

    fn hash(&self) -> ConsensusHash {
        *self.consensuses.hashes().last().unwrap()
    }
}

/// The same network an epoch later.
fn after(consensus: &Consensus, beacon: Beacon, previous_hash: ConsensusHash) -> Consensus {
    let mut next = Consensus { epoch: consensus.epoch.next(), previous_hash, ..consensus.clone() };
    next.delays.beacon = beacon;
    next.valid_after_ms += EPOCH_MS;
    next.fresh_until_ms += EPOCH_MS;
    next.valid_until_ms += EPOCH_MS;
    next
}

/// INV-LINK-21
#[test]
fn an_unbroken_chain_is_accepted() {
    let mut chain = Chain::new();
    let first = consensus(&[&key()], 0, ConsensusHash::default());
    assert!(chain.accept(first.clone()).unwrap());
    let opening = chain.hash();
    assert!(!chain.accept(first.clone()).unwrap(), "it is known");
    assert!(chain.accept(consensus(&[], 1, opening)).unwrap());
    let next = after(&first, Beacon::after(opening), chain.hash());
    assert!(chain.accept(next).unwrap());
}

#[test]
fn what_ran_out_is_still_shown_and_is_not_said_to_be_in_force() {
    let mut chain = Chain::new();
    let first = consensus(&[&key()], 0, ConsensusHash::default());
    chain.accept(first.clone()).unwrap();
    let next = after(&first, Beacon::after(chain.hash()), chain.hash());
    chain.accept(next.clone()).unwrap();
    let shown =
        |now_ms| chain.consensuses.at_or_newest(now_ms).map(|(view, in_force)| (view.consensus().epoch, in_force));
    assert_eq!(Some((first.epoch, true)), shown(first.valid_after_ms));
    assert_eq!(Some((next.epoch, true)), shown(next.valid_after_ms));
    assert_eq!(Some((next.epoch, false)), shown(next.valid_until_ms));
    assert!(Chain::new().consensuses.at_or_newest(NOW_MS).is_none());
}

/// INV-LINK-21
#[test]
fn of_two_that_contradict_each_other_the_first_stays_and_it_is_told_once() {
    let mut chain = Chain::new();
    let first = consensus(&[&key()], 0, ConsensusHash::default());
    chain.accept(first.clone()).unwrap();
    let kept = chain.consensuses.hashes();
    let epoch = first.epoch.0;
    let other_opening = consensus(&[&key()], 0, ConsensusHash::default());
    let other_past = consensus(&[], 1, ConsensusHash([7; 32]));
    let next = after(&first, Beacon::genesis("fixture"), chain.hash());
    let told = |outcome| matches!(outcome, Err(ConsensusError::Equivocation { epoch: of }) if of == epoch);
    assert!(told(chain.accept(other_opening.clone())));
    assert!(!chain.accept(other_opening).unwrap());
    assert!(!chain.accept(other_past).unwrap());
    assert!(matches!(chain.accept(next), Err(ConsensusError::Equivocation { epoch: of }) if of == epoch + 1));
    assert_eq!(kept, chain.consensuses.hashes());
}

/// INV-LINK-27
#[test]
fn a_clock_that_is_set_back_drops_what_is_from_the_future_and_takes_another_chain() {
    let mut chain = Chain::new();
    let first = consensus(&[&key()], 0, ConsensusHash::default());
    let now_ms = first.valid_after_ms + EPOCH_MS / 2;
    chain.accept(first.clone()).unwrap();
    let opening = chain.hash();
    let mut last = after(&first, Beacon::after(opening), opening);
    for _ in 0..3 {
        chain.accept(last.clone()).unwrap();
        last = after(&last, Beacon::after(chain.hash()), chain.hash());
    }
    assert_eq!(4, chain.consensuses.hashes().len());
    chain.consensuses.forget_after(now_ms);
    // The present and the next one are no future.
    assert_eq!(2, chain.consensuses.hashes().len());
    assert_eq!(first.epoch, chain.consensuses.at(now_ms).unwrap().consensus().epoch);
    let back_ms = now_ms - 100 * EPOCH_MS;
    chain.consensuses.forget_after(back_ms);
    assert!(chain.consensuses.hashes().is_empty());
    assert!(chain.accept(first).unwrap());
}

/// INV-LINK-27
#[test]
fn documents_of_the_future_push_out_nothing_that_is_in_force() {
    let mut chain = Chain::new();
    let first = consensus(&[&key()], 0, ConsensusHash::default());
    let now_ms = first.valid_after_ms + EPOCH_MS / 2;
    assert!(chain.accept_at(first.clone(), now_ms).unwrap());
    // Signed once by a clock that was wrong, and shown again.
    let mut last = Consensus { valid_after_ms: first.valid_after_ms + 50 * EPOCH_MS, ..first.clone() };
    last.epoch.0 += 50;
    last.fresh_until_ms += 50 * EPOCH_MS;
    last.valid_until_ms += 50 * EPOCH_MS;
    let taken = (0..HELD + 2).filter(|_| {
        let taken = chain.accept_at(last.clone(), now_ms).unwrap();
        let opening = NetworkView::new(Verified::sign(last.clone(), &chain.authority).unwrap()).unwrap().hash();
        last = after(&last, Beacon::after(opening), opening);
        taken
    });
    assert_eq!(HELD - 1, taken.count());
    assert_eq!(first.epoch, chain.consensuses.at(now_ms).unwrap().consensus().epoch);
    let next = after(&first, Beacon::after(chain.consensuses.hashes()[0]), chain.consensuses.hashes()[0]);
    assert!(chain.accept_at(next.clone(), now_ms).unwrap());
    assert_eq!(next.epoch, chain.consensuses.at(now_ms + EPOCH_MS).unwrap().consensus().epoch);
}

/// INV-LINK-21
#[test]
fn a_stale_consensus_that_is_shown_again_changes_nothing() {
    let mut chain = Chain::new();
    let first = consensus(&[&key()], 0, ConsensusHash::default());
    chain.accept(first.clone()).unwrap();
    let revised = consensus(&[], 1, chain.hash());
    assert!(chain.accept(revised.clone()).unwrap());
    let next = after(&first, Beacon::after(revised.delays.opening_hash), chain.hash());
    chain.accept(next.clone()).unwrap();
    let held = chain.consensuses.hashes();
    // An older revision, of this epoch and of one that is over.
    for now_ms in [NOW_MS, NOW_MS + EPOCH_MS, NOW_MS + 10 * EPOCH_MS] {
        assert!(!chain.accept_at(first.clone(), now_ms).unwrap());
        assert_eq!(held, chain.consensuses.hashes());
    }
    // Nothing of it is in force once it has run out, whoever shows it.
    assert!(chain.consensuses.at(next.valid_until_ms).is_none());
    assert!(chain.consensuses.news(&[], next.valid_until_ms).is_empty());
}

/// INV-LINK-28
#[test]
fn a_dead_network_is_called_dead_since_when_and_why() {
    let mut chain = Chain::new();
    let mut first = consensus(&[&key(), &key()], 0, ConsensusHash::default());
    assert!(chain.consensuses.complaint(first.valid_after_ms).unwrap().contains("no valid consensus yet"));
    let left = node_id_of(&key());
    let vrf_key = crate::vrf::VrfSecretKey::from_seed(&[3; 32]).public();
    first.delays.waiting.push(crate::view::Waiting { id: left, vrf_key });
    let fault = crate::view::Fault::Missing;
    first.delays.left_out.push(crate::view::LeftOut { id: left, epoch: first.epoch, fault });
    chain.accept(first.clone()).unwrap();
    assert_eq!(None, chain.consensuses.complaint(first.valid_after_ms));
    let said = chain.consensuses.complaint(first.valid_until_ms + 12 * 60_000).unwrap();
    assert_eq!(
        "the network has had no valid consensus for 12 min; the last one listed 2 nodes (1 owe a delay proof)",
        said
    );
    let nobody = consensus(&[], 1, chain.hash());
    chain.accept(nobody).unwrap();
    assert_eq!(Some("the network lists no node"), chain.consensuses.complaint(first.valid_after_ms).as_deref());
}
