//! Which nodes owe a delay proof, and which have shown it. No I/O and no clock: time is passed in.

use std::collections::BTreeMap;

use crate::epoch::{Epoch, EpochClock};
use crate::view::{Beacon, Consensus, DelaySeed, Fault, NodeDescriptor, hexes, proof_due};
use crate::vrf::VrfPublicKey;
use betanet_sphinx::NodeId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Epochs after which a proof that was shown is not looked at again: descriptors carry fewer.
const SHOWN_KEPT: u64 = 12;

/// Epochs after which a proof that was never shown is forgiven.
const OWED_KEPT: u64 = 64;

/// A delay proof that a node owes, with what it is made from: the node may have been away when the
/// beacon was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedProof {
    /// The epoch of the delays.
    pub epoch: Epoch,
    /// What they were to be computed from.
    pub seed: DelaySeed,
}

/// A node that was listed for an epoch owes the proof of its delays in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Duty {
    #[serde(with = "hexes::node_id")]
    node: NodeId,
    epoch: Epoch,
    #[serde(with = "hexes::vrf_key")]
    vrf_key: VrfPublicKey,
    beacon: Beacon,
    mean_ms: u64,
    state: State,
}

impl Duty {
    fn seed(&self) -> DelaySeed {
        DelaySeed { beacon: self.beacon, mean_ms: self.mean_ms }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Owed,
    Wrong,
    Shown,
}

/// All duties that are not forgotten.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Duties(#[serde(with = "list")] BTreeMap<(NodeId, Epoch), Duty>);

impl Duties {
    /// Whoever a consensus lists owes the proof for its epoch.
    pub(super) fn follow(&mut self, consensus: &Consensus) {
        for node in &consensus.nodes {
            self.0.entry((node.id, consensus.epoch)).or_insert_with(|| Duty {
                node: node.id,
                epoch: consensus.epoch,
                vrf_key: node.vrf_key,
                beacon: consensus.delays.beacon,
                mean_ms: consensus.mean_delay_ms,
                state: State::Owed,
            });
        }
    }

    /// Forgets and forgives what is too old in epoch `now`, whether or not anything was signed since.
    pub(super) fn age(&mut self, now: Epoch) {
        self.0.retain(|_, duty| {
            let kept = if duty.state == State::Shown { SHOWN_KEPT } else { OWED_KEPT };
            duty.epoch.0.saturating_add(kept) > now.0
        });
    }

    /// Forgives everything: after a pause of the network its accounts start anew.
    pub(super) fn forgive(&mut self) {
        self.0.retain(|_, duty| duty.state == State::Shown);
    }

    /// Forgets epochs after `last`, for a clock that was set back.
    pub(super) fn forget_after(&mut self, last: Epoch) {
        self.0.retain(|_, duty| duty.epoch <= last);
    }

    /// What a node has not shown, oldest first: it may have been away when the beacon was told.
    pub(super) fn owed_by(&self, node: NodeId) -> Vec<OwedProof> {
        let all = self.0.range((node, Epoch(0))..=(node, Epoch(u64::MAX)));
        let owed = all.filter(|(_, duty)| duty.state != State::Shown);
        owed.map(|(_, duty)| OwedProof { epoch: duty.epoch, seed: duty.seed() }).collect()
    }

    /// Looks at the proofs of a descriptor. Proofs that were not asked for are not looked at.
    ///
    /// # Errors
    /// One does not hold, or is told while it must be secret; a line for the node's owner.
    pub(super) fn judge(&mut self, node: &NodeDescriptor, clock: &EpochClock, now_ms: u64) -> Result<(), String> {
        for proof in &node.delay_proofs {
            let epoch = proof.epoch;
            let Some(duty) = self.0.get_mut(&(node.id, epoch)) else {
                continue;
            };
            if now_ms.saturating_add(clock.skew_ms()) < duty.seed().reveal_ms(epoch, clock) {
                return Err(format!("the delay proof of epoch {epoch} came while its key was in use; check the clock"));
            }
            if let Err(err) = proof.verify(&duty.vrf_key, &duty.beacon) {
                if duty.state == State::Owed {
                    duty.state = State::Wrong;
                }
                return Err(format!("the delay proof of epoch {epoch} is refused: {err}"));
            }
            duty.state = State::Shown;
        }
        Ok(())
    }

    /// Why a node does not stand in the consensus of `epoch`, if a proof is the reason: the oldest one.
    ///
    /// `patient`: what is missing is not held against anyone yet.
    pub(super) fn fault(
        &self,
        node: NodeId,
        epoch: Epoch,
        clock: &EpochClock,
        patient: bool,
    ) -> Option<(Epoch, Fault)> {
        self.0.range((node, Epoch(0))..=(node, Epoch(u64::MAX))).find_map(|(_, duty)| {
            let fault = match duty.state {
                State::Shown => None,
                State::Wrong => Some(Fault::Wrong),
                State::Owed if patient || epoch < proof_due(duty.epoch, duty.mean_ms, clock) => None,
                State::Owed => Some(Fault::Missing),
            };
            fault.map(|fault| (duty.epoch, fault))
        })
    }

    /// Whether a node carried traffic under this key, as far as is remembered, in an epoch whose last revision was signed
    /// before the first one of `epoch`.
    pub(super) fn has_used(&self, node: NodeId, key: &VrfPublicKey, epoch: Epoch) -> bool {
        let all = self.0.range((node, Epoch(0))..=(node, Epoch(u64::MAX)));
        all.take_while(|((_, used), _)| used.next() < epoch).any(|(_, duty)| duty.vrf_key == *key)
    }

    /// The descriptor as a consensus lists it: with the proofs that were checked and no others.
    pub(super) fn checked(&self, node: &NodeDescriptor) -> NodeDescriptor {
        let mut node = node.clone();
        let id = node.id;
        node.delay_proofs.retain(|proof| self.of(id, proof.epoch).is_some_and(|duty| duty.state == State::Shown));
        node
    }

    fn of(&self, node: NodeId, epoch: Epoch) -> Option<&Duty> {
        self.0.get(&(node, epoch))
    }
}

/// On disk the duties are a list.
mod list {
    use super::{BTreeMap, Deserialize, Deserializer, Duty, Epoch, NodeId, Serializer};

    pub(super) fn serialize<S: Serializer>(
        duties: &BTreeMap<(NodeId, Epoch), Duty>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.collect_seq(duties.values())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<BTreeMap<(NodeId, Epoch), Duty>, D::Error> {
        let duties = Vec::<Duty>::deserialize(input)?;
        Ok(duties.into_iter().map(|duty| ((duty.node, duty.epoch), duty)).collect())
    }
}
