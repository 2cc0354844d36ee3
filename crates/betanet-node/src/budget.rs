//! How much of something a peer may ask for, and how fast.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use crate::sync::lock;

/// Parties whose allowances are remembered. One that has refilled is as good as forgotten.
const REMEMBERED: usize = 4096;

/// An allowance that refills: so much in one go, and so much per second.
#[derive(Debug)]
pub(crate) struct Budget {
    burst: f64,
    rate: f64,
    tokens: f64,
    refilled: Instant,
}

impl Budget {
    /// A full allowance.
    pub(crate) fn new(burst: f64, rate: f64) -> Self {
        Self { burst, rate, tokens: burst, refilled: Instant::now() }
    }

    /// Takes one from what is left; `false` if nothing is.
    pub(crate) fn take(&mut self) -> bool {
        if self.tokens < 1.0 {
            self.refill();
        }
        let left = self.tokens >= 1.0;
        if left {
            self.tokens -= 1.0;
        }
        left
    }

    fn refill(&mut self) {
        let elapsed = self.refilled.elapsed().as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate).min(self.burst);
        self.refilled = Instant::now();
    }

    fn is_full(&mut self) -> bool {
        self.refill();
        self.tokens >= self.burst
    }
}

/// Who asks: an address, or the link key where all have one address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Asker {
    /// All links from an address.
    Address(IpAddr),
    /// All links under a key, on this machine.
    Key([u8; 32]),
}

impl Asker {
    pub(crate) fn of(origin: Option<IpAddr>, key: [u8; 32]) -> Self {
        origin.map_or(Self::Key(key), Self::Address)
    }
}

/// An allowance for each party, by all links that it has.
#[derive(Debug)]
pub(crate) struct Allowances<K: Eq + Hash> {
    burst: f64,
    rate: f64,
    remembered: usize,
    left: Mutex<HashMap<K, Budget>>,
}

impl<K: Eq + Hash + Copy> Allowances<K> {
    pub(crate) fn new((burst, rate): (f64, f64)) -> Self {
        Self { burst, rate, remembered: REMEMBERED, left: Mutex::default() }
    }

    /// Takes one of what `who` has left; `false` if nothing is, or if too many others have used theirs.
    pub(crate) fn take(&self, who: K) -> bool {
        let mut left = lock(&self.left);
        if !left.contains_key(&who) && left.len() >= self.remembered {
            left.retain(|_, budget| !budget.is_full());
            if left.len() >= self.remembered {
                return false;
            }
        }
        left.entry(who).or_insert_with(|| Budget::new(self.burst, self.rate)).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: f64 = 1e-9;

    /// INV-LINK-62
    #[test]
    fn who_comes_over_many_links_has_one_allowance() {
        let allowances = Allowances::new((3.0, NEVER));
        let asker = |last, key| Asker::of(Some(IpAddr::from([192, 0, 2, last])), [key; 32]);
        assert_eq!(3, (0..9).filter(|key| allowances.take(asker(1, *key))).count());
        assert!(allowances.take(asker(2, 1)));
        // On this machine all have one address.
        let local = |key| Asker::of(None, [key; 32]);
        assert_eq!(9, (0..9).filter(|key| allowances.take(local(*key))).count());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nobody_gets_a_new_allowance_by_being_forgotten() {
        let allowances = Allowances { remembered: 5, ..Allowances::new((2.0, NEVER)) };
        assert_eq!(5, (0..40).filter(|who: &u8| allowances.take(*who)).count());
        assert_eq!(5, (0..40).filter(|who| allowances.take(*who)).count());
        assert_eq!(0, (0..40).filter(|who| allowances.take(*who)).count());
        let quick = Allowances { remembered: 5, ..Allowances::new((1.0, 1e12)) };
        assert_eq!(40, (0..40).filter(|who: &u8| quick.take(*who)).count(), "those that have refilled make room");
        assert!(lock(&quick.left).len() <= 5);
    }
}
