//! Replay protection: the set of tags that one epoch key has already accepted.
//!
//! A tag comes from the packet's shared secret, so a sender knows and can choose it. It is therefore passed through
//! AES-128 under a random *filter key* first (one block, a permutation) and cut to 64 bits: nobody outside can aim
//! two packets at one entry, and the raw tag is kept nowhere.
//!
//! Of these bits the memory keeps what tells entries apart well enough (see `marks`): 40 bits an entry at most, for less
//! than one false drop in a million packets, also when it is full (ADR 15). At capacity the cache refuses packets and
//! says so; it never forgets an entry while its key lives.
//!
//! So that a key that is hardly used takes hardly any memory, the entries go to a small set first, to one of 32 times
//! that size next, and to the large one then. A new entry may be taken for one of any of them; their chances add up:
//!
//! | set | entries | in a group | false drops when full |
//! |---|---|---|---|
//! | small | capacity / 1024 | 512 | 1.2·10⁻⁷ |
//! | middle | capacity / 32 | 512 | 1.2·10⁻⁷ |
//! | large | the rest | 3072 | 7.2·10⁻⁷ |
//! | all | capacity | | 9.6·10⁻⁷ |
//!
//! | log bytes | |
//! |---|---|
//! | entry | 8 B, the filtered tag, big-endian; entries follow one another without a header |

mod marks;
mod restore;

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use betanet_sphinx::{PacketError, ReplayFilter, ReplayTag};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use self::marks::{Crowded, Marks};
pub use self::restore::{RestoreError, Restored, Restoring, TALLY_LEN, Tally};

/// Bytes that one entry takes in the append log.
pub const LOG_ENTRY_LEN: usize = 8;

/// The tags accepted under one epoch key.
pub struct ReplayCache {
    filter_key: Zeroizing<[u8; 16]>,
    cipher: Aes128,
    sets: [Set; 3],
    len: usize,
    capacity: usize,
    logged: bool,
    unlogged: Vec<u8>,
}

/// Entries that came one after the other.
struct Set {
    marks: Marks,
    /// Entries that still go here.
    room: usize,
}

impl Set {
    fn new(room: usize, mean: usize) -> Self {
        Self { marks: Marks::new(room, mean), room }
    }
}

impl ReplayCache {
    /// An empty cache for at most `capacity` packets, with a new filter key.
    ///
    /// Choose `capacity` = admitted packet rate × twice the epoch length, so that honest traffic cannot fill it.
    pub fn new(rng: &mut impl CryptoRng, capacity: usize) -> Self {
        let mut filter_key = Zeroizing::new([0; 16]);
        rng.fill_bytes(filter_key.as_mut_slice());
        Self::with_key(filter_key, capacity)
    }

    /// A cache that keeps nothing for a log, for keys that die with the process.
    pub fn volatile(rng: &mut impl CryptoRng, capacity: usize) -> Self {
        Self { logged: false, ..Self::new(rng, capacity) }
    }

    /// A cache that takes in the log of a former one: everything that [`ReplayCache::take_unlogged`] gave out, of which
    /// `claim` is the [`Tally`] or one of before.
    #[must_use]
    pub fn restoring(filter_key: Zeroizing<[u8; 16]>, capacity: usize, claim: &[u8; TALLY_LEN]) -> Restoring {
        Restoring::new(Self::with_key(filter_key, capacity), claim)
    }

    /// The filter key, for the driver to keep beside the log. Key, log and filter key are erased together.
    #[must_use]
    pub fn filter_key(&self) -> &Zeroizing<[u8; 16]> {
        &self.filter_key
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was accepted yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries that fit in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of memory that the entries take at present.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.sets.iter().map(|set| set.marks.memory_bytes()).sum()
    }

    /// Moves the log bytes of all entries that were accepted since the last time to the end of `log`, in order.
    ///
    /// A packet may leave the node only after these bytes were appended to its log.
    pub fn take_unlogged(&mut self, log: &mut Vec<u8>) {
        log.append(&mut self.unlogged);
    }

    /// Refuses a tag: as known, or for want of room.
    #[must_use]
    pub fn refuse(&self, tag: &ReplayTag) -> PacketError {
        let entry = self.filtered(tag);
        if self.sets.iter().any(|set| set.marks.contains(entry)) {
            PacketError::Replay
        } else {
            PacketError::ReplayCacheFull
        }
    }

    fn with_key(filter_key: Zeroizing<[u8; 16]>, capacity: usize) -> Self {
        let cipher = Aes128::new((&*filter_key).into());
        let (small, middle) = (capacity / 1024, capacity / 32);
        let large = capacity.saturating_sub(small).saturating_sub(middle);
        let sets = [Set::new(small, 512), Set::new(middle, 512), Set::new(large, 3072)];
        Self { filter_key, cipher, sets, len: 0, capacity, logged: true, unlogged: Vec::new() }
    }

    fn filtered(&self, tag: &ReplayTag) -> u64 {
        let mut block = (*tag.as_bytes()).into();
        self.cipher.encrypt_block(&mut block);
        let block: [u8; 16] = block.into();
        let (head, _) = block.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        u64::from_be_bytes(*head)
    }

    fn insert(&mut self, entry: u64) -> Result<(), Refused> {
        for set in &mut self.sets {
            if set.room == 0 {
                if set.marks.contains(entry) {
                    return Err(Refused::Known);
                }
                continue;
            }
            return match set.marks.insert(entry) {
                Ok(true) => {
                    set.room -= 1;
                    self.len += 1;
                    Ok(())
                }
                Ok(false) => Err(Refused::Known),
                Err(Crowded) => Err(Refused::Full),
            };
        }
        Err(Refused::Full)
    }
}

impl ReplayFilter for ReplayCache {
    fn check_and_insert(&mut self, tag: &ReplayTag) -> Result<(), PacketError> {
        let entry = self.filtered(tag);
        match self.insert(entry) {
            Ok(()) => {
                if self.logged {
                    self.unlogged.extend_from_slice(&entry.to_be_bytes());
                }
                Ok(())
            }
            Err(Refused::Known) => Err(PacketError::Replay),
            Err(Refused::Full) => Err(PacketError::ReplayCacheFull),
        }
    }
}

impl std::fmt::Debug for ReplayCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayCache").field("len", &self.len).field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refused {
    Known,
    Full,
}

#[cfg(test)]
mod tests;
