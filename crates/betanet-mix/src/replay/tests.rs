use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

impl Set {
    fn room_in_a_group(&self) -> f64 {
        let exact = |count| f64::from(u32::try_from(count).unwrap());
        exact(self.room) / exact(self.marks.groups())
    }
}

fn tag(rng: &mut ChaCha20Rng) -> ReplayTag {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    ReplayTag::from(bytes)
}

/// INV-MSG-20
#[test]
fn a_tag_is_accepted_once_while_the_cache_grows() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let mut cache = ReplayCache::new(&mut rng, 100_000);
    let tags: Vec<_> = (0..100_000).map(|_| tag(&mut rng)).collect();
    for tag in &tags {
        cache.check_and_insert(tag).unwrap();
    }
    assert_eq!(cache.len(), 100_000);
    for tag in &tags {
        assert_eq!(cache.check_and_insert(tag), Err(PacketError::Replay));
    }
    assert!(cache.memory_bytes() * 8 < 100_000 * 48);
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
    assert_eq!([PacketError::Replay, PacketError::ReplayCacheFull], [0, 10].map(|index| cache.refuse(&tags[index])));
}

/// A cache with tags, its log, and its tally.
fn logged(rng: &mut ChaCha20Rng, count: usize) -> (ReplayCache, Vec<ReplayTag>, Vec<u8>, Tally) {
    let mut cache = ReplayCache::new(rng, 50_000);
    let tags: Vec<_> = (0..count).map(|_| tag(rng)).collect();
    let mut log = Vec::new();
    for (index, tag) in tags.iter().enumerate() {
        cache.check_and_insert(tag).unwrap();
        if index % 700 == 0 {
            cache.take_unlogged(&mut log);
        }
    }
    cache.take_unlogged(&mut log);
    let mut tally = Tally::new(cache.filter_key());
    tally.add(&log);
    (cache, tags, log, tally)
}

fn restore(cache: &ReplayCache, capacity: usize, log: &[u8], tally: &Tally) -> Result<Restored, RestoreError> {
    let mut restoring = ReplayCache::restoring(cache.filter_key().clone(), capacity, &tally.encode());
    log.chunks(4099).try_for_each(|piece| restoring.take(piece))?;
    restoring.finish()
}

/// INV-MSG-20
#[test]
fn a_restored_cache_refuses_everything_that_was_logged() {
    let (cache, tags, mut log, tally) = logged(&mut ChaCha20Rng::seed_from_u64(4), 20_000);
    assert_eq!(log.len(), 20_000 * LOG_ENTRY_LEN);
    log.extend_from_slice(&[7, 7, 7]);
    let restored = restore(&cache, 50_000, &log, &tally).unwrap();
    assert_eq!((20_000, 3), (restored.cache.len(), restored.torn_bytes));
    assert_eq!(tally.encode(), restored.tally.encode());
    let mut back = restored.cache;
    for tag in &tags {
        assert_eq!(back.check_and_insert(tag), Err(PacketError::Replay));
    }
    let mut nothing = Vec::new();
    back.take_unlogged(&mut nothing);
    assert!(nothing.is_empty());
    let error = restore(&cache, 100, &log, &tally).unwrap_err();
    assert_eq!(RestoreError::NotTags { capacity: 100 }, error);
}

/// INV-LINK-55
#[test]
fn a_log_that_was_shortened_or_replaced_is_told_from_one_that_runs_ahead_of_its_tally() {
    let (cache, _, log, tally) = logged(&mut ChaCha20Rng::seed_from_u64(9), 300);
    let mut behind = Tally::new(cache.filter_key());
    behind.add(&log[..250 * LOG_ENTRY_LEN]);
    let ahead = restore(&cache, 1_000, &log, &behind).unwrap();
    assert_eq!((300, tally.encode()), (ahead.cache.len(), ahead.tally.encode()));
    for cut in [0, 1, 8, 1_000, log.len() - 8, log.len() - 1] {
        let found = u64::try_from(cut / LOG_ENTRY_LEN).unwrap();
        let error = restore(&cache, 1_000, &log[..cut], &tally).unwrap_err();
        assert_eq!(RestoreError::Shortened { found, counted: 300 }, error, "cut at {cut}");
    }
    for flipped in [0, 1_001, log.len() - 1] {
        let mut other = log.clone();
        other[flipped] ^= 1;
        assert_eq!(RestoreError::Replaced, restore(&cache, 1_000, &other, &tally).unwrap_err());
    }
    let mut swapped = log.clone();
    swapped[..2 * LOG_ENTRY_LEN].rotate_left(LOG_ENTRY_LEN);
    assert_eq!(RestoreError::Replaced, restore(&cache, 1_000, &swapped, &tally).unwrap_err());
    // The tally of another key, or one that was damaged.
    let other = Tally::new(&Zeroizing::new([1; 16]));
    let mut counted = other.clone();
    counted.add(&log);
    assert_eq!(RestoreError::Replaced, restore(&cache, 1_000, &log, &counted).unwrap_err());
    assert!(restore(&cache, 1_000, &log, &other).is_ok(), "an empty log's tally says nothing");
}

#[test]
fn a_log_of_anything_but_tags_is_refused() {
    let counted: Vec<u8> = (1_u64..5000).flat_map(u64::to_be_bytes).collect();
    let cache = ReplayCache::new(&mut ChaCha20Rng::seed_from_u64(10), 1);
    let empty = Tally::new(cache.filter_key());
    for capacity in [5000, 1 << 30, usize::MAX] {
        assert_eq!(RestoreError::NotTags { capacity }, restore(&cache, capacity, &counted, &empty).unwrap_err());
    }
    assert_eq!(RestoreError::NotTags { capacity: 4 }, restore(&cache, 4, &[0; 40], &empty).unwrap_err());
}

/// False drops are too rare to be seen here, so this is one of their parts: any 24 bits of a filtered tag collide as
/// often as random ones, however alike the tags are.
#[test]
fn filtered_tags_are_as_different_as_random_numbers() {
    let mut cache = ReplayCache::new(&mut ChaCha20Rng::seed_from_u64(7), 1 << 14);
    for counter in 0_u128..1 << 14 {
        assert_eq!(cache.check_and_insert(&ReplayTag::from((counter << 64).to_be_bytes())), Ok(()));
    }
    let mut log = Vec::new();
    cache.take_unlogged(&mut log);
    let kept: Vec<u64> = log.as_chunks().0.iter().map(|entry| u64::from_be_bytes(*entry)).collect();
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
    let mut log = Vec::new();
    cache.take_unlogged(&mut log);
    assert_ne!(log, &tag.as_bytes()[..8]);
}

/// INV-MSG-20: the chances of all sets together, at every size, and how often it happens in a cache of another size than
/// any constant.
#[test]
fn a_new_tag_is_taken_for_an_old_one_less_than_once_in_a_million() {
    const ASKED: u32 = 12_000_000;
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    for capacity in (1..400_000).step_by(977).chain([15_000_000, 30_000_000, 3_000_000_000]) {
        let cache = ReplayCache::new(&mut rng, capacity);
        let in_a_group: f64 = cache.sets.iter().map(Set::room_in_a_group).sum();
        assert!(in_a_group / 2_f64.powi(32) <= 1e-6, "{in_a_group} at {capacity}");
    }
    let mut cache = ReplayCache::new(&mut rng, 50_000);
    let expected = cache.sets.iter().map(Set::room_in_a_group).sum::<f64>() * f64::from(ASKED) / 2_f64.powi(32);
    while cache.len() < 50_000 {
        cache.insert(rng.next_u64()).unwrap();
    }
    let known = (0..ASKED).filter(|_| cache.insert(rng.next_u64()) == Err(Refused::Known)).count();
    // None, or 25 and more, come once in 3,000 seeds.
    assert!((8.0..10.0).contains(&expected) && (1..25).contains(&known), "{known} of {ASKED}, not {expected}");
}

#[test]
fn a_cache_takes_forty_bits_a_tag_when_it_is_used_and_next_to_nothing_when_it_is_not() {
    const CAPACITY: usize = 3_000_000;
    let mut rng = ChaCha20Rng::seed_from_u64(8);
    let mut cache = ReplayCache::volatile(&mut rng, CAPACITY);
    assert_eq!(0, cache.memory_bytes());
    let mut next = 1;
    while cache.len() < CAPACITY {
        // One or another of three million is taken for one of before.
        let _ = cache.check_and_insert(&tag(&mut rng));
        if cache.len() >= next {
            next = next * 101 / 100 + 1;
            let (bits, held) = (cache.memory_bytes() * 8, cache.len());
            let most = if held < 2_900 { 64 << 13 } else { 40 * held.max(CAPACITY / 4) };
            assert!(bits <= most, "{bits} bits for {held} tags");
        }
    }
}
