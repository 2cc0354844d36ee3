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
            tracing::warn!(path = %path.display(), what, "state.damaged");
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        let refused = StateDir::open(dir.path()).unwrap_err();
        assert!(matches!(refused, StateError::Locked { by_this_process: true, .. }), "{refused}");
        drop(first);
        let elsewhere = File::open(dir.path().join("lock")).unwrap();
        rustix::fs::flock(&elsewhere, FlockOperation::NonBlockingLockExclusive).unwrap();
        let refused = StateDir::open(dir.path()).unwrap_err().to_string();
        assert!(refused.ends_with("is in use by another process; stop it or choose another folder"), "{refused}");
        drop(elsewhere);
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_child_that_inherited_the_lock_does_not_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("lock")).unwrap();
        let inherited = file.try_clone().unwrap();
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        drop(Lock::new(file).unwrap());
        StateDir::open(dir.path()).unwrap();
        drop(inherited);
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

    /// INV-LINK-13
    #[test]
    fn a_secret_that_others_may_read_is_refused_and_the_message_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let path = state.join("key");
        write_private(&path, &[1; 32]).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let message = state.secret("key").unwrap_err().to_string();
            assert!(message.contains(&format!("chmod 600 {}", path.display())), "{message}");
            assert!(matches!(read_private_json::<u64>(&path, "number"), Err(StateError::Exposed { .. })));
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
        assert_eq!([1; 32], *state.secret("key").unwrap());
    }

    /// INV-LINK-13
    #[test]
    fn what_lies_where_a_file_is_prepared_neither_opens_nor_redirects_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("key"), dir.path().join("elsewhere"));
        let temporary = dir.path().join("key.new");
        std::fs::write(&temporary, b"left behind").unwrap();
        std::fs::set_permissions(&temporary, PermissionsExt::from_mode(0o666)).unwrap();
        write_private(&path, b"secret").unwrap();
        assert_eq!(0o600, std::fs::metadata(&path).unwrap().permissions().mode() & 0o777);

        std::fs::write(&elsewhere, b"untouched").unwrap();
        symlink(&elsewhere, &temporary).unwrap();
        write_private(&path, b"another").unwrap();
        assert_eq!(b"untouched".as_slice(), std::fs::read(&elsewhere).unwrap());
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(b"another".as_slice(), std::fs::read(&path).unwrap());
    }

    #[test]
    fn a_pipe_in_place_of_a_secret_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let path = state.join("key");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for message in [
            state.secret("key").unwrap_err().to_string(),
            read_private_json::<u64>(&path, "number").unwrap_err().to_string(),
        ] {
            assert!(message.contains("no regular file"), "{message}");
        }
    }

    #[test]
    fn a_path_in_which_nothing_fits_is_refused_with_the_length_that_does() {
        let deep = |length: usize| PathBuf::from("/".to_owned() + &"a/".repeat(length / 2)[..length - 1]);
        check_place(&deep(3900), 64).unwrap();
        for (path, deeper, most) in [(deep(4000), 64, "3967 fit"), (deep(4094), 0, "4031 fit")] {
            assert!(check_place(&path, deeper).unwrap_err().to_string().contains(most));
        }
        let dir = tempfile::tempdir().unwrap();
        let message = StateDir::open(&dir.path().join("x").join("n".repeat(256))).unwrap_err().to_string();
        assert!(message.contains("256 bytes, and 255 fit"), "{message}");
        assert!(!dir.path().join("x").exists());
    }

    #[test]
    fn a_file_where_a_folder_is_meant_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (file, nowhere) = (dir.path().join("file"), dir.path().join("nowhere"));
        std::fs::write(&file, b"").unwrap();
        symlink(dir.path().join("gone"), &nowhere).unwrap();
        for (path, obstacle) in [(file.clone(), &file), (file.join("a/b"), &file), (nowhere.clone(), &nowhere)] {
            let message = StateDir::open(&path).unwrap_err().to_string();
            assert_eq!(format!("{} is no folder; name one, or remove it", obstacle.display()), message);
        }
        StateDir::open(&dir.path().join("a/b")).unwrap();
    }

    #[test]
    fn a_folder_without_a_name_is_not_the_current_one() {
        assert!(matches!(StateDir::open(Path::new("")), Err(StateError::Unnamed)));
    }

    #[test]
    fn a_command_that_is_advised_can_be_run() {
        assert_eq!("/a/b-1.c", shell_word(Path::new("/a/b-1.c")));
        assert_eq!(r"'/it'\''s $HOME'", shell_word(Path::new("/it's $HOME")));
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
