//! Descriptors 0 to 2 of a program that was started with some of them closed.
//!
//! Before `main`, Rust's runtime puts a `/dev/null` that can be read and written in place of each
//! closed one, so that no other file gets its number. What is written there is lost without an
//! error, and a closed standard input looks like an empty one; nothing tells it apart afterwards
//! from a `/dev/null` that the caller chose. So the places are filled before the runtime looks,
//! with `/dev/null` opened the wrong way round: reading standard input and writing standard output
//! fail with `EBADF`. What is written to standard error is for people who are not there.
//!
//! A program gets this by naming the crate: `use betanet_stdio as _;`.

use std::os::fd::{BorrowedFd, IntoRawFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, fcntl_getfd};

/// What a closed descriptor is replaced by, by its number.
const REPLACEMENTS: [OFlags; 3] = [OFlags::WRONLY, OFlags::RDONLY, OFlags::RDWR];

/// Run by the loader, after the C library is ready and before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static FILL: extern "C" fn() = fill;

extern "C" fn fill() {
    for (number, flags) in (0..).zip(REPLACEMENTS) {
        // SAFETY: the descriptor is only asked whether it is open, and "no" is an answer.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        if fcntl_getfd(descriptor) == Err(Errno::BADF) {
            // Gets the lowest free number, which is this one. Where there is no such device the
            // runtime finds the place empty and ends the process.
            if let Ok(open) = open(c"/dev/null", flags, Mode::empty()) {
                let _ = open.into_raw_fd();
            }
        }
    }
}
