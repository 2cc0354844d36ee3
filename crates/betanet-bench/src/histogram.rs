//! Times in buckets that grow with them: a bounded table, whatever comes, and quantiles that are 1.6 % off at most.

use std::time::Duration;

/// Buckets to a doubling, as a power of two.
const FINENESS: u32 = 6;
const STEPS: u64 = 1 << FINENESS;

/// How often which time came.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Histogram {
    /// Notes one time.
    pub fn note(&mut self, time: Duration) {
        let place = place(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.total += 1;
        self.longest = self.longest.max(time);
    }

    /// How many times were noted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The longest.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        self.longest
    }

    /// The time that so many thousandths did not exceed; zero where nothing was noted.
    #[must_use]
    pub fn per_mille(&self, share: u64) -> Duration {
        let wanted = self.total.saturating_mul(share).div_ceil(1000);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_nanos(upper_end(place)).min(self.longest);
            }
        }
        self.longest
    }
}

/// The bucket of a time. Below `2 * STEPS` each nanosecond has its own; above, each doubling has `STEPS`.
fn place(ns: u64) -> usize {
    let doublings = (u64::BITS - ns.leading_zeros()).saturating_sub(FINENESS + 1);
    usize::try_from(u64::from(doublings) * STEPS + (ns >> doublings)).unwrap_or(usize::MAX)
}

/// The longest time of a bucket.
fn upper_end(place: usize) -> u64 {
    let place = u64::try_from(place).unwrap_or(u64::MAX);
    let doublings = (place / STEPS).saturating_sub(1);
    let steps = place - doublings * STEPS;
    ((steps + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_a_bucket_that_is_little_wider_than_itself() {
        let mut before = None;
        for ns in (0..5000).chain((5000..1_000_000_000).step_by(7919)) {
            let place = place(ns);
            assert!(before.is_none_or(|before| before <= place), "{ns} comes before a shorter time");
            before = Some(place);
            let end = upper_end(place);
            assert!(ns <= end && end - ns <= ns / STEPS, "{ns} lies in a bucket up to {end}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_noted() {
        let mut times = Histogram::default();
        assert_eq!(Duration::ZERO, times.per_mille(990));
        (1..=1000).for_each(|us| times.note(Duration::from_micros(us)));
        assert_eq!((1000, Duration::from_millis(1)), (times.total(), times.longest()));
        for (share, us) in [(500, 500.0), (990, 990.0), (1000, 1000.0)] {
            let found = times.per_mille(share).as_secs_f64() * 1e6;
            assert!((found - us).abs() <= us / 50.0, "{share} ‰ is {found} µs");
        }
    }
}
