//! Putting messages together from fragments that arrive in any order, more than once, or not at all.
//!
//! Every kept fragment also keeps its mailbox item's number, because the item stays at the edge until the message was
//! committed: a client that crashes gets all of it again. Therefore nothing is ever thrown away silently for lack of
//! room. What does not fit is *deferred*: it is forgotten here, stays at the edge, and comes again on request.
//!
//! When memory is short, one unfinished message is the *favourite*: its fragments push out those of others until it is
//! whole, so every round of redelivery finishes at least one message. A favourite that gets no new fragment for a while
//! (its sender may be gone, or hostile) gives up its place, and others have their turn first.
//!
//! Ids of finished messages are remembered for as long as their messages are taken, or, when there are too many, until their
//! senders have given up for certain, the oldest first. If that is not enough, new messages are deferred: an id is never
//! forgotten too early.
//!
//! An expiry is the sender's word by the sender's clock, and may be compared with a clock that is wrong here. So a message is
//! taken for a while beyond it, and what comes later still is *held back*: it stays at its edge, and is asked for when the
//! clock here says that it is in time after all. One whose expiry is too far ahead is taken, and not believed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use betanet_sphinx::NodeId;

use super::{FRAGMENT_DATA_LEN, Fragment, ItemRef, MAX_MESSAGE_LEN, MAX_REPLY_SURBS, MessageId};

/// Bookkeeping that a kept fragment costs besides its data.
const FRAGMENT_OVERHEAD: usize = 96;

/// What an unfinished message costs besides its fragments: a node of a map that has room for eleven of them, and its places
/// in those of all messages.
const PARTIAL_OVERHEAD: usize = 1024;

const FRAGMENT_COST: usize = FRAGMENT_DATA_LEN + FRAGMENT_OVERHEAD;
/// Stalled messages that are told apart.
const MAX_STALLED: usize = 1024;
/// Items that may lie at the edges because they seem to be too late. Further ones are deleted, so that they crowd nobody out.
const MAX_HELD_BACK: usize = 4096;

/// Bounds of a [`Reassembler`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReassemblyLimits {
    /// Longest stream of one message, SURBs included, in bytes.
    pub message_bytes: usize,
    /// Bytes of unfinished messages and of delivered ones that were not committed.
    pub total_bytes: usize,
    /// Most ids of finished messages that are remembered, those of uncommitted ones included.
    pub remembered_ids: usize,
    /// Unfinished messages may take this many items at one edge before idle ones have to go: three quarters of a mailbox.
    pub unfinished_items: usize,
    /// Furthest expiry that is believed, from now, in milliseconds: mailboxes keep nothing for longer.
    pub max_lifetime_ms: u64,
    /// How long after its expiry a message is taken, in milliseconds: more than two clocks can differ that both find a
    /// consensus in force.
    pub late_ms: u64,
    /// How long the favourite may go without a new fragment before others have their turn, in milliseconds; and how long
    /// any unfinished message is left alone that takes part in crowding its edge.
    pub idle_ms: u64,
    /// Shortest time between two requests for deferred items, in milliseconds.
    pub redeliver_ms: u64,
    /// After this long no fragment of a message is sent again, in milliseconds; see [`Reassembler::set_repeat`].
    pub repeat_ms: u64,
    /// How far clocks may be apart, in milliseconds.
    pub skew_ms: u64,
}

impl Default for ReassemblyLimits {
    fn default() -> Self {
        Self {
            message_bytes: MAX_MESSAGE_LEN + 1 + MAX_REPLY_SURBS * betanet_sphinx::SURB_LEN,
            total_bytes: 256 * 1024 * 1024,
            remembered_ids: 1 << 20,
            unfinished_items: 49_152,
            max_lifetime_ms: 7 * 24 * 3_600_000,
            late_ms: 45 * 60_000,
            idle_ms: 60_000,
            redeliver_ms: 2_000,
            // Sixteen sendings, at most 16 s apart, and a margin for the last one's way.
            repeat_ms: 16 * 16_000 + 30_000,
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
    /// No room now, or it seems to be too late: the item stays at the edge and has to be asked for again. The text is the
    /// reason for the counter.
    Deferred(&'static str),
    /// The message is whole. Its items stay until [`Reassembler::commit`].
    Complete(Vec<u8>),
}

/// Unfinished, delivered and remembered messages of one client.
#[derive(Debug)]
pub struct Reassembler {
    limits: ReassemblyLimits,
    /// In the order of their ids, so that all of one message stand together.
    partials: BTreeMap<PartialKey, Partial>,
    /// Expiry order of unfinished messages.
    partial_expiry: BTreeSet<(u64, PartialKey)>,
    delivered: HashMap<MessageId, Delivered>,
    remembered: HashSet<MessageId>,
    /// The remembered ids in the order they came, which is the order they are forgotten in.
    remembered_order: VecDeque<Remembered>,
    used: usize,
    /// The part of `used` that delivered messages take.
    used_delivered: usize,
    deferred: bool,
    redelivered_ms: Option<u64>,
    favourite: Option<PartialKey>,
    /// Messages that were the favourite and stalled.
    stalled: HashSet<PartialKey>,
    /// Items that seem to be too late, and before when they are not, Unix milliseconds.
    held_back: HashMap<ItemRef, u64>,
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
struct Remembered {
    id: MessageId,
    until_ms: u64,
    since_ms: u64,
}

#[derive(Debug)]
struct Delivered {
    /// Until when to remember it, by the wall clock.
    until_ms: u64,
    completed_ms: u64,
    bytes: usize,
    items: BTreeSet<ItemRef>,
}

impl Reassembler {
    /// An empty reassembler.
    #[must_use]
    pub fn new(limits: ReassemblyLimits) -> Self {
        Self {
            limits,
            partials: BTreeMap::new(),
            partial_expiry: BTreeSet::new(),
            delivered: HashMap::new(),
            remembered: HashSet::new(),
            remembered_order: VecDeque::new(),
            used: 0,
            used_delivered: 0,
            deferred: false,
            redelivered_ms: None,
            favourite: None,
            stalled: HashSet::new(),
            held_back: HashMap::new(),
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

    /// After this long no fragment of a message is sent again, in milliseconds.
    #[must_use]
    pub const fn repeat_ms(&self) -> u64 {
        self.limits.repeat_ms
    }

    /// Sets how long after its first sending a fragment may come again, in milliseconds; follows from the network's delays.
    pub fn set_repeat(&mut self, repeat_ms: u64) {
        self.limits.repeat_ms = repeat_ms;
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
        if self.remembered.contains(&id) {
            return Inserted::Useless("duplicate_message");
        }
        if let Some(delivered) = self.delivered.get(&id) {
            let same = delivered.items.contains(&item);
            return if same { Inserted::SameItem } else { Inserted::Useless("duplicate_message") };
        }
        // All fragments but the last are full, so this is the least that the stream will have.
        let (least, cost) = (
            usize::from(total).saturating_sub(1) * FRAGMENT_DATA_LEN,
            usize::from(total) * FRAGMENT_COST + PARTIAL_OVERHEAD,
        );
        if least >= self.limits.message_bytes || cost > self.limits.total_bytes {
            return Inserted::Useless("message_too_large");
        }
        let key = (id, context);
        let taken_before_ms = expiry_ms.saturating_add(self.limits.late_ms);
        if wall_ms >= taken_before_ms && !self.partials.contains_key(&key) {
            return self.hold_back(item, taken_before_ms);
        }
        self.held_back.remove(&item);
        if let Some(partial) = self.partials.get(&key) {
            if partial.total != total || partial.expiry_ms != expiry_ms {
                return Inserted::Useless("inconsistent_fragment");
            }
            if let Some((held, _)) = partial.fragments.get(&index) {
                return if *held == item { Inserted::SameItem } else { Inserted::Useless("duplicate_fragment") };
            }
        }
        if !self.has_room_for_ids(now_ms, 1) {
            self.deferred = true;
            return Inserted::Deferred("ids_full");
        }
        let begun = if self.partials.contains_key(&key) { 0 } else { PARTIAL_OVERHEAD };
        let cost = data.len() + FRAGMENT_OVERHEAD + begun;
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
        self.complete(now_ms, wall_ms, &key)
    }

    fn hold_back(&mut self, item: ItemRef, taken_before_ms: u64) -> Inserted {
        if self.held_back.len() >= MAX_HELD_BACK && !self.held_back.contains_key(&item) {
            return Inserted::Useless("expired");
        }
        self.held_back.insert(item, taken_before_ms);
        Inserted::Deferred("held_back")
    }

    /// Forgets what is held back at other edges than these: edges hand everything over again when they are back.
    pub fn keep_held_back(&mut self, edges: &[NodeId]) {
        self.held_back.retain(|item, _| edges.contains(&item.edge));
    }

    /// Says that the message was dealt with: gives its items for deletion and remembers its id until it expires.
    ///
    /// Repeatable: a message that was committed before gives no items. `None` for an id that was never delivered.
    pub fn commit(&mut self, id: MessageId) -> Option<Vec<ItemRef>> {
        let Some(delivered) = self.delivered.remove(&id) else {
            return self.remembered.contains(&id).then(Vec::new);
        };
        self.used = self.used.saturating_sub(delivered.bytes);
        self.used_delivered = self.used_delivered.saturating_sub(delivered.bytes);
        self.remember(delivered.completed_ms, id, delivered.until_ms);
        Some(delivered.items.into_iter().collect())
    }

    /// Until when the id of a message that was delivered and not committed yet has to be remembered, Unix milliseconds.
    #[must_use]
    pub fn uncommitted_until(&self, id: MessageId) -> Option<u64> {
        self.delivered.get(&id).map(|delivered| delivered.until_ms)
    }

    /// Remembers an id as dealt with since `since_ms`, for example from before a restart.
    pub fn remember(&mut self, since_ms: u64, id: MessageId, until_ms: u64) {
        if self.remembered.insert(id) {
            self.remembered_order.push_back(Remembered { id, until_ms, since_ms });
        }
    }

    /// The remembered ids, each with its end, in the order they came, for a driver that keeps them over a restart.
    #[must_use]
    pub fn remembered(&self) -> impl ExactSizeIterator<Item = (MessageId, u64)> + '_ {
        self.remembered_order.iter().map(|one| (one.id, one.until_ms))
    }

    /// Whether `count` more ids can be remembered, once those are forgotten whose senders have given up.
    pub fn has_room_for_ids(&mut self, now_ms: u64, count: usize) -> bool {
        let repeat_ms = self.limits.repeat_ms;
        while self.remembered.len() + self.delivered.len() + count > self.limits.remembered_ids {
            let Some(oldest) =
                self.remembered_order.pop_front_if(|one| one.since_ms.saturating_add(repeat_ms) <= now_ms)
            else {
                return false;
            };
            self.remembered.remove(&oldest.id);
        }
        true
    }

    /// Gives up unfinished messages that will not be finished, and gives their items for deletion. It looks at everything,
    /// so it is meant for now and then.
    ///
    /// Those are the messages that got no new fragment for so long that a sender who is still there would have sent the
    /// next one and repeated it to the end, while nothing kept the client from its edges, that is since `attached_ms`. Where unfinished messages crowd an edge's mailbox, the longest
    /// idle go earlier, but not those that got a fragment a moment ago.
    pub fn give_up(&mut self, now_ms: u64, attached_ms: u64) -> Vec<ItemRef> {
        let mut by_age: Vec<(u64, PartialKey)> =
            self.partials.iter().map(|(key, partial)| (partial.touched_ms.max(attached_ms), *key)).collect();
        by_age.sort_unstable();
        let mut held: HashMap<NodeId, usize> = HashMap::new();
        for (item, _) in self.partials.values().flat_map(|partial| partial.fragments.values()) {
            *held.entry(item.edge).or_default() += 1;
        }
        let mut given_up = Vec::new();
        for (touched_ms, key) in by_age {
            let idle_ms = now_ms.saturating_sub(touched_ms);
            let is_crowded =
                |item: &ItemRef| held.get(&item.edge).is_some_and(|held| *held > self.limits.unfinished_items);
            let gone = idle_ms >= self.limits.repeat_ms.saturating_mul(2)
                || (idle_ms >= self.limits.idle_ms
                    && self
                        .partials
                        .get(&key)
                        .is_some_and(|partial| partial.fragments.values().any(|(item, _)| is_crowded(item))));
            if !gone {
                continue;
            }
            for (item, _) in self.remove(&key).into_iter().flat_map(|partial| partial.fragments.into_values()) {
                if let Some(held) = held.get_mut(&item.edge) {
                    *held -= 1;
                }
                given_up.push(item);
            }
        }
        given_up
    }

    /// Drops what has expired. Gives the items of unfinished messages for deletion.
    ///
    /// Only what no sender repeats any more: a wall clock that was set forward ends nothing by itself.
    pub fn expire(&mut self, now_ms: u64, wall_ms: u64) -> Vec<ItemRef> {
        let ReassemblyLimits { late_ms, repeat_ms, .. } = self.limits;
        let rested = |since_ms: u64| since_ms.saturating_add(repeat_ms) <= now_ms;
        // In the order they came: an id that is kept for long keeps those behind it a while longer, which does no harm.
        while let Some(oldest) =
            self.remembered_order.pop_front_if(|one| one.until_ms <= wall_ms && rested(one.since_ms))
        {
            self.remembered.remove(&oldest.id);
        }
        let expired =
            self.partial_expiry.iter().take_while(|(expiry_ms, _)| expiry_ms.saturating_add(late_ms) <= wall_ms);
        let gone: Vec<PartialKey> = expired
            .map(|(_, key)| *key)
            .filter(|key| self.partials.get(key).is_none_or(|partial| rested(partial.touched_ms)))
            .collect();
        let removed = gone.iter().filter_map(|key| self.remove(key));
        removed.flat_map(|partial| partial.fragments.into_values().map(|(item, _)| item)).collect()
    }

    /// Whether deferred items should be asked for again now. Resets the mark.
    ///
    /// Not while messages that the application has yet to commit take more than half of the memory, nor while there is room
    /// for a few ids only.
    pub fn take_redeliver(&mut self, now_ms: u64, wall_ms: u64) -> bool {
        // So only after the clock was set back.
        if self.held_back.values().any(|taken_before_ms| wall_ms < *taken_before_ms) {
            self.deferred = true;
        }
        let rested = self.redelivered_ms.is_none_or(|last| now_ms >= last.saturating_add(self.limits.redeliver_ms));
        let ready = self.deferred
            && rested
            && self.used_delivered <= self.limits.total_bytes / 2
            && self.has_room_for_ids(now_ms, self.limits.remembered_ids.div_ceil(16));
        if ready {
            self.deferred = false;
            self.held_back.clear();
            self.redelivered_ms = Some(now_ms);
        }
        ready
    }

    fn complete(&mut self, now_ms: u64, wall_ms: u64, key: &PartialKey) -> Inserted {
        let Some(partial) = self.remove(key) else { return Inserted::Kept };
        let mut stream = Vec::with_capacity(partial.fragments.len() * FRAGMENT_DATA_LEN);
        let mut items = BTreeSet::new();
        for (item, data) in partial.fragments.into_values() {
            stream.extend_from_slice(&data);
            items.insert(item);
        }
        self.deliver(now_ms, wall_ms, key.0, partial.expiry_ms, stream.len(), items);
        Inserted::Complete(stream)
    }

    /// Takes a message that became whole elsewhere: from now on its id counts as delivered.
    pub fn finish(&mut self, now_ms: u64, wall_ms: u64, id: MessageId, expiry_ms: u64) {
        self.deliver(now_ms, wall_ms, id, expiry_ms, 0, BTreeSet::new());
    }

    /// Whether a message was delivered, and perhaps committed.
    #[must_use]
    pub fn is_finished(&self, id: MessageId) -> bool {
        self.delivered.contains_key(&id) || self.remembered.contains(&id)
    }

    fn deliver(
        &mut self,
        now_ms: u64,
        wall_ms: u64,
        id: MessageId,
        expiry_ms: u64,
        len: usize,
        mut items: BTreeSet<ItemRef>,
    ) {
        // Other sendings of the same message have nothing left to add; their items go with the commit.
        let others: Vec<PartialKey> =
            self.partials.range((id, [0; 32])..=(id, [0xff; 32])).map(|(other, _)| *other).collect();
        for other in others {
            if let Some(other) = self.remove(&other) {
                items.extend(other.fragments.into_values().map(|(item, _)| item));
            }
        }
        let bytes = len + items.len() * FRAGMENT_OVERHEAD;
        self.used += bytes;
        self.used_delivered += bytes;
        // An expiry further ahead is not believed: nothing of the message can come for longer than mailboxes keep it.
        let believed_ms = expiry_ms.min(wall_ms.saturating_add(self.limits.max_lifetime_ms));
        let until_ms = believed_ms.saturating_add(self.limits.late_ms);
        let delivered = Delivered { until_ms, completed_ms: now_ms, bytes, items };
        self.delivered.insert(id, delivered);
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
