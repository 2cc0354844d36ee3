//! State folders: one owner, private files, writes that are whole or absent.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ed25519_dalek::SigningKey;
use rand_core::Rng;
use rustix::fs::{FlockOperation, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::bounded::{FILE_LIMIT, read_at_most, read_regular, size};
use crate::random::os_rng;
use crate::sync;

/// Why a state folder cannot be used; every message names the path and what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// Somebody else owns the folder.
    #[error("{path} is in use by {}; {} or choose another folder",
        if *.by_this_process { "this process" } else { "another process" },
        if *.by_this_process { "close what holds it" } else { "stop it" })]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Whether it is this same process that owns it.
        by_this_process: bool,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file, or a link that leads nowhere, lies where a folder is meant.
    #[error("{path} is no folder; name one, or remove it")]
    NotFolder {
        /// What lies there.
        path: PathBuf,
    },
    /// No folder is meant.
    #[error("the name of the folder is empty; name one")]
    Unnamed,
    /// No file could be made below it.
    #[error("the path of the folder is too long: {what} has {length} bytes, and {most} fit; choose a shorter one")]
    TooLong {
        /// Of what.
        what: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        most: usize,
    },
    /// Others may read a secret.
    #[error("{path} holds a secret that others may read; make it private: chmod 600 {}", shell_word(.path))]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// What the user named goes on for longer than any of its kind.
    #[error("{path} is larger than {limit}, so it is no {what}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
        /// How large one may be.
        limit: String,
    },
    /// A file is not what it should be.
    #[error("{path} is not a valid {what}; restore or remove it")]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
    },
}

/// Bytes of a path, with the zero that ends it, and of one name in it.
const PATH_LIMIT: usize = 4096;
const NAME_LIMIT: usize = 255;

/// Bytes that the longest path in a state folder has more than the folder's.
const IN_FOLDER: usize = 64;

/// Whether files can be made in a folder of this name, and in folders below it whose paths are
/// `deeper` bytes longer.
///
/// # Errors
/// [`StateError::TooLong`], [`StateError::Unnamed`] and [`StateError::NotFolder`]
pub(crate) fn check_place(path: &Path, deeper: usize) -> Result<(), StateError> {
    let most = PATH_LIMIT - 1 - IN_FOLDER - deeper;
    let length = path.as_os_str().len();
    if length == 0 {
        return Err(StateError::Unnamed);
    }
    if length > most {
        return Err(StateError::TooLong { what: "it", length, most });
    }
    match path.iter().map(OsStr::len).max() {
        Some(length) if length > NAME_LIMIT => {
            return Err(StateError::TooLong { what: "a name in it", length, most: NAME_LIMIT });
        }
        _ => {}
    }
    let is_there = |place: &&Path| !place.as_os_str().is_empty() && place.symlink_metadata().is_ok();
    match path.ancestors().find(is_there) {
        Some(there) if !there.is_dir() => Err(StateError::NotFolder { path: there.to_owned() }),
        _ => Ok(()),
    }
}

/// A path as a shell reads it.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._-+,@%".contains(char);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

/// Makes a folder that nobody else may enter, unless it is there.
///
/// # Errors
/// The operating system refuses.
pub(crate) fn make_folder(path: &Path) -> Result<(), StateError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("create", path))
}

/// A state folder that this process owns until the value is dropped (or the process dies).
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Lock,
}

/// Lock files that this process holds, by device and number, so that it can be told from another.
static HELD: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// A lock that is held, and its place among them.
#[derive(Debug)]
struct Lock {
    file: File,
    place: (u64, u64),
    process: u32,
}

impl Lock {
    fn new(file: File) -> io::Result<Self> {
        let place = place_of(&file)?;
        sync::lock(&HELD).insert(place);
        Ok(Self { file, place, process: std::process::id() })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would not do where a forked child has it open, too; and the child gives up nothing.
        if self.process == std::process::id() {
            sync::lock(&HELD).remove(&self.place);
            let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
        }
    }
}

fn place_of(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl StateDir {
    /// Creates the folder if needed (mode 0700) and locks it.
    ///
    /// # Errors
    /// [`StateError::Locked`] if another process holds the lock; [`StateError::Io`] otherwise.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        check_place(path, 0)?;
        make_folder(path)?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(NEVER_WAIT)
            .open(&lock_path)
            .map_err(io_error("open", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let lock = Lock::new(lock).map_err(io_error("lock", &lock_path))?;
                Ok(Self { path: path.to_owned(), _lock: lock })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let by_this_process = place_of(&lock).is_ok_and(|place| sync::lock(&HELD).contains(&place));
                Err(StateError::Locked { path: path.to_owned(), by_this_process })
            }
            Err(errno) => Err(io_error("lock", &lock_path)(errno.into())),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside the folder.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Loads the Ed25519 key in file `name`, or makes one (mode 0600).
    ///
    /// # Errors
    /// The file cannot be read or written, is open to others, or is no key.
    pub fn signing_key(&self, name: &str) -> Result<SigningKey, StateError> {
        Ok(SigningKey::from_bytes(&*self.secret(name)?))
    }

    /// Loads the 32 secret bytes in file `name`, or makes them (mode 0600).
    ///
    /// # Errors
    /// The file cannot be read or written, is open to others, or does not hold 32 bytes.
    pub fn secret(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, StateError> {
        let path = self.join(name);
        if let Some(bytes) = read_private(&path)? {
            return key_of(&path, &bytes);
        }
        let mut key = Zeroizing::new([0; 32]);
        os_rng().fill_bytes(key.as_mut_slice());
        write_private(&path, key.as_slice())?;
        Ok(key)
    }
}

/// Opening a pipe or a device returns at once, so that it can be refused.
pub(crate) const NEVER_WAIT: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// Reads a file that nobody else may read; `None` if it does not exist.
fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
    let mut file = match OpenOptions::new().read(true).custom_flags(NEVER_WAIT).open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(io_error("read", path)(err)),
    };
    let mode = file.metadata().map_err(io_error("read", path))?.mode();
    if mode & 0o077 != 0 {
        return Err(StateError::Exposed { path: path.to_owned() });
    }
    read_regular(&mut file, FILE_LIMIT).map(Some).map_err(io_error("read", path))
}

/// The Ed25519 key in the file of a folder that another process may own.
///
/// # Errors
/// The file cannot be read, is open to others, or is no key.
pub fn read_signing_key(path: &Path) -> Result<Option<SigningKey>, StateError> {
    read_private(path)?.map(|bytes| key_of(path, &bytes).map(|key| SigningKey::from_bytes(&key))).transpose()
}

fn key_of(path: &Path, bytes: &[u8]) -> Result<Zeroizing<[u8; 32]>, StateError> {
    let wrong = |_| StateError::Content { path: path.to_owned(), what: "32-byte key" };
    bytes.try_into().map(Zeroizing::new).map_err(wrong)
}

/// Replaces a file, mode 0600: readers see the old content or the new one, also after a crash.
///
/// # Errors
/// The operating system refuses; the old content is still there.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), StateError> {
    write_with_mode(path, content, 0o600)
}

/// As [`write_private`], with a file that everyone may read.
///
/// # Errors
/// The operating system refuses; the old content is still there.
pub fn write_public(path: &Path, content: &[u8]) -> Result<(), StateError> {
    write_with_mode(path, content, 0o644)
}

fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<(), StateError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let write = || -> io::Result<()> {
        // What a former process left there may be a link, or open to others.
        match std::fs::remove_file(&temporary) {
            Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|err| {
        // A part of it would only take room on a full disk.
        let _ = std::fs::remove_file(&temporary);
        io_error("write", path)(err)
    })
}

/// Reads a JSON file of ours; `None` if it does not exist.
///
/// # Errors
/// The file is no regular one, cannot be read, or is no `what`.
pub fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<Option<T>, StateError> {
    let read = || read_regular(&mut OpenOptions::new().read(true).custom_flags(NEVER_WAIT).open(path)?, FILE_LIMIT);
    match read() {
        Ok(bytes) => from_json(path, what, &bytes).map(Some),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(err) => Err(io_error("read", path)(err)),
    }
}

/// Reads JSON of at most `limit` bytes from wherever the user says: a pipe or a device will do.
///
/// # Errors
/// There is nothing, it cannot be read, is too large, or is no `what`.
pub fn read_named_json<T: DeserializeOwned>(path: &Path, what: &'static str, limit: usize) -> Result<T, StateError> {
    let bytes = File::open(path).and_then(|file| read_at_most(file, limit)).map_err(|err| match err.kind() {
        ErrorKind::FileTooLarge => StateError::TooLarge { path: path.to_owned(), what, limit: size(limit) },
        _ => io_error("read", path)(err),
    })?;
    from_json(path, what, &bytes)
}

/// As [`read_json`], for a file with secrets.
///
/// # Errors
/// The file cannot be read, is open to others, or is no `what`.
pub fn read_private_json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<Option<T>, StateError> {
    read_private(path)?.map(|bytes| from_json(path, what, &bytes)).transpose()
}

/// What was read of a file that can be made anew: one that is damaged counts as none, is named in the log, and is replaced
/// with the next write.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn unless_damaged<T>(read: Result<Option<T>, StateError>) -> Result<Option<T>, StateError> {
    match read {
        Err(StateError::Content { path, what }) => {
            tracing::warn!(file = %path.display(), what, "state.damaged");
            Ok(None)
        }
        read => read,
    }
}

fn from_json<T: DeserializeOwned>(path: &Path, what: &'static str, bytes: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(bytes).map_err(|_| StateError::Content { path: path.to_owned(), what })
}

/// Writes a JSON file that everyone may read.
///
/// # Errors
/// The operating system refuses.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StateError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|err| StateError::Io {
        action: "encode",
        path: path.to_owned(),
        source: err.into(),
    })?;
    bytes.push(b'\n');
    write_public(path, &bytes)
}

/// Writes a JSON file with secrets; leaves none of them in memory that is free.
///
/// # Errors
/// The operating system refuses.
pub(crate) fn write_private_json(path: &Path, value: &impl Serialize) -> Result<(), StateError> {
    let failed = |err: serde_json::Error| io_error("encode", path)(err.into());
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value).map_err(failed)?;
    // With room for all of it: what a vector outgrows is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *bytes, value).map_err(failed)?;
    write_private(path, &bytes)
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs when writing begins to fail, fails for another reason, or works again; `known` is what was
/// logged last.
pub(crate) fn note_trouble(known: &mut Option<String>, now: Option<String>) {
    if *known == now {
        return;
    }
    if let Some(error) = &now {
        tracing::warn!(%error, "state.not_saved");
    } else {
        tracing::info!("state.saved");
    }
    *known = now;
}

#[cfg(test)]
mod tests;
