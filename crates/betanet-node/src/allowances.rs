//! Allowances that the tasks of many links share.

use std::sync::Mutex;
use std::time::Instant;

use betanet_mix::allowance::{Allowances, HasPrefix};

use crate::sync::lock;

/// An allowance for each party, by all links that it has.
#[derive(Debug)]
pub(crate) struct SharedAllowances<K> {
    left: Mutex<Allowances<K>>,
    /// Zero of their time.
    zero: Instant,
}

impl<K: HasPrefix> SharedAllowances<K> {
    /// For each the most in one go, and what is added per second.
    pub(crate) fn new(each: (f64, f64)) -> Self {
        Self { left: Mutex::new(Allowances::new(each)), zero: Instant::now() }
    }

    /// Takes one of what `who` has left; `false` if nothing is.
    pub(crate) fn take(&self, who: K) -> bool {
        lock(&self.left).take(who, self.zero.elapsed())
    }
}
