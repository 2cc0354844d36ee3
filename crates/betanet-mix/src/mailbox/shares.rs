//! Who holds how much of something bounded, and who gives some of it up for another.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// What holders have, by group and then by holder. Every group has an equal part of the whole, and every holder
/// an equal part of what its group has; what one leaves unused is everybody's.
#[derive(Debug)]
pub(super) struct Shares<G, H> {
    total: u64,
    holders: HashMap<H, (G, u64)>,
    groups: HashMap<G, Group<H>>,
    ranked: BTreeSet<(u64, G)>,
}

#[derive(Debug)]
struct Group<H> {
    total: u64,
    ranked: BTreeSet<(u64, H)>,
}

impl<G: Copy + Ord + Hash, H: Copy + Ord + Hash> Shares<G, H> {
    pub(super) fn new() -> Self {
        Self { total: 0, holders: HashMap::new(), groups: HashMap::new(), ranked: BTreeSet::new() }
    }

    /// What all hold together.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// What `holder` has.
    pub(super) fn held(&self, holder: H) -> u64 {
        self.holders.get(&holder).map_or(0, |(_, held)| *held)
    }

    /// `holder`, of `group` from now on, has `held` instead of what it had.
    pub(super) fn set(&mut self, group: G, holder: H, held: u64) {
        if let Some((former, had)) = self.holders.remove(&holder) {
            self.change(former, |group| {
                group.ranked.remove(&(had, holder));
                group.total -= had;
            });
            self.total -= had;
        }
        if held > 0 {
            self.holders.insert(holder, (group, held));
            self.change(group, |group| {
                group.ranked.insert((held, holder));
                group.total += held;
            });
            self.total += held;
        }
    }

    /// Takes up to `amount` from what `holder` has.
    pub(super) fn lower(&mut self, holder: H, amount: u64) {
        if let Some((group, held)) = self.holders.get(&holder).copied() {
            self.set(group, holder, held.saturating_sub(amount));
        }
    }

    /// The holder that gives something up, so that `holder` can have `amount` more where `missing` is not there:
    /// the one with most of the group with most, as long as that group keeps no less than the other then has;
    /// else the one with most in the own group by the same rule. `None` if `holder` has its part and more.
    ///
    /// Once somebody gave up some of `missing`, there is somebody who gives up the rest.
    pub(super) fn giver(&self, group: G, holder: H, amount: u64, missing: u64) -> Option<H> {
        let own = self.groups.get(&group);
        let others = self.ranked.iter().rev().find(|(_, other)| *other != group);
        if let Some((most, other)) = others
            && most.saturating_sub(missing) >= own.map_or(0, |own| own.total).saturating_add(amount)
        {
            return self.groups.get(other)?.ranked.last().map(|(_, holder)| *holder);
        }
        let (most, other) = own?.ranked.last()?;
        (most.saturating_sub(missing) >= self.held(holder).saturating_add(amount)).then_some(*other)
    }

    /// Deals `amount` out: to each group an equal part or what it has, and within a group to each holder.
    pub(super) fn deal(&self, amount: u64) -> Vec<(H, u64)> {
        let of_groups = parts(amount, &self.ranked);
        let of_holders = of_groups.flat_map(|(group, part)| {
            let ranked = self.groups.get(group).map(|group| parts(part, &group.ranked));
            ranked.into_iter().flatten()
        });
        of_holders.filter(|(_, part)| *part > 0).map(|(holder, part)| (*holder, part)).collect()
    }

    fn change(&mut self, group: G, change: impl FnOnce(&mut Group<H>)) {
        let one = self.groups.entry(group).or_insert_with(|| Group { total: 0, ranked: BTreeSet::new() });
        self.ranked.remove(&(one.total, group));
        change(one);
        if one.ranked.is_empty() {
            self.groups.remove(&group);
        } else {
            self.ranked.insert((one.total, group));
        }
    }
}

/// Parts of `amount` for those who have something, of which the first in order has least.
fn parts<T>(amount: u64, ranked: &BTreeSet<(u64, T)>) -> impl Iterator<Item = (&T, u64)> {
    let mut left = amount;
    let count = u64::try_from(ranked.len()).unwrap_or(u64::MAX);
    (0..count).rev().zip(ranked).map(move |(behind, (held, one))| {
        let part = left.div_ceil(behind + 1).min(*held);
        left -= part;
        (one, part)
    })
}
