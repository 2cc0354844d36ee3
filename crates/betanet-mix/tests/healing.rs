//! A network in which something stays broken: what a client does about it by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap fails the test")]

use betanet_mix::courier::SendOptions;
use betanet_mix::evidence::EXCLUDED_MS;
use betanet_testkit::{Faults, MemoryNetwork, Plan};

const MINUTE_MS: u64 = 60_000;

/// INV-MSG-75: a node that is frozen takes packets and passes none on. It stays in the consensus, and leaves the paths.
#[test]
fn a_frozen_node_leaves_the_paths_until_it_may_have_recovered() {
    let faults = Faults { link_loss: 0.01, ..Faults::default() };
    let mut network = MemoryNetwork::new(75, Plan { entries: 4, exits: 4, ..Plan::default() }, faults);
    let (alice, bob) = (network.add_client(), network.add_client());
    let frozen = network.view().middles().next().unwrap().id();
    network.set_up(frozen, false);
    let send = |network: &mut MemoryNetwork| {
        let id = network.send(alice, bob, &vec![7; 20_000], SendOptions::hops(3)).unwrap();
        assert!(network.run(MINUTE_MS, |network| network.client(alice).sent.contains(&id)));
    };
    let excluded =
        |network: &MemoryNetwork| network.client(alice).courier.excluded().keys().copied().collect::<Vec<_>>();
    for _ in 0..200 {
        if !excluded(&network).is_empty() {
            break;
        }
        send(&mut network);
    }
    assert_eq!(excluded(&network), [frozen]);
    let figures = network.client(alice).courier.path_figures();
    assert_eq!((figures.len(), figures[0].hops), (1, 3));
    assert!(figures[0].lost > figures[0].tries / 10 && figures[0].round_trip_ms.is_some_and(|ms| ms > 0));
    assert!(figures[0].loop_ms.is_none(), "no loop was sent");
    let resent = |network: &MemoryNetwork| network.client(alice).courier.stats().fragments_resent;
    let before = resent(&network);
    (0..20).for_each(|_| send(&mut network));
    // 280 fragments, of which 30 % would have been lost, each time that they are sent.
    assert!(resent(&network) - before < 40, "{} more were sent again", resent(&network) - before);
    network.set_up(frozen, true);
    network.run(EXCLUDED_MS, |network| excluded(network).is_empty());
    assert!(excluded(&network).is_empty());
    (0..20).for_each(|_| send(&mut network));
    assert!(excluded(&network).is_empty(), "what it lost before is not held against it");
}
