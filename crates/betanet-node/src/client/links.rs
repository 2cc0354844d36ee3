//! A client's links: one to each of its own edges, and others for as long as they are of use.

mod kept;
mod once;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use betanet_mix::directory::Consensuses;
use betanet_mix::view::{LinkAddress, Mailbox, NetworkView, Signed, Verified, WorkerList};
use betanet_sphinx::NodeId;
use ed25519_dalek::SigningKey;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

pub(super) use self::kept::KeptLinks;
use self::once::ask_time;
pub(super) use self::once::draw_apart;
use super::network_time::{NetworkTime, Verdict};
use super::offline::{ConsensusTrouble, EdgeFailure, Offline};
use super::seen::SeenDocuments;
use super::store::OwnMailbox;
use crate::control::{ControlChannel, ControlError, Op, Outcome};
use crate::link::frame::Item;
use crate::link::{Dialer, Frame, LinkError, LinkSender, LinkTimeouts};
use crate::net::{Endpoint, NetFile};
use crate::random::os_rng;
use crate::sync::lock;

/// Frames that wait for one edge.
pub(super) const LINK_QUEUE: usize = 512;

/// Links to edges that are not the client's own.
const PASSING_LINKS: usize = 64;

/// A link to a foreign edge is closed after this long without a packet.
const PASSING_IDLE: Duration = Duration::from_mins(1);

/// What happens on the links to own edges.
#[derive(Debug)]
pub(super) enum LinkEvent {
    Item { edge: NodeId, item: Item },
    Attached { mailbox: Mailbox, link: LinkSender, channel: ControlChannel },
    Detached { edge: NodeId },
    ViewChanged,
}

/// What the tasks, the courier's thread and the callers share.
#[derive(Debug)]
pub(super) struct ClientLinks {
    bootstrap: PathBuf,
    consensuses: watch::Sender<Arc<Consensuses>>,
    time: NetworkTime,
    seen: SeenDocuments,
    /// The client's mailboxes, with those of before, which links are kept to.
    own: watch::Sender<Vec<OwnMailbox>>,
    /// Control channels of attached edges.
    channels: Mutex<HashMap<NodeId, ControlChannel>>,
    /// Queues of links to foreign edges.
    passing: Mutex<HashMap<NodeId, mpsc::Sender<Frame>>>,
    /// Whether an edge gave a consensus that is not of this network.
    foreign: AtomicBool,
    /// The client's own edges that are away.
    failures: Mutex<BTreeMap<NodeId, EdgeFailure>>,
}

impl ClientLinks {
    pub(super) fn new(bootstrap: PathBuf, consensuses: Consensuses, time: NetworkTime, seen: SeenDocuments) -> Self {
        Self {
            bootstrap,
            time,
            seen,
            consensuses: watch::Sender::new(Arc::new(consensuses)),
            own: watch::Sender::default(),
            channels: Mutex::default(),
            passing: Mutex::default(),
            foreign: AtomicBool::new(false),
            failures: Mutex::default(),
        }
    }

    /// The network's time, as far as the edges agree on it.
    pub(super) fn now_ms(&self) -> u64 {
        self.time.now_ms()
    }

    /// Keeps links to these from now on, and to no other own edge.
    pub(super) fn set_own(&self, own: Vec<OwnMailbox>) {
        let is_own = |edge: &NodeId| own.iter().any(|mailbox| mailbox.edge.id == *edge);
        lock(&self.channels).retain(|edge, _| is_own(edge));
        lock(&self.failures).retain(|edge, _| is_own(edge));
        self.own.send_replace(own);
    }

    /// One line for people if the client cannot send, or its machine's clock is wrong.
    pub(super) fn trouble(&self, attached: usize) -> Option<String> {
        let unreachable = (attached == 0).then(|| Offline::Edges { all: true, edges: self.failures() }.to_string());
        let network = self.consensuses.borrow().complaint(self.now_ms());
        let all: Vec<_> = [unreachable, network, self.time.complaint()].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Asks an edge for the time; `true` if the client's clock was set by it.
    async fn hear_time(&self, edge: NodeId, channel: &ControlChannel) -> Result<bool, ControlError> {
        let sample = match channel.time().await {
            Ok(sample) => sample,
            Err(ControlError::Link(err)) => return Err(err.into()),
            // It is asked again.
            Err(_) => return Ok(false),
        };
        let mut verdict = self.time.hear(edge, sample);
        if verdict == Verdict::Unsettled
            && let Some(other) = self.another_edge()
        {
            if let Some(sample) = ask_time(&other).await {
                verdict = self.time.hear_once(other.id, sample);
            } else {
                self.time.next_witness();
            }
        }
        let set = matches!(verdict, Verdict::Wrong(_));
        if set {
            self.consensuses.send_modify(|consensuses| {
                Arc::make_mut(consensuses).forget_after(self.now_ms());
            });
        }
        Ok(set)
    }

    /// An edge of the network whose clock was not heard yet.
    fn another_edge(&self) -> Option<Endpoint> {
        let edges = NetFile::read_again(&self.bootstrap).ok()?.edges;
        self.time.witness(&edges)
    }

    /// The consensus in force.
    pub(super) fn view_at(&self, now_ms: u64) -> Option<Arc<NetworkView>> {
        self.consensuses.borrow().at(now_ms).cloned()
    }

    /// The consensus in force, or the newest that is held where none is; and whether it is in force.
    pub(super) fn view_or_newest(&self) -> Option<(Arc<NetworkView>, bool)> {
        let consensuses = self.consensuses.borrow();
        consensuses.at_or_newest(self.now_ms()).map(|(view, in_force)| (Arc::clone(view), in_force))
    }

    /// The own edges that are away, as far as it is known why.
    pub(super) fn failures(&self) -> Vec<EdgeFailure> {
        lock(&self.failures).values().cloned().collect()
    }

    /// Why there is no link to an own edge.
    pub(super) fn failure(&self, edge: NodeId) -> Option<EdgeFailure> {
        lock(&self.failures).get(&edge).cloned()
    }

    pub(super) fn note(&self, edge: NodeId, failure: Option<EdgeFailure>) {
        let mut failures = lock(&self.failures);
        match failure {
            Some(failure) => failures.insert(edge, failure),
            None => failures.remove(&edge),
        };
    }

    /// Why no consensus is in force at `now_ms`; `None` if one is.
    pub(super) fn consensus_trouble(&self, now_ms: u64) -> Option<ConsensusTrouble> {
        let consensuses = self.consensuses.borrow();
        let trouble = || match consensuses.newest() {
            None if self.foreign.load(Ordering::Relaxed) => ConsensusTrouble::Foreign,
            newest => ConsensusTrouble::of(newest.map(|view| &**view), now_ms),
        };
        consensuses.at(now_ms).is_none().then(trouble)
    }

    /// Asks one attached edge after another until one gives an answer that `take` takes.
    pub(super) async fn call<T>(
        &self,
        op: impl Fn() -> Op,
        take: impl Fn(Outcome) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let channels: Vec<_> = lock(&self.channels).values().cloned().collect();
        let mut last = ControlError::Link(LinkError::Closed);
        for channel in channels {
            match channel.call(op()).await.and_then(&take) {
                Ok(taken) => return Ok(taken),
                Err(err) => last = err,
            }
        }
        Err(last)
    }

    /// Takes a worker list that an edge gave, unless a newer one was seen: its edge is behind, or shows an old one on
    /// purpose.
    pub(super) fn take_workers(&self, list: &Signed, authority: NodeId) -> Result<Verified<WorkerList>, ControlError> {
        let list =
            list.verify::<WorkerList>(&[authority], 1).map_err(|error| ControlError::Refused(error.to_string()))?;
        self.seen.forget_after(self.now_ms());
        if !self.seen.admits_workers(&list) {
            return Err(ControlError::Refused("the edge showed an older list of workers than one seen before".into()));
        }
        self.seen.see_workers(&list);
        Ok(list)
    }

    /// Takes what is of this network and newer than what was seen.
    pub(super) fn accept(&self, documents: &[Signed]) {
        let now_ms = self.now_ms();
        self.seen.forget_after(now_ms);
        let held = Arc::clone(&self.consensuses.borrow());
        let mut verified = Vec::new();
        for document in documents {
            match held.verify(document) {
                Ok(Some(view)) if self.seen.admits(view.consensus(), now_ms) => verified.push(view),
                Ok(_) => {}
                // A consensus that does not verify is of no use, whoever sent it.
                Err(_) => self.foreign.store(true, Ordering::Relaxed),
            }
        }
        let mut used = Vec::new();
        self.consensuses.send_if_modified(|consensuses| {
            let mut updated = Consensuses::clone(consensuses);
            let mut changed = updated.forget_after(now_ms);
            for view in verified {
                changed |= updated.hold(view, now_ms).unwrap_or(false);
            }
            if changed {
                used = updated.live(now_ms).cloned().collect();
                *consensuses = Arc::new(updated);
            }
            changed
        });
        self.seen.see(used.iter().map(|view| &**view.consensus()));
    }

    /// Where an edge is: the consensus knows best, then the bootstrap file.
    fn address(&self, edge: NodeId) -> Option<LinkAddress> {
        let listed = self.view_at(self.now_ms()).and_then(|view| {
            view.node(edge).filter(|node| node.role().is_edge()).map(|node| node.link_address().clone())
        });
        listed.or_else(|| {
            let net = NetFile::read_again(&self.bootstrap).ok()?;
            let endpoint = net.edges.iter().find(|endpoint| endpoint.id == edge)?;
            Some(endpoint.address.clone())
        })
    }

    /// Hands a packet to an edge that is not the client's own, linking to it first if need be. A
    /// packet that finds no room is lost, like any packet that the network loses.
    pub(super) fn inject(self: &Arc<Self>, runtime: &Handle, edge: NodeId, frame: Frame) {
        let mut passing = lock(&self.passing);
        passing.retain(|_, queue| !queue.is_closed());
        if let Some(queue) = passing.get(&edge) {
            let _ = queue.try_send(frame);
        } else if passing.len() < PASSING_LINKS {
            let (queue, frames) = mpsc::channel(LINK_QUEUE);
            let _ = queue.try_send(frame);
            passing.insert(edge, queue);
            let links = Arc::clone(self);
            runtime.spawn(async move {
                // A failed link loses its packets; the next packet tries again.
                let _ = links.pass(edge, frames).await;
            });
        }
    }

    /// Lets go of all links to foreign edges; what is queued is still written.
    pub(super) fn close_passing(&self) {
        lock(&self.passing).clear();
    }

    async fn pass(&self, edge: NodeId, mut frames: mpsc::Receiver<Frame>) -> Option<()> {
        let address = self.address(edge)?;
        // A key for this link alone: nothing ties it to the client's mailboxes.
        let key = SigningKey::generate(&mut os_rng());
        let dialer = Dialer::new(&key, LinkTimeouts::default()).ok()?;
        let dialled = dialer.dial(&address, *edge.as_bytes(), LINK_QUEUE).await;
        let (sender, mut reader) = dialled.ok()?;
        loop {
            tokio::select! {
                frame = tokio::time::timeout(PASSING_IDLE, frames.recv()) => {
                    sender.send(frame.ok()??).await.ok()?;
                }
                _ = reader.next() => return None,
            }
        }
    }
}
