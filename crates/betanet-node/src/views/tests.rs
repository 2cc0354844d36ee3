#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_mix::view::{Beacon, node_id_of};
use ed25519_dalek::SigningKey;

use super::fixtures::{EPOCH_MS, NETWORK, consensus, key, sign};
use super::*;

struct Chain {
    authority: SigningKey,
    views: Views,
}

impl Chain {
    fn new() -> Self {
        let authority = key();
        let views = Views::new(NETWORK.into(), node_id_of(&authority));
        Self { authority, views }
    }

    fn accept(&mut self, consensus: Consensus) -> Result<bool, ViewError> {
        self.views.accept(&sign(consensus, &self.authority))
    }

    fn hash(&self) -> ConsensusHash {
        *self.views.hashes().last().unwrap()
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

/// INV-LINK-35
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

/// INV-LINK-35
#[test]
fn of_two_that_contradict_each_other_the_first_stays_and_it_is_told_once() {
    let mut chain = Chain::new();
    let first = consensus(&[&key()], 0, ConsensusHash::default());
    chain.accept(first.clone()).unwrap();
    let kept = chain.views.hashes();
    let epoch = first.epoch.0;
    let other_opening = consensus(&[&key()], 0, ConsensusHash::default());
    let other_past = consensus(&[], 1, ConsensusHash([7; 32]));
    let next = after(&first, Beacon::genesis(NETWORK), chain.hash());
    let told = |outcome| matches!(outcome, Err(ViewError::Equivocation { epoch: of }) if of == epoch);
    assert!(told(chain.accept(other_opening.clone())));
    assert!(!chain.accept(other_opening).unwrap());
    assert!(!chain.accept(other_past).unwrap());
    assert!(matches!(chain.accept(next), Err(ViewError::Equivocation { epoch: of }) if of == epoch + 1));
    assert_eq!(kept, chain.views.hashes());
}
