//! A node's packet keys with their replay caches, on disk and in memory.
//!
//! A tag is in the page cache before its packet may leave, so a killed process forgets nothing; a
//! machine that went down may have, so after a reboot every key is new.
//!
//! Every packet takes the lock on the keys, and the disk is slow; so nothing is written under it. The logs have a lock of
//! their own, which is taken first where both are. New keys come in three steps: [`PacketKeys::retire`] and [`PacketKeys::adopt`]
//! are quick, [`Retired::erase`] and [`Renewal::write`] are slow and hold no lock. A key is used and published when it is
//! on disk.

mod log;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use betanet_mix::epoch::{Epoch, KeyRing};
use betanet_mix::replay::ReplayCache;
use betanet_sphinx::{PacketError, PublicKey, ReplayFilter, ReplayTag, SecretKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use self::log::{Log, Paths, remove};
use crate::bounded::there;
use crate::random::os_rng;
use crate::state::{StateDir, StateError, read_private_json, unless_damaged, write_private_json};
use crate::sync::lock;

/// The file with keys and filter keys.
const KEYS_FILE: &str = "epochs.json";

/// Keys, caches and logs, shared by all threads.
#[derive(Debug)]
pub struct PacketKeys {
    dir: PathBuf,
    /// Entries that fit into all caches together.
    capacity: usize,
    logs: Mutex<BTreeMap<Epoch, Log>>,
    keys: Mutex<Keys>,
}

#[derive(Debug)]
struct Keys {
    boot_id: String,
    ring: KeyRing,
    caches: BTreeMap<Epoch, ReplayCache>,
    /// Whether the key file holds these keys and no others.
    saved: bool,
}

/// Keys that are not accepted any more, with what belongs to them.
#[derive(Debug)]
#[must_use = "the logs are still there"]
pub struct Retired {
    epochs: Vec<Epoch>,
    caches: Vec<ReplayCache>,
    logs: Vec<Paths>,
}

impl Retired {
    /// The epochs of the keys.
    #[must_use]
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// Gives the memory back and removes the logs.
    pub fn erase(self) {
        drop(self.caches);
        self.logs.iter().for_each(Paths::remove);
    }
}

/// What the key file must become. Holds copies, so that it is written without the lock.
#[derive(Debug)]
pub struct Renewal {
    dir: PathBuf,
    boot_id: String,
    ring: KeyRing,
    filters: BTreeMap<Epoch, Zeroizing<[u8; 16]>>,
    capacity: usize,
}

impl Renewal {
    /// Makes the missing keys, writes the key file, and begins their logs.
    ///
    /// # Errors
    /// A file cannot be written; no new key may be used then.
    pub fn write(mut self) -> Result<Renewed, StateError> {
        let current = self.ring.current();
        if self.ring.public_keys().is_empty() {
            // Senders use the key of the epoch before until every clock has passed the boundary, so
            // a node that starts just behind one needs that key as well.
            self.ring = KeyRing::new(&mut os_rng(), current.previous());
        }
        self.ring.rotate(&mut os_rng(), current);
        let missing = self.ring.public_keys().into_keys().filter(|epoch| !self.filters.contains_key(epoch));
        let caches: BTreeMap<_, _> =
            missing.map(|epoch| (epoch, ReplayCache::new(&mut os_rng(), self.capacity))).collect();
        let added = caches.iter().map(|(epoch, cache)| (epoch, cache.filter_key()));
        let file = KeyFile {
            boot_id: self.boot_id,
            ring: hex::encode(self.ring.export().as_slice()),
            filters: self
                .filters
                .iter()
                .chain(added)
                .map(|(epoch, key)| (epoch.0, hex::encode(key.as_slice())))
                .collect(),
        };
        write_private_json(&self.dir.join(KEYS_FILE), &file)?;
        // The logs come after the keys: a file that could not be written may still hold a former key of the same
        // epoch, and one with an empty log would let everything pass once more.
        let mut fresh = BTreeMap::new();
        for (epoch, cache) in caches {
            let paths = Paths::new(&self.dir, epoch);
            let log = Log::create(&paths, cache.filter_key());
            let log = log.map_err(|source| StateError::Io { action: "create", path: paths.log, source })?;
            fresh.insert(epoch, (cache, log));
        }
        Ok(Renewed { ring: self.ring, fresh })
    }
}

/// Keys that are on disk.
#[derive(Debug)]
pub struct Renewed {
    ring: KeyRing,
    fresh: BTreeMap<Epoch, (ReplayCache, Log)>,
}

/// What stands in the key file.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    boot_id: String,
    ring: String,
    filters: BTreeMap<u64, String>,
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        self.ring.zeroize();
        self.filters.values_mut().for_each(Zeroize::zeroize);
    }
}

impl PacketKeys {
    /// Takes up the keys of this boot, or makes new ones; either way those of `now` are there.
    ///
    /// `capacity` bounds the entries of all keys together.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open(state: &StateDir, boot_id: &str, now: Epoch, capacity: usize) -> Result<Self, StateError> {
        let kept = unless_damaged(read_private_json::<KeyFile>(&state.join(KEYS_FILE), "key file"))?
            .filter(|file| !boot_id.is_empty() && file.boot_id == boot_id);
        let mut packet_keys = Self {
            dir: state.path().to_owned(),
            capacity,
            logs: Mutex::default(),
            keys: Mutex::new(Keys {
                boot_id: boot_id.to_owned(),
                ring: KeyRing::empty(now),
                caches: BTreeMap::new(),
                saved: false,
            }),
        };
        if !kept.map(|file| packet_keys.take_over(&file)).transpose()?.unwrap_or(false) {
            packet_keys.remove_logs();
        }
        packet_keys.rotate(now)?;
        Ok(packet_keys)
    }

    /// Uses what a former process of this boot left. A key whose log is not there as it was written is
    /// not used again: packets may have passed that nobody would recognise. Says whether there are keys in the file.
    fn take_over(&mut self, file: &KeyFile) -> Result<bool, StateError> {
        let Some(mut ring) =
            hex::decode(&file.ring).ok().map(Zeroizing::new).and_then(|bytes| KeyRing::import(&bytes).ok())
        else {
            return Ok(false);
        };
        for epoch in ring.public_keys().into_keys() {
            let filter = file.filters.get(&epoch.0).and_then(|filter| {
                let mut key = Zeroizing::new([0; 16]);
                hex::decode_to_slice(filter, key.as_mut_slice()).ok().map(|()| key)
            });
            let paths = Paths::new(&self.dir, epoch);
            let restored = filter.map(|filter| there(Log::restore(&paths, filter, self.capacity))).transpose();
            let restored = restored.map_err(|source| StateError::Io { action: "read", path: paths.log, source })?;
            if let Some((log, cache)) = restored.flatten() {
                lock(&self.logs).insert(epoch, log);
                lock(&self.keys).caches.insert(epoch, cache);
            } else {
                ring.erase(epoch);
            }
        }
        lock(&self.keys).ring = ring;
        Ok(true)
    }

    /// Moves to the epoch of `now` in one go: erases what is no longer accepted, makes what is missing.
    ///
    /// # Errors
    /// A file cannot be written; no key is new then.
    pub fn rotate(&self, now: Epoch) -> Result<(), StateError> {
        self.retire(now).erase();
        if let Some(renewal) = self.renewal() {
            self.adopt(renewal.write()?);
        }
        Ok(())
    }

    /// Moves to the epoch of `now`: from here on, packets under older keys than the one before it
    /// find no key. Where a wrong clock is set back, keys of the future go as well, with their logs.
    pub fn retire(&self, now: Epoch) -> Retired {
        self.give_up(|keys| {
            if now != keys.ring.current() {
                keys.saved = false;
            }
            keys.ring.advance(now)
        })
    }

    /// Whether the keys belong to the boot `boot_id`.
    #[must_use]
    pub fn are_of(&self, boot_id: &str) -> bool {
        lock(&self.keys).boot_id == boot_id
    }

    /// Gives up all keys: what they let in before may be forgotten. The next ones belong to `boot_id`, or to the same boot
    /// as these where none is named.
    pub fn forget(&self, boot_id: Option<String>) -> Retired {
        self.give_up(|keys| {
            keys.saved = false;
            if let Some(boot_id) = boot_id {
                keys.boot_id = boot_id;
            }
            let epochs: Vec<Epoch> = keys.ring.public_keys().into_keys().collect();
            epochs.into_iter().filter(|epoch| keys.ring.erase(*epoch)).collect()
        })
    }

    /// Takes keys out of use, and what belongs to them.
    ///
    /// Threads that have just let packets in under one of them wait for the lock on the logs, and then for nothing: so their
    /// tags are written here. Should the process be killed before the log is gone, it holds them; if it cannot be
    /// written, their key goes anyway.
    fn give_up(&self, which: impl FnOnce(&mut Keys) -> Vec<Epoch>) -> Retired {
        let mut logs = lock(&self.logs);
        let (epochs, mut caches) = {
            let mut keys = lock(&self.keys);
            let epochs = which(&mut keys);
            let caches: Vec<_> = epochs.iter().filter_map(|epoch| keys.caches.remove_entry(epoch)).collect();
            (epochs, caches)
        };
        for (epoch, cache) in &mut caches {
            if let Some(mut log) = logs.remove(epoch) {
                cache.take_unlogged(&mut log.pending);
                let _ = log.write();
            }
        }
        Retired {
            logs: epochs.iter().map(|epoch| Paths::new(&self.dir, *epoch)).collect(),
            caches: caches.into_iter().map(|(_, cache)| cache).collect(),
            epochs,
        }
    }

    /// What must be written before the next keys can be used; nothing if all are there.
    #[must_use]
    pub fn renewal(&self) -> Option<Renewal> {
        let keys = lock(&self.keys);
        if keys.saved {
            return None;
        }
        let filter = |(epoch, cache): (&Epoch, &ReplayCache)| (*epoch, cache.filter_key().clone());
        Some(Renewal {
            dir: self.dir.clone(),
            boot_id: keys.boot_id.clone(),
            ring: keys.ring.clone(),
            filters: keys.caches.iter().map(filter).collect(),
            capacity: self.capacity,
        })
    }

    /// Uses keys that are on disk now. Between [`Self::renewal`] and this, nothing may be retired.
    pub fn adopt(&self, renewed: Renewed) {
        let mut logs = lock(&self.logs);
        let mut keys = lock(&self.keys);
        keys.ring = renewed.ring;
        for (epoch, (cache, log)) in renewed.fresh {
            logs.insert(epoch, log);
            keys.caches.insert(epoch, cache);
        }
        keys.saved = true;
    }

    /// The epoch whose key is current.
    #[must_use]
    pub fn current(&self) -> Epoch {
        lock(&self.keys).ring.current()
    }

    /// The keys to publish.
    #[must_use]
    pub fn public_keys(&self) -> BTreeMap<Epoch, PublicKey> {
        lock(&self.keys).ring.public_keys()
    }

    /// The secret for packets of this parity.
    #[must_use]
    pub fn accept(&self, parity: u8) -> Option<(Epoch, SecretKey)> {
        lock(&self.keys).ring.accept(parity).map(|(epoch, secret)| (epoch, secret.clone()))
    }

    /// Checks a tag under the key of `epoch` and remembers it.
    ///
    /// # Errors
    /// A replay, no room in all caches together, or a key that is gone.
    pub fn check_and_insert(&self, epoch: Epoch, tag: &ReplayTag) -> Result<(), PacketError> {
        let mut keys = lock(&self.keys);
        let is_full = keys.held() >= self.capacity;
        let cache = keys.caches.get_mut(&epoch).ok_or(PacketError::NoKey)?;
        if is_full { Err(cache.refuse(tag)) } else { cache.check_and_insert(tag) }
    }

    /// Appends all new tags to their logs, also those of other threads. Only then may the packets
    /// behind them leave.
    ///
    /// One thread writes at a time. The others wait for it, and have nothing left to write or write what has come meanwhile.
    ///
    /// # Errors
    /// A log cannot be written; the packets behind the caller's new tags must be dropped. The tags
    /// themselves stay new, so that no other thread takes them for written.
    pub fn write_logs(&self) -> io::Result<()> {
        let mut logs = lock(&self.logs);
        for (epoch, cache) in &mut lock(&self.keys).caches {
            if let Some(log) = logs.get_mut(epoch) {
                cache.take_unlogged(&mut log.pending);
            }
        }
        logs.values_mut().map(Log::write).fold(Ok(()), io::Result::and)
    }

    /// Entries held, and entries that fit.
    #[must_use]
    pub fn replay_load(&self) -> (usize, usize) {
        (lock(&self.keys).held(), self.capacity)
    }

    /// Bytes of memory that the entries take.
    #[must_use]
    pub fn replay_memory(&self) -> usize {
        lock(&self.keys).caches.values().map(ReplayCache::memory_bytes).sum()
    }

    /// The newest epoch that there is a key for; none while no key is on disk.
    #[must_use]
    pub fn newest(&self) -> Option<Epoch> {
        self.public_keys().into_keys().next_back()
    }

    fn remove_logs(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.flatten().filter(|entry| Paths::is_one(&entry.file_name().to_string_lossy())) {
            remove(&entry.path());
        }
    }
}

impl Keys {
    fn held(&self) -> usize {
        self.caches.values().map(ReplayCache::len).sum()
    }
}

#[cfg(test)]
mod tests;
