//! Measuring in short windows, in processor time of this thread: what else runs on the machine takes turns, not time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How often something is done, per second of processor time: one figure for each window.
#[derive(Clone, Debug, Default)]
pub struct Rates(Vec<f64>);

impl Rates {
    /// The median; not a number where nothing was measured.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(self.0.clone())
    }

    /// The best window.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// The median of this rate over the other one's in the same turn.
    #[must_use]
    pub fn ratio_to(&self, other: &Self) -> f64 {
        median(self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect())
    }
}

/// Microseconds for one at this rate.
#[must_use]
pub fn microseconds(rate: f64) -> f64 {
    1e6 / rate
}

/// Runs `work`, which says how much it did, for the length of one window.
///
/// # Errors
/// Whatever `work` fails with.
pub fn rate<E>(window: Duration, mut work: impl FnMut() -> Result<usize, E>) -> Result<f64, E> {
    let mut done = 0;
    let start = processor_time();
    loop {
        done += work()?;
        let elapsed = processor_time().saturating_sub(start);
        if elapsed >= window {
            return Ok(float(done) / elapsed.as_secs_f64());
        }
    }
}

/// Several windows of `work`.
///
/// # Errors
/// Whatever `work` fails with.
pub fn rates<E>(turns: usize, window: Duration, mut work: impl FnMut() -> Result<usize, E>) -> Result<Rates, E> {
    rate(window / 4, &mut work)?;
    (0..turns).map(|_| rate(window, &mut work)).collect::<Result<_, _>>().map(Rates)
}

/// Two kinds of work in turns, so that both meet the same noise.
///
/// # Errors
/// Whatever the work fails with.
pub fn duel<E>(
    turns: usize,
    window: Duration,
    mut ours: impl FnMut() -> Result<usize, E>,
    mut theirs: impl FnMut() -> Result<usize, E>,
) -> Result<[Rates; 2], E> {
    let mut rates = [Rates::default(), Rates::default()];
    rate(window / 4, &mut ours)?;
    rate(window / 4, &mut theirs)?;
    for _ in 0..turns {
        let [our_rates, their_rates] = &mut rates;
        our_rates.0.push(rate(window, &mut ours)?);
        their_rates.0.push(rate(window, &mut theirs)?);
    }
    Ok(rates)
}

/// How long this thread has run.
fn processor_time() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// How long all threads of this process have run, added up.
#[must_use]
pub fn process_time() -> Duration {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let [seconds, nanoseconds] =
        [u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec)].map(Result::unwrap_or_default);
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// The middle value; not a number where there is none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 {
        return upper;
    }
    let lower = middle.checked_sub(1).and_then(|below| values.get(below)).copied().unwrap_or(f64::NAN);
    f64::midpoint(lower, upper)
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "small whole and half numbers are exact")]
mod tests {
    use super::*;

    #[test]
    fn a_median_splits_its_values() {
        assert_eq!([2.0, 2.5], [median(vec![9.0, 1.0, 2.0]), median(vec![3.0, 2.0, 9.0, 1.0])]);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_ratio_compares_windows_of_the_same_turn() {
        let [slow_at_first, theirs] = [Rates(vec![1.0, 8.0, 8.0]), Rates(vec![1.0, 4.0, 2.0])];
        assert_eq!(2.0, slow_at_first.ratio_to(&theirs));
    }

    #[test]
    fn a_failure_ends_a_measurement() {
        assert_eq!(Err("broken"), rate(Duration::from_mins(1), || Err::<usize, _>("broken")));
    }
}
