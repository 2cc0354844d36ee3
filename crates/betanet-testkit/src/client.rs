//! A client in memory: a real courier and what came out of it.

use betanet_mix::courier::{Courier, CourierConfig, Delivery, FailReason, PingId, ReplyHandle};
use betanet_mix::message::{MessageId, Pieces, SealingKey, SpoolHead, SpoolKey};
use betanet_mix::view::{Address, Mailbox};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use std::collections::BTreeMap;

/// Names a client of a [`MemoryNetwork`](crate::MemoryNetwork).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientIndex(pub(crate) usize);

/// What a client does with a message that is delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// Commits it at once.
    Commit,
    /// Answers with the body, cut to what fits, and commits.
    Echo,
    /// Keeps it uncommitted.
    Hold,
}

/// The pieces of one bulk message that its recipient has, by their positions.
pub type SpooledPieces = BTreeMap<u16, Box<[u8]>>;

/// A courier with its mailboxes, and a record of its actions.
#[derive(Debug)]
pub struct MemoryClient {
    /// The courier itself.
    pub courier: Courier<ChaCha20Rng>,
    /// What happens to delivered messages.
    pub behaviour: Behaviour,
    /// Messages delivered, in order. Survives a restart, as an application's database does.
    pub delivered: Vec<Delivery>,
    /// Messages of which every fragment was stored, in order.
    pub sent: Vec<MessageId>,
    /// Messages and requests that failed, in order.
    pub failed: Vec<(MessageId, FailReason)>,
    /// Answers, in order.
    pub replies: Vec<(MessageId, Vec<u8>)>,
    /// Messages that were answered, and until when that counts. Survives a restart, as a disk does.
    pub answered: Vec<(MessageId, u64)>,
    /// Pieces of bulk messages. Survive a restart, as a disk does.
    pub spools: BTreeMap<SpoolKey, (SpoolHead, SpooledPieces)>,
    /// Whether its disk takes pieces.
    pub has_room: bool,
    /// Answers given completely.
    pub replied: Vec<ReplyHandle>,
    /// Loops that came back, with their round trips in milliseconds.
    pub pongs: Vec<(PingId, u64)>,
    /// Loops that did not.
    pub lost_pings: Vec<PingId>,
    /// Packets that went in, by their first node's position in the network.
    pub injected: BTreeMap<usize, u64>,
    /// How often the courier asked for deferred items.
    pub redeliveries: u64,
    pub(crate) address: Address,
    pub(crate) tick_at_us: Option<u64>,
    config: CourierConfig,
    key: [u8; 32],
    mailboxes: Vec<Mailbox>,
    attached: bool,
    starts: u64,
}

impl MemoryClient {
    pub(crate) fn new(config: CourierConfig, key: [u8; 32], mailboxes: Vec<Mailbox>) -> Self {
        let courier = make_courier(config, key, &mailboxes, 0);
        let address = Address::new(mailboxes.clone(), courier.sealing_key()).expect("mailboxes at different edges");
        Self {
            courier,
            behaviour: Behaviour::Commit,
            delivered: Vec::new(),
            sent: Vec::new(),
            failed: Vec::new(),
            replies: Vec::new(),
            answered: Vec::new(),
            spools: BTreeMap::new(),
            has_room: true,
            replied: Vec::new(),
            pongs: Vec::new(),
            lost_pings: Vec::new(),
            injected: BTreeMap::new(),
            redeliveries: 0,
            address,
            tick_at_us: None,
            config,
            key,
            mailboxes,
            attached: false,
            starts: 0,
        }
    }

    /// The address that others reach the client by.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether its edges hand items over.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// The stream of a bulk message.
    pub(crate) fn stream(&self, key: &SpoolKey) -> Vec<u8> {
        let pieces = self.spools.get(key).into_iter().flat_map(|(_, pieces)| pieces.values());
        pieces.flat_map(|data| data.iter().copied()).collect()
    }

    pub(crate) fn mailboxes(&self) -> &[Mailbox] {
        &self.mailboxes
    }

    pub(crate) fn set_attached(&mut self, attached: bool) {
        self.attached = attached;
        self.courier.set_mailboxes(if attached { self.mailboxes.clone() } else { Vec::new() });
    }

    /// A fresh courier with the same key, as after a crash; of the old one is kept which messages it answered.
    pub(crate) fn restart(&mut self, now_ms: u64) {
        self.starts += 1;
        self.courier = make_courier(self.config, self.key, &self.mailboxes, self.starts);
        for (id, until_ms) in &self.answered {
            self.courier.remember_answered(now_ms, *id, *until_ms);
        }
        for (key, (head, pieces)) in &self.spools {
            let mut there = Pieces::none(head.total);
            for index in pieces.keys() {
                there.insert(*index);
            }
            let last = pieces.get(&head.total.saturating_sub(1)).and_then(|data| u16::try_from(data.len()).ok());
            self.courier.restore_spool(now_ms, *key, *head, there, last);
        }
        self.tick_at_us = None;
    }
}

fn make_courier(config: CourierConfig, key: [u8; 32], mailboxes: &[Mailbox], starts: u64) -> Courier<ChaCha20Rng> {
    let mut rng = ChaCha20Rng::from_seed(key);
    // Another stream after each start: a restarted process does not draw the same numbers again.
    rng.set_stream(starts + 1);
    let mut courier = Courier::new(config, SealingKey::from_bytes(key.into()), rng);
    courier.set_own_edges(mailboxes.iter().map(|mailbox| mailbox.edge).collect());
    courier
}
