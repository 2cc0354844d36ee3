//! Programs that are measured from outside, by what the kernel says of them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;

/// Ticks of `/proc` in a second; the same on every Linux that we run on.
const TICKS: f64 = 100.0;

/// How long a program may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(10);

/// A running program, which ends when this is dropped. It has to end at the end of its standard input.
#[derive(Debug)]
pub struct Child(std::process::Child);

impl Child {
    /// Starts a program, on one processor alone if one is named.
    ///
    /// # Errors
    /// It, or `taskset`, cannot be started.
    pub fn start(
        program: &Path,
        processor: Option<usize>,
        arguments: &[&OsStr],
        variables: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let mut command = match processor {
            // It becomes the program, which so keeps its process id.
            Some(processor) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(processor.to_string()).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).envs(variables.iter().copied());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        Ok(Self(child.map_err(|err| format!("cannot start {}: {err}", program.display()))?))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Kills it where it stands.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let until = Instant::now() + PATIENCE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(PAUSE);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where `betanet` is, if nobody says: beside the running program.
///
/// # Errors
/// It is not there.
pub fn betanet() -> Result<PathBuf, Failure> {
    let path = std::env::current_exe()?.with_file_name("betanet");
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("there is no {}: build betanet-node with the same profile, or give --betanet", path.display())
            .into())
    }
}

/// How long all threads of a process have run.
///
/// # Errors
/// There is no such process.
pub fn processor_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, which may hold anything, ends with the last bracket; user and system time are the fields 14 and 15.
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<u32> = behind_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    Ok(Duration::from_secs_f64(ticks.into_iter().map(f64::from).sum::<f64>() / TICKS))
}

/// Resident memory of a process, in MiB.
///
/// # Errors
/// There is no such process.
pub fn resident_mib(pid: u32) -> io::Result<f64> {
    memory_mib(pid, "VmRSS:")
}

/// The most resident memory that a process has had, in MiB.
///
/// # Errors
/// There is no such process.
pub fn peak_mib(pid: u32) -> io::Result<f64> {
    memory_mib(pid, "VmHWM:")
}

fn memory_mib(pid: u32, field: &str) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok());
    Ok(kib.unwrap_or(f64::NAN) / 1024.0)
}

/// Looks again and again until there is something to see.
///
/// # Errors
/// It takes more than half a minute.
pub async fn wait_for<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> Result<T, Failure> {
    let until = Instant::now() + 3 * PATIENCE;
    while Instant::now() < until {
        if let Some(seen) = look().await {
            return Ok(seen);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(format!("gave up waiting for {what}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_where_it_is_told_and_ends_with_its_input() {
        let child = Child::start(Path::new("cat"), Some(0), &[], &[]).unwrap();
        let pid = child.pid();
        // In this order: it goes on growing.
        let resident = resident_mib(pid).unwrap();
        assert!(resident > 0.0 && peak_mib(pid).unwrap() >= resident);
        assert!(processor_time(pid).unwrap() < PATIENCE);
        drop(child);
        assert!(processor_time(pid).is_err());
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let err = Child::start(Path::new("/nowhere/betanet"), None, &[], &[]).unwrap_err();
        assert!(err.to_string().contains("/nowhere/betanet"), "{err}");
    }
}
