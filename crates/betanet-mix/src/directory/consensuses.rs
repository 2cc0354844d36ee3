//! The consensuses that a party holds: the one in force and, shortly before a boundary, the next.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::view::{Consensus, ConsensusHash, DocumentError, Encoded, Host, NetworkView, Signed};
use betanet_sphinx::NodeId;
use thiserror::Error;

use crate::text::rough;

/// Consensuses held at once.
const HELD: usize = 4;

/// Why a consensus is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConsensusError {
    /// It is not signed by the network's authority, or breaks a rule.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It belongs to another network.
    #[error("the consensus is of another network")]
    OtherNetwork,
    /// The authority has signed two that cannot both stand in one chain; said once for each epoch.
    #[error("the authority contradicts its own consensus of epoch {epoch}")]
    Equivocation {
        /// The epoch of the one that came later and is not used.
        epoch: u64,
    },
}

/// Verified consensuses of one network, oldest first.
#[derive(Clone, Debug)]
pub struct Consensuses {
    network: String,
    authority: NodeId,
    held: Vec<Arc<NetworkView>>,
    /// The latest epoch for which a contradiction was told.
    disputed: Option<u64>,
}

impl Consensuses {
    /// None yet.
    #[must_use]
    pub const fn new(network: String, authority: NodeId) -> Self {
        Self { network, authority, held: Vec::new(), disputed: None }
    }

    /// Verifies a consensus and keeps it; `false` if it is known or out of date, or if it is from the future of
    /// `now_ms` and there is no room: what a clock that was wrong once made an authority sign can be shown
    /// again by anybody, and must not push out what is in force.
    ///
    /// # Errors
    /// It is not of this network's authority, or contradicts one that is held: then that one stays.
    pub fn accept(&mut self, signed: &Signed, now_ms: u64) -> Result<bool, ConsensusError> {
        // The rules of a consensus include a usable clock.
        self.verify(signed)?.map_or(Ok(false), |view| self.hold(view, now_ms))
    }

    /// Verifies a consensus without keeping it, which takes time and no lock.
    ///
    /// # Errors
    /// It is not of this network's authority.
    pub fn verify(&self, signed: &Signed) -> Result<Option<NetworkView>, ConsensusError> {
        let verified = signed.verify::<Consensus>(&[self.authority], 1)?;
        if verified.network != self.network {
            return Err(ConsensusError::OtherNetwork);
        }
        Ok(NetworkView::new(verified))
    }

    /// Keeps what [`Consensuses::verify`] gave, as [`Consensuses::accept`] does.
    ///
    /// # Errors
    /// It contradicts one that is held.
    pub fn hold(&mut self, view: NetworkView, now_ms: u64) -> Result<bool, ConsensusError> {
        let order = order_of(&view);
        if self.held.iter().any(|held| contradict(held, &view)) {
            if self.disputed.replace(order.0) == Some(order.0) {
                return Ok(false);
            }
            return Err(ConsensusError::Equivocation { epoch: order.0 });
        }
        let at = self.held.partition_point(|held| order_of(held) < order);
        // Of one epoch only the latest revision counts.
        if self.held.get(at).is_some_and(|held| order_of(held).0 == order.0) {
            return Ok(false);
        }
        let hash = view.hash();
        self.held.insert(at, Arc::new(view));
        self.held.retain({
            let epoch = order.0;
            move |held| order_of(held).0 != epoch || order_of(held) == order
        });
        if self.held.len() > HELD {
            let crowded = self.held.last().is_some_and(|last| is_ahead(last, now_ms));
            self.held.remove(if crowded { HELD } else { 0 });
        }
        Ok(self.held.iter().any(|held| held.hash() == hash))
    }

    /// Drops what is from the future of a clock that shows `now_ms`, because it was set back since: what
    /// the authority signs for those epochs when they come is another chain. Before something is
    /// accepted, for the future would stay the newest. Says whether anything went.
    pub fn forget_after(&mut self, now_ms: u64) -> bool {
        let before = self.held.len();
        self.held.retain(|view| !is_ahead(view, now_ms));
        let some = self.held.len() < before;
        if some {
            self.disputed = None;
        }
        some
    }

    /// One line if there is no network to send through at `now_ms`: since when, and who is missing why.
    #[must_use]
    pub fn complaint(&self, now_ms: u64) -> Option<String> {
        if let Some(view) = self.at(now_ms) {
            return view.nodes().next().is_none().then(|| format!("the network lists no node{}", left_out(view)));
        }
        let Some(last) = self.held.iter().rfind(|view| view.consensus().valid_until_ms <= now_ms) else {
            return Some("the network has no valid consensus yet".to_owned());
        };
        let consensus = last.consensus();
        let since = Duration::from_millis(now_ms.saturating_sub(consensus.valid_until_ms));
        Some(format!(
            "the network has had no valid consensus for {}; the last one listed {} nodes{}",
            rough(since),
            consensus.nodes.len(),
            left_out(last)
        ))
    }

    /// The newest consensus in force at `now_ms`.
    #[must_use]
    pub fn at(&self, now_ms: u64) -> Option<&Arc<NetworkView>> {
        self.held.iter().rev().find(|view| view.is_valid_at(now_ms))
    }

    /// The newest consensus in force at `now_ms`, or the newest of all where none is; and whether it is in force.
    #[must_use]
    pub fn at_or_newest(&self, now_ms: u64) -> Option<(&Arc<NetworkView>, bool)> {
        let in_force = self.at(now_ms);
        in_force.or_else(|| self.newest()).map(|view| (view, in_force.is_some()))
    }

    /// The newest consensus, in force or not.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<NetworkView>> {
        self.held.last()
    }

    /// Whether a consensus in force or ahead lists this node.
    #[must_use]
    pub fn lists(&self, id: NodeId, now_ms: u64) -> bool {
        self.live(now_ms).any(|view| view.node(id).is_some())
    }

    /// Whether a consensus in force or ahead lists a node that takes links at this address.
    #[must_use]
    pub fn lists_address(&self, ip: IpAddr, now_ms: u64) -> bool {
        let host = Host::Ip(ip.to_canonical());
        self.live(now_ms).any(|view| view.nodes().any(|node| *node.link_address().host() == host))
    }

    /// Consensuses that have not run out.
    pub fn live(&self, now_ms: u64) -> impl Iterator<Item = &Arc<NetworkView>> {
        self.held.iter().filter(move |view| now_ms < view.consensus().valid_until_ms)
    }

    /// Hashes of what is held.
    #[must_use]
    pub fn hashes(&self) -> Vec<ConsensusHash> {
        self.held.iter().map(|view| view.hash()).collect()
    }

    /// What has not run out and is not in `have`.
    pub fn beyond<'a, 'b>(
        &'a self,
        have: &'b [ConsensusHash],
        now_ms: u64,
    ) -> impl Iterator<Item = &'a Arc<NetworkView>> + use<'a, 'b> {
        self.live(now_ms).filter(|view| !have.contains(&view.hash()))
    }

    /// The same, as it travels.
    #[must_use]
    pub fn news(&self, have: &[ConsensusHash], now_ms: u64) -> Vec<Arc<Encoded>> {
        self.beyond(have, now_ms).map(|view| Arc::clone(view.encoded())).collect()
    }
}

/// Who is not listed, and why, in brackets; nothing if all are.
fn left_out(view: &NetworkView) -> String {
    let delays = &view.consensus().delays;
    let faulty = delays.left_out.len();
    // Whoever owes a proof stands among those who wait as well.
    let new = delays.waiting.len().saturating_sub(faulty);
    let parts = [(faulty, "owe a delay proof"), (new, "wait for the next epoch")];
    let parts: Vec<_> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// Whether two consensuses cannot both stand in one chain, as far as these two show it.
fn contradict(one: &NetworkView, other: &NetworkView) -> bool {
    let (before, after) = if order_of(one) <= order_of(other) { (one, other) } else { (other, one) };
    let (first, second) = (before.consensus(), after.consensus());
    if first.epoch == second.epoch {
        let same = first.revision == second.revision && before.hash() != after.hash();
        let next = first.revision.checked_add(1) == Some(second.revision) && second.previous_hash != before.hash();
        return same || next || first.opening_hash() != second.opening_hash();
    }
    // A later revision of the first epoch may come between; the beacon holds for all of them.
    first.epoch.next() == second.epoch && second.delays.beacon != first.next_beacon()
}

/// Whether a consensus begins later than any that is signed by `now_ms`.
fn is_ahead(view: &NetworkView, now_ms: u64) -> bool {
    let ahead_ms = view.clock().length_ms().saturating_add(view.clock().skew_ms());
    view.consensus().valid_after_ms > now_ms.saturating_add(ahead_ms)
}

fn order_of(view: &NetworkView) -> (u64, u32) {
    (view.consensus().epoch.0, view.consensus().revision)
}

#[cfg(test)]
mod tests;
