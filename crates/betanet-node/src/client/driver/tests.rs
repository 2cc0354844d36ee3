#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

use std::sync::atomic::{AtomicU64, Ordering};

use betanet_mix::epoch::Epoch;
use betanet_mix::view::{Consensus, DelaySection, Signed, Verified};
use ed25519_dalek::SigningKey;

use super::*;
use crate::net::{Endpoint, NetFile};
use crate::views::Views;

const EPOCH_MS: u64 = 20_000;
const EPOCH: Epoch = Epoch(100);
/// The middle of the epoch.
const NOW_MS: u64 = EPOCH.0 * EPOCH_MS + EPOCH_MS / 2;

fn authority() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn consensus() -> Signed {
    let start = EPOCH.0 * EPOCH_MS;
    let consensus = Consensus {
        network: "test".into(),
        epoch: EPOCH,
        revision: 0,
        epoch_length_ms: EPOCH_MS,
        skew_ms: 2_000,
        mean_delay_ms: 15,
        valid_after_ms: start,
        fresh_until_ms: start + EPOCH_MS,
        valid_until_ms: start + 2 * EPOCH_MS,
        previous_hash: ConsensusHash::default(),
        one_operator: true,
        delays: DelaySection::default(),
        nodes: Vec::new(),
    };
    Verified::sign(consensus, &authority()).unwrap().signed().clone()
}

/// A driver without links, its folder, and the wall clock that it sees.
fn driver() -> (Driver, tempfile::TempDir, Arc<AtomicU64>) {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = |number| Endpoint {
        id: NodeId::from(SigningKey::from_bytes(&[number; 32]).verifying_key().to_bytes()),
        address: ([127, 0, 0, 1], 1).into(),
    };
    let net = NetFile {
        network: "test".into(),
        authority: Endpoint { id: NodeId::from(authority().verifying_key().to_bytes()), ..endpoint(1) },
        edges: vec![endpoint(2), endpoint(3)],
        one_operator: true,
        http: [].into(),
    };
    let store = ClientStore::open(dir.path(), &net, 2).unwrap();
    let edges = Arc::new(Edges::new(dir.path().join("net.json"), Views::new("test".into(), net.authority.id)));
    edges.accept(&[consensus()]);
    let shared = Arc::new(Shared::new("test".into(), 2));
    let wall = Arc::new(AtomicU64::new(NOW_MS));
    let shown = Arc::clone(&wall);
    let clocks = Clocks { start: Instant::now(), wall: Box::new(move || shown.load(Ordering::Relaxed)) };
    (Driver::new(store, edges, shared, mpsc::channel(1).0, clocks), dir, wall)
}

/// INV-MSG-22: the consensus in force follows the wall clock both ways, while timers only go forward.
#[test]
fn a_clock_that_is_set_right_brings_the_consensus_back() {
    let (mut driver, _dir, wall) = driver();
    wall.store(NOW_MS + 7_200_000, Ordering::Relaxed);
    let before = driver.read_clocks();
    driver.refresh_view();
    assert_eq!(Err(SendError::NoConsensus), driver.courier.ping(before, 3));
    wall.store(NOW_MS, Ordering::Relaxed);
    let after = driver.read_clocks();
    driver.refresh_view();
    assert!(after >= before);
    // There is a consensus now, though an empty one.
    assert!(matches!(driver.courier.ping(after, 3), Err(SendError::Path(_))));
}
