//! Wall clocks that jump, and machines that stand still: what is on its way arrives all the same.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use betanet_node::clock::CLOCK_FILE;

use crate::harness::{Net, betanet, client, eventually, signal, take};

const DAY_S: i64 = 86_400;

const OPTIONS: [&str; 10] = ["--entry", "1", "--middle", "1", "--exit", "1", "--epoch", "3s", "--mean-delay", "5ms"];

/// A wall clock of the test's own, for the processes that are started under it.
struct WallClock {
    library: PathBuf,
    offset: PathBuf,
}

impl WallClock {
    /// `None` where there is no compiler to make it with.
    fn make(dir: &Path) -> Option<Self> {
        let clock = Self { library: dir.join("clockshim.so"), offset: dir.join("offset") };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/shims/wallclock.c");
        let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&clock.library).arg(source).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("skipped: cc does not make the library that sets clocks");
            return None;
        }
        clock.set(0);
        Some(clock)
    }

    fn set(&self, seconds: i64) {
        std::fs::write(&self.offset, seconds.to_string()).unwrap();
    }

    fn betanet(&self) -> Command {
        let mut command = betanet();
        command.env("LD_PRELOAD", &self.library).env("FAKE_CLOCK", &self.offset);
        command
    }

    fn start(&self, dir: &Path) -> Net {
        Net::start_as(self.betanet(), dir, &OPTIONS, Stdio::null())
    }

    /// Whether a client in a new folder, on a machine whose clock is so far off, gets a ping through.
    fn pings(&self, net: &Net, dir: &Path, seconds: i64) -> bool {
        self.set(seconds);
        let ping = self.betanet().args(["ping", "--net"]).arg(net.bootstrap()).arg("--dir").arg(dir).output().unwrap();
        ping.status.success()
    }
}

/// What a restart of the machine does to the notes of the time.
fn forget_boot(net: &Path) {
    for entry in std::fs::read_dir(net).unwrap() {
        let _ = std::fs::remove_file(entry.unwrap().path().join(CLOCK_FILE));
    }
}

/// INV-LINK-23
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_jump_while_it_runs_and_between_runs_lose_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let Some(wall) = WallClock::make(dir.path()) else { return };
    let folder = dir.path().join("net");
    let net = wall.start(&folder);
    let (alice, bob) = (client(&net, &dir, "alice").await, client(&net, &dir, "bob").await);
    let to = bob.address();
    for (seconds, victim) in [(30 * DAY_S, "authority"), (-3_600, "middle-0"), (1, "entry-0"), (-30 * DAY_S, "exit-0")]
    {
        wall.set(seconds);
        let before = net.state().children[victim];
        signal(before, "-KILL");
        eventually("the victim is back", async || net.state().children.get(victim).is_some_and(|pid| *pid != before))
            .await;
        let body = seconds.to_string().into_bytes();
        alice.send(&to, body.clone(), 3).await.unwrap();
        assert_eq!(body, take(&bob).await);
        // The network has kept its time, and this process' clock was right all along.
        eventually("nothing is wrong", async || alice.status().trouble.is_none()).await;
    }
    for seconds in [30 * DAY_S, -30 * DAY_S] {
        assert!(wall.pings(&net, &dir.path().join(format!("carol{seconds}")), seconds), "{seconds}");
    }

    // Stored while the recipient is away, and fetched after a start under another wrong clock.
    bob.close().await;
    alice.send(&to, b"kept".to_vec(), 3).await.unwrap();
    alice.close().await;
    assert_eq!(Some(0), net.terminate());
    wall.set(-30 * DAY_S);
    let mut net = wall.start(&folder);
    let bob = client(&net, &dir, "bob").await;
    assert_eq!(b"kept".to_vec(), take(&bob).await);
    bob.close().await;

    // The machine itself is started with a clock that is wrong, and once more when it is right.
    for (seconds, said) in [(30 * DAY_S, Some("this machine's clock is 30 d behind the network's: set it")), (0, None)]
    {
        assert_eq!(Some(0), net.terminate());
        forget_boot(&folder);
        wall.set(seconds);
        net = wall.start(&folder);
        let (alice, bob) = (client(&net, &dir, "alice").await, client(&net, &dir, "bob").await);
        eventually("it is said who is wrong", async || alice.status().trouble.as_deref() == said).await;
        alice.send(&to, b"again".to_vec(), 3).await.unwrap();
        assert_eq!(b"again".to_vec(), take(&bob).await);
        alice.close().await;
        bob.close().await;
    }
    assert_eq!(Some(0), net.terminate());
}

/// INV-DELAY-13: a machine that slept for epochs, or nodes that did, and a message in hand meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_were_suspended_for_epochs_carry_messages_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("net");
    let net = Net::start(&folder, &OPTIONS);
    let alice = Arc::new(client(&net, &dir, "alice").await);
    let bob = client(&net, &dir, "bob").await;
    let to = bob.address();
    let nodes: Vec<u32> =
        net.state().children.into_iter().filter(|(name, _)| name != "authority").map(|(_, pid)| pid).collect();
    for pid in &nodes {
        signal(*pid, "-STOP");
    }
    let in_hand = {
        let (alice, to) = (Arc::clone(&alice), to.clone());
        tokio::spawn(async move { alice.send(&to, b"in hand".to_vec(), 3).await })
    };
    eventually("the network is dead, and status says so", async || {
        alice.status().trouble.is_some_and(|line| line.contains("no valid consensus for"))
    })
    .await;
    for pid in &nodes {
        signal(*pid, "-CONT");
    }
    in_hand.await.unwrap().unwrap();
    assert_eq!(b"in hand".to_vec(), take(&bob).await);
    eventually("all nodes are listed again", async || {
        let status = alice.status();
        status.trouble.is_none() && status.entry_nodes + status.middle_nodes + status.exit_nodes == nodes.len()
    })
    .await;
    alice.close().await;
    bob.close().await;
    assert_eq!(Some(0), net.terminate());
}
