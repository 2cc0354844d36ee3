//! What the authority knows and what it signs next. No I/O and no clock: time is passed in.

use std::collections::BTreeMap;

use betanet_mix::epoch::{Epoch, EpochClock};
use betanet_mix::view::{
    Consensus, ConsensusHash, DocumentError, NodeDescriptor, Signed, Verified, WorkerDescriptor, WorkerList,
};
use betanet_sphinx::NodeId;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::AuthorityConfig;

/// Nodes that one authority lists.
const NODES: usize = 1024;

/// Workers that one authority lists.
const WORKERS: usize = 4096;

/// How long a newcomer's clock may be ahead of ours, in milliseconds.
const AHEAD_MS: u64 = 60_000;

/// How long the first consensus waits for nodes that do not come, in milliseconds.
const GENESIS_PATIENCE_MS: u64 = 10_000;

/// Consensuses that are kept.
const KEPT: usize = 4;

/// The authority's memory on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Saved {
    /// Oldest first.
    pub(super) consensuses: Vec<Signed>,
    nodes: Vec<Signed>,
    workers: Vec<Signed>,
    worker_revision: u64,
}

/// Descriptors and consensuses.
pub(super) struct Ledger {
    network: String,
    clock: EpochClock,
    mean_delay_ms: u64,
    one_operator: bool,
    expect: usize,
    started_ms: u64,
    nodes: BTreeMap<NodeId, Verified<NodeDescriptor>>,
    changed_ms: u64,
    consensuses: Vec<Verified<Consensus>>,
    workers: BTreeMap<[u8; 32], Verified<WorkerDescriptor>>,
    worker_revision: u64,
    list: Option<Verified<WorkerList>>,
}

impl Ledger {
    pub(super) fn open(config: &AuthorityConfig, clock: EpochClock, saved: &Saved, now_ms: u64) -> Self {
        let constants = config.constants();
        let consensuses = saved.consensuses.iter().filter_map(|signed| {
            let signer = signed.signatures.first()?.key;
            signed.verify::<Consensus>(&[NodeId::from(signer)], 1).ok()
        });
        let nodes = saved.nodes.iter().filter_map(|signed| signed.verify_node().ok());
        let workers = saved.workers.iter().filter_map(|signed| signed.verify_worker().ok());
        Self {
            network: constants.network,
            clock,
            mean_delay_ms: constants.mean_delay_ms,
            one_operator: config.one_operator,
            expect: config.expect,
            started_ms: now_ms,
            nodes: nodes.map(|node| (node.id, node)).collect(),
            changed_ms: now_ms,
            consensuses: consensuses.collect(),
            workers: workers.map(|worker| (worker.id.0, worker)).collect(),
            worker_revision: saved.worker_revision,
            list: None,
        }
    }

    pub(super) fn save(&self) -> Saved {
        let signed = |documents: &[Verified<Consensus>]| documents.iter().map(|one| one.signed().clone()).collect();
        Saved {
            consensuses: signed(&self.consensuses),
            nodes: self.nodes.values().map(|one| one.signed().clone()).collect(),
            workers: self.workers.values().map(|one| one.signed().clone()).collect(),
            worker_revision: self.worker_revision,
        }
    }

    /// Takes a node's descriptor from the node itself.
    pub(super) fn put_node(&mut self, peer: NodeId, signed: &Signed, now_ms: u64) -> Result<(), String> {
        let node = signed.verify_node().map_err(|err| err.to_string())?;
        if node.id != peer {
            return Err("a node publishes its own descriptor only".to_owned());
        }
        if node.expires_ms <= now_ms || node.issued_ms > now_ms.saturating_add(AHEAD_MS) {
            return Err("the descriptor is out of date; check the clock".to_owned());
        }
        let known = self.nodes.get(&node.id);
        if known.is_some_and(|known| known.issued_ms > node.issued_ms) {
            return Err("a newer descriptor is known".to_owned());
        }
        if known.is_none() && self.nodes.len() >= NODES {
            return Err("the network is full".to_owned());
        }
        if known.is_none_or(|known| known.signed().content != node.signed().content) {
            self.nodes.insert(node.id, node);
            self.changed_ms = now_ms;
        }
        Ok(())
    }

    /// Takes a worker's descriptor.
    pub(super) fn put_worker(&mut self, signed: &Signed, now_ms: u64) -> Result<(), String> {
        let worker = signed.verify_worker().map_err(|err| err.to_string())?;
        if worker.expires_ms <= now_ms || worker.issued_ms > now_ms.saturating_add(AHEAD_MS) {
            return Err("the descriptor is out of date; check the clock".to_owned());
        }
        let known = self.workers.get(&worker.id.0);
        if known.is_some_and(|known| known.issued_ms > worker.issued_ms) {
            return Err("a newer descriptor is known".to_owned());
        }
        if known.is_none() && self.workers.len() >= WORKERS {
            return Err("the worker list is full".to_owned());
        }
        self.workers.insert(worker.id.0, worker);
        self.worker_revision += 1;
        self.list = None;
        Ok(())
    }

    /// The signed worker list; made anew when it has changed.
    pub(super) fn worker_list(
        &mut self,
        key: &SigningKey,
        now_ms: u64,
    ) -> Result<&Verified<WorkerList>, DocumentError> {
        let before = self.workers.len();
        self.workers.retain(|_, worker| worker.expires_ms > now_ms);
        if self.workers.len() != before {
            self.worker_revision += 1;
            self.list = None;
        }
        let list = match self.list.take() {
            Some(list) => list,
            None => Verified::sign(
                WorkerList {
                    epoch: self.clock.epoch_at(now_ms),
                    revision: self.worker_revision,
                    workers: self.workers.values().map(|worker| worker.signed().clone()).collect(),
                },
                key,
            )?,
        };
        Ok(self.list.insert(list))
    }

    /// Signs the consensuses that are due at `now_ms`, in order.
    pub(super) fn due(&mut self, key: &SigningKey, now_ms: u64) -> Result<Vec<Verified<Consensus>>, DocumentError> {
        self.nodes.retain(|_, node| node.expires_ms > now_ms);
        let epoch = self.clock.epoch_at(now_ms);
        let mut due = Vec::new();
        due.extend(self.sign_for(epoch, key, now_ms)?);
        let quarter = self.clock.length_ms() / 4;
        if now_ms >= self.clock.start_of(epoch.next()).saturating_sub(quarter) {
            due.extend(self.sign_for(epoch.next(), key, now_ms)?);
        }
        Ok(due)
    }

    fn sign_for(
        &mut self,
        epoch: Epoch,
        key: &SigningKey,
        now_ms: u64,
    ) -> Result<Option<Verified<Consensus>>, DocumentError> {
        let nodes: Vec<NodeDescriptor> = self
            .nodes
            .values()
            .filter(|node| node.keys.contains_key(&epoch))
            .map(|node| NodeDescriptor::clone(node))
            .collect();
        let last = self.consensuses.iter().rfind(|one| one.epoch == epoch);
        let newer = self.consensuses.last().is_some_and(|one| one.epoch > epoch);
        let revision = if let Some(last) = last {
            let settled = now_ms.saturating_sub(self.changed_ms) >= self.settling_ms();
            if newer || !settled || !matters(&last.nodes, &nodes, epoch) {
                return Ok(None);
            }
            last.revision + 1
        } else {
            if newer || !self.may_open(epoch, nodes.len(), now_ms) {
                return Ok(None);
            }
            0
        };
        let start = self.clock.start_of(epoch);
        let length = self.clock.length_ms();
        let consensus = Consensus {
            network: self.network.clone(),
            epoch,
            revision,
            epoch_length_ms: length,
            skew_ms: self.clock.skew_ms(),
            mean_delay_ms: self.mean_delay_ms,
            valid_after_ms: start,
            fresh_until_ms: start + length,
            // Its nodes' keys of the next epoch are sent by until then; an authority that is gone
            // for an epoch is not missed.
            valid_until_ms: start + 2 * length + self.clock.skew_ms(),
            previous_hash: self.consensuses.last().map_or_else(ConsensusHash::default, Verified::hash),
            one_operator: self.one_operator,
            nodes,
        };
        let signed = Verified::sign(consensus, key)?;
        self.consensuses.push(signed.clone());
        if self.consensuses.len() > KEPT {
            self.consensuses.remove(0);
        }
        Ok(Some(signed))
    }

    /// The first consensus of a network, or after a pause, waits for its nodes, but not for ever.
    /// In an unbroken chain the nodes that are left go on without those that are gone.
    fn may_open(&self, epoch: Epoch, nodes: usize, now_ms: u64) -> bool {
        let ahead =
            epoch > self.clock.epoch_at(now_ms) && self.consensuses.last().is_some_and(|one| one.epoch.next() == epoch);
        let patient = now_ms.saturating_sub(self.started_ms) < GENESIS_PATIENCE_MS;
        nodes >= self.expect.max(1) || (nodes > 0 && (ahead || !patient))
    }

    /// Nodes change their keys at the same time; one revision then covers them all.
    fn settling_ms(&self) -> u64 {
        (self.clock.length_ms() / 20).min(1_000)
    }
}

/// Whether a new list of nodes would change what senders do in `epoch` or the one after.
fn matters(old: &[NodeDescriptor], new: &[NodeDescriptor], epoch: Epoch) -> bool {
    let essence = |node: &NodeDescriptor| {
        (
            node.id,
            node.role,
            node.link_address,
            node.operator.clone(),
            node.keys.get(&epoch).copied(),
            node.keys.get(&epoch.next()).copied(),
        )
    };
    !old.iter().map(essence).eq(new.iter().map(essence))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

    use std::net::{IpAddr, SocketAddr};
    use std::time::Duration;

    use betanet_mix::view::{Role, node_id_of};
    use betanet_sphinx::SecretKey;

    use super::*;
    use crate::clock::os_rng;

    const LENGTH: u64 = 10_000;
    const START: u64 = 1000 * LENGTH;

    fn config(expect: usize) -> AuthorityConfig {
        AuthorityConfig {
            dir: "unused".into(),
            network: "test".into(),
            expect,
            epoch: Duration::from_millis(LENGTH),
            mean_delay: Duration::from_millis(15),
            one_operator: true,
            ip: IpAddr::from([127, 0, 0, 1]),
            link_port: 0,
        }
    }

    fn ledger(expect: usize, saved: &Saved) -> Ledger {
        let config = config(expect);
        let clock = EpochClock::new(LENGTH, config.constants().skew_ms).unwrap();
        Ledger::open(&config, clock, saved, START)
    }

    fn descriptor(key: &SigningKey, epochs: &[u64], issued_ms: u64) -> Signed {
        let node = NodeDescriptor {
            id: node_id_of(key),
            role: Role::Middle,
            link_address: SocketAddr::from(([127, 0, 0, 1], 1)),
            keys: epochs.iter().map(|epoch| (Epoch(*epoch), SecretKey::generate(&mut os_rng()).public())).collect(),
            operator: "test".into(),
            issued_ms,
            expires_ms: START + 100 * LENGTH,
        };
        Verified::sign(node, key).unwrap().signed().clone()
    }

    fn key() -> SigningKey {
        SigningKey::generate(&mut os_rng())
    }

    /// INV-LINK-08
    #[test]
    fn the_first_consensus_waits_for_the_expected_nodes_and_comes_at_once() {
        let (signer, one, two) = (key(), key(), key());
        let mut ledger = ledger(2, &Saved::default());
        ledger.put_node(node_id_of(&one), &descriptor(&one, &[1000], START), START).unwrap();
        assert!(ledger.due(&signer, START).unwrap().is_empty());
        ledger.put_node(node_id_of(&two), &descriptor(&two, &[1000], START), START).unwrap();
        let due = ledger.due(&signer, START).unwrap();
        assert_eq!(1, due.len());
        assert_eq!((Epoch(1000), 0, 2), (due[0].epoch, due[0].revision, due[0].nodes.len()));
        assert!(ledger.due(&signer, START + 1).unwrap().is_empty());
    }

    /// INV-LINK-08
    #[test]
    fn a_network_with_a_dead_node_starts_without_it() {
        let (signer, one) = (key(), key());
        let mut ledger = ledger(2, &Saved::default());
        let late = START + GENESIS_PATIENCE_MS;
        ledger.put_node(node_id_of(&one), &descriptor(&one, &[1001], late), late).unwrap();
        assert_eq!(1, ledger.due(&signer, late).unwrap().len());
    }

    /// INV-LINK-08
    #[test]
    fn the_next_epoch_is_published_a_quarter_before_it_starts() {
        let (signer, one) = (key(), key());
        let mut ledger = ledger(1, &Saved::default());
        let node = descriptor(&one, &[1000, 1001], START);
        ledger.put_node(node_id_of(&one), &node, START).unwrap();
        let first = ledger.due(&signer, START).unwrap().remove(0);
        let ahead = START + LENGTH - LENGTH / 4;
        assert!(ledger.due(&signer, ahead - 1).unwrap().is_empty());
        let next = ledger.due(&signer, ahead).unwrap().remove(0);
        assert_eq!((Epoch(1001), 0), (next.epoch, next.revision));
        assert_eq!(first.hash(), next.previous_hash);
        assert_eq!(START + LENGTH, next.valid_after_ms);
    }

    /// INV-LINK-08
    #[test]
    fn changed_keys_lead_to_one_revision_after_they_have_settled() {
        let (signer, one) = (key(), key());
        let mut ledger = ledger(1, &Saved::default());
        let node = descriptor(&one, &[1000, 1001], START);
        ledger.put_node(node_id_of(&one), &node, START).unwrap();
        ledger.due(&signer, START).unwrap();
        let node = descriptor(&one, &[1000, 1001], START + 10);
        ledger.put_node(node_id_of(&one), &node, START + 10).unwrap();
        assert!(ledger.due(&signer, START + 20).unwrap().is_empty());
        let settled = START + 10 + LENGTH / 20;
        let due = ledger.due(&signer, settled).unwrap();
        assert_eq!(vec![1], due.iter().map(|one| one.revision).collect::<Vec<_>>());
        assert!(ledger.due(&signer, settled + 1).unwrap().is_empty());
    }

    /// INV-LINK-08
    #[test]
    fn a_restarted_authority_goes_on_with_the_chain() {
        let (signer, one) = (key(), key());
        let mut first = ledger(1, &Saved::default());
        let node = descriptor(&one, &[1000, 1001], START);
        first.put_node(node_id_of(&one), &node, START).unwrap();
        let consensus = first.due(&signer, START).unwrap().remove(0);
        let text = serde_json::to_string(&first.save()).unwrap();

        let mut second = ledger(1, &serde_json::from_str(&text).unwrap());
        assert!(second.due(&signer, START + 1).unwrap().is_empty());
        let next = second.due(&signer, START + LENGTH - 1).unwrap().remove(0);
        assert_eq!(consensus.hash(), next.previous_hash);
    }

    #[test]
    fn foreign_and_outdated_descriptors_are_refused() {
        let (one, two) = (key(), key());
        let mut ledger = ledger(1, &Saved::default());
        let node = descriptor(&one, &[1000], START);
        assert!(ledger.put_node(node_id_of(&two), &node, START).is_err());
        assert!(ledger.put_node(node_id_of(&one), &node, START + 100 * LENGTH).is_err());
        ledger.put_node(node_id_of(&one), &node, START).unwrap();
        let older = descriptor(&one, &[1000], START - 1);
        assert!(ledger.put_node(node_id_of(&one), &older, START).is_err());
    }
}
