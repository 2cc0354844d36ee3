//! Whether a network has paths at all, whoever stands at their ends.

use std::collections::BTreeMap;

use betanet_sphinx::MAX_HOPS;

use super::{APART, MIDDLES, PathError, must_be_apart};
use crate::epoch::Epoch;
use crate::view::{NetworkView, NodeView, Prefix};

const EDGES: &str = "edges";
const EDGES_OF_OTHERS: &str = "edges of different operators and address prefixes";
const ALL_APART: &str = "nodes of different operators and address prefixes";

/// For each number of hops that no packet can have in this network, what is short.
///
/// What is told here, no draw can find. Where nothing is told there may still be no path for somebody: the two sides
/// have edges of their own, and a few operators may share prefixes so that the counts suffice and no choice does.
#[must_use]
pub fn shortages(view: &NetworkView, epoch: Epoch) -> Vec<PathError> {
    let with_key = |node: &NodeView<'_>| node.key(epoch).is_some();
    let edges: Vec<_> = view.edges().filter(with_key).collect();
    let middles: Vec<_> = view.middles().filter(with_key).collect();
    let all: Vec<_> = edges.iter().chain(&middles).copied().collect();
    let apart = [&edges, &middles, &all].map(|nodes| most_apart(nodes));
    let lengths = (1..=MAX_HOPS).filter_map(|hops| u8::try_from(hops).ok());
    lengths.filter_map(|hops| shortage(view, hops, [edges.len(), middles.len()], apart)).collect()
}

fn shortage(
    view: &NetworkView,
    hops: u8,
    [edges, middles]: [usize; 2],
    [edges_apart, middles_apart, all_apart]: [usize; 3],
) -> Option<PathError> {
    let count = usize::from(hops);
    let (ends, between) = (count.min(2), count.saturating_sub(2));
    let anyhow = [(EDGES, ends, edges), (MIDDLES, between, middles)];
    let apart = [(EDGES_OF_OTHERS, ends, edges_apart), (APART, between, middles_apart), (ALL_APART, count, all_apart)];
    let apart = apart.into_iter().filter(|_| must_be_apart(view, hops));
    let mut wanted = anyhow.into_iter().chain(apart);
    let (what, needed, available) = wanted.find(|(_, needed, available)| available < needed)?;
    Some(PathError::NotEnoughNodes { hops, what, needed, available })
}

/// How many of the nodes can stand on one path, no two of which [share their fate](super::share_fate); counts up to
/// [`MAX_HOPS`]. Each node joins an operator to a prefix, so this is a largest matching.
fn most_apart(nodes: &[NodeView<'_>]) -> usize {
    let mut prefixes: BTreeMap<&str, Vec<Prefix>> = BTreeMap::new();
    for node in nodes {
        prefixes.entry(node.operator()).or_default().push(node.prefix());
    }
    for of_one in prefixes.values_mut() {
        of_one.sort_unstable();
        of_one.dedup();
    }
    let mut holders = BTreeMap::new();
    for operator in prefixes.keys() {
        place(operator, &prefixes, &mut holders, &mut Vec::new());
        if holders.len() == MAX_HOPS {
            break;
        }
    }
    holders.len()
}

/// Gives an operator a prefix, moving others to theirs if need be; no deeper than there are holders.
fn place<'a>(
    operator: &'a str,
    prefixes: &BTreeMap<&'a str, Vec<Prefix>>,
    holders: &mut BTreeMap<Prefix, &'a str>,
    tried: &mut Vec<Prefix>,
) -> bool {
    for prefix in prefixes.get(operator).into_iter().flatten() {
        if tried.contains(prefix) {
            continue;
        }
        let holder = holders.get(prefix).copied();
        if holder.is_some() {
            tried.push(*prefix);
        }
        if holder.is_none_or(|holder| place(holder, prefixes, holders, tried)) {
            holders.insert(*prefix, operator);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
