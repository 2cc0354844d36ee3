//! Epochs: how wall-clock time maps to key periods, and the ring of packet keys that a node holds.
//!
//! An epoch is `length_ms` long and counted from the Unix epoch, so every party computes the same number from
//! its clock. The key of epoch `e` is accepted during `e` and `e + 1`; a sender therefore stays one skew behind
//! (see [`EpochClock::sending_epoch`]) and no node with a slow clock meets a key it does not accept yet.

mod ring;

use serde::{Deserialize, Serialize};

pub use ring::{KeyRing, KeyRingError};

/// The number of a key period, counted from the Unix epoch in units of the network's epoch length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The parity bit that packets of this epoch carry in clear.
    #[must_use]
    pub fn parity(self) -> u8 {
        u8::from(self.0 & 1 == 1)
    }

    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The epoch before this one; the first epoch is its own predecessor.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Maps Unix time in milliseconds to epochs. Both parameters are consensus values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochClock {
    length_ms: u64,
    skew_ms: u64,
}

/// The longest epoch, a year: far beyond what anyone wants, and far from where times overflow.
const MAX_LENGTH_MS: u64 = 365 * 24 * 60 * 60 * 1000;

/// Why epoch parameters are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "an epoch of {length_ms} ms with {skew_ms} ms of clock skew is not usable: the length must exceed the skew and be a year at most"
)]
pub struct EpochError {
    /// The epoch length that was asked for, in milliseconds.
    pub length_ms: u64,
    /// The clock skew that was asked for, in milliseconds.
    pub skew_ms: u64,
}

impl EpochClock {
    /// A clock with epochs of `length_ms` that tolerates clocks `skew_ms` apart.
    ///
    /// # Errors
    /// [`EpochError`] when the length does not exceed the skew, or is more than a year.
    pub fn new(length_ms: u64, skew_ms: u64) -> Result<Self, EpochError> {
        if length_ms > MAX_LENGTH_MS || skew_ms >= length_ms {
            return Err(EpochError { length_ms, skew_ms });
        }
        Ok(Self { length_ms, skew_ms })
    }

    /// The epoch length in milliseconds.
    #[must_use]
    pub fn length_ms(&self) -> u64 {
        self.length_ms
    }

    /// The tolerated clock skew in milliseconds.
    #[must_use]
    pub fn skew_ms(&self) -> u64 {
        self.skew_ms
    }

    /// The epoch that contains `now_ms`.
    #[must_use]
    pub fn epoch_at(&self, now_ms: u64) -> Epoch {
        // The constructor refuses a length of zero; `max` keeps the division total for the compiler too.
        Epoch(now_ms / self.length_ms.max(1))
    }

    /// The epoch whose keys a sender uses at `now_ms`: one skew behind, so that slow nodes accept it already.
    #[must_use]
    pub fn sending_epoch(&self, now_ms: u64) -> Epoch {
        self.epoch_at(now_ms.saturating_sub(self.skew_ms))
    }

    /// When the key of `epoch` is accepted no longer, in Unix milliseconds: at the end of the epoch after it.
    #[must_use]
    pub fn end_of_key(&self, epoch: Epoch) -> u64 {
        self.start_of(epoch.next().next())
    }

    /// When `epoch` starts, in Unix milliseconds.
    #[must_use]
    pub fn start_of(&self, epoch: Epoch) -> u64 {
        epoch.0.saturating_mul(self.length_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_follow_the_wall_clock() {
        let clock = EpochClock::new(600_000, 30_000).unwrap();
        assert_eq!(clock.epoch_at(0), Epoch(0));
        assert_eq!(clock.epoch_at(599_999), Epoch(0));
        assert_eq!(clock.epoch_at(600_000), Epoch(1));
        assert_eq!(clock.start_of(Epoch(2)), 1_200_000);
        assert_eq!(clock.end_of_key(Epoch(2)), 2_400_000);
    }

    /// INV-MSG-18
    #[test]
    fn senders_stay_one_skew_behind() {
        let clock = EpochClock::new(600_000, 30_000).unwrap();
        assert_eq!(clock.sending_epoch(629_999), Epoch(0));
        assert_eq!(clock.sending_epoch(630_000), Epoch(1));
        assert_eq!(clock.sending_epoch(10), Epoch(0));
    }

    #[test]
    fn parity_alternates() {
        assert_eq!(Epoch(4).parity(), 0);
        assert_eq!(Epoch(4).next().parity(), 1);
        assert_eq!(Epoch(0).previous(), Epoch(0));
    }

    #[test]
    fn unusable_parameters_are_refused() {
        assert!(EpochClock::new(0, 0).is_err());
        assert!(EpochClock::new(30_000, 30_000).is_err());
        assert!(EpochClock::new(MAX_LENGTH_MS, 0).is_ok());
        assert!(EpochClock::new(MAX_LENGTH_MS + 1, 0).is_err());
        assert!(EpochClock::new(u64::MAX, 0).is_err());
    }
}
