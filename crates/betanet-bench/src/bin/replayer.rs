//! Sends the nodes of a network packets that they have let in before, until its standard input ends.
//!
//! Says on one line when each node has let something in, and in the end in one JSON object how many packets they let in again.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use betanet_bench::Failure;
use betanet_bench::child::betanet;
use betanet_bench::net::Replayer;
use clap::Parser;

/// Sends the nodes of a network packets that they have let in before.
#[derive(Debug, Parser)]
struct Arguments {
    /// The network file.
    #[arg(long)]
    net: PathBuf,
    /// The folder of the node at the end of the packets.
    #[arg(long)]
    dir: PathBuf,
    /// The program betanet, if it is not beside this one.
    #[arg(long)]
    betanet: Option<PathBuf>,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let program = arguments.betanet.map_or_else(betanet, Ok)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let replayer = Replayer::start(&program, &arguments.dir, &arguments.net).await?;
        let input = tokio::task::spawn_blocking(|| std::io::stdin().lock().read_to_end(&mut Vec::new()));
        let begun = || {
            let _ = writeln!(std::io::stdout().lock(), "{}", serde_json::json!({ "event": "begun" }));
        };
        let until = async {
            let _ = input.await;
        };
        replayer.run(begun, until).await
    })?;
    writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&report)?)?;
    Ok(())
}
