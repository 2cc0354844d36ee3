//! The network in memory and its clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use betanet_mix::courier::{CourierConfig, Effect, PingId, SendError, SendOptions};
use betanet_mix::directory::{Consensuses, Door, Ledger, NetworkConstants, Saved, Shown, Terms};
use betanet_mix::epoch::EpochClock;
use betanet_mix::message::{Envelope, EnvelopeKind, ItemRef, MessageId, encode_ack};
use betanet_mix::view::{Mailbox, NetworkView, Role, node_id_of};
use betanet_sphinx::{Action, MailboxId, NodeId, PACKET_LEN};
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use crate::client::{Behaviour, ClientIndex, MemoryClient};
use crate::faults::{Faults, happens};
use crate::node::{MailboxStore, MemoryNode, StoredItem};
use crate::seeded_rng;

/// When a network's clock starts, Unix milliseconds. Lies in the middle of no epoch in particular.
pub const START_MS: u64 = 1_700_000_000_000;

/// Packets that a client's link takes before the courier is asked again.
const CREDIT: usize = 64;
const TICK_US: u64 = 1_000_000;

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
    directory: Directory,
    clock: EpochClock,
    view: Arc<NetworkView>,
    dropped: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Event {
    at_us: u64,
    order: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A packet reaches a node.
    Arrive { node: usize, packet: Box<[u8; PACKET_LEN]> },
    /// A node has held a packet for as long as it owed.
    Release { node: usize, action: Action, packet: Box<[u8; PACKET_LEN]> },
    /// An edge hands an item to its mailbox's owner.
    HandOver { client: ClientIndex, item: ItemRef, mailbox: MailboxId },
    /// An edge hands a payload that it did not store to the client it is for.
    PassOn { client: ClientIndex, edge: NodeId, payload: Vec<u8> },
    /// A client's timer.
    Tick { client: ClientIndex },
    /// The next epoch begins.
    Epoch,
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
        let mut directory = Directory::new(SigningKey::from_bytes(&seed), &plan, nodes.len(), clock);
        let view = directory.publish(&nodes, &clock, START_MS);
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
            directory,
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

    fn arrive(&mut self, index: usize, mut packet: Box<[u8; PACKET_LEN]>) {
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.up) else { return self.count("node_down") };
        match node.unwrap(packet.as_mut_slice()) {
            Ok((action, delay)) => {
                let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
                self.schedule(delay_us, Kind::Release { node: index, action, packet });
            }
            Err(error) => self.count(error.reason()),
        }
    }

    fn release(&mut self, index: usize, action: Action, packet: Box<[u8; PACKET_LEN]>) {
        match action {
            Action::Forward { next } => self.link(next, packet, false),
            Action::Deliver { mailbox, payload } => {
                let payload = packet.get(payload).unwrap_or_default().to_vec();
                let envelope = Envelope::parse(&payload).ok();
                if envelope.as_ref().is_some_and(|envelope| envelope.kind == EnvelopeKind::Bulk) {
                    return self.pass_on(index, mailbox, payload);
                }
                let surb = envelope.and_then(|envelope| envelope.ack_surb());
                if !self.store(index, mailbox, StoredItem::Forward(payload)) {
                    return;
                }
                if let Some(surb) = surb {
                    let (first, mut ack) = (surb.first(), Box::new([0; PACKET_LEN]));
                    if surb.reply(&encode_ack(), &mut ack).is_ok() {
                        self.link(first, ack, true);
                    }
                }
            }
            Action::Reply { mailbox, surb_id, delta } => {
                let delta = packet.get(delta).unwrap_or_default().to_vec();
                self.store(index, mailbox, StoredItem::Reply { surb_id, delta });
            }
        }
    }

    /// Hands a bulk packet to whoever the mailbox belongs to, if he is there.
    fn pass_on(&mut self, index: usize, mailbox: MailboxId, payload: Vec<u8>) {
        let node = self.nodes.get(index);
        let found = node.and_then(|node| Some((node.id, node.mailboxes.get(&mailbox)?.owner?)));
        let Some((edge, client)) = found.filter(|(_, client)| self.client(*client).is_attached()) else {
            return self.count("owner_away");
        };
        let latency = self.faults.latency_us(&mut self.rng);
        self.schedule(latency, Kind::PassOn { client, edge, payload });
    }

    fn store(&mut self, index: usize, mailbox: MailboxId, item: StoredItem) -> bool {
        let node = self.nodes.get_mut(index);
        let found = node.and_then(|node| Some((node.id, node.mailboxes.get_mut(&mailbox)?)));
        let Some((edge, store)) = found else {
            self.count("unknown_mailbox");
            return false;
        };
        let (seq, owner) = (store.store(item), store.owner);
        if let Some(client) = owner.filter(|client| self.client(*client).is_attached()) {
            self.hand_over(client, ItemRef { edge, seq }, mailbox);
        }
        true
    }

    fn hand_over(&mut self, client: ClientIndex, item: ItemRef, mailbox: MailboxId) {
        let copies = 1 + u32::from(happens(&mut self.rng, self.faults.redelivery));
        for _ in 0..copies {
            let latency = self.faults.latency_us(&mut self.rng);
            self.schedule(latency, Kind::HandOver { client, item, mailbox });
        }
    }

    fn take_item(&mut self, client: ClientIndex, item: ItemRef, mailbox: MailboxId) {
        let node = self.by_id.get(&item.edge).and_then(|index| self.nodes.get(*index));
        let stored = node.and_then(|node| node.mailboxes.get(&mailbox)).and_then(|store| store.items.get(&item.seq));
        let Some(stored) = stored.cloned() else { return };
        let now_ms = self.now_ms();
        let owner = self.client_mut(client);
        if !owner.is_attached() {
            return;
        }
        match stored {
            StoredItem::Forward(payload) => owner.courier.on_forward(now_ms, item, &payload),
            StoredItem::Reply { surb_id, mut delta } => owner.courier.on_reply(now_ms, item, surb_id, &mut delta),
        }
        self.pump(client);
    }

    /// Grants credit and carries out a client's actions until it has no more.
    fn pump(&mut self, index: ClientIndex) {
        let now_ms = self.now_ms();
        loop {
            let client = self.client_mut(index);
            if client.courier.wants_credit() && client.is_attached() {
                client.courier.grant(now_ms, CREDIT);
            }
            let Some(effect) = client.courier.next_effect() else { break };
            self.carry_out(index, effect);
        }
        let wakeup_us = self.client(index).courier.next_wakeup().map(|at_ms| at_ms.saturating_sub(START_MS) * 1000);
        let at_us = wakeup_us.unwrap_or(u64::MAX).clamp(self.now_us, self.now_us + TICK_US);
        let client = self.client_mut(index);
        if client.tick_at_us.is_none_or(|set| at_us < set) {
            client.tick_at_us = Some(at_us);
            let wait = at_us - self.now_us;
            self.schedule(wait, Kind::Tick { client: index });
        }
    }

    fn carry_out(&mut self, index: ClientIndex, effect: Effect) {
        let now_ms = self.now_ms();
        match effect {
            Effect::Inject { edge, packet } => {
                if let Some(node) = self.by_id.get(&edge).copied() {
                    *self.client_mut(index).injected.entry(node).or_default() += 1;
                }
                let packet = packet.as_array().expect("couriers make whole packets");
                self.link(edge, Box::new(*packet), true);
            }
            Effect::Delete { edge, seqs } => seqs.into_iter().for_each(|seq| self.delete(index, ItemRef { edge, seq })),
            Effect::Redeliver => {
                self.client_mut(index).redeliveries += 1;
                self.attach(index);
            }
            Effect::Deliver { message } => {
                let client = self.client_mut(index);
                if let (Behaviour::Echo, Some(handle)) = (client.behaviour, message.reply) {
                    let cut = message.body.len().min(message.reply_capacity);
                    let body = message.body.get(..cut).unwrap_or_default();
                    client.courier.reply(now_ms, handle, body).expect("a body cut to the capacity fits");
                }
                let items = if client.behaviour == Behaviour::Hold { None } else { client.courier.commit(message.id) };
                client.delivered.push(message);
                items.unwrap_or_default().into_iter().for_each(|item| self.delete(index, item));
            }
            Effect::SpoolPiece { key, head, index: piece, data } => {
                let client = self.client_mut(index);
                if client.has_room {
                    client.spools.entry(key).or_insert_with(|| (head, BTreeMap::new())).1.insert(piece, data);
                    client.courier.pieces_written(&key, &[piece]);
                } else {
                    client.courier.pieces_not_written(&key, &[piece]);
                }
            }
            Effect::OpenSpool { key, stream_len } => {
                let client = self.client_mut(index);
                let stream = client.stream(&key);
                client.courier.spool_opened(now_ms, &key, stream_len, &stream);
            }
            Effect::DeliverSpool { mut message, key, body } => {
                let stream = self.client(index).stream(&key);
                let body = usize::try_from(body.start).expect("fits")..usize::try_from(body.end).expect("fits");
                message.body = stream.get(body).expect("inside the stream").to_vec();
                self.carry_out(index, Effect::Deliver { message });
            }
            Effect::DiscardSpool { key } => drop(self.client_mut(index).spools.remove(&key)),
            Effect::Progress { .. } => {}
            Effect::Sent { id } => self.client_mut(index).sent.push(id),
            Effect::Failed { id, reason } => self.client_mut(index).failed.push((id, reason)),
            Effect::ReplyComplete { id, body } => self.client_mut(index).replies.push((id, body)),
            Effect::NoteAnswer { handle, id, until_ms } => {
                let client = self.client_mut(index);
                client.answered.push((id, until_ms));
                client.courier.answer_noted(now_ms, handle);
            }
            Effect::ReplySent { handle } => self.client_mut(index).replied.push(handle),
            Effect::Pong { ping, rtt_ms } => self.client_mut(index).pongs.push((ping, rtt_ms)),
            Effect::PingLost { ping } => self.client_mut(index).lost_pings.push(ping),
            other => panic!("the network does not know the effect {other:?}"),
        }
    }

    /// Commits a delivered message of a client that holds its messages.
    pub fn commit(&mut self, client: ClientIndex, id: MessageId) {
        let items = self.client_mut(client).courier.commit(id).unwrap_or_default();
        for item in items {
            self.delete(client, item);
        }
        self.pump(client);
    }

    fn delete(&mut self, owner: ClientIndex, item: ItemRef) {
        let Some(node) = self.by_id.get(&item.edge).and_then(|index| self.nodes.get_mut(*index)) else { return };
        for store in node.mailboxes.values_mut().filter(|store| store.owner == Some(owner)) {
            store.items.remove(&item.seq);
        }
    }

    /// Carries a packet to a node, with everything that may go wrong; `is_new` where its way begins.
    fn link(&mut self, to: NodeId, packet: Box<[u8; PACKET_LEN]>, is_new: bool) {
        let Some(node) = self.by_id.get(&to).copied() else { return self.count("unknown_next_hop") };
        if happens(&mut self.rng, self.faults.link_loss) || (is_new && happens(&mut self.rng, self.faults.packet_loss))
        {
            return self.count("lost");
        }
        if happens(&mut self.rng, self.faults.duplication) {
            let latency = self.faults.latency_us(&mut self.rng);
            self.schedule(latency, Kind::Arrive { node, packet: packet.clone() });
        }
        let latency = self.faults.latency_us(&mut self.rng);
        self.schedule(latency, Kind::Arrive { node, packet });
    }

    fn begin_epoch(&mut self) {
        let now_ms = self.now_ms();
        let epoch = self.clock.epoch_at(now_ms);
        self.nodes.iter_mut().for_each(|node| node.rotate(epoch));
        self.view = self.directory.publish(&self.nodes, &self.clock, now_ms);
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

/// The authority, and what all clients hold of it.
#[derive(Debug)]
struct Directory {
    key: SigningKey,
    ledger: Ledger,
    held: Consensuses,
}

impl Directory {
    fn new(key: SigningKey, plan: &Plan, nodes: usize, clock: EpochClock) -> Self {
        let constants = NetworkConstants {
            network: "testkit".to_owned(),
            epoch_length_ms: plan.epoch_ms,
            skew_ms: plan.skew_ms,
            mean_delay_ms: plan.mean_delay_ms,
        };
        let held = Consensuses::new(constants.network.clone(), node_id_of(&key));
        let terms = Terms { constants, expect: nodes, one_operator: true, door: Door::Open };
        Self { key, ledger: Ledger::open(&terms, clock, &Saved::default(), START_MS), held }
    }

    /// All nodes tell their keys and show the proofs that they owe; then the network is what the authority signs.
    fn publish(&mut self, nodes: &[MemoryNode], clock: &EpochClock, now_ms: u64) -> Arc<NetworkView> {
        for node in nodes {
            let descriptor = node.descriptor(&self.ledger.owed_by(node.id), clock, now_ms);
            self.ledger
                .put_node(node.id, descriptor.signed(), Shown::default(), now_ms)
                .expect("the authority takes an honest node");
        }
        for consensus in self.ledger.due(&self.key, now_ms).expect("a plan that makes a valid consensus") {
            self.held.accept(consensus.signed(), now_ms).expect("the authority does not contradict itself");
        }
        Arc::clone(self.held.at(now_ms).expect("every epoch has a consensus"))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.order) == (other.at_us, other.order)
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}
