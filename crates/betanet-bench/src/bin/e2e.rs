//! Sends messages through a local network of ten nodes, or through one that exists, and prints one JSON object of figures.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use betanet_bench::Failure;
use betanet_bench::child::betanet;
use betanet_bench::histogram::Histogram;
use betanet_bench::net::{Local, Pair};
use betanet_bench::window::process_time;
use clap::Parser;
use serde_json::{Map, Value, json};

/// The rate at which the time beside the owed delay is taken.
const PACED_PER_S: u32 = 1000;

/// Bytes of a large message.
const LARGE: usize = 16 * 1024 * 1024;

/// The nodes' histogram of the time by which packets leave after they are due.
const LATE: &str = "betanet_hop_late_seconds";

/// Sends messages through a local network of ten nodes, or through one that exists.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long messages are counted; the machine is watched at rest, and messages are paced, for half of it.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Messages under way at a time.
    #[arg(long, default_value_t = 512)]
    under_way: usize,
    /// Leave out what takes long: the messages of 16 MiB.
    #[arg(long)]
    small: bool,
    /// The program betanet, if it is not beside this one.
    #[arg(long)]
    betanet: Option<PathBuf>,
    /// The file of a network that exists: messages at one rate and nothing else.
    #[arg(long)]
    net: Option<PathBuf>,
    /// Messages a second through a network that exists.
    #[arg(long, default_value_t = 200, requires = "net", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Hops there.
    #[arg(long, default_value_t = 3, requires = "net")]
    hops: u8,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let figures = runtime.block_on(async {
        match arguments.net.clone() {
            Some(net) => through(&net, &arguments).await,
            None => run(arguments).await,
        }
    })?;
    writeln!(std::io::stdout().lock(), "{}", Value::Object(figures))?;
    Ok(())
}

/// Two clients of a network that somebody else runs.
async fn through(net: &Path, arguments: &Arguments) -> Result<Map<String, Value>, Failure> {
    let folder = tempfile::tempdir()?;
    let pair = Pair::open(folder.path(), net).await?;
    pair.one(arguments.hops, 1).await?;
    let timed = pair.timed(arguments.hops, arguments.rate, Duration::from_secs(arguments.seconds.into())).await;
    pair.close().await;
    let per_s = |count| (10.0 * float(count) / timed.took.as_secs_f64()).round() / 10.0;
    let ms = |times: &Histogram, share| (times.per_mille(share).as_secs_f64() * 1e4).round() / 10.0;
    let figures = json!({
        "rate": arguments.rate,
        "hops": arguments.hops,
        "sent": timed.sent,
        "failed": timed.failed,
        "lost": timed.lost,
        "acknowledged_per_s": per_s(timed.acknowledged_in_time),
        "received_per_s": per_s(timed.received_in_time),
        "acknowledged_p50_ms": ms(&timed.acknowledged, 500),
        "acknowledged_p99_ms": ms(&timed.acknowledged, 990),
        "received_p50_ms": ms(&timed.received, 500),
        "received_p99_ms": ms(&timed.received, 990),
    });
    Ok(figures.as_object().cloned().unwrap_or_default())
}

async fn run(arguments: Arguments) -> Result<Map<String, Value>, Failure> {
    let folder = tempfile::tempdir()?;
    let program = arguments.betanet.map_or_else(betanet, Ok)?;
    let mut figures = Map::new();
    let mut put = |name: &str, value: f64| {
        let rounded = (value * 1000.0).round() / 1000.0;
        figures.insert(name.to_owned(), json!(rounded));
    };
    let (half, whole) =
        (Duration::from_secs(arguments.seconds.into()) / 2, Duration::from_secs(arguments.seconds.into()));

    let start = Instant::now();
    let net = Local::start(&program, folder.path().join("net"), &[]).await?;
    put("ready_s", start.elapsed().as_secs_f64());
    let pair = Pair::open(folder.path(), &net.bootstrap()).await?;
    pair.one(3, 1).await?;
    put("first_message_s", start.elapsed().as_secs_f64());

    // Links and caches come to rest.
    tokio::time::sleep(half / 2).await;
    let (nodes, own, since) = (net.processor_time()?, process_time(), Instant::now());
    tokio::time::sleep(half).await;
    let percent = |busy: Duration| 100.0 * busy.as_secs_f64() / since.elapsed().as_secs_f64();
    put("idle_nodes_cpu_pct", percent(net.processor_time()?.saturating_sub(nodes)));
    // Two clients, and nothing else, are in this process.
    put("idle_client_cpu_pct", percent(process_time().saturating_sub(own)) / 2.0);
    put("idle_net_mib", net.resident_mib()?);

    let before = net.times(LATE).await?;
    let paced = pair.paced(3, PACED_PER_S, half).await?;
    let late = net.times(LATE).await?.since(&before);
    put("paced_lost", float(paced.lost));
    put("paced_hops", f64::from(u32::try_from(late.total()).unwrap_or(u32::MAX)));
    put("hop_overhead_p50_ms", late.per_mille_ms(500));
    put("hop_overhead_p99_ms", late.per_mille_ms(990));

    let (nodes, own) = (net.processor_time()?, process_time());
    let many = pair.many(3, arguments.under_way, whole).await?;
    put("e2e3_msgs_per_s", float(many.acknowledged) / many.took.as_secs_f64());
    put("e2e3_lost", float(many.lost));
    let each = |busy: Duration| 1e6 * busy.as_secs_f64() / float(many.acknowledged);
    put("e2e3_nodes_us_per_message", each(net.processor_time()?.saturating_sub(nodes)));
    put("e2e3_clients_us_per_message", each(process_time().saturating_sub(own)));

    if !arguments.small {
        for hops in [3, 7] {
            let took = pair.one(hops, LARGE).await?;
            put(&format!("e2e{hops}_mb_per_s"), float(LARGE) / 1e6 / took.as_secs_f64());
        }
    }
    pair.close().await;
    Ok(figures)
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
