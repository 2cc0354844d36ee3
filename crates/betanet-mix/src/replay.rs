//! Replay protection: the set of tags that one epoch key has already accepted.
//!
//! A tag comes from the packet's shared secret, so a sender knows and can choose it. It is therefore passed through
//! AES-128 under a random *filter key* first (one block, a permutation) and cut to 64 bits: nobody outside can aim
//! two packets at one entry, and the raw tag is kept nowhere. A false drop needs a 64-bit collision: with `n` entries
//! held, less than `n / 2^64` per packet (below 2·10⁻¹² at 32 million).
//!
//! Memory grows by segments of 32 KiB: a full segment splits in two, so no insert ever pays for rehashing the whole
//! set. At capacity the cache refuses packets and says so; it never forgets an entry while its key lives.
//!
//! | log bytes | |
//! |---|---|
//! | entry | 8 B, the filtered tag, big-endian; entries follow one another without a header |

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use betanet_sphinx::{PacketError, ReplayFilter, ReplayTag};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Bytes that one entry takes in the append log.
pub const LOG_ENTRY_LEN: usize = 8;

const SEGMENT_SLOTS: usize = 4096;
const SEGMENT_MASK: u64 = 4095;
/// Linear probing stays short up to three quarters.
const SEGMENT_MAX: usize = SEGMENT_SLOTS / 4 * 3;
const EMPTY: u64 = 0;
/// Tags spread evenly, so no part of them needs this much more depth than all do.
const SPARE_DEPTH: u32 = 2;

/// The tags accepted under one epoch key.
pub struct ReplayCache {
    filter_key: Zeroizing<[u8; 16]>,
    cipher: Aes128,
    /// Top `depth` bits of a filtered tag → segment.
    directory: Vec<usize>,
    depth: u32,
    max_depth: u32,
    segments: Vec<Segment>,
    len: usize,
    capacity: usize,
    logged: bool,
    unlogged: Vec<u8>,
}

struct Segment {
    depth: u32,
    len: usize,
    slots: Box<[u64]>,
}

/// What [`ReplayCache::restore`] found in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restored {
    /// Entries taken over.
    pub entries: usize,
    /// Bytes of an unfinished last entry. Its packet was never released, because release waits for the log.
    pub torn_bytes: usize,
}

/// A log that holds more entries than the cache may, or entries that are no tags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a replay log of {entries} entries is damaged or does not fit a cache for {capacity}")]
pub struct RestoreError {
    /// Entries in the log.
    pub entries: usize,
    /// Entries that the cache may hold.
    pub capacity: usize,
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

    /// Rebuilds a cache from its filter key and the concatenation of everything that [`ReplayCache::unlogged`] gave out.
    ///
    /// # Errors
    /// [`RestoreError`] when the log holds more than `capacity` entries, or entries that do not spread as tags do.
    pub fn restore(
        filter_key: Zeroizing<[u8; 16]>,
        capacity: usize,
        log: &[u8],
    ) -> Result<(Self, Restored), RestoreError> {
        let mut cache = Self::with_key(filter_key, capacity);
        let (entries, torn) = log.as_chunks::<LOG_ENTRY_LEN>();
        cache.max_depth = max_depth(entries.len());
        for entry in entries {
            match cache.insert(u64::from_be_bytes(*entry)) {
                Ok(()) | Err(Refused::Known) => {}
                Err(Refused::Full) => return Err(RestoreError { entries: entries.len(), capacity }),
            }
        }
        cache.max_depth = max_depth(capacity);
        let restored = Restored { entries: cache.len, torn_bytes: torn.len() };
        Ok((cache, restored))
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
        self.segments.len() * SEGMENT_SLOTS * 8 + self.directory.len() * size_of::<usize>()
    }

    /// The log bytes of all entries accepted and not yet [marked](Self::mark_logged), in order.
    ///
    /// A packet may leave the node only after these bytes were appended to its log.
    #[must_use]
    pub fn unlogged(&self) -> &[u8] {
        &self.unlogged
    }

    /// Notes that all of [`Self::unlogged`] is in the log.
    pub fn mark_logged(&mut self) {
        self.unlogged.clear();
    }

    fn with_key(filter_key: Zeroizing<[u8; 16]>, capacity: usize) -> Self {
        let cipher = Aes128::new((&*filter_key).into());
        Self {
            filter_key,
            cipher,
            directory: vec![0],
            depth: 0,
            max_depth: max_depth(capacity),
            segments: vec![Segment::new(0)],
            len: 0,
            capacity,
            logged: true,
            unlogged: Vec::new(),
        }
    }

    fn filtered(&self, tag: &ReplayTag) -> u64 {
        let mut block = (*tag.as_bytes()).into();
        self.cipher.encrypt_block(&mut block);
        let block: [u8; 16] = block.into();
        let (head, _) = block.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        u64::from_be_bytes(*head)
    }

    fn segment_index(&self, entry: u64) -> usize {
        let slot = entry.checked_shr(64 - self.depth).unwrap_or(0);
        // The directory has 2^depth places and `slot` has `depth` bits, so the lookup always finds one.
        usize::try_from(slot).ok().and_then(|slot| self.directory.get(slot)).copied().unwrap_or(0)
    }

    fn insert(&mut self, entry: u64) -> Result<(), Refused> {
        let entry = if entry == EMPTY { 1 } else { entry };
        loop {
            let index = self.segment_index(entry);
            let full = self.len >= self.capacity;
            let Some(segment) = self.segments.get_mut(index) else { return Err(Refused::Full) };
            if segment.contains(entry) {
                return Err(Refused::Known);
            }
            if full {
                return Err(Refused::Full);
            }
            if segment.len < SEGMENT_MAX {
                segment.insert(entry);
                self.len += 1;
                return Ok(());
            }
            if !self.split(index) {
                return Err(Refused::Full);
            }
        }
    }

    /// Splits one full segment by the next bit of its entries; the directory doubles when it cannot tell the halves apart.
    fn split(&mut self, index: usize) -> bool {
        let Some(old_depth) = self.segments.get(index).map(|segment| segment.depth) else { return false };
        if old_depth >= self.max_depth {
            return false;
        }
        if old_depth == self.depth {
            self.directory = self.directory.iter().flat_map(|segment| [*segment, *segment]).collect();
            self.depth += 1;
        }
        let depth = old_depth + 1;
        let (mut zeros, mut ones) = (Segment::new(depth), Segment::new(depth));
        let Some(full) = self.segments.get(index) else { return false };
        for entry in full.slots.iter().copied().filter(|entry| *entry != EMPTY) {
            if (entry >> (64 - depth)) & 1 == 1 { ones.insert(entry) } else { zeros.insert(entry) }
        }
        let new_index = self.segments.len();
        if let Some(place) = self.segments.get_mut(index) {
            *place = zeros;
        }
        self.segments.push(ones);
        for (slot, target) in self.directory.iter_mut().enumerate() {
            if *target == index && (slot >> (self.depth - depth)) & 1 == 1 {
                *target = new_index;
            }
        }
        true
    }
}

/// How far the directory may grow for this many entries.
fn max_depth(entries: usize) -> u32 {
    // The segments that they fill, as a power of two.
    let segments = entries.div_ceil(SEGMENT_MAX).checked_next_power_of_two().map_or(usize::BITS, usize::trailing_zeros);
    segments + SPARE_DEPTH
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

impl Segment {
    fn new(depth: u32) -> Self {
        Self { depth, len: 0, slots: vec![EMPTY; SEGMENT_SLOTS].into_boxed_slice() }
    }

    fn probe(entry: u64) -> impl Iterator<Item = usize> {
        // The low bits place an entry inside its segment, the high ones choose the segment.
        let start = usize::try_from(entry & SEGMENT_MASK).unwrap_or(0);
        (start..SEGMENT_SLOTS).chain(0..start)
    }

    fn contains(&self, entry: u64) -> bool {
        for slot in Self::probe(entry) {
            match self.slots.get(slot) {
                Some(held) if *held == entry => return true,
                Some(&EMPTY) | None => return false,
                Some(_) => {}
            }
        }
        false
    }

    fn insert(&mut self, entry: u64) {
        for slot in Self::probe(entry) {
            if let Some(held) = self.slots.get_mut(slot)
                && *held == EMPTY
            {
                *held = entry;
                self.len += 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    fn tag(rng: &mut ChaCha20Rng) -> ReplayTag {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        ReplayTag::from(bytes)
    }

    /// INV-MSG-20
    #[test]
    fn a_tag_is_accepted_once_across_many_splits() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let mut cache = ReplayCache::new(&mut rng, 100_000);
        let tags: Vec<_> = (0..100_000).map(|_| tag(&mut rng)).collect();
        for tag in &tags {
            cache.check_and_insert(tag).unwrap();
        }
        assert_eq!(cache.len(), 100_000);
        assert!(cache.segments.len() > 16);
        for tag in &tags {
            assert_eq!(cache.check_and_insert(tag), Err(PacketError::Replay));
        }
        // 8 B an entry at worst-case load plus the directory.
        assert!(cache.memory_bytes() < 100_000 * 8 * 4);
    }

    /// INV-MSG-20
    #[test]
    fn a_full_cache_refuses_new_packets_and_still_knows_the_old_ones() {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let mut cache = ReplayCache::new(&mut rng, 10);
        let tags: Vec<_> = (0..11).map(|_| tag(&mut rng)).collect();
        for tag in &tags[..10] {
            cache.check_and_insert(tag).unwrap();
        }
        assert_eq!(cache.check_and_insert(&tags[10]), Err(PacketError::ReplayCacheFull));
        assert_eq!(cache.check_and_insert(&tags[0]), Err(PacketError::Replay));
    }

    /// INV-MSG-20
    #[test]
    fn a_restored_cache_refuses_everything_that_was_logged() {
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        let mut cache = ReplayCache::new(&mut rng, 50_000);
        let tags: Vec<_> = (0..20_000).map(|_| tag(&mut rng)).collect();
        let mut log = Vec::new();
        for (index, tag) in tags.iter().enumerate() {
            cache.check_and_insert(tag).unwrap();
            if index % 700 == 0 {
                log.extend_from_slice(cache.unlogged());
                cache.mark_logged();
            }
        }
        log.extend_from_slice(cache.unlogged());
        cache.mark_logged();
        assert!(cache.unlogged().is_empty());
        assert_eq!(log.len(), 20_000 * LOG_ENTRY_LEN);
        log.extend_from_slice(&[7, 7, 7]);
        let (mut back, restored) = ReplayCache::restore(cache.filter_key().clone(), 50_000, &log).unwrap();
        assert_eq!(restored, Restored { entries: 20_000, torn_bytes: 3 });
        for tag in &tags {
            assert_eq!(back.check_and_insert(tag), Err(PacketError::Replay));
        }
        assert!(back.unlogged().is_empty());
        assert!(ReplayCache::restore(cache.filter_key().clone(), 100, &log).is_err());
    }

    #[test]
    fn a_log_of_anything_but_tags_is_refused_before_it_takes_the_memory() {
        let key = || Zeroizing::new([0; 16]);
        let counted: Vec<u8> = (1_u64..4000).flat_map(u64::to_be_bytes).collect();
        for capacity in [4000, 1 << 30, usize::MAX] {
            assert!(ReplayCache::restore(key(), capacity, &counted).is_err());
        }
        let mut cache = ReplayCache::with_key(key(), 4000);
        let taken = (1..4000).filter(|entry| cache.insert(*entry).is_ok()).count();
        assert_eq!(SEGMENT_MAX, taken);
        assert!(cache.memory_bytes() < 1 << 20);
        // Zero marks an empty place, and stands for one.
        let (mut zeros, restored) = ReplayCache::restore(key(), 10, &[0; 16]).unwrap();
        assert_eq!(Restored { entries: 1, torn_bytes: 0 }, restored);
        assert_eq!(Err(Refused::Known), zeros.insert(1));
    }

    /// The promise is `n / 2^64` false drops per packet. That is too rare to be seen, so the parts are: fresh tags are
    /// not dropped, and any 24 bits of what is kept collide as often as random ones, however alike the tags are.
    #[test]
    fn false_drops_are_as_rare_as_promised() {
        let mut cache = ReplayCache::new(&mut ChaCha20Rng::seed_from_u64(7), 1 << 20);
        for counter in 0_u128..1 << 20 {
            assert_eq!(cache.check_and_insert(&ReplayTag::from((counter << 64).to_be_bytes())), Ok(()));
        }
        let mut kept: Vec<u64> =
            cache.unlogged().as_chunks().0.iter().map(|entry| u64::from_be_bytes(*entry)).collect();
        kept.truncate(1 << 14);
        for shift in [0, 10, 20, 30, 40] {
            let mut cut: Vec<u64> = kept.iter().map(|entry| (entry >> shift) & 0xff_ffff).collect();
            cut.sort_unstable();
            let pairs = cut.windows(2).filter(|pair| pair[0] == pair[1]).count();
            // 2^14 · 2^14 / 2 pairs over 2^24 values: 8 expected, and 22 or more once in 30,000 seeds.
            assert!((1..22).contains(&pairs), "{pairs} equal pairs in the bits from {shift}");
        }
    }

    #[test]
    fn the_log_never_holds_a_raw_tag() {
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        let mut cache = ReplayCache::new(&mut rng, 10);
        let tag = tag(&mut rng);
        cache.check_and_insert(&tag).unwrap();
        assert_ne!(cache.unlogged(), &tag.as_bytes()[..8]);
    }

    #[test]
    fn chosen_tags_spread_over_the_segments() {
        let mut rng = ChaCha20Rng::seed_from_u64(6);
        let mut cache = ReplayCache::new(&mut rng, 20_000);
        for counter in 0_u128..20_000 {
            cache.check_and_insert(&ReplayTag::from(counter.to_be_bytes())).unwrap();
        }
        let longest = cache.segments.iter().map(|segment| segment.len).max().unwrap();
        assert!(cache.segments.len() >= 7 && longest <= SEGMENT_MAX);
    }
}
