//! Nodes prove their delays, epoch after epoch, and go on doing so when they are killed.

use std::collections::{BTreeMap, BTreeSet};

use betanet_mix::epoch::Epoch;
use betanet_mix::view::{Beacon, Consensus, Signed};
use betanet_node::state::read_json;

use crate::harness::{Net, eventually, signal};

/// INV-DELAY-11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_proves_its_delays_also_one_that_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("net");
    let net = Net::start(&folder, &["--middle", "1", "--epoch", "3s", "--mean-delay", "5ms"]);
    let authority = net.file().authority.id;
    let nodes = net.file().http.len();
    let first = net.state();
    let victim = "middle-0";

    // What one node that is not touched holds tells all: beacons, keys, proofs.
    let mut beacons: BTreeMap<Epoch, Beacon> = BTreeMap::new();
    let mut proved: BTreeMap<Epoch, BTreeSet<_>> = BTreeMap::new();
    let mut killed = false;
    eventually("all nodes have proved two epochs that the victim was killed after", async || {
        let Ok(Some(documents)) = read_json::<Vec<Signed>>(&folder.join("entry-0").join("consensus.json"), "cache")
        else {
            return false;
        };
        for document in documents {
            let consensus = document.verify::<Consensus>(&[authority], 1).unwrap();
            assert!(consensus.delays.left_out.is_empty(), "{:?}", consensus.delays.left_out);
            assert_eq!(consensus.delays.beacon, *beacons.entry(consensus.epoch).or_insert(consensus.delays.beacon));
            beacons.entry(consensus.epoch.next()).or_insert(consensus.next_beacon());
            for node in &consensus.nodes {
                for proof in &node.delay_proofs {
                    if let Some(beacon) = beacons.get(&proof.epoch) {
                        proof.verify(&node.vrf_key, beacon).unwrap();
                        proved.entry(proof.epoch).or_default().insert(node.id);
                    }
                }
            }
        }
        let whole = proved.values().filter(|ids| ids.len() == nodes).count();
        if whole >= 1 && !killed {
            signal(first.children[victim], "-KILL");
            killed = true;
        }
        whole >= 4
    })
    .await;
    assert_ne!(first.children[victim], net.state().children[victim]);
    assert_eq!(Some(0), net.terminate());
}
