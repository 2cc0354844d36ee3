//! Floods a network from this machine's address and says in one JSON object what was sent and what was refused.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use betanet_bench::Failure;
use betanet_bench::flood::{Kind, Settings, run};
use betanet_node::net::NetFile;
use clap::Parser;

/// Floods all edges of a network, as one hostile client or worker could.
#[derive(Debug, Parser)]
struct Arguments {
    /// The network file.
    #[arg(long)]
    net: PathBuf,
    /// What is flooded.
    #[arg(long)]
    kind: Kind,
    /// For how long.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Packets, connections or requests a second over all edges [default: as many as are taken].
    #[arg(long)]
    rate: Option<u32>,
    /// Links to each edge at a time.
    #[arg(long, default_value_t = 8)]
    links: usize,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let net = NetFile::read(&arguments.net)?;
    let settings = Settings {
        kind: arguments.kind,
        length: Duration::from_secs(arguments.seconds.into()),
        rate: arguments.rate,
        links: arguments.links,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(run(&net, settings))?;
    writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&report)?)?;
    Ok(())
}
