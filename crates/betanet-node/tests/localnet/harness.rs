//! Starts networks and looks at them. Every process is ended by its id when its owner is dropped.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use betanet_node::client::{Client, ClientConfig};
use betanet_node::http;
use betanet_node::localnet::{LocalnetState, STATE_FILE};
use betanet_node::net::NET_FILE;
use betanet_node::net::NetFile;
use betanet_node::state::read_json;
use tempfile::TempDir;

/// No condition in these tests takes longer, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(10);

/// The program under test.
pub(crate) fn betanet() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_betanet"));
    for name in ["NODE_TYPE", "NODE_PORT", "LINK_PORT", "PIPELINE_WORKERS"] {
        command.env_remove(name);
    }
    command
}

/// A running local network.
pub(crate) struct Net {
    process: Child,
    dir: PathBuf,
}

impl Net {
    /// Starts a network in `dir` and waits until it is ready.
    pub(crate) fn start(dir: &Path, options: &[&str]) -> Self {
        Self::start_with(dir, options, Stdio::null())
    }

    /// As [`Net::start`]; the owner's log goes to `log`.
    pub(crate) fn start_with(dir: &Path, options: &[&str], log: Stdio) -> Self {
        Self::start_as(betanet(), dir, options, log)
    }

    /// As [`Net::start_with`], by a command that has been prepared.
    pub(crate) fn start_as(mut betanet: Command, dir: &Path, options: &[&str], log: Stdio) -> Self {
        let mut process = betanet
            .args(["localnet", "run", "--json", "--exact-metrics", "--dir"])
            .arg(dir)
            .args(options)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let out = process.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let net = Self { process, dir: dir.to_owned() };
        let first = lines.recv_timeout(DEADLINE).unwrap();
        assert!(first.contains(r#""event":"ready""#), "{first}");
        net
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The owner's log, if it is a pipe.
    pub(crate) fn log(&mut self) -> ChildStderr {
        self.process.stderr.take().unwrap()
    }

    pub(crate) fn bootstrap(&self) -> PathBuf {
        self.dir.join(NET_FILE)
    }

    pub(crate) fn file(&self) -> NetFile {
        NetFile::read(&self.bootstrap()).unwrap()
    }

    pub(crate) fn state(&self) -> LocalnetState {
        read_json(&self.dir.join(STATE_FILE), "state").unwrap().unwrap()
    }

    /// Packets that all nodes together have unwrapped.
    pub(crate) async fn processed(&self) -> u64 {
        let mut sum = 0;
        for address in self.file().http.values() {
            let (status, text) = http::get(*address, "/metrics").await.unwrap();
            assert_eq!(200, status);
            let line = text.lines().find(|line| line.starts_with("betanet_packets_processed_total")).unwrap();
            sum += line.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
        }
        sum
    }

    /// Ends the owner with SIGKILL and reaps it.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Ends the owner in order; its exit code.
    pub(crate) fn terminate(self) -> Option<i32> {
        signal(self.id(), "-TERM");
        self.wait()
    }

    /// Waits for the end of the owner; its exit code.
    pub(crate) fn wait(mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < DEADLINE, "the network did not stop");
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // The kernel ends the children with their owner.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Packets that a node has dropped for a reason.
pub(crate) async fn dropped(http: SocketAddr, reason: &str) -> u64 {
    let (_, text) = http::get(http, "/metrics").await.unwrap();
    let series = format!("betanet_packets_dropped_total{{reason=\"{reason}\"}}");
    let line = text.lines().find(|line| line.starts_with(&series)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Whether a process exists and is no zombie.
pub(crate) fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < DEADLINE, "{what} never came true");
        tokio::time::sleep(POLL).await;
    }
}

/// A client with a folder of its own.
pub(crate) async fn client(net: &Net, dir: &TempDir, name: &str) -> Client {
    let config = ClientConfig::new(dir.path().join(name), net.bootstrap());
    Client::open(config).await.unwrap()
}

/// Receives and commits one message.
pub(crate) async fn take(client: &Client) -> Vec<u8> {
    let message = tokio::time::timeout(DEADLINE, client.receive()).await.unwrap().unwrap();
    client.commit(message.id).await.unwrap();
    message.body.into_bytes().unwrap()
}
