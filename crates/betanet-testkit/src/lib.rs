#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod client;
mod faults;
mod network;
mod node;

pub use client::{Behaviour, ClientIndex, MemoryClient, SpooledPieces};
pub use faults::Faults;
pub use network::{MemoryNetwork, Plan, START_MS};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// The generator that tests use: the same number gives the same bytes everywhere.
#[must_use]
pub fn seeded_rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}
