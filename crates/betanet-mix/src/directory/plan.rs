//! What the authority knows and what it signs next. No I/O and no clock: time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::epoch::{Epoch, EpochClock};
use crate::view::{
    Beacon, Consensus, ConsensusHash, DelaySection, DocumentError, LeftOut, LinkAddress, Member, NodeDescriptor,
    Prefix, Signed, TokenId, Verified, Waiting,
};
use betanet_sphinx::NodeId;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::admission::{Admissions, Admitted, Door, Shown};
use super::duties::{Duties, OwedProof};
use super::terms::AHEAD_MS;
use super::terms::Terms;

/// Nodes that one authority lists.
const NODES: usize = 1024;

/// A node's descriptor runs out before the epoch that is this many ahead: its last key is of the
/// next one, and is accepted for one more.
const LIFETIME_EPOCHS: u64 = 4;

/// Who runs the nodes of a network that lets in everybody.
const LOCAL: &str = "local";

/// How long the first consensus waits for nodes that do not come, in milliseconds.
const GENESIS_PATIENCE_MS: u64 = 10_000;

/// Epochs that a clock may have gone back for time to go on from the last consensus. Within them,
/// nodes remember epochs that would be lived through twice.
const GOES_ON: u64 = 16;

/// A revision waits at most for so many times what one change takes to settle, however many follow it.
const SETTLINGS: u64 = 5;

/// Epochs whose latest consensus is kept.
const KEPT: usize = 4;

/// The authority's memory on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Saved {
    /// Oldest first.
    consensuses: Vec<Signed>,
    nodes: Vec<SavedNode>,
    #[serde(default)]
    admissions: Admissions,
    #[serde(default)]
    duties: Duties,
    #[serde(default)]
    tip: Option<Tip>,
}

/// A node whose descriptor is held, on disk.
#[derive(Debug, Serialize, Deserialize)]
struct SavedNode {
    descriptor: Signed,
    operator: String,
    prefix: Prefix,
}

/// A node whose descriptor is held, with what was verified about it.
#[derive(Clone, Debug)]
struct Known {
    descriptor: Verified<NodeDescriptor>,
    operator: String,
    prefix: Prefix,
}

impl Known {
    fn restore(saved: &SavedNode) -> Option<Self> {
        let descriptor = saved.descriptor.verify_node().ok()?;
        Some(Self { descriptor, operator: saved.operator.clone(), prefix: saved.prefix })
    }

    fn save(&self) -> SavedNode {
        SavedNode { descriptor: self.descriptor.signed().clone(), operator: self.operator.clone(), prefix: self.prefix }
    }
}

/// Changes that no revision was made for yet.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    first_ms: u64,
    last_ms: u64,
}

/// What the next consensus goes on from if none that is kept comes before it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Tip {
    hash: ConsensusHash,
    beacon: Beacon,
}

impl Tip {
    fn of(consensus: &Verified<Consensus>) -> Self {
        Self { hash: consensus.hash(), beacon: consensus.next_beacon() }
    }
}

impl Saved {
    /// The time to go on with, by a clock that shows `now_ms`. A clock that went back a little stands still
    /// until it would have gone on; one that went back far is believed, and what is from its future
    /// goes.
    #[must_use]
    pub fn present(&self, clock: &EpochClock, now_ms: u64) -> u64 {
        let signed_ms = |last: Verified<Consensus>| last.valid_after_ms.saturating_sub(clock.length_ms() / 4);
        let known_ms = self.latest().map_or(0, signed_ms);
        let back_ms = known_ms.saturating_sub(now_ms);
        if back_ms <= clock.length_ms().saturating_mul(GOES_ON) { known_ms.max(now_ms) } else { now_ms }
    }

    /// The nodes that came with a token.
    pub fn came_with(&self, token: TokenId) -> impl Iterator<Item = NodeId> {
        self.admissions.came_with(token)
    }

    /// The latest consensus.
    #[must_use]
    pub fn latest(&self) -> Option<Verified<Consensus>> {
        self.consensuses.last().and_then(verify_own)
    }
}

fn verify_own(document: &Signed) -> Option<Verified<Consensus>> {
    let signer = document.signatures.first()?.key;
    document.verify::<Consensus>(&[NodeId::from(signer)], 1).ok()
}

/// Descriptors and consensuses.
#[derive(Debug)]
pub struct Ledger {
    network: String,
    clock: EpochClock,
    mean_delay_ms: u64,
    one_operator: bool,
    expect: usize,
    started_ms: u64,
    /// Since when there are nodes to open the network with after a pause.
    paused_ms: Option<u64>,
    door: Door,
    admissions: Admissions,
    nodes: BTreeMap<NodeId, Known>,
    unsettled: Option<Unsettled>,
    consensuses: Vec<Verified<Consensus>>,
    tip: Option<Tip>,
    duties: Duties,
    /// The epoch by which duties were forgiven last.
    aged: Epoch,
    /// Epochs whose consensus says all that there is to say, and whether that was judged with
    /// patience. Any change empties it.
    told: BTreeSet<(Epoch, bool)>,
}

impl Ledger {
    /// Goes on with what [`Ledger::save`] gave.
    #[must_use]
    pub fn open(terms: &Terms, clock: EpochClock, saved: &Saved, now_ms: u64) -> Self {
        let mut consensuses: Vec<_> = saved.consensuses.iter().filter_map(verify_own).collect();
        let nodes = saved.nodes.iter().filter_map(Known::restore);
        let tip = consensuses.last().map(Tip::of).or(saved.tip);
        let mut duties = saved.duties.clone();
        // A clock that was wrong has left documents of the future; they would be the newest for ever.
        let now = clock.epoch_at(now_ms);
        consensuses.retain(|one| one.epoch <= now.next());
        duties.forget_after(now.next());
        let let_in = |node: &Known| matches!(terms.door, Door::Open) || saved.admissions.holds(node.descriptor.id);
        let nodes = nodes.filter(let_in).filter(|node| node.descriptor.issued_ms <= now_ms.saturating_add(AHEAD_MS));
        Self {
            network: terms.constants.network.clone(),
            clock,
            mean_delay_ms: terms.constants.mean_delay_ms,
            one_operator: terms.one_operator,
            expect: terms.expect,
            started_ms: now_ms,
            paused_ms: None,
            door: terms.door,
            admissions: saved.admissions.clone(),
            nodes: nodes.map(|node| (node.descriptor.id, node)).collect(),
            unsettled: Some(Unsettled { first_ms: now_ms, last_ms: now_ms }),
            consensuses,
            tip,
            duties,
            aged: Epoch(0),
            told: BTreeSet::new(),
        }
    }

    /// What is to be on disk before a consensus is shown.
    #[must_use]
    pub fn save(&self) -> Saved {
        let signed = |documents: &[Verified<Consensus>]| documents.iter().map(|one| one.signed().clone()).collect();
        Saved {
            consensuses: signed(&self.consensuses),
            nodes: self.nodes.values().map(Known::save).collect(),
            admissions: self.admissions.clone(),
            duties: self.duties.clone(),
            tip: self.tip,
        }
    }

    /// The consensuses that are kept, oldest first.
    pub fn consensuses(&self) -> impl Iterator<Item = &Signed> {
        self.consensuses.iter().map(Verified::signed)
    }

    /// The proofs that a node owes.
    #[must_use]
    pub fn owed_by(&self, node: NodeId) -> Vec<OwedProof> {
        self.duties.owed_by(node)
    }

    /// Whether the node's descriptor is held.
    #[must_use]
    pub fn knows(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Where a node has to be dialled before its descriptor can be taken; nowhere, if that is known or need not be.
    ///
    /// # Errors
    /// The descriptor or what is shown with it will not do; one line for the node's owner.
    pub fn to_be_reached(
        &self,
        peer: NodeId,
        signed: &Signed,
        token: Option<&Signed>,
        now_ms: u64,
    ) -> Result<Option<LinkAddress>, String> {
        let (node, _) = self.consider(peer, signed, token, now_ms)?;
        Ok(match (self.door, self.reached_before(&node)) {
            (Door::Open, _) | (_, Some(_)) => None,
            (Door::Tokens { .. }, None) => Some(node.link_address.clone()),
        })
    }

    /// Takes a node's descriptor from the node itself.
    ///
    /// # Errors
    /// It will not do; one line for the node's owner.
    pub fn put_node(&mut self, peer: NodeId, signed: &Signed, shown: Shown<'_>, now_ms: u64) -> Result<(), String> {
        let (node, admitted) = self.consider(peer, signed, shown.token, now_ms)?;
        let prefix = match (self.door, shown.reached) {
            // What is known by name here leads to this machine.
            (Door::Open, _) => Prefix::of(node.link_address.ip().unwrap_or(Ipv4Addr::LOCALHOST.into())),
            (_, Some(reached)) => Prefix::of(reached),
            (_, None) => self.reached_before(&node).ok_or("the node was not reached where it says; try again")?,
        };
        // Also a refused proof is one that is known.
        self.told.clear();
        self.duties.judge(&node, &self.clock, now_ms)?;
        let operator = admitted.as_ref().map_or(LOCAL, Admitted::operator).to_owned();
        let known = self.nodes.get(&node.id);
        if known.is_none_or(|known| {
            known.descriptor.signed().content != node.signed().content
                || known.operator != operator
                || known.prefix != prefix
        }) {
            self.nodes.insert(node.id, Known { descriptor: node, operator, prefix });
            self.note_change(now_ms);
        }
        if let Some(admitted) = admitted {
            self.admissions.keep(admitted);
        }
        Ok(())
    }

    /// Takes tokens back: nobody comes in with them any more, and whoever did is listed no longer. Says how many had to go.
    pub fn revoke(&mut self, tokens: &BTreeSet<TokenId>, now_ms: u64) -> usize {
        self.admissions.revoke(tokens);
        let before = self.nodes.len();
        if let Door::Tokens { .. } = self.door {
            self.nodes.retain(|id, _| self.admissions.holds(*id));
        }
        let gone = before - self.nodes.len();
        if gone > 0 {
            self.told.clear();
            self.note_change(now_ms);
        }
        gone
    }

    /// The prefix at which a node was reached, if it still says that it is there. What a name leads to may change.
    fn reached_before(&self, node: &NodeDescriptor) -> Option<Prefix> {
        let known = self.nodes.get(&node.id)?;
        let same = known.descriptor.link_address == node.link_address && node.link_address.ip().is_some();
        same.then_some(known.prefix)
    }

    /// Judges a descriptor without taking it.
    fn consider(
        &self,
        peer: NodeId,
        signed: &Signed,
        token: Option<&Signed>,
        now_ms: u64,
    ) -> Result<(Verified<NodeDescriptor>, Option<Admitted>), String> {
        let node = signed.verify_node().map_err(|err| err.to_string())?;
        if node.id != peer {
            return Err("a node publishes its own descriptor only".to_owned());
        }
        if node.expires_ms <= now_ms || node.issued_ms > now_ms.saturating_add(AHEAD_MS) {
            return Err("the descriptor is out of date; check the clock".to_owned());
        }
        let last = self.clock.epoch_at(now_ms).0.saturating_add(LIFETIME_EPOCHS);
        if node.expires_ms > self.clock.start_of(Epoch(last)) {
            return Err(format!("a node's descriptor runs out within {LIFETIME_EPOCHS} epochs; check the clock"));
        }
        let known = self.nodes.get(&node.id).map(|known| &known.descriptor);
        // What bears a later date than now is no newer: its node's clock was set back since.
        if known.is_some_and(|known| known.issued_ms > node.issued_ms && known.issued_ms <= now_ms) {
            return Err("a newer descriptor is known".to_owned());
        }
        if known.is_none() && self.nodes.len() >= NODES {
            return Err("the network is full".to_owned());
        }
        let Door::Tokens { authority, loopback } = self.door else {
            return Ok((node, None));
        };
        if node.link_address.is_loopback() && !loopback {
            let address = &node.link_address;
            return Err(format!(
                "{address} leads everybody to his own machine: say with --announce where others reach the node"
            ));
        }
        let admitted = self.admissions.decide((&self.network, authority), node.id, node.role, token, now_ms);
        Ok((node, Some(admitted.map_err(|err| err.to_string())?)))
    }

    /// Signs the consensuses that are due at `now_ms`, in order.
    ///
    /// # Errors
    /// One breaks a rule of documents.
    pub fn due(&mut self, key: &SigningKey, now_ms: u64) -> Result<Vec<Verified<Consensus>>, DocumentError> {
        let before = self.nodes.len();
        self.nodes.retain(|_, node| node.descriptor.expires_ms > now_ms);
        if self.nodes.len() != before {
            self.told.clear();
        }
        let epoch = self.clock.epoch_at(now_ms);
        if std::mem::replace(&mut self.aged, epoch) != epoch {
            self.duties.age(epoch);
            self.told.clear();
        }
        let settled = self.has_settled(now_ms);
        let mut due = Vec::new();
        due.extend(self.sign_for(epoch, settled, key, now_ms)?);
        let quarter = self.clock.length_ms() / 4;
        if now_ms >= self.clock.start_of(epoch.next()).saturating_sub(quarter) {
            due.extend(self.sign_for(epoch.next(), settled, key, now_ms)?);
        }
        if settled {
            self.unsettled = None;
        }
        Ok(due)
    }

    fn sign_for(
        &mut self,
        epoch: Epoch,
        settled: bool,
        key: &SigningKey,
        now_ms: u64,
    ) -> Result<Option<Verified<Consensus>>, DocumentError> {
        let last = self.consensuses.iter().rfind(|one| one.epoch == epoch);
        let newer = self.consensuses.last().is_some_and(|one| one.epoch > epoch);
        // What came while the authority was away may still come.
        let patient = now_ms.saturating_sub(self.started_ms) < self.clock.length_ms();
        // An epoch that was passed over stays so: the one after it follows from another.
        let passed_over = newer && last.is_none();
        if passed_over || self.told.contains(&(epoch, patient)) || (last.is_some() && !settled) {
            return Ok(None);
        }
        let last = last.cloned();
        let pause = last.is_none() && self.consensuses.last().is_none_or(|one| one.epoch.next() != epoch);
        if pause {
            // After an epoch without a consensus nobody could show anything, and nobody may be left.
            self.duties.forgive();
        }
        let (nodes, delays) = self.sort_out(epoch, patient);
        if pause {
            self.paused_ms = (!nodes.is_empty()).then(|| self.paused_ms.unwrap_or(now_ms));
        }
        let (revision, previous_hash) = if let Some(last) = last {
            if last.one_operator == self.one_operator && !matters(&last, &nodes, &delays) {
                self.told.insert((epoch, patient));
                return Ok(None);
            }
            (last.revision + 1, last.hash())
        } else {
            if !self.may_open(epoch, nodes.len(), now_ms) {
                return Ok(None);
            }
            let tip = || self.tip.map_or_else(ConsensusHash::default, |tip| tip.hash);
            (0, self.consensuses.last().map_or_else(tip, Verified::hash))
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
            previous_hash,
            one_operator: self.one_operator,
            delays,
            nodes,
        };
        let signed = Verified::sign(consensus, key)?;
        self.duties.follow(&signed);
        self.paused_ms = None;
        self.told.clear();
        self.consensuses.retain(|one| one.epoch != epoch);
        let place = self.consensuses.partition_point(|one| one.epoch < epoch);
        self.consensuses.insert(place, signed.clone());
        self.tip = self.consensuses.last().map(Tip::of);
        if self.consensuses.len() > KEPT {
            self.consensuses.remove(0);
        }
        Ok(Some(signed))
    }

    /// Who is listed for `epoch`, and what its consensus says about delays.
    ///
    /// A node is listed if it has a key for the epoch, owes no proof, and if its VRF key stands in
    /// the consensus of the epoch before. Where there is no such consensus, at the start and after a
    /// pause, nobody's key does. The next beacon follows from an epoch's first revision, so that a key
    /// that comes later could be chosen by it: it stands in the next epoch's first revision, unless it
    /// is an old one whose node was away.
    fn sort_out(&self, epoch: Epoch, patient: bool) -> (Vec<Member>, DelaySection) {
        let before = self.consensuses.iter().rfind(|one| one.epoch < epoch);
        let adjoining = before.filter(|one| one.epoch.next() == epoch);
        let own = self.consensuses.iter().rfind(|one| one.epoch == epoch);
        // All revisions state one. Where the clock was set back there may be none before: then the
        // epoch, which may have happened once, happens with another beacon.
        let beacon = own.map(|one| one.delays.beacon).or(before.map(Verified::next_beacon));
        let beacon = beacon.or(self.tip.map(|tip| tip.beacon)).unwrap_or_else(|| Beacon::genesis(&self.network));
        let opening_hash = own.map_or_else(ConsensusHash::default, Verified::opening_hash);
        let mut delays = DelaySection { beacon, opening_hash, ..DelaySection::default() };
        let mut nodes = Vec::new();
        for Known { descriptor: node, operator, prefix } in self.nodes.values() {
            let fault = self.duties.fault(node.id, epoch, &self.clock, patient);
            delays.left_out.extend(fault.map(|(epoch, fault)| LeftOut { id: node.id, epoch, fault }));
            let stands = adjoining.is_none_or(|one| one.shows_key(node.id, &node.vrf_key));
            if stands && fault.is_none() && node.keys.contains_key(&epoch) {
                let descriptor = self.duties.checked(node);
                nodes.push(Member { descriptor, operator: operator.clone(), prefix: *prefix });
            } else if adjoining.is_none()
                || own.is_none_or(|own| own.shows_key(node.id, &node.vrf_key))
                || self.duties.has_used(node.id, &node.vrf_key, epoch)
            {
                delays.waiting.push(Waiting { id: node.id, vrf_key: node.vrf_key });
            }
        }
        (nodes, delays)
    }

    /// The first consensus of a network, or after a pause, waits for its nodes, but not for ever.
    /// In an unbroken chain the nodes that are left go on without those that are gone.
    fn may_open(&self, epoch: Epoch, nodes: usize, now_ms: u64) -> bool {
        let ahead =
            epoch > self.clock.epoch_at(now_ms) && self.consensuses.last().is_some_and(|one| one.epoch.next() == epoch);
        let patience_ms = GENESIS_PATIENCE_MS.min(self.clock.length_ms() / 4);
        let paused =
            self.tip.is_some() && self.paused_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) < patience_ms);
        let patient = paused || now_ms.saturating_sub(self.started_ms) < GENESIS_PATIENCE_MS;
        nodes >= self.expect.max(1) || (nodes > 0 && (ahead || !patient))
    }

    fn note_change(&mut self, now_ms: u64) {
        let first_ms = self.unsettled.map_or(now_ms, |changes| changes.first_ms);
        self.unsettled = Some(Unsettled { first_ms, last_ms: now_ms });
    }

    /// Nodes change their keys at the same time; one revision then covers them all. It does not wait for one that never
    /// stops.
    fn has_settled(&self, now_ms: u64) -> bool {
        let settling_ms = (self.clock.length_ms() / 20).min(1_000);
        self.unsettled.is_none_or(|Unsettled { first_ms, last_ms }| {
            now_ms.saturating_sub(last_ms) >= settling_ms
                || now_ms.saturating_sub(first_ms) >= settling_ms.saturating_mul(SETTLINGS)
        })
    }
}

/// Whether a new list of nodes would change what senders do in the consensus' epoch or the one
/// after, or brings a VRF key that would have to stand an epoch longer. Proofs can wait for the next.
fn matters(last: &Consensus, nodes: &[Member], delays: &DelaySection) -> bool {
    let epoch = last.epoch;
    let essence = |node: &Member| {
        (
            node.id,
            node.role,
            node.link_address.clone(),
            node.operator.clone(),
            node.prefix,
            *node.vrf_key.as_bytes(),
            node.keys.get(&epoch).copied(),
            node.keys.get(&epoch.next()).copied(),
        )
    };
    !last.nodes.iter().map(essence).eq(nodes.iter().map(essence))
        || delays.left_out != last.delays.left_out
        || delays.waiting.iter().any(|node| !last.shows_key(node.id, &node.vrf_key))
}

#[cfg(test)]
mod admission_tests;
#[cfg(test)]
mod tests;
