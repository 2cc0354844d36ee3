//! The authority's links: places for who comes, for strangers, and for nodes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use betanet_sphinx::NodeId;

use super::Shared;
use crate::bind::AcceptTrouble;
use crate::budget::Budget;
use crate::control::{Answer, Op, Outcome, Request};
use crate::link::{Accepted, LinkError, LinkReader, LinkSender, Listener, Received};
use crate::newcomers::{Newcomer, Newcomers};
use crate::places::Places;
use crate::process::link_places;

/// Frames that wait for one peer.
const QUEUE: usize = 256;

/// Descriptors that a peer may bring in one go, and per second: an edge brings those of its clients.
const DESCRIPTORS: (f64, f64) = (256.0, 64.0);

/// Links of one node. It needs one, and another while the first is not known to be dead.
const OF_ONE_NODE: usize = 4;

/// For the first request, after the handshake.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// How often it is said that links had to give way.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// The places of the links that there may be.
struct Room {
    /// Links that have not shown a key yet, or an unknown one and no request. The oldest gives way.
    newcomers: Newcomers,
    /// Links of keys that are no node's so far. The oldest gives way.
    strangers: Newcomers,
    /// Links of nodes: those that a consensus lists, or that have brought a descriptor.
    nodes: Places<NodeId>,
    /// Links that gave way, or found all places of nodes taken.
    turned_away: AtomicU64,
}

impl Room {
    /// Half of the links for nodes, a quarter each for newcomers and strangers.
    fn of(links: usize) -> Self {
        let quarter = links / 4;
        Self {
            newcomers: Newcomers::new(quarter, quarter),
            strangers: Newcomers::new(quarter, quarter),
            nodes: Places::new(links / 2, OF_ONE_NODE),
            turned_away: AtomicU64::new(0),
        }
    }

    fn turn_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// Says now and then how many links had to go.
    async fn report(&self) {
        let mut rounds = tokio::time::interval(SAY_EVERY);
        loop {
            rounds.tick().await;
            let links = self.turned_away.swap(0, Ordering::Relaxed);
            if links > 0 {
                tracing::warn!(links, "links.turned_away");
            }
        }
    }
}

/// Takes links until it is dropped.
pub(super) async fn serve(listener: &Listener, shared: &Arc<Shared>) {
    // Half of the open files: the others are for the disk.
    serve_within(link_places(), listener, shared).await;
}

async fn serve_within(places: usize, listener: &Listener, shared: &Arc<Shared>) {
    let room = Arc::new(Room::of(places));
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
            let newcomer = room.newcomers.come(None);
            links.spawn(one(Arc::clone(shared), Arc::clone(&room), accepted, newcomer));
            room.newcomers.settled().await;
        }
    };
    tokio::select! {
        () = accept => {}
        () = room.report() => {}
    }
}

async fn one(shared: Arc<Shared>, room: Arc<Room>, accepted: Accepted, mut newcomer: Newcomer) {
    let arrival = tokio::select! {
        arrival = shared.arrive(accepted) => arrival,
        () = newcomer.gives_way() => return room.turn_away(),
    };
    let Some((peer, sender, reader)) = arrival else {
        return;
    };
    drop(newcomer);
    // A peer that breaks the protocol is cut off; there is nobody to tell.
    let mut talk = pin!(shared.talk(peer, sender, reader));
    if !shared.knows(peer).await {
        let mut stranger = room.strangers.come(None);
        tokio::select! {
            _ = &mut talk => return,
            () = shared.lists(peer) => {}
            () = stranger.gives_way() => {
                if !shared.knows(peer).await {
                    return room.turn_away();
                }
            }
        }
    }
    match room.nodes.take(Some(peer)) {
        Some(_place) => drop(talk.await),
        None => room.turn_away(),
    }
}

impl Shared {
    /// Brings a link as far as it takes to know whether it is worth a place.
    async fn arrive(&self, accepted: Accepted) -> Option<(NodeId, LinkSender, LinkReader)> {
        let (key, sender, mut reader) = accepted.handshake(QUEUE).await.ok()?;
        let peer = NodeId::from(key);
        if !self.knows(peer).await {
            tokio::time::timeout(FIRST_REQUEST, reader.arrived()).await.ok()?.ok()?;
        }
        Some((peer, sender, reader))
    }

    /// Whether a consensus lists this key, or its descriptor is held.
    async fn knows(&self, peer: NodeId) -> bool {
        self.views.borrow().lists(peer, self.time.now_ms()) || self.ledger.lock().await.knows(peer)
    }

    /// Resolves when a consensus lists this key.
    async fn lists(&self, peer: NodeId) {
        let mut views = self.views.subscribe();
        if views.wait_for(|views| views.lists(peer, self.time.now_ms())).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn talk(&self, peer: NodeId, sender: LinkSender, mut reader: LinkReader) -> Result<(), LinkError> {
        let mut views = self.views.subscribe();
        let mut sent = Vec::new();
        let mut follows = false;
        let mut descriptors = Budget::new(DESCRIPTORS.0, DESCRIPTORS.1);
        loop {
            tokio::select! {
                received = reader.next() => {
                    let Received::Message(message) = received? else {
                        return Err(LinkError::Message);
                    };
                    let Request { id, op } = Received::message(&message)?;
                    let outcome = match op {
                        Op::GetConsensus { have, follow } => {
                            follows |= follow;
                            let current = Arc::clone(&views.borrow_and_update());
                            sent = current.hashes();
                            Outcome::Consensus { documents: current.beyond(&have, self.time.now_ms()) }
                        }
                        Op::PutWorker { .. } | Op::PutDescriptor { .. } if !descriptors.take() => {
                            Outcome::Refused { reason: "too many descriptors on one link; try again later".to_owned() }
                        }
                        op => self.answer(peer, op).await,
                    };
                    sender.send_message(&Answer::Reply { id, outcome }).await?;
                }
                changed = views.changed(), if follows => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let current = Arc::clone(&views.borrow_and_update());
                    let documents = current.beyond(&sent, self.time.now_ms());
                    sent = current.hashes();
                    if !documents.is_empty() {
                        sender.send_message(&Answer::Consensus { documents }).await?;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
