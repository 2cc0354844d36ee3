//! Who has how many of the places for links, and who gives way where there is none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

/// Whose share of the places a link takes: its IPv4 address or its IPv6 /64, which is what one
/// customer gets. Behind loopback are all the users of this machine and a whole local net, so
/// nobody there is told apart.
#[must_use]
pub fn origin(ip: IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    match ip {
        _ if ip.is_loopback() => None,
        IpAddr::V4(_) => Some(ip),
        IpAddr::V6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// A bounded number of places, of which no single holder gets more than its share. Who has one keeps it.
#[derive(Debug)]
pub struct KeptPlaces<K: Eq + Hash> {
    most: usize,
    share: usize,
    taken: usize,
    by: HashMap<K, usize>,
}

impl<K: Eq + Hash + Copy> KeptPlaces<K> {
    /// As many as `most`, of which one holder has `share`.
    #[must_use]
    pub fn new(most: usize, share: usize) -> Self {
        Self { most, share, taken: 0, by: HashMap::new() }
    }

    /// Takes a place for `holder`; `false` if all are taken, or as many as one holder may have.
    /// Without a holder only the total counts.
    pub fn take(&mut self, holder: Option<K>) -> bool {
        if self.taken >= self.most {
            return false;
        }
        if let Some(holder) = holder {
            let held = self.by.get(&holder).copied().unwrap_or(0);
            if held >= self.share {
                return false;
            }
            self.by.insert(holder, held + 1);
        }
        self.taken += 1;
        true
    }

    /// Gives back a place that was taken for `holder`.
    pub fn give_back(&mut self, holder: Option<K>) {
        self.taken -= 1;
        if let Some(holder) = holder
            && let Some(held) = self.by.get_mut(&holder)
        {
            *held -= 1;
            if *held == 0 {
                self.by.remove(&holder);
            }
        }
    }
}

/// A bounded number of places for connections that have shown nothing yet; whoever has waited longest gives way to who
/// comes.
#[derive(Debug)]
pub struct WaitingPlaces {
    most: usize,
    share: usize,
    next: u64,
    /// In the order in which they came.
    waiting: BTreeMap<u64, Option<IpAddr>>,
    by: HashMap<IpAddr, BTreeSet<u64>>,
    /// Told to go, and not gone yet.
    going: usize,
}

/// A place for one more, and whose connection is to go for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitingPlace {
    /// Its number, to give it back by.
    pub number: u64,
    /// The number of the place that is needed.
    pub instead_of: Option<u64>,
}

impl WaitingPlaces {
    /// Room for `most`, of which one origin has `share`.
    #[must_use]
    pub fn new(most: usize, share: usize) -> Self {
        let (waiting, by) = (BTreeMap::new(), HashMap::new());
        Self { most: most.max(1), share: share.max(1), next: 0, waiting, by, going: 0 }
    }

    /// A place for one more. Without an origin only the total counts.
    pub fn come(&mut self, origin: Option<IpAddr>) -> WaitingPlace {
        let of_origin = origin.and_then(|origin| self.by.get(&origin));
        let instead_of = match of_origin {
            Some(numbers) if numbers.len() >= self.share => numbers.first().copied(),
            _ if self.waiting.len() >= self.most => self.waiting.keys().next().copied(),
            _ => None,
        };
        if let Some(first) = instead_of {
            self.forget(first);
            self.going += 1;
        }
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, origin);
        if let Some(origin) = origin {
            self.by.entry(origin).or_default().insert(number);
        }
        WaitingPlace { number, instead_of }
    }

    /// Who had this place is gone. Says whether he had been told to go.
    pub fn leave(&mut self, number: u64) -> bool {
        let told = !self.forget(number);
        if told {
            self.going -= 1;
        }
        told
    }

    /// Whether whoever was told to go has gone.
    #[must_use]
    pub const fn are_settled(&self) -> bool {
        self.going == 0
    }

    fn forget(&mut self, number: u64) -> bool {
        let Some(origin) = self.waiting.remove(&number) else {
            return false;
        };
        if let Some(origin) = origin
            && let Some(numbers) = self.by.get_mut(&origin)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by.remove(&origin);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use std::net::Ipv4Addr;

    use super::*;

    const fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    }

    /// INV-LINK-17
    #[test]
    fn one_address_gets_its_share_and_the_rest_is_for_others() {
        let mut places = KeptPlaces::new(4, 2);
        let [one, other] = [1, 2].map(|last| Some(address(last)));
        let holders = [one, one, one, other, None, other];
        let taken: Vec<_> = holders.into_iter().filter(|holder| places.take(*holder)).collect();
        assert_eq!(taken, [one, one, other, None]);
        for holder in taken {
            places.give_back(holder);
        }
        assert!(places.by.is_empty());
        assert_eq!(4, (0..9).filter(|_| places.take(None)).count());
    }

    #[test]
    fn an_ipv6_customer_is_one_and_loopback_is_nobody() {
        let of = |text: &str| origin(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!([None; 3], [of("127.0.0.1"), of("::1"), of("::ffff:127.0.0.9")]);
    }

    /// INV-LINK-36
    #[test]
    fn whoever_has_waited_longest_gives_way() {
        let mut places = WaitingPlaces::new(3, 3);
        let come = |places: &mut WaitingPlaces| places.come(None);
        assert!((0..3).all(|_| come(&mut places).instead_of.is_none()));
        assert!(!places.leave(1), "by itself");
        assert_eq!(None, come(&mut places).instead_of, "there was a place");
        assert_eq!([Some(0), Some(2), Some(3)], [(); 3].map(|()| come(&mut places).instead_of));
        assert!(!places.are_settled());
        assert!([0, 2, 3].into_iter().all(|number| places.leave(number)));
        assert!(places.are_settled());
    }

    /// INV-LINK-17
    #[test]
    fn one_address_gives_way_to_itself_before_others_do() {
        let mut places = WaitingPlaces::new(5, 2);
        let instead: Vec<_> =
            [7, 1, 1, 1, 1, 2, 3, 4].into_iter().map(|last| places.come(Some(address(last))).instead_of).collect();
        assert_eq!(instead, [None, None, None, Some(1), Some(2), None, None, Some(0)]);
        assert!(!(3..8).any(|number| places.leave(number)));
        assert!(places.by.is_empty());
    }
}
