//! The network in memory and its clock.

mod authority;
mod effects;
mod events;
mod packets;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use betanet_mix::courier::{CourierConfig, PingId, SendError, SendOptions};
use betanet_mix::epoch::EpochClock;
use betanet_mix::message::{ItemRef, MessageId};
use betanet_mix::view::{Mailbox, NetworkView, Role};
use betanet_sphinx::{MailboxId, NodeId};
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use self::authority::MemoryAuthority;
use self::events::{Event, Kind};
use crate::client::{ClientIndex, MemoryClient};
use crate::faults::Faults;
use crate::node::{MailboxStore, MemoryNode, StoredItem};
use crate::seeded_rng;

/// When a network's clock starts, Unix milliseconds. Lies in the middle of no epoch in particular.
pub const START_MS: u64 = 1_700_000_000_000;

/// The shape of a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Edges that prefer senders.
    pub entries: u8,
    /// Nodes between the edges.
    pub middles: u8,
    /// Edges that prefer recipients.
    pub exits: u8,
    /// Epoch length in milliseconds.
    pub epoch_ms: u64,
    /// Clock skew in milliseconds.
    pub skew_ms: u64,
    /// Mean delay of a hop in milliseconds.
    pub mean_delay_ms: u64,
    /// Settings of the clients' couriers.
    pub courier: CourierConfig,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            entries: 2,
            middles: 6,
            exits: 2,
            epoch_ms: 600_000,
            skew_ms: 5_000,
            mean_delay_ms: 15,
            courier: CourierConfig::default(),
        }
    }
}

/// Nodes, links and clients in one process, on a virtual clock.
#[derive(Debug)]
pub struct MemoryNetwork {
    plan: Plan,
    /// What goes wrong from now on.
    pub faults: Faults,
    rng: ChaCha20Rng,
    now_us: u64,
    events: BinaryHeap<Reverse<Event>>,
    events_made: u64,
    nodes: Vec<MemoryNode>,
    by_id: HashMap<NodeId, usize>,
    clients: Vec<MemoryClient>,
    authority: MemoryAuthority,
    clock: EpochClock,
    view: Arc<NetworkView>,
    dropped: BTreeMap<&'static str, u64>,
}

impl MemoryNetwork {
    /// A network of this shape whose every random choice follows from `seed`.
    ///
    /// # Panics
    /// When the plan has unusable epoch parameters.
    #[must_use]
    pub fn new(seed: u64, plan: Plan, faults: Faults) -> Self {
        let mut rng = seeded_rng(seed);
        let clock = EpochClock::new(plan.epoch_ms, plan.skew_ms).expect("the plan's epoch is longer than its skew");
        let epoch = clock.epoch_at(START_MS);
        let mean = Duration::from_millis(plan.mean_delay_ms);
        let roles = [(Role::Entry, plan.entries), (Role::Middle, plan.middles), (Role::Exit, plan.exits)];
        let roles = roles.into_iter().flat_map(|(role, count)| (0..count).map(move |_| role));
        let nodes: Vec<_> = (0..=u8::MAX)
            .zip(roles)
            .map(|(number, role)| MemoryNode::new(&mut rng, number, role, epoch, mean))
            .collect();
        let by_id = nodes.iter().enumerate().map(|(index, node)| (node.id, index)).collect();
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let mut authority = MemoryAuthority::new(SigningKey::from_bytes(&seed), &plan, nodes.len(), clock);
        let view = authority.publish(&nodes, &clock, START_MS);
        let mut network = Self {
            plan,
            faults,
            rng,
            now_us: 0,
            events: BinaryHeap::new(),
            events_made: 0,
            nodes,
            by_id,
            clients: Vec::new(),
            authority,
            clock,
            view,
            dropped: BTreeMap::new(),
        };
        network.schedule_epoch();
        network
    }

    /// Adds a client with mailboxes at two edges that are drawn at random.
    pub fn add_client(&mut self) -> ClientIndex {
        self.add_client_with(self.plan.courier)
    }

    /// Adds a client with its own settings.
    ///
    /// # Panics
    /// When the network has no edge.
    pub fn add_client_with(&mut self, config: CourierConfig) -> ClientIndex {
        let mut edges: Vec<usize> =
            self.nodes.iter().enumerate().filter(|(_, node)| node.role.is_edge()).map(|(index, _)| index).collect();
        let index = ClientIndex(self.clients.len());
        let mut mailboxes = Vec::new();
        for _ in 0..2.min(edges.len()) {
            let place = usize::try_from(self.rng.next_u32()).expect("32 bits fit") % edges.len();
            let edge = edges.swap_remove(place);
            let mut id = [0; 16];
            self.rng.fill_bytes(&mut id);
            let mailbox = MailboxId::from(id);
            let node = self.nodes.get_mut(edge).expect("listed above");
            node.mailboxes.insert(mailbox, MailboxStore::of(index));
            mailboxes.push(Mailbox { edge: node.id, mailbox });
        }
        let mut key = [0; 32];
        self.rng.fill_bytes(&mut key);
        let mut client = MemoryClient::new(config, key, mailboxes);
        client.courier.set_view(Arc::clone(&self.view));
        client.set_attached(true);
        self.clients.push(client);
        self.pump(index);
        index
    }

    /// A client.
    ///
    /// # Panics
    /// When the index comes from another network.
    #[must_use]
    pub fn client(&self, index: ClientIndex) -> &MemoryClient {
        self.clients.get(index.0).expect("an index of this network")
    }

    /// A client, to change its behaviour or call its courier. [`MemoryNetwork::run`] carries out what follows.
    ///
    /// # Panics
    /// When the index comes from another network.
    pub fn client_mut(&mut self, index: ClientIndex) -> &mut MemoryClient {
        self.clients.get_mut(index.0).expect("an index of this network")
    }

    /// The present time, Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        START_MS + self.now_us / 1000
    }

    /// What the nodes' consensus says now.
    #[must_use]
    pub fn view(&self) -> &Arc<NetworkView> {
        &self.view
    }

    /// Packets that nodes and links dropped, by reason.
    #[must_use]
    pub fn dropped(&self) -> &BTreeMap<&'static str, u64> {
        &self.dropped
    }

    /// Items that lie in a client's mailboxes.
    #[must_use]
    pub fn stored_items(&self, client: ClientIndex) -> usize {
        let owned = |store: &&MailboxStore| store.owner == Some(client);
        self.nodes.iter().flat_map(|node| node.mailboxes.values()).filter(owned).map(|store| store.items.len()).sum()
    }

    /// Puts bytes into a client's first mailbox as if a packet had brought them.
    pub fn plant(&mut self, client: ClientIndex, payload: Vec<u8>) {
        let Some(mailbox) = self.client(client).mailboxes().first().copied() else { return };
        if let Some(node) = self.by_id.get(&mailbox.edge).copied() {
            self.store(node, mailbox.mailbox, StoredItem::Forward(payload));
        }
    }

    /// Starts a message from one client to another.
    ///
    /// # Errors
    /// What the courier says.
    pub fn send(
        &mut self,
        from: ClientIndex,
        to: ClientIndex,
        body: &[u8],
        options: SendOptions,
    ) -> Result<MessageId, SendError> {
        let (now_ms, address) = (self.now_ms(), self.client(to).address().clone());
        let id = self.client_mut(from).courier.send(now_ms, &address, body, options);
        self.pump(from);
        id
    }

    /// Starts a request from one client to another.
    ///
    /// # Errors
    /// What the courier says.
    pub fn request(
        &mut self,
        from: ClientIndex,
        to: ClientIndex,
        body: &[u8],
        options: SendOptions,
        reply_packets: u8,
        timeout_ms: u64,
    ) -> Result<MessageId, SendError> {
        let (now_ms, address) = (self.now_ms(), self.client(to).address().clone());
        let courier = &mut self.client_mut(from).courier;
        let id = courier.request(now_ms, &address, body, options, reply_packets, timeout_ms);
        self.pump(from);
        id
    }

    /// Starts a loop.
    ///
    /// # Errors
    /// What the courier says.
    pub fn ping(&mut self, from: ClientIndex, hops: u8) -> Result<PingId, SendError> {
        let now_ms = self.now_ms();
        let ping = self.client_mut(from).courier.ping(now_ms, hops);
        self.pump(from);
        ping
    }

    /// Replaces a client's courier by a new one with the same key; its edges hand over everything again.
    pub fn restart(&mut self, client: ClientIndex) {
        let (view, now_ms) = (Arc::clone(&self.view), self.now_ms());
        let owner = self.client_mut(client);
        owner.restart(now_ms);
        owner.courier.set_view(view);
        self.attach(client);
    }

    /// Attaches a client to its edges, which hand over everything that they hold.
    pub fn attach(&mut self, client: ClientIndex) {
        self.client_mut(client).set_attached(true);
        for mailbox in self.client(client).mailboxes().to_vec() {
            let node = self.by_id.get(&mailbox.edge).and_then(|index| self.nodes.get(*index));
            let store = node.and_then(|node| node.mailboxes.get(&mailbox.mailbox));
            let seqs: Vec<u64> = store.map(|store| store.items.keys().copied().collect()).unwrap_or_default();
            for seq in seqs {
                self.hand_over(client, ItemRef { edge: mailbox.edge, seq }, mailbox.mailbox);
            }
        }
        self.pump(client);
    }

    /// Cuts a client off from its edges.
    pub fn detach(&mut self, client: ClientIndex) {
        self.client_mut(client).set_attached(false);
        self.pump(client);
    }

    /// Takes a node down or brings it back. What lies in its mailboxes stays.
    pub fn set_up(&mut self, id: NodeId, up: bool) {
        if let Some(node) = self.by_id.get(&id).and_then(|index| self.nodes.get_mut(*index)) {
            node.up = up;
        }
    }

    /// Advances the clock until `done` holds, at most by `for_ms`. Returns whether it held.
    pub fn run(&mut self, for_ms: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end_us = self.now_us.saturating_add(for_ms.saturating_mul(1000));
        for index in 0..self.clients.len() {
            self.pump(ClientIndex(index));
        }
        loop {
            if done(self) {
                return true;
            }
            match self.events.pop() {
                Some(Reverse(event)) if event.at_us <= end_us => {
                    self.now_us = event.at_us;
                    self.happen(event.kind);
                }
                later => {
                    self.events.extend(later);
                    self.now_us = end_us;
                    return done(self);
                }
            }
        }
    }

    fn happen(&mut self, kind: Kind) {
        match kind {
            Kind::Arrive { node, packet } => self.arrive(node, packet),
            Kind::Release { node, action, packet } => self.release(node, action, packet),
            Kind::HandOver { client, item, mailbox } => self.take_item(client, item, mailbox),
            Kind::PassOn { client, edge, payload } => {
                let now_ms = self.now_ms();
                let owner = self.client_mut(client);
                if owner.is_attached() {
                    owner.courier.on_forward(now_ms, ItemRef { edge, seq: 0 }, &payload);
                    self.pump(client);
                }
            }
            Kind::Tick { client } => {
                let now_ms = self.now_ms();
                let is_current = self.client(client).tick_at_us == Some(self.now_us);
                let owner = self.client_mut(client);
                if !is_current {
                    // An earlier one took its place.
                    return;
                }
                owner.tick_at_us = None;
                owner.courier.tick(now_ms);
                self.pump(client);
            }
            Kind::Epoch => self.begin_epoch(),
        }
    }

    fn begin_epoch(&mut self) {
        let now_ms = self.now_ms();
        let epoch = self.clock.epoch_at(now_ms);
        self.nodes.iter_mut().for_each(|node| node.rotate(epoch));
        self.view = self.authority.publish(&self.nodes, &self.clock, now_ms);
        for index in 0..self.clients.len() {
            let view = Arc::clone(&self.view);
            self.client_mut(ClientIndex(index)).courier.set_view(view);
            self.pump(ClientIndex(index));
        }
        self.schedule_epoch();
    }

    fn schedule_epoch(&mut self) {
        let now_ms = self.now_ms();
        let next = self.clock.start_of(self.clock.epoch_at(now_ms).next());
        self.schedule((next - START_MS) * 1000 - self.now_us, Kind::Epoch);
    }

    fn schedule(&mut self, wait_us: u64, kind: Kind) {
        self.events_made += 1;
        let at_us = self.now_us.saturating_add(wait_us);
        self.events.push(Reverse(Event { at_us, order: self.events_made, kind }));
    }

    fn count(&mut self, reason: &'static str) {
        *self.dropped.entry(reason).or_default() += 1;
    }
}
