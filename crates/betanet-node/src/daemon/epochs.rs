//! A node's packet keys with their replay caches, on disk and in memory.
//!
//! A tag is in the page cache before its packet may leave, so a killed process forgets nothing; a
//! machine that went down may have, so after a reboot every key is new.
//!
//! New keys come in three steps, because every packet takes the lock on [`Epochs`] and the disk is
//! slow: [`Epochs::retire`] and [`Epochs::adopt`] need the lock and are quick, [`Retired::erase`]
//! and [`Renewal::write`] are slow and do without. A key is used and published when it is on disk.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use betanet_mix::epoch::{Epoch, KeyRing};
use betanet_mix::replay::{LOG_ENTRY_LEN, ReplayCache};
use betanet_sphinx::{PacketError, PublicKey, ReplayFilter, ReplayTag, SecretKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::bounded::read_regular;
use crate::random::os_rng;
use crate::state::{NEVER_WAIT, StateDir, StateError, read_private_json, write_private};

/// The file with keys and filter keys.
const KEYS_FILE: &str = "epochs.json";

/// Keys, caches and logs. Not shared: the owner puts it behind a lock.
#[derive(Debug)]
pub struct Epochs {
    dir: PathBuf,
    boot_id: String,
    ring: KeyRing,
    generations: BTreeMap<Epoch, Generation>,
    capacity: usize,
    /// Whether the key file holds these keys and no others.
    saved: bool,
}

/// Keys that are not accepted any more, with what belongs to them.
#[derive(Debug)]
#[must_use = "the logs are still there"]
pub struct Retired {
    epochs: Vec<Epoch>,
    generations: Vec<Generation>,
    logs: Vec<PathBuf>,
}

impl Retired {
    /// The epochs of the keys.
    #[must_use]
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// Gives the memory back and removes the logs.
    pub fn erase(self) {
        drop(self.generations);
        self.logs.iter().for_each(|log| remove(log));
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
        self.ring.rotate(&mut os_rng(), self.ring.current());
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
        let path = self.dir.join(KEYS_FILE);
        let bytes = Zeroizing::new(serde_json::to_vec(&file).map_err(|err| StateError::Io {
            action: "encode",
            path: path.clone(),
            source: err.into(),
        })?);
        write_private(&path, &bytes)?;
        // The logs come after the keys: a file that could not be written may still hold a former key of the same
        // epoch, and one with an empty log would let everything pass once more.
        let mut fresh = BTreeMap::new();
        for (epoch, cache) in caches {
            let path = log_path(&self.dir, epoch);
            let log = create_log(&path).map_err(|source| StateError::Io { action: "create", path, source })?;
            fresh.insert(epoch, Generation { cache, log, written: 0, torn: false });
        }
        Ok(Renewed { ring: self.ring, fresh })
    }
}

/// Keys that are on disk.
#[derive(Debug)]
pub struct Renewed {
    ring: KeyRing,
    fresh: BTreeMap<Epoch, Generation>,
}

#[derive(Debug)]
struct Generation {
    cache: ReplayCache,
    log: File,
    /// Bytes of whole entries in the log.
    written: u64,
    /// Whether more than those may be in the log.
    torn: bool,
}

impl Generation {
    fn write_log(&mut self) -> io::Result<()> {
        let fresh = self.cache.unlogged();
        if fresh.is_empty() {
            return Ok(());
        }
        // Whatever a failed write has left behind whole entries would shift all later ones.
        if self.torn {
            self.log.set_len(self.written)?;
        }
        self.torn = true;
        self.log.write_all(fresh)?;
        self.torn = false;
        self.written += u64::try_from(fresh.len()).unwrap_or(0);
        self.cache.mark_logged();
        Ok(())
    }
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

impl Epochs {
    /// Takes up the keys of this boot, or makes new ones; either way those of `now` are there.
    ///
    /// `capacity` bounds the entries of one generation.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open(state: &StateDir, boot_id: &str, now: Epoch, capacity: usize) -> Result<Self, StateError> {
        let kept = read_private_json::<KeyFile>(&state.join(KEYS_FILE), "key file")?
            .filter(|file| !boot_id.is_empty() && file.boot_id == boot_id);
        let mut epochs = Self {
            dir: state.path().to_owned(),
            boot_id: boot_id.to_owned(),
            // Senders use the key of the epoch before until every clock has passed the boundary, so
            // a node that starts just behind one needs that key as well.
            ring: KeyRing::new(&mut os_rng(), now.previous()),
            generations: BTreeMap::new(),
            capacity,
            saved: false,
        };
        if let Some(file) = kept {
            epochs.take_over(&file);
        } else {
            epochs.remove_logs();
        }
        epochs.rotate(now)?;
        Ok(epochs)
    }

    /// Uses what a former process of this boot left. A key whose log is missing or cannot be read as
    /// one is not used again: packets may have passed that nobody would recognise.
    fn take_over(&mut self, file: &KeyFile) {
        let Some(mut ring) =
            hex::decode(&file.ring).ok().map(Zeroizing::new).and_then(|bytes| KeyRing::import(&bytes).ok())
        else {
            return;
        };
        for epoch in ring.public_keys().into_keys() {
            let generation = file.filters.get(&epoch.0).and_then(|filter| self.restore(epoch, filter));
            match generation {
                Some(generation) => {
                    self.generations.insert(epoch, generation);
                }
                None => {
                    ring.erase(epoch);
                }
            }
        }
        self.ring = ring;
    }

    fn restore(&self, epoch: Epoch, filter: &str) -> Option<Generation> {
        let mut key = Zeroizing::new([0; 16]);
        hex::decode_to_slice(filter, key.as_mut_slice()).ok()?;
        let mut log = OpenOptions::new()
            .read(true)
            .append(true)
            .custom_flags(NEVER_WAIT)
            .open(log_path(&self.dir, epoch))
            .ok()?;
        // Longer than this, it holds more than fits.
        let limit = self.capacity.saturating_add(1).saturating_mul(LOG_ENTRY_LEN);
        let bytes = read_regular(&mut log, limit).ok()?;
        let (cache, restored) = ReplayCache::restore(key, self.capacity, &bytes).ok()?;
        let written = u64::try_from(bytes.len() - restored.torn_bytes).ok()?;
        // An entry that was cut short belongs to a packet that never left.
        log.set_len(written).ok()?;
        Some(Generation { cache, log, written, torn: false })
    }

    /// Moves to the epoch of `now` in one go: erases what is no longer accepted, makes what is missing.
    ///
    /// # Errors
    /// A file cannot be written; no key is new then.
    pub fn rotate(&mut self, now: Epoch) -> Result<(), StateError> {
        self.retire(now).erase();
        if let Some(renewal) = self.renewal() {
            self.adopt(renewal.write()?);
        }
        Ok(())
    }

    /// Moves to the epoch of `now`: from here on, packets under older keys than the one before it
    /// find no key. Where a wrong clock is set back, keys of the future go as well, with their logs.
    pub fn retire(&mut self, now: Epoch) -> Retired {
        if now != self.current() {
            self.saved = false;
            // Packets that were just let in leave without waiting for a log that goes. Should the process
            // be killed before it is gone, it holds them; if it cannot be written, their key goes anyway.
            let _ = self.write_logs();
        }
        let epochs = self.ring.advance(now);
        let generations = epochs.iter().filter_map(|epoch| self.generations.remove(epoch)).collect();
        let logs = epochs.iter().map(|epoch| log_path(&self.dir, *epoch)).collect();
        Retired { epochs, generations, logs }
    }

    /// What must be written before the next keys can be used; nothing if all are there.
    #[must_use]
    pub fn renewal(&self) -> Option<Renewal> {
        if self.saved {
            return None;
        }
        let filter = |(epoch, generation): (&Epoch, &Generation)| (*epoch, generation.cache.filter_key().clone());
        Some(Renewal {
            dir: self.dir.clone(),
            boot_id: self.boot_id.clone(),
            ring: self.ring.clone(),
            filters: self.generations.iter().map(filter).collect(),
            capacity: self.capacity,
        })
    }

    /// Uses keys that are on disk now. Between [`Self::renewal`] and this, nothing may be retired.
    pub fn adopt(&mut self, renewed: Renewed) {
        self.ring = renewed.ring;
        self.generations.extend(renewed.fresh);
        self.saved = true;
    }

    /// The epoch whose key is current.
    #[must_use]
    pub fn current(&self) -> Epoch {
        self.ring.current()
    }

    /// The keys to publish.
    #[must_use]
    pub fn public_keys(&self) -> BTreeMap<Epoch, PublicKey> {
        self.ring.public_keys()
    }

    /// The secret for packets of this parity.
    #[must_use]
    pub fn accept(&self, parity: u8) -> Option<(Epoch, SecretKey)> {
        self.ring.accept(parity).map(|(epoch, secret)| (epoch, secret.clone()))
    }

    /// Checks a tag under the key of `epoch` and remembers it.
    ///
    /// # Errors
    /// A replay, a full cache, or a key that is gone.
    pub fn check_and_insert(&mut self, epoch: Epoch, tag: &ReplayTag) -> Result<(), PacketError> {
        self.generations.get_mut(&epoch).ok_or(PacketError::NoKey)?.cache.check_and_insert(tag)
    }

    /// Appends all new tags to their logs, also those of other threads. Only then may the packets
    /// behind them leave.
    ///
    /// # Errors
    /// A log cannot be written; the packets behind the caller's new tags must be dropped. The tags
    /// themselves stay new, so that no other thread takes them for written.
    pub fn write_logs(&mut self) -> io::Result<()> {
        let mut outcome = Ok(());
        for generation in self.generations.values_mut() {
            if let Err(err) = generation.write_log() {
                outcome = Err(err);
            }
        }
        outcome
    }

    /// Entries held, and entries that fit.
    #[must_use]
    pub fn replay_load(&self) -> (usize, usize) {
        self.generations.values().fold((0, 0_usize), |(len, capacity), generation| {
            (len + generation.cache.len(), capacity.saturating_add(generation.cache.capacity()))
        })
    }

    fn remove_logs(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("replay-") && name.ends_with(".log") {
                remove(&entry.path());
            }
        }
    }
}

fn log_path(dir: &Path, epoch: Epoch) -> PathBuf {
    dir.join(format!("replay-{epoch}.log"))
}

/// An empty log in place of whatever is there.
fn create_log(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    OpenOptions::new().create_new(true).append(true).mode(0o600).open(path)
}

fn remove(path: &Path) {
    // What is gone already needs no removing, and what cannot be removed is useless without its key.
    let _ = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests;
