//! What is counted, by many threads at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Bounds;
use crate::sync::lock;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A level that rises and falls.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// Sets the level.
    pub fn set(&self, value: usize) {
        self.store(u64::try_from(value).unwrap_or(u64::MAX));
    }

    /// Sets the level to what is no size: a date, a number.
    pub fn store(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The level.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, until what is returned is dropped.
    #[must_use]
    pub fn enter(&self) -> Inside<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Inside(self)
    }
}

/// One of those that a [`Level`] counts.
#[derive(Debug)]
pub struct Inside<'a>(&'a Level);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A histogram of times.
#[derive(Debug)]
pub struct Times {
    bounds: &'static Bounds,
    /// One more than the bounds: the last counts what exceeds them all.
    buckets: [AtomicU64; 13],
    sum_ns: AtomicU64,
    /// The count that was last told in steps, and the sum with it.
    stepped: Mutex<(u64, Duration)>,
}

impl Times {
    /// Nothing noted yet.
    #[must_use]
    pub fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, buckets: Default::default(), sum_ns: AtomicU64::new(0), stepped: Mutex::default() }
    }

    /// Notes one time.
    pub fn observe(&self, time: Duration) {
        self.observe_shared(time, 1);
    }

    /// Notes the equal shares that `count` things had of one time.
    pub fn observe_shared(&self, time: Duration, count: u32) {
        let Some(share) = time.checked_div(count) else {
            return;
        };
        let seconds = share.as_secs_f64();
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(u64::from(count), Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// The upper bounds and how many times were between each and the one before; the last bound is infinite.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(&self.buckets).map(|(bound, bucket)| (bound, bucket.load(Ordering::Relaxed)))
    }

    /// All times together.
    pub(super) fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed))
    }

    /// The share of the sum that `total` of `exact` times have, and no less than before. It stands still until `total`
    /// grows: the mean of all would tell of each time that comes.
    pub(super) fn stepped_sum(&self, total: u64, exact: u64) -> Duration {
        let mut stepped = lock(&self.stepped);
        if total > stepped.0 {
            let share = u128::from(total) * self.sum().as_nanos() / u128::from(exact.max(1));
            let share = Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX));
            *stepped = (total, share.max(stepped.1));
        }
        stepped.1
    }
}
