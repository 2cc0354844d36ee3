//! Floods: what a hostile client or worker sends, over the project's own links and packets, from one address.
//!
//! A flood is bounded in time and in what it holds: links, mailboxes, packets made ahead. It goes on whatever is refused,
//! and counts that by reason.

mod acts;
mod links;
mod maker;
mod tally;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use betanet_node::net::NetFile;
use clap::ValueEnum;
use serde::Serialize;
use tokio::task::JoinSet;

use self::tally::Tally;
use crate::Failure;
use crate::site::{Site, Trouble};
use crate::window::process_time;

/// What is flooded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Valid packets of three hops, as fast as the edges read them.
    Packets,
    /// Packets whose MAC fails at the edge, and what is no frame.
    Garbage,
    /// Mailboxes, as many as are given, and items in them.
    Mailboxes,
    /// Item acks, and items that want stored-acks over reply blocks.
    Acks,
    /// Connections that say nothing, handshakes left half way, links that ask and do not read.
    Links,
    /// Workers for the list, and requests for it.
    Workers,
}

/// How.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What.
    pub kind: Kind,
    /// For how long.
    pub length: Duration,
    /// Packets, connections or requests a second, over all edges; as many as are taken if not given.
    pub rate: Option<u32>,
    /// Links to each edge at a time.
    pub links: usize,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// For how long it went on.
    pub seconds: f64,
    /// What was sent or opened.
    pub sent: BTreeMap<&'static str, u64>,
    /// What was refused.
    pub refused: BTreeMap<&'static str, u64>,
    /// What came back.
    pub came: BTreeMap<&'static str, u64>,
    /// Processor time of this process.
    pub cpu_pct: f64,
}

/// Floods all edges of a network.
///
/// # Errors
/// The network cannot be reached at the start, or no packets can be made.
pub async fn run(net: &NetFile, settings: Settings) -> Result<Report, Failure> {
    let site = Arc::new(Site::look(net).await?);
    let tally = Arc::new(Tally::new(settings.rate));
    let (start, busy) = (Instant::now(), process_time());
    let mut tasks = JoinSet::new();
    acts::start(settings, &site, &tally, &mut tasks)?;
    tokio::time::sleep(settings.length).await;
    tasks.shutdown().await;
    let seconds = start.elapsed().as_secs_f64();
    let cpu_pct = 100.0 * process_time().saturating_sub(busy).as_secs_f64() / seconds;
    let [sent, refused, came] = tally.counts();
    Ok(Report { seconds, sent, refused, came, cpu_pct })
}
