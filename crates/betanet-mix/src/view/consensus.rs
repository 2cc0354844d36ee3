//! The directory's statement of which nodes make up the network during one epoch.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hexes;
use super::node::{NodeDescriptor, is_short_text};
use super::signed::{Document, Verified};
use crate::epoch::{Epoch, EpochClock};

const MAX_NODES: usize = 4096;
const MAX_EPOCH_LENGTH_MS: u64 = 7 * 24 * 3_600_000;
const MAX_MEAN_DELAY_MS: u64 = 60_000;

/// SHA-256 over a consensus' content, signatures left out. Consensuses form a chain by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConsensusHash(#[serde(with = "hexes::array")] pub [u8; 32]);

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
    /// The nodes.
    pub nodes: Vec<NodeDescriptor>,
}

impl Consensus {
    /// Maps time to epochs with this network's parameters. `None` only for parameters that [`Document::check`] refuses.
    #[must_use]
    pub fn clock(&self) -> Option<EpochClock> {
        EpochClock::new(self.epoch_length_ms, self.skew_ms).ok()
    }
}

impl Verified<Consensus> {
    /// The hash that the next consensus refers to.
    #[must_use]
    pub fn hash(&self) -> ConsensusHash {
        ConsensusHash(Sha256::digest(self.signed().content.as_bytes()).into())
    }
}

impl Document for Consensus {
    const DOMAIN: &'static str = "betanet consensus v1";
    const MAX_BYTES: usize = 4 * 1024 * 1024;

    fn check(&self) -> Result<(), &'static str> {
        if self.network.is_empty() || !is_short_text(&self.network, 64) {
            return Err("a network name is 1 to 64 printable characters");
        }
        if self.clock().is_none() || self.epoch_length_ms > MAX_EPOCH_LENGTH_MS {
            return Err("an epoch is longer than the clock skew and at most a week");
        }
        if self.mean_delay_ms > MAX_MEAN_DELAY_MS {
            return Err("the mean delay is at most a minute");
        }
        if self.valid_after_ms >= self.fresh_until_ms || self.fresh_until_ms > self.valid_until_ms {
            return Err("valid-after comes before fresh-until, and that not after valid-until");
        }
        if self.nodes.len() > MAX_NODES {
            return Err("a consensus lists at most 4096 nodes");
        }
        let mut ids = HashSet::new();
        for node in &self.nodes {
            node.check()?;
            if !ids.insert(node.id) {
                return Err("a node stands in the consensus once");
            }
        }
        Ok(())
    }
}
