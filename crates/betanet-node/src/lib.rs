#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests read what they wrote"))]

mod allowances;
pub mod authority;
pub mod bind;
mod bounded;
pub mod client;
pub mod clock;
pub mod control;
pub mod daemon;
#[cfg(test)]
pub(crate) mod fixtures;
mod gate;
pub mod http;
pub mod link;
pub mod localnet;
pub mod logging;
pub mod metrics;
pub mod net;
mod newcomers;
pub mod pipeline;
mod places;
pub mod process;
mod random;
mod rarely;
pub mod state;
mod sync;
