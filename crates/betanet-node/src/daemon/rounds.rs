//! What a node looks after beside its packets: keys, its descriptor, links, and whether it is well.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use betanet_mix::directory::OwedProof;
use betanet_mix::view::{DelayProof, DocumentError, NodeDescriptor, Verified};
use tokio::sync::watch;

use super::authority_link::Described;
use super::edge::Edge;
use super::egress::Egress;
use super::keeper::Keeper;
use super::{DaemonError, Node};
use crate::state::note_trouble;
use crate::sync::lock;

/// How often health, gauges and keys are looked at.
const ROUND: Duration = Duration::from_millis(200);

/// A clock that was set back by less goes on with its dates.
const SET_BACK_MS: u64 = 10_000;

/// A node's rounds.
pub(super) struct Rounds<'a> {
    node: &'a Node,
    keeper: Keeper,
    egress: Egress,
    edge: Option<Arc<Edge>>,
    descriptor: watch::Sender<Described>,
    /// Those in the descriptor.
    proofs: Vec<DelayProof>,
    /// How often the clock had been moved when the descriptor was made.
    moves: u64,
    /// The date of the last descriptor.
    issued_ms: u64,
    /// Why something is not on disk.
    trouble: Option<String>,
}

impl<'a> Rounds<'a> {
    /// With a first descriptor, for keys that were made when the clock had been moved `moves` times.
    pub(super) fn new(
        node: &'a Node,
        keeper: Keeper,
        egress: Egress,
        edge: Option<Arc<Edge>>,
        moves: u64,
    ) -> Result<Self, DaemonError> {
        let (descriptor, proofs) = (watch::Sender::default(), revealed(&keeper));
        let mut rounds = Self { node, keeper, egress, edge, descriptor, proofs, moves, issued_ms: 0, trouble: None };
        rounds.describe()?;
        Ok(rounds)
    }

    /// What is to be published.
    pub(super) fn descriptor(&self) -> watch::Receiver<Described> {
        self.descriptor.subscribe()
    }

    /// Goes on until a descriptor cannot be made, or the node ends.
    pub(super) async fn run(mut self, mut asked: watch::Receiver<Vec<OwedProof>>) -> Result<(), DaemonError> {
        let mut consensuses = self.node.consensuses.subscribe();
        self.egress.follow(self.node.id, &self.node.dialer, &consensuses);
        let mut rounds = tokio::time::interval(ROUND);
        loop {
            tokio::select! {
                _ = rounds.tick() => self.round().await?,
                changed = consensuses.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.egress.follow(self.node.id, &self.node.dialer, &consensuses);
                    // A new consensus may say what is waited for.
                    rounds.reset_immediately();
                }
                changed = asked.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    lock(&self.keeper.delays).owe(asked.borrow_and_update().clone());
                    rounds.reset_immediately();
                }
            }
        }
    }

    async fn round(&mut self) -> Result<(), DocumentError> {
        let consensuses = Arc::clone(&self.node.consensuses.borrow());
        // Read first: what is made from here on may still be made by this time.
        let made_by = self.node.time.moves();
        let kept = self.keeper.keep(consensuses).await;
        let revealed = revealed(&self.keeper);
        if kept.keys_changed || revealed != self.proofs || self.moves != made_by {
            (self.proofs, self.moves) = (revealed, made_by);
            self.describe()?;
        }
        note_trouble(&mut self.trouble, kept.trouble);
        self.look();
        Ok(())
    }

    /// Refreshes the gauges, and says whether the node is well.
    fn look(&self) {
        let Node { metrics, consensuses, time, id, record, .. } = self.node;
        let (current, (entries, capacity)) = {
            let epochs = &self.keeper.packet_keys;
            (epochs.current(), epochs.replay_load())
        };
        metrics.epoch.store(current.0, Ordering::Relaxed);
        metrics.replay_entries.set(entries);
        metrics.replay_capacity.set(capacity);
        let store_failed = self.edge.as_ref().is_some_and(|edge| {
            edge.update_levels();
            edge.has_failed()
        });
        // Listed where it was before, it would be ready for nobody.
        let listed = consensuses
            .borrow()
            .at(time.now_ms())
            .is_some_and(|view| view.node(*id).is_some_and(|node| *node.link_address() == record.link_address));
        let mixes = lock(&self.keeper.delays).source(current).is_some() && self.trouble.is_none();
        metrics.healthy.store(listed && mixes && !store_failed, Ordering::Relaxed);
    }

    /// Makes a descriptor to publish; none while no key is on disk.
    fn describe(&mut self) -> Result<(), DocumentError> {
        let (keys, current) = {
            let epochs = &self.keeper.packet_keys;
            (epochs.public_keys(), epochs.current())
        };
        let mut described = Described { signed: None, moves: self.moves };
        if !keys.is_empty() {
            // The later of two has the later date, also where the clock was set back by a moment meanwhile.
            let (now_ms, after_last_ms) = (self.node.time.now_ms(), self.issued_ms + 1);
            let is_moment = after_last_ms.saturating_sub(now_ms) < SET_BACK_MS;
            self.issued_ms = if is_moment { now_ms.max(after_last_ms) } else { now_ms };
            let descriptor = NodeDescriptor {
                id: self.node.id,
                role: self.node.config.role,
                link_address: self.node.record.link_address.clone(),
                keys,
                vrf_key: lock(&self.keeper.delays).public_key(),
                delay_proofs: self.proofs.clone(),
                issued_ms: self.issued_ms,
                // The last published key stops being accepted two epochs after this one.
                expires_ms: self.keeper.clock.start_of(current.next().next().next()),
            };
            described.signed = Some(Verified::sign(descriptor, &self.node.key)?.signed().clone());
        }
        self.descriptor.send_replace(described);
        Ok(())
    }
}

/// The proofs that may be told now.
fn revealed(keeper: &Keeper) -> Vec<DelayProof> {
    let current = keeper.packet_keys.current();
    lock(&keeper.delays).revealed(current, &keeper.clock, keeper.time.now_ms(), Instant::now())
}
