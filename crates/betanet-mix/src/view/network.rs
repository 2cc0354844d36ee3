//! What a verified consensus says, in the form that paths are chosen from.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use betanet_sphinx::{Hop, NodeId, PublicKey};

use super::consensus::Consensus;
use super::hash::ConsensusHash;
use super::link_address::LinkAddress;
use super::member::{Member, Prefix};
use super::node::Role;
use super::signed::{Encoded, Verified};
use crate::epoch::{Epoch, EpochClock};

/// The network as one verified consensus describes it.
#[derive(Clone, Debug)]
pub struct NetworkView {
    consensus: Verified<Consensus>,
    clock: EpochClock,
    hash: ConsensusHash,
    edges: Vec<usize>,
    middles: Vec<usize>,
    by_id: HashMap<NodeId, usize>,
    avoided: BTreeSet<NodeId>,
    encoded: OnceLock<Arc<Encoded>>,
}

/// One node of a [`NetworkView`].
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a>(&'a Member);

impl NetworkView {
    /// The view that follows from a consensus.
    #[must_use]
    pub fn new(consensus: Verified<Consensus>) -> Option<Self> {
        let clock = consensus.clock()?;
        let hash = consensus.hash();
        let indices = |edge: bool| {
            let of_kind = consensus.nodes.iter().enumerate().filter(|(_, node)| node.role.is_edge() == edge);
            of_kind.map(|(index, _)| index).collect()
        };
        let (edges, middles) = (indices(true), indices(false));
        let by_id = consensus.nodes.iter().enumerate().map(|(index, node)| (node.id, index)).collect();
        Some(Self { consensus, clock, hash, edges, middles, by_id, avoided: BTreeSet::new(), encoded: OnceLock::new() })
    }

    /// The same network, in which these middles are not drawn as long as there are enough others.
    #[must_use]
    pub fn avoiding(&self, middles: BTreeSet<NodeId>) -> Self {
        Self { avoided: middles, ..self.clone() }
    }

    /// Whether there is a node that is not to be drawn.
    #[must_use]
    pub fn avoids_any(&self) -> bool {
        !self.avoided.is_empty()
    }

    /// Whether a node is not to be drawn.
    #[must_use]
    pub fn avoids(&self, id: NodeId) -> bool {
        self.avoided.contains(&id)
    }

    /// The consensus behind the view.
    #[must_use]
    pub fn consensus(&self) -> &Verified<Consensus> {
        &self.consensus
    }

    /// The consensus as it travels: made when it is first asked for, and the same for all who ask.
    #[must_use]
    pub fn encoded(&self) -> &Arc<Encoded> {
        self.encoded.get_or_init(|| Arc::new(Encoded::of(self.consensus.signed())))
    }

    /// The hash of the consensus.
    #[must_use]
    pub fn hash(&self) -> ConsensusHash {
        self.hash
    }

    /// Maps time to epochs.
    #[must_use]
    pub fn clock(&self) -> EpochClock {
        self.clock
    }

    /// The mean mixing delay of a hop.
    #[must_use]
    pub fn mean_delay(&self) -> Duration {
        Duration::from_millis(self.consensus.mean_delay_ms)
    }

    /// Whether one party runs all nodes.
    #[must_use]
    pub fn one_operator(&self) -> bool {
        self.consensus.one_operator
    }

    /// Whether packets may be sent by this view at `now_ms`, with the network's clock skew on both sides.
    #[must_use]
    pub fn is_valid_at(&self, now_ms: u64) -> bool {
        now_ms.saturating_add(self.clock.skew_ms()) >= self.consensus.valid_after_ms
            && now_ms < self.consensus.valid_until_ms
    }

    /// The epoch whose keys packets are made for at `now_ms`: one clock skew late, so that no node meets a key that it
    /// does not accept yet. Where all edges have begun with this epoch, none has a key of the one before, and whoever
    /// waited for its end could send nothing.
    #[must_use]
    pub fn sending_epoch(&self, now_ms: u64) -> Epoch {
        let late = self.clock.sending_epoch(now_ms);
        let begun = late < self.consensus.epoch && self.edges().all(|edge| edge.key(late).is_none());
        if begun { self.consensus.epoch } else { late }
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.consensus.nodes.iter().map(NodeView)
    }

    /// The nodes that serve clients.
    pub fn edges(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.at(&self.edges)
    }

    /// The nodes between the edges.
    pub fn middles(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.at(&self.middles)
    }

    /// The node with this id.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<NodeView<'_>> {
        self.by_id.get(&id).and_then(|index| self.consensus.nodes.get(*index)).map(NodeView)
    }

    /// The node as a hop of a packet of `epoch`; `None` if it is unknown or has no key for that epoch.
    #[must_use]
    pub fn hop(&self, id: NodeId, epoch: Epoch) -> Option<Hop> {
        self.node(id)?.hop(epoch)
    }

    fn at<'a>(&'a self, indices: &'a [usize]) -> impl Iterator<Item = NodeView<'a>> {
        indices.iter().filter_map(|index| self.consensus.nodes.get(*index)).map(NodeView)
    }
}

impl<'a> NodeView<'a> {
    /// The node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    /// The part of a path it serves.
    #[must_use]
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// Where others reach its links.
    #[must_use]
    pub fn link_address(&self) -> &'a LinkAddress {
        &self.0.link_address
    }

    /// Who runs it, as the directory verified it.
    #[must_use]
    pub fn operator(&self) -> &'a str {
        &self.0.operator
    }

    /// The prefix of its address, as the directory verified it.
    #[must_use]
    pub fn prefix(&self) -> Prefix {
        self.0.prefix
    }

    /// Its packet key for `epoch`.
    #[must_use]
    pub fn key(&self, epoch: Epoch) -> Option<&'a PublicKey> {
        self.0.keys.get(&epoch)
    }

    /// The node as a hop of a packet of `epoch`.
    #[must_use]
    pub fn hop(&self, epoch: Epoch) -> Option<Hop> {
        self.key(epoch).map(|key| Hop { node: self.id(), key: *key })
    }
}
