//! Which edges a client has its mailboxes at: a draw that spreads them, and when one of them is replaced.
//!
//! A client's edges see when it is there, so whoever could move a client from edge to edge would sooner or later have it
//! at an edge of his own. Therefore an edge is replaced on evidence only: the authority no longer lists it, or it is out
//! of reach for hours in which another one of the client's works. And however many edges seem dead, few draws are made.

use std::collections::{BTreeMap, BTreeSet};

use betanet_sphinx::NodeId;
use rand_core::CryptoRng;

use crate::path::share_fate;
use crate::random;
use crate::view::{NetworkView, NodeView};

/// An edge is gone that no consensus in force has listed for this long. A node that restarts is back by then.
const UNLISTED_MS: u64 = 30 * 60_000;
/// An edge is gone that could not be reached for this long while another one could.
const UNREACHABLE_MS: u64 = 2 * 3_600_000;
/// Draws that are made in a week, for whatever reason.
const REDRAWS: usize = 4;
const REDRAWS_IN_MS: u64 = 7 * 24 * 3_600_000;
/// How long the edge that was replaced is still asked for what it holds, and its mailbox answered: as long as an edge keeps
/// a message, and as long again for those who have the former address.
pub const FORMER_MS: u64 = 14 * 24 * 3_600_000;

/// Draws up to `count` edges that are not in `taken`, of parties that none of `kept` and of each other; of any party where
/// there are no others, or one party runs the whole network.
pub fn draw_edges(
    rng: &mut impl CryptoRng,
    view: &NetworkView,
    kept: &[NodeId],
    taken: &[NodeId],
    count: usize,
) -> Vec<NodeId> {
    let mut beside: Vec<NodeView<'_>> = kept.iter().filter_map(|id| view.node(*id)).collect();
    let mut pool: Vec<NodeView<'_>> =
        view.edges().filter(|edge| !kept.contains(&edge.id()) && !taken.contains(&edge.id())).collect();
    let mut drawn = Vec::new();
    while drawn.len() < count {
        let clashes =
            |edge: &NodeView<'_>| !view.one_operator() && beside.iter().any(|other| share_fate(*edge, *other));
        let apart: Vec<usize> = (0..pool.len()).filter(|at| pool.get(*at).is_some_and(|edge| !clashes(edge))).collect();
        let any: Vec<usize> = (0..pool.len()).collect();
        let Some(index) = random::choose(rng, if apart.is_empty() { &any } else { &apart }) else { break };
        let edge = pool.swap_remove(*index);
        beside.push(edge);
        drawn.push(edge.id());
    }
    drawn
}

/// Why an edge is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// No consensus lists it any more.
    Unlisted,
    /// It could not be reached for long while others could.
    Unreachable,
    /// Another one of the client's edges is of the same party.
    SharesFate,
}

/// Watches a client's own edges.
#[derive(Debug, Default)]
pub struct OwnEdges {
    /// When edges were drawn anew, by network time.
    redraws: Vec<u64>,
    /// Since when no consensus lists an edge, by the clock that never jumps.
    unlisted_since: BTreeMap<NodeId, u64>,
    /// Since when an edge cannot be reached while another one can.
    unreachable_since: BTreeMap<NodeId, u64>,
}

impl OwnEdges {
    /// Goes on with the draws of before a restart.
    #[must_use]
    pub fn new(redraws: Vec<u64>) -> Self {
        Self { redraws, ..Self::default() }
    }

    /// Looks at the own edges; gives one that is to be replaced now, if any.
    ///
    /// `view` is the consensus in force; `own` says of each edge whether it is attached.
    pub fn look(
        &mut self,
        now_ms: u64,
        wall_ms: u64,
        view: &NetworkView,
        own: &[(NodeId, bool)],
    ) -> Option<(NodeId, Loss)> {
        let is_listed = |id: NodeId| view.node(id).is_some_and(|node| node.role().is_edge());
        let is_alone = |id: NodeId| !own.iter().any(|(other, attached)| *other != id && *attached);
        let ids: BTreeSet<NodeId> = own.iter().map(|(id, _)| *id).collect();
        self.unlisted_since.retain(|id, _| ids.contains(id) && !is_listed(*id));
        self.unreachable_since.retain(|id, _| own.contains(&(*id, false)) && !is_alone(*id));
        for (id, attached) in own {
            if !is_listed(*id) {
                self.unlisted_since.entry(*id).or_insert(now_ms);
            }
            if !attached && !is_alone(*id) {
                self.unreachable_since.entry(*id).or_insert(now_ms);
            }
        }
        let for_long = |since: &BTreeMap<NodeId, u64>, id: &NodeId, long_ms: u64| {
            since.get(id).is_some_and(|since| now_ms.saturating_sub(*since) >= long_ms)
        };
        let lost = own.iter().find_map(|(id, _)| {
            let unlisted = for_long(&self.unlisted_since, id, UNLISTED_MS).then_some(Loss::Unlisted);
            let loss = unlisted
                .or_else(|| for_long(&self.unreachable_since, id, UNREACHABLE_MS).then_some(Loss::Unreachable))?;
            Some((*id, loss))
        });
        // Nothing is gained if those that are left to draw are of the same parties.
        let lost = lost.or_else(|| Self::doubled(view, own).map(|id| (id, Loss::SharesFate)))?;
        self.may_redraw(wall_ms).then_some(lost)
    }

    /// Whether the week's draws are not used up.
    #[must_use]
    pub fn may_redraw(&self, wall_ms: u64) -> bool {
        self.redraws.iter().filter(|at_ms| is_recent(**at_ms, wall_ms)).count() < REDRAWS
    }

    /// The draws to write down, with one more at `wall_ms`.
    #[must_use]
    pub fn redraws_with(&self, wall_ms: u64) -> Vec<u64> {
        self.redraws.iter().copied().filter(|at_ms| is_recent(*at_ms, wall_ms)).chain([wall_ms]).collect()
    }

    /// Counts a draw that is written down.
    pub fn redrawn(&mut self, redraws: Vec<u64>) {
        self.redraws = redraws;
    }

    /// The later of two own edges of one party, if there is an edge of a party that none of the others is of.
    fn doubled(view: &NetworkView, own: &[(NodeId, bool)]) -> Option<NodeId> {
        if view.one_operator() {
            return None;
        }
        let nodes: Vec<NodeView<'_>> = own.iter().filter_map(|(id, _)| view.node(*id)).collect();
        let (at, doubled) = nodes
            .iter()
            .enumerate()
            .find(|(at, node)| nodes.iter().take(*at).any(|other| share_fate(**node, *other)))?;
        let others = || nodes.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, node)| *node);
        let better = |edge: NodeView<'_>| others().all(|other| other.id() != edge.id() && !share_fate(other, edge));
        view.edges().any(better).then(|| doubled.id())
    }
}

/// Whether a draw counts still. One from the future of a clock that was set back counts, too.
fn is_recent(at_ms: u64, wall_ms: u64) -> bool {
    at_ms.saturating_add(REDRAWS_IN_MS) > wall_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{NOW_MS, consensus, id, member, rng, view_of};
    use crate::view::Role;

    const MINUTE_MS: u64 = 60_000;

    /// Edges 0 to 5; 0 and 1 are of one party, 2 and 3 of another one.
    fn network(listed: &[u8]) -> NetworkView {
        view_of(consensus(listed.iter().map(|number| member(*number, Role::Entry, number / 2)).collect()))
    }

    /// Looks every minute for a while, and says when who is lost.
    fn watch(
        own: &mut OwnEdges,
        view: &NetworkView,
        minutes: u64,
        at: impl Fn(u64) -> [(NodeId, bool); 2],
    ) -> Option<(u64, NodeId, Loss)> {
        (0..minutes).find_map(|minute| {
            let now_ms = minute * MINUTE_MS;
            own.look(now_ms, NOW_MS + now_ms, view, &at(minute)).map(|(id, loss)| (minute, id, loss))
        })
    }

    /// INV-LINK-74
    #[test]
    fn edges_are_drawn_of_different_parties() {
        let (view, mut rng) = (network(&[0, 1, 2, 3, 4, 5]), rng(1));
        for _ in 0..100 {
            let drawn = draw_edges(&mut rng, &view, &[], &[], 3);
            let parties: BTreeSet<_> = drawn.iter().map(|id| view.node(*id).unwrap().operator()).collect();
            assert_eq!((drawn.len(), parties.len()), (3, 3));
            assert!(![id(0), id(1), id(5)].contains(&draw_edges(&mut rng, &view, &[id(0)], &[id(5)], 1)[0]));
        }
        // Where there is no other party, one of the same is better than none; and no edge comes twice.
        assert_eq!(draw_edges(&mut rng, &view, &[id(0), id(2), id(4)], &[id(3), id(5)], 3), [id(1)]);
    }

    /// INV-LINK-75
    #[test]
    fn an_edge_that_no_consensus_lists_is_replaced_after_a_while() {
        let mut own = OwnEdges::default();
        let gone = watch(&mut own, &network(&[2, 4, 5]), 60, |_| [(id(0), true), (id(2), true)]);
        assert_eq!(gone, Some((30, id(0), Loss::Unlisted)));
        // One that comes back in between is not.
        let mut own = OwnEdges::default();
        let (without, with) = (network(&[2, 4, 5]), network(&[0, 2, 4, 5]));
        for minute in 0..100 {
            let view = if minute % 20 == 0 { &with } else { &without };
            let now_ms = minute * MINUTE_MS;
            assert_eq!(own.look(now_ms, NOW_MS, view, &[(id(0), true), (id(2), true)]), None, "{minute}");
        }
    }

    /// INV-LINK-75: while nothing works, the client itself is cut off, and no edge is to blame.
    #[test]
    fn an_edge_is_unreachable_only_while_another_one_works() {
        let view = network(&[0, 2, 4]);
        let away = watch(&mut OwnEdges::default(), &view, 10_000, |_| [(id(0), false), (id(2), false)]);
        assert_eq!(away, None);
        let lost = watch(&mut OwnEdges::default(), &view, 10_000, |_| [(id(0), false), (id(2), true)]);
        assert_eq!(lost, Some((120, id(0), Loss::Unreachable)));
        // One that answers once an hour is alive.
        let now_and_then = |minute: u64| [(id(0), minute.is_multiple_of(60)), (id(2), true)];
        assert_eq!(watch(&mut OwnEdges::default(), &view, 10_000, now_and_then), None);
        // The other one is away every hour.
        let both = |minute: u64| [(id(0), false), (id(2), !minute.is_multiple_of(60))];
        assert_eq!(watch(&mut OwnEdges::default(), &view, 10_000, both), None);
    }

    /// INV-LINK-74: two edges of one party are as one, if there is an edge of another.
    #[test]
    fn of_two_edges_of_one_party_one_is_replaced() {
        let same = [(id(0), true), (id(1), true)];
        assert_eq!(OwnEdges::default().look(0, NOW_MS, &network(&[0, 1, 2]), &same), Some((id(1), Loss::SharesFate)));
        assert_eq!(OwnEdges::default().look(0, NOW_MS, &network(&[0, 1]), &same), None);
        let mut local = consensus(vec![member(0, Role::Entry, 1), member(1, Role::Exit, 1), member(2, Role::Exit, 2)]);
        local.one_operator = true;
        assert_eq!(OwnEdges::default().look(0, NOW_MS, &view_of(local), &same), None);
    }

    /// INV-LINK-76: who makes edges look dead has the client draw four times a week, over restarts too.
    #[test]
    fn draws_are_few_however_many_edges_seem_dead() {
        let view = network(&[2, 4, 5]);
        let mut own = OwnEdges::default();
        let mut draws = Vec::new();
        for minute in 0..14 * 24 * 60 {
            let now_ms = minute * MINUTE_MS;
            if own.look(now_ms, NOW_MS + now_ms, &view, &[(id(0), false), (id(2), true)]).is_some() {
                draws.push(minute);
                own = OwnEdges::new(own.redraws_with(NOW_MS + now_ms));
            }
        }
        assert_eq!(draws.len(), 8, "{draws:?}");
        let week = 7 * 24 * 60;
        assert!(draws[3] < 24 * 60 && draws[4] >= draws[0] + week, "{draws:?}");
    }
}
