//! Links to the other nodes: one per node of the consensus, kept open, each with a bounded queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use betanet_mix::directory::Consensuses;
use betanet_mix::pool::Buffer;
use betanet_mix::view::LinkAddress;
use betanet_sphinx::NodeId;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::metrics::Metrics;
use crate::clock::NetworkClock;
use crate::link::{Dialer, FRAME_LEN, Frame, LinkWriter};
use crate::sync::lock;

/// Packets that wait for one link.
const QUEUE: usize = 2048;

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
    time: NetworkClock,
    metrics: Arc<Metrics>,
}

impl Egress {
    /// No links yet.
    #[must_use]
    pub fn new(time: NetworkClock, metrics: Arc<Metrics>) -> Self {
        Self { peers: Arc::default(), time, metrics }
    }

    /// Queues a packet for `next`, or drops and counts it. Never blocks.
    pub fn send(&self, next: NodeId, packet: impl Into<Buffer>) {
        let waiting = Waiting { packet: packet.into(), since: Instant::now() };
        let sent = match lock(&self.peers).get(&next) {
            None => Err("unknown_next"),
            Some(queue) => queue.try_send(waiting).map_err(|err| match err {
                TrySendError::Full(_) => "egress_full",
                TrySendError::Closed(_) => "link_closed",
            }),
        };
        if let Err(reason) = sent {
            self.metrics.drop_one(reason);
        }
    }

    /// Opens links to the nodes that `consensuses` list and closes those to nodes that left.
    pub fn follow(&self, own: NodeId, dialer: &Dialer, consensuses: &watch::Receiver<Arc<Consensuses>>) {
        let now = self.time.now_ms();
        let current = Arc::clone(&consensuses.borrow());
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
                    consensuses: consensuses.clone(),
                    time: self.time.clone(),
                    metrics: Arc::clone(&self.metrics),
                };
                tokio::spawn(peer.run());
            }
        }
    }
}

/// The task that owns one link.
struct Peer {
    id: NodeId,
    queue: mpsc::Receiver<Waiting>,
    dialer: Dialer,
    consensuses: watch::Receiver<Arc<Consensuses>>,
    time: NetworkClock,
    metrics: Arc<Metrics>,
}

impl Peer {
    async fn run(mut self) {
        let mut pause = BACK_OFF.0;
        loop {
            let Some(address) = self.address() else {
                return;
            };
            let dialled = self.dialer.dial_writer(&address, *self.id.as_bytes()).await;
            // The other side sends nothing on this link, but reading it notices its end.
            if let Ok((mut writer, mut reader)) = dialled {
                let up = Instant::now();
                // A task of its own: each packet to be written would have the reader polled.
                let mut closed = JoinSet::new();
                closed.spawn(async move { while reader.next().await.is_ok() {} });
                tokio::select! {
                    _ = closed.join_next() => {}
                    ended = pump(&mut self.queue, &mut writer, &self.metrics) => if ended { return },
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
    fn address(&self) -> Option<LinkAddress> {
        let consensuses = self.consensuses.borrow();
        let now = self.time.now_ms();
        let mut addresses: Vec<_> = consensuses
            .live(now)
            .filter_map(|view| view.node(self.id))
            .map(|node| node.link_address().clone())
            .collect();
        addresses.pop()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Closed first, so that what is still sent here is refused and counted by its sender.
        self.queue.close();
        while self.queue.try_recv().is_ok() {
            self.metrics.drop_one("link_closed");
        }
    }
}

/// Packets between the queue and the link; those that get no further are counted as lost.
struct Passing<'a> {
    packets: usize,
    metrics: &'a Metrics,
}

impl Passing<'_> {
    fn arrived(mut self) {
        let packets = std::mem::take(&mut self.packets);
        self.metrics.forwarded.add(u64::try_from(packets).unwrap_or(0));
        self.metrics.bytes_out.add(u64::try_from(packets * FRAME_LEN).unwrap_or(0));
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.metrics.drop_many("link_down", self.packets);
    }
}

/// Writes what waits in the queue to the link; `true` when the queue has ended.
async fn pump(queue: &mut mpsc::Receiver<Waiting>, writer: &mut LinkWriter, metrics: &Metrics) -> bool {
    let (mut batch, mut frames) = (Vec::new(), Vec::new());
    while writer.collect(queue, &mut batch).await {
        let now = Instant::now();
        let is_fresh = |waiting: &Waiting| now.saturating_duration_since(waiting.since) <= PATIENCE;
        frames.clear();
        let count = batch.len();
        frames.extend(batch.drain(..).filter(is_fresh).map(|waiting| Frame::packet(waiting.packet)));
        metrics.drop_many("link_down", count - frames.len());
        if count > 0 && frames.is_empty() {
            continue;
        }
        let passing = Passing { packets: frames.len(), metrics };
        if writer.write(frames.iter()).await.is_err() {
            return false;
        }
        passing.arrived();
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use betanet_sphinx::PACKET_LEN;
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::link::LinkTimeouts;

    #[tokio::test]
    async fn what_waits_for_a_node_that_left_is_counted_as_lost() {
        let metrics = Arc::new(Metrics::new(true));
        let egress = Egress::new(NetworkClock::from_wall(), Arc::clone(&metrics));
        let id = NodeId::from([1; 32]);
        let (sender, queue) = mpsc::channel(4);
        lock(&egress.peers).insert(id, sender);
        egress.send(id, &[0; PACKET_LEN]);
        egress.send(id, &[0; PACKET_LEN]);
        let peer = Peer {
            id,
            queue,
            dialer: Dialer::new(&SigningKey::from_bytes(&[2; 32]), LinkTimeouts::default()).unwrap(),
            consensuses: watch::Sender::new(Arc::new(Consensuses::new("test".into(), id))).subscribe(),
            time: NetworkClock::from_wall(),
            metrics: Arc::clone(&metrics),
        };
        // No consensus lists the node, so its task ends.
        peer.run().await;
        assert_eq!(2, metrics.dropped("link_closed"));
        egress.send(id, &[0; PACKET_LEN]);
        assert_eq!((3, 0), (metrics.dropped("link_closed"), metrics.forwarded.get()));
    }

    #[tokio::test]
    async fn packets_for_nobody_and_for_a_full_queue_are_counted_as_lost() {
        let metrics = Arc::new(Metrics::new(true));
        let egress = Egress::new(NetworkClock::from_wall(), Arc::clone(&metrics));
        let [listed, other] = [1, 2].map(|n| NodeId::from([n; 32]));
        let (sender, _queue) = mpsc::channel(2);
        lock(&egress.peers).insert(listed, sender);
        for to in [other, listed, listed, listed] {
            egress.send(to, &[0; PACKET_LEN]);
        }
        assert_eq!((1, 1), (metrics.dropped("unknown_next"), metrics.dropped("egress_full")));
    }

    #[test]
    fn packets_are_forwarded_when_their_link_has_them_and_lost_otherwise() {
        let metrics = Arc::new(Metrics::new(true));
        Passing { packets: 3, metrics: &metrics }.arrived();
        assert_eq!((0, 3), (metrics.dropped("link_down"), metrics.forwarded.get()));
        assert_eq!(3 * u64::try_from(FRAME_LEN).unwrap(), metrics.bytes_out.get());
        drop(Passing { packets: 2, metrics: &metrics });
        assert_eq!((2, 3), (metrics.dropped("link_down"), metrics.forwarded.get()));
    }
}
