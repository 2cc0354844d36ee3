//! Mailboxes in the orders in which something is asked of them, so that nobody has to look at all.

use std::collections::{BTreeSet, HashMap};

use betanet_sphinx::MailboxId;

use super::{Mailbox, Origin};

/// How easily a mailbox whose owner is away makes way for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Nothing was ever stored in it: nobody knows its address.
    Unused,
    /// It holds nothing now.
    Empty,
    Filled,
}

impl Standing {
    fn of(mailbox: &Mailbox) -> Self {
        match mailbox {
            _ if !mailbox.owner.used => Self::Unused,
            _ if mailbox.items.is_empty() => Self::Empty,
            _ => Self::Filled,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Order {
    /// Mailboxes by the date of their owners, who are there or away.
    present: BTreeSet<(u64, MailboxId)>,
    away: BTreeSet<(u64, MailboxId)>,
    /// Those with items, by the date of the oldest.
    by_oldest: BTreeSet<(u64, MailboxId)>,
    origins: HashMap<Origin, OfOrigin>,
    /// Origins by how many mailboxes they have.
    by_count: BTreeSet<(usize, Origin)>,
}

#[derive(Debug, Default)]
struct OfOrigin {
    count: usize,
    /// Those whose owners are away; the first makes way first.
    idle: BTreeSet<(Standing, u64, MailboxId)>,
}

impl Order {
    pub(super) fn insert(&mut self, id: MailboxId, mailbox: &Mailbox) {
        let owner = &mailbox.owner;
        let origin = self.origins.entry(owner.origin).or_default();
        self.by_count.remove(&(origin.count, owner.origin));
        origin.count += 1;
        self.by_count.insert((origin.count, owner.origin));
        if mailbox.holds > 0 {
            self.present.insert((owner.attached_ms, id));
        } else {
            self.away.insert((owner.attached_ms, id));
            origin.idle.insert((Standing::of(mailbox), owner.attached_ms, id));
        }
        if let Some((_, oldest)) = mailbox.items.first_key_value() {
            self.by_oldest.insert((oldest.stored_ms, id));
        }
    }

    /// Takes out what was put in for `mailbox` as it is; nothing if nothing was.
    pub(super) fn remove(&mut self, id: MailboxId, mailbox: &Mailbox) {
        let owner = &mailbox.owner;
        let dated = (owner.attached_ms, id);
        let was_present = self.present.remove(&dated);
        if !was_present && !self.away.remove(&dated) {
            return;
        }
        if let Some((_, oldest)) = mailbox.items.first_key_value() {
            self.by_oldest.remove(&(oldest.stored_ms, id));
        }
        if let Some(origin) = self.origins.get_mut(&owner.origin) {
            origin.idle.remove(&(Standing::of(mailbox), owner.attached_ms, id));
            self.by_count.remove(&(origin.count, owner.origin));
            origin.count -= 1;
            if origin.count == 0 {
                self.origins.remove(&owner.origin);
            } else {
                self.by_count.insert((origin.count, owner.origin));
            }
        }
    }

    /// The mailbox that makes way for a new one of `origin`: of the origin with most mailboxes, if it then still has
    /// no fewer than the other; else an unused one of the own origin. None does whose owner is there.
    pub(super) fn dispensable(&self, origin: Origin) -> Option<MailboxId> {
        let own = self.origins.get(&origin);
        let count = own.map_or(0, |own| own.count);
        let mut larger = self.by_count.iter().rev().take_while(|(other, _)| *other > count + 1);
        let of_others = larger.find_map(|(_, other)| self.origins.get(other)?.idle.first());
        let unused = || own?.idle.first().filter(|(standing, ..)| *standing == Standing::Unused);
        of_others.or_else(unused).map(|(_, _, id)| *id)
    }

    /// A mailbox whose owner is away since before `horizon`.
    pub(super) fn away_since(&self, horizon: u64) -> Option<MailboxId> {
        before(&self.away, horizon)
    }

    /// A mailbox whose owner is there, with a date from before `horizon`.
    pub(super) fn present_since(&self, horizon: u64) -> Option<MailboxId> {
        before(&self.present, horizon)
    }

    /// A mailbox with items from before `horizon`.
    pub(super) fn holds_from(&self, horizon: u64) -> Option<MailboxId> {
        before(&self.by_oldest, horizon)
    }
}

fn before(dated: &BTreeSet<(u64, MailboxId)>, horizon: u64) -> Option<MailboxId> {
    dated.first().filter(|(date, _)| *date < horizon).map(|(_, id)| *id)
}
