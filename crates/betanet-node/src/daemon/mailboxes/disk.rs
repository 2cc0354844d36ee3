//! The file of the mailboxes.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use betanet_mix::mailbox::{Index, ItemRecord, Limits, Origin, Owner, Transaction};
use betanet_sphinx::{MailboxId, Surb};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use thiserror::Error;

use crate::clock::{boot_ms, wall_ms};
use crate::link::frame::EncodedItem;

/// `(mailbox, seq) → stored_ms(8) ‖ promised(1) ‖ body`, where the body is that of the frame to the client.
const ITEMS: TableDefinition<'_, (&[u8; 16], u64), &[u8]> = TableDefinition::new("items");
/// `mailbox → (last attached in ms, used, address that it attached from)`; an address has 0, 4 or 16 bytes.
const OWNERS: TableDefinition<'_, &[u8; 16], (u64, bool, &[u8])> = TableDefinition::new("owners");
/// The four below.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT: &str = "format";
const NEXT_SEQ: &str = "next_seq";
/// The store's time when it was last written down.
const AGE: &str = "age_ms";

/// What [`FORMAT`] is in files that this program reads.
const VERSION: u64 = 2;

/// Bytes before the body of an item.
const HEAD: usize = 9;

/// Memory that the database may use for pages.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Added to the name of a damaged file.
const ASIDE: &str = ".damaged";

/// Why the store cannot be opened or read.
#[derive(Debug, Error)]
#[error("mailbox store {path}: {source}")]
pub struct StoreError {
    path: PathBuf,
    #[source]
    source: Box<redb::Error>,
}

impl StoreError {
    pub(super) fn new(path: &Path, source: impl Into<redb::Error>) -> Self {
        Self { path: path.to_owned(), source: Box::new(source.into()) }
    }
}

/// An item that waits to be written.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) item: ItemRecord,
    /// Body of its frame.
    pub(super) body: EncodedItem,
    /// Carries the word that it is stored.
    pub(super) receipt: Option<Surb>,
}

/// A database and what it holds.
pub(super) struct OpenedDisk {
    database: Database,
    index: Index,
    /// The store's time.
    age_ms: u64,
}

/// Opens the database: a file, outside of tests.
pub(super) type Open = Box<dyn Fn() -> Result<OpenedDisk, redb::Error> + Send + Sync>;

/// The database, and the time that passes for what is in it.
pub(super) struct Disk {
    open: Open,
    age: Age,
    /// `None` while a failed database waits to be opened again, and at the end.
    database: RwLock<Option<Database>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("age", &self.age).finish_non_exhaustive()
    }
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

impl Disk {
    /// Opens what `open` opens, and reads what is in it.
    pub(super) fn new(open: Open) -> Result<(Self, Index), redb::Error> {
        let OpenedDisk { database, index, age_ms } = open()?;
        let age = Age { start: age_ms, opened: boot_ms(), written: AtomicU64::new(age_ms) };
        Ok((Self { open, age, database: RwLock::new(Some(database)) }, index))
    }

    /// The store's time.
    pub(super) fn now_ms(&self) -> u64 {
        self.age.start.saturating_add(boot_ms().saturating_sub(self.age.opened))
    }

    /// How long the store's time was not written down.
    pub(super) fn unwritten_ms(&self) -> u64 {
        self.now_ms().saturating_sub(self.age.written.load(Ordering::Relaxed))
    }

    /// Gives up the database; [`Disk::recover`] opens it again.
    pub(super) fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Opens a database that failed again, for instance after a full disk, and reads what is in it.
    pub(super) fn recover(&self) -> Option<Index> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_some() {
            return None;
        }
        let opened = (self.open)().ok()?;
        *database = Some(opened.database);
        Some(opened.index)
    }

    /// Writes a group: all of it is on the disk then, or nothing.
    pub(super) fn commit(&self, group: &Transaction<Put>) -> Result<(), redb::Error> {
        let now = self.now_ms();
        let guard = self.database();
        let Some(database) = guard.as_ref() else {
            return Err(redb::Error::PreviousIo);
        };
        let transaction = database.begin_write()?;
        {
            let mut items = transaction.open_table(ITEMS)?;
            for (mailbox, seq) in &group.removals {
                items.remove((mailbox.as_bytes(), *seq))?;
            }
            for ((mailbox, seq), put) in &group.puts {
                let body = put.body.as_bytes();
                let mut place = items.insert_reserve((mailbox.as_bytes(), *seq), HEAD + body.len())?;
                if let Some((stored_ms, [promised, rest @ ..])) = place.as_mut().split_first_chunk_mut() {
                    *stored_ms = put.item.stored_ms.to_be_bytes();
                    *promised = u8::from(put.item.promised);
                    rest.copy_from_slice(body);
                }
            }
            let mut owners = transaction.open_table(OWNERS)?;
            for (mailbox, owner) in &group.owners {
                match owner {
                    None => drop(owners.remove(mailbox.as_bytes())?),
                    Some(owner) => {
                        let origin = encode_origin(owner.origin);
                        let row = (owner.attached_ms, owner.used, origin.as_slice());
                        owners.insert(mailbox.as_bytes(), row)?;
                    }
                }
            }
            let mut meta = transaction.open_table(META)?;
            meta.insert(NEXT_SEQ, group.next_seq)?;
            meta.insert(AGE, now)?;
        }
        transaction.commit()?;
        self.age.written.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// Bodies of up to `count` items of `mailbox` behind `after`, in order, each with its number.
    pub(super) fn read(
        &self,
        mailbox: MailboxId,
        after: u64,
        count: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
        let guard = self.database();
        let Some(database) = guard.as_ref() else {
            return Err(redb::Error::PreviousIo);
        };
        let table = database.begin_read()?.open_table(ITEMS)?;
        let first = after.saturating_add(1);
        let range = table.range((mailbox.as_bytes(), first)..=(mailbox.as_bytes(), u64::MAX))?;
        let mut items = Vec::new();
        for entry in range.take(count) {
            let (key, value) = entry?;
            items.push((key.value().1, value.value().get(HEAD..).unwrap_or_default().to_vec()));
        }
        Ok(items)
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the file at `path` is opened. One that is damaged is kept aside, in place of the one before, and named in the log:
/// the edge goes on with an empty one.
pub(super) fn file(path: &Path, limits: Limits) -> Open {
    let path = path.to_owned();
    Box::new(move || match open(&path, limits) {
        Err(err) if is_damage(&err) => {
            let mut aside = path.clone().into_os_string();
            aside.push(ASIDE);
            std::fs::rename(&path, &aside)?;
            let kept = Path::new(&aside).display();
            tracing::error!(file = %path.display(), %kept, error = %err, "mailboxes.damaged");
            open(&path, limits)
        }
        outcome => outcome,
    })
}

fn open(path: &Path, limits: Limits) -> Result<OpenedDisk, redb::Error> {
    // A damaged page that is met later is a panic.
    let database = Database::builder().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).create(path)?;
    read(database, limits)
}

/// Makes the tables or sees that they are ours, and reads what is in them.
pub(super) fn read(database: Database, limits: Limits) -> Result<OpenedDisk, redb::Error> {
    let transaction = database.begin_write()?;
    {
        transaction.open_table(ITEMS)?;
        let owners = transaction.open_table(OWNERS)?;
        let mut meta = transaction.open_table(META)?;
        let format = meta.get(FORMAT)?.map(|format| format.value());
        match format {
            Some(VERSION) => {}
            None if meta.first()?.is_none() && owners.first()?.is_none() => {
                meta.insert(FORMAT, VERSION)?;
                meta.insert(NEXT_SEQ, 1)?;
                meta.insert(AGE, wall_ms())?;
            }
            _ => return Err(redb::Error::Corrupted("it has another format".into())),
        }
    }
    transaction.commit()?;
    let (index, age_ms) = read_index(&database, limits)?;
    Ok(OpenedDisk { database, index, age_ms })
}

fn is_damage(err: &redb::Error) -> bool {
    match err {
        redb::Error::Io(err) => matches!(err.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof),
        redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. } => true,
        _ => false,
    }
}

/// What the database holds, and the store's time.
fn read_index(database: &Database, limits: Limits) -> Result<(Index, u64), redb::Error> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    let number = |name| -> Result<u64, redb::Error> {
        let number = meta.get(name)?.map(|number| number.value());
        number.ok_or_else(|| redb::Error::Corrupted(format!("{name} is missing")))
    };
    let mut index = Index::new(limits, number(NEXT_SEQ)?);
    for entry in transaction.open_table(OWNERS)?.iter()? {
        let (mailbox, row) = entry?;
        let (attached_ms, used, origin) = row.value();
        let origin = parse_origin(origin).ok_or_else(|| redb::Error::Corrupted("an address is none".into()))?;
        index.restore(MailboxId::from(*mailbox.value()), Owner { origin, attached_ms, used });
    }
    for entry in transaction.open_table(ITEMS)?.iter()? {
        let (key, value) = entry?;
        let (mailbox, seq) = key.value();
        let item = parse_head(value.value()).ok_or_else(|| redb::Error::Corrupted("an item is none".into()))?;
        if !index.restore_item(MailboxId::from(*mailbox), seq, item) {
            return Err(redb::Error::Corrupted("an item has no mailbox".into()));
        }
    }
    Ok((index, number(AGE)?))
}

fn parse_head(value: &[u8]) -> Option<ItemRecord> {
    let (stored, rest) = value.split_first_chunk()?;
    let (promised, body) = rest.split_first()?;
    let len = u32::try_from(body.len()).ok()?;
    Some(ItemRecord { stored_ms: u64::from_be_bytes(*stored), len, promised: *promised != 0 })
}

fn encode_origin(origin: Origin) -> Vec<u8> {
    match origin {
        None => Vec::new(),
        Some(std::net::IpAddr::V4(ip)) => ip.octets().to_vec(),
        Some(std::net::IpAddr::V6(ip)) => ip.octets().to_vec(),
    }
}

fn parse_origin(bytes: &[u8]) -> Option<Origin> {
    if bytes.is_empty() {
        return Some(None);
    }
    let v4 = <[u8; 4]>::try_from(bytes).map(Into::into);
    let v6 = || <[u8; 16]>::try_from(bytes).map(Into::into);
    v4.or_else(|_| v6()).ok().map(Some)
}

#[cfg(test)]
pub(super) mod fixtures {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    impl Disk {
        /// The date of a mailbox on disk.
        pub(in super::super) fn attached_ms(&self, mailbox: MailboxId) -> Option<u64> {
            let guard = self.database();
            let owners = guard.as_ref()?.begin_read().unwrap().open_table(OWNERS).unwrap();
            owners.get(mailbox.as_bytes()).unwrap().map(|row| row.value().0)
        }
    }

    /// Takes `ms` from every date in a file.
    pub(in super::super) fn backdate(path: &Path, ms: u64) {
        let transaction = Database::open(path).unwrap().begin_write().unwrap();
        {
            let mut meta = transaction.open_table(META).unwrap();
            let age = meta.get(AGE).unwrap().unwrap().value() - ms;
            meta.insert(AGE, age).unwrap();
            let mut items = transaction.open_table(ITEMS).unwrap();
            let rows = items.iter().unwrap().map(|entry| {
                let (key, value) = entry.unwrap();
                let (mailbox, seq) = key.value();
                let mut value = value.value().to_vec();
                let stored_ms = value.first_chunk_mut().unwrap();
                *stored_ms = (u64::from_be_bytes(*stored_ms) - ms).to_be_bytes();
                (*mailbox, seq, value)
            });
            for (mailbox, seq, value) in rows.collect::<Vec<_>>() {
                items.insert((&mailbox, seq), value.as_slice()).unwrap();
            }
            let mut owners = transaction.open_table(OWNERS).unwrap();
            let rows = owners.iter().unwrap().map(|entry| {
                let (key, row) = entry.unwrap();
                (*key.value(), row.value().0 - ms, row.value().1)
            });
            for (mailbox, attached_ms, used) in rows.collect::<Vec<_>>() {
                owners.insert(&mailbox, (attached_ms, used, [].as_slice())).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
}
