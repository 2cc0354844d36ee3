//! Processes that end with their owner, and signals that end them in order.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::bounded::read_at_most;

/// Bytes of what the kernel says about a process.
const STATUS_LIMIT: usize = 64 * 1024;

/// Links open at once, at most.
const LINKS: u64 = 4096;

/// HTTP connections open at once, at most.
const HTTP: u64 = 32;

/// Open files that a process may have where the kernel does not say how many.
const USUAL_FILES: u64 = 1024;

/// Raises the number of files that this process may have open as far as it may: the usual limit is
/// small, and a link takes one each.
///
/// # Errors
/// The kernel refuses.
pub fn raise_open_files() -> std::io::Result<()> {
    let Some(Rlimit { maximum, .. }) = open_files() else { return Ok(()) };
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Incoming links that a process may have open at once. Half of its files are kept for all else, so
/// that strangers who hold every place do not keep it from its disk and its neighbours.
#[must_use]
pub fn link_places() -> usize {
    places_of(own_files(), 2, LINKS)
}

fn own_files() -> Option<u64> {
    open_files().map_or(Some(USUAL_FILES), |limit| limit.current)
}

/// How many files this process may have open. Sandboxes refuse the call that asks, whose wrapper
/// takes it for one that cannot fail; the file that says the same is not refused.
pub(crate) fn open_files() -> Option<Rlimit> {
    let text = File::open("/proc/self/limits").and_then(|file| read_at_most(file, STATUS_LIMIT)).ok()?;
    limit_of_files(&String::from_utf8_lossy(&text))
}

fn limit_of_files(limits: &str) -> Option<Rlimit> {
    let mut words = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace();
    let mut next = || match words.next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some(Rlimit { current: next()?, maximum: next()? })
}

/// HTTP connections that a process may have open at once: a sixteenth of its files.
#[must_use]
pub fn http_places() -> usize {
    places_of(own_files(), 16, HTTP)
}

fn places_of(open_files: Option<u64>, part: u64, most: u64) -> usize {
    let places = open_files.map_or(most, |limit| (limit / part).clamp(1, most));
    usize::try_from(places).unwrap_or(usize::MAX)
}

/// Asks the kernel to kill this process when its parent dies.
///
/// Call it first thing in `main`, on the main thread: the kernel ties the request to the thread
/// that makes it. The parent's spawning *thread* counts, so owners spawn from a thread that lives
/// as long as they do.
///
/// Sandboxes refuse the request; the end of standard input, which only the parent holds, then says
/// the same a little later ([`shutdown_signal`]).
///
/// # Errors
/// The parent is already gone.
pub fn die_with_parent() -> std::io::Result<()> {
    let before = getppid();
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // The parent may have died before the request took effect.
    if before.is_none() || getppid() != before {
        return Err(std::io::Error::other("the parent process is gone"));
    }
    Ok(())
}

/// Resolves once when this process should end in order: SIGTERM, SIGINT, SIGHUP unless it was ignored
/// when the process was started (as `nohup` does), or (with
/// `watch_stdin`) the end of a standard input that is a pipe. A second signal ends it at once.
///
/// A file that reaches the process's size limit is from here on an error of the write, like a full
/// disk, and not the end of the process.
///
/// # Errors
/// Signal handlers cannot be installed.
pub fn shutdown_signal(watch_stdin: bool) -> std::io::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = if is_ignored(Signal::HUP) { None } else { Some(signal(SignalKind::hangup())?) };
    // The handler stays when its receiver goes.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
    if watch_stdin && stdin_is_pipe() {
        let sender = sender.clone();
        std::thread::Builder::new().name("stdin-watch".into()).spawn(move || {
            let mut stdin = std::io::stdin().lock();
            let mut sink = [0; 256];
            while matches!(stdin.read(&mut sink), Ok(read) if read > 0) {}
            let _ = sender.send(true);
        })?;
    }
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
                Some(()) = async { hangup.as_mut()?.recv().await } => 129,
            }
        };
        let code = next().await;
        let _ = sender.send(true);
        next().await;
        std::process::exit(code);
    });
    Ok(receiver)
}

/// Whether whoever started this process had it ignore `signal`; no, where that cannot be told.
fn is_ignored(signal: Signal) -> bool {
    let status = File::open("/proc/self/status").and_then(|file| read_at_most(file, STATUS_LIMIT)).unwrap_or_default();
    ignored(&String::from_utf8_lossy(&status)) & (1 << (signal.as_raw() - 1)) != 0
}

/// The set of ignored signals in a process's status, one bit each.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Waits until the signal is given (or its source is gone).
pub async fn shut_down(mut signal: watch::Receiver<bool>) {
    let _ = signal.wait_for(|ended| *ended).await;
}

/// A pipe tells of its writer's end; a terminal, a file or `/dev/null` says nothing.
fn stdin_is_pipe() -> bool {
    rustix::fs::fstat(std::io::stdin().as_fd())
        .is_ok_and(|stat| matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_told_from_others() {
        assert_eq!(0b1001, ignored("Name:\tbetanet\nSigIgn:\t0000000000000009\nSigCgt:\t0000000000000002\n"));
        assert_eq!(0, ignored("SigCgt:\t0000000000000001\n"));
    }

    /// INV-LINK-36
    #[test]
    fn connections_get_a_part_of_the_files() {
        assert_eq!(4096, places_of(None, 2, LINKS));
        assert_eq!(4096, places_of(Some(1_048_576), 2, LINKS));
        assert_eq!(512, places_of(Some(1024), 2, LINKS));
        assert_eq!([32, 11, 1], [1024, 180, 9].map(|files| places_of(Some(files), 16, HTTP)));
        assert_eq!(1, places_of(Some(0), 2, LINKS));
    }

    #[test]
    fn the_limit_of_open_files_is_read_from_what_the_kernel_says() {
        let limits =
            "Max processes   95   unlimited   processes\nMax open files            900      unlimited    files\n";
        assert_eq!(Some(Rlimit { current: Some(900), maximum: None }), limit_of_files(limits));
        assert_eq!(None, limit_of_files("Max open files 900"));
        assert_eq!(None, limit_of_files("Max open files many more files"));
        assert_eq!(None, limit_of_files(""));
    }
}
