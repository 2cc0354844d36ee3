//! What an authority tells its operator. It sees no packets, so all of it is exact.

use std::sync::Arc;

use betanet_mix::view::{NetworkView, Role};

use super::Shared;
use crate::metrics::{Count, Figures, Grain, MetricKind, Page, blank};
use crate::sync::lock;

/// Why a link had to go, or what it asked for was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A descriptor of a node breaks a rule, or its token is none.
    Descriptor,
    /// A node is not reached where it says that it is.
    Unreachable,
    /// A descriptor of a worker breaks a rule, or finds no room.
    Worker,
    /// A worker's descriptor came from somebody who is no edge.
    NotAnEdge,
    /// Somebody brought more descriptors than he may.
    TooManyDescriptors,
    /// What an authority does not do was asked for.
    Unexpected,
    /// A link gave way, or found all places of nodes taken.
    NoPlace,
    /// An address made too many connections.
    TooManyConnections,
    /// No key was shown, or not in time.
    Handshake,
    /// Nothing was asked for, first of all or for long.
    Idle,
    /// The protocol was broken.
    Malformed,
    /// An answer was not read.
    SlowReader,
    /// A connection to `/health` or `/metrics` gave way to another.
    HttpCrowded,
}

impl Refused {
    pub(super) const ALL: [Self; 13] = [
        Self::Descriptor,
        Self::Unreachable,
        Self::Worker,
        Self::NotAnEdge,
        Self::TooManyDescriptors,
        Self::Unexpected,
        Self::NoPlace,
        Self::TooManyConnections,
        Self::Handshake,
        Self::Idle,
        Self::Malformed,
        Self::SlowReader,
        Self::HttpCrowded,
    ];

    /// The label of its metric.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Descriptor => "descriptor",
            Self::Unreachable => "unreachable",
            Self::Worker => "worker",
            Self::NotAnEdge => "not_an_edge",
            Self::TooManyDescriptors => "too_many_descriptors",
            Self::Unexpected => "unexpected_request",
            Self::NoPlace => "no_place",
            Self::TooManyConnections => "too_many_connections",
            Self::Handshake => "handshake_failed",
            Self::Idle => "idle",
            Self::Malformed => "malformed_frame",
            Self::SlowReader => "slow_reader",
            Self::HttpCrowded => "http_crowded",
        }
    }
}

/// What an authority has taken and refused.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) descriptors: Count,
    refused: [Count; Refused::ALL.len()],
}

impl Counts {
    /// Counts one.
    pub(super) fn refuse(&self, why: Refused) {
        if let Some(count) = self.of(why) {
            count.add(1);
        }
    }

    /// How many there were.
    pub(super) fn refused(&self, why: Refused) -> u64 {
        self.of(why).map_or(0, Count::get)
    }

    fn of(&self, why: Refused) -> Option<&Count> {
        Refused::ALL.iter().zip(&self.refused).find_map(|(listed, count)| (*listed == why).then_some(count))
    }
}

/// What an authority shows at one time.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    counts: &'a Counts,
    newest: Option<Arc<NetworkView>>,
    workers: usize,
    now_ms: u64,
}

impl Standing<'_> {
    /// Whether it signs: the consensus that it signed last is not to be replaced yet.
    pub(super) fn signs(&self) -> bool {
        self.newest.as_ref().is_some_and(|view| self.now_ms < view.consensus().fresh_until_ms)
    }
}

/// The page of an authority that has just begun.
#[must_use]
pub fn blank_page() -> String {
    blank(&Standing { counts: &Counts::default(), newest: None, workers: 0, now_ms: 0 })
}

impl Shared {
    /// What it shows now.
    pub(super) fn standing(&self) -> Standing<'_> {
        let now_ms = self.time.now_ms();
        let newest = self.consensuses.borrow().newest().map(Arc::clone);
        Standing { counts: &self.counts, newest, workers: lock(&self.workers).live(now_ms), now_ms }
    }
}

impl Figures for Shared {
    fn grain(&self) -> Grain {
        Grain::Exact
    }

    fn write_state(&self, page: &mut Page) {
        self.standing().write_state(page);
    }

    fn write_traffic(&self, page: &mut Page) {
        self.standing().write_traffic(page);
    }
}

impl Figures for Standing<'_> {
    fn grain(&self) -> Grain {
        Grain::Exact
    }

    fn write_state(&self, page: &mut Page) {
        let consensus = self.newest.as_ref().map(|view| view.consensus());
        page.one(
            MetricKind::Gauge,
            "betanet_authority_up",
            "1 while the authority signs: its last consensus is not to be replaced yet",
            u64::from(self.signs()),
        );
        let epoch = consensus.map_or(0, |consensus| consensus.epoch.0);
        page.one(MetricKind::Gauge, "betanet_authority_epoch", "Epoch of the newest consensus; 0 without one", epoch);
        page.date(
            "betanet_authority_consensus_fresh_until_timestamp_seconds",
            "When the newest consensus is to be replaced, in Unix seconds; 0 without one",
            consensus.map_or(0, |consensus| consensus.fresh_until_ms),
        );
        page.date(
            "betanet_authority_consensus_valid_until_timestamp_seconds",
            "Until when the newest consensus may be used, in Unix seconds; 0 without one",
            consensus.map_or(0, |consensus| consensus.valid_until_ms),
        );
        let listed = [Role::Entry, Role::Middle, Role::Exit].map(|role| {
            let nodes = self.newest.iter().flat_map(|view| view.nodes());
            (role.name(), nodes.filter(|node| node.role() == role).count())
        });
        page.each(MetricKind::Gauge, "betanet_authority_nodes", "Nodes in the newest consensus", "kind", listed);
        let help = "Workers whose descriptors are held and have not run out";
        page.one(MetricKind::Gauge, "betanet_authority_workers_listed", help, self.workers);
    }

    fn write_traffic(&self, page: &mut Page) {
        let help = "Descriptors of nodes that were taken";
        page.one(MetricKind::Counter, "betanet_authority_descriptors_total", help, self.counts.descriptors.get());
        let refused = Refused::ALL.map(|why| (why.reason(), self.counts.refused(why)));
        let help = "Links that had to go, and requests that were not granted";
        page.each(MetricKind::Counter, "betanet_authority_refused_total", help, "reason", refused);
    }
}

#[cfg(test)]
mod tests;
