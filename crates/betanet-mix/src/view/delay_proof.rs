//! The documents' part in delays that a node cannot choose: beacons, proofs, and who waits or is left out.

use std::fmt;

use betanet_sphinx::NodeId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hash::ConsensusHash;
use super::hexes;
use crate::epoch::Epoch;
use crate::vrf::{Output, Proof, VrfError, VrfPublicKey, VrfSecretKey};

const BEACON_DOMAIN: &[u8] = b"betanet delay beacon v1\0";
const GENESIS_DOMAIN: &[u8] = b"betanet delay genesis v1\0";

/// What the nodes' VRF outputs of one epoch are computed over, beside the epoch. Nobody knew it when the VRF keys were announced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Beacon(#[serde(with = "hexes::array")] [u8; 32]);

impl Beacon {
    /// The beacon of the first epoch of a network.
    #[must_use]
    pub fn genesis(network: &str) -> Self {
        Self(Sha256::new().chain_update(GENESIS_DOMAIN).chain_update(network).finalize().into())
    }

    /// The beacon of the epoch that follows one whose first consensus has this hash.
    #[must_use]
    pub fn after(opening: ConsensusHash) -> Self {
        Self(Sha256::new().chain_update(BEACON_DOMAIN).chain_update(opening.0).finalize().into())
    }

    /// The VRF input for `epoch`: epoch 8 ‖ beacon 32.
    #[must_use]
    pub fn input(&self, epoch: Epoch) -> [u8; 40] {
        let mut input = [0; 40];
        let parts = epoch.0.to_be_bytes().into_iter().chain(self.0);
        input.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
        input
    }
}

impl fmt::Debug for Beacon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Beacon({})", hex::encode(self.0))
    }
}

/// A node's VRF output for a past epoch and its proof, as published. **Unverified.**
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelayProof {
    /// The key epoch whose packets waited by it.
    pub epoch: Epoch,
    /// The output β.
    #[serde(with = "hexes::array")]
    pub beta: [u8; 64],
    /// The proof.
    #[serde(with = "hexes::array")]
    pub proof: [u8; 80],
}

impl DelayProof {
    /// The output for an epoch, with what is published about it later.
    #[must_use]
    pub fn make(key: &VrfSecretKey, epoch: Epoch, beacon: &Beacon) -> (Output, Self) {
        let (output, proof) = key.prove(&beacon.input(epoch));
        let published = Self { epoch, beta: *output.as_bytes(), proof: *proof.as_bytes() };
        (output, published)
    }

    /// The output, if the proof holds for this key and beacon and proves exactly the published β.
    ///
    /// # Errors
    /// [`VrfError`] when it does not.
    pub fn verify(&self, key: &VrfPublicKey, beacon: &Beacon) -> Result<Output, VrfError> {
        let output = key.verify(&beacon.input(self.epoch), &Proof::from(self.proof))?;
        if output == Output::from(self.beta) { Ok(output) } else { Err(VrfError::NotProved) }
    }
}

/// The part of a consensus that makes delays verifiable.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelaySection {
    /// The beacon of this epoch, the same in every revision.
    pub beacon: Beacon,
    /// The hash of this epoch's revision 0; zeros in revision 0 itself.
    pub opening_hash: ConsensusHash,
    /// Nodes that carry no traffic yet, or not now, with their VRF keys: these keys stand for the next epoch.
    pub waiting: Vec<Waiting>,
    /// Nodes that owe a proof.
    pub left_out: Vec<LeftOut>,
}

/// A node that is not listed in this consensus and may be in the next.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// The node.
    #[serde(with = "hexes::node_id")]
    pub id: NodeId,
    /// Its VRF key.
    #[serde(with = "hexes::vrf_key")]
    pub vrf_key: VrfPublicKey,
}

/// A node that is not listed because of a proof.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// The node.
    #[serde(with = "hexes::node_id")]
    pub id: NodeId,
    /// The epoch whose proof it owes.
    pub epoch: Epoch,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a node's proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// It was not shown in time.
    Missing,
    /// What was shown does not hold.
    Wrong,
}
