//! Where packets go that have served their delay.

use std::sync::Arc;

use super::edge::Edge;
use super::egress::Egress;
use super::metrics::Metrics;
use super::mixer::Released;

/// The links to other nodes, and the mailboxes if there are any.
#[derive(Debug)]
pub(super) struct Onward {
    pub(super) egress: Egress,
    pub(super) edge: Option<Arc<Edge>>,
    pub(super) metrics: Arc<Metrics>,
}

impl Onward {
    /// Hands a packet on.
    pub(super) fn take(&self, released: Released) {
        match (released, &self.edge) {
            (Released::Forward { next, packet }, _) => self.egress.send(next, packet),
            (Released::Deliver { mailbox, payload }, Some(edge)) => edge.deliver(mailbox, &payload),
            (Released::Reply { mailbox, surb_id, delta }, Some(edge)) => edge.deliver_reply(mailbox, surb_id, &delta),
            (Released::Deliver { .. } | Released::Reply { .. }, None) => self.metrics.drop_one("not_an_edge"),
        }
    }
}
