//! Path selection.
//!
//! A path of `h` hops runs from one of the sender's edges over `h − 2` middles to one of the recipient's edges; with
//! `h = 1` it is the recipient's edge alone. The two edges always differ, middles are drawn uniformly without
//! replacement for every packet and every SURB, so no node stands on a path twice. From three hops on, no operator
//! and no address prefix (IPv4 /16, IPv6 /32) repeats either, unless one party runs the whole network anyway.

use betanet_sphinx::{Hop, MAX_HOPS, MailboxId, NodeId};
use rand_core::CryptoRng;

use crate::epoch::Epoch;
use crate::random;
use crate::view::{Address, Mailbox, NetworkView, NodeView};

mod room;

pub use room::shortages;

/// Draws of the middles before a network with few operators counts as too small.
const MAX_DRAWS: usize = 64;

/// An ordered choice of nodes and the mailbox at the last of them.
#[derive(Clone, Debug)]
pub struct Path {
    /// The nodes in the order that the packet meets them, at least one.
    pub hops: Vec<Hop>,
    /// The first node: where the packet enters.
    pub first: NodeId,
    /// The last node: the edge that keeps the mailbox.
    pub edge: NodeId,
    /// The mailbox at the last node.
    pub mailbox: MailboxId,
}

/// Why no path could be chosen.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The network, or what we are attached to, has too few usable nodes of some kind.
    #[error("too few {what} for a path of {hops} {}: {available} of {needed}", if *hops == 1 { "hop" } else { "hops" })]
    NotEnoughNodes {
        /// Hops of the wanted path.
        hops: u8,
        /// The kind of node that is short.
        what: &'static str,
        /// How many of them the path needs.
        needed: usize,
        /// How many there are.
        available: usize,
    },
    /// No packet has that many hops.
    #[error("a path has 1 to {MAX_HOPS} hops, not {hops}")]
    BadHops {
        /// Hops that were asked for.
        hops: u8,
    },
}

impl PathError {
    /// Whether none of the recipient's edges stands in the consensus with a key: the next one may list them again.
    #[must_use]
    pub fn lacks_recipients_edge(&self) -> bool {
        matches!(self, Self::NotEnoughNodes { what, .. } if *what == THEIR_EDGES)
    }

    /// A short name of the reason, for counters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotEnoughNodes { .. } => "not_enough_nodes",
            Self::BadHops { .. } => "bad_hops",
        }
    }

    /// Whether it is one of the own edges that is missing: another one attached may be all it takes.
    #[must_use]
    pub fn lacks_own_edge(&self) -> bool {
        matches!(self, Self::NotEnoughNodes { what, .. } if [OUR_EDGES, EDGES_APART].contains(what))
    }
}

/// Chooses the path of a forward packet: from one of `my_edges` to one of the mailboxes of `to`.
///
/// # Errors
/// [`PathError`] naming what is needed and what is available.
pub fn select_forward(
    rng: &mut impl CryptoRng,
    view: &NetworkView,
    epoch: Epoch,
    my_edges: &[NodeId],
    to: &Address,
    hops: u8,
) -> Result<Path, PathError> {
    let ends = Ends { firsts: my_edges, first_kind: OUR_EDGES, lasts: to.mailboxes(), last_kind: THEIR_EDGES };
    select(rng, view, epoch, &ends, hops)
}

/// Chooses the path of a reply SURB: from one of the edges of `from`, who will reply, to one of `my_mailboxes`.
///
/// # Errors
/// [`PathError`] naming what is needed and what is available.
pub fn select_return(
    rng: &mut impl CryptoRng,
    view: &NetworkView,
    epoch: Epoch,
    from: &Address,
    my_mailboxes: &[Mailbox],
    hops: u8,
) -> Result<Path, PathError> {
    let firsts: Vec<NodeId> = from.mailboxes().iter().map(|mailbox| mailbox.edge).collect();
    let ends = Ends { firsts: &firsts, first_kind: THEIR_EDGES, lasts: my_mailboxes, last_kind: OUR_EDGES };
    select(rng, view, epoch, &ends, hops)
}

/// Chooses the path of a stored-ack: from the recipient's edge itself, which wraps it locally, to one of `my_mailboxes`.
///
/// # Errors
/// [`PathError`] naming what is needed and what is available.
pub fn select_ack(
    rng: &mut impl CryptoRng,
    view: &NetworkView,
    epoch: Epoch,
    recipient_edge: NodeId,
    my_mailboxes: &[Mailbox],
    hops: u8,
) -> Result<Path, PathError> {
    let ends = Ends { firsts: &[recipient_edge], first_kind: THEIR_EDGES, lasts: my_mailboxes, last_kind: OUR_EDGES };
    select(rng, view, epoch, &ends, hops)
}

/// Chooses the path of a loop: from one of the own edges to a mailbox at another.
///
/// # Errors
/// [`PathError`] naming what is needed and what is available.
pub fn select_loop(
    rng: &mut impl CryptoRng,
    view: &NetworkView,
    epoch: Epoch,
    my_mailboxes: &[Mailbox],
    hops: u8,
) -> Result<Path, PathError> {
    let firsts: Vec<NodeId> = my_mailboxes.iter().map(|mailbox| mailbox.edge).collect();
    let ends = Ends { firsts: &firsts, first_kind: OUR_EDGES, lasts: my_mailboxes, last_kind: OUR_EDGES };
    select(rng, view, epoch, &ends, hops)
}

const OUR_EDGES: &str = "edges of ours that differ from the other side's";
const THEIR_EDGES: &str = "edges of the other side that have a key for this epoch";
const EDGES_APART: &str = "pairs of edges, one of each side, of different operators and address prefixes";
const MIDDLES: &str = "middle nodes";
const APART: &str = "middle nodes of different operators and address prefixes";

struct Ends<'a> {
    firsts: &'a [NodeId],
    first_kind: &'static str,
    lasts: &'a [Mailbox],
    last_kind: &'static str,
}

fn select(
    rng: &mut impl CryptoRng,
    view: &NetworkView,
    epoch: Epoch,
    ends: &Ends<'_>,
    hops: u8,
) -> Result<Path, PathError> {
    let count = usize::from(hops);
    if count == 0 || count > MAX_HOPS {
        return Err(PathError::BadHops { hops });
    }
    let short = |what, needed, available| PathError::NotEnoughNodes { hops, what, needed, available };
    let usable = |id: NodeId| view.node(id).filter(|node| node.role().is_edge() && node.key(epoch).is_some());
    let lasts: Vec<(NodeView<'_>, MailboxId)> =
        ends.lasts.iter().filter_map(|mailbox| usable(mailbox.edge).map(|node| (node, mailbox.mailbox))).collect();
    if lasts.is_empty() {
        return Err(short(ends.last_kind, 1, 0));
    }
    if count == 1 {
        let (node, mailbox) = *random::choose(rng, &lasts).ok_or_else(|| short(ends.last_kind, 1, 0))?;
        return finish(epoch, &[node], mailbox).ok_or_else(|| short(ends.last_kind, 1, 0));
    }
    let apart = must_be_apart(view, hops);
    let clash = |one: NodeView<'_>, other: NodeView<'_>| one.id() == other.id() || (apart && share_fate(one, other));
    let firsts: Vec<NodeView<'_>> = ends.firsts.iter().filter_map(|id| usable(*id)).collect();
    let pairs: Vec<_> = firsts
        .iter()
        .flat_map(|first| lasts.iter().map(move |last| (*first, *last)))
        .filter(|(first, (last, _))| !clash(*first, *last))
        .collect();
    let share_fates = || firsts.iter().any(|first| lasts.iter().any(|(last, _)| first.id() != last.id()));
    let (first, (last, mailbox)) = *random::choose(rng, &pairs)
        .ok_or_else(|| short(if share_fates() { EDGES_APART } else { ends.first_kind }, 1, 0))?;
    let keyed = |avoided: bool| {
        view.middles().filter(move |node| node.key(epoch).is_some() && view.avoids(node.id()) == avoided)
    };
    let mut middles: Vec<NodeView<'_>> = keyed(false).collect();
    let preferred = middles.len();
    middles.extend(keyed(true));
    let needed = count - 2;
    if middles.len() < needed {
        return Err(short(MIDDLES, needed, middles.len()));
    }
    let mut most = 0;
    for draw in 0..2 * MAX_DRAWS {
        let mut nodes = vec![first, last];
        // A path over a node that loses packets is better than none.
        let mut pool =
            if draw < MAX_DRAWS { middles.iter().take(preferred).copied().collect() } else { middles.clone() };
        while nodes.len() < count {
            pool.retain(|node| !nodes.iter().any(|taken| clash(*taken, *node)));
            let Some(index) = random::index_below(rng, pool.len()) else { break };
            nodes.push(pool.swap_remove(index));
        }
        most = most.max(nodes.len() - 2);
        if nodes.len() == count {
            // Drawn as first, last, middles; travelled as first, middles, last.
            nodes.remove(1);
            nodes.push(last);
            return finish(epoch, &nodes, mailbox).ok_or_else(|| short(MIDDLES, needed, most));
        }
    }
    Err(short(APART, needed, most))
}

fn finish(epoch: Epoch, nodes: &[NodeView<'_>], mailbox: MailboxId) -> Option<Path> {
    let hops: Vec<Hop> = nodes.iter().map(|node| node.hop(epoch)).collect::<Option<_>>()?;
    let (first, edge) = (hops.first()?.node, hops.last()?.node);
    Some(Path { hops, first, edge, mailbox })
}

/// Whether nodes of a path of so many hops must not share their fate.
fn must_be_apart(view: &NetworkView, hops: u8) -> bool {
    hops >= 3 && !view.one_operator()
}

/// Whether one party probably runs or sees both nodes.
pub(crate) fn share_fate(one: NodeView<'_>, other: NodeView<'_>) -> bool {
    one.operator() == other.operator() || one.prefix() == other.prefix()
}

#[cfg(test)]
mod tests;
