//! Bodies of messages in files: of those that leave, and of large ones that arrived.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use betanet_mix::message::{Body, BodySource, MAX_MESSAGE_LEN};
use rand_core::Rng as _;

use super::{Client, ClientError};
use crate::bounded::size;
use crate::random::os_rng;
use crate::state::NEVER_WAIT;

/// How the names of files begin that lose them at once.
pub(super) const NAMELESS: &str = "out.";

/// Bytes that are copied at a time.
const CHUNK: usize = 256 * 1024;

impl Client {
    /// A file in the client's folder that ends with its handle, for a large body that should not be in memory while it is
    /// sent: write to it, then send [`body_from_file`].
    ///
    /// # Errors
    /// [`ClientError::Storage`].
    pub fn body_file(&self) -> Result<File, ClientError> {
        nameless_file(&self.spool).map_err(ClientError::Storage)
    }

    /// The body of a message from the file at `path` as it is now: a copy on the disk, so that whatever becomes of the file
    /// later, the message has what it held.
    ///
    /// # Errors
    /// [`ClientError::File`]: it cannot be read, is no regular file, is longer than a message, or changed meanwhile;
    /// [`ClientError::Storage`]: there is no room for the copy.
    pub async fn body_of_file(&self, path: PathBuf) -> Result<Body, ClientError> {
        let copy = self.body_file()?;
        let copied = tokio::task::spawn_blocking(move || snapshot(&path, copy)).await;
        copied.map_err(|error| ClientError::Storage(error.into()))?
    }
}

/// Copies the file at `path` to `copy`, which becomes a body.
fn snapshot(path: &Path, copy: File) -> Result<Body, ClientError> {
    let failed = |source| ClientError::File { action: "send", path: path.to_owned(), source };
    let mut file = OpenOptions::new().read(true).custom_flags(NEVER_WAIT).open(path).map_err(failed)?;
    let before = file.metadata().map_err(failed)?;
    if !before.is_file() {
        return Err(failed(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")));
    }
    copy_body(&mut file, &copy, 0).map_err(|error| match error {
        CopyError::Source(error) => failed(error),
        CopyError::Copy(error) => ClientError::Storage(error),
    })?;
    if state_of(&before) != state_of(&file.metadata().map_err(failed)?) {
        return Err(failed(io::Error::other("it changed while it was read: send it once nobody writes to it")));
    }
    body_from_file(copy).map_err(ClientError::Storage)
}

/// What tells that a file was written to.
fn state_of(metadata: &Metadata) -> [i128; 3] {
    let time = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    [
        i128::from(metadata.len()),
        time(metadata.mtime(), metadata.mtime_nsec()),
        time(metadata.ctime(), metadata.ctime_nsec()),
    ]
}

/// Which side of a copy failed.
#[derive(Debug)]
pub enum CopyError {
    /// What is read, or it is longer than a message.
    Source(io::Error),
    /// What is written.
    Copy(io::Error),
}

/// Appends `source` to the file of a body, of which `len` bytes are there.
///
/// # Errors
/// The source cannot be read, or the body gets longer than a message: [`ErrorKind::FileTooLarge`]; the copy cannot be
/// written.
pub fn copy_body(mut source: impl Read, mut copy: &File, mut len: usize) -> Result<(), CopyError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match source.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Source(error)),
        };
        len += read;
        if len > MAX_MESSAGE_LEN {
            let message = format!("it is larger than {}", size(MAX_MESSAGE_LEN));
            return Err(CopyError::Source(io::Error::new(ErrorKind::FileTooLarge, message)));
        }
        copy.write_all(chunk.get(..read).unwrap_or_default()).map_err(CopyError::Copy)?;
    }
}

/// A part of a file: what a message that leaves is read from.
#[derive(Debug)]
struct FileSource {
    file: File,
    len: usize,
}

impl BodySource for FileSource {
    fn len(&self) -> usize {
        self.len
    }

    fn in_memory(&self) -> usize {
        0
    }

    fn read(&self, start: usize, into: &mut [u8]) -> Option<()> {
        self.file.read_exact_at(into, u64::try_from(start).ok()?).ok()
    }
}

/// The body of a message in `file`, from its beginning to its present end.
///
/// # Errors
/// The length of the file cannot be had.
pub fn body_from_file(file: File) -> io::Result<Body> {
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    Ok(Body::new(Arc::new(FileSource { file, len })))
}

/// A file in `folder` that has no name and ends with its handle.
fn nameless_file(folder: &Path) -> io::Result<File> {
    let name = folder.join(format!("{NAMELESS}{:016x}", os_rng().next_u64()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&name)?;
    std::fs::remove_file(&name)?;
    Ok(file)
}

/// The body of a message that arrived: in memory, or, if it is large, in a file of the client's folder.
#[derive(Clone, Debug)]
pub enum ReceivedBody {
    /// All of it.
    Bytes(Vec<u8>),
    /// Where it lies; readable for as long as this exists, whether the message was committed or not.
    File {
        /// The file.
        file: Arc<File>,
        /// Where in the file.
        range: Range<u64>,
    },
}

impl ReceivedBody {
    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File { range, .. } => usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX),
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `into` with the bytes from `start` on.
    ///
    /// # Errors
    /// There are fewer, or the file cannot be read.
    pub fn read(&self, start: usize, into: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => {
                let part = bytes.get(start..).and_then(|rest| rest.get(..into.len()));
                into.copy_from_slice(part.ok_or(ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::File { file, range } => {
                let start = range.start + u64::try_from(start).map_err(io::Error::other)?;
                file.read_exact_at(into, start)
            }
        }
    }

    /// All of it, in memory.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn into_bytes(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::File { .. } => {
                let mut bytes = vec![0; self.len()];
                self.read(0, &mut bytes)?;
                Ok(bytes)
            }
        }
    }

    /// Makes it the file at `path`, or, if that fails, leaves what was there. When it returns, the file is on the disk.
    ///
    /// # Errors
    /// The folder cannot be written to or is full, or `path` is there and no regular file.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.is_file() => {
                return Err(io::Error::new(ErrorKind::InvalidInput, "it is there and no regular file"));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        // Its name is short, whatever the other one is.
        let part = folder.join(format!(".{:016x}.part", os_rng().next_u64()));
        let saved = self.write_new(&part).and_then(|()| std::fs::rename(&part, path));
        match saved {
            Ok(()) => File::open(folder)?.sync_all(),
            Err(error) => {
                let _ = std::fs::remove_file(&part);
                Err(error)
            }
        }
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut chunk = vec![0; self.len().min(CHUNK)];
        for start in (0..self.len()).step_by(CHUNK) {
            chunk.truncate(self.len() - start);
            self.read(start, &mut chunk)?;
            file.write_all(&chunk)?;
        }
        file.sync_all()
    }
}

#[cfg(test)]
mod tests;
