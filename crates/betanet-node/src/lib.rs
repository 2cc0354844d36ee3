#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod authority;
pub mod bind;
mod budget;
pub mod client;
pub mod clock;
pub mod control;
pub mod daemon;
pub mod http;
pub mod link;
pub mod localnet;
pub mod net;
pub mod process;
pub mod state;
mod sync;
pub mod views;
