//! What a flood counts, and how fast it may go.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

type Counts = BTreeMap<&'static str, u64>;

/// Shared by all that a flood does.
#[derive(Debug)]
pub(super) struct Tally {
    rate: Option<u32>,
    start: Instant,
    begun: AtomicU64,
    counts: Mutex<[Counts; 3]>,
}

impl Tally {
    pub(super) fn new(rate: Option<u32>) -> Self {
        Self { rate, start: Instant::now(), begun: AtomicU64::new(0), counts: Mutex::default() }
    }

    /// Waits until so many more may be sent.
    pub(super) async fn turn(&self, number: usize) {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        let before = self.begun.fetch_add(number, Ordering::Relaxed);
        if let Some(due) = self.due(before) {
            tokio::time::sleep_until((self.start + due).into()).await;
        }
    }

    /// When, after the start, it is the turn of whoever comes after so many others.
    fn due(&self, before: u64) -> Option<Duration> {
        let rate = self.rate?;
        Some(Duration::from_nanos(before.saturating_mul(1_000_000_000 / u64::from(rate.max(1)))))
    }

    pub(super) fn sent(&self, what: &'static str, number: usize) {
        self.note(0, what, number);
    }

    pub(super) fn refused(&self, why: &'static str) {
        self.note(1, why, 1);
    }

    pub(super) fn came(&self, what: &'static str) {
        self.note(2, what, 1);
    }

    /// What was sent, what was refused, what came.
    pub(super) fn counts(&self) -> [Counts; 3] {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, which: usize, what: &'static str, number: usize) {
        if let Some(counts) = self.counts.lock().unwrap_or_else(PoisonError::into_inner).get_mut(which) {
            *counts.entry(what).or_default() += u64::try_from(number).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_later_waits_longer_and_without_a_rate_nobody_waits() {
        let tally = Tally::new(Some(200));
        assert_eq!(vec![Some(0), Some(5), Some(2000)], [0, 1, 400].map(|n| tally.due(n).map(|due| due.as_millis())));
        assert_eq!(None, Tally::new(None).due(1000));
        let fast = Tally::new(Some(300_000)).due(3_000_000).map(|due| due.as_millis());
        assert!(fast.is_some_and(|ms| (9990..=10_000).contains(&ms)), "{fast:?}");
    }

    #[test]
    fn each_thing_is_counted_for_itself() {
        let tally = Tally::new(None);
        tally.sent("packets", 3);
        tally.sent("packets", 4);
        tally.refused("link");
        tally.came("items");
        let one = |what, number| Counts::from([(what, number)]);
        assert_eq!([one("packets", 7), one("link", 1), one("items", 1)], tally.counts());
    }
}
