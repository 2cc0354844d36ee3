//! The time that a client goes by: where its edges agree, so that no single one can move it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use betanet_sphinx::NodeId;
use rand_core::Rng;

use crate::clock::{NetworkClock, Sample};
use crate::net::Endpoint;
use crate::random::os_rng;
use crate::sync::lock;

/// What the edges' clocks show.
#[derive(Debug)]
pub(super) struct NetworkTime {
    clock: NetworkClock,
    /// How many edges the client's address names.
    wanted: usize,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    samples: BTreeMap<NodeId, Sample>,
    disputed: bool,
    /// Which edge is asked in a dispute. Drawn once: an edge that lies could otherwise have the client draw until
    /// another one says the same.
    witness: u64,
}

/// What follows from what was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nothing speaks against the client's clock.
    Right,
    /// This is the time.
    Wrong(Sample),
    /// There is a contradiction, and one more edge is needed to settle it.
    Unsettled,
}

impl NetworkTime {
    pub(super) fn new(clock: NetworkClock, wanted: usize) -> Self {
        let heard = Heard { witness: os_rng().next_u64(), ..Heard::default() };
        Self { clock, wanted, heard: Mutex::new(heard) }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Takes an edge's time into account; with `Unsettled`, those already heard need not be asked.
    pub(super) fn hear(&self, edge: NodeId, sample: Sample) -> Verdict {
        let mut heard = lock(&self.heard);
        heard.samples.insert(edge, sample);
        let samples: Vec<_> = heard.samples.values().copied().collect();
        let verdict = judge(self.clock.sample(), &samples, self.wanted);
        heard.disputed = verdict == Verdict::Unsettled;
        drop(heard);
        if let Verdict::Wrong(time) = verdict {
            self.clock.follow(&time);
        }
        verdict
    }

    /// Forgets an edge whose link has ended.
    pub(super) fn forget(&self, edge: NodeId) {
        lock(&self.heard).samples.remove(&edge);
    }

    /// Takes the time of an edge into account that is not the client's own, for this once.
    pub(super) fn hear_once(&self, edge: NodeId, sample: Sample) -> Verdict {
        let verdict = self.hear(edge, sample);
        self.forget(edge);
        verdict
    }

    /// The edge to ask in a dispute: the same one, as long as it answers and is there.
    pub(super) fn witness(&self, edges: &[Endpoint]) -> Option<Endpoint> {
        let heard = lock(&self.heard);
        let count = u64::try_from(edges.len()).ok()?;
        let first = usize::try_from(heard.witness.checked_rem(count)?).ok()?;
        let mut in_turn = edges.iter().cycle().skip(first).take(edges.len());
        in_turn.find(|edge| !heard.samples.contains_key(&edge.id)).cloned()
    }

    /// Asks another one from now on.
    pub(super) fn next_witness(&self) {
        let mut heard = lock(&self.heard);
        heard.witness = heard.witness.wrapping_add(1);
    }

    /// One line if the machine's clock, or some edge's, is wrong.
    pub(super) fn complaint(&self) -> Option<String> {
        let disputed = lock(&self.heard).disputed;
        let dispute = || {
            "the edges that answer do not agree on the time, with each other or with this machine's clock".to_owned()
        };
        self.clock.complaint().or_else(|| disputed.then(dispute))
    }
}

/// Two edges that agree outweigh the client's own clock, as long as most of those heard say so. A client that
/// has one edge believes it.
fn judge(own: Sample, samples: &[Sample], wanted: usize) -> Verdict {
    let support = |one: &Sample| samples.iter().filter(|other| one.agrees(other)).count();
    let Some(best) = samples.iter().max_by_key(|one| (support(one), std::cmp::Reverse(one.spread_ms))) else {
        return Verdict::Right;
    };
    let settled = support(best) >= 2 && support(best) * 2 > samples.len() || wanted == 1 && samples.len() == 1;
    match own.agrees(best) {
        true if settled || samples.len() == 1 => Verdict::Right,
        false if settled => Verdict::Wrong(*best),
        _ => Verdict::Unsettled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ahead_ms: i64) -> Sample {
        Sample { ahead_ms, spread_ms: 1 }
    }

    const RIGHT: i64 = 1_000_000_000_000;
    const HOUR: i64 = 3_600_000;

    /// INV-LINK-25
    #[test]
    fn one_edge_of_several_moves_no_clock_and_two_that_agree_do() {
        for wrong in [RIGHT - HOUR, RIGHT + HOUR, 0, i64::MAX, i64::MIN] {
            let (own, lie) = (at(RIGHT), at(wrong));
            assert_eq!(Verdict::Unsettled, judge(own, &[lie], 2));
            assert_eq!(Verdict::Unsettled, judge(own, &[lie, at(RIGHT)], 2));
            // A third edge settles it, for the clock or against it.
            assert_eq!(Verdict::Right, judge(own, &[lie, at(RIGHT), at(RIGHT + 5)], 2));
            assert!(matches!(judge(lie, &[lie, at(RIGHT), at(RIGHT + 5)], 2), Verdict::Wrong(time) if time != lie));
            assert!(matches!(judge(lie, &[at(RIGHT), at(RIGHT + 5)], 2), Verdict::Wrong(_)));
            // Two against two settle nothing.
            assert_eq!(Verdict::Unsettled, judge(own, &[lie, lie, at(RIGHT), at(RIGHT)], 2));
        }
    }

    /// INV-LINK-25
    #[test]
    fn the_same_edge_is_asked_in_every_dispute_until_it_is_away() {
        let edge = |number| Endpoint { id: NodeId::from([number; 32]), address: "127.0.0.1:1".parse().unwrap() };
        let edges = [1, 2, 3, 4].map(edge);
        let time = NetworkTime::new(NetworkClock::from_wall(), 2);
        assert_eq!(None, time.witness(&[]));
        let first = time.witness(&edges).unwrap();
        assert_eq!(Verdict::Unsettled, time.hear_once(first.id, at(0)));
        assert_eq!(Some(&first), time.witness(&edges).as_ref());
        // One of the client's own that was heard is no other edge.
        time.hear(first.id, at(0));
        let second = time.witness(&edges).unwrap();
        assert_ne!(first, second);
        time.forget(first.id);
        time.next_witness();
        assert_eq!(Some(second), time.witness(&edges));
    }

    /// INV-LINK-25
    #[test]
    fn a_clock_that_is_right_stays_and_the_only_edge_is_believed() {
        assert_eq!(Verdict::Right, judge(at(RIGHT), &[], 2));
        assert_eq!(Verdict::Right, judge(at(RIGHT), &[at(RIGHT + 100)], 2));
        assert_eq!(Verdict::Right, judge(at(RIGHT), &[at(RIGHT + 100)], 1));
        assert_eq!(Verdict::Wrong(at(RIGHT)), judge(at(RIGHT + HOUR), &[at(RIGHT)], 1));
        // A slow answer tells less.
        let slow = Sample { ahead_ms: RIGHT + 3_000, spread_ms: 4_000 };
        assert_eq!(Verdict::Right, judge(at(RIGHT), &[slow], 1));
    }
}
