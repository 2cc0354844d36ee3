//! Puts a mix node under load and says what became of the packets: one JSON object for each rate.
//!
//! The node has one processor for itself; packets are made and received on the others. A store that is made ahead helps
//! the maker over a rate that is beyond it for a while; what it did not make in time is in the figures (`not_made`).

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use betanet_bench::Failure;
use betanet_bench::child::{betanet, processor_time, resident_mib};
use betanet_bench::load::{Ahead, Network, Settings, Turn, stay_off};
use betanet_bench::window::process_time;
use betanet_sphinx::x25519::PATH_VARIABLE;
use clap::Parser;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

/// What remains on the way after the last packet was sent has this long to arrive.
const DRAIN: Duration = Duration::from_secs(1);

/// How often it is looked which packets are due.
const TICK: Duration = Duration::from_millis(1);

/// Puts a mix node under load.
#[derive(Debug, Parser)]
struct Arguments {
    /// Packets per second, one rate after the other.
    #[arg(long, value_delimiter = ',', default_value = "20000,25000")]
    rates: Vec<u32>,
    /// How long each rate lasts.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Nodes around the measured one, which send to it and receive from it.
    #[arg(long, default_value_t = 4)]
    members: usize,
    /// The processor that the node has for itself.
    #[arg(long, default_value_t = 0)]
    processor: usize,
    /// Threads of the node that unwrap.
    #[arg(long, default_value_t = 1)]
    workers: u16,
    /// The node's path for X25519: ifma, avx2 or scalar; the best if not given.
    #[arg(long)]
    x25519: Option<String>,
    /// Packets that are made before the first is sent, and may be made ahead; 2.5 kB each.
    #[arg(long, default_value_t = 100_000)]
    ahead: usize,
    /// The program betanet, if it is not beside this one.
    #[arg(long)]
    betanet: Option<PathBuf>,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    stay_off(arguments.processor)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let settings = Settings {
        betanet: arguments.betanet.map_or_else(betanet, Ok)?,
        processor: arguments.processor,
        workers: arguments.workers,
        members: arguments.members,
        variables: arguments.x25519.map(|path| (PATH_VARIABLE, path)).into_iter().collect(),
        tags: None,
    };
    let mut network = Network::start(folder.path(), &settings).await?;
    let mut packets = Ahead::start(network.maker()?, arguments.ahead, Turn::Last)?;
    for rate in arguments.rates {
        packets.wait_until_ahead().await;
        let figures = one_rate(&mut network, &mut packets, rate, arguments.seconds).await?;
        writeln!(std::io::stdout().lock(), "{figures}")?;
    }
    Ok(())
}

/// Sends at one rate and says what came of it.
async fn one_rate(network: &mut Network, packets: &mut Ahead, rate: u32, seconds: u32) -> Result<Value, Failure> {
    let arrivals = network.members.arrivals();
    let pid = network.node_pid();
    let (before, dropped_before) = (arrivals.count(), network.drops().await?);
    let _ = arrivals.samples();
    let (node_before, own_before) = (processor_time(pid)?, process_time());
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let length = Duration::from_secs(seconds.into());
    let start = Instant::now();
    let (mut due_before, mut sent, mut not_made, mut refused) = (0, 0_u64, 0_u64, 0_u64);
    while start.elapsed() < length {
        ticks.tick().await;
        let due = start.elapsed().min(length).as_micros() * u128::from(rate) / 1_000_000;
        for _ in due_before..due {
            match packets.take()? {
                None => not_made += 1,
                Some(made) => {
                    let taken = network.members.send(made);
                    *if taken { &mut sent } else { &mut refused } += 1;
                }
            }
        }
        due_before = due;
    }
    let took = start.elapsed().as_secs_f64();
    let [node, own] = [processor_time(pid)?.saturating_sub(node_before), process_time().saturating_sub(own_before)]
        .map(|busy| {
            let percent = 100.0 * busy.as_secs_f64() / took;
            (percent * 10.0).round() / 10.0
        });
    let until = Instant::now() + DRAIN;
    while arrivals.count() - before < sent && Instant::now() < until {
        tokio::time::sleep(TICK).await;
    }
    let arrived = arrivals.count() - before;
    let (beside_owed, early) = arrivals.samples();
    let ms = |share| (beside_owed.per_mille(share).as_secs_f64() * 1e6).round() / 1e3;
    let mut dropped = network.drops().await?;
    dropped.retain(|reason, count| {
        *count -= dropped_before.get(reason).copied().unwrap_or(0);
        *count > 0
    });
    Ok(json!({
        "rate": rate,
        "seconds": seconds,
        "sent": sent,
        "not_made": not_made,
        "refused_by_link": refused,
        "arrived": arrived,
        "lost": sent.saturating_sub(arrived),
        "dropped": dropped,
        "per_s": (float(arrived) / took).round(),
        "samples": beside_owed.total(),
        "before_owed": early,
        "beside_owed_ms": { "p50": ms(500), "p90": ms(900), "p99": ms(990), "p999": ms(999), "max": ms(1000) },
        "node_cpu_pct": node,
        "node_rss_mib": (resident_mib(pid)? * 10.0).round() / 10.0,
        "generator_cpu_pct": own,
    }))
}

fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
