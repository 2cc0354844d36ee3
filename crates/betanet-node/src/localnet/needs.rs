//! What a local network needs from its machine, looked at before any process is started. All that is
//! missing is said at once, each with what mends it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};

use super::LocalnetConfig;
use crate::state::{StateError, check_place, shell_word};

/// Bytes that the longest path below the network's folder has more than those of a node's folder.
const DEEPER: usize = 64;

/// How long a connection on this machine may take.
const CONNECT: Duration = Duration::from_secs(1);

/// Open files of a process: those that any needs, and those for each process of the net, of which a
/// node keeps an eighth of its files for links of other nodes.
const FILES: u64 = 64;
const FILES_PER_PROCESS: u64 = 8;

/// Files that only their owner may read.
const SECRETS: [&str; 3] = ["identity.key", "vrf.key", "epochs.json"];

/// What is missing, one sentence each.
pub(super) fn missing(config: &LocalnetConfig, processes: &[&str]) -> Vec<String> {
    let mut missing = Vec::new();
    match check_place(&config.dir, DEEPER) {
        // There is nothing to look into.
        Err(err @ StateError::NotFolder { .. }) => return vec![err.to_string()],
        Err(err) => missing.push(err.to_string()),
        Ok(()) => {}
    }
    let loopback = "bring the loopback interface up (ip link set lo up), or choose another of its addresses with --ip";
    missing.extend(address(config.ip, loopback));
    missing.extend(config.listen.and_then(|ip| address(ip, "choose one that `ip address` shows")));
    missing.extend(open_files(processes.len()));
    let folders: Vec<_> = processes.iter().map(|name| config.dir.join(name)).collect();
    if let Some(barrier) = barrier(&config.dir) {
        missing.push(format!(
            "{} cannot be reached, because {} may not be entered: choose another folder with --dir",
            config.dir.display(),
            barrier.display()
        ));
        return missing;
    }
    missing.extend(closed(&config.dir, &folders, refused));
    missing.extend(exposed(&config.dir, &folders));
    missing
}

/// Whether processes on `ip` reach each other.
fn address(ip: IpAddr, mend: &str) -> Option<String> {
    let reach = || -> io::Result<()> {
        let listener = TcpListener::bind(SocketAddr::new(ip, 0))?;
        TcpStream::connect_timeout(&listener.local_addr()?, CONNECT)?;
        Ok(())
    };
    let err = reach().err()?;
    Some(match err.kind() {
        ErrorKind::AddrNotAvailable => format!("this machine has no address {ip}: {mend}"),
        _ => format!("nothing on this machine is reached at {ip} ({err}): {mend}"),
    })
}

fn open_files(processes: usize) -> Option<String> {
    let needed = FILES + FILES_PER_PROCESS * u64::try_from(processes).unwrap_or(u64::MAX / FILES_PER_PROCESS);
    let limit = crate::process::open_files()?.maximum?;
    (limit < needed).then(|| {
        format!(
            "a process may have {limit} files open here, and a net of {processes} processes needs {needed}: \
             ulimit -n {needed}"
        )
    })
}

/// The first folder on the way to `dir` that may not be entered.
fn barrier(dir: &Path) -> Option<&Path> {
    let way: Vec<_> = dir.ancestors().skip(1).collect();
    way.into_iter().rev().find(|folder| access(*folder, Access::EXEC_OK) == Err(rustix::io::Errno::ACCESS))
}

/// Folders that their owner may not use: that of the net, or those in it.
fn closed(dir: &Path, folders: &[PathBuf], refused: impl Fn(&Path) -> bool) -> Option<String> {
    let own = refused(dir).then_some(dir);
    let closed: Vec<_> = match own {
        // What is in it cannot be seen.
        Some(dir) => vec![dir],
        None => folders.iter().map(PathBuf::as_path).filter(|folder| refused(folder)).collect(),
    };
    let (first, others) = closed.split_first()?;
    let words: Vec<_> = closed.iter().map(|folder| shell_word(folder)).collect();
    Some(format!("{}{} may not be used: chmod u+rwx {}", first.display(), also(others.len()), words.join(" ")))
}

/// Whether this process may not use a folder that is there.
fn refused(folder: &Path) -> bool {
    let mode = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    matches!(access(folder, mode), Err(err) if err != rustix::io::Errno::NOENT)
}

/// Secrets that others may read.
fn exposed(dir: &Path, folders: &[PathBuf]) -> Option<String> {
    let others_may = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o077 != 0);
    let files = folders.iter().flat_map(|folder| SECRETS.map(|name| folder.join(name)));
    let exposed: Vec<_> = files.filter(others_may).collect();
    let (first, others) = exposed.split_first()?;
    Some(format!(
        "{}{} holds a secret that others may read: chmod -R go-rwx {}",
        first.display(),
        also(others.len()),
        shell_word(dir)
    ))
}

fn also(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" (and {others} more)") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    #[test]
    fn a_folder_that_is_closed_is_named_and_not_what_cannot_be_seen_in_it() {
        let dir = Path::new("/a/my net");
        let folders = ["entry-0", "exit-0"].map(|name| dir.join(name));
        let said = |refused: &dyn Fn(&Path) -> bool| closed(dir, &folders, refused);
        assert_eq!(
            "/a/my net may not be used: chmod u+rwx '/a/my net'",
            said(&|folder| folder.starts_with(dir)).unwrap()
        );
        assert_eq!(
            "/a/my net/entry-0 (and 1 more) may not be used: chmod u+rwx '/a/my net/entry-0' '/a/my net/exit-0'",
            said(&|folder| folder != dir).unwrap()
        );
        assert_eq!(None, said(&|_| false));
    }
}
