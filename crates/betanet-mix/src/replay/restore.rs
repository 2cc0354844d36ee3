//! A cache from its log, and the tally by which a log is known to be whole.

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

use super::{LOG_ENTRY_LEN, Refused, ReplayCache};

/// How many entries a log holds, and a digest of them in their order under the filter key. It is kept apart from the log
/// and written after it, so the log is never behind.
///
/// | bytes | |
/// |---|---|
/// | entries | 8 B, big-endian |
/// | digest | 16 B, AES-CBC-MAC of the blocks number of the entry ‖ entry, under the filter key's encryption of a label |
#[derive(Clone)]
pub struct Tally {
    cipher: Aes128,
    entries: u64,
    digest: [u8; 16],
}

/// Bytes of a [`Tally`].
pub const TALLY_LEN: usize = 24;

const LABEL: [u8; 16] = *b"replay-log-tally";

impl Tally {
    /// That of an empty log.
    #[must_use]
    pub fn new(filter_key: &Zeroizing<[u8; 16]>) -> Self {
        let mut key = LABEL.into();
        Aes128::new((&**filter_key).into()).encrypt_block(&mut key);
        Self { cipher: Aes128::new(&key), entries: 0, digest: [0; 16] }
    }

    /// Counts whole entries that follow in the log.
    pub fn add(&mut self, entries: &[u8]) {
        for entry in entries.as_chunks::<LOG_ENTRY_LEN>().0 {
            let block = u128::from(self.entries) << 64 | u128::from(u64::from_be_bytes(*entry));
            let mut block = (u128::from_be_bytes(self.digest) ^ block).to_be_bytes().into();
            self.cipher.encrypt_block(&mut block);
            self.digest = block.into();
            self.entries += 1;
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; TALLY_LEN] {
        let mut bytes = [0; TALLY_LEN];
        if let Some((entries, digest)) = bytes.split_first_chunk_mut() {
            *entries = self.entries.to_be_bytes();
            digest.copy_from_slice(&self.digest);
        }
        bytes
    }
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").field("entries", &self.entries).finish_non_exhaustive()
    }
}

/// Why a log is not what its tally says, or none of this cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// More entries than the cache may hold, or entries that do not spread as tags do.
    #[error("the replay log does not fit a cache for {capacity} tags, or holds something else")]
    NotTags {
        /// Entries that the cache may hold.
        capacity: usize,
    },
    /// Entries are missing at the end.
    #[error("the replay log holds {found} tags, and {counted} were written to it")]
    Shortened {
        /// Whole entries in it.
        found: u64,
        /// What the tally says.
        counted: u64,
    },
    /// Other entries than those that were counted.
    #[error("the replay log holds other tags than were written to it")]
    Replaced,
}

/// What was found in a log.
#[derive(Debug)]
pub struct Restored {
    /// The cache with all of it.
    pub cache: ReplayCache,
    /// The tally of all of it.
    pub tally: Tally,
    /// Bytes of an unfinished last entry. Its packet was never released, because release waits for the log.
    pub torn_bytes: usize,
}

/// A cache that takes in its log, piece by piece.
#[derive(Debug)]
pub struct Restoring {
    cache: ReplayCache,
    tally: Tally,
    counted: u64,
    digest: [u8; 16],
    /// The start of an entry.
    torn: Vec<u8>,
}

impl Restoring {
    pub(super) fn new(cache: ReplayCache, claim: &[u8; TALLY_LEN]) -> Self {
        let mut digest = [0; 16];
        let (counted, rest) = claim.split_first_chunk().unwrap_or((&[0; 8], &[]));
        digest.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        let tally = Tally::new(cache.filter_key());
        Self { cache, tally, counted: u64::from_be_bytes(*counted), digest, torn: Vec::new() }
    }

    /// Takes in what follows in the log.
    ///
    /// # Errors
    /// [`RestoreError::NotTags`], [`RestoreError::Replaced`]
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.torn.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.torn);
        let (entries, torn) = bytes.as_chunks::<LOG_ENTRY_LEN>();
        for entry in entries {
            self.check()?;
            self.tally.add(entry);
            // In a cache of another capacity, one or another entry is taken for one of before.
            let is_full = self.cache.insert(u64::from_be_bytes(*entry)) == Err(Refused::Full);
            if is_full || usize::try_from(self.tally.entries).is_ok_and(|entries| entries > self.cache.capacity()) {
                return Err(RestoreError::NotTags { capacity: self.cache.capacity() });
            }
        }
        self.torn.extend_from_slice(torn);
        Ok(())
    }

    /// The cache, at the log's end.
    ///
    /// # Errors
    /// [`RestoreError::Shortened`], [`RestoreError::Replaced`]
    pub fn finish(self) -> Result<Restored, RestoreError> {
        self.check()?;
        if self.tally.entries < self.counted {
            return Err(RestoreError::Shortened { found: self.tally.entries, counted: self.counted });
        }
        Ok(Restored { cache: self.cache, tally: self.tally, torn_bytes: self.torn.len() })
    }

    /// Whether what was counted is what stands there, once all of that has been seen.
    fn check(&self) -> Result<(), RestoreError> {
        if self.tally.entries == self.counted && self.tally.digest != self.digest {
            return Err(RestoreError::Replaced);
        }
        Ok(())
    }
}
