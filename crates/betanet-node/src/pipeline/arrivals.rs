//! Where sources put packets and threads take them in groups.

use std::collections::TryReserveError;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use betanet_mix::fair::{FairQueue, Side, SourceId};
use betanet_mix::pool::Buffer;

use crate::sync::lock;

/// Packets whose multiplications share the widest vector unit.
const LANES: usize = 8;

/// A packet that waits to be unwrapped.
#[derive(Debug)]
pub(crate) struct Arrival<F> {
    pub(crate) packet: Buffer,
    /// When the socket was read; the owed delay counts from here.
    pub(crate) received: Instant,
    /// From whom, or for whom.
    pub(crate) from: F,
}

impl<F> AsMut<[u8]> for Arrival<F> {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.packet
    }
}

/// A fair queue that threads wait at.
#[derive(Debug)]
pub(crate) struct Arrivals<F> {
    state: Mutex<State<F>>,
    /// As many have come as whoever collects waits for, or no more will.
    came: Condvar,
    /// For whoever collects, which is one thread at a time: when the last packet came that was taken.
    latest: Mutex<Instant>,
    /// Threads that take from here.
    workers: usize,
}

#[derive(Debug)]
struct State<F> {
    queue: FairQueue<Arrival<F>>,
    /// How many the thread that collects waits for.
    wanted: usize,
    has_ended: bool,
}

impl<F> Arrivals<F> {
    /// Room for `depth` packets, which `workers` threads share.
    pub(crate) fn new(depth: usize, workers: usize) -> Self {
        Self {
            state: Mutex::new(State { queue: FairQueue::new(depth), wanted: usize::MAX, has_ended: false }),
            came: Condvar::new(),
            latest: Mutex::new(Instant::now()),
            workers: workers.max(1),
        }
    }

    /// Packets that there is room for.
    pub(crate) fn depth(&self) -> usize {
        lock(&self.state).queue.capacity()
    }

    /// Packets that wait.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.state).queue.len()
    }

    pub(crate) fn join(&self, side: Side) -> SourceId {
        lock(&self.state).queue.join(side)
    }

    pub(crate) fn leave(&self, id: SourceId) {
        lock(&self.state).queue.leave(id);
    }

    /// Takes packets of one source and wakes whoever waits for them, once. Says how many packets had to make way.
    ///
    /// # Errors
    /// There is no memory for them; then none is taken.
    pub(crate) fn push(
        &self,
        id: SourceId,
        packets: impl Iterator<Item = Arrival<F>>,
    ) -> Result<usize, TryReserveError> {
        let mut state = lock(&self.state);
        let (least, most) = packets.size_hint();
        state.queue.reserve(id, most.unwrap_or(least))?;
        let dropped = packets.filter_map(|arrival| state.queue.push(id, arrival)).count();
        let wakes = state.queue.len() >= state.wanted;
        drop(state);
        if wakes {
            self.came.notify_one();
        }
        Ok(dropped)
    }

    /// No more packets will come.
    pub(crate) fn end(&self) {
        lock(&self.state).has_ended = true;
        self.came.notify_all();
    }

    /// As [`Arrivals::end`], and what waits is thrown away.
    pub(crate) fn give_up(&self) {
        while lock(&self.state).queue.pop().is_some() {}
        self.end();
    }

    /// Waits for one packet and moves what else is there into `group`, up to `most` in all; `false` when no more will
    /// come. `charges` are turns that sources owe, and are applied first.
    ///
    /// Where packets come so densely that others are likely to share the lanes soon, it waits for them a little: until
    /// `patience` after the first was received (ADR 7).
    pub(crate) fn collect(
        &self,
        group: &mut Vec<Arrival<F>>,
        most: usize,
        patience: Duration,
        charges: &mut Vec<(SourceId, u32)>,
    ) -> bool {
        let mut latest = lock(&self.latest);
        let mut state = lock(&self.state);
        for (id, turns) in charges.drain(..) {
            state.queue.charge(id, turns);
        }
        while state.queue.is_empty() {
            if state.has_ended {
                return false;
            }
            state.wanted = 1;
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // Not more than a thread's part, so that the others have something to do meanwhile.
        let part = state.queue.len().div_ceil(self.workers).next_multiple_of(LANES);
        // What does not fill the last lanes shares the next ones.
        let whole = state.queue.len() / LANES * LANES;
        state.take(group, part.min(whole.max(LANES)).min(most));
        let first = group.first().map_or(*latest, |first| first.received);
        let until = first + patience;
        let lanes = LANES.min(most);
        if first < *latest + patience {
            while group.len() < lanes && !state.has_ended {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state.wanted = lanes - group.len();
                state = self.came.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                state.take(group, lanes);
            }
        }
        state.wanted = usize::MAX;
        *latest = group.last().map_or(until, |last| last.received);
        true
    }
}

impl<F> State<F> {
    fn take(&mut self, group: &mut Vec<Arrival<F>>, most: usize) {
        let room = most.saturating_sub(group.len());
        group.extend(std::iter::from_fn(|| self.queue.pop()).take(room));
    }
}
