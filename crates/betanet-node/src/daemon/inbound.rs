//! Incoming links: who they are from, and what they may do.
//!
//! A key that the consensus lists is a node and may send packets. Any other key is a client: edges
//! serve it, middle nodes close the link. Whoever breaks the protocol is counted and cut off.
//!
//! Nodes, clients and those who have not shown a key yet have places of their own, so that no
//! number of strangers keeps the nodes out. Who comes from a node's address has places of its own
//! before the key is known, too.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use betanet_mix::allowance::Asker;
use betanet_mix::directory::Consensuses;
use betanet_mix::mailbox::Origin;
use betanet_mix::places::origin;
use betanet_sphinx::NodeId;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::authority_link::Directory;
use super::edge::{Attachment, Edge};
use super::metrics::Metrics;
use super::mixer::{Ingress, Source};
use super::publications::{Publications, Unpublished};
use crate::bind::AcceptTrouble;
use crate::clock::NetworkClock;
use crate::control::{Given, Op, Outcome, Request, announcement, mailbox_of};
use crate::gate::Gate;
use crate::link::{
    Accepted, FRAME_LEN, HandshakeError, LinkError, LinkReader, LinkSender, Listener, Packets, Received, Stock,
};
use crate::newcomers::Newcomer;
use crate::places::Places;
use crate::process::link_places;

/// Frames that wait to be written to one client: what one that does not read takes of our memory.
const CLIENT_QUEUE: usize = 128;

/// How long an unknown key may wait at a middle node for the consensus that lists it.
const MEMBERSHIP_PATIENCE: Duration = Duration::from_secs(3);

/// Rounds of quiet after which a client that is attached has to go, whatever padding it sends. It asks for the time every 15 s.
const ATTACHED_QUIET: u32 = 4;

/// How many links there may be.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Links that have not shown a key yet, or an unknown one to a middle node, or one of a client that
    /// has asked for nothing. None lasts long, and the oldest gives way. As many again for those from
    /// addresses of nodes.
    newcomers: usize,
    /// Links of clients.
    clients: usize,
    /// The part of both that one address may have, as a divisor.
    share: usize,
    /// Links of nodes.
    nodes: usize,
    /// Links of one node. It needs one, and another while the first is not known to be dead.
    of_one_node: usize,
    /// How long an unknown key may wait at a middle node for the consensus that lists it.
    membership: Duration,
    /// A client that is not attached and says nothing for one to two times this long has to go; one that is, after four to
    /// five times.
    idle: Duration,
}

impl Limits {
    /// Half of the links for clients, a quarter for nodes, an eighth each for newcomers from addresses of
    /// nodes and from others.
    const fn of(links: usize) -> Self {
        Self {
            newcomers: links / 8,
            clients: links / 2,
            share: 4,
            nodes: links / 4,
            of_one_node: 4,
            membership: MEMBERSHIP_PATIENCE,
            idle: Duration::from_mins(1),
        }
    }
}

/// The places of the links that there may be.
#[derive(Debug)]
struct Room {
    gate: Gate,
    /// Worker descriptors that clients publish.
    publications: Publications,
    clients: Places<IpAddr>,
    nodes: Places<NodeId>,
    membership: Duration,
    idle: Duration,
}

impl Room {
    fn new(limits: Limits) -> Self {
        Self {
            gate: Gate::new(limits.newcomers, limits.newcomers / limits.share),
            publications: Publications::default(),
            clients: Places::new(limits.clients, limits.clients / limits.share),
            nodes: Places::new(limits.nodes, limits.of_one_node),
            membership: limits.membership,
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
    pub consensuses: watch::Receiver<Arc<Consensuses>>,
    /// The time.
    pub time: NetworkClock,
    /// What links are sending.
    pub stock: Arc<Stock>,
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
            let ip = accepted.ip();
            let is_neighbour = room.gate.is_neighbour(ip, &self.consensuses.borrow(), self.time.now_ms());
            if !is_neighbour && !self.admits(&room, ip) {
                continue;
            }
            let lot = room.gate.lot(is_neighbour);
            let place = lot.come(origin(ip));
            links.spawn(self.clone().one(accepted, place, Arc::clone(&room)));
            lot.settled().await;
        }
    }

    /// Whether a stranger's connection is looked at.
    fn admits(&self, room: &Room, ip: IpAddr) -> bool {
        if self.ingress.is_shut_out(ip) {
            return false;
        }
        let admitted = room.gate.admits(ip);
        if !admitted {
            self.metrics.drop_one("too_many_connections");
        }
        admitted
    }

    async fn one(self, accepted: Accepted, mut newcomer: Newcomer, room: Arc<Room>) {
        let ip = accepted.ip();
        let arrival = tokio::select! {
            arrival = self.arrive(accepted, &room) => arrival,
            () = newcomer.gives_way() => Err(Some("too_many_newcomers")),
        };
        let (key, sender, mut reader) = match arrival {
            Ok(link) => link,
            Err(reason) => {
                if let Some(reason) = reason {
                    self.metrics.drop_one(reason);
                }
                if matches!(reason, Some("handshake_failed" | "malformed_frame")) {
                    self.ingress.blame_address(ip);
                }
                return;
            }
        };
        drop(newcomer);
        let id = NodeId::from(key);
        if let Some(edge) = self.edge.clone()
            && !self.is_member(id)
        {
            let Some(_place) = room.clients.take(origin(ip)) else {
                self.metrics.drop_one("too_many_clients");
                return;
            };
            let _counted = self.metrics.client_links.enter();
            let Some(source) = self.ingress.client(ip, key) else {
                return;
            };
            let client = Client::new(&self, edge, key, origin(ip), sender.clone(), &source, &room.publications);
            let ended = tokio::select! {
                ended = client.serve(&mut reader, room.idle) => ended,
                () = source.shut_out() => LinkError::Closed.into(),
            };
            if let Ended::Link(err) = ended {
                if self.count(&err) {
                    source.broke_link();
                }
                return;
            }
        }
        let Some(_place) = room.nodes.take(Some(id)) else {
            self.metrics.drop_one("too_many_node_links");
            return;
        };
        let _counted = self.metrics.node_links.enter();
        room.gate.note(id, ip, &self.consensuses.borrow(), self.time.now_ms());
        let ended = self.serve_node(id, reader).await;
        self.count(&ended);
    }

    /// Brings a link as far as it takes to know what it is for; else the reason, if it counts.
    async fn arrive(
        &self,
        accepted: Accepted,
        room: &Room,
    ) -> Result<([u8; 32], LinkSender, LinkReader), Option<&'static str>> {
        let (key, sender, mut reader) = accepted.handshake(CLIENT_QUEUE).await.map_err(|err| match err {
            HandshakeError::Timeout => Some("handshake_timeout"),
            _ => Some("handshake_failed"),
        })?;
        // Around a new consensus the other side may be ahead of us.
        let mut consensuses = self.consensuses.clone();
        let id = NodeId::from(key);
        let listed =
            async { consensuses.wait_for(|consensuses| consensuses.lists(id, self.time.now_ms())).await.is_ok() };
        if self.edge.is_none() {
            let listed = tokio::time::timeout(room.membership, listed).await;
            return if listed.unwrap_or(false) { Ok((key, sender, reader)) } else { Err(Some("unknown_peer")) };
        }
        tokio::select! {
            _ = listed => {}
            arrived = reader.arrived() => arrived.map_err(|err| broken(&err))?,
            () = tokio::time::sleep(room.idle) => return Err(Some("idle_client")),
        }
        Ok((key, sender, reader))
    }

    /// Counts a peer that broke the protocol, and says whether it did.
    fn count(&self, ended: &LinkError) -> bool {
        let reason = broken(ended);
        if let Some(reason) = reason {
            self.metrics.drop_one(reason);
        }
        reason.is_some()
    }

    fn is_member(&self, id: NodeId) -> bool {
        self.consensuses.borrow().lists(id, self.time.now_ms())
    }

    async fn serve_node(&self, id: NodeId, mut reader: LinkReader) -> LinkError {
        let source = self.ingress.node(id);
        let mut consensuses = self.consensuses.clone();
        // One for the whole link, so that a packet costs no new one.
        let mut left = pin!(async { while consensuses.changed().await.is_ok() && self.is_member(id) {} });
        loop {
            tokio::select! {
                biased;
                () = &mut left => return LinkError::Closed,
                received = reader.next() => match received {
                    Ok(Received::Packets(packets)) => self.take(&source, packets),
                    Ok(_) => return LinkError::Message,
                    Err(err) => return err,
                },
            }
        }
    }

    fn take(&self, source: &Source, packets: Packets<'_>) {
        self.metrics.bytes_in.add(u64::try_from(packets.count() * FRAME_LEN).unwrap_or(0));
        source.push(packets.iter(), Instant::now());
    }
}

/// A client's link.
struct Client<'a> {
    inbound: &'a Inbound,
    edge: Arc<Edge>,
    key: [u8; 32],
    origin: Origin,
    sender: LinkSender,
    source: &'a Source,
    attachment: Option<Attachment>,
    follows: bool,
    publications: &'a Publications,
}

impl<'a> Client<'a> {
    fn new(
        inbound: &'a Inbound,
        edge: Arc<Edge>,
        key: [u8; 32],
        origin: Origin,
        sender: LinkSender,
        source: &'a Source,
        publications: &'a Publications,
    ) -> Self {
        Self { inbound, edge, key, origin, sender, source, attachment: None, follows: false, publications }
    }

    async fn serve(mut self, reader: &mut LinkReader, idle: Duration) -> Ended {
        let id = NodeId::from(self.key);
        let mut consensuses = self.inbound.consensuses.clone();
        let mut sent = consensuses.borrow_and_update().hashes();
        let mut quiet = 0;
        let mut rounds = tokio::time::interval_at(tokio::time::Instant::now() + idle, idle);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // A node may dial before we hold the consensus that lists it.
            if consensuses.borrow().lists(id, self.inbound.time.now_ms()) {
                return Ended::Listed;
            }
            tokio::select! {
                received = reader.next_or_idle() => {
                    let handled = match received {
                        Ok(Some(received)) => {
                            quiet = 0;
                            self.handle(received, &mut sent).await
                        }
                        Ok(None) => {
                            pause(self.source.spend(1)).await;
                            Ok(())
                        }
                        Err(err) => return err.into(),
                    };
                    if let Err(err) = handled {
                        return err.into();
                    }
                }
                changed = consensuses.changed() => {
                    if changed.is_err() {
                        return LinkError::Closed.into();
                    }
                    let current = Arc::clone(&consensuses.borrow_and_update());
                    let documents = current.news(&sent, self.inbound.time.now_ms());
                    sent = current.hashes();
                    if self.follows
                        && !documents.is_empty()
                        && let Err(err) = self.sender.send_control(|| Ok(announcement(&documents, &self.inbound.stock))).await
                    {
                        return err.into();
                    }
                }
                () = taken(self.attachment.as_ref()) => {
                    // It would wait for items that go elsewhere now. It comes again if it lives.
                    self.inbound.metrics.drop_one("mailbox_taken");
                    return LinkError::Closed.into();
                }
                _ = rounds.tick() => {
                    // The first may have begun before whatever came last.
                    quiet += 1;
                    if quiet > if self.attachment.is_none() { 1 } else { ATTACHED_QUIET } {
                        self.inbound.metrics.drop_one("idle_client");
                        return LinkError::Closed.into();
                    }
                }
                () = self.sender.closed() => {
                    self.inbound.metrics.drop_one("slow_reader");
                    return LinkError::Closed.into();
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
            Received::Packets(packets) => {
                pause(self.source.spend(packets.count())).await;
                self.source.room().await;
                self.inbound.take(self.source, packets);
                Ok(())
            }
            Received::ItemAck(seqs) => {
                let attachment = self.attachment.as_ref().ok_or(LinkError::Message)?;
                attachment.acknowledge(&seqs);
                pause(self.source.acknowledge(seqs.len())).await;
                Ok(())
            }
            Received::Message(message) => {
                pause(self.source.ask()).await;
                let request: Request = Received::message(&message)?;
                let given = self.answer(request.op, sent).await;
                self.sender.send_control(|| given.reply(request.id, &self.inbound.stock)).await
            }
            Received::Item(_) => Err(LinkError::Message),
        }
    }

    async fn answer(&mut self, op: Op, sent: &mut Vec<betanet_mix::view::ConsensusHash>) -> Given {
        let outcome = match op {
            Op::Time => Outcome::Time { now_ms: self.inbound.time.now_ms() },
            Op::Attach => {
                let mailbox = mailbox_of(&self.key);
                match self.edge.attach(mailbox, self.origin, self.sender.clone()).await {
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
                let consensuses = Arc::clone(&self.inbound.consensuses.borrow());
                *sent = consensuses.hashes();
                return Given::Consensus(consensuses.news(&have, self.inbound.time.now_ms()));
            }
            op @ Op::GetWorkers { .. } => return self.inbound.directory.relay(op).await,
            Op::PutWorker { worker } => {
                let asker = Asker::of(self.origin, self.key);
                match self.publications.check(asker, &worker, self.inbound.time.now_ms()) {
                    Ok(()) => return self.inbound.directory.relay(Op::PutWorker { worker }).await,
                    Err(Unpublished::TooMany(reason)) => {
                        self.inbound.metrics.drop_one("too_many_publications");
                        refused(&reason)
                    }
                    Err(Unpublished::Refused(reason)) => refused(&reason),
                }
            }
            Op::GetNetwork | Op::GetDuties | Op::PutDescriptor { .. } => {
                refused(&"an edge is not the directory authority")
            }
        };
        outcome.into()
    }
}

/// Reads a client no faster than it may send.
async fn pause(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
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
        LinkError::Malformed(_) | LinkError::Message | LinkError::Idle => Some("malformed_frame"),
        _ => None,
    }
}

fn refused(reason: &impl std::fmt::Display) -> Outcome {
    Outcome::Refused { reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
