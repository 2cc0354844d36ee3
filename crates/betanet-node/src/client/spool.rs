//! Pieces of large messages that arrive, on the disk.
//!
//! Each message that arrives has two files in the folder `spool`: `….data`, its stream with every piece at its place, and
//! `….index`, what its packets say and then the number of each piece that is in the other file. A number is written after
//! its piece has reached the disk, so whatever the index names is there, and a crash costs pieces that nobody was told of.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use betanet_mix::message::{BULK_DATA_LEN, MessageId, Pieces, SpoolHead, SpoolKey};

use super::files::NAMELESS;
use crate::bounded::{is_passing, read_regular};
use crate::state::{NEVER_WAIT, StateError};

/// version 1 ‖ hops 1 ‖ total 2 ‖ expiry 8.
const HEAD_LEN: usize = 1 + 1 + 2 + 8;
const VERSION: u8 = 1;
/// No index is longer: so many pieces has the longest message.
const MAX_INDEX_LEN: usize = 1 << 18;

/// What the folder is to do, in order.
#[derive(Debug)]
pub(super) enum Job {
    /// Keep a piece.
    Piece { key: SpoolKey, head: SpoolHead, index: u16, data: Box<[u8]> },
    /// Forget a message.
    Discard { key: SpoolKey },
}

/// What became of pieces of one message.
#[derive(Debug)]
pub(super) struct WrittenPieces {
    pub(super) key: SpoolKey,
    pub(super) indexes: Vec<u16>,
    /// Whether they would survive a crash.
    pub(super) outcome: io::Result<()>,
}

/// A message from before a restart.
#[derive(Debug)]
pub(super) struct RestoredSpool {
    pub(super) key: SpoolKey,
    pub(super) head: SpoolHead,
    pub(super) pieces: Pieces,
    /// Bytes of the last piece, if it is there.
    pub(super) last_len: Option<u16>,
}

/// The folder and its open files.
#[derive(Debug)]
pub(super) struct SpoolFolder {
    path: PathBuf,
    open: HashMap<SpoolKey, Files>,
}

#[derive(Debug)]
struct Files {
    data: File,
    index: File,
    /// Where the index goes on.
    end: u64,
}

impl SpoolFolder {
    /// The folder at `path`, made if it is missing, and what it holds. What is no spool is deleted: it was told to nobody,
    /// or is sent again.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<RestoredSpool>), StateError> {
        let failed = |action, source| StateError::Io { action, path: path.to_owned(), source };
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("create", error)),
            _ => {}
        }
        let mut folder = Self { path: path.to_owned(), open: HashMap::new() };
        let mut restored = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|error| failed("read", error))? {
            let name = entry.map_err(|error| failed("read", error))?.file_name();
            if name.as_encoded_bytes().starts_with(NAMELESS.as_bytes()) {
                // A body that was being sent when the process ended, before its name was gone.
                let _ = std::fs::remove_file(path.join(&name));
            }
            let Some((stem, kind)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let Some(key) = parse_name(stem) else { continue };
            match (kind, folder.restore(key)) {
                ("index", Ok(found)) => restored.push(found),
                (_, Ok(_)) => {}
                (_, Err(error)) if is_passing(&error) => return Err(failed("read", error)),
                (_, Err(_)) => folder.discard(key),
            }
        }
        Ok((folder, restored))
    }

    fn restore(&mut self, key: SpoolKey) -> io::Result<RestoredSpool> {
        let mut index = open_file(&self.file(key, "index"), false)?;
        let data = open_file(&self.file(key, "data"), false)?;
        let bytes = read_regular(&mut index, MAX_INDEX_LEN)?;
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let (head, entries) = bytes.split_first_chunk::<HEAD_LEN>().ok_or_else(bad)?;
        let [VERSION, hops, t0, t1, expiry @ ..] = *head else { return Err(bad()) };
        let (total, expiry_ms) = (u16::from_be_bytes([t0, t1]), u64::from_be_bytes(expiry));
        let mut pieces = Pieces::none(total);
        let (entries, _) = entries.as_chunks::<2>();
        entries.iter().map(|entry| u16::from_be_bytes(*entry)).for_each(|piece| {
            pieces.insert(piece);
        });
        let last = total.checked_sub(1).ok_or_else(bad)?;
        let last_len = data.metadata()?.len().checked_sub(place_of(last)).and_then(|len| u16::try_from(len).ok());
        let last_len = last_len.filter(|_| pieces.contains(last));
        let end = place_in_index(entries.len());
        self.open.insert(key, Files { data, index, end });
        Ok(RestoredSpool { key, head: SpoolHead { hops, total, expiry_ms }, pieces, last_len })
    }

    /// Does all of it, and syncs once for each message.
    pub(super) fn work(&mut self, jobs: Vec<Job>) -> Vec<WrittenPieces> {
        let mut groups: BTreeMap<SpoolKey, (Vec<u16>, io::Result<()>)> = BTreeMap::new();
        for job in jobs {
            match job {
                Job::Piece { key, head, index, data } => {
                    let (indexes, outcome) = groups.entry(key).or_insert_with(|| (Vec::new(), Ok(())));
                    indexes.push(index);
                    if outcome.is_ok() {
                        *outcome = self.write(key, head, index, &data);
                    }
                }
                Job::Discard { key } => {
                    self.discard(key);
                    if let Some((_, outcome)) = groups.get_mut(&key) {
                        *outcome = Err(io::ErrorKind::NotFound.into());
                    }
                }
            }
        }
        let finish = |(key, (indexes, outcome)): (SpoolKey, (Vec<u16>, io::Result<()>))| {
            let outcome = outcome.and_then(|()| self.sync(key, &indexes));
            WrittenPieces { key, indexes, outcome }
        };
        groups.into_iter().map(finish).collect()
    }

    fn write(&mut self, key: SpoolKey, head: SpoolHead, index: u16, data: &[u8]) -> io::Result<()> {
        self.files(key, head)?.data.write_all_at(data, place_of(index))
    }

    fn sync(&mut self, key: SpoolKey, indexes: &[u16]) -> io::Result<()> {
        let files = self.open.get_mut(&key).ok_or(io::ErrorKind::NotFound)?;
        files.data.sync_data()?;
        let entries: Vec<u8> = indexes.iter().flat_map(|index| index.to_be_bytes()).collect();
        // At its place: what a failed write left behind is overwritten by the next.
        files.index.write_all_at(&entries, files.end)?;
        files.index.sync_data()?;
        files.end += u64::try_from(entries.len()).unwrap_or(0);
        Ok(())
    }

    fn files(&mut self, key: SpoolKey, head: SpoolHead) -> io::Result<&mut Files> {
        if !self.open.contains_key(&key) {
            let index = open_file(&self.file(key, "index"), true)?;
            let data = open_file(&self.file(key, "data"), true)?;
            let [t0, t1] = head.total.to_be_bytes();
            let bytes = [&[VERSION, head.hops, t0, t1][..], &head.expiry_ms.to_be_bytes()].concat();
            index.write_all_at(&bytes, 0)?;
            File::open(&self.path)?.sync_all()?;
            self.open.insert(key, Files { data, index, end: place_in_index(0) });
        }
        self.open.get_mut(&key).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn discard(&mut self, key: SpoolKey) {
        self.open.remove(&key);
        // The index first: without it the other file means nothing.
        for kind in ["index", "data"] {
            let _ = std::fs::remove_file(self.file(key, kind));
        }
    }

    fn file(&self, key: SpoolKey, kind: &str) -> PathBuf {
        file_of(&self.path, key, kind)
    }
}

/// Opens the stream of a message that is whole.
pub(super) fn open_stream(folder: &Path, key: SpoolKey) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(NEVER_WAIT).open(file_of(folder, key, "data"))
}

fn file_of(folder: &Path, key: SpoolKey, kind: &str) -> PathBuf {
    folder.join(format!("{}{}.{kind}", key.id, hex::encode(key.context)))
}

fn parse_name(stem: &str) -> Option<SpoolKey> {
    let mut bytes = [0; 48];
    hex::decode_to_slice(stem, &mut bytes).ok()?;
    let (id, context) = bytes.split_first_chunk::<16>()?;
    Some(SpoolKey { id: MessageId(*id), context: context.try_into().ok()? })
}

fn open_file(path: &Path, is_new: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(is_new)
        .truncate(is_new)
        .mode(0o600)
        .custom_flags(NEVER_WAIT)
        .open(path)
}

fn place_of(index: u16) -> u64 {
    u64::from(index) * u64::try_from(BULK_DATA_LEN).unwrap_or(0)
}

fn place_in_index(entries: usize) -> u64 {
    u64::try_from(HEAD_LEN + entries * 2).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
