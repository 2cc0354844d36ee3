//! Packets that are made before they are sent.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use super::maker::BATCH;
use super::{Made, Maker};
use crate::Failure;

/// Pause between two looks at how many there are.
const PAUSE: Duration = Duration::from_millis(10);

/// Keeps this process, which has one thread so far, off the node's processor.
///
/// # Errors
/// There is no other, or `taskset` does not do it.
pub fn stay_off(processor: usize) -> Result<(), Failure> {
    let all = std::thread::available_parallelism()?.get();
    let others: Vec<String> = (0..all).filter(|other| *other != processor).map(|other| other.to_string()).collect();
    if others.is_empty() {
        return Err("a node under load needs a processor for itself, and there is one in all".into());
    }
    let pid = std::process::id().to_string();
    let set = Command::new("taskset").args(["-cp", &others.join(","), &pid]).output()?;
    if set.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&set.stderr).into_owned().into()) }
}

/// Gives this thread the time that no other wants.
fn run_when_idle() -> Result<(), Failure> {
    let link = std::fs::read_link("/proc/thread-self")?;
    let thread = link.file_name().ok_or("the thread has no number")?;
    Command::new("chrt").args(["--idle", "--pid", "0"]).arg(thread).output()?;
    Ok(())
}

/// When the thread that makes packets runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Only while nobody else wants the processor, so that it does not lengthen the times that are measured.
    Last,
    /// As everybody: where it is the packets that count, and not the time.
    Fair,
}

/// Packets that a thread makes ahead.
#[derive(Debug)]
pub struct Ahead {
    batches: Receiver<Vec<Made>>,
    opened: std::vec::IntoIter<Made>,
    made: Arc<AtomicUsize>,
    taken: usize,
    most: usize,
}

impl Ahead {
    /// Begins to make packets, at most `packets` more than are taken.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(mut maker: Maker, packets: usize, turn: Turn) -> Result<Self, Failure> {
        let ahead = packets.div_ceil(BATCH);
        let (sender, batches) = sync_channel(ahead);
        let made = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&made);
        std::thread::Builder::new().name("maker".into()).spawn(move || {
            if turn == Turn::Last {
                // Where that cannot be arranged, times are a little longer.
                let _ = run_when_idle();
            }
            // It ends with the receiver, or where no packets can be made, which the receiver notices.
            while maker.batch().ok().is_some_and(|batch| sender.send(batch).is_ok()) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        Ok(Self { batches, opened: Vec::new().into_iter(), made, taken: 0, most: ahead })
    }

    /// Waits until as many as may be are made.
    pub async fn wait_until_ahead(&self) {
        while self.made.load(Ordering::Relaxed) < self.taken + self.most {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The next packet; nothing if the maker is behind.
    ///
    /// # Errors
    /// The thread has ended, for want of members.
    pub fn take(&mut self) -> Result<Option<Made>, Failure> {
        if let Some(made) = self.opened.next() {
            return Ok(Some(made));
        }
        match self.batches.try_recv() {
            Ok(batch) => {
                self.taken += 1;
                self.opened = batch.into_iter();
                Ok(self.opened.next())
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err("packets cannot be made".into()),
        }
    }
}
