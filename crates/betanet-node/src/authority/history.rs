//! An authority and its nodes on a virtual clock, through any history of suspensions, restarts and
//! clocks that are wrong: afterwards, all nodes are listed again without anybody's help.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use betanet_mix::directory::{Consensuses, Ledger, Saved, Shown};
use betanet_mix::epoch::{Epoch, EpochClock};
use betanet_mix::view::{DelayProof, NodeDescriptor, Role, Verified, node_id_of};
use betanet_sphinx::DelayInput;
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use tempfile::TempDir;

use super::AuthorityConfig;
use crate::clock::NetworkClock;
use crate::daemon::delays::Delays;
use crate::daemon::keeper::Keeper;
use crate::daemon::packet_keys::PacketKeys;
use crate::state::StateDir;
use crate::sync::lock;

const LENGTH: u64 = 10_000;
const STEP: u64 = LENGTH / 8;
const DAY: i64 = 86_400_000;
/// Far enough from the beginning of time for clocks that go back again and again.
const START: u64 = 1_000 * 86_400_000;
const NODES: usize = 3;
/// Everybody is listed again this many epochs after the last disturbance.
const QUIET: u64 = 4;

/// What happens to a part of the network, and for how many steps it is away.
#[derive(Clone, Copy, Debug)]
enum Event {
    Suspend {
        part: usize,
        steps: u64,
    },
    SuspendAll {
        steps: u64,
    },
    SuspendNodes {
        steps: u64,
    },
    /// It ends, and another process goes on in the same boot.
    Restart {
        part: usize,
        steps: u64,
    },
    /// Its machine goes down, and comes up with another wall clock.
    Reboot {
        part: usize,
        wall_ms: i64,
        steps: u64,
    },
    RebootAll {
        wall_ms: i64,
        steps: u64,
    },
    Nothing {
        steps: u64,
    },
}

impl Event {
    fn draw(seeded: &mut ChaCha20Rng) -> Self {
        let mut below = |limit: u64| seeded.next_u64() % limit;
        let part = usize::try_from(below(u64::try_from(1 + NODES).unwrap())).unwrap();
        let steps = below(8 * 7);
        let size = [1_000, 60_000, 3_600_000, DAY, 30 * DAY][usize::try_from(below(5)).unwrap()];
        let wall_ms = if below(2) == 0 { size } else { -size };
        match below(8) {
            0 => Self::Suspend { part, steps },
            1 => Self::SuspendAll { steps },
            2 => Self::SuspendNodes { steps },
            3 => Self::Restart { part, steps },
            4 | 5 => Self::Reboot { part, wall_ms, steps },
            6 => Self::RebootAll { wall_ms, steps },
            _ => Self::Nothing { steps },
        }
    }
}

/// What both kinds of parts have.
#[derive(Default)]
struct Machine {
    /// Its network time and its wall clock, beyond true time.
    ahead_ms: i64,
    wall_ms: i64,
    away_until: u64,
    boots: u32,
}

struct Node {
    key: SigningKey,
    folder: TempDir,
    machine: Machine,
    keeper: Option<Keeper>,
    consensuses: Consensuses,
    linked: bool,
    /// What the last descriptor was made from.
    described: Option<(BTreeSet<[u8; 32]>, Vec<DelayProof>)>,
    stored: bool,
    held: BTreeSet<[u8; 32]>,
    gone: BTreeSet<[u8; 32]>,
    /// Delays that follow from what was told, by their epochs.
    told: BTreeSet<(Epoch, Duration)>,
}

struct World {
    now_ms: u64,
    clock: EpochClock,
    config: AuthorityConfig,
    signer: SigningKey,
    authority: Machine,
    ledger: Option<Ledger>,
    saved: String,
    consensuses: Consensuses,
    nodes: Vec<Node>,
    start: Instant,
}

/// In memory where there is such a place: every step flushes files.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl World {
    fn new() -> Self {
        let config = AuthorityConfig {
            dir: "unused".into(),
            net_file: None,
            network: "test".into(),
            expect: NODES,
            epoch: Some(Duration::from_millis(LENGTH)),
            mean_delay: None,
            one_operator: true,
            listen: ([127, 0, 0, 1], 0).into(),
            announce: None,
            http: None,
        };
        let signer = SigningKey::from_bytes(&[7; 32]);
        let constants = config.constants(&Saved::default()).unwrap();
        let consensuses = Consensuses::new("test".into(), node_id_of(&signer));
        let nodes = (1..).take(NODES).map(|number| Node {
            key: SigningKey::from_bytes(&[number; 32]),
            folder: folder(),
            machine: Machine::default(),
            keeper: None,
            consensuses: consensuses.clone(),
            linked: false,
            described: None,
            stored: false,
            held: BTreeSet::new(),
            gone: BTreeSet::new(),
            told: BTreeSet::new(),
        });
        Self {
            now_ms: START,
            clock: EpochClock::new(LENGTH, constants.skew_ms).unwrap(),
            nodes: nodes.collect(),
            config,
            signer,
            authority: Machine::default(),
            ledger: None,
            saved: serde_json::to_string(&Saved::default()).unwrap(),
            consensuses,
            start: Instant::now(),
        }
    }

    /// The authority's time, which is the network's.
    fn time_ms(&self) -> u64 {
        self.now_ms.saturating_add_signed(self.authority.ahead_ms)
    }

    fn happen(&mut self, event: Event) {
        let until = |steps: u64| self.now_ms + steps * STEP;
        match event {
            Event::Suspend { part, steps } => {
                let until = until(steps);
                self.machine(part).away_until = until;
                if let Some(node) = part.checked_sub(1) {
                    self.nodes[node].linked = false;
                }
            }
            Event::SuspendAll { steps } => {
                (0..=NODES).for_each(|part| self.happen(Event::Suspend { part, steps }));
            }
            Event::SuspendNodes { steps } => {
                (1..=NODES).for_each(|part| self.happen(Event::Suspend { part, steps }));
            }
            Event::Restart { part, steps } => {
                self.end(part);
                self.happen(Event::Suspend { part, steps });
            }
            Event::Reboot { part, wall_ms, steps } => {
                self.end(part);
                let machine = self.machine(part);
                machine.boots += 1;
                machine.wall_ms += wall_ms;
                machine.ahead_ms = machine.wall_ms;
                self.happen(Event::Suspend { part, steps });
            }
            Event::RebootAll { wall_ms, steps } => {
                (0..=NODES).for_each(|part| self.happen(Event::Reboot { part, wall_ms, steps }));
            }
            Event::Nothing { steps } => (0..steps).for_each(|_| self.step()),
        }
    }

    fn machine(&mut self, part: usize) -> &mut Machine {
        match part.checked_sub(1) {
            None => &mut self.authority,
            Some(node) => &mut self.nodes[node].machine,
        }
    }

    fn end(&mut self, part: usize) {
        match part.checked_sub(1) {
            None => self.ledger = None,
            Some(node) => {
                let node = &mut self.nodes[node];
                (node.keeper, node.linked) = (None, false);
                // Another process does not know what was told, and promises nothing about it.
                node.told.clear();
            }
        }
    }

    fn step(&mut self) {
        self.now_ms += STEP;
        let serves = self.now_ms >= self.authority.away_until;
        if serves {
            self.run_authority();
        }
        for number in 0..NODES {
            if self.now_ms >= self.nodes[number].machine.away_until {
                self.run_node(number, serves);
            }
        }
    }

    fn run_authority(&mut self) {
        if self.ledger.is_none() {
            let saved: Saved = serde_json::from_str(&self.saved).unwrap();
            let now_ms = saved.present(&self.clock, self.time_ms());
            self.authority.ahead_ms += i64::try_from(now_ms - self.time_ms()).unwrap();
            let constants = self.config.constants(&saved).unwrap();
            let ledger =
                Ledger::open(&self.config.terms(&constants, node_id_of(&self.signer)), self.clock, &saved, now_ms);
            self.consensuses = Consensuses::new("test".into(), node_id_of(&self.signer));
            for consensus in ledger.consensuses() {
                assert!(self.consensuses.accept(consensus, now_ms).unwrap());
            }
            self.ledger = Some(ledger);
            self.nodes.iter_mut().for_each(|node| node.linked = false);
        }
        let now_ms = self.time_ms();
        let ledger = self.ledger.as_mut().unwrap();
        for consensus in ledger.due(&self.signer, now_ms).unwrap() {
            self.consensuses.accept(consensus.signed(), now_ms).unwrap();
            self.saved = serde_json::to_string(&ledger.save()).unwrap();
        }
    }

    fn run_node(&mut self, number: usize, serves: bool) {
        let network_ms = self.time_ms();
        let node = &mut self.nodes[number];
        let id = node_id_of(&node.key);
        let mut informed = false;
        if serves {
            let moved =
                std::mem::replace(&mut node.machine.ahead_ms, self.authority.ahead_ms) != self.authority.ahead_ms;
            if moved {
                node.consensuses.forget_after(network_ms);
            }
            let held = node.consensuses.hashes();
            let news: Vec<_> = self.consensuses.beyond(&held, network_ms).collect();
            informed = !news.is_empty();
            if informed {
                node.consensuses.forget_after(network_ms);
            }
            for consensus in news {
                node.consensuses.accept(consensus.consensus().signed(), network_ms).unwrap();
            }
        }
        let now_ms = self.now_ms.saturating_add_signed(node.machine.ahead_ms);
        let boot = format!("boot {}", node.machine.boots);
        if node.keeper.is_none() {
            let state = StateDir::open(node.folder.path()).unwrap();
            let packet_keys = PacketKeys::open(&state, &boot, self.clock.epoch_at(now_ms), 8).unwrap();
            node.keeper = Some(Keeper {
                packet_keys: Arc::new(packet_keys),
                delays: Arc::new(Mutex::new(Delays::open(&state).unwrap())),
                clock: self.clock,
                time: NetworkClock::from_wall(),
            });
            // Its first descriptor is another, whatever was published before.
            node.described = None;
        }
        let keeper = node.keeper.clone().unwrap();
        let now = self.start + Duration::from_millis(self.now_ms - START);
        if serves && (!node.linked || informed) {
            lock(&keeper.delays).owe(self.ledger.as_ref().unwrap().owed_by(id));
        }
        node.linked = serves;
        assert_eq!(None, keeper.round(&node.consensuses, Some(boot), now_ms, now).trouble);
        let (keys, current) = {
            let packet_keys = &keeper.packet_keys;
            (packet_keys.public_keys(), packet_keys.current())
        };
        let proofs = lock(&keeper.delays).revealed(current, &self.clock, now_ms, now);
        let held: BTreeSet<[u8; 32]> = keys.values().map(|key| *key.as_bytes()).collect();
        node.check_keys(&held);
        // Without the authority's time nothing is published, so nobody has keys to send by.
        if serves {
            node.check_delays(current);
        }
        let described = Some((held, proofs.clone()));
        if node.described != described {
            (node.described, node.stored) = (described, false);
        }
        if serves && !node.stored {
            let vrf_key = lock(&keeper.delays).public_key();
            let descriptor = NodeDescriptor {
                id,
                role: Role::Middle,
                link_address: "127.0.0.1:1".parse().unwrap(),
                keys,
                vrf_key,
                delay_proofs: proofs.clone(),
                issued_ms: now_ms,
                expires_ms: self.clock.start_of(current.next().next().next()),
            };
            let signed = Verified::sign(descriptor, &node.key).unwrap();
            // What the authority refuses is a fault of the node's, and there is none.
            self.ledger.as_mut().unwrap().put_node(id, signed.signed(), Shown::default(), network_ms).unwrap();
            node.stored = true;
            node.told.extend(proofs.iter().filter_map(|proof| {
                let delays = lock(&keeper.delays).source(proof.epoch)?;
                Some((proof.epoch, delays.owed(&DelayInput::from(PROBE))))
            }));
        }
    }

    fn describe(&self) -> String {
        let now_ms = self.time_ms();
        let nodes = self.nodes.iter().map(|node| {
            let current = node.keeper.as_ref().map(|keeper| keeper.packet_keys.current());
            (node.machine.ahead_ms, current, node.stored, node.consensuses.complaint(now_ms))
        });
        format!(
            "epoch {}, {:?}, newest {:?}, nodes {:?}",
            self.clock.epoch_at(now_ms),
            self.consensuses.complaint(now_ms),
            self.consensuses.newest().map(|view| (view.consensus().epoch, view.consensus().delays.left_out.clone())),
            nodes.collect::<Vec<_>>()
        )
    }

    /// Whether the consensus of this epoch lists every node, and every node works by it.
    fn is_whole(&self) -> bool {
        let now_ms = self.time_ms();
        let Some(view) = self.consensuses.at(now_ms) else { return false };
        let delays = &view.consensus().delays;
        let current = self.clock.epoch_at(now_ms);
        view.consensus().epoch >= current
            && view.nodes().count() == NODES
            && delays.left_out.is_empty()
            && (0..NODES).all(|node| self.is_reachable(node))
            && self.nodes.iter().all(|node| {
                let mixes = |keeper: &Keeper| lock(&keeper.delays).source(current).is_some();
                node.consensuses.at(now_ms).map(|view| view.hash()) == Some(view.hash())
                    && node.keeper.as_ref().is_some_and(mixes)
            })
    }
}

impl World {
    /// Whether the consensus of now says by which key of this epoch packets reach the node.
    fn is_reachable(&self, node: usize) -> bool {
        let now_ms = self.time_ms();
        let current = self.clock.epoch_at(now_ms);
        let Some(view) = self.consensuses.at(now_ms) else { return false };
        let Some(keeper) = &self.nodes[node].keeper else { return false };
        let keys = keeper.packet_keys.public_keys();
        let listed = view.node(node_id_of(&self.nodes[node].key)).and_then(|node| node.key(current).copied());
        listed.is_some() && listed == keys.get(&current).copied()
    }
}

const PROBE: [u8; 16] = [7; 16];

impl Node {
    /// INV-LINK-26: a key that was erased does not come back.
    fn check_keys(&mut self, held: &BTreeSet<[u8; 32]>) {
        self.gone.extend(self.held.difference(held));
        assert!(self.gone.is_disjoint(held), "an erased key came back");
        self.held.clone_from(held);
    }

    /// INV-DELAY-10, INV-DELAY-15: no packet waits by what was told.
    fn check_delays(&self, current: Epoch) {
        let delays = lock(&self.keeper.as_ref().unwrap().delays);
        for epoch in [current.previous(), current, current.next()] {
            if let Some(delays) = delays.source(epoch) {
                let told = self.told.contains(&(epoch, delays.owed(&DelayInput::from(PROBE))));
                assert!(!told, "a told proof is in use in epoch {epoch}");
            }
        }
    }
}

/// INV-DELAY-11, INV-DELAY-13, INV-DELAY-14, INV-LINK-24
#[test]
fn after_any_history_all_nodes_are_listed_again_without_anybodys_help() {
    let mut failed = Vec::new();
    for seed in 0..60 {
        let mut seeded = ChaCha20Rng::seed_from_u64(seed);
        let mut world = World::new();
        // Young networks and such whose nodes remember as many epochs as they ever do.
        world.happen(Event::Nothing { steps: 8 * (QUIET + seed % 24) });
        assert!(world.is_whole(), "seed {seed}: it did not even start");
        let mut history = Vec::new();
        for _ in 0..6 {
            let event = Event::draw(&mut seeded);
            history.push(event);
            world.happen(event);
            let gap = seeded.next_u64() % 12;
            world.happen(Event::Nothing { steps: gap });
        }
        // The last to come back does so within seven epochs.
        let back = (0..=NODES).map(|part| world.machine(part).away_until).max().unwrap();
        while world.now_ms < back {
            world.step();
        }
        let mut whole: BTreeMap<u64, bool> = BTreeMap::new();
        for step in 0..8 * (QUIET + 6) {
            world.step();
            whole.insert(step, world.is_whole());
        }
        let late = whole.range(8 * QUIET..).filter(|(_, whole)| !**whole).map(|(step, _)| *step).collect::<Vec<_>>();
        if !late.is_empty() {
            failed.push(format!("seed {seed}, steps {late:?}, after {history:?}: {}", world.describe()));
        }
    }
    assert!(failed.is_empty(), "not whole again: {}", failed.join("\n"));
}

/// INV-LINK-59
#[test]
fn a_node_that_was_rebooted_in_any_part_of_an_epoch_can_be_reached_a_quarter_of_one_later() {
    for phase in 0..8 {
        for number in 0..NODES {
            let mut world = World::new();
            world.happen(Event::Nothing { steps: 8 * QUIET + phase });
            assert!(world.is_whole(), "phase {phase}: it did not even start");
            let held = world.nodes[number].held.clone();
            world.happen(Event::Reboot { part: 1 + number, wall_ms: 0, steps: 0 });
            world.happen(Event::Nothing { steps: 2 });
            assert!(world.nodes[number].held.is_disjoint(&held), "after a reboot every key is new");
            assert!(world.is_reachable(number), "phase {phase}, node {number}: {}", world.describe());
        }
    }
}
