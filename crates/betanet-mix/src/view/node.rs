//! What a mix node says about itself.

use std::collections::BTreeMap;

use betanet_sphinx::{NodeId, PublicKey};
use serde::{Deserialize, Serialize};

use super::delay_proof::DelayProof;
use super::hexes;
use super::link_address::LinkAddress;
use super::signed::Document;
use crate::epoch::Epoch;
use crate::vrf;

/// Proofs that a descriptor carries at most: those of the latest epochs.
const MAX_PROOFS: usize = 4;

/// Which part of a path a node serves. `Entry` and `Exit` nodes are both edges; the names say which side an operator prefers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// An edge that prefers senders.
    Entry,
    /// A mix between the edges.
    Middle,
    /// An edge that prefers recipients.
    Exit,
}

impl Role {
    /// Whether nodes of this role serve clients and keep mailboxes.
    #[must_use]
    pub fn is_edge(self) -> bool {
        matches!(self, Self::Entry | Self::Exit)
    }

    /// The role's name as it stands in documents and settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Middle => "middle",
            Self::Exit => "exit",
        }
    }
}

/// A node's description of itself, signed by its identity key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeDescriptor {
    /// The node's Ed25519 identity key.
    #[serde(with = "hexes::node_id")]
    pub id: NodeId,
    /// The part of a path it serves.
    pub role: Role,
    /// Where others reach its links.
    pub link_address: LinkAddress,
    /// Its packet keys.
    #[serde(with = "hexes::packet_keys")]
    pub keys: BTreeMap<Epoch, PublicKey>,
    /// Its VRF key, which fixes its delays.
    #[serde(with = "hexes::vrf_key")]
    pub vrf_key: vrf::VrfPublicKey,
    /// VRF outputs of past epochs with their proofs, oldest first.
    pub delay_proofs: Vec<DelayProof>,
    /// When it was written, Unix milliseconds.
    pub issued_ms: u64,
    /// Until when it holds, Unix milliseconds.
    pub expires_ms: u64,
}

impl NodeDescriptor {
    /// How many proofs a descriptor carries at most.
    pub const MAX_PROOFS: usize = MAX_PROOFS;
}

impl Document for NodeDescriptor {
    const DOMAIN: &'static str = "betanet node descriptor v1";
    const MAX_BYTES: usize = 4096;

    fn check(&self) -> Result<(), &'static str> {
        if self.keys.is_empty() {
            return Err("a node lists at least one packet key");
        }
        if self.delay_proofs.len() > MAX_PROOFS || !self.delay_proofs.is_sorted_by(|one, next| one.epoch < next.epoch) {
            return Err("delay proofs are at most four, each of a later epoch than the one before");
        }
        if self.issued_ms >= self.expires_ms {
            return Err("a descriptor is issued before it expires");
        }
        Ok(())
    }
}
