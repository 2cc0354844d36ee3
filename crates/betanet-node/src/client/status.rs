//! What a client tells about its network and itself.

use std::time::Duration;

use betanet_mix::courier::PathFigures;
use betanet_mix::path::PathError;
use betanet_sphinx::NodeId;

/// What a client knows about its network and itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientStatus {
    /// The network's name.
    pub network: String,
    /// The epoch whose keys packets are made for.
    pub epoch: u64,
    /// Entry nodes in the consensus.
    pub entry_nodes: usize,
    /// Middle nodes in the consensus.
    pub middle_nodes: usize,
    /// Exit nodes in the consensus.
    pub exit_nodes: usize,
    /// Edges that this client is attached to now and that take packets.
    pub edges_attached: usize,
    /// Edges that its address names.
    pub edges_wanted: usize,
    /// One party runs all nodes, so there is no anonymity against it.
    pub one_operator: bool,
    /// For each number of hops that no packet can have in the network, what is short.
    pub shortages: Vec<PathError>,
    /// Mean delay per hop, in milliseconds.
    pub mean_delay_ms: u64,
    /// Fragments that wait for their ack.
    pub in_flight: usize,
    /// Messages on their way out.
    pub outgoing_messages: usize,
    /// Requests without an answer.
    pub open_requests: usize,
    /// Fragments that were sent again, since the client was opened.
    pub fragments_resent: u64,
    /// Messages delivered to the application and not committed.
    pub uncommitted: usize,
    /// One line for people if something keeps the client from sending, or the machine's clock is wrong.
    pub trouble: Option<String>,
    /// Loss and round trips by the number of hops, since the client was opened.
    pub paths: Vec<PathFigures>,
    /// The client's edges, those of its address first.
    pub edges: Vec<OwnEdgeStatus>,
    /// Middles that no packet passes at present, and the evidence against them.
    pub excluded: Vec<ExcludedNode>,
}

/// One of the client's edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnEdgeStatus {
    /// The edge.
    pub id: NodeId,
    /// Whether the client's address names it; otherwise a former one did.
    pub current: bool,
    /// Whether there is a link to it.
    pub attached: bool,
    /// Why not, as far as it is known.
    pub reason: Option<String>,
}

/// A middle that packets do not pass because it loses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExcludedNode {
    /// The node.
    pub id: NodeId,
    /// Own packets over it that it was judged by.
    pub tries: u32,
    /// How many of them got lost.
    pub lost: u32,
    /// How many would have by chance, rounded down.
    pub expected: u32,
    /// Until it is tried again.
    pub left: Duration,
}
