//! Reading with a limit: nothing that is read to its end may be endless.

use std::fs::File;
use std::io::{self, ErrorKind, Read};

use rustix::io::Errno;
use zeroize::Zeroizing;

/// Bytes of a file of ours, whichever: no kind gets longer, the documents of a full network included.
pub(crate) const FILE_LIMIT: usize = 64 * 1024 * 1024;

/// A number of bytes, for people.
pub(crate) fn size(bytes: usize) -> String {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    match bytes {
        _ if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} bytes"),
    }
}

/// Reads to the end, which has to come within `limit` bytes: one more is all that is read.
///
/// # Errors
/// [`ErrorKind::FileTooLarge`] if there is more; what the source says otherwise.
pub(crate) fn read_at_most(source: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fill(source, limit, &mut bytes)?;
    Ok(bytes)
}

/// As [`read_at_most`], for an open file of ours: anything but a regular one is refused.
///
/// # Errors
/// It is none, is too large, or cannot be read.
pub(crate) fn read_regular(file: &mut File, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    // With room for all of it, no copy is left behind where the buffer grew.
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(limit);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
    fill(file, limit, &mut bytes)?;
    Ok(bytes)
}

/// Nothing where what was to be read is not there or is none of ours.
///
/// # Errors
/// It may well be there: files or memory are short, and the next attempt may tell.
pub(crate) fn there<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(err) if is_passing(&err) => Err(err),
        read => Ok(read.ok()),
    }
}

/// Whether an error is about what the process or the machine has left, and says nothing of the file.
pub(crate) fn is_passing(err: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error).map(Some).contains(&err.raw_os_error())
}

fn fill(source: impl Read, limit: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    #[expect(clippy::disallowed_methods, reason = "this is where the limit is set")]
    let read = source.take(one_more).read_to_end(bytes)?;
    if read > limit {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {}", size(limit))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    /// Counts what is taken from it and never ends.
    struct Endless(usize);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += buffer.len();
            Ok(buffer.len())
        }
    }

    #[test]
    fn one_byte_more_than_the_limit_is_read_and_no_more() {
        let mut endless = Endless(0);
        let err = read_at_most(&mut endless, 70_000).unwrap_err();
        assert_eq!((ErrorKind::FileTooLarge, 70_001), (err.kind(), endless.0));
        assert!(err.to_string().contains("70000 bytes"), "{err}");
    }

    #[test]
    fn what_just_fits_is_whole() {
        for len in [0, 1, 499, 500] {
            assert_eq!(vec![7; len], read_at_most(&*vec![7; len], 500).unwrap());
        }
        assert!(read_at_most(&*vec![7; 501], 500).is_err());
    }

    /// INV-LINK-87
    #[test]
    fn what_cannot_be_read_for_want_of_files_or_memory_is_not_missing() {
        for passing in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert_eq!(Some(passing.raw_os_error()), there::<()>(Err(passing.into())).unwrap_err().raw_os_error());
        }
        for absent in [Errno::NOENT, Errno::ACCESS, Errno::NXIO, Errno::ISDIR, Errno::IO] {
            assert!(matches!(there::<()>(Err(absent.into())), Ok(None)));
        }
        assert!(matches!(there::<()>(Err(ErrorKind::InvalidData.into())), Ok(None)));
        assert!(matches!(there(Ok(5)), Ok(Some(5))));
    }

    #[test]
    fn sizes_are_said_in_the_largest_unit_that_fits() {
        assert_eq!(
            ["0 bytes", "1000 bytes", "3 KiB", "64 MiB"],
            [0, 1000, 3072, 64 << 20].map(size).each_ref().map(String::as_str)
        );
    }
}
