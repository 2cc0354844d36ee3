//! One supervised process.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{ChildStdin, Command};
use tokio::sync::watch;

use crate::bounded::read_at_most;
use crate::process::shut_down;
use crate::state::NEVER_WAIT;

/// How long a process gets to end in order.
const DRAIN: Duration = Duration::from_secs(5);

/// First and longest pause before a restart.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A process that ran this long starts again with the shortest pause.
const STEADY: Duration = Duration::from_secs(10);

/// Bytes of a log file before it is started anew.
const LOG_LIMIT: u64 = 1024 * 1024;

/// Bytes at the end of a log that are looked at, and characters of its last line that are told.
const TAIL: u64 = 16 * 1024;
const WORDS: usize = 500;

/// What to run.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) log: PathBuf,
}

impl Spec {
    /// Starts the process. Its standard input is a pipe whose end tells it that we are gone.
    fn spawn(&self) -> io::Result<Process> {
        // A restart must not wipe out the reason for it, and a loop of them must not fill the disk.
        if std::fs::metadata(&self.log).is_ok_and(|log| log.len() > LOG_LIMIT) {
            std::fs::remove_file(&self.log)?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        for (name, value) in loader_variables(std::env::vars_os()) {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_one_process(name)) {
            command.env_remove(name);
        }
        let mut child = command
            .arg0("betanet")
            .args(&self.arguments)
            // Always there, and without files of a stranger.
            .current_dir("/")
            // What a terminal sends is for the owner, who then ends them in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        // Waiting for a process closes the pipe that it still holds.
        let lifeline = child.stdin.take();
        Ok(Process { child, _lifeline: lifeline })
    }
}

/// Whether a variable is a setting of a node or an authority, which a whole network has of its own.
fn is_of_one_process(name: &OsStr) -> bool {
    ["NODE_", "AUTHORITY_"].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
}

/// The variables that change what the loader does, as a child gets them: what somebody puts in front
/// on purpose, and libraries from folders that are the same wherever the process stands.
fn loader_variables(all: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, Option<OsString>)> {
    let absolute = |folders: &OsString| {
        let folders: Vec<_> = std::env::split_paths(folders).filter(|folder| folder.is_absolute()).collect();
        std::env::join_paths(folders).ok().filter(|folders| !folders.is_empty())
    };
    all.filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LD_"))
        .map(|(name, value)| {
            let passed = match name.as_encoded_bytes() {
                b"LD_PRELOAD" => Some(value),
                b"LD_LIBRARY_PATH" => absolute(&value),
                _ => None,
            };
            (name, passed)
        })
        .collect()
}

/// Why a process ended, as its log says at the end.
pub(super) fn last_words(log: &Path) -> String {
    let tail = || {
        let mut file = OpenOptions::new().read(true).custom_flags(NEVER_WAIT).open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        read_at_most(file.take(TAIL), usize::MAX)
    };
    let tail = tail().unwrap_or_default();
    reason(&String::from_utf8_lossy(&tail))
}

/// The line of a log's end that says why: a complaint, what a panic says, or else the last.
fn reason(tail: &str) -> String {
    let complaint = |line: &&str| line.starts_with("betanet: ") || line.starts_with("error: ");
    let panic = || tail.lines().skip_while(|line| !line.contains(" panicked at ")).nth(1);
    let last = tail.lines().rfind(complaint).or_else(panic).or_else(|| tail.lines().last());
    let words = last.unwrap_or("its log is empty");
    words.trim_start_matches("betanet: ").trim_start_matches("error: ").chars().take(WORDS).collect()
}

#[derive(Debug)]
struct Process {
    child: tokio::process::Child,
    _lifeline: Option<ChildStdin>,
}

/// A process that is started again when it dies.
#[derive(Debug)]
pub(super) struct Child {
    spec: Spec,
    process: Process,
    pid: watch::Sender<Option<u32>>,
    deaths: Arc<AtomicU32>,
}

impl Child {
    pub(super) fn start(spec: Spec) -> io::Result<Self> {
        let process = spec.spawn()?;
        let pid = watch::Sender::new(process.child.id());
        Ok(Self { spec, process, pid, deaths: Arc::default() })
    }

    /// The id of the running process; changes with every restart.
    pub(super) fn pid(&self) -> watch::Receiver<Option<u32>> {
        self.pid.subscribe()
    }

    /// How often it died so far.
    pub(super) fn deaths(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.deaths)
    }

    /// Keeps the process running until `stop` is given, then ends it.
    pub(super) async fn supervise(mut self, name: String, stop: watch::Receiver<bool>) {
        let mut pause = BACK_OFF.0;
        loop {
            let up = Instant::now();
            let status = tokio::select! {
                status = self.process.child.wait() => status,
                () = shut_down(stop.clone()) => {
                    self.end().await;
                    return;
                }
            };
            self.pid.send_replace(None);
            self.deaths.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(part = %name, status = %describe(status), "child.died");
            if up.elapsed() > STEADY {
                pause = BACK_OFF.0;
            }
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shut_down(stop.clone()) => return,
                }
                pause = (pause * 2).min(BACK_OFF.1);
                match self.spec.spawn() {
                    Ok(process) => {
                        self.pid.send_replace(process.child.id());
                        self.process = process;
                        break;
                    }
                    Err(err) => tracing::error!(part = %name, error = %err, "child.not_started"),
                }
            }
        }
    }

    async fn end(&mut self) {
        let pid = self.process.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself; it is not reaped before `wait`, so the id is still its.
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(DRAIN, self.process.child.wait()).await.is_err() {
            let _ = self.process.child.kill().await;
        }
    }
}

fn describe(status: io::Result<std::process::ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(err) => err.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_reason_and_not_what_surrounds_it() {
        let panic = "thread 'main' (7) panicked at src/a.rs:1:2:\nno thread\nstack backtrace:\n  0: x\nnote: see\n";
        for (text, words) in [
            ("", "its log is empty"),
            ("one\ntwo\n", "two"),
            ("betanet: no port\nthen\n", "no port"),
            (panic, "no thread"),
            (&format!("{panic}betanet: no port\n"), "no port"),
        ] {
            assert_eq!(words, reason(text), "{text}");
        }
    }

    #[test]
    fn the_loader_of_a_child_looks_nowhere_near_the_current_folder() {
        let given = [
            ("LD_LIBRARY_PATH", "/a::lib:/b:."),
            ("LD_PRELOAD", "libfast.so"),
            ("LD_AUDIT", "/a/audit.so"),
            ("LDFLAGS", "-g"),
        ];
        let passed = loader_variables(given.map(|(name, value)| (name.into(), value.into())).into_iter());
        let expected = [("LD_LIBRARY_PATH", Some("/a:/b")), ("LD_PRELOAD", Some("libfast.so")), ("LD_AUDIT", None)];
        assert_eq!(expected.map(|(name, value)| (name.into(), value.map(OsString::from))).to_vec(), passed);
        let relative = [("LD_LIBRARY_PATH".into(), "lib:".into())];
        assert_eq!(vec![("LD_LIBRARY_PATH".into(), None)], loader_variables(relative.into_iter()));
    }
}
