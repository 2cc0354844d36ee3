//! The program `betanet`: mix node, directory authority, local network, and a client to try them.

#![forbid(unsafe_code)]

mod cli;

// Closed standard descriptors are replaced by ones that fail.
use betanet_stdio as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
