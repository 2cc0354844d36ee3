//! Holds packets until their time and hands them on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use betanet_mix::delay::DelayQueue;
use tokio::sync::Notify;

use super::{Processed, Released};
use crate::daemon::looks::Looks;
use crate::daemon::metrics::Metrics;
use crate::sync::lock;

/// The delay queue of a node, filled by threads and emptied by one task.
pub(super) struct DelayLine {
    queue: Mutex<DelayQueue<Processed>>,
    /// The queue's zero.
    origin: Instant,
    /// Wakes the task when something became due earlier than it knows, or at the end.
    sooner: Notify,
    ended: AtomicBool,
    /// Those of the thread that the task runs on.
    looks: Arc<Looks>,
    metrics: Arc<Metrics>,
}

impl DelayLine {
    pub(super) fn new(depth: usize, looks: Arc<Looks>, metrics: Arc<Metrics>) -> Self {
        Self {
            queue: Mutex::new(DelayQueue::new(depth)),
            origin: Instant::now(),
            sooner: Notify::new(),
            ended: AtomicBool::new(false),
            looks,
            metrics,
        }
    }

    /// Takes over what a thread has processed; drops and counts what finds no room.
    pub(super) fn take(&self, group: impl Iterator<Item = Processed>) {
        let mut queue = lock(&self.queue);
        let before = queue.next_release();
        for processed in group {
            let release_at = processed.release_at.saturating_duration_since(self.origin);
            if queue.push(release_at, processed).is_err() {
                self.metrics.drop_one("delay_queue_full");
            }
        }
        let sooner = queue.next_release() != before;
        drop(queue);
        if sooner && !self.looks.are_dense() {
            self.sooner.notify_one();
        }
    }

    /// No more packets will come; those that wait are given up.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.sooner.notify_one();
    }

    /// Releases packets when they are due, until [`Self::end`], and says of each lot how late they were together.
    pub(super) async fn serve(self: Arc<Self>, mut released: impl FnMut(Released), left: impl Fn(u32, Duration)) {
        let mut due = Vec::new();
        while !self.ended.load(Ordering::Acquire) {
            let next = self.collect(&mut due);
            self.looks.note(due.len());
            let (packets, mut all_late) = (u32::try_from(due.len()).unwrap_or(u32::MAX), Duration::ZERO);
            for processed in due.drain(..) {
                let now = Instant::now();
                let late = now.saturating_duration_since(processed.release_at);
                self.metrics.hop_delay.observe(now.saturating_duration_since(processed.received));
                self.metrics.hop_late.observe(late);
                all_late += late;
                released(processed.outcome);
            }
            if packets > 0 {
                left(packets, all_late);
            }
            let timer = async {
                match next {
                    Some(at) if !self.looks.are_dense() => tokio::time::sleep_until(at.into()).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.looks.next() => {}
                () = timer => {}
                () = self.sooner.notified() => {}
            }
        }
    }

    /// Moves what is due into `due` and says when the next packet is.
    pub(super) fn collect(&self, due: &mut Vec<Processed>) -> Option<Instant> {
        let mut queue = lock(&self.queue);
        let now = self.origin.elapsed();
        due.extend(std::iter::from_fn(|| queue.pop_due(now)));
        self.metrics.delay_depth.set(queue.len());
        queue.next_release().map(|at| self.origin + at)
    }
}
