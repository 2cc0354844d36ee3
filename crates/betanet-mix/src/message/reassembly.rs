//! Putting messages together from fragments that arrive in any order, more than once, or not at all.
//!
//! Every kept fragment also keeps its mailbox item's number, because the item stays at the edge until the message was
//! committed: a client that crashes gets all of it again. Therefore nothing is ever thrown away silently for lack of
//! room. What does not fit is *deferred*: it is forgotten here, stays at the edge, and comes again on request.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{FRAGMENT_DATA_LEN, Fragment, ItemRef, MAX_MESSAGE_LEN, MAX_REPLY_SURBS, MessageId};

/// Bookkeeping that a kept fragment costs besides its data.
const FRAGMENT_OVERHEAD: usize = 96;

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
    /// How long an unfinished message may go without a new fragment before it has to make room for others, in milliseconds.
    pub idle_ms: u64,
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
    deferred: bool,
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
            deferred: false,
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
    pub fn insert(&mut self, now_ms: u64, item: ItemRef, context: [u8; 32], fragment: Fragment) -> Inserted {
        let Fragment { id, index, total, expiry_ms, data } = fragment;
        if self.remembered.contains_key(&id) {
            return Inserted::Useless("duplicate_message");
        }
        if let Some(delivered) = self.delivered.get(&id) {
            let same = delivered.items.contains(&item);
            return if same { Inserted::SameItem } else { Inserted::Useless("duplicate_message") };
        }
        if expiry_ms.saturating_add(self.limits.skew_ms) <= now_ms {
            return Inserted::Useless("expired");
        }
        if expiry_ms > now_ms.saturating_add(self.limits.max_lifetime_ms).saturating_add(self.limits.skew_ms) {
            return Inserted::Useless("expiry_too_far");
        }
        // All fragments but the last are full, so this is the least that the stream will have.
        if (usize::from(total) - 1) * FRAGMENT_DATA_LEN >= self.limits.message_bytes {
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
    pub fn expire(&mut self, now_ms: u64) -> Vec<ItemRef> {
        let expired = |expiry_ms: u64| expiry_ms.saturating_add(self.limits.skew_ms) <= now_ms;
        while let Some((expiry_ms, id)) = self.remembered_expiry.first().copied() {
            if !expired(expiry_ms) {
                break;
            }
            self.remembered_expiry.pop_first();
            self.remembered.remove(&id);
        }
        let mut items = Vec::new();
        while let Some((expiry_ms, key)) = self.partial_expiry.first().copied() {
            if expiry_ms.saturating_add(self.limits.skew_ms) > now_ms {
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

    /// Whether deferred items should be asked for again: some were, and half of the memory is free. Resets the mark.
    pub fn take_redeliver(&mut self) -> bool {
        let ready = self.deferred && self.used <= self.limits.total_bytes / 2;
        if ready {
            self.deferred = false;
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
        self.delivered.insert(key.0, Delivered { expiry_ms: partial.expiry_ms, bytes, items });
        Inserted::Complete(stream)
    }

    /// Makes room for `cost` bytes, at the expense of unfinished messages that have been idle for long.
    fn make_room(&mut self, now_ms: u64, wanted_by: &PartialKey, cost: usize) -> bool {
        while self.used + cost > self.limits.total_bytes {
            let idlest =
                self.partials.iter().filter(|(key, _)| *key != wanted_by).min_by_key(|(_, partial)| partial.touched_ms);
            let Some((key, partial)) = idlest else { return false };
            if now_ms.saturating_sub(partial.touched_ms) < self.limits.idle_ms {
                return false;
            }
            let key = *key;
            self.remove(&key);
            self.deferred = true;
        }
        true
    }

    fn remove(&mut self, key: &PartialKey) -> Option<Partial> {
        let partial = self.partials.remove(key)?;
        self.partial_expiry.remove(&(partial.expiry_ms, *key));
        self.used = self.used.saturating_sub(partial.bytes);
        Some(partial)
    }
}
