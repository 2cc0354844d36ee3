//! The program `betanet`: mix node, directory authority, local network, and a client to try them.

#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
