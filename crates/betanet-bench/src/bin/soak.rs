//! Lets a node, or a network, run for long and looks at its memory: one JSON object.
//!
//! Fails where memory grows or a message is lost. It asserts nothing of time, so the machine may do other things meanwhile.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use betanet_bench::Failure;
use betanet_bench::child::{betanet, resident_mib};
use betanet_bench::load::{Ahead, Arrivals, Made, Network, Settings, Tags, Turn};
use betanet_bench::net::{Local, Pair};
use betanet_mix::pool::Buffer;
use betanet_sphinx::PACKET_LEN;
use clap::{Parser, Subcommand};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};
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

/// No packet is on its way for so long, unless it was dropped.
const SETTLED: Duration = Duration::from_secs(1);

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
    /// Packets to a node that is killed, frozen and set back, all of which are sent again after each time.
    Replays {
        /// How often each of the three.
        #[arg(long, default_value_t = 10)]
        rounds: u32,
        /// Packets that are under way when that happens.
        #[arg(long, default_value_t = 1_000)]
        packets: u32,
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
            What::Replays { rounds, packets } => replays(program, rounds, packets).await,
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
    let (mut memory, mut of_clients) = (Vec::new(), Vec::new());
    let mut looks = tokio::time::interval((length / u32::try_from(LOOKS)?).max(TICK));
    let mut paced = Box::pin(pair.paced(3, rate, length));
    let sent = loop {
        tokio::select! {
            sent = &mut paced => break sent?,
            _ = looks.tick() => {
                memory.push(net.resident_mib()?);
                of_clients.push(resident_mib(std::process::id())?);
            }
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
        // With what is noted here of each message.
        "clients_rss_mib": Course::of(&of_clients)?.figures(),
    });
    pair.close().await;
    Ok((figures, faults))
}

/// What is done to a node while packets are under way to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    Kill,
    Freeze,
    /// Killed, and started with half of what it has written down.
    SetBack,
}

/// A packet leaves the node as the same bytes each time it is let in, so that members know one that was let in twice.
async fn replays(betanet: PathBuf, rounds: u32, packets: u32) -> Result<Found, Failure> {
    let folder = tempfile::tempdir()?;
    let settings = Settings { betanet, processor: 0, workers: 1, members: 4, variables: Vec::new(), tags: None };
    let mut network = Network::start(folder.path(), &settings).await?;
    let mut made = Ahead::start(network.maker()?, 2048, Turn::Fair)?;
    let arrivals = network.members.arrivals();
    arrivals.count_each();
    let mut choose = ChaCha20Rng::seed_from_u64(1);
    let (mut copies, mut sent_again, mut under_way) = (Vec::new(), 0_u64, 0);
    for blow in (0..rounds).flat_map(|_| [Blow::Kill, Blow::Freeze, Blow::SetBack]) {
        let fresh = some(&mut made, packets).await?;
        // The blow falls while some of them are under way.
        let cut = usize::try_from(choose.next_u32() % packets.max(1))?;
        let (before, after) = fresh.split_at(cut.min(fresh.len()));
        send_all(&mut network, before).await?;
        match blow {
            Blow::Kill => network.kill_node().await?,
            Blow::Freeze => signal(network.node_pid(), "-STOP")?,
            Blow::SetBack => network.set_node_back().await?,
        }
        send_all(&mut network, after).await?;
        match blow {
            // What the node held is gone with it.
            Blow::Kill => under_way += before.len(),
            Blow::Freeze => signal(network.node_pid(), "-CONT")?,
            // It has another key, so none of these is let in that had not passed.
            Blow::SetBack => {
                under_way += fresh.len();
                made = Ahead::start(network.maker()?, 2048, Turn::Fair)?;
            }
        }
        copies.extend(fresh);
        // All of before, of which the node has let in most; twice, for what came to a node that was about to die.
        for _ in 0..2 {
            send_all(&mut network, &copies).await?;
            sent_again += u64::try_from(copies.len())?;
            settle(&arrivals, copies.len()).await?;
        }
    }
    tokio::time::sleep(SETTLED).await;
    let (different, again) = arrivals.different();
    let mut faults = Vec::new();
    if again > 0 {
        faults.push(format!("{again} packets were let in more than once"));
    }
    let missing = copies.len() - different;
    if missing > under_way {
        faults.push(format!("{missing} packets did not come, and only {under_way} were under way to a node that went"));
    }
    let figures = json!({
        "kills": rounds,
        "freezes": rounds,
        "set_back": rounds,
        "packets": copies.len(),
        "came": different,
        "sent_again": sent_again,
        "let_in_again": again,
        "dropped_since_last_start": network.drops().await?,
    });
    Ok((figures, faults))
}

/// Waits for packets that the maker makes.
async fn some(made: &mut Ahead, packets: u32) -> Result<Vec<[u8; PACKET_LEN]>, Failure> {
    let mut some = Vec::new();
    while some.len() < usize::try_from(packets)? {
        match made.take()? {
            Some(made) => some.push((&*made.packet).try_into()?),
            None => tokio::time::sleep(TICK).await,
        }
    }
    Ok(some)
}

/// Sends copies, a few at a time, so that no queue on the way overflows.
async fn send_all(network: &mut Network, packets: &[[u8; PACKET_LEN]]) -> Result<(), Failure> {
    for part in packets.chunks(64) {
        for packet in part {
            network.members.send(Made { packet: Buffer::from(packet), sample: None });
        }
        tokio::time::sleep(TICK * 4).await;
    }
    Ok(())
}

/// Waits until so many different packets have come, or for as long as one may be held.
async fn settle(arrivals: &Arrivals, packets: usize) -> Result<(), Failure> {
    let until = Instant::now() + SETTLED;
    while arrivals.different().0 < packets && Instant::now() < until {
        tokio::time::sleep(10 * TICK).await;
    }
    Ok(())
}

fn signal(pid: u32, name: &str) -> Result<(), Failure> {
    let done = Command::new("kill").args([name, &pid.to_string()]).status()?;
    if done.success() { Ok(()) } else { Err(format!("no signal for {pid}").into()) }
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
