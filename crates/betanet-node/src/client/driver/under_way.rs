//! Messages under way: how far they are, who waits for them, and how they come to nothing.

use std::time::Duration;

use betanet_mix::courier::{FailReason, SendError};
use betanet_mix::message::MessageId;
use tokio::sync::{oneshot, watch};

/// How a send can come to nothing.
#[derive(Debug)]
pub(in crate::client) enum SendFailure {
    /// It did not even start.
    Refused(SendError),
    /// It failed under way.
    Failed(FailReason),
    /// Its id stands for another message.
    IdUsed(MessageId),
}

pub(in crate::client) type Waiter<T> = oneshot::Sender<Result<T, SendFailure>>;

/// How far a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Bytes of its body that are acknowledged.
    pub done: usize,
    /// Bytes of its body.
    pub total: usize,
    /// Acknowledged bytes per second since it began.
    pub bytes_per_s: f64,
}

/// A message or request under way, and who waits for it.
#[derive(Debug)]
pub(super) struct UnderWay<T> {
    pub(super) done: Waiter<T>,
    pub(super) progress: Option<watch::Sender<Progress>>,
    pub(super) bytes: usize,
    pub(super) started_ms: u64,
}

impl<T> UnderWay<T> {
    pub(super) fn tell(&self, now: u64, done: u16, total: u16) {
        let Some(progress) = &self.progress else { return };
        let part = f64::from(done) / f64::from(total.max(1));
        // Parts are alike but for the last, and the body is all but their beginning.
        let done = self.bytes.saturating_mul(done.into()) / usize::from(total.max(1));
        let seconds = Duration::from_millis(now.saturating_sub(self.started_ms).max(1)).as_secs_f64();
        let bytes = f64::from(u32::try_from(self.bytes).unwrap_or(u32::MAX));
        progress.send_replace(Progress { done, total: self.bytes, bytes_per_s: part * bytes / seconds });
    }
}
