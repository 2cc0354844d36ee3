//! Links that are for one question alone, under a key of their own: nothing ties it to the client's mailboxes.

use std::time::Duration;

use betanet_mix::directory::Consensuses;
use betanet_mix::own_edges::draw_edges;
use betanet_mix::view::Signed;
use ed25519_dalek::SigningKey;
use rand_core::Rng;

use super::LINK_QUEUE;
use crate::clock::Sample;
use crate::control::{ControlChannel, Op, Outcome};
use crate::link::{Dialer, LinkTimeouts};
use crate::net::{Endpoint, NetFile};
use crate::random::os_rng;

/// Edges of the bootstrap file that are asked for a first consensus, and how long that may take.
const BOOTSTRAP_TRIES: usize = 3;
const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(5);

/// Draws the first edges of a client by the consensus, which says whose they are; the bootstrap file does not. Nobody needs
/// that where one party runs all. `None` if no edge gives a consensus for now: the client then draws from the bootstrap
/// file, and moves later.
pub(in crate::client) async fn draw_apart(net: &NetFile, count: usize) -> Option<Vec<Endpoint>> {
    if net.one_operator {
        return None;
    }
    let verifier = Consensuses::new(net.network.clone(), net.authority.id);
    let ask = async {
        // A file lists its edges in an order of its own.
        let mut edges = net.edges.clone();
        edges.sort_by_cached_key(|_| os_rng().next_u64());
        for edge in edges.iter().take(BOOTSTRAP_TRIES) {
            let documents = ask_consensus_once(edge).await.unwrap_or_default();
            let views = documents.iter().filter_map(|document| verifier.verify(document).ok().flatten());
            let newest = views.max_by_key(|view| (view.consensus().epoch, view.consensus().revision));
            let drawn = newest.map(|view| {
                let ids = draw_edges(&mut os_rng(), &view, &[], &[], count);
                let nodes = ids.into_iter().filter_map(|id| view.node(id));
                nodes.map(|node| Endpoint { id: node.id(), address: node.link_address().clone() }).collect::<Vec<_>>()
            });
            if let Some(drawn) = drawn.filter(|drawn| !drawn.is_empty() && drawn.len() == count) {
                return Some(drawn);
            }
        }
        None
    };
    tokio::time::timeout(BOOTSTRAP_PATIENCE, ask).await.ok().flatten()
}

/// Asks an edge for the consensus.
async fn ask_consensus_once(edge: &Endpoint) -> Option<Vec<Signed>> {
    let dialer = Dialer::new(&SigningKey::generate(&mut os_rng()), LinkTimeouts::default()).ok()?;
    let (sender, reader) = dialer.dial(&edge.address, *edge.id.as_bytes(), LINK_QUEUE).await.ok()?;
    let ask = async |channel: &ControlChannel| channel.call(Op::GetConsensus { have: Vec::new(), follow: false }).await;
    match ControlChannel::ask_over(sender, reader, ask).await?.ok()? {
        Outcome::Consensus { documents } => Some(documents),
        _ => None,
    }
}

/// Asks an edge that is not the client's own for the time.
pub(super) async fn ask_time(edge: &Endpoint) -> Option<Sample> {
    let dialer = Dialer::new(&SigningKey::generate(&mut os_rng()), LinkTimeouts::default()).ok()?;
    let (sender, reader) = dialer.dial(&edge.address, *edge.id.as_bytes(), LINK_QUEUE).await.ok()?;
    ControlChannel::ask_over(sender, reader, async |channel| channel.time().await.ok()).await.flatten()
}
