//! How much of something a party may ask for, and how fast. Time is counted from any moment, the same for all calls.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use betanet_sphinx::NodeId;

use crate::view::Prefix;

/// Parties whose allowances are remembered. One that has refilled is as good as forgotten.
const REMEMBERED: usize = 4096;

/// So much in one go, and so much per second.
#[derive(Clone, Debug)]
pub struct Allowance {
    most: f64,
    rate: f64,
    left: f64,
    /// When `left` was what it is.
    refilled: Duration,
}

impl Allowance {
    /// A full one: the most in one go, and what is added per second.
    #[must_use]
    pub const fn new((most, rate): (f64, f64), now: Duration) -> Self {
        Self { most, rate, left: most, refilled: now }
    }

    /// Takes one from what is left; `false` if nothing is.
    pub fn take(&mut self, now: Duration) -> bool {
        let left = self.at(now);
        if left < 1.0 {
            return false;
        }
        self.set(now, left - 1.0);
        true
    }

    /// Takes more than is left as well, and says how long it takes until that is made up for.
    pub fn spend(&mut self, now: Duration, amount: u32) -> Duration {
        self.set(now, self.at(now) - f64::from(amount));
        Duration::try_from_secs_f64(-self.left / self.rate).unwrap_or_default()
    }

    /// Has other terms from now on.
    pub fn change(&mut self, now: Duration, (most, rate): (f64, f64)) {
        self.set(now, self.at(now).min(most));
        (self.most, self.rate) = (most, rate);
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_full(&self, now: Duration) -> bool {
        self.at(now) >= self.most
    }

    fn at(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.refilled).as_secs_f64();
        (self.left + passed * self.rate).min(self.most)
    }

    fn set(&mut self, now: Duration, left: f64) {
        self.left = left;
        self.refilled = self.refilled.max(now);
    }
}

/// Who asks: an address, or the link key where all have one address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Asker {
    /// All links from an address.
    Address(IpAddr),
    /// All links under a key, on this machine.
    Key([u8; 32]),
}

impl Asker {
    /// Of a link from `origin` ([`crate::places::origin`]) under `key`.
    #[must_use]
    pub fn of(origin: Option<IpAddr>, key: [u8; 32]) -> Self {
        origin.map_or(Self::Key(key), Self::Address)
    }
}

/// A party that may have neighbours.
pub trait HasPrefix: Eq + Hash + Copy {
    /// Of its address; all parties without one count as neighbours.
    fn prefix(&self) -> Option<Prefix>;
}

impl HasPrefix for IpAddr {
    fn prefix(&self) -> Option<Prefix> {
        Some(Prefix::of(*self))
    }
}

impl HasPrefix for Asker {
    fn prefix(&self) -> Option<Prefix> {
        match self {
            Self::Address(ip) => ip.prefix(),
            Self::Key(_) => None,
        }
    }
}

/// Nodes are few enough to be remembered all.
impl HasPrefix for NodeId {
    fn prefix(&self) -> Option<Prefix> {
        None
    }
}

/// An allowance for each party, by all links that it has.
///
/// What is remembered is bounded, and whoever has a great many addresses could use it up. So the prefix with the most
/// parties makes room for those of others that have fewer.
#[derive(Debug)]
pub struct Allowances<K> {
    each: (f64, f64),
    remembered: usize,
    left: HashMap<K, Allowance>,
}

impl<K: HasPrefix> Allowances<K> {
    /// For each the most in one go, and what is added per second.
    #[must_use]
    pub fn new(each: (f64, f64)) -> Self {
        Self { each, remembered: REMEMBERED, left: HashMap::new() }
    }

    /// Takes one of what `who` has left; `false` if nothing is, or if too many of its prefix have used theirs.
    pub fn take(&mut self, who: K, now: Duration) -> bool {
        if !self.left.contains_key(&who) && !self.make_room(who.prefix(), now) {
            return false;
        }
        self.left.entry(who).or_insert_with(|| Allowance::new(self.each, now)).take(now)
    }

    fn make_room(&mut self, prefix: Option<Prefix>, now: Duration) -> bool {
        if self.left.len() < self.remembered {
            return true;
        }
        self.left.retain(|_, allowance| !allowance.is_full(now));
        if self.left.len() < self.remembered {
            return true;
        }
        let mut by_prefix = BTreeMap::<_, usize>::new();
        for who in self.left.keys() {
            *by_prefix.entry(who.prefix()).or_default() += 1;
        }
        let Some((heaviest, most)) = by_prefix.iter().max_by_key(|(_, parties)| **parties) else { return false };
        // Only who has fewer also with one more: else prefixes push each other out by turns, and whoever is forgotten
        // comes back with a full allowance.
        if by_prefix.get(&prefix).map_or(0, |parties| *parties) + 1 >= *most {
            return false;
        }
        let of_heaviest = self.left.iter().filter(|(who, _)| who.prefix() == *heaviest);
        let fullest = of_heaviest.max_by(|one, other| one.1.at(now).total_cmp(&other.1.at(now))).map(|(who, _)| *who);
        if let Some(fullest) = fullest {
            self.left.remove(&fullest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_hours(1);

    #[test]
    fn an_allowance_refills_at_its_rate_and_to_no_more_than_it_was() {
        let mut allowance = Allowance::new((3.0, 2.0), NOW);
        let taken = |allowance: &mut Allowance, now| (0..9).filter(|_| allowance.take(now)).count();
        assert_eq!(3, taken(&mut allowance, NOW));
        assert_eq!(2, taken(&mut allowance, NOW + Duration::from_secs(1)));
        assert!(!allowance.is_full(NOW + Duration::from_secs(2)));
        assert!(allowance.is_full(NOW + Duration::from_secs(3)));
        assert_eq!(3, taken(&mut allowance, NOW + Duration::from_hours(1)));
        // A time of before gives nothing, and takes nothing away.
        assert_eq!(0, taken(&mut allowance, NOW));
        assert_eq!(2, taken(&mut allowance, NOW + Duration::from_hours(1) + Duration::from_secs(1)));
    }

    /// INV-LINK-62
    #[test]
    fn who_comes_over_many_links_has_one_allowance() {
        let mut allowances = Allowances::new((3.0, 1.0));
        let asker = |last, key| Asker::of(Some(IpAddr::from([192, 0, 2, last])), [key; 32]);
        assert_eq!(3, (0..9).filter(|key| allowances.take(asker(1, *key), NOW)).count());
        assert!(allowances.take(asker(2, 1), NOW));
        // On this machine all have one address.
        let local = |key| Asker::of(None, [key; 32]);
        assert_eq!(9, (0..9).filter(|key| allowances.take(local(*key), NOW)).count());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nobody_gets_a_new_allowance_by_being_forgotten() {
        let mut allowances = Allowances { remembered: 5, ..Allowances::new((2.0, 1.0)) };
        let mut taken = |who: std::ops::Range<u8>, now| {
            who.filter(|who| allowances.take(IpAddr::from([192, 0, 2, *who]), now)).count()
        };
        assert_eq!([5, 5, 0], [(); 3].map(|()| taken(0..40, NOW)));
        assert_eq!(5, taken(40..80, NOW + Duration::from_secs(2)), "those that have refilled make room");
        assert_eq!(5, allowances.left.len());
    }

    /// INV-LINK-91
    #[test]
    fn one_prefix_with_very_many_addresses_takes_nobody_elses_allowance() {
        let mut allowances = Allowances { remembered: 12, ..Allowances::new((2.0, 1.0)) };
        let mut take = |text: String| allowances.take(text.parse::<IpAddr>().unwrap(), NOW);
        let flood = (0..40).flat_map(|net| [net; 3]).filter(|net| take(format!("2001:db8:0:{net:x}::1"))).count();
        assert_eq!(24, flood);
        for other in ["2001:dba::1", "192.0.2.1", "198.51.100.1"].map(str::to_owned) {
            assert_eq!([true, true, false], [(); 3].map(|()| take(other.clone())), "{other}");
        }
        // Those who come in for others do not push each other out and in again: all have about as much then.
        let by_turns = (0..600).filter(|n| take(format!("2001:db{:x}:{:x}::1", n % 3, n))).count();
        assert_eq!(6, by_turns);
    }
}
