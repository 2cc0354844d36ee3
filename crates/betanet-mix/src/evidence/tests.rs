//! Tries over drawn paths through a network whose losses are known.

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use super::*;
use crate::fixtures::{EPOCH, id, mailbox, rng, view};
use crate::path::{select_ack, select_forward, select_loop};
use crate::view::{Address, NetworkView};

/// Whether a packet gets lost on its way over these nodes.
type Loses<'a> = &'a dyn Fn(&mut ChaCha20Rng, &[NodeId]) -> bool;

/// The first middle of the view.
const FIRST: u8 = 10;

struct Client {
    rng: ChaCha20Rng,
    view: NetworkView,
    middles: BTreeSet<NodeId>,
    evidence: Evidence,
    now_ms: u64,
    hops: u8,
    /// Whoever was excluded so far.
    ever: BTreeSet<NodeId>,
}

impl Client {
    fn new(seed: u64, middles: u8, hops: u8) -> Self {
        let view = view(middles);
        let middles = view.middles().map(|node| node.id()).collect();
        let evidence = Evidence::default();
        Self { rng: rng(seed), view, middles, evidence, now_ms: 1_000_000, hops, ever: BTreeSet::new() }
    }

    fn step(&mut self, trail: Trail, lost: bool) {
        self.now_ms += 100;
        self.evidence.record(self.now_ms, trail, lost);
        if self.now_ms.is_multiple_of(1_000) && self.evidence.judge(self.now_ms, &self.middles) {
            let excluded: BTreeSet<NodeId> = self.evidence.excluded().keys().copied().collect();
            self.ever.extend(&excluded);
            self.view = self.view.avoiding(excluded);
        }
    }

    /// Sends a fragment to a recipient with two edges, and takes its ack or its loss.
    fn send(&mut self, loses: Loses<'_>) {
        let (mine, theirs) = ([mailbox(0), mailbox(2)], [mailbox(1), mailbox(3)]);
        let to = Address::new(theirs.to_vec(), [7; 32]).unwrap();
        let edges = mine.map(|mailbox| mailbox.edge);
        let there = select_forward(&mut self.rng, &self.view, EPOCH, &edges, &to, self.hops).unwrap();
        let back = select_ack(&mut self.rng, &self.view, EPOCH, there.edge, &mine, self.hops).unwrap();
        let lost = [&there, &back].into_iter().any(|path| {
            let nodes: Vec<_> = path.hops.iter().map(|hop| hop.node).collect();
            loses(&mut self.rng, &nodes)
        });
        self.step(Trail::there_and_back(&there, &back), lost);
    }

    fn send_many(&mut self, count: usize, loses: Loses<'_>) {
        (0..count).for_each(|_| self.send(loses));
    }

    fn excluded(&self) -> Vec<NodeId> {
        self.evidence.excluded().keys().copied().collect()
    }
}

fn by_chance(rng: &mut ChaCha20Rng, percent: u32) -> bool {
    rng.next_u32() % 100 < percent
}

/// INV-MSG-75: a node that takes packets and does not pass them on is found, and no other.
#[test]
fn a_frozen_node_is_excluded() {
    for seed in 0..5 {
        let mut client = Client::new(seed, 8, 3);
        let frozen = id(FIRST + 3);
        client.send_many(200, &|rng, _| by_chance(rng, 1));
        assert!(client.excluded().is_empty(), "seed {seed}");
        client.send_many(500, &|rng, nodes| nodes.contains(&frozen) || by_chance(rng, 1));
        assert_eq!(client.excluded(), [frozen], "seed {seed}");
        assert_eq!(client.ever, [frozen].into(), "seed {seed}");
        let evidence = client.evidence.excluded()[&frozen];
        assert!(evidence.lost > evidence.tries / 2 && evidence.expected < f64::from(evidence.lost) / 2.0);
    }
}

/// INV-MSG-75
#[test]
fn a_node_that_drops_most_of_what_it_gets_is_excluded_at_every_level() {
    for (hops, middles) in [(3, 10), (5, 16), (7, 24)] {
        let mut client = Client::new(hops.into(), middles, hops);
        let lossy = id(FIRST + 5);
        client.send_many(2_000, &|rng, nodes| nodes.contains(&lossy) && by_chance(rng, 70));
        assert_eq!(client.ever, [lossy].into(), "{hops} hops");
    }
}

/// INV-MSG-76: whatever a network loses everywhere, on links or in bursts, is evidence against nobody.
#[test]
fn in_a_network_that_loses_much_nobody_is_excluded() {
    for (seed, hops) in [(1, 3), (2, 3), (3, 5), (4, 7)] {
        for percent in [1, 10, 30] {
            let mut client = Client::new(seed, 8, hops);
            client.send_many(1_500, &|rng, nodes| nodes.iter().any(|_| by_chance(rng, percent)));
            assert!(client.ever.is_empty(), "seed {seed}, {hops} hops, {percent} %");
        }
        // The own line is down every now and then.
        let mut client = Client::new(seed, 8, hops);
        for _ in 0..30 {
            client.send_many(40, &|_, _| false);
            client.send_many(10, &|_, _| true);
        }
        assert!(client.ever.is_empty(), "seed {seed}, {hops} hops, bursts");
    }
}

/// INV-MSG-76: an edge that is down takes packets with it, and no middle is to blame.
#[test]
fn a_dead_edge_is_no_evidence_against_middles() {
    for edge in [id(0), id(3)] {
        let mut client = Client::new(5, 8, 3);
        client.send_many(2_000, &|rng, nodes| nodes.contains(&edge) || by_chance(rng, 2));
        assert!(client.ever.is_empty());
    }
}

/// INV-MSG-77: dropping what comes from one honest node, or goes to it, gets it excluded by nobody.
#[test]
fn an_adversary_that_drops_selectively_gets_no_honest_node_excluded() {
    let framed = id(FIRST + 2);
    let beside =
        |nodes: &[NodeId], bad: NodeId| nodes.windows(2).any(|pair| pair.contains(&bad) && pair.contains(&framed));
    for (hops, middles) in [(3, 8), (5, 8), (7, 12)] {
        // One of the client's edges, one of the recipient's, a middle.
        for bad in [id(0), id(1), id(FIRST + 6)] {
            let mut client = Client::new(u64::from(hops) + 20, middles, hops);
            client.send_many(2_500, &|rng, nodes| beside(nodes, bad) || by_chance(rng, 1));
            assert!(!client.ever.contains(&framed), "{hops} hops, {bad:?}");
        }
    }
}

/// INV-MSG-77: who makes many nodes look dead steers nothing: few are avoided at a time.
#[test]
fn few_nodes_are_avoided_at_a_time_and_for_a_while() {
    let mut client = Client::new(9, 12, 3);
    let under_attack: Vec<NodeId> = (0..6).map(|number| id(FIRST + number)).collect();
    let attack = |_: &mut ChaCha20Rng, nodes: &[NodeId]| nodes.iter().any(|node| under_attack.contains(node));
    let mut most = 0;
    for _ in 0..4_000 {
        client.send(&attack);
        most = most.max(client.excluded().len());
    }
    assert_eq!(most, 2, "of twelve middles");
    // They come back when their time is over, even if nothing is sent.
    client.now_ms += EXCLUDED_MS;
    assert!(client.evidence.judge(client.now_ms, &client.middles));
    assert!(client.excluded().is_empty());
    // What was tried before does not count against them again.
    client.view = client.view.avoiding(BTreeSet::new());
    client.ever.clear();
    client.send_many(500, &|rng, _| by_chance(rng, 5));
    assert!(client.ever.is_empty());
}

/// INV-MSG-75: loops are evidence as well, but those of a client with two edges always have both of them on their path,
/// so that none of them could be cleared: with three they tell.
#[test]
fn loops_tell_where_no_edge_is_on_all_of_them() {
    for (mailboxes, found) in [(vec![mailbox(0), mailbox(2)], false), (vec![mailbox(0), mailbox(1), mailbox(2)], true)]
    {
        let mut client = Client::new(11, 8, 3);
        let frozen = id(FIRST + 1);
        for _ in 0..1_500 {
            let path = select_loop(&mut client.rng, &client.view, EPOCH, &mailboxes, 3).unwrap();
            let lost = path.hops.iter().any(|hop| hop.node == frozen);
            client.step(Trail::around(&path), lost);
        }
        assert_eq!(client.ever.contains(&frozen), found);
    }
}

/// What is remembered is bounded, by number and by age.
#[test]
fn tries_are_forgotten() {
    let mut client = Client::new(13, 4, 3);
    client.send_many(TRIES + 50, &|_, _| false);
    assert_eq!(client.evidence.tries.len(), TRIES);
    client.now_ms += MEMORY_MS;
    client.evidence.judge(client.now_ms, &client.middles);
    assert!(client.evidence.tries.is_empty());
    // One hop has no middles.
    let direct = select_loop(&mut client.rng, &client.view, EPOCH, &[mailbox(0)], 1).unwrap();
    client.evidence.record(client.now_ms, Trail::around(&direct), true);
    assert!(client.evidence.tries.is_empty());
}
