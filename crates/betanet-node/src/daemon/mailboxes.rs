//! The edge's mailboxes: bounded, on disk before anyone is told so, deleted when acknowledged.
//!
//! What may be kept and who makes way is decided in [`betanet_mix::mailbox`]. One thread writes. It takes what
//! waits, commits it in one transaction (one fsync) and then reports each item as stored; while it waits for
//! the disk, the next group gathers.

mod disk;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use betanet_mix::mailbox::{Books, ItemRecord, Limits, Losses, Origin, RENEWALS_PER_LIFE, Refusal, Transaction, Turns};
use betanet_sphinx::{MailboxId, Surb};
use thiserror::Error;
use tokio::sync::oneshot;

use self::disk::{Disk, Put};
use super::metrics::Metrics;
use crate::link::frame::EncodedItem;
use crate::rarely::Rarely;
use crate::sync::lock;

pub use self::disk::StoreError;

/// Items that wait for the writer.
const PLACES: usize = 4096;

/// Items that one transaction writes, and acknowledged ones that it deletes: it is to be over within milliseconds.
const GROUP: (usize, usize) = (512, 512);

/// Items that go at once because they have outlived their time.
const EXPIRIES: usize = 4096;

/// Pause between expiry rounds, and before a failed database is tried again.
const ROUND: Duration = Duration::from_secs(1);

/// Why something is not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PutError {
    /// A limit.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disk refused the last write.
    #[error("the disk refuses writes")]
    StoreFailed,
}

impl PutError {
    /// Label of the drop metric.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::StoreFailed => "store_failed",
        }
    }
}

/// An item that is on disk only so long after it came is late: two rounds of the writer on a disk that is well.
const LATE: Duration = Duration::from_millis(50);

/// Hears of every item that is on disk, and by how much it was late; the SURB is what came with [`Mailboxes::put`].
pub type Stored = Box<dyn Fn(MailboxId, Option<Surb>, Duration) + Send>;

/// The mailboxes of one edge. Dropping the value writes what is queued and ends the thread.
#[derive(Debug)]
pub struct Mailboxes {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    disk: Disk,
    /// The mean time between two dates of a mailbox on disk whose owner is there.
    renewal_ms: u64,
    state: Mutex<State>,
    /// Something waits to be written.
    work: Condvar,
    failed: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    books: Books<Put>,
    /// Who waits until the disk knows of an attachment.
    attaching: Vec<oneshot::Sender<()>>,
    /// Whether the writer waits for something to do.
    rests: bool,
    closing: bool,
}

/// Keeps a mailbox from expiring and from making way while its owner is there.
#[derive(Debug)]
pub struct Hold {
    shared: Arc<Shared>,
    mailbox: MailboxId,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.state().books.release(self.mailbox, self.shared.disk.now_ms());
    }
}

impl Mailboxes {
    /// Opens the store in file `path`, creating it if needed. A damaged one is kept aside.
    ///
    /// # Errors
    /// The file cannot be opened, or is locked.
    pub fn open(path: &Path, limits: Limits, metrics: Arc<Metrics>, stored: Stored) -> Result<Self, StoreError> {
        Self::open_with(disk::file(path, limits), limits, metrics, stored).map_err(|err| StoreError::new(path, err))
    }

    fn open_with(open: disk::Open, limits: Limits, metrics: Arc<Metrics>, stored: Stored) -> Result<Self, redb::Error> {
        let (disk, index) = Disk::new(open)?;
        let life_ms = u64::try_from(limits.time_to_live.as_millis()).unwrap_or(u64::MAX);
        let shared = Arc::new(Shared {
            disk,
            renewal_ms: life_ms / RENEWALS_PER_LIFE,
            state: Mutex::new(State {
                books: Books::new(index, PLACES),
                attaching: Vec::new(),
                rests: false,
                closing: false,
            }),
            work: Condvar::new(),
            failed: AtomicBool::new(false),
            metrics,
        });
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("mailboxes".into())
            .spawn(move || for_writer.write(&stored))
            .map_err(redb::Error::Io)?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// Takes an item for `mailbox`; once it is on disk, `receipt` is handed back. Never waits for the disk.
    ///
    /// # Errors
    /// A limit or the disk stands in the way; the item is dropped.
    pub fn put(&self, mailbox: MailboxId, item: EncodedItem, receipt: Option<Surb>) -> Result<(), PutError> {
        if self.has_failed() {
            return Err(PutError::StoreFailed);
        }
        let entry = ItemRecord {
            stored_ms: self.shared.disk.now_ms(),
            len: u32::try_from(item.as_bytes().len()).unwrap_or(u32::MAX),
            promised: receipt.is_some(),
        };
        let put = |seq| Put { item: entry, body: item.numbered(seq), receipt };
        let mut state = self.shared.state();
        let losses = state.books.put(mailbox, entry, put)?;
        self.shared.wake(state);
        self.shared.count(losses);
        Ok(())
    }

    /// Deletes items that their owner has taken care of. Never waits for the disk; what is not deleted when it fails is
    /// delivered again at the next attach.
    pub fn acknowledge(&self, mailbox: MailboxId, seqs: &[u64]) {
        let mut state = self.shared.state();
        state.books.acknowledge(mailbox, seqs.iter().copied());
        self.shared.wake(state);
    }

    /// Makes the mailbox, or renews its life; resolves once that is on disk. The mailbox lives at
    /// least as long as what comes back.
    ///
    /// # Errors
    /// The edge has as many mailboxes as it may and `origin` its part of them, or the disk stands in the way.
    pub async fn attach(&self, mailbox: MailboxId, origin: Origin) -> Result<Hold, PutError> {
        if self.has_failed() {
            return Err(PutError::StoreFailed);
        }
        let (done, written) = oneshot::channel();
        let losses = {
            let mut state = self.shared.state();
            let losses = state.books.attach(mailbox, origin, self.shared.disk.now_ms())?;
            state.attaching.push(done);
            self.shared.wake(state);
            losses
        };
        let hold = Hold { shared: Arc::clone(&self.shared), mailbox };
        self.shared.count(losses);
        written.await.map_err(|_| PutError::StoreFailed)?;
        Ok(hold)
    }

    /// Bodies of up to `count` items of `mailbox` behind `after`, in order, each with its number. Reads the disk: call it
    /// where blocking is fine.
    ///
    /// # Errors
    /// The database cannot be read now.
    pub fn read_after(&self, mailbox: MailboxId, after: u64, count: usize) -> Result<Vec<(u64, Vec<u8>)>, PutError> {
        self.shared.disk.read(mailbox, after, count).map_err(|_| PutError::StoreFailed)
    }

    /// Mailboxes and items held.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        self.shared.state().books.held()
    }

    /// Whether the disk refused the last write.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Mailboxes {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closing = true;
        self.shared.wake(state);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
        // Whoever still holds a mailbox does not hold the file.
        self.shared.disk.close();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Has the writer look at its work, if it does not anyway.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let rests = std::mem::take(&mut state.rests);
        drop(state);
        if rests {
            self.work.notify_one();
        }
    }

    fn write(&self, stored: &Stored) {
        let mut last_round = Instant::now();
        let began = Instant::now();
        let mut turns = Turns::new(Duration::ZERO);
        let mut complaint = Rarely::default();
        loop {
            if last_round.elapsed() >= ROUND {
                last_round = Instant::now();
                self.recover();
                let losses = self.state().books.pass(self.disk.now_ms(), EXPIRIES);
                self.count(losses);
            }
            let (group, attaching) = {
                let mut state = self.state();
                let is_idle = state.books.is_idle();
                if is_idle && state.closing {
                    return;
                }
                if !state.closing && !state.books.is_awaited(GROUP.1) {
                    let round = ROUND.saturating_sub(last_round.elapsed());
                    let early = turns.early(began.elapsed(), false);
                    let rest = if is_idle { round } else { round.min(early) };
                    state.rests = true;
                    state = self.work.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
                    state.rests = false;
                }
                if !state.books.is_idle() && !state.closing {
                    let is_awaited = state.books.is_awaited(GROUP.1);
                    let early = turns.early(began.elapsed(), is_awaited);
                    if !early.is_zero() {
                        drop(state);
                        if is_awaited {
                            std::thread::sleep(early);
                        }
                        // What is there by now may be more urgent than what was.
                        continue;
                    }
                }
                (state.books.take(GROUP.0, GROUP.1), std::mem::take(&mut state.attaching))
            };
            if group.is_empty() && self.disk.unwritten_ms() <= self.renewal_ms {
                continue;
            }
            turns.begin(began.elapsed());
            if let Err(error) = self.disk.commit(&group) {
                if complaint.is_due(Instant::now()) {
                    tracing::warn!(%error, "mailboxes.not_written");
                }
                self.fail(&group);
                continue;
            }
            let now_ms = self.disk.now_ms();
            for ((mailbox, _), put) in group.puts {
                let took = Duration::from_millis(now_ms.saturating_sub(put.item.stored_ms));
                stored(mailbox, put.receipt, took.saturating_sub(LATE));
            }
            for done in attaching {
                // Whoever asked may have left.
                let _ = done.send(());
            }
        }
    }

    /// Gives up a database that refused. Who waits for an attachment hears that it failed.
    fn fail(&self, group: &Transaction<Put>) {
        self.failed.store(true, Ordering::Relaxed);
        self.disk.close();
        self.state().attaching.clear();
        self.metrics.drop_many(PutError::StoreFailed.reason(), group.puts.len());
    }

    /// Goes on with what is on the disk, once it can be opened again.
    fn recover(&self) {
        if let Some(index) = self.disk.recover() {
            let lost = self.state().books.begin_again(index);
            self.metrics.drop_many(PutError::StoreFailed.reason(), lost);
            self.failed.store(false, Ordering::Relaxed);
        }
    }

    fn count(&self, losses: Losses) {
        let Losses { evicted, mailboxes, expired, unwritten } = losses;
        let reasons = [
            ("item_evicted", evicted),
            ("mailbox_evicted", mailboxes),
            ("item_expired", expired),
            (Refusal::StoreBusy.reason(), unwritten),
        ];
        for (reason, count) in reasons.into_iter().filter(|(_, count)| *count > 0) {
            self.metrics.drop_many(reason, count);
        }
    }
}

#[cfg(test)]
mod tests;
