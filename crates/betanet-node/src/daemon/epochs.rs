//! A node's packet keys with their replay caches, on disk and in memory.
//!
//! A tag is in the page cache before its packet may leave, so a killed process forgets nothing; a
//! machine that went down may have, so after a reboot every key is new.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use betanet_mix::epoch::{Epoch, KeyRing};
use betanet_mix::replay::ReplayCache;
use betanet_sphinx::{PacketError, PublicKey, ReplayFilter, ReplayTag, SecretKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::clock::os_rng;
use crate::state::{StateDir, StateError, read_json, write_private};

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
        let kept = read_json::<KeyFile>(&state.join(KEYS_FILE), "key file")?
            .filter(|file| !boot_id.is_empty() && file.boot_id == boot_id);
        let mut epochs = Self {
            dir: state.path().to_owned(),
            boot_id: boot_id.to_owned(),
            // Senders use the key of the epoch before until every clock has passed the boundary, so
            // a node that starts just behind one needs that key as well.
            ring: KeyRing::new(&mut os_rng(), now.previous()),
            generations: BTreeMap::new(),
            capacity,
        };
        if let Some(file) = kept {
            epochs.take_over(&file);
        } else {
            epochs.remove_logs();
        }
        epochs.rotate(now)?;
        Ok(epochs)
    }

    /// Uses what a former process of this boot left. A key whose log is missing or damaged is not
    /// used again: packets may have passed that nobody would recognise.
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
        let path = self.log_path(epoch);
        let bytes = std::fs::read(&path).ok()?;
        let (cache, restored) = ReplayCache::restore(key, self.capacity, &bytes).ok()?;
        let log = open_log(&path, false).ok()?;
        let written = u64::try_from(bytes.len() - restored.torn_bytes).ok()?;
        // An entry that was cut short belongs to a packet that never left.
        log.set_len(written).ok()?;
        Some(Generation { cache, log, written, torn: false })
    }

    /// Moves to the epoch of `now`: erases what is no longer accepted and makes what is missing.
    ///
    /// Returns whether the published keys changed.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn rotate(&mut self, now: Epoch) -> Result<bool, StateError> {
        let before = self.public_keys();
        for epoch in self.ring.rotate(&mut os_rng(), now) {
            self.generations.remove(&epoch);
            remove(&self.log_path(epoch));
        }
        let wanted: Vec<Epoch> = self.ring.public_keys().into_keys().collect();
        self.generations.retain(|epoch, _| wanted.contains(epoch));
        for epoch in wanted {
            if !self.generations.contains_key(&epoch) {
                let path = self.log_path(epoch);
                let log = open_log(&path, true).map_err(|source| StateError::Io { action: "create", path, source })?;
                let cache = ReplayCache::new(&mut os_rng(), self.capacity);
                self.generations.insert(epoch, Generation { cache, log, written: 0, torn: false });
            }
        }
        let changed = before != self.public_keys();
        if changed || !self.dir.join(KEYS_FILE).exists() {
            self.save()?;
        }
        Ok(changed)
    }

    fn save(&self) -> Result<(), StateError> {
        let file = KeyFile {
            boot_id: self.boot_id.clone(),
            ring: hex::encode(self.ring.export().as_slice()),
            filters: self
                .generations
                .iter()
                .map(|(epoch, generation)| (epoch.0, hex::encode(generation.cache.filter_key().as_slice())))
                .collect(),
        };
        let path = self.dir.join(KEYS_FILE);
        let bytes = Zeroizing::new(serde_json::to_vec(&file).map_err(|err| StateError::Io {
            action: "encode",
            path: path.clone(),
            source: err.into(),
        })?);
        write_private(&path, &bytes)
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
        self.generations.values().fold((0, 0), |(len, capacity), generation| {
            (len + generation.cache.len(), capacity + generation.cache.capacity())
        })
    }

    fn log_path(&self, epoch: Epoch) -> PathBuf {
        self.dir.join(format!("replay-{epoch}.log"))
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

fn open_log(path: &Path, fresh: bool) -> io::Result<File> {
    if fresh {
        remove(path);
    }
    OpenOptions::new().create(fresh).append(true).mode(0o600).open(path)
}

fn remove(path: &Path) {
    // What is gone already needs no removing, and what cannot be removed is useless without its key.
    let _ = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

    use betanet_mix::replay::LOG_ENTRY_LEN;

    use super::*;

    const NOW: Epoch = Epoch(100);

    fn tag(byte: u8) -> ReplayTag {
        ReplayTag::from([byte; 16])
    }

    /// INV-LINK-07
    #[test]
    fn a_restart_in_the_same_boot_keeps_keys_and_memory() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut first = Epochs::open(&state, "boot", NOW, 100).unwrap();
        let keys = first.public_keys();
        first.check_and_insert(NOW, &tag(1)).unwrap();
        first.write_logs().unwrap();
        drop(first);

        let mut second = Epochs::open(&state, "boot", NOW, 100).unwrap();
        assert_eq!(keys, second.public_keys());
        assert_eq!(Err(PacketError::Replay), second.check_and_insert(NOW, &tag(1)));
        assert_eq!(Ok(()), second.check_and_insert(NOW, &tag(2)));
    }

    #[test]
    fn a_torn_log_entry_is_cut_off_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut first = Epochs::open(&state, "boot", NOW, 100).unwrap();
        first.check_and_insert(NOW, &tag(1)).unwrap();
        first.write_logs().unwrap();
        let log = first.log_path(NOW);
        drop(first);
        let mut file = OpenOptions::new().append(true).open(&log).unwrap();
        file.write_all(&[1, 2, 3]).unwrap();

        let mut second = Epochs::open(&state, "boot", NOW, 100).unwrap();
        second.check_and_insert(NOW, &tag(2)).unwrap();
        second.write_logs().unwrap();
        drop(second);
        let mut third = Epochs::open(&state, "boot", NOW, 100).unwrap();
        for seen in [1, 2] {
            assert_eq!(Err(PacketError::Replay), third.check_and_insert(NOW, &tag(seen)));
        }
    }

    /// INV-LINK-07
    #[test]
    fn a_log_that_was_cut_anywhere_still_knows_every_packet_that_left_before() {
        const PACKETS: u8 = 5;
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut first = Epochs::open(&state, "boot", NOW, 100).unwrap();
        for number in 0..PACKETS {
            first.check_and_insert(NOW, &tag(number)).unwrap();
            first.write_logs().unwrap();
        }
        let path = first.log_path(NOW);
        let keys = first.public_keys();
        drop(first);
        let log = std::fs::read(&path).unwrap();
        // A process that is killed while it writes leaves a part of the write behind.
        for cut in 0..=log.len() {
            std::fs::write(&path, &log[..cut]).unwrap();
            let mut killed = Epochs::open(&state, "boot", NOW, 100).unwrap();
            assert_eq!(keys, killed.public_keys());
            let left = u8::try_from(cut / LOG_ENTRY_LEN).unwrap();
            for number in 0..PACKETS {
                let expected = if number < left { Err(PacketError::Replay) } else { Ok(()) };
                assert_eq!(expected, killed.check_and_insert(NOW, &tag(number)), "cut at {cut}");
            }
            // What is written after a cut is whole again.
            killed.write_logs().unwrap();
            drop(killed);
            let mut again = Epochs::open(&state, "boot", NOW, 100).unwrap();
            for number in 0..PACKETS {
                assert_eq!(Err(PacketError::Replay), again.check_and_insert(NOW, &tag(number)), "cut at {cut}");
            }
        }
        // A machine that went down may have lost any part: the same cuts after a reboot find no key.
        for cut in 0..=log.len() {
            let dir = tempfile::tempdir().unwrap();
            std::fs::copy(state.join(KEYS_FILE), dir.path().join(KEYS_FILE)).unwrap();
            std::fs::write(dir.path().join(path.file_name().unwrap()), &log[..cut]).unwrap();
            let state = StateDir::open(dir.path()).unwrap();
            let rebooted = Epochs::open(&state, "another boot", NOW, 100).unwrap();
            assert!(rebooted.public_keys().values().all(|key| keys.values().all(|former| former != key)));
        }
    }

    #[test]
    fn tags_that_a_full_disk_refused_are_not_taken_for_written() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut first = Epochs::open(&state, "boot", NOW, 100).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let log = std::mem::replace(&mut first.generations.get_mut(&NOW).unwrap().log, full);
        first.check_and_insert(NOW, &tag(1)).unwrap();
        assert!(first.write_logs().is_err());
        // Another thread's turn, whose packets wait for the same log.
        assert!(first.write_logs().is_err());
        first.generations.get_mut(&NOW).unwrap().log = log;
        first.check_and_insert(NOW, &tag(2)).unwrap();
        first.write_logs().unwrap();
        drop(first);
        let mut second = Epochs::open(&state, "boot", NOW, 100).unwrap();
        for seen in [1, 2] {
            assert_eq!(Err(PacketError::Replay), second.check_and_insert(NOW, &tag(seen)));
        }
    }

    /// INV-LINK-07
    #[test]
    fn a_reboot_or_a_lost_log_retires_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let first = Epochs::open(&state, "boot", NOW, 100).unwrap();
        let keys = first.public_keys();
        let log = first.log_path(NOW);
        drop(first);

        std::fs::remove_file(log).unwrap();
        let second = Epochs::open(&state, "boot", NOW, 100).unwrap();
        assert_ne!(keys.get(&NOW), second.public_keys().get(&NOW));
        assert_eq!(keys.get(&NOW.next()), second.public_keys().get(&NOW.next()));
        drop(second);

        let third = Epochs::open(&state, "another boot", NOW, 100).unwrap();
        assert_ne!(keys.get(&NOW.next()), third.public_keys().get(&NOW.next()));
    }

    /// INV-LINK-07
    #[test]
    fn rotation_erases_key_and_log_together() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut epochs = Epochs::open(&state, "boot", NOW, 100).unwrap();
        let log = epochs.log_path(NOW);
        assert!(log.exists());
        assert!(epochs.rotate(NOW.next()).unwrap());
        assert!(!epochs.rotate(NOW.next()).unwrap());
        assert!(log.exists());
        assert!(epochs.accept(NOW.parity()).is_some());
        assert!(epochs.rotate(NOW.next().next()).unwrap());
        assert!(!log.exists());
        assert_eq!(Err(PacketError::NoKey), epochs.check_and_insert(NOW, &tag(1)));
    }
}
