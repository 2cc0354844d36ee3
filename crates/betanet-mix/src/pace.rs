//! How fast one client may send, by how late the node is with the packets that it has.
//!
//! Whatever is short, the processor or the disk, packets leave late, everybody's, and of those that came from other nodes
//! nobody here knows whose they are. What a node can keep outside are its clients. There is one ceiling for all of them:
//! where it goes down, whoever sends most is slowed first, and nobody who sends less than it is.
//!
//! It goes down by a part of what the heaviest client sends, round by round for as long as packets are late, and up by a
//! part of itself in each round in which they are not. It never goes below [`LEAST`]: who sends less than that is not what
//! makes a node late.

use std::time::Duration;

/// The time after which the ceiling is looked at again: long enough for what has come in to leave.
const ROUND: Duration = Duration::from_millis(300);

/// Packets are late that leave so much after they are due, on average. A path adds this up hop by hop.
const LATE: Duration = Duration::from_millis(10);

/// Packets a second that every client may send, however late the node is.
const LEAST: f64 = 1000.0;

/// What is left of the rate of the heaviest client after a round in which packets were late.
const CUT: f64 = 0.8;

/// By how much the ceiling grows in a round in which none were.
const GROWTH: f64 = 1.08;

/// The ceiling of a node's clients. Time is counted from any moment, the same for all calls.
#[derive(Clone, Debug)]
pub struct Pace {
    most: f64,
    ceiling: f64,
    round: u64,
    /// Of the packets that left in this round, all lateness together.
    late: Duration,
    left: u32,
    /// Packets of the client that sent most in this round.
    heaviest: u32,
}

impl Pace {
    /// A ceiling that is as high as it ever gets.
    #[must_use]
    pub fn new(most: u32) -> Self {
        let most = f64::from(most.max(1));
        Self { most, ceiling: most, round: 0, late: Duration::ZERO, left: 0, heaviest: 0 }
    }

    /// Packets a second that a client may send.
    pub fn ceiling(&mut self, now: Duration) -> f64 {
        self.round_at(now);
        self.ceiling
    }

    /// Takes note of packets that have left, and by how much they were late, all together.
    pub fn left(&mut self, now: Duration, packets: u32, late: Duration) {
        self.round_at(now);
        self.left = self.left.saturating_add(packets);
        self.late = self.late.saturating_add(late);
    }

    /// Takes note of how many packets a client has sent in this round so far.
    pub(crate) fn sent(&mut self, packets: u32) {
        self.heaviest = self.heaviest.max(packets);
    }

    /// The number of the round. What came before it is judged first.
    pub(crate) fn round_at(&mut self, now: Duration) -> u64 {
        let round = u64::try_from(now.as_nanos() / ROUND.as_nanos()).unwrap_or(u64::MAX);
        let passed = round.saturating_sub(self.round);
        if passed > 0 {
            let heaviest = f64::from(self.heaviest) / ROUND.as_secs_f64();
            let is_late = self.late.checked_div(self.left).is_some_and(|mean| mean > LATE);
            if is_late && heaviest > LEAST {
                self.ceiling = self.ceiling.min(heaviest) * CUT;
            }
            // Rounds in which nothing left are no reason to hold anybody back.
            let good = if is_late { passed - 1 } else { passed };
            let growth = GROWTH.powi(i32::try_from(good).unwrap_or(i32::MAX));
            self.ceiling = (self.ceiling * growth).max(LEAST).min(self.most);
            (self.round, self.late, self.left, self.heaviest) = (round, Duration::ZERO, 0, 0);
        }
        self.round
    }
}

#[cfg(test)]
mod tests;
