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
use super::mixer::Ingress;
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
    ingress: Ingress,
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
        ingress: Ingress,
        edge: Option<Arc<Edge>>,
        moves: u64,
    ) -> Result<Self, DaemonError> {
        let (descriptor, proofs) = (watch::Sender::default(), revealed(&keeper));
        let mut rounds =
            Self { node, keeper, egress, ingress, edge, descriptor, proofs, moves, issued_ms: 0, trouble: None };
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
        let Node { metrics, consensuses, time, record, .. } = self.node;
        let keys = &self.keeper.packet_keys;
        let (current, (entries, capacity)) = (keys.current(), keys.replay_load());
        metrics.epoch.store(current.0);
        metrics.replay_entries.set(entries);
        metrics.replay_capacity.set(capacity);
        metrics.replay_memory.set(keys.replay_memory());
        metrics.key_not_after_ms.store(keys.newest().map_or(0, |newest| self.keeper.clock.end_of_key(newest)));
        let until = consensuses.borrow().newest().map(|view| {
            let consensus = view.consensus();
            (consensus.fresh_until_ms, consensus.valid_until_ms)
        });
        let (fresh_until_ms, valid_until_ms) = until.unwrap_or_default();
        metrics.fresh_until_ms.store(fresh_until_ms);
        metrics.valid_until_ms.store(valid_until_ms);
        self.ingress.update_levels();
        let store_failed = self.edge.as_ref().is_some_and(|edge| {
            edge.update_levels();
            edge.has_failed()
        });
        let listed = consensuses.borrow().at(time.now_ms()).is_some_and(|view| record.is_listed_in(view));
        let mixes = lock(&self.keeper.delays).source(current).is_some() && self.trouble.is_none();
        metrics.healthy.store(listed && mixes && !store_failed, Ordering::Relaxed);
    }

    /// Makes a descriptor to publish; none while no key is on disk, or where the time has run past the keys since they were
    /// made: the next round has others.
    fn describe(&mut self) -> Result<(), DocumentError> {
        let (keys, current) = {
            let epochs = &self.keeper.packet_keys;
            (epochs.public_keys(), epochs.current())
        };
        let mut described = Described { signed: None, moves: self.moves };
        let expires_ms = self.keeper.clock.end_of_key(current.next());
        let issued_ms = date(self.node.time.now_ms(), self.issued_ms, expires_ms);
        if let Some(issued_ms) = issued_ms.filter(|_| !keys.is_empty()) {
            self.issued_ms = issued_ms;
            let descriptor = NodeDescriptor {
                id: self.node.id,
                role: self.node.config.role,
                link_address: self.node.record.link_address.clone(),
                keys,
                vrf_key: lock(&self.keeper.delays).public_key(),
                delay_proofs: self.proofs.clone(),
                issued_ms,
                expires_ms,
            };
            described.signed = Some(Verified::sign(descriptor, &self.node.key)?.signed().clone());
        }
        self.descriptor.send_replace(described);
        Ok(())
    }
}

/// The date of a descriptor that is made at `now_ms` and runs out at `expires_ms`, if it has not run out yet.
///
/// The later of two has the later date, also where the clock was set back by a moment meanwhile.
fn date(now_ms: u64, last_ms: u64, expires_ms: u64) -> Option<u64> {
    let after_last_ms = last_ms + 1;
    let is_moment = after_last_ms.saturating_sub(now_ms) < SET_BACK_MS && after_last_ms < expires_ms;
    let issued_ms = if is_moment { now_ms.max(after_last_ms) } else { now_ms };
    (issued_ms < expires_ms).then_some(issued_ms)
}

/// The proofs that may be told now.
fn revealed(keeper: &Keeper) -> Vec<DelayProof> {
    let current = keeper.packet_keys.current();
    lock(&keeper.delays).revealed(current, &keeper.clock, keeper.time.now_ms(), Instant::now())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use std::net::SocketAddr;
    use std::path::Path;
    use std::sync::Mutex;

    use betanet_mix::epoch::{Epoch, EpochClock};
    use betanet_mix::view::{ConsensusHash, Role, node_id_of};
    use betanet_sphinx::ReplayTag;
    use ed25519_dalek::SigningKey;

    use super::super::delays::Delays;
    use super::super::mixer::Mixer;
    use super::super::packet_keys::PacketKeys;
    use super::super::{DaemonConfig, MixerConfig};
    use super::*;
    use crate::clock::boot_id;
    use crate::fixtures::{NETWORK, consensus, key, sign};
    use crate::metrics::Level;
    use crate::net::{Endpoint, NetFile};
    use crate::state::write_json;

    /// What a node's rounds need, and the key of the authority that it believes.
    struct Bench {
        node: Node,
        keeper: Keeper,
        mixer: Mixer,
        authority: SigningKey,
    }

    impl Bench {
        async fn open(folder: &Path) -> Self {
            let authority = key();
            let bootstrap = folder.join("net.json");
            let local = SocketAddr::from(([127, 0, 0, 1], 0));
            let net = NetFile {
                network: NETWORK.into(),
                authority: Endpoint {
                    id: node_id_of(&authority),
                    address: SocketAddr::from(([127, 0, 0, 1], 9)).try_into().unwrap(),
                },
                edges: Vec::new(),
                one_operator: true,
                http: [].into(),
            };
            write_json(&bootstrap, &net).unwrap();
            let config = DaemonConfig {
                dir: folder.join("node"),
                bootstrap,
                role: Role::Middle,
                token: None,
                listen: local,
                announce: None,
                http: local,
                exact_metrics: true,
                mixer: MixerConfig { workers: 1, batch: 8, pool: 8, depth: 64, client_rate: 100 },
                looks: Arc::default(),
                target_throughput: 10,
            };
            let node = Node::open(config).await.unwrap();
            let clock = EpochClock::new(20_000, 1_000).unwrap();
            let now = clock.epoch_at(node.time.now_ms());
            let packet_keys = PacketKeys::open(&node.state, &boot_id().unwrap(), now, 10).unwrap();
            let keeper = Keeper {
                packet_keys: Arc::new(packet_keys),
                delays: Arc::new(Mutex::new(Delays::open(&node.state).unwrap())),
                clock,
                time: node.time.clone(),
            };
            let mixer = Mixer::new(node.config.mixer, Arc::default(), &node.metrics);
            Self { node, keeper, mixer, authority }
        }

        /// Rounds for keys that were made when the clock had been moved `moves` times.
        fn rounds(&self, moves: u64) -> Rounds<'_> {
            let egress = Egress::new(self.node.time.clone(), Arc::clone(&self.node.metrics));
            Rounds::new(&self.node, self.keeper.clone(), egress, self.mixer.ingress().clone(), None, moves).unwrap()
        }
    }

    /// INV-LINK-89
    #[tokio::test]
    async fn a_clock_that_jumps_before_its_keys_are_described_costs_a_round() {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::open(folder.path()).await;
        let time = &bench.node.time;
        let moves = time.moves();
        time.set(time.now_ms() + 4 * 20_000);
        let mut rounds = bench.rounds(moves);
        let published = rounds.descriptor();
        assert!(published.borrow().signed.is_none());
        rounds.round().await.unwrap();
        assert!(published.borrow().signed.is_some());
    }

    #[tokio::test]
    async fn a_round_brings_the_gauges_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::open(folder.path()).await;
        let (metrics, consensuses, keys) = (&bench.node.metrics, &bench.node.consensuses, &bench.keeper.packet_keys);
        let figures = || {
            let levels = [&metrics.replay_entries, &metrics.fresh_until_ms, &metrics.valid_until_ms];
            levels.map(Level::get)
        };
        let mut rounds = bench.rounds(bench.node.time.moves());
        rounds.round().await.unwrap();
        assert_eq!(([0, 0, 0], 0), (figures(), metrics.replay_memory.get()));
        let epoch = keys.current();
        let end_ms = bench.keeper.clock.start_of(Epoch(epoch.0 + 3));
        let shown = [&metrics.epoch, &metrics.replay_capacity, &metrics.key_not_after_ms].map(Level::get);
        assert_eq!([epoch.0, 10, end_ms], shown);

        keys.check_and_insert(epoch, &ReplayTag::from([1; 16])).unwrap();
        let signed = sign(consensus(&[], 0, ConsensusHash::default()), &bench.authority);
        consensuses.send_modify(|held| {
            assert!(Arc::make_mut(held).accept(&signed, bench.node.time.now_ms()).unwrap());
        });
        rounds.round().await.unwrap();
        let view = Arc::clone(consensuses.borrow().newest().unwrap());
        assert_eq!([1, view.consensus().fresh_until_ms, view.consensus().valid_until_ms], figures());
        assert!(metrics.replay_memory.get() > 0);
    }

    /// INV-LINK-89
    #[test]
    fn a_later_descriptor_has_a_later_date_as_long_as_it_can() {
        for (now_ms, last_ms, expires_ms, expected) in [
            (50_000, 40_000, 70_000, Some(50_000)),
            (50_000, 50_000, 70_000, Some(50_001)),
            (50_000, 58_000, 70_000, Some(58_001)),
            // The clock was set back by a moment that is longer than the keys last, or by more than a moment.
            (50_000, 58_000, 56_000, Some(50_000)),
            (50_000, 64_000, 90_000, Some(50_000)),
            (70_000, 40_000, 70_000, None),
            (69_999, 69_999, 70_000, Some(69_999)),
        ] {
            assert_eq!(expected, date(now_ms, last_ms, expires_ms), "{now_ms} {last_ms} {expires_ms}");
        }
    }
}
