//! Sends every node of a network packets that it has let in before, and counts those that it lets in again.
//!
//! The packets end at one node more, an edge that no client has in its network file and that announces the address of
//! this process. So packets are handed to each node under the key of a node, and what it lets through comes back here.
//! A packet leaves a node as the same bytes each time that it is let in, so one that was let in twice is known by its look.
//! Each packet goes out in two copies at once, older ones again and again, and all of them to a node that has come back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use betanet_mix::pool::Buffer;
use betanet_mix::view::Role;
use betanet_node::link::{Accepted, Dialer, Frame, LinkSender, LinkTimeouts, Listener, Received};
use betanet_node::net::NetFile;
use betanet_sphinx::{Draft, MailboxId, NodeId, PACKET_LEN, USER_PAYLOAD_LEN, build_forward_batch};
use rand_chacha::ChaCha20Rng;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::relayed::Relayed;
use crate::site::Site;
use crate::{Failure, fresh_rng};

/// Each node gets a new packet so often.
const TICK: Duration = Duration::from_millis(100);

/// Older packets that go out beside a new one.
const OLDER: usize = 5;

/// Packets that are kept for each node: of more epochs than it has keys for.
const KEPT: usize = 2048;

/// Frames that wait to be written to one node.
const QUEUE: usize = 64;

/// How often it is looked which keys the nodes have.
const LOOK: Duration = Duration::from_millis(500);

/// A look that takes longer is given up, and so is a node that does not come back at the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause before a node that is away is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// When nothing has come for so long, nothing is on its way.
const SETTLED: Duration = Duration::from_secs(1);

/// What came of it, for the nodes of one role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Different packets that were sent.
    pub packets: usize,
    /// Different packets that came back.
    pub came: usize,
    /// Copies that were sent beside the first of each.
    pub sent_again: u64,
    /// Packets that came back more than once.
    pub let_in_again: usize,
}

/// The node at the end of the packets, and all that is sent to it.
#[derive(Debug)]
pub struct Replayer {
    net: NetFile,
    id: NodeId,
    dialer: Arc<Dialer>,
    arrivals: Arc<Arrivals>,
    _node: crate::child::Child,
}

impl Replayer {
    /// Starts the node in a folder of its own.
    ///
    /// # Errors
    /// It does not start, or the network file is none.
    pub async fn start(betanet: &Path, folder: &Path, bootstrap: &Path) -> Result<Self, Failure> {
        let net = NetFile::read(bootstrap)?;
        let Relayed { key, endpoint, listener, child } =
            Relayed::start(betanet, folder.to_owned(), "exit", bootstrap).await?;
        let arrivals = Arc::new(Arrivals::default());
        tokio::spawn(listen(listener, Arc::clone(&arrivals)));
        let dialer = Arc::new(Dialer::new(&key, LinkTimeouts::default())?);
        Ok(Self { net, id: endpoint.id, dialer, arrivals, _node: child })
    }

    /// Goes on until told otherwise, sends everything once more, and says what became of it by the nodes' roles. Calls `begun`
    /// once each node has let a packet in.
    ///
    /// # Errors
    /// The network cannot be reached at the start.
    pub async fn run(
        self,
        begun: impl FnOnce(),
        until: impl Future<Output = ()>,
    ) -> Result<BTreeMap<Role, Replayed>, Failure> {
        let site = Site::look(&self.net).await?;
        let roles: BTreeMap<_, _> = site.view.nodes().map(|node| (node.id(), node.role())).collect();
        let (sites, known) = watch::channel(Arc::new(site));
        let mut tasks = JoinSet::new();
        for id in roles.keys().copied().filter(|id| *id != self.id) {
            let sender = Sender {
                target: id,
                end: self.id,
                known: known.clone(),
                rng: fresh_rng()?,
                copies: VecDeque::new(),
                packets: 0,
                sent_again: 0,
            };
            tasks.spawn(sender.go_on(Arc::clone(&self.dialer)));
        }
        drop(known);
        tokio::pin!(until);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut begun = Some(begun);
        loop {
            tokio::select! {
                () = &mut until => break,
                _ = looks.tick() => {}
            }
            if let Some(begun) = begun.take_if(|_| self.arrivals.nodes() == tasks.len()) {
                begun();
            }
            // Nodes are killed and frozen; what was known before goes on being used then.
            if let Ok(Ok(site)) = timeout(PATIENCE, Site::look(&self.net)).await {
                sites.send_replace(Arc::new(site));
            }
        }
        drop(sites);
        let mut report = BTreeMap::<Role, Replayed>::new();
        // The links stay open until all has come.
        let ended = tasks.join_all().await;
        self.arrivals.settle().await;
        for (sender, _link) in &ended {
            let Some(role) = roles.get(&sender.target) else { continue };
            let (came, let_in_again) = self.arrivals.of(sender.target);
            let of_role = report.entry(*role).or_default();
            of_role.packets += sender.packets;
            of_role.came += came;
            of_role.sent_again += sender.sent_again;
            of_role.let_in_again += let_in_again;
        }
        Ok(report)
    }
}

/// What one node is sent.
struct Sender {
    target: NodeId,
    end: NodeId,
    known: watch::Receiver<Arc<Site>>,
    rng: ChaCha20Rng,
    copies: VecDeque<Buffer>,
    packets: usize,
    sent_again: u64,
}

/// The link has ended.
struct Away;

impl Sender {
    /// Sends to the node, and to the one that takes its place, until nobody looks any more; then all once more. The link is given
    /// back, so that what waits in it is written.
    async fn go_on(mut self, dialer: Arc<Dialer>) -> (Self, Option<LinkSender>) {
        while self.goes_on() {
            let Some(link) = self.dial(&dialer).await else {
                sleep(AGAIN).await;
                continue;
            };
            let _ = self.over(&link).await;
        }
        let last = timeout(PATIENCE, async {
            loop {
                if let Some(link) = self.dial(&dialer).await
                    && self.all_again(&link).await.is_ok()
                {
                    return link;
                }
                sleep(AGAIN).await;
            }
        });
        let link = last.await.ok();
        (self, link)
    }

    fn goes_on(&self) -> bool {
        self.known.has_changed().is_ok()
    }

    async fn dial(&self, dialer: &Dialer) -> Option<LinkSender> {
        let address = self.known.borrow().view.node(self.target)?.link_address().clone();
        let (link, mut reader) = dialer.dial(&address, *self.target.as_bytes(), QUEUE).await.ok()?;
        // The node says nothing here, but reading notices the end.
        tokio::spawn(async move { while reader.next().await.is_ok() {} });
        Some(link)
    }

    async fn over(&mut self, link: &LinkSender) -> Result<(), Away> {
        self.all_again(link).await?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.goes_on() {
            ticks.tick().await;
            for _ in 0..OLDER.min(self.copies.len()) {
                self.copies.rotate_left(1);
                if let Some(older) = self.copies.back() {
                    send(link, older).await?;
                    self.sent_again += 1;
                }
            }
            let Some(packet) = self.make() else { continue };
            send(link, &packet).await?;
            send(link, &packet).await?;
            self.packets += 1;
            self.sent_again += 1;
            self.copies.push_front(packet);
            self.copies.truncate(KEPT);
        }
        Ok(())
    }

    async fn all_again(&mut self, link: &LinkSender) -> Result<(), Away> {
        for copy in &self.copies {
            send(link, copy).await?;
            self.sent_again += 1;
        }
        Ok(())
    }

    /// A packet over the node to the end; none while the keys of one of them are not known.
    fn make(&mut self) -> Option<Buffer> {
        let site = self.known.borrow().clone();
        let path = [site.hop(self.target).ok()?, site.hop(self.end).ok()?];
        let draft = Draft::new(site.parity(), &path, MailboxId::from([3; MailboxId::LEN]), &[13; USER_PAYLOAD_LEN]);
        let mut packet = [Buffer::from(&[0; PACKET_LEN])];
        build_forward_batch(&mut self.rng, &[draft], &mut packet).into_iter().next()?.ok()?;
        let [packet] = packet;
        Some(packet)
    }
}

async fn send(link: &LinkSender, packet: &Buffer) -> Result<(), Away> {
    link.send(Frame::packet(Buffer::from(packet.to_vec()))).await.map_err(|_| Away)
}

/// How often each packet came from each node, by its look.
#[derive(Debug, Default)]
struct Arrivals(Mutex<HashMap<NodeId, HashMap<u64, u32>>>);

impl Arrivals {
    fn note(&self, from: NodeId, look: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(from).or_default().entry(look).or_insert(0) += 1;
    }

    /// From how many nodes something came.
    fn nodes(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn all(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .flat_map(HashMap::values)
            .copied()
            .map(u64::from)
            .sum()
    }

    /// Different packets from a node, and those that came more than once.
    fn of(&self, from: NodeId) -> (usize, usize) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = all.get(&from);
        (times.map_or(0, HashMap::len), times.into_iter().flat_map(HashMap::values).filter(|times| **times > 1).count())
    }

    async fn settle(&self) {
        let mut before = None;
        while before != Some(self.all()) {
            before = Some(self.all());
            sleep(SETTLED).await;
        }
    }
}

async fn listen(listener: Listener, arrivals: Arc<Arrivals>) {
    while let Ok(accepted) = listener.accept().await {
        tokio::spawn(take(accepted, Arc::clone(&arrivals)));
    }
}

async fn take(accepted: Accepted, arrivals: Arc<Arrivals>) {
    let Ok((peer, sender, mut reader)) = accepted.handshake(QUEUE).await else { return };
    while let Ok(received) = reader.next().await {
        if let Received::Packets(packets) = received {
            for look in packets.iter().filter_map(|packet| crate::load::look(packet)) {
                arrivals.note(NodeId::from(peer), look);
            }
        }
    }
    drop(sender);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_comes_twice_from_one_node_is_counted_once_and_as_let_in_again() {
        let arrivals = Arrivals::default();
        let [one, other] = [1, 2].map(|id| NodeId::from([id; NodeId::LEN]));
        for (from, look) in [(one, 7), (one, 8), (other, 7), (one, 7), (one, 7)] {
            arrivals.note(from, look);
        }
        assert_eq!([(2, 1), (1, 0)], [arrivals.of(one), arrivals.of(other)]);
        assert_eq!((5, 2), (arrivals.all(), arrivals.nodes()));
    }
}
