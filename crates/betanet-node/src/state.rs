//! State folders: one owner, private files, writes that are whole or absent.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use rand_core::Rng;
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::clock::os_rng;

/// Why a state folder cannot be used; every message names the path and what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process owns the folder.
    #[error("{path} is in use by another process; stop it or choose another --dir")]
    Locked {
        /// The folder.
        path: PathBuf,
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
    /// A file is not what it should be.
    #[error("{path} is not a valid {what}; restore or remove it")]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

/// A state folder that this process owns until the value is dropped (or the process dies).
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates the folder if needed (mode 0700) and locks it.
    ///
    /// # Errors
    /// [`StateError::Locked`] if another process holds the lock; [`StateError::Io`] otherwise.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("create", path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error("open", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::Locked { path: path.to_owned() }),
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
    /// The file cannot be read or written, or is no key.
    pub fn signing_key(&self, name: &str) -> Result<SigningKey, StateError> {
        Ok(SigningKey::from_bytes(&*self.secret(name)?))
    }

    /// Loads the 32 secret bytes in file `name`, or makes them (mode 0600).
    ///
    /// # Errors
    /// The file cannot be read or written, or does not hold 32 bytes.
    pub fn secret(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, StateError> {
        let path = self.join(name);
        match std::fs::read(&path).map(Zeroizing::new) {
            Ok(bytes) => bytes
                .as_slice()
                .try_into()
                .map(Zeroizing::new)
                .map_err(|_| StateError::Content { path, what: "32-byte key" }),
            Err(err) if err.kind() == ErrorKind::NotFound => {
                let mut key = Zeroizing::new([0; 32]);
                os_rng().fill_bytes(key.as_mut_slice());
                write_private(&path, key.as_slice())?;
                Ok(key)
            }
            Err(err) => Err(io_error("read", &path)(err)),
        }
    }
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
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(io_error("write", path))
}

/// Reads a JSON file; `None` if it does not exist.
///
/// # Errors
/// The file cannot be read or is no `what`.
pub fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<Option<T>, StateError> {
    match std::fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|_| StateError::Content { path: path.to_owned(), what })
        }
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(err) => Err(io_error("read", path)(err)),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(StateError::Locked { .. })));
        drop(first);
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn keys_are_private_and_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let key = state.secret("key").unwrap();
        assert_eq!(key, state.secret("key").unwrap());
        let mode = std::fs::metadata(state.join("key")).unwrap().permissions().mode();
        assert_eq!(0o600, mode & 0o777);
        std::fs::write(state.join("key"), b"short").unwrap();
        assert!(matches!(state.secret("key"), Err(StateError::Content { .. })));
    }

    #[test]
    fn unreadable_json_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net.json");
        assert_eq!(None, read_json::<u64>(&path, "number").unwrap());
        write_json(&path, &7u64).unwrap();
        assert_eq!(Some(7), read_json::<u64>(&path, "number").unwrap());
        std::fs::write(&path, b"{").unwrap();
        let message = read_json::<u64>(&path, "number").unwrap_err().to_string();
        assert!(message.contains("net.json"), "{message}");
    }
}
