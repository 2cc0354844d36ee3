//! Owners and children: who dies with whom, and what comes back.

use crate::harness::{Net, client, eventually, runs, take};

/// INV-LINK-12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_network_leaves_nothing_running_and_resumes_as_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("net");
    let options = ["--middle", "1", "--entry", "2", "--exit", "1", "--mean-delay", "5ms"];
    let net = Net::start(&folder, &options);
    let before = net.file();
    let alice = client(&net, &dir, "alice").await;
    let bob = client(&net, &dir, "bob").await;
    let to = bob.address();
    bob.close().await;
    // Stored at an edge while the recipient is away.
    alice.send(&to, b"kept".to_vec(), 3).await.unwrap();
    alice.close().await;

    let pids: Vec<u32> = net.state().children.into_values().collect();
    assert_eq!(5, pids.len());
    net.kill();
    eventually("all children are gone", async || pids.iter().all(|pid| !runs(*pid))).await;

    let net = Net::start(&folder, &options);
    let after = net.file();
    assert_eq!(before.authority.id, after.authority.id);
    let ids = |file: &betanet_node::net::NetFile| -> Vec<_> { file.edges.iter().map(|edge| edge.id).collect() };
    assert_eq!(ids(&before), ids(&after));
    let bob = client(&net, &dir, "bob").await;
    assert_eq!(to, bob.address());
    assert_eq!(b"kept".to_vec(), take(&bob).await);
    bob.close().await;
    assert_eq!(Some(0), net.terminate());
}
