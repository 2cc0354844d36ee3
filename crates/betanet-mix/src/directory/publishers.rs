//! Who publishes which workers through an edge. No I/O and no clock: time is passed in.

use std::collections::HashMap;
use std::hash::Hash;

use super::workers::LIFETIME_MS;
use crate::view::WorkerId;

/// Workers that one party has listed at a time, through one edge.
const OF_ONE: usize = 64;

/// Workers that are remembered. The list has no more.
const REMEMBERED: usize = 4096;

/// The workers that parties have published and that have not run out.
#[derive(Debug)]
pub struct Publishers<K> {
    of_one: usize,
    remembered: usize,
    workers: HashMap<WorkerId, Published<K>>,
}

#[derive(Debug)]
struct Published<K> {
    by: K,
    expires_ms: u64,
}

impl<K> Default for Publishers<K> {
    fn default() -> Self {
        Self { of_one: OF_ONE, remembered: REMEMBERED, workers: HashMap::new() }
    }
}

impl<K: Eq + Hash + Copy> Publishers<K> {
    /// Whether `who` may publish this worker, besides those that it has published. If so, that is remembered.
    pub fn may_publish(&mut self, who: K, worker: WorkerId, expires_ms: u64, now_ms: u64) -> bool {
        self.workers.retain(|_, published| published.expires_ms > now_ms);
        let others = self.workers.iter().filter(|(id, published)| **id != worker && published.by == who);
        if others.count() >= self.of_one {
            return false;
        }
        if !self.workers.contains_key(&worker) && self.workers.len() >= self.remembered {
            self.forget_one();
        }
        // No longer than the authority takes it for.
        let expires_ms = expires_ms.min(now_ms.saturating_add(LIFETIME_MS));
        self.workers.insert(worker, Published { by: who, expires_ms });
        true
    }

    /// Forgets a worker of the party that has most, so that many with few make nobody with few forgotten.
    fn forget_one(&mut self) {
        let mut parties: HashMap<K, usize> = HashMap::new();
        for published in self.workers.values() {
            *parties.entry(published.by).or_default() += 1;
        }
        let most = parties.into_iter().max_by_key(|(_, workers)| *workers).map(|(party, _)| party);
        let of_most = self.workers.iter().filter(|(_, published)| Some(published.by) == most);
        let first = of_most.min_by_key(|(id, published)| (published.expires_ms, **id)).map(|(id, _)| *id);
        if let Some(id) = first {
            self.workers.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;
    const LATER: u64 = NOW + 1000;

    fn worker(number: u8) -> WorkerId {
        WorkerId([number; 32])
    }

    /// INV-LINK-66
    #[test]
    fn one_party_has_so_many_workers_listed_at_a_time_and_others_have_theirs() {
        let mut publishers = Publishers { of_one: 3, ..Publishers::default() };
        let taken = (0..20).filter(|number| publishers.may_publish("flood", worker(*number), LATER, NOW)).count();
        assert_eq!(3, taken);
        assert!(publishers.may_publish("flood", worker(0), LATER, NOW), "who is listed can renew");
        assert!(publishers.may_publish("honest", worker(100), LATER, NOW));
        // What has run out makes room, and a worker may move.
        assert!(publishers.may_publish("flood", worker(19), LATER + 1000, LATER));
        assert!(publishers.may_publish("honest", worker(19), LATER + 1000, LATER));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut publishers = Publishers { remembered: 10, ..Publishers::default() };
        for number in 0..=255 {
            assert!(publishers.may_publish(number / 50, worker(number), LATER, NOW));
            assert!(publishers.workers.len() <= 10);
        }
    }
}
