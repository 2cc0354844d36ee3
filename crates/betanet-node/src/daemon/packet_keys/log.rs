//! The log of one key's replay tags, and the tally beside it.
//!
//! Both are written in the order log, tally: a process that is killed leaves a log that is as long as its tally says or
//! longer, never shorter.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use betanet_mix::epoch::Epoch;
use betanet_mix::replay::{LOG_ENTRY_LEN, ReplayCache, RestoreError, TALLY_LEN, Tally};
use zeroize::Zeroizing;

use crate::state::NEVER_WAIT;

/// Where the log and the tally of a key are.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) log: PathBuf,
    pub(super) tally: PathBuf,
}

impl Paths {
    pub(super) fn new(dir: &Path, epoch: Epoch) -> Self {
        Self { log: dir.join(format!("replay-{epoch}.log")), tally: dir.join(format!("replay-{epoch}.tally")) }
    }

    /// Whether a file of this name is one of these, of any epoch.
    pub(super) fn is_one(name: &str) -> bool {
        let named = name.strip_prefix("replay-").and_then(|rest| rest.split_once('.'));
        named.is_some_and(|(_, kind)| ["log", "tally"].contains(&kind))
    }

    pub(super) fn remove(&self) {
        remove(&self.log);
        remove(&self.tally);
    }
}

pub(super) fn remove(path: &Path) {
    // What is gone already needs no removing, and what cannot be removed is useless without its key.
    let _ = std::fs::remove_file(path);
}

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    /// Bytes of whole entries in it.
    written: u64,
    /// Whether more than those may be in it.
    torn: bool,
    /// Entries that are to be written.
    pub(super) pending: Vec<u8>,
    tally: Tally,
    tally_file: File,
    /// Whether the tally's file says less than the log holds.
    behind: bool,
}

impl Log {
    /// An empty log in place of whatever is there.
    pub(super) fn create(paths: &Paths, filter_key: &Zeroizing<[u8; 16]>) -> io::Result<Self> {
        let tally = Tally::new(filter_key);
        let tally_file = create(&paths.tally, OpenOptions::new().write(true))?;
        tally_file.write_all_at(&tally.encode(), 0)?;
        let file = create(&paths.log, OpenOptions::new().append(true))?;
        Ok(Self { file, written: 0, torn: false, pending: Vec::new(), tally, tally_file, behind: false })
    }

    /// The log that a former process of this boot left, and the cache that comes of it.
    ///
    /// # Errors
    /// It is not whole, or cannot be read.
    pub(super) fn restore(
        paths: &Paths,
        filter_key: Zeroizing<[u8; 16]>,
        capacity: usize,
    ) -> io::Result<(Self, ReplayCache)> {
        let tally_file = open(&paths.tally, OpenOptions::new().read(true).write(true))?;
        let mut claim = [0; TALLY_LEN];
        tally_file.read_exact_at(&mut claim, 0)?;
        let mut file = open(&paths.log, OpenOptions::new().read(true).append(true))?;
        let not_whole = |error: RestoreError| {
            tracing::warn!(file = %paths.log.display(), %error, "replay_log.not_whole");
            io::Error::new(ErrorKind::InvalidData, error)
        };
        let mut restoring = ReplayCache::restoring(filter_key, capacity, &claim);
        let mut buffer = vec![0; PIECE];
        let mut length = 0;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            length += read;
            // More than fits is refused, so an endless file ends too.
            restoring.take(buffer.get(..read).unwrap_or_default()).map_err(not_whole)?;
        }
        let restored = restoring.finish().map_err(not_whole)?;
        let written = u64::try_from(length.saturating_sub(restored.torn_bytes)).unwrap_or(u64::MAX);
        // An entry that was cut short belongs to a packet that never left.
        file.set_len(written)?;
        let (tally, pending) = (restored.tally, Vec::new());
        Ok((Self { file, written, torn: false, pending, tally, tally_file, behind: true }, restored.cache))
    }

    /// Appends what is pending. What cannot be written stays.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            // Whatever a failed write has left behind whole entries would shift all later ones.
            if self.torn {
                self.file.set_len(self.written)?;
            }
            self.torn = true;
            self.file.write_all(&self.pending)?;
            self.torn = false;
            self.behind = true;
            self.written += u64::try_from(self.pending.len()).unwrap_or(0);
            self.tally.add(&self.pending);
            self.pending.clear();
        }
        if self.behind {
            self.tally_file.write_all_at(&self.tally.encode(), 0)?;
            self.behind = false;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn exchange_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }
}

/// Bytes of a log that are read at once: whole entries.
const PIECE: usize = 8192 * LOG_ENTRY_LEN;

fn open(path: &Path, how: &mut OpenOptions) -> io::Result<File> {
    let file = how.custom_flags(NEVER_WAIT).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok(file)
}

fn create(path: &Path, how: &mut OpenOptions) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    how.create_new(true).mode(0o600).open(path)
}
