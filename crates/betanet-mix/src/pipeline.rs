//! Unwrapping packets in bulk on worker threads.
//!
//! Two ways in, one set of workers: [`PacketPipeline::submit`] with [`PacketPipeline::recv_batch`] for a stream, and
//! [`PacketPipeline::process_batch`] for a list whose results are wanted in order. The stream is bounded by admission:
//! at most `depth` packets are inside, from submission until their result is taken, so workers never wait for a reader
//! and a flood is refused at the door.

#![allow(
    clippy::disallowed_methods,
    reason = "waits for its own threads and measures them; packets know no clock here"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use betanet_sphinx::{Action, PacketError, ReplayFilter, ReplayTag, SecretKey, Unwrapped, unwrap_batch};

use crate::delay::{DelaySource, Keyed};
use crate::replay::ReplayCache;

/// Stream packets that a worker takes at a time.
const STREAM_CHUNK: usize = 16;
/// Packets of a batch that a worker takes at a time, at most.
const BATCH_CHUNK: usize = 128;
/// Packets whose multiplications share the lanes of a vector unit; chunks are whole multiples of it.
const LANES: usize = 8;
const MAX_WORKERS: usize = 256;

/// A packet that was accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Processed {
    /// What to do with it.
    pub action: Action,
    /// How long it is held before that.
    pub delay: Duration,
    /// The packet, rewritten for the next hop, or with the payload that `action` points into.
    pub packet: Vec<u8>,
}

/// What became of one packet.
pub type Outcome = Result<Processed, PacketError>;

/// Why a packet or a batch was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// As many packets as allowed are inside. Take results first. Hands the packet back.
    #[error("the pipeline holds as many packets as it may; take results before submitting more")]
    Full(Vec<u8>),
    /// The pipeline was closed.
    #[error("the pipeline is closed")]
    Closed,
    /// The number of workers or the depth makes no sense.
    #[error("a pipeline has 1 to {MAX_WORKERS} workers and room for at least one packet")]
    BadSize,
    /// The system gave no thread.
    #[error("no thread for a worker: {0}")]
    Spawn(String),
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
    workers: usize,
    depth: usize,
}

struct Shared {
    secret: SecretKey,
    replay: Mutex<ReplayCache>,
    delays: Keyed,
    state: Mutex<State>,
    work: Condvar,
    results: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    output: VecDeque<Outcome>,
    inside: usize,
    closed: bool,
    stats: PipelineStats,
}

enum Job {
    Stream(Vec<u8>),
    Batch { start: usize, packets: Vec<Vec<u8>>, done: mpsc::Sender<(usize, Vec<Outcome>)> },
}

enum Taken {
    Stream(Vec<Vec<u8>>),
    Batch { start: usize, packets: Vec<Vec<u8>>, done: mpsc::Sender<(usize, Vec<Outcome>)> },
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
        secret: SecretKey,
        replay: ReplayCache,
        delays: Keyed,
    ) -> Result<Self, PipelineError> {
        if workers == 0 || workers > MAX_WORKERS || depth == 0 {
            return Err(PipelineError::BadSize);
        }
        let shared = Arc::new(Shared {
            secret,
            replay: Mutex::new(replay),
            delays,
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            results: Condvar::new(),
        });
        let pipeline = Self { shared, threads: Mutex::new(Vec::new()), workers, depth };
        for index in 0..workers {
            let shared = Arc::clone(&pipeline.shared);
            let thread = thread::Builder::new().name(format!("unwrap-{index}")).spawn(move || shared.run());
            // Dropping the pipeline on the way out ends the threads that did start.
            let thread = thread.map_err(|error| PipelineError::Spawn(error.to_string()))?;
            lock(&pipeline.threads).push(thread);
        }
        Ok(pipeline)
    }

    /// Puts one packet into the stream.
    ///
    /// # Errors
    /// [`PipelineError::Full`] with the packet when there is no room, [`PipelineError::Closed`] after a close.
    pub fn submit(&self, packet: Vec<u8>) -> Result<(), PipelineError> {
        let mut state = lock(&self.shared.state);
        if state.closed {
            return Err(PipelineError::Closed);
        }
        if state.inside >= self.depth {
            state.stats.refused += 1;
            return Err(PipelineError::Full(packet));
        }
        state.inside += 1;
        state.jobs.push_back(Job::Stream(packet));
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Takes up to `max` results of the stream, in the order they were reached. Waits up to `timeout` for the first.
    ///
    /// Empty when none came in time, when none can come because the stream is empty, or when the pipeline was closed.
    #[must_use]
    pub fn recv_batch(&self, max: usize, timeout: Duration) -> Vec<Outcome> {
        let deadline = Instant::now() + timeout;
        let mut state = lock(&self.shared.state);
        while state.output.is_empty() && state.inside > 0 && !state.closed && max > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.results.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = state.output.len().min(max);
        state.inside = state.inside.saturating_sub(count);
        state.output.drain(..count).collect()
    }

    /// Unwraps a list of packets on all workers. The result at each place belongs to the packet at that place.
    ///
    /// # Errors
    /// [`PipelineError::Closed`] when the pipeline is closed before all is done.
    pub fn process_batch(&self, packets: Vec<Vec<u8>>) -> Result<Vec<Outcome>, PipelineError> {
        let count = packets.len();
        let chunk = count.div_ceil(self.workers * 4).next_multiple_of(LANES).clamp(LANES, BATCH_CHUNK);
        let (done, results) = mpsc::channel();
        let mut rest = packets.into_iter();
        let mut state = lock(&self.shared.state);
        if state.closed {
            return Err(PipelineError::Closed);
        }
        for start in (0..count).step_by(chunk) {
            let packets = rest.by_ref().take(chunk).collect();
            state.jobs.push_back(Job::Batch { start, packets, done: done.clone() });
        }
        drop(state);
        drop(done);
        self.shared.work.notify_all();
        // The channel ends when every job was done or, after a close, thrown away.
        let mut chunks: Vec<(usize, Vec<Outcome>)> = results.iter().collect();
        chunks.sort_unstable_by_key(|(start, _)| *start);
        let outcomes: Vec<Outcome> = chunks.into_iter().flat_map(|(_, outcomes)| outcomes).collect();
        if outcomes.len() == count { Ok(outcomes) } else { Err(PipelineError::Closed) }
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> PipelineStats {
        let replay_entries = lock(&self.shared.replay).len();
        let state = lock(&self.shared.state);
        PipelineStats { inside: state.inside, replay_entries, ..state.stats.clone() }
    }

    /// The number of worker threads.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Ends the workers and waits for them. Packets still inside are thrown away. Repeatable.
    pub fn close(&self) {
        let mut state = lock(&self.shared.state);
        state.closed = true;
        state.jobs.clear();
        state.output.clear();
        state.inside = 0;
        drop(state);
        self.shared.work.notify_all();
        self.shared.results.notify_all();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // A worker has no way to panic; if one did, there is nothing left to do about it here.
            drop(thread.join());
        }
    }
}

impl Drop for PacketPipeline {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn run(&self) {
        let mut delays = self.delays.clone();
        while let Some(taken) = self.take() {
            match taken {
                Taken::Stream(packets) => {
                    let started = Instant::now();
                    let outcomes = self.unwrap_all(packets, &mut delays);
                    let mut state = lock(&self.state);
                    if !state.closed {
                        tally(&mut state.stats, &outcomes, started.elapsed());
                        state.output.extend(outcomes);
                    }
                    drop(state);
                    self.results.notify_all();
                }
                Taken::Batch { start, packets, done } => {
                    let started = Instant::now();
                    let outcomes = self.unwrap_all(packets, &mut delays);
                    tally(&mut lock(&self.state).stats, &outcomes, started.elapsed());
                    // A caller that went away needs no results.
                    drop(done.send((start, outcomes)));
                }
            }
        }
    }

    /// Waits for work; `None` after a close.
    fn take(&self) -> Option<Taken> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return None;
            }
            match state.jobs.pop_front() {
                Some(Job::Batch { start, packets, done }) => return Some(Taken::Batch { start, packets, done }),
                Some(Job::Stream(packet)) => {
                    let mut packets = vec![packet];
                    while packets.len() < STREAM_CHUNK
                        && let Some(Job::Stream(packet)) = state.jobs.pop_front_if(|job| matches!(job, Job::Stream(_)))
                    {
                        packets.push(packet);
                    }
                    return Some(Taken::Stream(packets));
                }
                None => state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn unwrap_all(&self, mut packets: Vec<Vec<u8>>, delays: &mut Keyed) -> Vec<Outcome> {
        let mut unwrapped = Vec::new();
        unwrap_batch(&self.secret, &mut packets, &mut Filter(&self.replay), &mut unwrapped);
        let finish = |(packet, unwrapped): (Vec<u8>, betanet_sphinx::Outcome)| {
            let Unwrapped { action, delay } = unwrapped?;
            Ok(Processed { action, delay: delays.delay(&delay), packet })
        };
        packets.into_iter().zip(unwrapped).map(finish).collect()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Holds the cache's lock for one check at a time, not for a whole unwrap.
struct Filter<'a>(&'a Mutex<ReplayCache>);

impl ReplayFilter for Filter<'_> {
    fn check_and_insert(&mut self, tag: &ReplayTag) -> Result<(), PacketError> {
        lock(self.0).check_and_insert(tag)
    }
}

fn tally(stats: &mut PipelineStats, outcomes: &[Outcome], busy: Duration) {
    stats.busy += busy;
    for outcome in outcomes {
        stats.processed += 1;
        if let Err(error) = outcome {
            stats.dropped += 1;
            *stats.dropped_by_reason.entry(error.reason()).or_default() += 1;
        }
    }
}

/// A lock whose holder panicked still guards whole values: nothing here is left half-written across a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
