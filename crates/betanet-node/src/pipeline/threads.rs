//! Threads that take groups of packets and work on them.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use betanet_mix::fair::SourceId;

use super::Arrivals;
use super::arrivals::Arrival;

/// What a thread does with the packets that it takes.
pub(crate) trait Stage: Send + 'static {
    /// What comes with a packet.
    type From: Send + 'static;

    /// How long a packet may wait for others to share the lanes with.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    /// Unwraps a group and hands on what comes of it. Leaves it empty, and in `charges` what sources owe for it.
    fn process(&mut self, group: &mut Vec<Arrival<Self::From>>, charges: &mut Vec<(SourceId, u32)>);
}

/// Starts `workers` threads, each with a stage of its own and groups of up to `batch` packets. They end, and their
/// stages with them, when the arrivals do and all packets are taken.
///
/// # Errors
/// A thread cannot be started. Then those that were end.
pub(crate) fn start<S: Stage>(
    arrivals: &Arc<Arrivals<S::From>>,
    workers: usize,
    batch: usize,
    mut stage: impl FnMut() -> S,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for number in 0..workers {
        let (own, stage) = (Arc::clone(arrivals), stage());
        let builder = thread::Builder::new().name(format!("unwrap-{number}"));
        match builder.spawn(move || run(&own, stage, batch)) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                arrivals.end();
                // They have nothing to do and no way to panic.
                for thread in threads {
                    drop(thread.join());
                }
                return Err(error);
            }
        }
    }
    Ok(threads)
}

fn run<S: Stage>(arrivals: &Arrivals<S::From>, mut stage: S, batch: usize) {
    let mut group = Vec::with_capacity(batch);
    let mut charges = Vec::with_capacity(batch);
    while arrivals.collect(&mut group, batch, stage.patience(), &mut charges) {
        stage.process(&mut group, &mut charges);
    }
}
