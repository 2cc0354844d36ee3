//! Unwrapping packets for a caller who wants them back.
//!
//! Two ways in, one set of workers: [`PacketPipeline::submit`] with [`PacketPipeline::recv_batch`] for a stream, and
//! [`PacketPipeline::process_batch`] for a list whose results are wanted in order. The stream is bounded by admission:
//! at most `depth` packets are inside, from submission until their result is taken, so workers never wait for a reader
//! and a flood is refused at the door. Of a list, only a part is in the queue at a time, so stream and lists take turns.
//!
//! Where memory is refused, the caller hears of it: what workers put results into is asked for before.

use std::collections::{BTreeMap, TryReserveError, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use betanet_mix::delay::{DelaySource, Keyed};
use betanet_mix::fair::{Side, SourceId};
use betanet_mix::pool::Buffer;
use betanet_mix::replay::ReplayCache;
use betanet_sphinx::{Action, PacketError, ReplayFilter, ReplayTag, SecretKey, Unwrapped, unwrap_batch};

use super::{Arrival, Arrivals, Stage, start};
use crate::sync::lock;

/// Packets that a worker takes at a time, at most.
const BATCH: usize = 128;

/// Packets of a list that are in the queue or being unwrapped, for each worker.
const WINDOW: usize = 4 * BATCH;

/// How often a caller who waits looks whether it is to go on.
const LOOK: Duration = Duration::from_millis(20);

const MAX_WORKERS: usize = 256;

/// A packet that was accepted.
#[derive(Debug)]
pub struct Processed {
    /// What to do with it.
    pub action: Action,
    /// How long it is held before that.
    pub delay: Duration,
    /// The packet, rewritten for the next hop, or with the payload that `action` points into.
    pub packet: Buffer,
}

/// What became of one packet.
pub type ProcessResult = Result<Processed, PacketError>;

/// Why a packet or a list was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// As many packets as allowed are inside.
    #[error("the pipeline holds as many packets as it may; take results before submitting more")]
    Full,
    /// The pipeline was closed, or belongs to the process that this one was forked from.
    #[error("the pipeline is closed")]
    Closed,
    /// The caller said so.
    #[error("the work was stopped before all packets were unwrapped")]
    Stopped,
    /// The number of workers or the depth makes no sense.
    #[error("a pipeline has 1 to {MAX_WORKERS} workers and room for at least one packet")]
    BadSize,
    /// The system gave no thread.
    #[error("no thread for a worker: {0}")]
    Spawn(String),
    /// The system gave no memory.
    #[error("not enough memory for these packets: {0}")]
    Memory(#[from] TryReserveError),
}

/// Counters and gauges of a pipeline.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PipelineStats {
    /// Packets decided, accepted or rejected.
    pub processed: u64,
    /// Packets rejected.
    pub dropped: u64,
    /// Packets rejected, by reason.
    pub dropped_by_reason: BTreeMap<&'static str, u64>,
    /// Time that the workers spent on packets, added up over all of them.
    pub busy: Duration,
    /// Submissions refused because the pipeline was full.
    pub refused: u64,
    /// Stream packets inside, results included.
    pub inside: usize,
    /// Entries of the replay cache.
    pub replay_entries: usize,
}

/// Worker threads that unwrap packets under one key.
#[derive(Debug)]
pub struct PacketPipeline {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stream: SourceId,
    workers: usize,
    depth: usize,
    /// The threads stay in this one when it forks, and so do those who hold locks.
    process: u32,
}

#[derive(Debug)]
struct Shared {
    arrivals: Arc<Arrivals<Ticket>>,
    replay: Mutex<ReplayCache>,
    stream: Mutex<Stream>,
    results: Condvar,
    closed: AtomicBool,
    counts: Counts,
}

/// Where the result of a packet goes.
#[derive(Debug)]
enum Ticket {
    Stream,
    List { list: Arc<List>, index: usize },
}

#[derive(Debug, Default)]
struct Stream {
    output: VecDeque<ProcessResult>,
    inside: usize,
}

/// The results of a list, each in its place.
#[derive(Debug)]
struct List {
    results: Mutex<Results>,
    progress: Condvar,
}

#[derive(Debug)]
struct Results {
    outcomes: Vec<ProcessResult>,
    done: usize,
    /// How many have to be done before whoever waits wants to know.
    wanted: usize,
}

#[derive(Debug, Default)]
struct Counts {
    processed: AtomicU64,
    by_reason: [AtomicU64; PacketError::ALL.len()],
    refused: AtomicU64,
    busy_ns: AtomicU64,
}

impl Counts {
    fn count(&self, outcome: &ProcessResult) {
        self.processed.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = outcome {
            let place = PacketError::ALL.iter().position(|other| other == error);
            if let Some(count) = place.and_then(|place| self.by_reason.get(place)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl PacketPipeline {
    /// Starts `workers` threads that unwrap under `secret`, refuse what `replay` knows and take delays from `delays`.
    ///
    /// The cache's log is not read here: give a [`ReplayCache::volatile`] one for keys that die with the process.
    ///
    /// # Errors
    /// [`PipelineError::BadSize`] for no workers or no room, [`PipelineError::Spawn`] when the system gives no thread.
    pub fn new(
        workers: usize,
        depth: usize,
        secret: &SecretKey,
        replay: ReplayCache,
        delays: &Keyed,
    ) -> Result<Self, PipelineError> {
        if workers == 0 || workers > MAX_WORKERS || depth == 0 {
            return Err(PipelineError::BadSize);
        }
        // Both ways in have bounds of their own.
        let arrivals = Arc::new(Arrivals::new(usize::MAX, workers));
        let shared = Arc::new(Shared {
            arrivals: Arc::clone(&arrivals),
            replay: Mutex::new(replay),
            stream: Mutex::default(),
            results: Condvar::new(),
            closed: AtomicBool::new(false),
            counts: Counts::default(),
        });
        let stage = || Bulk {
            secret: secret.clone(),
            delays: delays.clone(),
            unwrapped: Vec::with_capacity(BATCH),
            shared: Arc::clone(&shared),
        };
        let threads =
            start(&arrivals, workers, BATCH, stage).map_err(|error| PipelineError::Spawn(error.to_string()))?;
        let stream = arrivals.join(Side::Clients);
        Ok(Self { shared, threads: Mutex::new(threads), stream, workers, depth, process: std::process::id() })
    }

    /// Puts one packet into the stream.
    ///
    /// # Errors
    /// [`PipelineError::Full`] when there is no room, [`PipelineError::Memory`] when there is no memory,
    /// [`PipelineError::Closed`] after a close.
    pub fn submit(&self, packet: Vec<u8>) -> Result<(), PipelineError> {
        self.open()?;
        {
            let mut stream = lock(&self.shared.stream);
            if stream.inside >= self.depth {
                self.shared.counts.refused.fetch_add(1, Ordering::Relaxed);
                return Err(PipelineError::Full);
            }
            let more = stream.inside + 1 - stream.output.len();
            stream.output.try_reserve(more)?;
            stream.inside += 1;
        }
        let arrival = Arrival { packet: packet.into(), received: Instant::now(), from: Ticket::Stream };
        let pushed = self.shared.arrivals.push(self.stream, std::iter::once(arrival));
        if pushed.is_err() {
            lock(&self.shared.stream).inside -= 1;
        }
        pushed.map(|_| ()).map_err(Into::into)
    }

    /// Takes up to `max` results of the stream, in the order they were reached. Waits up to `timeout` for the first.
    ///
    /// Empty when none came in time, when none can come because the stream is empty, or when the pipeline was closed.
    #[must_use]
    pub fn recv_batch(&self, max: usize, timeout: Duration) -> Vec<ProcessResult> {
        let deadline = Instant::now() + timeout;
        let mut stream = lock(&self.shared.stream);
        while stream.output.is_empty() && stream.inside > 0 && self.open().is_ok() && max > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.results.wait_timeout(stream, left);
            stream = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = stream.output.len().min(max);
        stream.inside = stream.inside.saturating_sub(count);
        stream.output.drain(..count).collect()
    }

    /// Unwraps a list of packets on all workers. The result at each place belongs to the packet at that place.
    /// `goes_on` is asked now and then, between groups of packets, and may say that the caller wants no more; what was
    /// unwrapped by then counts as seen.
    ///
    /// # Errors
    /// [`PipelineError::Closed`] when the pipeline is closed before all is done, or this process was forked meanwhile;
    /// [`PipelineError::Stopped`] when `goes_on` says no; [`PipelineError::Memory`] when there is no memory.
    pub fn process_batch(
        &self,
        packets: Vec<Vec<u8>>,
        goes_on: impl FnMut() -> bool,
    ) -> Result<Vec<ProcessResult>, PipelineError> {
        self.open()?;
        let list = Arc::new(List::with_room(packets.len())?);
        let source = self.shared.arrivals.join(Side::Clients);
        let done = self.feed(packets, source, &list, goes_on);
        if self.process != std::process::id() {
            // A copy of the process: who held a lock when it was made will never give it back here.
            std::mem::forget(list);
            return Err(PipelineError::Closed);
        }
        self.shared.arrivals.leave(source);
        done?;
        Ok(std::mem::take(&mut lock(&list.results).outcomes))
    }

    fn feed(
        &self,
        packets: Vec<Vec<u8>>,
        source: SourceId,
        list: &Arc<List>,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<(), PipelineError> {
        let (count, window) = (packets.len(), self.workers * WINDOW);
        let mut rest = packets.into_iter().enumerate();
        let (mut done, mut looked) = (0, Instant::now());
        while done < count {
            let inside = count - rest.len() - done;
            let received = Instant::now();
            let more = rest.by_ref().take(window - inside).map(|(index, packet)| Arrival {
                packet: packet.into(),
                received,
                from: Ticket::List { list: Arc::clone(list), index },
            });
            self.shared.arrivals.push(source, more)?;
            // With half of it done there is time to bring more.
            done = list.wait(count.min(done + window / 2), LOOK);
            self.open()?;
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                if !goes_on() {
                    return Err(PipelineError::Stopped);
                }
                if self.process != std::process::id() {
                    return Err(PipelineError::Closed);
                }
            }
        }
        Ok(())
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> PipelineStats {
        let counts = &self.shared.counts;
        let reasons = PacketError::ALL.iter().zip(&counts.by_reason);
        let dropped_by_reason: BTreeMap<_, _> = reasons
            .map(|(error, count)| (error.reason(), count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect();
        PipelineStats {
            processed: counts.processed.load(Ordering::Relaxed),
            dropped: dropped_by_reason.values().sum(),
            dropped_by_reason,
            busy: Duration::from_nanos(counts.busy_ns.load(Ordering::Relaxed)),
            refused: counts.refused.load(Ordering::Relaxed),
            inside: lock(&self.shared.stream).inside,
            replay_entries: lock(&self.shared.replay).len(),
        }
    }

    /// The number of worker threads.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Ends the workers and waits for them. Packets still inside are thrown away. Repeatable.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.arrivals.give_up();
        self.shared.results.notify_all();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // A worker has no way to panic; if one did, there is nothing left to do about it here.
            drop(thread.join());
        }
        *lock(&self.shared.stream) = Stream::default();
    }

    fn open(&self) -> Result<(), PipelineError> {
        if self.shared.closed.load(Ordering::Acquire) { Err(PipelineError::Closed) } else { Ok(()) }
    }
}

impl Drop for PacketPipeline {
    fn drop(&mut self) {
        self.close();
    }
}

impl List {
    fn with_room(count: usize) -> Result<Self, TryReserveError> {
        let mut outcomes = Vec::new();
        outcomes.try_reserve_exact(count)?;
        // What stands here until a worker has decided is never shown.
        outcomes.resize_with(count, || Err(PacketError::NoKey));
        let results = Mutex::new(Results { outcomes, done: 0, wanted: count });
        Ok(Self { results, progress: Condvar::new() })
    }

    /// Waits for a while until `wanted` are done, and says how many are.
    fn wait(&self, wanted: usize, most: Duration) -> usize {
        let mut results = lock(&self.results);
        results.wanted = wanted;
        let deadline = Instant::now() + most;
        while results.done < wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            results = self.progress.wait_timeout(results, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        results.done
    }
}

/// What a worker of a [`PacketPipeline`] does.
struct Bulk {
    shared: Arc<Shared>,
    secret: SecretKey,
    delays: Keyed,
    unwrapped: Vec<betanet_sphinx::UnwrapResult>,
}

impl Stage for Bulk {
    type From = Ticket;

    fn process(&mut self, group: &mut Vec<Arrival<Ticket>>, _: &mut Vec<(SourceId, u32)>) {
        let started = Instant::now();
        unwrap_batch(&self.secret, group, &mut Filter(&self.shared.replay), &mut self.unwrapped);
        let mut stream = None;
        for (Arrival { packet, from, .. }, unwrapped) in group.drain(..).zip(self.unwrapped.drain(..)) {
            let outcome = unwrapped.map(|Unwrapped { action, delay, .. }| Processed {
                action,
                delay: self.delays.delay(&delay),
                packet,
            });
            self.shared.counts.count(&outcome);
            match from {
                // Its submitter has asked for the room.
                Ticket::Stream => {
                    stream.get_or_insert_with(|| lock(&self.shared.stream)).output.push_back(outcome);
                }
                Ticket::List { list, index } => {
                    let mut results = lock(&list.results);
                    if let Some(place) = results.outcomes.get_mut(index) {
                        *place = outcome;
                    }
                    results.done += 1;
                    if results.done == results.wanted {
                        list.progress.notify_all();
                    }
                }
            }
        }
        let has_streamed = stream.is_some();
        drop(stream);
        if has_streamed {
            self.shared.results.notify_all();
        }
        let busy = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.shared.counts.busy_ns.fetch_add(busy, Ordering::Relaxed);
    }
}

/// Holds the cache's lock for one check at a time, not for a whole unwrap.
struct Filter<'a>(&'a Mutex<ReplayCache>);

impl ReplayFilter for Filter<'_> {
    fn check_and_insert(&mut self, tag: &ReplayTag) -> Result<(), PacketError> {
        lock(self.0).check_and_insert(tag)
    }
}

#[cfg(test)]
mod tests;
