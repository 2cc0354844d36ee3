//! Putting messages together from fragments that arrive in any order, more than once, or not at all.
//!
//! Every kept fragment also keeps its mailbox item's number, because the item stays at the edge until the message was
//! committed: a client that crashes gets all of it again. Therefore nothing is ever thrown away silently for lack of
//! room. What does not fit is *deferred*: it is forgotten here, stays at the edge, and comes again on request.
//!
//! When memory is short, one unfinished message is the *favourite*: its fragments push out those of others until it is
//! whole, so every round of redelivery finishes at least one message. A favourite that gets no new fragment for a while
//! (its sender may be gone, or hostile) gives up its place, and others have their turn first.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{FRAGMENT_DATA_LEN, Fragment, ItemRef, MAX_MESSAGE_LEN, MAX_REPLY_SURBS, MessageId};

/// Bookkeeping that a kept fragment costs besides its data.
const FRAGMENT_OVERHEAD: usize = 96;

const FRAGMENT_COST: usize = FRAGMENT_DATA_LEN + FRAGMENT_OVERHEAD;
/// Stalled messages that are told apart.
const MAX_STALLED: usize = 1024;

/// Bounds of a [`Reassembler`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReassemblyLimits {
    /// Longest stream of one message, SURBs included, in bytes.
    pub message_bytes: usize,
    /// Bytes of unfinished messages and of delivered ones that were not committed.
    pub total_bytes: usize,
    /// Ids of finished messages remembered until they expire.
    pub remembered_ids: usize,
    /// Furthest expiry that is accepted, from now, in milliseconds.
    pub max_lifetime_ms: u64,
    /// How long the favourite may go without a new fragment before others have their turn, in milliseconds.
    pub idle_ms: u64,
    /// Shortest time between two requests for deferred items, in milliseconds.
    pub redeliver_ms: u64,
    /// How far clocks may be apart, in milliseconds.
    pub skew_ms: u64,
}

impl Default for ReassemblyLimits {
    fn default() -> Self {
        Self {
            message_bytes: MAX_MESSAGE_LEN + 1 + MAX_REPLY_SURBS * betanet_sphinx::SURB_LEN,
            total_bytes: 256 * 1024 * 1024,
            remembered_ids: 1 << 18,
            max_lifetime_ms: 7 * 24 * 3_600_000,
            idle_ms: 60_000,
            redeliver_ms: 2_000,
            skew_ms: 30_000,
        }
    }
}

/// What became of a fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// Kept; others are missing.
    Kept,
    /// The same mailbox item again, after a reconnect. Nothing to do.
    SameItem,
    /// Of no use: the item can be deleted. The text is the reason for the counter.
    Useless(&'static str),
    /// No room now: the item stays at the edge and has to be asked for again. The text is the reason for the counter.
    Deferred(&'static str),
    /// The message is whole. Its items stay until [`Reassembler::commit`].
    Complete(Vec<u8>),
}

/// Unfinished, delivered and remembered messages of one client.
#[derive(Debug)]
pub struct Reassembler {
    limits: ReassemblyLimits,
    partials: HashMap<PartialKey, Partial>,
    /// Expiry order of unfinished messages.
    partial_expiry: BTreeSet<(u64, PartialKey)>,
    delivered: HashMap<MessageId, Delivered>,
    remembered: HashMap<MessageId, u64>,
    remembered_expiry: BTreeSet<(u64, MessageId)>,
    used: usize,
    /// The part of `used` that delivered messages take.
    used_delivered: usize,
    deferred: bool,
    redelivered_ms: Option<u64>,
    favourite: Option<PartialKey>,
    /// Messages that were the favourite and stalled.
    stalled: HashSet<PartialKey>,
}

/// A message id and the context that its fragments are sealed under. A sender that restarts seals anew, and may have cut
/// the message differently, so fragments of different contexts never mix.
type PartialKey = (MessageId, [u8; 32]);

#[derive(Debug)]
struct Partial {
    total: u16,
    expiry_ms: u64,
    touched_ms: u64,
    bytes: usize,
    fragments: BTreeMap<u16, (ItemRef, Box<[u8]>)>,
}

#[derive(Debug)]
struct Delivered {
    expiry_ms: u64,
    bytes: usize,
    items: BTreeSet<ItemRef>,
}

impl Reassembler {
    /// An empty reassembler.
    #[must_use]
    pub fn new(limits: ReassemblyLimits) -> Self {
        Self {
            limits,
            partials: HashMap::new(),
            partial_expiry: BTreeSet::new(),
            delivered: HashMap::new(),
            remembered: HashMap::new(),
            remembered_expiry: BTreeSet::new(),
            used: 0,
            used_delivered: 0,
            deferred: false,
            redelivered_ms: None,
            favourite: None,
            stalled: HashSet::new(),
        }
    }

    /// Bytes that count against [`ReassemblyLimits::total_bytes`].
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.used
    }

    /// Unfinished messages.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.partials.len()
    }

    /// Delivered messages that wait for their commit.
    #[must_use]
    pub fn uncommitted(&self) -> usize {
        self.delivered.len()
    }

    /// Adds a fragment that arrived as mailbox item `item`, sealed under `context`.
    ///
    /// Expiries are compared with the wall clock; idle times are measured by `now_ms`, which never jumps.
    pub fn insert(
        &mut self,
        now_ms: u64,
        wall_ms: u64,
        item: ItemRef,
        context: [u8; 32],
        fragment: Fragment,
    ) -> Inserted {
        let Fragment { id, index, total, expiry_ms, data } = fragment;
        if self.remembered.contains_key(&id) {
            return Inserted::Useless("duplicate_message");
        }
        if let Some(delivered) = self.delivered.get(&id) {
            let same = delivered.items.contains(&item);
            return if same { Inserted::SameItem } else { Inserted::Useless("duplicate_message") };
        }
        if expiry_ms.saturating_add(self.limits.skew_ms) <= wall_ms {
            return Inserted::Useless("expired");
        }
        if expiry_ms > wall_ms.saturating_add(self.limits.max_lifetime_ms).saturating_add(self.limits.skew_ms) {
            return Inserted::Useless("expiry_too_far");
        }
        // All fragments but the last are full, so this is the least that the stream will have.
        let (least, cost) =
            (usize::from(total).saturating_sub(1) * FRAGMENT_DATA_LEN, usize::from(total) * FRAGMENT_COST);
        if least >= self.limits.message_bytes || cost > self.limits.total_bytes {
            return Inserted::Useless("message_too_large");
        }
        let key = (id, context);
        if let Some(partial) = self.partials.get(&key) {
            if partial.total != total || partial.expiry_ms != expiry_ms {
                return Inserted::Useless("inconsistent_fragment");
            }
            if let Some((held, _)) = partial.fragments.get(&index) {
                return if *held == item { Inserted::SameItem } else { Inserted::Useless("duplicate_fragment") };
            }
        }
        let cost = data.len() + FRAGMENT_OVERHEAD;
        if !self.make_room(now_ms, &key, cost) {
            self.deferred = true;
            return Inserted::Deferred("reassembly_full");
        }
        self.used += cost;
        let partial = self.partials.entry(key).or_insert_with(|| {
            self.partial_expiry.insert((expiry_ms, key));
            Partial { total, expiry_ms, touched_ms: now_ms, bytes: 0, fragments: BTreeMap::new() }
        });
        partial.touched_ms = now_ms;
        partial.bytes += cost;
        partial.fragments.insert(index, (item, data));
        if partial.fragments.len() < usize::from(total) {
            return Inserted::Kept;
        }
        self.complete(&key)
    }

    /// Says that the message was dealt with: gives its items for deletion and remembers its id until it expires.
    ///
    /// Repeatable: a message that was committed before gives no items. `None` for an id that was never delivered.
    pub fn commit(&mut self, id: MessageId) -> Option<Vec<ItemRef>> {
        let Some(delivered) = self.delivered.remove(&id) else {
            return self.remembered.contains_key(&id).then(Vec::new);
        };
        self.used = self.used.saturating_sub(delivered.bytes);
        self.used_delivered = self.used_delivered.saturating_sub(delivered.bytes);
        self.remember(id, delivered.expiry_ms);
        Some(delivered.items.into_iter().collect())
    }

    /// Remembers an id as dealt with, for example from before a restart.
    ///
    /// When the table is full, the id that would expire last is given up: whoever floods the table with far expiries
    /// pays for it first.
    pub fn remember(&mut self, id: MessageId, expiry_ms: u64) {
        if self.remembered.insert(id, expiry_ms).is_none() {
            self.remembered_expiry.insert((expiry_ms, id));
        }
        while self.remembered.len() > self.limits.remembered_ids {
            let Some((_, last)) = self.remembered_expiry.pop_last() else { break };
            self.remembered.remove(&last);
        }
    }

    /// The remembered ids and their expiries, for a driver that keeps them over a restart.
    pub fn remembered(&self) -> impl Iterator<Item = (MessageId, u64)> + '_ {
        self.remembered.iter().map(|(id, expiry)| (*id, *expiry))
    }

    /// Drops what has expired. Gives the items of unfinished messages for deletion.
    pub fn expire(&mut self, wall_ms: u64) -> Vec<ItemRef> {
        let expired = |expiry_ms: u64| expiry_ms.saturating_add(self.limits.skew_ms) <= wall_ms;
        while let Some((expiry_ms, id)) = self.remembered_expiry.first().copied() {
            if !expired(expiry_ms) {
                break;
            }
            self.remembered_expiry.pop_first();
            self.remembered.remove(&id);
        }
        let mut items = Vec::new();
        while let Some((expiry_ms, key)) = self.partial_expiry.first().copied() {
            if expiry_ms.saturating_add(self.limits.skew_ms) > wall_ms {
                break;
            }
            if let Some(partial) = self.remove(&key) {
                items.extend(partial.fragments.into_values().map(|(item, _)| item));
            } else {
                self.partial_expiry.pop_first();
            }
        }
        items
    }

    /// Whether deferred items should be asked for again now. Resets the mark.
    ///
    /// Not while messages that the application has yet to commit take more than half of the memory.
    pub fn take_redeliver(&mut self, now_ms: u64) -> bool {
        let rested = self.redelivered_ms.is_none_or(|last| now_ms >= last.saturating_add(self.limits.redeliver_ms));
        let ready = self.deferred && rested && self.used_delivered <= self.limits.total_bytes / 2;
        if ready {
            self.deferred = false;
            self.redelivered_ms = Some(now_ms);
        }
        ready
    }

    fn complete(&mut self, key: &PartialKey) -> Inserted {
        let Some(partial) = self.remove(key) else { return Inserted::Kept };
        let mut stream = Vec::with_capacity(partial.fragments.len() * FRAGMENT_DATA_LEN);
        let mut items = BTreeSet::new();
        for (item, data) in partial.fragments.into_values() {
            stream.extend_from_slice(&data);
            items.insert(item);
        }
        // Other sendings of the same message have nothing left to add; their items go with the commit.
        let others: Vec<PartialKey> = self.partials.keys().filter(|other| other.0 == key.0).copied().collect();
        for other in others {
            if let Some(other) = self.remove(&other) {
                items.extend(other.fragments.into_values().map(|(item, _)| item));
            }
        }
        let bytes = stream.len() + items.len() * FRAGMENT_OVERHEAD;
        self.used += bytes;
        self.used_delivered += bytes;
        self.delivered.insert(key.0, Delivered { expiry_ms: partial.expiry_ms, bytes, items });
        Inserted::Complete(stream)
    }

    /// Makes room for `cost` bytes. Only the favourite gets room at the expense of others.
    fn make_room(&mut self, now_ms: u64, wanted_by: &PartialKey, cost: usize) -> bool {
        if self.used + cost <= self.limits.total_bytes {
            return true;
        }
        self.choose_favourite(now_ms, wanted_by);
        while self.favourite == Some(*wanted_by) && self.used + cost > self.limits.total_bytes {
            let others = self.partials.iter().filter(|(key, _)| *key != wanted_by);
            let Some(furthest) = others.max_by_key(|(_, partial)| partial.missing()).map(|(key, _)| *key) else {
                break;
            };
            self.remove(&furthest);
            self.deferred = true;
        }
        self.used + cost <= self.limits.total_bytes
    }

    fn choose_favourite(&mut self, now_ms: u64, wanted_by: &PartialKey) {
        if let Some(key) = self.favourite {
            let touched_ms = self.partials.get(&key).map(|partial| partial.touched_ms);
            if touched_ms.is_some_and(|touched_ms| now_ms.saturating_sub(touched_ms) < self.limits.idle_ms) {
                return;
            }
            self.remove(&key);
            self.deferred = true;
            self.stalled.insert(key);
        }
        let nearest = |this: &Self| {
            let hopeful = this.partials.iter().filter(|(key, _)| !this.stalled.contains(*key));
            let nearest = hopeful.min_by_key(|(key, partial)| (partial.missing(), **key)).map(|(key, _)| *key);
            nearest.or_else(|| (!this.stalled.contains(wanted_by)).then_some(*wanted_by))
        };
        let mut chosen = nearest(self);
        if chosen.is_none() || self.stalled.len() > MAX_STALLED {
            // Everybody has had a turn.
            self.stalled.clear();
            chosen = nearest(self);
        }
        self.favourite = chosen;
    }

    fn remove(&mut self, key: &PartialKey) -> Option<Partial> {
        let partial = self.partials.remove(key)?;
        self.partial_expiry.remove(&(partial.expiry_ms, *key));
        self.used = self.used.saturating_sub(partial.bytes);
        if self.favourite == Some(*key) {
            self.favourite = None;
        }
        Some(partial)
    }
}

impl Partial {
    fn missing(&self) -> usize {
        usize::from(self.total).saturating_sub(self.fragments.len())
    }
}
