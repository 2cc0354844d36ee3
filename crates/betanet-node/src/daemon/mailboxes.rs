//! The edge's mailboxes: bounded, on disk before anyone is told so, deleted when acknowledged.
//!
//! One thread writes. It takes whatever has arrived, commits it in one transaction (one fsync) and
//! then reports each item as stored; while it waits for the disk, the next group gathers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use betanet_sphinx::MailboxId;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use thiserror::Error;

use crate::clock::{boot_ms, wall_ms};

/// `(mailbox, seq) → stored_ms(8) ‖ item`.
const ITEMS: TableDefinition<'_, (&[u8; 16], u64), &[u8]> = TableDefinition::new("items");
/// `mailbox → last attached, in ms`.
const OWNERS: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("owners");
/// `"next_seq" → u64`, `"age_ms" → u64`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const NEXT_SEQ: &str = "next_seq";
/// The store's time when it was last written down.
const AGE: &str = "age_ms";

/// Jobs that one transaction takes.
const GROUP: usize = 512;

/// Jobs that wait for the writer.
const QUEUE: usize = 4096;

/// Memory that the database may use for pages.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Pause between expiry rounds, and before a failed database is tried again.
const ROUND: Duration = Duration::from_secs(1);

/// The date of a mailbox whose owner is there is written anew when this part of a life has passed.
const RENEWALS_PER_LIFE: u64 = 168;

/// What mailboxes may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Mailboxes on this edge.
    pub mailboxes: usize,
    /// Items of one mailbox (2 KiB each).
    pub items_each: usize,
    /// Items of all mailboxes.
    pub items_total: usize,
    /// Items, and mailboxes that nobody attaches to, are dropped after this long.
    pub time_to_live: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { mailboxes: 10_000, items_each: 65_536, items_total: 262_144, time_to_live: Duration::from_hours(7 * 24) }
    }
}

/// Why an item is not taken; [`PutError::reason`] is its label in the drop metric.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutError {
    /// Nobody has attached to this mailbox.
    #[error("no such mailbox")]
    UnknownMailbox,
    /// The mailbox, or the edge, holds as much as it may.
    #[error("mailbox is full")]
    MailboxFull,
    /// The edge keeps as many mailboxes as it may, and all are in use.
    #[error("the edge has no room for another mailbox")]
    TooManyMailboxes,
    /// The writer is too far behind.
    #[error("the disk is too slow")]
    StoreBusy,
    /// The disk refused the last write.
    #[error("the disk refuses writes")]
    StoreFailed,
}

impl PutError {
    /// Label of the drop metric.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::UnknownMailbox => "unknown_mailbox",
            Self::MailboxFull => "mailbox_full",
            Self::TooManyMailboxes => "too_many_mailboxes",
            Self::StoreBusy => "store_busy",
            Self::StoreFailed => "store_failed",
        }
    }
}

/// Why the store cannot be opened or read.
#[derive(Debug, Error)]
#[error("mailbox store {path}: {source}")]
pub struct StoreError {
    path: PathBuf,
    #[source]
    source: Box<redb::Error>,
}

/// Hears of every item that is on disk; `receipt` is what came with [`Mailboxes::put`].
pub type Stored = Box<dyn Fn(MailboxId, Option<Vec<u8>>) + Send>;

/// The mailboxes of one edge. Dropping the value writes what is queued and ends the thread.
#[derive(Debug)]
pub struct Mailboxes {
    shared: Arc<Shared>,
    jobs: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
}

/// The store's own time, which passes while it is open: no clock that is set makes anything too old.
#[derive(Debug)]
struct Age {
    /// In milliseconds, as all of these: what it was when the store was opened.
    start: u64,
    /// What the boot clock showed then.
    opened: u64,
    /// What of it is on disk.
    written: AtomicU64,
}

impl Age {
    fn open(database: &Database) -> Result<Self, redb::Error> {
        let start = read_age(database)?;
        Ok(Self { start, opened: boot_ms(), written: AtomicU64::new(start) })
    }

    fn now_ms(&self) -> u64 {
        self.start.saturating_add(boot_ms().saturating_sub(self.opened))
    }
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    limits: Limits,
    age: Age,
    /// `None` while a failed database waits to be opened again.
    database: RwLock<Option<Database>>,
    index: Arc<Mutex<Index>>,
    failed: AtomicBool,
}

#[derive(Debug, Default)]
struct Index {
    items_total: usize,
    mailboxes: HashMap<MailboxId, Contents>,
    /// How many [`Hold`]s there are on a mailbox.
    held: HashMap<MailboxId, usize>,
}

/// What is known of a mailbox without asking the disk.
#[derive(Clone, Copy, Debug, Default)]
struct Contents {
    items: usize,
    /// Something was stored in it in this process' life.
    used: bool,
    attached_ms: u64,
}

impl Index {
    /// The mailbox that makes way for another: of those that never held anything and whose owners
    /// have gone, the one that was attached longest ago.
    fn dispensable(&self) -> Option<MailboxId> {
        let idle = self.mailboxes.iter().filter(|(id, one)| !one.used && !self.held.contains_key(id));
        idle.min_by_key(|(_, one)| one.attached_ms).map(|(id, _)| *id)
    }
}

/// Keeps a mailbox from expiring while its owner is there.
#[derive(Debug)]
pub struct Hold {
    index: Arc<Mutex<Index>>,
    mailbox: MailboxId,
}

impl Hold {
    fn new(shared: &Shared, mailbox: MailboxId) -> Self {
        *shared.index().held.entry(mailbox).or_default() += 1;
        Self { index: Arc::clone(&shared.index), mailbox }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holds) = index.held.get_mut(&self.mailbox) {
            *holds -= 1;
            if *holds == 0 {
                index.held.remove(&self.mailbox);
            }
        }
    }
}

#[derive(Debug)]
enum Job {
    Put { mailbox: MailboxId, item: Vec<u8>, receipt: Option<Vec<u8>> },
    Delete { mailbox: MailboxId, seqs: Vec<u64> },
    Attach { mailbox: MailboxId, evicted: Option<MailboxId>, done: tokio::sync::oneshot::Sender<()> },
}

impl Mailboxes {
    /// Opens the store in file `path`, creating it if needed.
    ///
    /// # Errors
    /// The file cannot be opened, is locked, or is damaged.
    pub fn open(path: &Path, limits: Limits, stored: Stored) -> Result<Self, StoreError> {
        let wrap = |source: redb::Error| StoreError { path: path.to_owned(), source: Box::new(source) };
        let database = open_database(path).map_err(wrap)?;
        let index = read_index(&database).map_err(wrap)?;
        let age = Age::open(&database).map_err(wrap)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            limits,
            age,
            database: RwLock::new(Some(database)),
            index: Arc::new(Mutex::new(index)),
            failed: AtomicBool::new(false),
        });
        let (jobs, queue) = sync_channel(QUEUE);
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("mailboxes".into())
            .spawn(move || for_writer.write(&queue, &stored))
            .map_err(|err| wrap(redb::Error::Io(err)))?;
        Ok(Self { shared, jobs: Some(jobs), writer: Some(writer) })
    }

    /// Takes an item for `mailbox`; once it is on disk, `receipt` is handed back. Never blocks.
    ///
    /// # Errors
    /// A limit or the disk stands in the way; the item is dropped.
    pub fn put(&self, mailbox: MailboxId, item: Vec<u8>, receipt: Option<Vec<u8>>) -> Result<(), PutError> {
        if self.has_failed() {
            return Err(PutError::StoreFailed);
        }
        self.shared.reserve(mailbox)?;
        let job = Job::Put { mailbox, item, receipt };
        self.submit(job).inspect_err(|_| self.shared.release(mailbox, 1))
    }

    /// Deletes acknowledged items. Never blocks.
    ///
    /// # Errors
    /// The writer is too far behind: the items stay, and are delivered again at the next attach.
    pub fn delete(&self, mailbox: MailboxId, seqs: Vec<u64>) -> Result<(), PutError> {
        self.submit(Job::Delete { mailbox, seqs })
    }

    /// Makes the mailbox, or renews its life; resolves once that is on disk. The mailbox lives at
    /// least as long as what comes back.
    ///
    /// # Errors
    /// The edge has as many mailboxes as it may, or the disk stands in the way.
    pub async fn attach(&self, mailbox: MailboxId) -> Result<Hold, PutError> {
        let hold = Hold::new(&self.shared, mailbox);
        let (done, stored) = tokio::sync::oneshot::channel();
        {
            let mut index = self.shared.index();
            let full = index.mailboxes.len() >= self.shared.limits.mailboxes;
            let evicted = if full && !index.mailboxes.contains_key(&mailbox) {
                Some(index.dispensable().ok_or(PutError::TooManyMailboxes)?)
            } else {
                None
            };
            // Under the lock, so that the jobs stand in the order of what the index says.
            self.submit(Job::Attach { mailbox, evicted, done })?;
            if let Some(evicted) = evicted {
                index.mailboxes.remove(&evicted);
            }
            index.mailboxes.entry(mailbox).or_default().attached_ms = self.shared.age.now_ms();
        }
        stored.await.map_err(|_| PutError::StoreFailed)?;
        Ok(hold)
    }

    /// Up to `count` items of `mailbox` behind `after`, in order. Reads the disk: call it where
    /// blocking is fine.
    ///
    /// # Errors
    /// The database cannot be read now.
    pub fn read_after(&self, mailbox: MailboxId, after: u64, count: usize) -> Result<Vec<(u64, Vec<u8>)>, PutError> {
        let guard = read_lock(&self.shared.database);
        let database = guard.as_ref().ok_or(PutError::StoreFailed)?;
        read_items(database, mailbox, after, count).map_err(|_| PutError::StoreFailed)
    }

    /// Mailboxes and items held.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        let index = self.shared.index();
        (index.mailboxes.len(), index.items_total)
    }

    /// Whether the disk refused the last write.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    fn submit(&self, job: Job) -> Result<(), PutError> {
        let jobs = self.jobs.as_ref().ok_or(PutError::StoreFailed)?;
        jobs.try_send(job).map_err(|err| match err {
            TrySendError::Full(_) => PutError::StoreBusy,
            TrySendError::Disconnected(_) => PutError::StoreFailed,
        })
    }
}

impl Drop for Mailboxes {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, mailbox: MailboxId) -> Result<(), PutError> {
        let mut index = self.index();
        let total = index.items_total;
        let held = index.mailboxes.get_mut(&mailbox).ok_or(PutError::UnknownMailbox)?;
        if held.items >= self.limits.items_each || total >= self.limits.items_total {
            return Err(PutError::MailboxFull);
        }
        held.items += 1;
        held.used = true;
        index.items_total += 1;
        Ok(())
    }

    fn release(&self, mailbox: MailboxId, count: usize) {
        let mut index = self.index();
        if let Some(held) = index.mailboxes.get_mut(&mailbox) {
            held.items = held.items.saturating_sub(count);
            index.items_total = index.items_total.saturating_sub(count);
        }
    }

    fn write(&self, queue: &Receiver<Job>, stored: &Stored) {
        let mut group = Vec::with_capacity(GROUP);
        let mut last_round = std::time::Instant::now();
        loop {
            match queue.recv_timeout(ROUND) {
                Ok(job) => group.push(job),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            }
            while group.len() < GROUP
                && let Ok(job) = queue.try_recv()
            {
                group.push(job);
            }
            if last_round.elapsed() >= ROUND {
                last_round = std::time::Instant::now();
                self.recover();
                if self.expire().is_err() {
                    self.fail();
                }
            }
            if group.is_empty() {
                continue;
            }
            let committed = self.commit(&group).is_ok();
            if !committed {
                self.fail();
            }
            self.report(group.drain(..), committed, stored);
        }
    }

    /// Gives up a database that refused; [`Shared::recover`] opens it again.
    fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Tells of what is on disk, and gives back the room of what is not.
    fn report(&self, group: impl Iterator<Item = Job>, committed: bool, stored: &Stored) {
        for job in group {
            match job {
                Job::Put { mailbox, receipt, .. } if committed => stored(mailbox, receipt),
                Job::Put { mailbox, .. } => self.release(mailbox, 1),
                Job::Attach { done, .. } if committed => {
                    // Whoever asked may have left.
                    let _ = done.send(());
                }
                Job::Attach { .. } | Job::Delete { .. } => {}
            }
        }
    }

    /// Opens a database that failed again, for instance after a full disk.
    fn recover(&self) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            let Ok(opened) = open_database(&self.path) else {
                return;
            };
            if let Ok(read) = read_index(&opened) {
                let mut index = self.index();
                let held = std::mem::take(&mut index.held);
                *index = Index { held, ..read };
                *database = Some(opened);
                self.failed.store(false, Ordering::Relaxed);
            }
        }
    }

    fn commit(&self, group: &[Job]) -> Result<(), redb::Error> {
        let guard = read_lock(&self.database);
        let database = guard.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let mut transaction = database.begin_write()?;
        // Losing a deletion only delivers an item twice, and receivers know its id.
        if group.iter().all(|job| matches!(job, Job::Delete { .. })) {
            transaction.set_durability(Durability::None).map_err(|_| redb::Error::TransactionPoisoned)?;
        }
        let now = self.age.now_ms();
        let mut released = Vec::new();
        {
            let mut items = transaction.open_table(ITEMS)?;
            let mut owners = transaction.open_table(OWNERS)?;
            let mut meta = transaction.open_table(META)?;
            let first = meta.get(NEXT_SEQ)?.map_or(1, |seq| seq.value());
            let mut next = first;
            for job in group {
                match job {
                    Job::Put { mailbox, item, .. } => {
                        let value = [now.to_be_bytes().as_slice(), item].concat();
                        items.insert((mailbox.as_bytes(), next), value.as_slice())?;
                        next += 1;
                    }
                    Job::Delete { mailbox, seqs } => {
                        for seq in seqs {
                            if items.remove((mailbox.as_bytes(), *seq))?.is_some() {
                                released.push(*mailbox);
                            }
                        }
                    }
                    Job::Attach { mailbox, evicted, .. } => {
                        if let Some(evicted) = evicted {
                            owners.remove(evicted.as_bytes())?;
                        }
                        owners.insert(mailbox.as_bytes(), now)?;
                    }
                }
            }
            if next != first {
                meta.insert(NEXT_SEQ, next)?;
            }
            meta.insert(AGE, now)?;
        }
        transaction.commit()?;
        self.age.written.store(now, Ordering::Relaxed);
        for mailbox in released {
            self.release(mailbox, 1);
        }
        Ok(())
    }

    /// Drops what has outlived its time. A mailbox does not while its owner is there.
    fn expire(&self) -> Result<(), redb::Error> {
        let now = self.age.now_ms();
        let life = u64::try_from(self.limits.time_to_live.as_millis()).unwrap_or(u64::MAX);
        let Some(horizon) = now.checked_sub(life) else {
            return Ok(());
        };
        let guard = read_lock(&self.database);
        let Some(database) = guard.as_ref() else {
            return Ok(());
        };
        let held = self.index().held.clone();
        let stale = now.saturating_sub(life / RENEWALS_PER_LIFE);
        let mut found = find_old(database, horizon, |mailbox, attached| match held.contains_key(&mailbox) {
            true if attached < stale => Fate::Renewed,
            false if attached < horizon => Fate::Dropped,
            _ => Fate::Kept,
        })?;
        {
            // From here on nobody finds what goes. Whose owner came meanwhile stays, and so does
            // what has items under way.
            let mut index = self.index();
            found.retain(|old| {
                let items = index.mailboxes.get(&old.mailbox).map_or(0, |one| one.items);
                old.fate != Fate::Dropped || !(index.held.contains_key(&old.mailbox) || items > old.seqs.len())
            });
            for old in found.iter().filter(|old| old.fate == Fate::Dropped) {
                let items = index.mailboxes.remove(&old.mailbox).map_or(0, |one| one.items);
                index.items_total = index.items_total.saturating_sub(items);
            }
        }
        if found.is_empty() && stale <= self.age.written.load(Ordering::Relaxed) {
            return Ok(());
        }
        let transaction = database.begin_write()?;
        {
            transaction.open_table(META)?.insert(AGE, now)?;
            let mut items = transaction.open_table(ITEMS)?;
            let mut owners = transaction.open_table(OWNERS)?;
            for old in &found {
                for seq in &old.seqs {
                    items.remove((old.mailbox.as_bytes(), *seq))?;
                }
                match old.fate {
                    Fate::Kept => {}
                    Fate::Renewed => drop(owners.insert(old.mailbox.as_bytes(), now)?),
                    Fate::Dropped => drop(owners.remove(old.mailbox.as_bytes())?),
                }
            }
        }
        transaction.commit()?;
        self.age.written.store(now, Ordering::Relaxed);
        for old in found {
            self.release(old.mailbox, old.seqs.len());
        }
        Ok(())
    }
}

fn open_database(path: &Path) -> Result<Database, redb::Error> {
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
    let transaction = database.begin_write()?;
    transaction.open_table(ITEMS)?;
    transaction.open_table(OWNERS)?;
    transaction.open_table(META)?;
    transaction.commit()?;
    Ok(database)
}

fn read_index(database: &Database) -> Result<Index, redb::Error> {
    let transaction = database.begin_read()?;
    let mut index = Index::default();
    for entry in transaction.open_table(OWNERS)?.iter()? {
        let (mailbox, attached) = entry?;
        let contents = Contents { attached_ms: attached.value(), ..Contents::default() };
        index.mailboxes.insert(MailboxId::from(*mailbox.value()), contents);
    }
    for entry in transaction.open_table(ITEMS)?.iter()? {
        let (key, _) = entry?;
        let (mailbox, _) = key.value();
        let contents = index.mailboxes.entry(MailboxId::from(*mailbox)).or_default();
        contents.items += 1;
        contents.used = true;
        index.items_total += 1;
    }
    Ok(index)
}

/// The store's time: what was written down, and not before anything that it holds. A new store begins
/// with the date, which old ones counted by.
fn read_age(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_read()?;
    if let Some(age) = transaction.open_table(META)?.get(AGE)? {
        return Ok(age.value());
    }
    let mut latest = None;
    for entry in transaction.open_table(OWNERS)?.iter()? {
        latest = latest.max(Some(entry?.1.value()));
    }
    for entry in transaction.open_table(ITEMS)?.iter()? {
        latest = latest.max(Some(stored_at(entry?.1.value()).0));
    }
    Ok(latest.unwrap_or_else(wall_ms))
}

fn read_items(
    database: &Database,
    mailbox: MailboxId,
    after: u64,
    count: usize,
) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
    let table = database.begin_read()?.open_table(ITEMS)?;
    let first = after.saturating_add(1);
    let range = table.range((mailbox.as_bytes(), first)..=(mailbox.as_bytes(), u64::MAX))?;
    let mut items = Vec::new();
    for entry in range.take(count) {
        let (key, value) = entry?;
        let (_, item) = stored_at(value.value());
        items.push((key.value().1, item.to_vec()));
    }
    Ok(items)
}

/// What becomes of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Renewed,
    Dropped,
}

/// A mailbox that time asks something of, and its items that go.
struct Old {
    mailbox: MailboxId,
    fate: Fate,
    seqs: Vec<u64>,
}

/// The mailboxes that are not just kept, or that hold items from before `horizon`. Items of a
/// mailbox stand in the order of their age, so a look at each mailbox's oldest is enough.
fn find_old(database: &Database, horizon: u64, fate: impl Fn(MailboxId, u64) -> Fate) -> Result<Vec<Old>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(ITEMS)?;
    let mut found = Vec::new();
    for entry in transaction.open_table(OWNERS)?.iter()? {
        let (key, attached) = entry?;
        let key = *key.value();
        let mailbox = MailboxId::from(key);
        let fate = fate(mailbox, attached.value());
        let mut seqs = Vec::new();
        for entry in table.range((&key, 0)..=(&key, u64::MAX))? {
            let (key, value) = entry?;
            if fate != Fate::Dropped && stored_at(value.value()).0 >= horizon {
                break;
            }
            seqs.push(key.value().1);
        }
        if fate != Fate::Kept || !seqs.is_empty() {
            found.push(Old { mailbox, fate, seqs });
        }
    }
    Ok(found)
}

fn stored_at(value: &[u8]) -> (u64, &[u8]) {
    value.split_first_chunk().map_or((0, &[]), |(at, item)| (u64::from_be_bytes(*at), item))
}

fn read_lock<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
