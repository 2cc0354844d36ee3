//! Lets a node, or a network, run for long and looks at its memory: one JSON object.
//!
//! Fails where memory grows or a message is lost. It asserts nothing of time, so the machine may do other things meanwhile.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use betanet_bench::Failure;
use betanet_bench::child::{betanet, resident_mib};
use betanet_bench::load::{Ahead, Network, Settings, Tags, Turn};
use betanet_bench::net::{Local, Pair};
use clap::{Parser, Subcommand};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

/// Looks at the memory.
const LOOKS: u64 = 200;

/// Of the looks, so many come before links, queues and pools are as large as they get.
const WARM: usize = 20;

/// By so much the memory may grow beside the tags: what an allocator holds back varies by some MiB.
const GROWTH_MIB: f64 = 8.0;

/// Packets between the node and its members at a time: fewer than any queue on the way holds.
const ON_THE_WAY: u64 = 2048;

/// A packet that does not come for so long was dropped.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether there is something to send.
const TICK: Duration = Duration::from_millis(1);

/// Lets a node or a network run for long.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program betanet, if it is not beside this one.
    #[arg(long, global = true)]
    betanet: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Packets through one node that remembers those of an epoch already, until it remembers those of two.
    Node {
        /// Packets.
        #[arg(long, default_value_t = 10_000_000)]
        packets: u32,
        /// Most packets a second.
        #[arg(long, default_value_t = 20_000)]
        rate: u32,
        /// Tags of each of the two epochs, at the end: 25,000 a second in 600 s, if not told otherwise.
        #[arg(long, default_value_t = 15_000_000)]
        tags: u32,
        /// Memory that the node may have at the end, in MiB.
        #[arg(long, default_value_t = 250.0)]
        most_mib: f64,
    },
    /// Messages through a network of ten nodes whose epochs are short.
    Messages {
        /// How long.
        #[arg(long, default_value_t = 600)]
        seconds: u32,
        /// Messages a second.
        #[arg(long, default_value_t = 300)]
        rate: u32,
        /// How long an epoch lasts.
        #[arg(long, default_value_t = 20)]
        epoch_s: u32,
    },
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let program = arguments.betanet.map_or_else(betanet, Ok)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (figures, faults) = runtime.block_on(async {
        match arguments.what {
            What::Node { packets, rate, tags, most_mib } => {
                node(program, packets.into(), rate, tags.try_into()?, most_mib).await
            }
            What::Messages { seconds, rate, epoch_s } => messages(program, seconds, rate, epoch_s).await,
        }
    })?;
    writeln!(std::io::stdout().lock(), "{figures}")?;
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
}

/// What is printed, and what is wrong with it.
type Found = (Value, Vec<String>);

async fn node(betanet: PathBuf, packets: u64, rate: u32, tags: usize, most_mib: f64) -> Result<Found, Failure> {
    let folder = tempfile::tempdir()?;
    let coming = usize::try_from(packets)?;
    let tags = Tags { former: tags, present: tags.saturating_sub(coming), coming };
    let settings = Settings { betanet, processor: 0, workers: 1, members: 4, variables: Vec::new(), tags: Some(tags) };
    let mut network = Network::start(folder.path(), &settings).await?;
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut shadow = tags.shadow(&mut rng);
    let mut made = Ahead::start(network.maker()?, 8192, Turn::Fair)?;
    let (arrivals, pid) = (network.members.arrivals(), network.node_pid());

    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let start = Instant::now();
    let (mut sent, mut seen, mut news) = (0, 0, Instant::now());
    let (mut all, mut beside_tags) = (Vec::new(), Vec::new());
    while arrivals.count() < packets && news.elapsed() < PATIENCE {
        ticks.tick().await;
        let due = u64::try_from(start.elapsed().as_micros())? * u64::from(rate) / 1_000_000;
        while sent < due.min(packets) && sent < arrivals.count() + ON_THE_WAY {
            let Some(packet) = made.take()? else { break };
            sent += u64::from(network.members.send(packet));
        }
        let arrived = arrivals.count();
        if arrived > seen {
            (seen, news) = (arrived, Instant::now());
        }
        if arrived >= packets * (u64::try_from(all.len())? + 1) / LOOKS {
            let held = tags.former + tags.present + usize::try_from(arrived)?;
            shadow.add(held.saturating_sub(shadow.held()), &mut rng);
            let mib = resident_mib(pid)?;
            all.push(mib);
            beside_tags.push(mib - shadow.mib());
        }
    }
    let (all, beside_tags) = (Course::of(&all)?, Course::of(&beside_tags)?);
    let mut faults = beside_tags.faults("memory beside the tags");
    if all.last > most_mib {
        faults.push(format!("{:.1} MiB are more than {most_mib}", all.last));
    }
    // One new tag in a million may be taken for an old one.
    if packets - seen > 3 + packets / 500_000 {
        faults.push(format!("{} packets were lost", packets - seen));
    }
    let figures = json!({
        "packets": seen,
        "lost": sent - seen,
        "dropped": network.drops().await?,
        "seconds": start.elapsed().as_secs(),
        "tags": tags.former + tags.present + usize::try_from(seen)?,
        "tags_at_start": tags.former + tags.present,
        "start_s": round(network.node_start.as_secs_f64()),
        "rss_mib": all.figures(),
        "rss_mib_beside_tags": beside_tags.figures(),
    });
    Ok((figures, faults))
}

async fn messages(betanet: PathBuf, seconds: u32, rate: u32, epoch_s: u32) -> Result<Found, Failure> {
    let folder = tempfile::tempdir()?;
    let net = Local::start(&betanet, folder.path().join("net"), &["--epoch", &format!("{epoch_s}s")]).await?;
    let pair = Pair::open(folder.path(), &net.bootstrap()).await?;
    pair.one(3, 1).await?;
    let length = Duration::from_secs(seconds.into());
    let start = Instant::now();
    let mut memory = Vec::new();
    let mut looks = tokio::time::interval((length / u32::try_from(LOOKS)?).max(TICK));
    let mut paced = Box::pin(pair.paced(3, rate, length));
    let sent = loop {
        tokio::select! {
            sent = &mut paced => break sent?,
            _ = looks.tick() => memory.push(net.resident_mib()?),
        }
    };
    drop(paced);
    let memory = Course::of(&memory)?;
    let mut faults = memory.faults("memory of the network");
    if sent.lost > 0 {
        faults.push(format!("{} messages were lost", sent.lost));
    }
    let figures = json!({
        "messages": sent.acknowledged,
        "lost": sent.lost,
        "seconds": start.elapsed().as_secs(),
        "epochs": seconds / epoch_s,
        "net_rss_mib": memory.figures(),
    });
    pair.close().await;
    Ok((figures, faults))
}

/// How a figure went on.
struct Course {
    first: f64,
    median: f64,
    last: f64,
    most: f64,
    growth: f64,
}

impl Course {
    fn of(looks: &[f64]) -> Result<Self, Failure> {
        let warm = looks.get(WARM.min(looks.len() / 2)..).unwrap_or_default();
        let (early, late) = warm.split_at(warm.len() / 2);
        let (first, last) = looks.first().zip(looks.last()).ok_or("nobody looked at the memory")?;
        let most = looks.iter().copied().fold(*first, f64::max);
        Ok(Self { first: *first, median: median(looks), last: *last, most, growth: median(late) - median(early) })
    }

    /// What is wrong if it was to stay as it is.
    fn faults(&self, what: &str) -> Vec<String> {
        let grown = (self.growth > GROWTH_MIB).then(|| format!("{what} grew by {:.1} MiB", self.growth));
        grown.into_iter().collect()
    }

    fn figures(&self) -> Value {
        let Self { first, median, last, most, growth } = self;
        let [first, median, last, most, growth] = [first, median, last, most, growth].map(|it| round(*it));
        json!({ "first": first, "median": median, "last": last, "most": most, "growth": growth })
    }
}

fn median(looks: &[f64]) -> f64 {
    let mut sorted = looks.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
