#![doc = include_str!("../README.md")]

pub mod agreement;
pub mod bulk;
pub mod child;
pub mod histogram;
pub mod load;
pub mod net;
pub mod ours;
pub mod peer;
mod resized;
pub mod window;

pub use resized::Resized;

/// Whatever keeps a benchmark from running.
pub type Failure = Box<dyn std::error::Error>;

/// Hops of every path.
pub const HOPS: usize = 3;

/// Packets that are unwrapped or created at a time.
pub const BATCH: usize = 64;
