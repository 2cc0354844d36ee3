//! More connections that say nothing than there are places: who has something to say gets through.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use betanet_node::daemon::NodeRecord;
use betanet_node::http;
use betanet_node::process::raise_open_files;
use betanet_node::state::read_json;

use crate::harness::{DEADLINE, Net, betanet, client, dropped, eventually, signal, take};

const SMALL: [&str; 10] = ["--entry", "1", "--middle", "1", "--exit", "1", "--epoch", "1h", "--mean-delay", "1ms"];

/// Open files that a process of the net may have.
const FILES: &str = "130";

/// Connections that say nothing, at each port: more than twice what its process may have open.
const SILENT: usize = 290;

/// Pause between two new connections in the place of those that were closed.
const AGAIN: Duration = Duration::from_millis(40);

fn silent(to: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect_timeout(&to, DEADLINE).unwrap();
    connection.set_nonblocking(true).unwrap();
    connection
}

fn is_open(connection: &mut TcpStream) -> bool {
    matches!(connection.read(&mut [0]), Err(err) if err.kind() == ErrorKind::WouldBlock)
}

/// Connections that say nothing and come again when they are closed.
struct Crowd {
    leaves: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    fn come(to: SocketAddr) -> Self {
        let leaves = Arc::new(AtomicBool::new(false));
        let mut connections: Vec<_> = (0..SILENT).map(|_| silent(to)).collect();
        let thread = std::thread::spawn({
            let leaves = Arc::clone(&leaves);
            move || {
                while !leaves.load(Ordering::Relaxed) {
                    if let Some(closed) = connections.iter_mut().find_map(|one| (!is_open(one)).then_some(one)) {
                        *closed = silent(to);
                    }
                    std::thread::sleep(AGAIN);
                }
            }
        });
        Self { leaves, thread: Some(thread) }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.leaves.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

fn lines(log: &Path) -> usize {
    std::fs::read_to_string(log).unwrap().lines().count()
}

/// INV-LINK-36
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_keep_nobody_out_under_a_low_limit() {
    raise_open_files().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("net");
    let mut command = Command::new("sh");
    command.args(["-c", &format!(r#"ulimit -n {FILES}; exec "$@""#), "sh"]).arg(betanet().get_program());
    let net = Net::start_as(command, &folder, &SMALL, Stdio::null());
    let record: NodeRecord = read_json(&folder.join("entry-0/node.json"), "record").unwrap().unwrap();
    let logs = ["authority", "entry-0"].map(|name| folder.join("logs").join(format!("{name}.log")));
    let before = logs.each_ref().map(|log| lines(log));

    // Those who came first go, and the last stay: again, should the machine stand still for so long
    // that all run out of time.
    let authority = net.file().authority.address.to_string().parse().unwrap();
    for port in [record.listens, authority, record.http_address] {
        eventually("the oldest give way to the newest", async || {
            let mut all: Vec<_> = (0..SILENT).map(|_| silent(port)).collect();
            eventually("the first goes", async || !is_open(&mut all[0])).await;
            let newest_first: Vec<_> = all.iter_mut().rev().map(is_open).collect();
            newest_first[0] && newest_first.is_sorted_by(|newer, older| newer >= older)
        })
        .await;
    }

    let crowds = [record.listens, authority, record.http_address].map(Crowd::come);
    let bob = client(&net, &dir, "bob").await;
    let alice = client(&net, &dir, "alice").await;
    alice.send(&bob.address(), b"past them all".to_vec(), 3).await.unwrap();
    assert_eq!(b"past them all".to_vec(), take(&bob).await);
    let place = dir.path().join("node");
    let mut node = betanet()
        .args(["node", "--http-port", "0", "--link-port", "0", "--dir"])
        .arg(&place)
        .arg("--bootstrap")
        .arg(net.bootstrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("a node that is new has got a consensus from the authority", async || {
        assert!(node.try_wait().unwrap().is_none(), "the node has ended");
        let Ok(Some(new)) = read_json::<NodeRecord>(&place.join("node.json"), "record") else { return false };
        let Ok((_, body)) = http::get(new.http_address, "/health").await else { return false };
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["epoch"].is_u64()
    })
    .await;
    signal(node.id(), "-TERM");
    assert_eq!(Some(0), node.wait().unwrap().code());

    assert_eq!(0, dropped(record.http_address, "accept_failed").await);
    assert!(dropped(record.http_address, "http_crowded").await > 0);
    assert!(dropped(record.http_address, "too_many_newcomers").await > 0);
    for (log, before) in logs.iter().zip(before) {
        let grown = lines(log) - before;
        assert!(grown < SILENT / 10, "{} lines more in {}", grown, log.display());
    }
    drop(crowds);
    alice.close().await;
    bob.close().await;
    assert_eq!(Some(0), net.terminate());
}
