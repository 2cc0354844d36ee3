//! A node's VRF key and what its delays are computed from, on disk and in memory.
//!
//! The seed of an epoch is on disk before a packet waits by it, so a killed process goes on with
//! the same delays and still owes, and can give, the same proof.

use std::collections::BTreeMap;
use std::path::PathBuf;

use betanet_mix::delay::VrfDelays;
use betanet_mix::epoch::{Epoch, EpochClock};
use betanet_mix::view::{DelayProof, DelaySeed, NetworkView, NodeDescriptor};
use betanet_mix::vrf::{PublicKey, SecretKey};
use serde::{Deserialize, Serialize};

use crate::state::{StateDir, StateError, read_json, write_private};

/// The file with the VRF key.
const KEY_FILE: &str = "vrf.key";

/// The file with the seeds.
const SEEDS_FILE: &str = "delays.json";

/// Epochs that are remembered: those whose proofs a descriptor carries, those whose β is still
/// secret, and some more.
const KEPT: usize = NodeDescriptor::MAX_PROOFS + 12;

/// Seeds, and the delays and proofs that follow from them. Not shared: the owner puts it behind a lock.
#[derive(Debug)]
pub struct Delays {
    path: PathBuf,
    key: SecretKey,
    seeds: BTreeMap<Epoch, DelaySeed>,
    ready: BTreeMap<Epoch, (VrfDelays, DelayProof)>,
}

/// What stands in the seeds file.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedsFile {
    seeds: BTreeMap<Epoch, DelaySeed>,
}

impl Delays {
    /// Takes up what a former process knew.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open(state: &StateDir) -> Result<Self, StateError> {
        let key = SecretKey::from_seed(&*state.secret(KEY_FILE)?);
        let path = state.join(SEEDS_FILE);
        let SeedsFile { seeds } = read_json(&path, "list of delay seeds")?.unwrap_or_default();
        let ready = seeds.iter().map(|(epoch, seed)| (*epoch, seed.delays(&key, *epoch))).collect();
        Ok(Self { path, key, seeds, ready })
    }

    /// The key that others check proofs with.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// Fixes the delays of the epochs whose keys are or will soon be accepted, as far as the
    /// consensuses say what they are. What is fixed stays.
    ///
    /// # Errors
    /// The seeds cannot be written; nothing has changed then.
    pub fn prepare<'a>(
        &mut self,
        current: Epoch,
        views: impl IntoIterator<Item = &'a NetworkView, IntoIter: Clone>,
    ) -> Result<(), StateError> {
        let views = views.into_iter();
        let mut seeds = self.seeds.clone();
        for epoch in [current.previous(), current, current.next()] {
            if !seeds.contains_key(&epoch)
                && let Some(seed) = DelaySeed::find(epoch, current, views.clone())
            {
                seeds.insert(epoch, seed);
            }
        }
        while seeds.len() > KEPT {
            seeds.pop_first();
        }
        if seeds == self.seeds {
            return Ok(());
        }
        self.save(&seeds)?;
        self.ready.retain(|epoch, _| seeds.contains_key(epoch));
        for (epoch, seed) in &seeds {
            self.ready.entry(*epoch).or_insert_with(|| seed.delays(&self.key, *epoch));
        }
        self.seeds = seeds;
        Ok(())
    }

    /// The delays of packets under the key of `epoch`, if they are fixed.
    #[must_use]
    pub fn source(&self, epoch: Epoch) -> Option<VrfDelays> {
        self.ready.get(&epoch).map(|(delays, _)| delays.clone())
    }

    /// The proofs to publish: of epochs whose key the node, now in epoch `current`, accepts no
    /// more, once the last packet has left.
    #[must_use]
    pub fn revealed(&self, current: Epoch, clock: &EpochClock, now_ms: u64) -> Vec<DelayProof> {
        let past = self.seeds.iter().rev().filter(|(epoch, seed)| {
            // The clock alone is not enough: it may have jumped while the key is still held.
            epoch.next() < current && seed.reveal_ms(**epoch, clock) <= now_ms
        });
        let mut proofs: Vec<DelayProof> = past
            .filter_map(|(epoch, _)| self.ready.get(epoch))
            .map(|(_, proof)| proof.clone())
            .take(NodeDescriptor::MAX_PROOFS)
            .collect();
        proofs.reverse();
        proofs
    }

    fn save(&self, seeds: &BTreeMap<Epoch, DelaySeed>) -> Result<(), StateError> {
        let file = SeedsFile { seeds: seeds.clone() };
        let bytes = serde_json::to_vec(&file).map_err(|err| StateError::Io {
            action: "encode",
            path: self.path.clone(),
            source: err.into(),
        })?;
        write_private(&self.path, &bytes)
    }
}

#[cfg(test)]
mod tests;
