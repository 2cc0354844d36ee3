//! Real processes on loopback: a whole local network, driven through the client library and the
//! command line.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a failed unwrap fails the test"
)]

#[path = "localnet/addresses.rs"]
mod addresses;
#[path = "localnet/clocks.rs"]
mod clocks;
#[path = "localnet/command_line.rs"]
mod command_line;
#[path = "localnet/crowds.rs"]
mod crowds;
#[path = "localnet/delays.rs"]
mod delays;
#[path = "localnet/delivery.rs"]
mod delivery;
#[path = "localnet/faults.rs"]
mod faults;
#[path = "localnet/floods.rs"]
mod floods;
#[path = "localnet/harness.rs"]
mod harness;
#[path = "localnet/limits.rs"]
mod limits;
#[path = "localnet/machines.rs"]
mod machines;
#[path = "localnet/operators.rs"]
mod operators;
#[path = "localnet/processes.rs"]
mod processes;
#[path = "localnet/streams.rs"]
mod streams;
