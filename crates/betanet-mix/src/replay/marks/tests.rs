use std::collections::BTreeSet;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

const MEAN: usize = 3000;

/// What tells two entries apart.
fn kept(marks: &Marks, entry: u64) -> (usize, u32) {
    marks.split(entry)
}

/// Entries as they come, and such as crowd together at either end of a group's table.
fn entries() -> impl Strategy<Value = Vec<u64>> {
    let even = any::<u64>();
    let low = (any::<u16>(), 0..600_u64).prop_map(|(group, mark)| (u64::from(group) << 48) | mark);
    let high = (any::<u16>(), 0..600_u64).prop_map(|(group, mark)| (u64::from(group) << 48) | (0xffff_ffff - mark));
    proptest::collection::vec(prop_oneof![even, low, high], 0..4_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// INV-MSG-20: what the set says is what an exact set of groups and marks says, after every insertion.
    #[test]
    fn the_set_is_an_exact_one_of_what_it_keeps(capacity in 1..20_000_usize, entries in entries()) {
        let mut marks = Marks::new(capacity, MEAN);
        let mut exact = BTreeSet::new();
        for entry in &entries {
            let fresh = !exact.contains(&kept(&marks, *entry));
            prop_assert_eq!(!fresh, marks.contains(*entry));
            match marks.insert(*entry) {
                Ok(said) => {
                    prop_assert_eq!(fresh, said);
                    exact.insert(kept(&marks, *entry));
                }
                Err(Crowded) => prop_assert!(fresh),
            }
        }
        for entry in &entries {
            prop_assert_eq!(exact.contains(&kept(&marks, *entry)), marks.contains(*entry));
        }
    }
}

#[test]
fn a_set_takes_little_memory_at_every_size_and_none_before_the_first_entry() {
    const CAPACITY: usize = 1_300_000;
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut marks = Marks::new(CAPACITY, MEAN);
    assert_eq!(0, marks.memory_bytes());
    let mut held = 0;
    while held < CAPACITY {
        held += usize::from(marks.insert(rng.next_u64()).unwrap());
        let bits = marks.memory_bytes() * 8;
        assert!(bits <= 40 * held.max(CAPACITY / 4), "{bits} bits for {held} entries");
    }
}

#[test]
fn entries_that_do_not_spread_are_refused_before_they_take_the_memory() {
    for capacity in [5_000, 1 << 30, usize::MAX] {
        let mut marks = Marks::new(capacity, MEAN);
        let taken = (1..9_000_u64).filter(|entry| marks.insert(*entry) == Ok(true)).count();
        assert_eq!(GROUP_MAX, taken);
        assert!((1..=4_000).all(|entry| marks.contains(entry)));
        assert!(marks.memory_bytes() - marks.groups.capacity() * size_of::<Group>() < 1 << 25);
    }
}

#[test]
fn zero_stands_for_one() {
    let mut marks = Marks::new(10, MEAN);
    assert_eq!([Ok(true), Ok(false)], [marks.insert(0), marks.insert(1)]);
}
