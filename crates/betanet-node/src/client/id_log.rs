//! Files of message ids, each with the time until when it counts. They grow by an entry for each, and are written anew
//! when most of them counts no more.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use betanet_mix::message::MessageId;

use crate::bounded::{FILE_LIMIT, read_regular};
use crate::state::{NEVER_WAIT, StateError, write_private};

/// id 16 ‖ end 8, Unix milliseconds.
const ENTRY_LEN: usize = 16 + 8;

/// Entries that a file may have however few of them count.
const MIN_ENTRIES: usize = 4096;

/// One such file.
#[derive(Debug)]
pub(super) struct IdLog {
    path: PathBuf,
    /// The open file and its entries; `None` when the path has got another file.
    open: Option<(File, usize)>,
    /// No attempt to write it anew before it has so many entries.
    compact_at: usize,
}

impl IdLog {
    /// Reads the ids, oldest first. Which of them still count, the courier knows.
    pub(super) fn read(path: PathBuf) -> Result<(Self, Vec<(MessageId, u64)>), StateError> {
        let read = || {
            let mut file = open_log(&path)?;
            let bytes = read_regular(&mut file, FILE_LIMIT)?;
            Ok((file, bytes))
        };
        let failed = |source| StateError::Io { action: "read", path: path.clone(), source };
        let (file, bytes) = read().map_err(failed)?;
        // A torn last entry belongs to an operation that never returned; the next one takes its place.
        let (entries, _) = bytes.as_chunks::<ENTRY_LEN>();
        let parse = |entry: &[u8; ENTRY_LEN]| {
            let (id, expiry) = entry.split_first_chunk::<16>()?;
            Some((MessageId(*id), u64::from_be_bytes(expiry.try_into().ok()?)))
        };
        let ids = entries.iter().filter_map(parse).collect();
        Ok((Self { open: Some((file, entries.len())), compact_at: MIN_ENTRIES, path }, ids))
    }

    /// Adds entries, all or none. They are in the page cache when it returns.
    pub(super) fn append(&mut self, ids: &[(MessageId, u64)]) -> io::Result<()> {
        let (file, entries) = match &mut self.open {
            Some(open) => open,
            none => {
                let file = open_log(&self.path)?;
                let entries = usize::try_from(file.metadata()?.len()).unwrap_or(0) / ENTRY_LEN;
                none.insert((file, entries))
            }
        };
        // Written at its place: what a failed write left behind is overwritten by the next.
        let place = u64::try_from(*entries * ENTRY_LEN).unwrap_or(u64::MAX);
        let content: Vec<u8> = ids.iter().flat_map(|(id, until_ms)| encode_entry(*id, *until_ms)).collect();
        file.write_all_at(&content, place)?;
        *entries += ids.len();
        Ok(())
    }

    /// Returns when the entries survive the loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        // A file that is not open was written anew, and synced.
        self.open.as_ref().map_or(Ok(()), |(file, _)| file.sync_data())
    }

    /// Whether so little of it counts, `live` entries, that it should be written anew.
    pub(super) fn is_long(&self, live: usize) -> bool {
        let entries = self.open.as_ref().map_or(0, |(_, entries)| *entries);
        entries >= self.compact_at.max(2 * live)
    }

    /// Writes the file anew once less than half of it is `live`.
    pub(super) fn compact(&mut self, live: impl ExactSizeIterator<Item = (MessageId, u64)>) {
        if !self.is_long(live.len()) {
            return;
        }
        let entries = self.open.as_ref().map_or(0, |(_, entries)| *entries);
        let content: Vec<u8> = live.flat_map(|(id, until_ms)| encode_entry(id, until_ms)).collect();
        self.open = None;
        let written = write_private(&self.path, &content);
        // Should it fail, the long file goes on growing for a while.
        self.compact_at = if written.is_ok() { MIN_ENTRIES } else { 2 * entries };
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(NEVER_WAIT)
        .open(path)
}

fn encode_entry(id: MessageId, until_ms: u64) -> [u8; ENTRY_LEN] {
    let mut entry = [0; ENTRY_LEN];
    let (head, tail) = entry.split_at_mut(16);
    head.copy_from_slice(&id.0);
    tail.copy_from_slice(&until_ms.to_be_bytes());
    entry
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    fn id(number: usize) -> (MessageId, u64) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        (MessageId(id), u64::try_from(number).unwrap())
    }

    /// INV-MSG-04
    #[test]
    fn committed_ids_survive_restarts_and_torn_entries() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, before) = IdLog::read(path.clone()).unwrap();
        assert_eq!(before, []);
        log.append(&[id(1)]).unwrap();
        log.append(&[id(2)]).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(u64::try_from(2 * ENTRY_LEN - 1).unwrap()).unwrap();
        let (mut log, before) = IdLog::read(path.clone()).unwrap();
        assert_eq!(before, [id(1)]);
        log.append(&[id(3)]).unwrap();
        assert_eq!(IdLog::read(path).unwrap().1, [id(1), id(3)]);
    }

    #[test]
    fn the_file_shrinks_to_what_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, _) = IdLog::read(path.clone()).unwrap();
        for number in 0..MIN_ENTRIES {
            log.compact([id(7)].into_iter());
            log.append(&[(id(number).0, 0)]).unwrap();
        }
        assert_eq!(IdLog::read(path.clone()).unwrap().1.len(), MIN_ENTRIES);
        log.compact((0..MIN_ENTRIES).map(id));
        assert_eq!(IdLog::read(path.clone()).unwrap().1.len(), MIN_ENTRIES, "everything counts");
        log.compact([id(7), id(8)].into_iter());
        log.append(&[id(9)]).unwrap();
        assert_eq!(IdLog::read(path).unwrap().1, [id(7), id(8), id(9)]);
    }
}
