//! How much of something a peer may ask for, and how fast.

use std::time::Instant;

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
            let elapsed = self.refilled.elapsed().as_secs_f64();
            self.tokens = (self.tokens + elapsed * self.rate).min(self.burst);
            self.refilled = Instant::now();
        }
        let left = self.tokens >= 1.0;
        if left {
            self.tokens -= 1.0;
        }
        left
    }
}
