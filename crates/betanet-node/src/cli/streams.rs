//! Standard input and output, without the library's habit of calling a closed one empty or written.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fdatasync, fstat};
use rustix::io::Errno;

/// A descriptor as it is.
struct Direct<'a>(BorrowedFd<'a>);

impl Read for Direct<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, buffer)?)
    }
}

impl Write for Direct<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard input; reading from one that is closed fails.
pub(super) fn input() -> impl Read {
    Input(io::stdin())
}

struct Input(io::Stdin);

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Direct(self.0.as_fd()).read(buffer).map_err(closed)
    }
}

/// Writes to standard output. When it returns, the bytes are where they should be: whoever reads
/// them has room for them, or they are on the disk, which only then can have run full.
///
/// # Errors
/// It is closed, full, or nobody reads it.
pub(super) fn write_output(bytes: &[u8]) -> io::Result<()> {
    let stdout = io::stdout();
    let stdout = stdout.as_fd();
    Direct(stdout).write_all(bytes).map_err(closed)?;
    let kind = fstat(stdout).map(|stat| FileType::from_raw_mode(stat.st_mode));
    match kind {
        Ok(FileType::RegularFile) => match fdatasync(stdout) {
            // A file system that cannot be asked.
            Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
            synced => Ok(synced?),
        },
        _ => Ok(()),
    }
}

/// Whether there is a standard output at all; asked before anything is done whose outcome would
/// then be lost.
///
/// # Errors
/// It is closed.
pub(super) fn check_output() -> io::Result<()> {
    let flags = fcntl_getfl(io::stdout()).map_err(|errno| closed(errno.into()))?;
    if flags & OFlags::RWMODE == OFlags::RDONLY { Err(closed(Errno::BADF.into())) } else { Ok(()) }
}

/// Says of a closed descriptor what it is.
fn closed(err: io::Error) -> io::Error {
    match Errno::from_io_error(&err) {
        Some(Errno::BADF) => io::Error::new(ErrorKind::NotConnected, "it is closed"),
        _ => err,
    }
}
