//! The workers that the authority lists. No I/O and no clock: time is passed in.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::epoch::Epoch;
use crate::view::{Document, DocumentError, Encoded, Signed, Verified, WorkerDescriptor, WorkerId, WorkerList};
use betanet_sphinx::NodeId;
use ed25519_dalek::SigningKey;

use super::terms::AHEAD_MS;

/// How long a descriptor may hold, in milliseconds: what a worker leaves behind is gone soon.
pub(super) const LIFETIME_MS: u64 = 3_600_000;

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
    list: Option<Listed>,
}

/// An edge that passes descriptors of its clients on, and who runs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bringer {
    /// Its operator, who may have many edges.
    pub operator: String,
    /// The edge.
    pub edge: NodeId,
}

/// The signed list of one revision, as it travels.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The epoch that it was signed in.
    pub epoch: Epoch,
    /// Its revision.
    pub revision: u64,
    /// Its text.
    pub encoded: Arc<Encoded>,
}

#[derive(Debug)]
struct Entry {
    descriptor: Verified<WorkerDescriptor>,
    /// Bytes that it takes in the list.
    bytes: usize,
    /// Who passed it on; nobody after a restart.
    brought_by: Option<Bringer>,
}

impl Workers {
    /// Goes on with what [`Workers::save`] gave.
    #[must_use]
    pub fn open(saved: &[Signed], now_ms: u64) -> Self {
        let mut workers = Self { limits: LIMITS, known: BTreeMap::new(), bytes: 0, revision: now_ms, list: None };
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

    /// Descriptors that have not run out at `now_ms`.
    #[must_use]
    pub fn live(&self, now_ms: u64) -> usize {
        self.known.values().filter(|entry| entry.descriptor.expires_ms > now_ms).count()
    }

    /// Takes a descriptor that `edge` passes on; returns the revision of the list with it.
    ///
    /// # Errors
    /// It is refused; a line for the worker's owner.
    pub fn put(&mut self, edge: &Bringer, signed: &Signed, now_ms: u64) -> Result<u64, String> {
        self.insert(Some(edge), signed, now_ms)
    }

    fn insert(&mut self, brought_by: Option<&Bringer>, signed: &Signed, now_ms: u64) -> Result<u64, String> {
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
        self.add(id, Entry { descriptor, bytes, brought_by: brought_by.cloned() });
        Ok(self.revision)
    }

    fn make_room(&mut self, brought_by: Option<&Bringer>, bytes: usize) -> Result<(), String> {
        while self.known.len() >= self.limits.workers || self.bytes + bytes > self.limits.bytes {
            let victim = self.victim(brought_by, bytes).ok_or("the worker list is full")?;
            self.remove(victim);
        }
        Ok(())
    }

    /// What makes way in a full list: of the operator that takes most of the room, and of that one's edges, the descriptor
    /// that runs out first. Where no operator would have more than the newcomer's, its edges are looked at in the same way.
    fn victim(&self, brought_by: Option<&Bringer>, bytes: usize) -> Option<WorkerId> {
        let operator_of = |by: Option<&Bringer>| by.map(|by| by.operator.clone());
        let own = operator_of(brought_by);
        let by_operator = self.known.values().map(|entry| (operator_of(entry.brought_by.as_ref()), entry.bytes));
        let most = above(by_operator, &own, bytes);
        // Of another operator no edge is the newcomer's, so that any may give way.
        let (operator, bytes) = most.map_or((own, bytes), |operator| (operator, 0));
        let of_operator = || self.known.iter().filter(|(_, entry)| operator_of(entry.brought_by.as_ref()) == operator);
        let by_edge = of_operator().map(|(_, entry)| (entry.brought_by.as_ref(), entry.bytes));
        let edge = above(by_edge, &brought_by, bytes)?;
        let of_edge = of_operator().filter(|(_, entry)| entry.brought_by.as_ref() == edge);
        of_edge.min_by_key(|(_, entry)| entry.descriptor.expires_ms).map(|(id, _)| *id)
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

    /// The signed list; made anew when it has changed, and in each epoch, so that an old one can be told from one that
    /// did not change.
    ///
    /// # Errors
    /// It breaks a rule of documents.
    pub fn list(&mut self, epoch: Epoch, key: &SigningKey, now_ms: u64) -> Result<&Listed, DocumentError> {
        self.expire(now_ms);
        let list = match self.list.take() {
            Some(list) if list.epoch == epoch => list,
            older => {
                if older.is_some() {
                    self.revision = (self.revision + 1).max(now_ms);
                }
                let (revision, workers) = self.save();
                let signed = Verified::sign(WorkerList { epoch, revision, workers }, key)?;
                Listed { epoch, revision, encoded: Arc::new(Encoded::of(signed.signed())) }
            }
        };
        Ok(self.list.insert(list))
    }
}

/// Who has the largest of the shares, if that is more than `own` would have with so many bytes more.
fn above<K: Ord + Clone>(parts: impl Iterator<Item = (K, usize)>, own: &K, bytes: usize) -> Option<K> {
    let mut shares: BTreeMap<K, usize> = BTreeMap::new();
    for (of, part) in parts {
        *shares.entry(of).or_default() += part;
    }
    let own = shares.get(own).copied().unwrap_or(0) + bytes;
    shares.into_iter().max_by_key(|(_, share)| *share).filter(|(_, share)| *share > own).map(|(of, _)| of)
}

#[cfg(test)]
mod tests;
