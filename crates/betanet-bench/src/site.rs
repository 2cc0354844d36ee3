//! What every client may know of a network, for those that send it what no client of ours sends.

use std::sync::Arc;

use betanet_mix::directory::Consensuses;
use betanet_mix::view::{NetworkView, Role};
use betanet_node::control::{ControlChannel, ControlError, Op, Outcome};
use betanet_node::link::{Dialer, LinkReader, LinkSender, LinkTimeouts};
use betanet_node::net::{Endpoint, NetFile};
use betanet_sphinx::{Hop, NodeId};
use ed25519_dalek::SigningKey;
use rand_chacha::rand_core::Rng;

use crate::{Failure, fresh_rng, now_ms};

/// Whatever ends one link.
pub(crate) type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Frames that wait to be written to one link.
const QUEUE: usize = 128;

/// A network as a consensus describes it.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) authority: Endpoint,
    pub(crate) edges: Vec<Endpoint>,
    pub(crate) view: Arc<NetworkView>,
}

impl Site {
    /// Asks the edges of the network file, one after the other, until one answers.
    pub(crate) async fn look(net: &NetFile) -> Result<Self, Failure> {
        let mut trouble = "the network file names no edge".into();
        for edge in &net.edges {
            match Self::ask(net, edge).await {
                Ok(site) => return Ok(site),
                Err(err) => trouble = err,
            }
        }
        Err(trouble)
    }

    async fn ask(net: &NetFile, edge: &Endpoint) -> Result<Self, Failure> {
        let (sender, reader, _) = open(edge).await.map_err(|err| err.to_string())?;
        let asked = ControlChannel::ask_over(sender, reader, async |channel| -> Result<_, ControlError> {
            match channel.call(Op::GetConsensus { have: Vec::new(), follow: false }).await? {
                Outcome::Consensus { documents } => Ok(documents),
                _ => Err(ControlError::Unexpected),
            }
        });
        let documents = asked.await.ok_or("the edge closed the link")??;
        let mut held = Consensuses::new(net.network.clone(), net.authority.id);
        for document in &documents {
            held.accept(document, now_ms())?;
        }
        let view = Arc::clone(held.at(now_ms()).ok_or("no consensus is in force")?);
        let edges = view.edges().map(|edge| Endpoint { id: edge.id(), address: edge.link_address().clone() }).collect();
        Ok(Self { authority: net.authority.clone(), edges, view })
    }

    /// The parity of the keys that senders use now.
    pub(crate) fn parity(&self) -> u8 {
        self.view.sending_epoch(now_ms()).parity()
    }

    /// A node as a hop, if its key of the epoch is known.
    pub(crate) fn hop(&self, id: NodeId) -> Result<Hop, Failure> {
        let epoch = self.view.sending_epoch(now_ms());
        Ok(self.view.hop(id, epoch).ok_or("the consensus has no keys of this epoch any more")?)
    }

    /// The middle nodes.
    pub(crate) fn middles(&self) -> Vec<NodeId> {
        self.view.nodes().filter(|node| node.role() == Role::Middle).map(|node| node.id()).collect()
    }
}

/// A key that nobody has seen.
pub(crate) fn fresh_key() -> Result<SigningKey, &'static str> {
    let mut seed = [0; 32];
    fresh_rng()?.fill_bytes(&mut seed);
    Ok(SigningKey::from_bytes(&seed))
}

/// A link under a key that nobody has seen, and that key.
pub(crate) async fn open(to: &Endpoint) -> Result<(LinkSender, LinkReader, SigningKey), Trouble> {
    let key = fresh_key()?;
    let dialer = Dialer::new(&key, LinkTimeouts::default())?;
    let (sender, reader) = dialer.dial(&to.address, *to.id.as_bytes(), QUEUE).await?;
    Ok((sender, reader, key))
}
