//! What callers may see without asking the thread, and how it comes there.

use std::sync::Mutex;
use std::time::Duration;

use betanet_mix::path::shortages;
use betanet_mix::view::{Address, Role};
use tokio::sync::watch;

use super::Driver;
use crate::client::{ClientStatus, ExcludedNode, OwnEdgeStatus};
use crate::sync::lock;

/// What callers may see without asking the thread.
#[derive(Debug)]
pub(in crate::client) struct Shared {
    pub(in crate::client) status: Mutex<ClientStatus>,
    /// The own address, which changes when a mailbox moves.
    address: Mutex<Address>,
    ready: watch::Sender<Readiness>,
}

/// Whether the client can send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::client) struct Readiness {
    pub(in crate::client) has_view: bool,
    pub(in crate::client) attached: usize,
}

impl Shared {
    pub(in crate::client) fn new(network: String, address: Address) -> Self {
        let status = ClientStatus { network, edges_wanted: address.mailboxes().len(), ..ClientStatus::default() };
        Self { status: Mutex::new(status), address: Mutex::new(address), ready: watch::Sender::default() }
    }

    pub(in crate::client) fn status(&self) -> ClientStatus {
        lock(&self.status).clone()
    }

    pub(in crate::client) fn address(&self) -> Address {
        lock(&self.address).clone()
    }

    pub(in crate::client) fn set_address(&self, address: Address) {
        *lock(&self.address) = address;
    }

    /// Whether an edge of the client's address is away at the moment.
    pub(in crate::client) fn lacks_edges(&self) -> bool {
        let status = lock(&self.status);
        status.edges_attached < status.edges_wanted
    }

    pub(in crate::client) fn ready(&self) -> watch::Receiver<Readiness> {
        self.ready.subscribe()
    }
}

impl Driver {
    /// What changes rarely, and takes more time than what [`Driver::publish`] tells.
    pub(super) fn publish_details(&self, now: u64) {
        let excluded = self.courier.excluded().iter().map(|(id, exclusion)| ExcludedNode {
            id: *id,
            tries: exclusion.tries,
            lost: exclusion.lost,
            expected: exclusion.expected_whole(),
            left: Duration::from_millis(exclusion.until_ms.saturating_sub(now)),
        });
        let (edges, excluded, paths) = (self.edges_now(), excluded.collect(), self.courier.path_figures());
        let mut status = lock(&self.shared.status);
        (status.edges, status.excluded, status.paths) = (edges, excluded, paths);
    }

    fn edges_now(&self) -> Vec<OwnEdgeStatus> {
        let edge = |id| OwnEdgeStatus {
            id,
            current: self.store.mailboxes().iter().any(|mailbox| mailbox.edge == id),
            attached: self.own.contains_key(&id),
            reason: self.links.failure(id).map(|failure| failure.reason),
        };
        self.store.edges().into_iter().map(edge).collect()
    }

    pub(super) fn publish(&mut self) {
        let figures = self.courier.stats();
        let attached = self.usable().count();
        if attached != lock(&self.shared.status).edges_attached {
            self.trouble = self.links.trouble(attached);
            // How many there are and which they are is told together.
            let edges = self.edges_now();
            lock(&self.shared.status).edges = edges;
        }
        let view = self.courier.view();
        {
            let mut status = lock(&self.shared.status);
            if let Some(view) = view {
                let count = |role| view.nodes().filter(|node| node.role() == role).count();
                status.entry_nodes = count(Role::Entry);
                status.middle_nodes = count(Role::Middle);
                status.exit_nodes = count(Role::Exit);
                status.one_operator = view.one_operator();
                status.mean_delay_ms = view.consensus().mean_delay_ms;
                let epoch = view.sending_epoch((self.clocks.wall)());
                status.epoch = epoch.0;
                let judged = Some((view.hash(), epoch));
                if self.judged != judged {
                    self.judged = judged;
                    status.shortages = shortages(view, epoch);
                }
            }
            status.edges_attached = attached;
            status.in_flight = figures.in_flight;
            status.outgoing_messages = figures.outgoing_messages;
            status.open_requests = figures.open_requests;
            status.fragments_resent = figures.fragments_resent;
            status.uncommitted = figures.uncommitted;
            status.trouble.clone_from(&self.trouble);
        }
        let now = Readiness { has_view: view.is_some(), attached };
        self.shared.ready.send_if_modified(|ready| {
            let changed = *ready != now;
            *ready = now;
            changed
        });
    }
}
