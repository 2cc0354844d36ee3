//! The workers that the authority lists. No I/O and no clock: time is passed in.

use std::collections::BTreeMap;

use crate::epoch::Epoch;
use crate::view::{Document, DocumentError, Signed, Verified, WorkerDescriptor, WorkerId, WorkerList};
use betanet_sphinx::NodeId;
use ed25519_dalek::SigningKey;

use super::terms::AHEAD_MS;

/// How long a descriptor may hold, in milliseconds: what a worker leaves behind is gone soon.
const LIFETIME_MS: u64 = 3_600_000;

/// What the list may hold.
#[derive(Clone, Copy, Debug)]
struct Limits {
    workers: usize,
    bytes: usize,
}

/// A list of this size can be signed, and fits a control message in which it is quoted once more.
const LIMITS: Limits = Limits { workers: 4096, bytes: WorkerList::MAX_BYTES - 4096 };

/// All workers, by their keys.
#[derive(Debug)]
pub struct Workers {
    limits: Limits,
    known: BTreeMap<WorkerId, Entry>,
    bytes: usize,
    revision: u64,
    list: Option<Verified<WorkerList>>,
}

#[derive(Debug)]
struct Entry {
    descriptor: Verified<WorkerDescriptor>,
    /// Bytes that it takes in the list.
    bytes: usize,
    /// The edge that passed it on; nobody after a restart.
    brought_by: Option<NodeId>,
}

impl Workers {
    /// Goes on with what [`Workers::save`] gave.
    #[must_use]
    pub fn open(saved: &[Signed], now_ms: u64) -> Self {
        let mut workers = Self { limits: LIMITS, known: BTreeMap::new(), bytes: 0, revision: 0, list: None };
        for signed in saved {
            // What has run out meanwhile is no loss.
            let _ = workers.insert(None, signed, now_ms);
        }
        workers
    }

    /// The descriptors, with the revision that they make up.
    #[must_use]
    pub fn save(&self) -> (u64, Vec<Signed>) {
        (self.revision, self.known.values().map(|entry| entry.descriptor.signed().clone()).collect())
    }

    /// Takes a descriptor that `edge` passes on; returns the revision of the list with it.
    ///
    /// # Errors
    /// It is refused; a line for the worker's owner.
    pub fn put(&mut self, edge: NodeId, signed: &Signed, now_ms: u64) -> Result<u64, String> {
        self.insert(Some(edge), signed, now_ms)
    }

    fn insert(&mut self, brought_by: Option<NodeId>, signed: &Signed, now_ms: u64) -> Result<u64, String> {
        let descriptor = signed.verify_worker().map_err(|err| err.to_string())?;
        if descriptor.expires_ms <= now_ms || descriptor.issued_ms > now_ms.saturating_add(AHEAD_MS) {
            return Err("the descriptor is out of date; check the clock".to_owned());
        }
        if descriptor.expires_ms > now_ms.saturating_add(LIFETIME_MS + AHEAD_MS) {
            return Err("a worker's descriptor holds for an hour at most; publish it more often".to_owned());
        }
        let id = descriptor.id;
        // What bears a later date than now is no newer: its worker's clock was set back since.
        let known_ms = self.known.get(&id).map(|known| known.descriptor.issued_ms);
        if known_ms.is_some_and(|known_ms| known_ms > descriptor.issued_ms && known_ms <= now_ms) {
            return Err("a newer descriptor is known".to_owned());
        }
        self.expire(now_ms);
        let bytes = serde_json::to_vec(signed).map_err(|err| err.to_string())?.len() + ",".len();
        // Ahead of what a former process may have shown and not saved.
        self.revision = (self.revision + 1).max(now_ms);
        let former = self.remove(id);
        if let Err(full) = self.make_room(brought_by, bytes) {
            if let Some(former) = former {
                self.add(id, former);
            }
            return Err(full);
        }
        self.add(id, Entry { descriptor, bytes, brought_by });
        Ok(self.revision)
    }

    /// In a full list, the descriptor that runs out first makes way among those of the edge that
    /// takes most of the room, unless the newcomer's edge would take as much.
    fn make_room(&mut self, brought_by: Option<NodeId>, bytes: usize) -> Result<(), String> {
        while self.known.len() >= self.limits.workers || self.bytes + bytes > self.limits.bytes {
            let mut shares: BTreeMap<Option<NodeId>, usize> = BTreeMap::new();
            for entry in self.known.values() {
                *shares.entry(entry.brought_by).or_default() += entry.bytes;
            }
            let own = shares.get(&brought_by).copied().unwrap_or(0) + bytes;
            let most = shares.into_iter().max_by_key(|(_, share)| *share).filter(|(_, share)| *share > own);
            let victim = most.and_then(|(edge, _)| {
                let of_edge = self.known.iter().filter(|(_, entry)| entry.brought_by == edge);
                of_edge.min_by_key(|(_, entry)| entry.descriptor.expires_ms).map(|(id, _)| *id)
            });
            self.remove(victim.ok_or("the worker list is full")?);
        }
        Ok(())
    }

    fn add(&mut self, id: WorkerId, entry: Entry) {
        self.bytes += entry.bytes;
        self.known.insert(id, entry);
        self.list = None;
    }

    fn remove(&mut self, id: WorkerId) -> Option<Entry> {
        let entry = self.known.remove(&id)?;
        self.bytes -= entry.bytes;
        self.list = None;
        Some(entry)
    }

    fn expire(&mut self, now_ms: u64) {
        let expired: Vec<_> =
            self.known.iter().filter(|(_, entry)| entry.descriptor.expires_ms <= now_ms).map(|(id, _)| *id).collect();
        if !expired.is_empty() {
            self.revision = (self.revision + 1).max(now_ms);
        }
        for id in expired {
            self.remove(id);
        }
    }

    /// The signed list; made anew when it has changed.
    ///
    /// # Errors
    /// It breaks a rule of documents.
    pub fn list(
        &mut self,
        epoch: Epoch,
        key: &SigningKey,
        now_ms: u64,
    ) -> Result<&Verified<WorkerList>, DocumentError> {
        self.expire(now_ms);
        let list = if let Some(list) = self.list.take() {
            list
        } else {
            let (revision, workers) = self.save();
            Verified::sign(WorkerList { epoch, revision, workers }, key)?
        };
        Ok(self.list.insert(list))
    }
}

#[cfg(test)]
mod tests;
