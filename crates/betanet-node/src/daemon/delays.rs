//! A node's VRF key and what its delays are computed from, on disk and in memory.
//!
//! The seed of an epoch is on disk before a packet waits by it, so a killed process goes on with
//! the same delays and still owes, and can give, the same proof.
//!
//! Every group of packets takes the lock on [`Delays`], so what is slow, [`UnwrittenSeeds::write`], does
//! without it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use betanet_mix::delay::{CAP_IN_MEANS, VrfDelays};
use betanet_mix::directory::OwedProof;
use betanet_mix::epoch::{Epoch, EpochClock};
use betanet_mix::view::{Beacon, DelayProof, DelaySeed, NetworkView, NodeDescriptor};
use betanet_mix::vrf::{VrfPublicKey, VrfSecretKey};
use serde::{Deserialize, Serialize};

use crate::state::{StateDir, StateError, read_json, unless_damaged, write_private_json};

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
    key: VrfSecretKey,
    /// What was found and does not change any more.
    seeds: BTreeMap<Epoch, DelaySeed>,
    /// What follows from those that are on disk.
    ready: BTreeMap<Epoch, (VrfDelays, DelayProof)>,
    /// When this process let in the last packet under the keys that it has given up.
    retired: BTreeMap<Epoch, Instant>,
    /// Beacons whose β may have been told, of epochs that a clock which was set back brings again.
    spent: BTreeMap<Epoch, Beacon>,
    /// Proofs that the authority asks for.
    owed: Vec<OwedProof>,
}

/// Seeds that must be on disk before they are used.
#[derive(Debug)]
pub struct UnwrittenSeeds {
    path: PathBuf,
    key: VrfSecretKey,
    seeds: BTreeMap<Epoch, DelaySeed>,
    missing: Vec<Epoch>,
}

impl UnwrittenSeeds {
    /// Writes the seeds and computes the delays that follow.
    ///
    /// # Errors
    /// The seeds cannot be written; none of them may be used then.
    pub fn write(self) -> Result<FixedDelays, StateError> {
        let file = SeedsFile { seeds: self.seeds };
        write_private_json(&self.path, &file)?;
        let fix = |epoch: &Epoch| Some((*epoch, file.seeds.get(epoch)?.delays(&self.key, *epoch)));
        Ok(FixedDelays(self.missing.iter().filter_map(fix).collect()))
    }
}

/// Delays whose seeds are on disk.
#[derive(Debug)]
pub struct FixedDelays(BTreeMap<Epoch, (VrfDelays, DelayProof)>);

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
        let key = VrfSecretKey::from_seed(&*state.secret(KEY_FILE)?);
        let path = state.join(SEEDS_FILE);
        let SeedsFile { seeds } = unless_damaged(read_json(&path, "list of delay seeds"))?.unwrap_or_default();
        let ready = seeds.iter().map(|(epoch, seed)| (*epoch, seed.delays(&key, *epoch))).collect();
        Ok(Self { path, key, seeds, ready, retired: BTreeMap::new(), spent: BTreeMap::new(), owed: Vec::new() })
    }

    /// The key that others check proofs with.
    #[must_use]
    pub fn public_key(&self) -> VrfPublicKey {
        self.key.public()
    }

    /// Finds the seeds of the epochs whose keys are or will soon be accepted, as far as the
    /// consensuses say what they are. What was found stays, also while it cannot be written.
    #[must_use]
    pub fn missing_seeds<'a>(
        &mut self,
        current: Epoch,
        views: impl IntoIterator<Item = &'a NetworkView, IntoIter: Clone>,
    ) -> Option<UnwrittenSeeds> {
        // A former process may have gone by a clock that was ahead. As the latest, its seeds would push out those of now.
        self.forget_after(current.next());
        let views = views.into_iter();
        for epoch in [current.previous(), current, current.next()] {
            if !self.seeds.contains_key(&epoch)
                && let Some(seed) = DelaySeed::find(epoch, current, views.clone())
            {
                self.seeds.insert(epoch, seed);
            }
        }
        while self.seeds.len() > KEPT {
            self.seeds.pop_first();
        }
        let missing: Vec<Epoch> = self.seeds.keys().filter(|epoch| !self.ready.contains_key(epoch)).copied().collect();
        (!missing.is_empty()).then(|| UnwrittenSeeds {
            path: self.path.clone(),
            key: self.key.clone(),
            seeds: self.seeds.clone(),
            missing,
        })
    }

    /// Uses seeds that are on disk now.
    pub fn adopt(&mut self, fixed: FixedDelays) {
        self.ready.extend(fixed.0);
        self.ready.retain(|epoch, _| self.seeds.contains_key(epoch));
        self.retired.retain(|epoch, _| self.seeds.contains_key(epoch));
        let kept = KEPT * 2;
        while self.spent.len() > kept {
            self.spent.pop_first();
        }
    }

    /// Notes that from `now` on no packet is let in under the keys of `epochs`.
    pub fn retire(&mut self, epochs: &[Epoch], now: Instant) {
        self.retired.extend(epochs.iter().map(|epoch| (*epoch, now)));
    }

    /// Goes back from the epoch `former` to the one before `last`, for a clock that was set back. Seeds of
    /// the future are found anew when their epochs come; the keys that they belonged to are gone. What
    /// may have been told is not waited by again.
    pub fn set_back(&mut self, former: Epoch, last: Epoch) {
        let missed = self.owed.iter().filter(|owed| !self.seeds.contains_key(&owed.epoch));
        let known = self.seeds.iter().map(|(epoch, seed)| (*epoch, seed.beacon));
        let told = missed.map(|owed| (owed.epoch, owed.seed.beacon)).chain(known);
        self.spent.extend(told.filter(|(epoch, _)| epoch.next() < former));
        self.forget_after(last);
    }

    fn forget_after(&mut self, last: Epoch) {
        self.seeds.retain(|epoch, _| *epoch <= last);
        self.ready.retain(|epoch, _| *epoch <= last);
        self.retired.retain(|epoch, _| *epoch <= last);
    }

    /// Notes which proofs the authority asks for, with the beacons of epochs that this node may have missed.
    pub fn owe(&mut self, mut owed: Vec<OwedProof>) {
        owed.sort_unstable_by_key(|owed| owed.epoch);
        self.owed = owed;
    }

    /// The delays of packets under the key of `epoch`, if they are fixed.
    #[must_use]
    pub fn source(&self, epoch: Epoch) -> Option<VrfDelays> {
        let beacon = self.seeds.get(&epoch).map(|seed| &seed.beacon);
        if beacon.is_some() && beacon == self.spent.get(&epoch) {
            return None;
        }
        self.ready.get(&epoch).map(|(delays, _)| delays.clone())
    }

    /// The proofs to publish: of epochs whose key the node, now in epoch `current`, accepts no
    /// more, once the last packet has left. What a former process let in ended with it.
    #[must_use]
    pub fn revealed(&self, current: Epoch, clock: &EpochClock, now_ms: u64, now: Instant) -> Vec<DelayProof> {
        let has_left = |epoch: &Epoch, delays: &VrfDelays| {
            let cap = delays.mean().saturating_mul(CAP_IN_MEANS);
            self.retired.get(epoch).is_none_or(|at| now.saturating_duration_since(*at) >= cap)
        };
        let past = self.seeds.iter().rev().filter(|(epoch, seed)| {
            // The clock alone is not enough: it may have jumped while the key is still held.
            epoch.next() < current && seed.reveal_ms(**epoch, clock) <= now_ms
        });
        let own = past
            .filter_map(|(epoch, _)| self.ready.get(epoch).filter(|(delays, _)| has_left(epoch, delays)))
            .map(|(_, proof)| proof.clone());
        let own: Vec<DelayProof> = own.collect();
        // An epoch without a seed let no packet through, so nothing ever waited by what is told of it.
        let missed = self.owed.iter().filter(|OwedProof { epoch, seed }| {
            epoch.next() < current && seed.reveal_ms(*epoch, clock) <= now_ms && !self.seeds.contains_key(epoch)
        });
        // No more than find room: each takes a while, and packets wait for the lock.
        let missed = missed.take(NodeDescriptor::MAX_PROOFS);
        let missed: Vec<_> = missed.map(|owed| owed.seed.delays(&self.key, owed.epoch).1).collect();
        let asked = |proof: &&DelayProof| self.owed.iter().any(|owed| owed.epoch == proof.epoch);
        // What is asked for comes first, the oldest before all: it keeps this node out.
        let (due, rest): (Vec<_>, Vec<_>) = own.iter().partition(asked);
        let first = missed.iter().chain(due).map(|proof| (proof.epoch, proof)).collect::<BTreeMap<_, _>>();
        let chosen = first.into_values().chain(rest).take(NodeDescriptor::MAX_PROOFS);
        let mut proofs: Vec<DelayProof> = chosen.cloned().collect();
        proofs.sort_unstable_by_key(|proof| proof.epoch);
        proofs
    }
}

#[cfg(test)]
mod tests;
