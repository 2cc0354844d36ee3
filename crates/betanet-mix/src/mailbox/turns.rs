//! When an edge writes its mailboxes: a lone item at once, a flood of them in few syncs of the disk.

use std::time::Duration;

use crate::allowance::Allowance;

/// Transactions that may follow one at once after a rest, and those per second that may in the long run: what comes
/// meanwhile shares a sync of the disk.
const AT_ONCE_AND_RATE: (f64, f64) = (8.0, 40.0);

/// What nobody waits for goes with what somebody does, or alone after this long.
const LAZY: Duration = Duration::from_millis(250);

/// Decides how long the next transaction is held back. Time is counted from any moment, the same for all calls.
#[derive(Clone, Debug)]
pub struct Turns {
    allowance: Allowance,
    /// From when on the next may begin.
    free: Duration,
    last: Duration,
}

impl Turns {
    /// None was begun yet.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self { allowance: Allowance::new(AT_ONCE_AND_RATE, now), free: now, last: now }
    }

    /// Takes note of a transaction that begins.
    pub fn begin(&mut self, now: Duration) {
        self.last = now;
        self.free = now + self.allowance.spend(now, 1);
    }

    /// How long the next is to be held back, where somebody waits for it or nobody does.
    #[must_use]
    pub fn early(&self, now: Duration, is_awaited: bool) -> Duration {
        let at = if is_awaited { self.free } else { self.free.max(self.last + LAZY) };
        at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// INV-LINK-43
    #[test]
    fn a_few_transactions_after_a_rest_wait_for_nothing_and_many_keep_their_distance() {
        let mut turns = Turns::new(ms(500));
        let mut now = ms(500);
        let starts: Vec<Duration> = (0..50)
            .map(|_| {
                now += turns.early(now, true);
                turns.begin(now);
                now
            })
            .collect();
        let at_once = starts.iter().filter(|at| **at == ms(500)).count();
        let last = starts.last().copied().unwrap_or_default();
        assert_eq!((9, 0), (at_once, last.abs_diff(ms(500 + 41 * 25)).as_millis()));
        // One every 25 ms and less is never held back.
        for _ in 0..50 {
            now += ms(30);
            assert_eq!(Duration::ZERO, turns.early(now, true));
            turns.begin(now);
        }
    }

    /// INV-LINK-43
    #[test]
    fn what_nobody_waits_for_waits_for_company_and_not_for_ever() {
        let mut turns = Turns::new(ms(0));
        turns.begin(ms(1000));
        assert_eq!((ms(0), ms(250)), (turns.early(ms(1000), true), turns.early(ms(1000), false)));
        assert_eq!(ms(0), turns.early(ms(1250), false));
    }
}
