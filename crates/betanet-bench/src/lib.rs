#![doc = include_str!("../README.md")]

pub mod agreement;
pub mod bulk;
pub mod child;
pub mod flood;
pub mod histogram;
pub mod load;
pub mod net;
pub mod ours;
pub mod peer;
mod resized;
mod site;
pub mod window;

use std::time::{Duration, SystemTime};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

pub use resized::Resized;

/// Whatever keeps a benchmark from running.
pub type Failure = Box<dyn std::error::Error>;

/// A generator that the operating system has seeded.
///
/// # Errors
/// It has no random bytes.
pub fn fresh_rng() -> Result<ChaCha20Rng, &'static str> {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| "no random bytes")?;
    Ok(ChaCha20Rng::from_seed(seed))
}

/// What the wall clock shows, in milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Hops of every path.
pub const HOPS: usize = 3;

/// Packets that are unwrapped or created at a time.
pub const BATCH: usize = 64;
