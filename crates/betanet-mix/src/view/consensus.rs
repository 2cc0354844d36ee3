//! The directory's statement of which nodes make up the network during one epoch.

use std::collections::HashSet;

use betanet_sphinx::NodeId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::delay_proof::{Beacon, DelaySection};
use super::hash::ConsensusHash;
use super::member::{Member, check_operator};
use super::signed::{Document, Verified};
use crate::delay::CAP_IN_MEANS;
use crate::epoch::{Epoch, EpochClock};
use crate::text::is_short;
use crate::vrf;

const MAX_NODES: usize = 4096;
const MAX_EPOCH_LENGTH_MS: u64 = 7 * 24 * 3_600_000;
const MAX_MEAN_DELAY_MS: u64 = 60_000;

/// The network during one epoch, signed by the directory authorities.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consensus {
    /// The network's name.
    pub network: String,
    /// The epoch it is for.
    pub epoch: Epoch,
    /// Counts the versions within one epoch, from 0.
    pub revision: u32,
    /// The epoch length in milliseconds.
    pub epoch_length_ms: u64,
    /// How far apart clocks may be, in milliseconds.
    pub skew_ms: u64,
    /// The mean delay per hop, in milliseconds.
    pub mean_delay_ms: u64,
    /// From when it holds, Unix milliseconds.
    pub valid_after_ms: u64,
    /// When a newer one should be there, Unix milliseconds.
    pub fresh_until_ms: u64,
    /// From when nothing is sent by it any more, Unix milliseconds.
    pub valid_until_ms: u64,
    /// The hash of the consensus before it; zeros in the first.
    pub previous_hash: ConsensusHash,
    /// Whether one party runs all nodes. Then operators may repeat on a path, and there is no anonymity against that party.
    pub one_operator: bool,
    /// What makes delays verifiable.
    pub delays: DelaySection,
    /// The nodes.
    pub nodes: Vec<Member>,
}

impl Consensus {
    /// Maps time to epochs with this network's parameters. `None` only for parameters that [`Document::check`] refuses.
    #[must_use]
    pub fn clock(&self) -> Option<EpochClock> {
        EpochClock::new(self.epoch_length_ms, self.skew_ms).ok()
    }

    /// Whether `key` stands in it as the VRF key of node `id`, so that the node may carry traffic under it in the epoch after.
    #[must_use]
    pub fn shows_key(&self, id: NodeId, key: &vrf::VrfPublicKey) -> bool {
        let listed = self.nodes.iter().map(|node| (node.id, &node.vrf_key));
        let waiting = self.delays.waiting.iter().map(|node| (node.id, &node.vrf_key));
        listed.chain(waiting).any(|(of, stands)| of == id && stands == key)
    }
}

impl Verified<Consensus> {
    /// The hash that the next consensus refers to.
    #[must_use]
    pub fn hash(&self) -> ConsensusHash {
        ConsensusHash(Sha256::digest(self.signed().content.as_bytes()).into())
    }

    /// The hash of revision 0 of the same epoch.
    #[must_use]
    pub fn opening_hash(&self) -> ConsensusHash {
        if self.revision == 0 { self.hash() } else { self.delays.opening_hash }
    }

    /// The beacon of the epoch after: fixed by the first content that was signed for this epoch, whatever the revision.
    #[must_use]
    pub fn next_beacon(&self) -> Beacon {
        Beacon::after(self.opening_hash())
    }
}

/// Maps time to epochs, for what all of a network share. Whoever is to sign it asks before, for nobody takes other.
///
/// # Errors
/// The rule that is broken.
pub(crate) fn check_network(
    name: &str,
    epoch_length_ms: u64,
    skew_ms: u64,
    mean_delay_ms: u64,
) -> Result<EpochClock, &'static str> {
    if name.is_empty() || !is_short(name, 64) {
        return Err("a network name is 1 to 64 printable characters");
    }
    let clock = EpochClock::new(epoch_length_ms, skew_ms);
    let Some(clock) = clock.ok().filter(|_| epoch_length_ms <= MAX_EPOCH_LENGTH_MS) else {
        return Err("an epoch is longer than the clock skew and at most a week");
    };
    if mean_delay_ms > MAX_MEAN_DELAY_MS {
        return Err("the mean delay is at most a minute");
    }
    // Then a packet has left, and its node's proof is due, while the node still knows the epoch.
    if mean_delay_ms.saturating_mul(u64::from(CAP_IN_MEANS)) > epoch_length_ms {
        return Err("an epoch is at least ten mean delays long");
    }
    Ok(clock)
}

impl Document for Consensus {
    const DOMAIN: &'static str = "betanet consensus v1";
    const MAX_BYTES: usize = 4 * 1024 * 1024;

    fn check(&self) -> Result<(), &'static str> {
        check_network(&self.network, self.epoch_length_ms, self.skew_ms, self.mean_delay_ms)?;
        if self.valid_after_ms >= self.fresh_until_ms || self.fresh_until_ms > self.valid_until_ms {
            return Err("valid-after comes before fresh-until, and that not after valid-until");
        }
        if self.nodes.len() > MAX_NODES {
            return Err("a consensus lists at most 4096 nodes");
        }
        if (self.revision == 0) != (self.delays.opening_hash == ConsensusHash::default()) {
            return Err("every revision but the first names the hash of the first");
        }
        if self.delays.waiting.len() > MAX_NODES || self.delays.left_out.len() > MAX_NODES {
            return Err("a consensus names at most 4096 nodes that are not listed");
        }
        let mut ids = HashSet::new();
        for node in &self.nodes {
            node.descriptor.check()?;
            check_operator(&node.operator)?;
            if !ids.insert(node.id) {
                return Err("a node stands in the consensus once");
            }
        }
        if !self.delays.waiting.iter().all(|node| ids.insert(node.id)) {
            return Err("a node stands in the consensus once");
        }
        Ok(())
    }
}
