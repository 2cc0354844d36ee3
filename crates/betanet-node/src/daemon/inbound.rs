//! Incoming links: who they are from, and what they may do.
//!
//! A key that the consensus lists is a node and may send packets. Any other key is a client: edges
//! serve it, middle nodes close the link. Whoever breaks the protocol is counted and cut off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use betanet_sphinx::{NodeId, PACKET_LEN};
use tokio::sync::{Semaphore, watch};

use super::directory::Directory;
use super::edge::{Attachment, Edge};
use super::metrics::Metrics;
use super::mixer::Ingress;
use crate::clock::now_ms;
use crate::control::{Answer, Op, Outcome, Request, mailbox_of};
use crate::link::{Accepted, FRAME_LEN, HandshakeError, LinkError, LinkReader, LinkSender, Listener, Received};
use crate::process::link_places;
use crate::views::Views;

/// Frames that wait to be written to one client.
const CLIENT_QUEUE: usize = 512;

/// How long an unknown key may wait at a middle node for the consensus that lists it.
const MEMBERSHIP_PATIENCE: Duration = Duration::from_secs(3);

/// Packets that a client may send in one go, and per second; beyond that its link is read slower.
const CLIENT_BURST: f64 = 20_000.0;
const CLIENT_RATE: f64 = 10_000.0;

/// What every incoming link needs.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// The packet path.
    pub ingress: Ingress,
    /// The mailboxes, if this node is an edge.
    pub edge: Option<Arc<Edge>>,
    /// The way to the authority.
    pub directory: Directory,
    /// The consensuses.
    pub views: watch::Receiver<Arc<Views>>,
    /// The figures.
    pub metrics: Arc<Metrics>,
}

impl Inbound {
    /// Accepts links until it is dropped.
    pub async fn serve(self, listener: &Listener) {
        let places = Arc::new(Semaphore::new(link_places()));
        let mut links = tokio::task::JoinSet::new();
        loop {
            while links.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let Ok(accepted) = listener.accept().await else {
                // Out of file descriptors, most likely: let some links end first.
                self.metrics.drop_one("accept_failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let inbound = self.clone();
            links.spawn(async move {
                let _place = place;
                inbound.one(accepted).await;
            });
        }
    }

    async fn one(self, accepted: Accepted) {
        let (key, sender, reader) = match accepted.handshake(CLIENT_QUEUE).await {
            Ok(link) => link,
            Err(err) => {
                self.metrics.drop_one(match err {
                    HandshakeError::Timeout => "handshake_timeout",
                    _ => "handshake_failed",
                });
                return;
            }
        };
        let id = NodeId::from(key);
        let ended = if self.is_member(id) {
            self.serve_node(id, reader).await
        } else if let Some(edge) = self.edge.clone() {
            Client::new(&self, edge, key, sender).serve(reader).await
        } else if self.becomes_member(id).await {
            self.serve_node(id, reader).await
        } else {
            self.metrics.drop_one("unknown_peer");
            return;
        };
        if let LinkError::Malformed(_) | LinkError::Message = ended {
            self.metrics.drop_one("malformed_frame");
        }
    }

    fn is_member(&self, id: NodeId) -> bool {
        self.views.borrow().lists(id, now_ms())
    }

    /// Around a new consensus the other side may be ahead of us.
    async fn becomes_member(&self, id: NodeId) -> bool {
        let mut views = self.views.clone();
        let listed = views.wait_for(|views| views.lists(id, now_ms()));
        matches!(tokio::time::timeout(MEMBERSHIP_PATIENCE, listed).await, Ok(Ok(_)))
    }

    async fn serve_node(&self, id: NodeId, mut reader: LinkReader) -> LinkError {
        let mut views = self.views.clone();
        loop {
            tokio::select! {
                received = reader.next() => match received {
                    Ok(Received::Packet(packet)) => self.take(packet),
                    Ok(_) => return LinkError::Message,
                    Err(err) => return err,
                },
                changed = views.changed() => {
                    if changed.is_err() || !self.is_member(id) {
                        return LinkError::Closed;
                    }
                }
            }
        }
    }

    fn take(&self, packet: &[u8; PACKET_LEN]) {
        self.metrics.bytes_in.add(u64::try_from(FRAME_LEN).unwrap_or(0));
        self.ingress.push(packet, Instant::now());
    }
}

/// A client's link.
struct Client<'a> {
    inbound: &'a Inbound,
    edge: Arc<Edge>,
    key: [u8; 32],
    sender: LinkSender,
    attachment: Option<Attachment>,
    follows: bool,
    budget: Budget,
}

impl<'a> Client<'a> {
    fn new(inbound: &'a Inbound, edge: Arc<Edge>, key: [u8; 32], sender: LinkSender) -> Self {
        Self { inbound, edge, key, sender, attachment: None, follows: false, budget: Budget::new() }
    }

    async fn serve(mut self, mut reader: LinkReader) -> LinkError {
        let mut views = self.inbound.views.clone();
        let mut sent = views.borrow_and_update().hashes();
        loop {
            tokio::select! {
                received = reader.next() => {
                    let handled = match received {
                        Ok(received) => self.handle(received, &mut sent).await,
                        Err(err) => return err,
                    };
                    if let Err(err) = handled {
                        return err;
                    }
                }
                changed = views.changed() => {
                    if changed.is_err() {
                        return LinkError::Closed;
                    }
                    let current = Arc::clone(&views.borrow_and_update());
                    let documents = current.beyond(&sent, now_ms());
                    sent = current.hashes();
                    if self.follows
                        && !documents.is_empty()
                        && let Err(err) = self.sender.send_message(&Answer::Consensus { documents }).await
                    {
                        return err;
                    }
                }
            }
        }
    }

    async fn handle(
        &mut self,
        received: Received<'_>,
        sent: &mut Vec<betanet_mix::view::ConsensusHash>,
    ) -> Result<(), LinkError> {
        match received {
            Received::Packet(packet) => {
                self.budget.spend().await;
                self.inbound.take(packet);
                Ok(())
            }
            Received::ItemAck(seqs) => {
                let attachment = self.attachment.as_ref().ok_or(LinkError::Message)?;
                attachment.delete(seqs);
                Ok(())
            }
            Received::Message(message) => {
                let request: Request = Received::message(&message)?;
                let outcome = self.answer(request.op, sent).await;
                let id = request.id;
                self.sender.send_message(&Answer::Reply { id, outcome }).await
            }
            Received::Item(_) => Err(LinkError::Message),
        }
    }

    async fn answer(&mut self, op: Op, sent: &mut Vec<betanet_mix::view::ConsensusHash>) -> Outcome {
        match op {
            Op::Time => Outcome::Time { now_ms: now_ms() },
            Op::Attach => {
                let mailbox = mailbox_of(&self.key);
                match self.edge.attach(mailbox, self.sender.clone()).await {
                    Ok(attachment) => {
                        self.attachment = Some(attachment);
                        Outcome::Attached
                    }
                    Err(err) => {
                        self.inbound.metrics.drop_one(err.reason());
                        refused(&err)
                    }
                }
            }
            Op::GetConsensus { have, follow } => {
                self.follows |= follow;
                let views = Arc::clone(&self.inbound.views.borrow());
                *sent = views.hashes();
                Outcome::Consensus { documents: views.beyond(&have, now_ms()) }
            }
            op @ (Op::GetWorkers { .. } | Op::PutWorker { .. }) => self.inbound.directory.relay(op).await,
            Op::GetNetwork | Op::PutDescriptor { .. } => refused(&"an edge is not the directory authority"),
        }
    }
}

fn refused(reason: &impl std::fmt::Display) -> Outcome {
    Outcome::Refused { reason: reason.to_string() }
}

/// A client's allowance of packets. When it is spent the link is read no faster than it refills, so
/// that TCP tells the client to wait.
struct Budget {
    tokens: f64,
    refilled: Instant,
}

impl Budget {
    fn new() -> Self {
        Self { tokens: CLIENT_BURST, refilled: Instant::now() }
    }

    async fn spend(&mut self) {
        if self.tokens < 1.0 {
            let elapsed = self.refilled.elapsed().as_secs_f64();
            self.tokens = (self.tokens + elapsed * CLIENT_RATE).min(CLIENT_BURST);
            self.refilled = Instant::now();
            if self.tokens < 1.0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        self.tokens -= 1.0;
    }
}
