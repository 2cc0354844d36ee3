//! Links to the other nodes: one per node of the consensus, kept open, each with a bounded queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use betanet_mix::pool::Buffer;
use betanet_sphinx::NodeId;
use tokio::sync::{mpsc, watch};

use super::metrics::Metrics;
use super::mixer::lock;
use crate::clock::now_ms;
use crate::link::{Dialer, FRAME_LEN, Frame, LinkSender};
use crate::views::Views;

/// Packets that wait for one link.
const QUEUE: usize = 2048;

/// Frames that wait inside one link; small, so that the queue above stays in charge.
const LINK_QUEUE: usize = 64;

/// A packet that waits longer for its link is dropped: its sender has sent another by then.
const PATIENCE: Duration = Duration::from_secs(5);

/// First and longest pause between attempts to reach a node.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A packet and since when it waits.
#[derive(Debug)]
struct Waiting {
    packet: Buffer,
    since: Instant,
}

/// All outgoing links of a node.
#[derive(Clone, Debug)]
pub struct Egress {
    peers: Arc<Mutex<HashMap<NodeId, mpsc::Sender<Waiting>>>>,
    metrics: Arc<Metrics>,
}

impl Egress {
    /// No links yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { peers: Arc::default(), metrics }
    }

    /// Queues a packet for `next`, or drops and counts it. Never blocks.
    pub fn send(&self, next: NodeId, packet: impl Into<Buffer>) {
        let waiting = Waiting { packet: packet.into(), since: Instant::now() };
        let sent = match lock(&self.peers).get(&next) {
            None => Err("unknown_next"),
            Some(queue) => queue.try_send(waiting).map_err(|_| "egress_full"),
        };
        match sent {
            Ok(()) => self.metrics.forwarded.add(1),
            Err(reason) => self.metrics.drop_one(reason),
        }
    }

    /// Opens links to the nodes that `views` list and closes those to nodes that left.
    pub fn follow(&self, own: NodeId, dialer: &Dialer, views: &watch::Receiver<Arc<Views>>) {
        let now = now_ms();
        let current = Arc::clone(&views.borrow());
        let mut peers = lock(&self.peers);
        // Dropping the queue ends the link's task.
        peers.retain(|id, queue| current.lists(*id, now) && !queue.is_closed());
        let listed = current.live(now).flat_map(|view| view.nodes().map(|node| node.id()).collect::<Vec<_>>());
        for id in listed {
            if id != own && !peers.contains_key(&id) {
                let (sender, queue) = mpsc::channel(QUEUE);
                peers.insert(id, sender);
                let peer = Peer {
                    id,
                    queue,
                    dialer: dialer.clone(),
                    views: views.clone(),
                    metrics: Arc::clone(&self.metrics),
                };
                tokio::spawn(peer.run());
            }
        }
    }

    /// Closes all links once their queues are written.
    pub fn close(&self) {
        lock(&self.peers).clear();
    }
}

/// The task that owns one link.
struct Peer {
    id: NodeId,
    queue: mpsc::Receiver<Waiting>,
    dialer: Dialer,
    views: watch::Receiver<Arc<Views>>,
    metrics: Arc<Metrics>,
}

impl Peer {
    async fn run(mut self) {
        let mut pause = BACK_OFF.0;
        loop {
            let Some(address) = self.address() else {
                return;
            };
            let dialled = self.dialer.dial(address, *self.id.as_bytes(), LINK_QUEUE).await;
            // The other side sends nothing on this link, but reading it notices its end.
            if let Ok((sender, mut reader)) = dialled {
                let up = Instant::now();
                let closed = async { while reader.next().await.is_ok() {} };
                tokio::select! {
                    () = closed => {}
                    ended = pump(&mut self.queue, &sender, &self.metrics) => if ended { return },
                }
                if up.elapsed() > BACK_OFF.1 {
                    pause = BACK_OFF.0;
                }
            }
            if !self.rest(pause).await {
                return;
            }
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    /// Waits before the next attempt; `false` when the node left the consensus meanwhile.
    ///
    /// What waits in the queue stays there: a restarted node finds it, unless it is stale by then.
    async fn rest(&self, pause: Duration) -> bool {
        tokio::time::sleep(pause).await;
        !self.queue.is_closed()
    }

    /// The node's address in the newest consensus that lists it.
    fn address(&self) -> Option<std::net::SocketAddr> {
        let views = self.views.borrow();
        let now = now_ms();
        let mut addresses: Vec<_> =
            views.live(now).filter_map(|view| view.node(self.id)).map(|node| node.link_address()).collect();
        addresses.pop()
    }
}

/// Moves packets from the queue to the link; `true` when the queue has ended.
async fn pump(queue: &mut mpsc::Receiver<Waiting>, sender: &LinkSender, metrics: &Metrics) -> bool {
    loop {
        let Some(waiting) = queue.recv().await else {
            return true;
        };
        if waiting.since.elapsed() > PATIENCE {
            metrics.drop_one("link_down");
            continue;
        }
        if sender.send(Frame::packet(waiting.packet)).await.is_err() {
            metrics.drop_one("link_down");
            return false;
        }
        metrics.bytes_out.add(u64::try_from(FRAME_LEN).unwrap_or(0));
    }
}
