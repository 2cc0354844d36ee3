//! Incoming links: who they are from, and what they may do.
//!
//! A key that the consensus lists is a node and may send packets. Any other key is a client: edges
//! serve it, middle nodes close the link. Whoever breaks the protocol is counted and cut off.
//!
//! Nodes, clients and those who have not shown a key yet have places of their own, so that no
//! number of strangers keeps the nodes out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use betanet_sphinx::{NodeId, PACKET_LEN};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::directory::Directory;
use super::edge::{Attachment, Edge};
use super::metrics::Metrics;
use super::mixer::Ingress;
use crate::bind::AcceptTrouble;
use crate::budget::Budget;
use crate::clock::NetworkClock;
use crate::control::{Answer, Op, Outcome, Request, mailbox_of};
use crate::link::{Accepted, FRAME_LEN, HandshakeError, LinkError, LinkReader, LinkSender, Listener, Received};
use crate::newcomers::{Newcomer, Newcomers};
use crate::places::{Places, origin};
use crate::process::link_places;
use crate::views::Views;

/// Frames that wait to be written to one client.
const CLIENT_QUEUE: usize = 512;

/// How long an unknown key may wait at a middle node for the consensus that lists it.
const MEMBERSHIP_PATIENCE: Duration = Duration::from_secs(3);

/// Packets that a client may send in one go, and per second; beyond that its link is read slower.
const PACKETS: (f64, f64) = (20_000.0, 10_000.0);

/// Worker descriptors that a client may publish in one go, and per second.
const PUBLICATIONS: (f64, f64) = (8.0, 1.0);

/// How many links there may be.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Links that have not shown a key yet, or an unknown one to a middle node, or one of a client that
    /// has asked for nothing. None lasts long, and the oldest gives way.
    newcomers: usize,
    /// Links of clients.
    clients: usize,
    /// The part of both that one address may have, as a divisor.
    share: usize,
    /// Links of nodes.
    nodes: usize,
    /// Links of one node. It needs one, and another while the first is not known to be dead.
    of_one_node: usize,
    /// A client that is not attached and says nothing for one to two times this long has to go.
    idle: Duration,
}

impl Limits {
    /// Half of the links for clients, a quarter each for newcomers and for nodes.
    const fn of(links: usize) -> Self {
        Self {
            newcomers: links / 4,
            clients: links / 2,
            share: 4,
            nodes: links / 4,
            of_one_node: 4,
            idle: Duration::from_mins(1),
        }
    }
}

/// The places of the links that there may be.
#[derive(Debug)]
struct Room {
    newcomers: Newcomers,
    clients: Places<IpAddr>,
    nodes: Places<NodeId>,
    idle: Duration,
}

impl Room {
    fn new(limits: Limits) -> Self {
        Self {
            newcomers: Newcomers::new(limits.newcomers, limits.newcomers / limits.share),
            clients: Places::new(limits.clients, limits.clients / limits.share),
            nodes: Places::new(limits.nodes, limits.of_one_node),
            idle: limits.idle,
        }
    }
}

/// Why a client is served no longer.
enum Ended {
    /// A consensus lists its key.
    Listed,
    /// The link ended.
    Link(LinkError),
}

impl From<LinkError> for Ended {
    fn from(err: LinkError) -> Self {
        Self::Link(err)
    }
}

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
    /// The time.
    pub time: NetworkClock,
    /// The figures.
    pub metrics: Arc<Metrics>,
}

impl Inbound {
    /// Accepts links until it is dropped.
    pub async fn serve(self, listener: &Listener) {
        self.serve_within(Limits::of(link_places()), listener).await;
    }

    async fn serve_within(self, limits: Limits, listener: &Listener) {
        let room = Arc::new(Room::new(limits));
        let mut links = tokio::task::JoinSet::new();
        let mut trouble = AcceptTrouble::default();
        loop {
            while links.try_join_next().is_some() {}
            let accepted = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(err) => {
                    self.metrics.drop_one("accept_failed");
                    trouble.wait_out(&err).await;
                    continue;
                }
            };
            let place = room.newcomers.come(origin(accepted.ip()));
            links.spawn(self.clone().one(accepted, place, Arc::clone(&room)));
            room.newcomers.settled().await;
        }
    }

    async fn one(self, accepted: Accepted, mut newcomer: Newcomer, room: Arc<Room>) {
        let from = origin(accepted.ip());
        let arrival = tokio::select! {
            arrival = self.arrive(accepted, room.idle) => arrival,
            () = newcomer.gives_way() => Err(Some("too_many_newcomers")),
        };
        let (key, sender, mut reader) = match arrival {
            Ok(link) => link,
            Err(reason) => {
                if let Some(reason) = reason {
                    self.metrics.drop_one(reason);
                }
                return;
            }
        };
        drop(newcomer);
        let id = NodeId::from(key);
        if let Some(edge) = self.edge.clone()
            && !self.is_member(id)
        {
            let Some(_place) = room.clients.take(from) else {
                self.metrics.drop_one("too_many_clients");
                return;
            };
            let client = Client::new(&self, edge, key, sender.clone());
            if let Ended::Link(err) = client.serve(&mut reader, room.idle).await {
                self.count(&err);
                return;
            }
        }
        let Some(_place) = room.nodes.take(Some(id)) else {
            self.metrics.drop_one("too_many_node_links");
            return;
        };
        let ended = self.serve_node(id, reader).await;
        self.count(&ended);
    }

    /// Brings a link as far as it takes to know what it is for; else the reason, if it counts.
    async fn arrive(
        &self,
        accepted: Accepted,
        idle: Duration,
    ) -> Result<([u8; 32], LinkSender, LinkReader), Option<&'static str>> {
        let (key, sender, mut reader) = accepted.handshake(CLIENT_QUEUE).await.map_err(|err| match err {
            HandshakeError::Timeout => Some("handshake_timeout"),
            _ => Some("handshake_failed"),
        })?;
        // Around a new consensus the other side may be ahead of us.
        let mut views = self.views.clone();
        let id = NodeId::from(key);
        let listed = async { views.wait_for(|views| views.lists(id, self.time.now_ms())).await.is_ok() };
        if self.edge.is_none() {
            let listed = tokio::time::timeout(MEMBERSHIP_PATIENCE, listed).await;
            return if listed.unwrap_or(false) { Ok((key, sender, reader)) } else { Err(Some("unknown_peer")) };
        }
        tokio::select! {
            _ = listed => {}
            arrived = reader.arrived() => arrived.map_err(|err| broken(&err))?,
            () = tokio::time::sleep(idle) => return Err(Some("idle_client")),
        }
        Ok((key, sender, reader))
    }

    fn count(&self, ended: &LinkError) {
        if let Some(reason) = broken(ended) {
            self.metrics.drop_one(reason);
        }
    }

    fn is_member(&self, id: NodeId) -> bool {
        self.views.borrow().lists(id, self.time.now_ms())
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
    packets: Budget,
    publications: Budget,
}

impl<'a> Client<'a> {
    fn new(inbound: &'a Inbound, edge: Arc<Edge>, key: [u8; 32], sender: LinkSender) -> Self {
        Self {
            inbound,
            edge,
            key,
            sender,
            attachment: None,
            follows: false,
            packets: Budget::new(PACKETS.0, PACKETS.1),
            publications: Budget::new(PUBLICATIONS.0, PUBLICATIONS.1),
        }
    }

    async fn serve(mut self, reader: &mut LinkReader, idle: Duration) -> Ended {
        let id = NodeId::from(self.key);
        let mut views = self.inbound.views.clone();
        let mut sent = views.borrow_and_update().hashes();
        let mut active = false;
        let mut rounds = tokio::time::interval_at(tokio::time::Instant::now() + idle, idle);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // A node may dial before we hold the consensus that lists it.
            if views.borrow().lists(id, self.inbound.time.now_ms()) {
                return Ended::Listed;
            }
            tokio::select! {
                received = reader.next() => {
                    active = true;
                    let handled = match received {
                        Ok(received) => self.handle(received, &mut sent).await,
                        Err(err) => return err.into(),
                    };
                    if let Err(err) = handled {
                        return err.into();
                    }
                }
                changed = views.changed() => {
                    if changed.is_err() {
                        return LinkError::Closed.into();
                    }
                    let current = Arc::clone(&views.borrow_and_update());
                    let documents = current.beyond(&sent, self.inbound.time.now_ms());
                    sent = current.hashes();
                    if self.follows
                        && !documents.is_empty()
                        && let Err(err) = self.sender.send_message(&Answer::Consensus { documents }).await
                    {
                        return err.into();
                    }
                }
                () = taken(self.attachment.as_ref()) => {
                    // It would wait for items that go elsewhere now. It comes again if it lives.
                    self.inbound.metrics.drop_one("mailbox_taken");
                    return LinkError::Closed.into();
                }
                _ = rounds.tick(), if self.attachment.is_none() => {
                    if !std::mem::take(&mut active) {
                        self.inbound.metrics.drop_one("idle_client");
                        return LinkError::Closed.into();
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
                self.packets.spend().await;
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
            Op::Time => Outcome::Time { now_ms: self.inbound.time.now_ms() },
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
                Outcome::Consensus { documents: views.beyond(&have, self.inbound.time.now_ms()) }
            }
            op @ Op::GetWorkers { .. } => self.inbound.directory.relay(op).await,
            Op::PutWorker { worker } => {
                if !self.publications.take() {
                    self.inbound.metrics.drop_one("too_many_publications");
                    return refused(&"too many descriptors on one link; try again later");
                }
                // Checked here, so that nothing goes up the link to the authority that it would
                // close the link for.
                match worker.verify_worker() {
                    Ok(_) => self.inbound.directory.relay(Op::PutWorker { worker }).await,
                    Err(err) => refused(&err),
                }
            }
            Op::GetNetwork | Op::GetDuties | Op::PutDescriptor { .. } => {
                refused(&"an edge is not the directory authority")
            }
        }
    }
}

/// Resolves once another link has the mailbox of an attachment.
async fn taken(attachment: Option<&Attachment>) {
    match attachment {
        Some(attachment) => attachment.taken().await,
        None => std::future::pending().await,
    }
}

/// The reason that is counted for a peer that broke the protocol.
const fn broken(ended: &LinkError) -> Option<&'static str> {
    match ended {
        LinkError::Malformed(_) | LinkError::Message => Some("malformed_frame"),
        _ => None,
    }
}

fn refused(reason: &impl std::fmt::Display) -> Outcome {
    Outcome::Refused { reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
