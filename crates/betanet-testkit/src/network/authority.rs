//! The authority, and what all clients hold of it.

use std::sync::Arc;

use betanet_mix::directory::{Consensuses, Door, Ledger, NetworkConstants, Saved, Shown, Terms};
use betanet_mix::epoch::EpochClock;
use betanet_mix::view::{NetworkView, node_id_of};
use ed25519_dalek::SigningKey;

use super::{Plan, START_MS};
use crate::node::MemoryNode;

/// The authority, and what all clients hold of it.
#[derive(Debug)]
pub(super) struct MemoryAuthority {
    key: SigningKey,
    ledger: Ledger,
    held: Consensuses,
}

impl MemoryAuthority {
    pub(super) fn new(key: SigningKey, plan: &Plan, nodes: usize, clock: EpochClock) -> Self {
        let constants = NetworkConstants {
            network: "testkit".to_owned(),
            epoch_length_ms: plan.epoch_ms,
            skew_ms: plan.skew_ms,
            mean_delay_ms: plan.mean_delay_ms,
        };
        let held = Consensuses::new(constants.network.clone(), node_id_of(&key));
        let terms = Terms { constants, expect: nodes, one_operator: true, door: Door::Open };
        Self { key, ledger: Ledger::open(&terms, clock, &Saved::default(), START_MS), held }
    }

    /// All nodes tell their keys and show the proofs that they owe; then the network is what the authority signs.
    pub(super) fn publish(&mut self, nodes: &[MemoryNode], clock: &EpochClock, now_ms: u64) -> Arc<NetworkView> {
        for node in nodes {
            let descriptor = node.descriptor(&self.ledger.owed_by(node.id), clock, now_ms);
            self.ledger
                .put_node(node.id, descriptor.signed(), Shown::default(), now_ms)
                .expect("the authority takes an honest node");
        }
        for consensus in self.ledger.due(&self.key, now_ms).expect("a plan that makes a valid consensus") {
            self.held.accept(consensus.signed(), now_ms).expect("the authority does not contradict itself");
        }
        Arc::clone(self.held.at(now_ms).expect("every epoch has a consensus"))
    }
}
