//! The index of an edge's mailboxes together with what of it is not on disk yet.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use betanet_sphinx::MailboxId;

use super::shares::Shares;
use super::{Gone, Index, ItemRecord, Origin, Owner, Refusal};

/// What made way, for whoever counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Items that made way for others.
    pub evicted: usize,
    /// Mailboxes that made way for others.
    pub mailboxes: usize,
    /// Items that outlived their time.
    pub expired: usize,
    /// Items that waited for the disk and made way for others.
    pub unwritten: usize,
}

/// What one transaction writes. Removals come first.
#[derive(Debug)]
pub struct Transaction<T> {
    /// Items that go.
    pub removals: Vec<(MailboxId, u64)>,
    /// Items that come.
    pub puts: BTreeMap<(MailboxId, u64), T>,
    /// Mailboxes that are new or have changed; `None` for those that go.
    pub owners: BTreeMap<MailboxId, Option<Owner>>,
    /// Above the number of each item that ever was.
    pub next_seq: u64,
}

impl<T> Transaction<T> {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removals.is_empty() && self.puts.is_empty() && self.owners.is_empty()
    }
}

/// An index that knows what is not on disk yet. `T` is what an item is written from.
///
/// The places of what waits are shared out like the mailboxes' room. Acknowledgements have none: each item is
/// noted once, whatever a client sends.
#[derive(Debug)]
pub struct Books<T> {
    index: Index,
    /// Items that may wait.
    places: usize,
    puts: BTreeMap<(MailboxId, u64), T>,
    /// The places taken.
    waiting: Shares<Origin, MailboxId>,
    removals: Vec<(MailboxId, u64)>,
    owners: BTreeMap<MailboxId, Option<Owner>>,
    acknowledged: BTreeMap<MailboxId, BTreeSet<u64>>,
    /// The mailbox whose acknowledgements were taken last.
    served: Option<MailboxId>,
}

impl<T> Books<T> {
    /// Books over an index that is as the disk is; `places` items may wait.
    #[must_use]
    pub fn new(index: Index, places: usize) -> Self {
        Self {
            index,
            places,
            puts: BTreeMap::new(),
            waiting: Shares::new(),
            removals: Vec::new(),
            owners: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            served: None,
        }
    }

    /// Begins again with an index that is as the disk is. Who is there stays. Says how many items are lost that waited.
    pub fn begin_again(&mut self, mut index: Index) -> usize {
        index.keep_holds(&self.index);
        let lost = self.puts.len();
        *self = Self::new(index, self.places);
        lost
    }

    /// Takes an item of `len` bytes that is written from what `make` returns for its number.
    ///
    /// # Errors
    /// A limit stands in the way, and nobody has more than this mailbox.
    pub fn put(&mut self, id: MailboxId, item: ItemRecord, make: impl FnOnce(u64) -> T) -> Result<Losses, Refusal> {
        let owner = self.index.owner(id).ok_or(Refusal::UnknownMailbox)?;
        let mut losses = Losses::default();
        let giver = if self.puts.len() < self.places {
            None
        } else {
            Some(self.waiting.giver(owner.origin, id, 1, 1).ok_or(Refusal::StoreBusy)?)
        };
        let taken = self.index.put(id, item)?;
        for gone in taken.gone {
            losses.evicted += gone.seqs.len();
            self.drop_gone(gone);
        }
        // It may have had its place from what made way just now.
        if let Some(giver) = giver.filter(|_| self.puts.len() >= self.places)
            && let Some(((_, seq), _)) = self.puts.range((giver, 0)..=(giver, u64::MAX)).next_back()
        {
            let seq = *seq;
            losses.unwritten += 1;
            if let Some(gone) = self.index.remove(giver, [seq]) {
                self.drop_gone(gone);
            }
        }
        self.puts.insert((id, taken.seq), make(taken.seq));
        self.waiting.set(owner.origin, id, self.waiting.held(id) + 1);
        if taken.is_first {
            self.owners.insert(id, self.index.owner(id));
        }
        Ok(losses)
    }

    /// Notes that the owner has taken care of items. They go with one of the next groups.
    pub fn acknowledge(&mut self, id: MailboxId, seqs: impl IntoIterator<Item = u64>) {
        let index = &self.index;
        let mut known = seqs.into_iter().filter(|seq| index.holds(id, *seq)).peekable();
        if known.peek().is_some() {
            self.acknowledged.entry(id).or_default().extend(known);
        }
    }

    /// Makes the mailbox or renews its life, and holds it.
    ///
    /// # Errors
    /// There is no room, and no origin has more mailboxes than this one.
    pub fn attach(&mut self, id: MailboxId, origin: Origin, now_ms: u64) -> Result<Losses, Refusal> {
        let mut losses = Losses::default();
        if let Some(gone) = self.index.attach(id, origin, now_ms)? {
            losses.mailboxes += 1;
            losses.evicted += gone.seqs.len();
            self.drop_gone(gone);
        }
        self.waiting.set(origin, id, self.waiting.held(id));
        self.owners.insert(id, self.index.owner(id));
        self.index.hold(id);
        Ok(losses)
    }

    /// Ends what [`Books::attach`] began.
    pub fn release(&mut self, id: MailboxId, now_ms: u64) {
        self.index.release(id, now_ms);
    }

    /// Takes out what has outlived its time, about `most` items at once, and renews what is held.
    pub fn pass(&mut self, now_ms: u64, most: usize) -> Losses {
        let mut losses = Losses::default();
        for gone in self.index.expire(now_ms, most) {
            losses.expired += gone.seqs.len();
            self.drop_gone(gone);
        }
        for id in self.index.renew(now_ms) {
            self.owners.insert(id, self.index.owner(id));
        }
        losses
    }

    /// Whether something waits to be written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.puts.is_empty() && self.removals.is_empty() && self.owners.is_empty() && self.acknowledged.is_empty()
    }

    /// Whether somebody waits for what is to be written: whoever sent an item or attaches. At least `acks` items that
    /// owners have taken care of are worth a transaction, too.
    #[must_use]
    pub fn is_awaited(&self, acks: usize) -> bool {
        !self.puts.is_empty()
            || !self.owners.is_empty()
            || self.acknowledged.values().map(BTreeSet::len).sum::<usize>() >= acks
    }

    /// Takes about `puts` of the items that wait and `acks` of what is acknowledged, and all else. Neither the many
    /// items of one nor its many acknowledgements delay those of another: each origin has an equal part of a group, and
    /// within it each mailbox.
    pub fn take(&mut self, puts: usize, acks: usize) -> Transaction<T> {
        let share = acks.checked_div(self.acknowledged.len()).unwrap_or(acks).max(1);
        let mut left = acks;
        while left > 0
            && let Some(id) = self.next_served()
        {
            left = left.saturating_sub(self.take_acknowledged(id, share.min(left)));
        }
        Transaction {
            puts: self.take_puts(puts),
            removals: std::mem::take(&mut self.removals),
            owners: std::mem::take(&mut self.owners),
            next_seq: self.index.next_seq(),
        }
    }

    /// Mailboxes and items.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        self.index.held()
    }

    fn take_puts(&mut self, most: usize) -> BTreeMap<(MailboxId, u64), T> {
        if self.puts.len() <= most {
            self.waiting = Shares::new();
            return std::mem::take(&mut self.puts);
        }
        let mut taken = BTreeMap::new();
        for (id, part) in self.waiting.deal(u64::try_from(most).unwrap_or(u64::MAX)) {
            self.waiting.lower(id, part);
            for _ in 0..part {
                // The oldest first, for the numbers of a mailbox are to be on disk in their order.
                let Some(key) = self.puts.range((id, 0)..=(id, u64::MAX)).next().map(|(key, _)| *key) else {
                    break;
                };
                taken.extend(self.puts.remove_entry(&key));
            }
        }
        taken
    }

    /// The mailbox after the one that was served last, and after the last the first.
    fn next_served(&self) -> Option<MailboxId> {
        let after = self.served.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = self.acknowledged.range((after, Bound::Unbounded));
        behind.next().or_else(|| self.acknowledged.first_key_value()).map(|(id, _)| *id)
    }

    fn take_acknowledged(&mut self, id: MailboxId, count: usize) -> usize {
        self.served = Some(id);
        let Some(seqs) = self.acknowledged.get_mut(&id) else {
            return 0;
        };
        let taken: Vec<u64> = std::iter::from_fn(|| seqs.pop_first()).take(count).collect();
        if seqs.is_empty() {
            self.acknowledged.remove(&id);
        }
        let count = taken.len();
        if let Some(gone) = self.index.remove(id, taken) {
            self.drop_gone(gone);
        }
        count
    }

    /// Takes what is gone from the disk as well, or keeps it from getting there.
    fn drop_gone(&mut self, gone: Gone) {
        let id = gone.mailbox;
        for seq in gone.seqs {
            if self.puts.remove(&(id, seq)).is_some() {
                self.waiting.lower(id, 1);
            } else {
                self.removals.push((id, seq));
            }
        }
        if gone.forgotten {
            self.owners.insert(id, None);
            self.acknowledged.remove(&id);
        }
    }
}
