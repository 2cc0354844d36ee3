//! The authority's links: places for who comes, for strangers, and for nodes.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use betanet_mix::allowance::Asker;
use betanet_mix::places::origin;
use betanet_sphinx::NodeId;

use super::Shared;
use super::metrics::{Counts, Refused};
use crate::allowances::SharedAllowances;
use crate::bind::AcceptTrouble;
use crate::control::{Given, Op, Outcome, Request, announcement};
use crate::gate::Gate;
use crate::link::{Accepted, LinkError, LinkReader, LinkSender, Listener, MOST_IDLE, Received};
use crate::newcomers::{Newcomer, Newcomers};
use crate::places::Places;
use crate::process::link_places;

/// Frames that wait for one peer.
const QUEUE: usize = 256;

/// Descriptors that a node may bring in one go, and per second: an edge brings those of its clients.
const OF_A_NODE: (f64, f64) = (256.0, 64.0);

/// The same for all strangers at an address: those who are to be nodes bring their own.
const OF_STRANGERS: (f64, f64) = (64.0, 1.0);

/// Requests of all strangers at an address in one go, and per second; whoever has none left waits.
const REQUESTS: (f64, f64) = (256.0, 32.0);
const WAIT: Duration = Duration::from_secs(1);

/// Links of one node. It needs one, and another while the first is not known to be dead.
const OF_ONE_NODE: usize = 4;

/// For the first request, after the handshake.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// A link that asks for nothing has to go after this long, whoever keeps it open. Nodes ask for the time every 15 s.
const IDLE: Duration = Duration::from_mins(1);

/// How often it is said that links had to go.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// How many links there may be, and for how long.
#[derive(Clone, Copy, Debug)]
struct Limits {
    links: usize,
    /// The part of the newcomers' and of the strangers' places that one address may have, as a divisor.
    share: usize,
    first_request: Duration,
    idle: Duration,
}

impl Limits {
    const fn of(links: usize) -> Self {
        Self { links, share: 4, first_request: FIRST_REQUEST, idle: IDLE }
    }
}

/// The places of the links that there may be.
struct Room {
    /// Links that have not shown a key yet, or an unknown one and no request. The oldest gives way.
    gate: Gate,
    /// Links of keys that are no node's so far. The oldest gives way.
    strangers: Newcomers,
    /// Links of nodes: those that a consensus lists, or that have brought a descriptor.
    nodes: Places<NodeId>,
    limits: Limits,
}

impl Room {
    /// Half of the links for nodes, a quarter for strangers, an eighth each for newcomers from addresses of nodes and from
    /// others.
    fn of(limits: Limits) -> Self {
        let share = |places: usize| (places / limits.share).max(1);
        let (newcomers, strangers) = (limits.links / 8, limits.links / 4);
        Self {
            gate: Gate::new(newcomers, share(newcomers)),
            strangers: Newcomers::new(strangers, share(strangers)),
            nodes: Places::new(limits.links / 2, OF_ONE_NODE),
            limits,
        }
    }

    /// Whether a stranger's connection is looked at.
    fn admits(&self, ip: IpAddr, counts: &Counts) -> bool {
        let admitted = self.gate.admits(ip);
        if !admitted {
            counts.refuse(Refused::TooManyConnections);
        }
        admitted
    }
}

/// Says now and then, in one line, how many links had to go.
async fn report(counts: &Counts) {
    let mut rounds = tokio::time::interval(SAY_EVERY);
    let mut said = [0; 6];
    loop {
        rounds.tick().await;
        let all = [
            Refused::NoPlace,
            Refused::TooManyConnections,
            Refused::Handshake,
            Refused::Idle,
            Refused::Malformed,
            Refused::SlowReader,
        ]
        .map(|why| counts.refused(why));
        let before = std::mem::replace(&mut said, all).into_iter();
        let mut more = all.into_iter().zip(before).map(|(links, before)| links - before);
        let [no_place, too_many, handshake, idle, malformed, slow_reader] =
            std::array::from_fn(|_| more.next().unwrap_or(0));
        if no_place + too_many + handshake + idle + malformed + slow_reader > 0 {
            tracing::warn!(no_place, too_many, handshake, idle, malformed, slow_reader, "links.turned_away");
        }
    }
}

/// What each may still bring and ask, by all links that it has.
#[derive(Debug)]
pub(super) struct Left {
    of_nodes: SharedAllowances<NodeId>,
    of_strangers: SharedAllowances<Asker>,
    requests: SharedAllowances<Asker>,
}

impl Default for Left {
    fn default() -> Self {
        Self {
            of_nodes: SharedAllowances::new(OF_A_NODE),
            of_strangers: SharedAllowances::new(OF_STRANGERS),
            requests: SharedAllowances::new(REQUESTS),
        }
    }
}

/// Takes links until it is dropped.
pub(super) async fn serve(listener: &Listener, shared: &Arc<Shared>) {
    // Half of the open files: the others are for the disk.
    serve_within(&Arc::new(Room::of(Limits::of(link_places()))), listener, shared).await;
}

async fn serve_within(room: &Arc<Room>, listener: &Listener, shared: &Arc<Shared>) {
    let mut trouble = AcceptTrouble::default();
    let mut links = tokio::task::JoinSet::new();
    let accept = async {
        loop {
            while links.try_join_next().is_some() {}
            let accepted = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(err) => {
                    trouble.wait_out(&err).await;
                    continue;
                }
            };
            let ip = accepted.ip();
            let is_neighbour = room.gate.is_neighbour(ip, &shared.consensuses.borrow(), shared.time.now_ms());
            if !is_neighbour && !room.admits(ip, &shared.counts) {
                continue;
            }
            let lot = room.gate.lot(is_neighbour);
            let newcomer = lot.come(origin(ip));
            links.spawn(one(Arc::clone(shared), Arc::clone(room), accepted, newcomer));
            lot.settled().await;
        }
    };
    tokio::select! {
        () = accept => {}
        () = report(&shared.counts) => {}
    }
}

async fn one(shared: Arc<Shared>, room: Arc<Room>, accepted: Accepted, newcomer: Newcomer) {
    if let Err(why) = serve_one(&shared, &room, accepted, newcomer).await {
        shared.counts.refuse(why);
    }
}

async fn serve_one(shared: &Shared, room: &Room, accepted: Accepted, mut newcomer: Newcomer) -> Result<(), Refused> {
    let ip = accepted.ip();
    let (peer, sender, reader) = tokio::select! {
        arrival = shared.arrive(accepted, room.limits.first_request) => arrival?,
        () = newcomer.gives_way() => return Err(Refused::NoPlace),
    };
    drop(newcomer);
    let mut talk = pin!(shared.talk(Peer { id: peer, ip }, sender, reader, room.limits.idle));
    if !shared.knows(peer).await {
        let mut stranger = room.strangers.come(origin(ip));
        tokio::select! {
            ended = &mut talk => return ended,
            () = shared.lists(peer) => {}
            () = stranger.gives_way() => {
                if !shared.knows(peer).await {
                    return Err(Refused::NoPlace);
                }
            }
        }
    }
    let _place = room.nodes.take(Some(peer)).ok_or(Refused::NoPlace)?;
    room.gate.note(peer, ip, &shared.consensuses.borrow(), shared.time.now_ms());
    talk.await
}

/// Whose link it is, and where it comes from.
#[derive(Clone, Copy, Debug)]
struct Peer {
    id: NodeId,
    ip: IpAddr,
}

impl Peer {
    fn asker(self) -> Asker {
        Asker::of(origin(self.ip), *self.id.as_bytes())
    }
}

/// Why the link of a peer that sent this had to go; nothing if it ended by itself.
fn broken(err: &LinkError) -> Result<(), Refused> {
    match err {
        LinkError::Malformed(_) | LinkError::Message | LinkError::Idle => Err(Refused::Malformed),
        LinkError::Silent => Err(Refused::Idle),
        _ => Ok(()),
    }
}

impl Shared {
    /// Brings a link as far as it takes to know whether it is worth a place.
    async fn arrive(&self, accepted: Accepted, first: Duration) -> Result<(NodeId, LinkSender, LinkReader), Refused> {
        let (key, sender, mut reader) = accepted.handshake(QUEUE).await.map_err(|_| Refused::Handshake)?;
        let peer = NodeId::from(key);
        if !self.knows(peer).await {
            let arrived = tokio::time::timeout(first, reader.arrived()).await.map_err(|_| Refused::Idle)?;
            // One that closes before it has asked is no better than one that does not ask.
            arrived.map_err(|err| broken(&err).err().unwrap_or(Refused::Idle))?;
        }
        Ok((peer, sender, reader))
    }

    /// Whether a consensus lists this key, or its descriptor is held.
    async fn knows(&self, peer: NodeId) -> bool {
        self.consensuses.borrow().lists(peer, self.time.now_ms()) || self.ledger.lock().await.knows(peer)
    }

    /// Resolves when a consensus lists this key.
    async fn lists(&self, peer: NodeId) {
        let mut consensuses = self.consensuses.subscribe();
        if consensuses.wait_for(|consensuses| consensuses.lists(peer, self.time.now_ms())).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether a peer may bring one more descriptor.
    async fn may_bring(&self, peer: Peer) -> bool {
        if self.knows(peer.id).await {
            self.left.of_nodes.take(peer.id)
        } else {
            self.left.of_strangers.take(peer.asker())
        }
    }

    async fn talk(
        &self,
        peer: Peer,
        sender: LinkSender,
        mut reader: LinkReader,
        idle: Duration,
    ) -> Result<(), Refused> {
        let mut consensuses = self.consensuses.subscribe();
        let mut sent = Vec::new();
        let mut follows = false;
        let mut asked = pin!(tokio::time::sleep(idle));
        let mut idle_frames = 0;
        loop {
            let message = tokio::select! {
                received = reader.next_or_idle() => match received {
                    Ok(Some(Received::Message(message))) => message,
                    Ok(None) if idle_frames < MOST_IDLE => {
                        idle_frames += 1;
                        continue;
                    }
                    Ok(_) => return Err(Refused::Malformed),
                    Err(err) => return broken(&err),
                },
                changed = consensuses.changed(), if follows => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let current = Arc::clone(&consensuses.borrow_and_update());
                    let documents = current.news(&sent, self.time.now_ms());
                    sent = current.hashes();
                    if !documents.is_empty() {
                        let announced = sender.send_control(|| Ok(announcement(&documents, &self.stock)));
                        announced.await.map_err(|_| Refused::SlowReader)?;
                    }
                    continue;
                }
                () = &mut asked => return Err(Refused::Idle),
                () = sender.closed() => return Err(Refused::SlowReader),
            };
            if !self.consensuses.borrow().lists(peer.id, self.time.now_ms()) && !self.left.requests.take(peer.asker()) {
                tokio::time::sleep(WAIT).await;
            }
            let Request { id, op } = Received::message(&message).map_err(|_| Refused::Malformed)?;
            let given = match op {
                Op::GetConsensus { have, follow } => {
                    follows |= follow;
                    let current = Arc::clone(&consensuses.borrow_and_update());
                    sent = current.hashes();
                    Given::Consensus(current.news(&have, self.time.now_ms()))
                }
                Op::PutWorker { .. } | Op::PutDescriptor { .. } if !self.may_bring(peer).await => {
                    self.counts.refuse(Refused::TooManyDescriptors);
                    Outcome::Refused { reason: "too many descriptors; try again later".to_owned() }.into()
                }
                op => self.answer(peer.id, op).await,
            };
            sender.send_control(|| given.reply(id, &self.stock)).await.map_err(|_| Refused::SlowReader)?;
            asked.as_mut().reset(tokio::time::Instant::now() + idle);
            idle_frames = 0;
        }
    }
}

#[cfg(test)]
mod tests;
