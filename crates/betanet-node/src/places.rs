//! Who may have how many links.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use crate::sync::lock;

/// A bounded number of places, of which no single holder gets more than its share.
#[derive(Debug)]
pub(crate) struct Places<K: Eq + Hash> {
    total: usize,
    share: usize,
    taken: Arc<Mutex<Taken<K>>>,
}

#[derive(Debug)]
struct Taken<K> {
    total: usize,
    by: HashMap<K, usize>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash> {
    holder: Option<K>,
    taken: Arc<Mutex<Taken<K>>>,
}

impl<K: Eq + Hash + Copy> Places<K> {
    pub(crate) fn new(total: usize, share: usize) -> Self {
        Self { total, share, taken: Arc::new(Mutex::new(Taken { total: 0, by: HashMap::new() })) }
    }

    /// A place for `holder`; `None` if all are taken, or as many as one holder may have.
    /// Without a holder only the total counts.
    pub(crate) fn take(&self, holder: Option<K>) -> Option<Place<K>> {
        let mut taken = lock(&self.taken);
        if taken.total >= self.total {
            return None;
        }
        if let Some(holder) = holder {
            let held = taken.by.get(&holder).copied().unwrap_or(0);
            if held >= self.share {
                return None;
            }
            taken.by.insert(holder, held + 1);
        }
        taken.total += 1;
        Some(Place { holder, taken: Arc::clone(&self.taken) })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.total -= 1;
        if let Some(holder) = self.holder.take()
            && let Some(held) = taken.by.get_mut(&holder)
        {
            *held -= 1;
            if *held == 0 {
                taken.by.remove(&holder);
            }
        }
    }
}

/// Whose share of the places a link takes: its IPv4 address or its IPv6 /64, which is what one
/// customer gets. Behind loopback are all the users of this machine and a whole local net, so
/// nobody there is told apart.
pub(crate) fn origin(ip: IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    match ip {
        _ if ip.is_loopback() => None,
        IpAddr::V4(_) => Some(ip),
        IpAddr::V6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    /// INV-LINK-17
    #[test]
    fn one_address_gets_its_share_and_the_rest_is_for_others() {
        let places = Places::new(4, 2);
        let (one, other) = (origin("192.0.2.1".parse().unwrap()), origin("192.0.2.2".parse().unwrap()));
        let mut held: Vec<_> = (0..3).filter_map(|_| places.take(one)).collect();
        assert_eq!(2, held.len());
        held.push(places.take(other).unwrap());
        held.push(places.take(None).unwrap());
        assert!(places.take(other).is_none());
        held.clear();
        assert!(lock(&places.taken).by.is_empty());
        assert_eq!(4, (0..9).filter_map(|_| places.take(None)).collect::<Vec<_>>().len());
    }

    #[test]
    fn an_ipv6_customer_is_one_and_loopback_is_nobody() {
        let of = |text: &str| origin(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!([None; 3], [of("127.0.0.1"), of("::1"), of("::ffff:127.0.0.9")]);
    }
}
