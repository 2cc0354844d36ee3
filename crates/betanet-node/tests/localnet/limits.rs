//! Files that cannot be written or opened, a log that goes nowhere: the processes go on.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use betanet_node::daemon::NodeRecord;
use betanet_node::http;
use betanet_node::state::read_json;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::harness::{Net, betanet, eventually, runs, signal};

/// Sets the soft limit of a process, or lifts it; the hard one stays as it was inherited.
fn limit(pid: u32, resource: Resource, current: Option<u64>) {
    let maximum = getrlimit(resource).maximum;
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    prlimit(pid, resource, Rlimit { current: current.or(maximum), maximum }).unwrap();
}

async fn status(net: &Net, node: &str) -> Option<u16> {
    http::get(net.file().http[node], "/health").await.ok().map(|(status, _)| status)
}

/// Lines in the log that tell of `event`.
fn told(log: &Path, event: &str) -> usize {
    std::fs::read_to_string(log).unwrap().lines().filter(|line| line.contains(event)).count()
}

/// INV-LINK-14 INV-LINK-87
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_cannot_write_go_on_and_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("net");
    let options = ["--entry", "1", "--middle", "1", "--exit", "1", "--epoch", "3s", "--mean-delay", "5ms"];
    let mut net = Net::start_with(&folder, &options, Stdio::piped());
    let node = "middle-0";
    let pid = net.state().children[node];

    // As a full disk: no file may grow.
    limit(pid, Resource::Fsize, Some(0));
    eventually("the node says that it is not ready", async || status(&net, node).await == Some(503)).await;
    limit(pid, Resource::Fsize, None);
    eventually("the node is ready again", async || status(&net, node).await == Some(200)).await;

    // As if strangers held all of its files.
    let log = folder.join("logs").join("middle-0.log");
    let before = told(&log, "state.not_saved");
    limit(pid, Resource::Nofile, Some(0));
    eventually("the node says it in its log", async || told(&log, "state.not_saved") > before).await;
    limit(pid, Resource::Nofile, None);
    eventually("the node is ready again", async || status(&net, node).await == Some(200)).await;
    assert_eq!(pid, net.state().children[node]);
    // It could not ask for the name of its boot meanwhile, which is the same.
    assert_eq!(0, told(&log, "keys.forgotten"));

    // The owner itself has something to write when a child dies.
    let owner = net.id();
    limit(owner, Resource::Fsize, Some(0));
    signal(pid, "-KILL");
    let mut lines = BufReader::new(net.log()).lines().map_while(Result::ok);
    lines.find(|line| line.contains("state.not_saved")).unwrap();
    limit(owner, Resource::Fsize, None);
    eventually("the child is back and written down", async || {
        let now = net.state().children.get(node).copied();
        now.is_some_and(|now| now != pid && runs(now)) && status(&net, node).await == Some(200)
    })
    .await;
    assert!(runs(owner));
}

/// A node whose log goes nowhere works; it tells its figures on loopback, wherever its links are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_line_that_cannot_be_written_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::start(&dir.path().join("net"), &["--entry", "1", "--middle", "1", "--exit", "1"]);
    let folder = dir.path().join("node");
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut node = betanet()
        .args(["node", "--http-port", "0", "--listen", "127.0.0.2:0", "--dir"])
        .arg(&folder)
        .arg("--bootstrap")
        .arg(net.bootstrap())
        .stderr(full)
        .spawn()
        .unwrap();
    eventually("the node has logged that it holds a consensus", async || {
        assert!(node.try_wait().unwrap().is_none(), "the node has ended");
        let Ok(Some(record)) = read_json::<NodeRecord>(&folder.join("node.json"), "record") else { return false };
        assert_eq!(
            ("127.0.0.2", "127.0.0.1"),
            (record.listens.ip().to_string().as_str(), record.http_address.ip().to_string().as_str(),)
        );
        let Ok((_, body)) = http::get(record.http_address, "/health").await else { return false };
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["epoch"].is_u64()
    })
    .await;
    signal(node.id(), "-TERM");
    assert_eq!(Some(0), node.wait().unwrap().code());
}
