//! What an edge's mailboxes hold, who makes way when they are full, and what has outlived its time.
//!
//! It decides and keeps count; the bytes are elsewhere. Room is shared out by origin, the address from which a
//! mailbox's owner came, and then by mailbox: whoever has less than an equal part is never refused, and what
//! has to go for it is taken from whoever has most. Times are milliseconds of a clock that only goes forward.

mod books;
mod order;
mod shares;
mod turns;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use betanet_sphinx::MailboxId;

pub use self::books::{Books, Losses, Transaction};
use self::order::Order;
use self::shares::Shares;
pub use self::turns::Turns;

/// Where a mailbox's owner came from: a prefix that one customer has. `None` for all of the own machine.
pub type Origin = Option<IpAddr>;

/// Bytes that an item takes beside its own.
const ITEM_OVERHEAD: u64 = 64;

/// The date of a mailbox whose owner is there is written anew when this part of a life has passed.
pub const RENEWALS_PER_LIFE: u64 = 168;

/// What mailboxes may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Mailboxes on this edge.
    pub mailboxes: usize,
    /// Bytes of one mailbox's items, with what it takes to keep them.
    pub bytes_each: u64,
    /// Bytes of the items of all mailboxes.
    pub bytes_total: u64,
    /// Items, and mailboxes that nobody attaches to, are dropped after this long.
    pub time_to_live: Duration,
}

impl Default for Limits {
    /// Room for 65,000 items or more in one mailbox and four times as many in all.
    fn default() -> Self {
        Self {
            mailboxes: 10_000,
            bytes_each: 136 << 20,
            bytes_total: 544 << 20,
            time_to_live: Duration::from_hours(7 * 24),
        }
    }
}

impl Limits {
    fn life_ms(&self) -> u64 {
        u64::try_from(self.time_to_live.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Why something is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nobody has attached to this mailbox.
    #[error("no such mailbox")]
    UnknownMailbox,
    /// The mailbox holds as much as one may.
    #[error("mailbox is full")]
    MailboxFull,
    /// The edge holds as much as it may, and this mailbox has its part of it.
    #[error("the edge is full and this mailbox has its part")]
    EdgeFull,
    /// The edge keeps as many mailboxes as it may, and this origin has its part of them.
    #[error("the edge has no room for another mailbox")]
    TooManyMailboxes,
    /// More waits for the disk than may, and this mailbox has its part of the places.
    #[error("the disk is too slow")]
    StoreBusy,
}

impl Refusal {
    /// Label of the drop metric.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::UnknownMailbox => "unknown_mailbox",
            Self::MailboxFull => "mailbox_full",
            Self::EdgeFull => "edge_full",
            Self::TooManyMailboxes => "too_many_mailboxes",
            Self::StoreBusy => "store_busy",
        }
    }
}

/// Whose mailbox it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Where it attached from last.
    pub origin: Origin,
    /// When it was last seen.
    pub attached_ms: u64,
    /// Something was stored here once, so somebody knows the address.
    pub used: bool,
}

/// What is known of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemRecord {
    /// When it was stored.
    pub stored_ms: u64,
    /// How long it is.
    pub len: u32,
    /// Its sender is told that it was stored.
    pub promised: bool,
}

impl ItemRecord {
    fn bytes(&self) -> u64 {
        u64::from(self.len) + ITEM_OVERHEAD
    }
}

/// What no longer is in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Where it was.
    pub mailbox: MailboxId,
    /// The items.
    pub seqs: Vec<u64>,
    /// Whether the mailbox is gone too.
    pub forgotten: bool,
}

/// What taking an item leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenItem {
    /// The item's number; higher than all before.
    pub seq: u64,
    /// It is the first that this mailbox ever held.
    pub is_first: bool,
    /// What made way for it.
    pub gone: Vec<Gone>,
}

#[derive(Debug)]
struct Mailbox {
    owner: Owner,
    /// Attachments.
    holds: usize,
    bytes: u64,
    items: BTreeMap<u64, ItemRecord>,
    /// Those of the items whose senders count on nothing.
    unpromised: BTreeSet<u64>,
}

impl Mailbox {
    const fn new(owner: Owner) -> Self {
        Self { owner, holds: 0, bytes: 0, items: BTreeMap::new(), unpromised: BTreeSet::new() }
    }

    fn add(&mut self, seq: u64, item: ItemRecord) {
        self.owner.used = true;
        self.bytes += item.bytes();
        self.items.insert(seq, item);
        if !item.promised {
            self.unpromised.insert(seq);
        }
    }

    fn remove(&mut self, seq: u64) -> bool {
        let Some(item) = self.items.remove(&seq) else {
            return false;
        };
        self.unpromised.remove(&seq);
        self.bytes -= item.bytes();
        true
    }

    /// The newest of those whose senders count on nothing, else the newest: a flood comes last, and gives way first.
    fn dispensable(&self) -> Option<u64> {
        self.unpromised.last().or_else(|| self.items.last_key_value().map(|(seq, _)| seq)).copied()
    }
}

/// The books of an edge's mailboxes.
#[derive(Debug)]
pub struct Index {
    limits: Limits,
    next_seq: u64,
    items: usize,
    mailboxes: HashMap<MailboxId, Mailbox>,
    bytes: Shares<Origin, MailboxId>,
    order: Order,
}

impl Index {
    /// No mailboxes; the first item gets the number `next_seq`.
    #[must_use]
    pub fn new(limits: Limits, next_seq: u64) -> Self {
        Self { limits, next_seq, items: 0, mailboxes: HashMap::new(), bytes: Shares::new(), order: Order::default() }
    }

    /// Puts a mailbox back that was kept.
    pub fn restore(&mut self, id: MailboxId, owner: Owner) {
        self.mailboxes.insert(id, Mailbox::new(owner));
        self.change(id, |_| {});
    }

    /// Puts an item back that was kept; `false` if its mailbox was not.
    pub fn restore_item(&mut self, id: MailboxId, seq: u64, item: ItemRecord) -> bool {
        self.next_seq = self.next_seq.max(seq.saturating_add(1));
        let known = self.change(id, |mailbox| mailbox.add(seq, item)).is_some();
        self.items += usize::from(known);
        known
    }

    /// Makes the mailbox or renews its life. Says which mailbox made way for it, if one had to.
    ///
    /// # Errors
    /// There is no room, and no origin has more mailboxes than this one.
    pub fn attach(&mut self, id: MailboxId, origin: Origin, now_ms: u64) -> Result<Option<Gone>, Refusal> {
        let mut gone = None;
        if !self.mailboxes.contains_key(&id) {
            if self.mailboxes.len() >= self.limits.mailboxes {
                let victim = self.order.dispensable(origin).ok_or(Refusal::TooManyMailboxes)?;
                gone = self.forget(victim);
            }
            self.mailboxes.insert(id, Mailbox::new(Owner { origin, attached_ms: now_ms, used: false }));
        }
        // Its bytes go over from the origin that it had.
        self.change(id, |mailbox| mailbox.owner = Owner { origin, attached_ms: now_ms, ..mailbox.owner });
        Ok(gone)
    }

    /// The owner is there. A mailbox neither expires nor makes way meanwhile.
    pub fn hold(&mut self, id: MailboxId) {
        self.change(id, |mailbox| mailbox.holds += 1);
    }

    /// The owner has gone, or one of its attachments.
    pub fn release(&mut self, id: MailboxId, now_ms: u64) {
        self.change(id, |mailbox| {
            mailbox.holds = mailbox.holds.saturating_sub(1);
            mailbox.owner.attached_ms = mailbox.owner.attached_ms.max(now_ms);
        });
    }

    /// Takes over who is there from the books of before.
    pub fn keep_holds(&mut self, former: &Self) {
        for (id, mailbox) in former.mailboxes.iter().filter(|(_, mailbox)| mailbox.holds > 0) {
            self.change(*id, |own| own.holds = mailbox.holds);
        }
    }

    /// Takes an item.
    ///
    /// # Errors
    /// A limit stands in the way, and nobody has more than this mailbox.
    pub fn put(&mut self, id: MailboxId, item: ItemRecord) -> Result<TakenItem, Refusal> {
        let mailbox = self.mailboxes.get(&id).ok_or(Refusal::UnknownMailbox)?;
        let (origin, is_first) = (mailbox.owner.origin, !mailbox.owner.used);
        let amount = item.bytes();
        if mailbox.bytes + amount > self.limits.bytes_each {
            return Err(Refusal::MailboxFull);
        }
        let mut gone = Vec::new();
        while let Some(missing) = (self.bytes.total() + amount).checked_sub(self.limits.bytes_total)
            && missing > 0
        {
            let giver = self.bytes.giver(origin, id, amount, missing).ok_or(Refusal::EdgeFull)?;
            let seq = self.mailboxes.get(&giver).and_then(Mailbox::dispensable).ok_or(Refusal::EdgeFull)?;
            gone.extend(self.remove(giver, [seq]));
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.items += 1;
        self.change(id, |mailbox| mailbox.add(seq, item));
        Ok(TakenItem { seq, is_first, gone })
    }

    /// Takes items out of a mailbox; those that were there come back.
    pub fn remove(&mut self, id: MailboxId, seqs: impl IntoIterator<Item = u64>) -> Option<Gone> {
        let take = |mailbox: &mut Mailbox| seqs.into_iter().filter(|seq| mailbox.remove(*seq)).collect();
        let seqs: Vec<u64> = self.change(id, take)?;
        self.items -= seqs.len();
        (!seqs.is_empty()).then_some(Gone { mailbox: id, seqs, forgotten: false })
    }

    /// Takes out what has outlived its time, about `most` items at once. The work is that of what goes.
    pub fn expire(&mut self, now_ms: u64, most: usize) -> Vec<Gone> {
        let mut gone = Vec::new();
        let Some(horizon) = now_ms.checked_sub(self.limits.life_ms()) else {
            return gone;
        };
        let mut count = 0;
        while count < most
            && let Some(id) = self.order.away_since(horizon)
        {
            let forgotten = self.forget(id);
            count += forgotten.as_ref().map_or(1, |gone| gone.seqs.len().max(1));
            gone.extend(forgotten);
        }
        while count < most
            && let Some(id) = self.order.holds_from(horizon)
        {
            // The order of numbers is that of age.
            let old = self.mailboxes.get(&id).into_iter().flat_map(|mailbox| &mailbox.items);
            let old = old.take_while(|(_, item)| item.stored_ms < horizon).take(most - count);
            let seqs: Vec<u64> = old.map(|(seq, _)| *seq).collect();
            let removed = self.remove(id, seqs);
            count += removed.as_ref().map_or(1, |gone| gone.seqs.len().max(1));
            gone.extend(removed);
        }
        gone
    }

    /// The mailboxes whose owners are there and whose date is to be written anew; they have it now.
    pub fn renew(&mut self, now_ms: u64) -> Vec<MailboxId> {
        let stale = now_ms.saturating_sub(self.limits.life_ms() / RENEWALS_PER_LIFE);
        let mut renewed = Vec::new();
        while let Some(id) = self.order.present_since(stale) {
            self.change(id, |mailbox| mailbox.owner.attached_ms = now_ms);
            renewed.push(id);
        }
        renewed
    }

    /// What is to be kept of a mailbox beside its items.
    #[must_use]
    pub fn owner(&self, id: MailboxId) -> Option<Owner> {
        self.mailboxes.get(&id).map(|mailbox| mailbox.owner)
    }

    /// Whether this item is there.
    #[must_use]
    pub fn holds(&self, id: MailboxId, seq: u64) -> bool {
        self.mailboxes.get(&id).is_some_and(|mailbox| mailbox.items.contains_key(&seq))
    }

    /// The number that the next item gets.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Mailboxes and items.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.mailboxes.len(), self.items)
    }

    fn forget(&mut self, id: MailboxId) -> Option<Gone> {
        let mailbox = self.mailboxes.remove(&id)?;
        self.order.remove(id, &mailbox);
        self.bytes.set(mailbox.owner.origin, id, 0);
        self.items -= mailbox.items.len();
        Some(Gone { mailbox: id, seqs: mailbox.items.into_keys().collect(), forgotten: true })
    }

    /// Changes a mailbox, and with it whatever is ordered by what it holds.
    fn change<R>(&mut self, id: MailboxId, change: impl FnOnce(&mut Mailbox) -> R) -> Option<R> {
        let mailbox = self.mailboxes.get_mut(&id)?;
        self.order.remove(id, mailbox);
        let changed = change(mailbox);
        self.order.insert(id, mailbox);
        self.bytes.set(mailbox.owner.origin, id, mailbox.bytes);
        Some(changed)
    }
}

#[cfg(test)]
mod tests;
