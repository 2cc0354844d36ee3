//! What would be said again and again, and fill a log, is said once a minute.

use std::time::{Duration, Instant};

/// How often.
const EVERY: Duration = Duration::from_mins(1);

/// When it was said last.
#[derive(Debug, Default)]
pub(crate) struct Rarely(Option<Instant>);

impl Rarely {
    /// Whether it is to be said at `now`; then it counts as said.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.0.is_none_or(|said| now.duration_since(said) >= EVERY);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_for_two_minutes_is_said_three_times() {
        let (start, mut rarely) = (Instant::now(), Rarely::default());
        let tenths = (0..1300).map(|tenth| start + Duration::from_millis(100) * tenth);
        assert_eq!(3, tenths.filter(|now| rarely.is_due(*now)).count());
    }
}
