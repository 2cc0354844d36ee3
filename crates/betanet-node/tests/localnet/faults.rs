//! Nodes that die, epochs that pass: nothing is lost and nothing comes twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::harness::{DEADLINE, Net, client, eventually, signal};

/// INV-LINK-11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deaths_and_new_epochs_lose_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--epoch", "3s", "--mean-delay", "5ms"];
    let net = Net::start(&dir.path().join("net"), &options);
    let alice = Arc::new(client(&net, &dir, "alice").await);
    let bob = Arc::new(client(&net, &dir, "bob").await);
    let to = bob.address();
    let first_epoch = alice.status().epoch;

    let receiver = {
        let bob = Arc::clone(&bob);
        tokio::spawn(async move {
            let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
            loop {
                let message = tokio::time::timeout(DEADLINE, bob.receive()).await.unwrap().unwrap();
                bob.commit(message.id).await.unwrap();
                let body = message.body.into_bytes().unwrap();
                if body == b"end" {
                    return seen;
                }
                let number = u32::from_be_bytes(body.try_into().unwrap());
                *seen.entry(number).or_default() += 1;
            }
        })
    };

    // Three epochs of steady traffic; meanwhile a middle node, an edge of the recipient and the
    // authority die and come back.
    let victims = ["middle-0", "authority", edge_of(&net, &to)];
    let mut sent = 0;
    for (past, victim) in (1..).zip(victims) {
        let before = net.state();
        signal(before.children[victim], "-KILL");
        while alice.status().epoch < first_epoch + past {
            let batch: Vec<_> = (0..8)
                .map(|_| {
                    let body = u32::to_be_bytes(sent).to_vec();
                    sent += 1;
                    let alice = Arc::clone(&alice);
                    let to = to.clone();
                    tokio::spawn(async move { alice.send(&to, body, 3).await })
                })
                .collect();
            for message in batch {
                message.await.unwrap().unwrap();
            }
        }
        eventually("the victim is back", async || {
            let now = net.state();
            now.children.get(victim).is_some_and(|pid| *pid != before.children[victim])
        })
        .await;
    }
    alice.send(&to, b"end".to_vec(), 3).await.unwrap();
    let seen = receiver.await.unwrap();
    // "end" may overtake; what is missing then comes after it.
    let mut seen = seen;
    while seen.len() < sent as usize {
        let message = tokio::time::timeout(DEADLINE, bob.receive()).await.unwrap().unwrap();
        bob.commit(message.id).await.unwrap();
        let number = u32::from_be_bytes(message.body.into_bytes().unwrap().try_into().unwrap());
        *seen.entry(number).or_default() += 1;
    }
    assert!((0..sent).eq(seen.keys().copied()));
    assert!(seen.values().all(|times| *times == 1), "a message came twice");
    alice.close().await;
    bob.close().await;
}

/// The name of a process that keeps one of the recipient's mailboxes.
fn edge_of(net: &Net, to: &betanet_mix::view::Address) -> &'static str {
    let edge = to.mailboxes()[0].edge;
    let file = net.file();
    let number = file.edges.iter().position(|endpoint| endpoint.id == edge).unwrap();
    // The bootstrap file lists entry nodes before exit nodes, each in order.
    ["entry-0", "entry-1", "exit-0", "exit-1"][number]
}
