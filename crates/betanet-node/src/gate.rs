//! Places for connections that have shown no key yet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use betanet_mix::directory::Consensuses;
use betanet_mix::places::origin;
use betanet_sphinx::NodeId;

use crate::allowances::SharedAllowances;
use crate::newcomers::Newcomers;
use crate::sync::lock;

/// Connections that one address may make in one go, as many as it may have links, and per second: each may ask for a
/// handshake, which is dear.
const CONNECTIONS: (f64, f64) = (512.0, 16.0);

/// Two lots of places: who comes from a node's address waits with his like. That needs a connection from there, so no
/// stranger elsewhere takes these places.
#[derive(Debug)]
pub(crate) struct Gate {
    newcomers: Newcomers,
    neighbours: Newcomers,
    /// Where nodes came from that have shown their keys, which may be another address than they announce.
    seen: Mutex<HashMap<NodeId, IpAddr>>,
    connections: SharedAllowances<IpAddr>,
}

impl Gate {
    /// A gate with `places` in each lot, of which one address has `share`.
    pub(crate) fn new(places: usize, share: usize) -> Self {
        let lot = || Newcomers::new(places, share);
        Self {
            newcomers: lot(),
            neighbours: lot(),
            seen: Mutex::default(),
            connections: SharedAllowances::new(CONNECTIONS),
        }
    }

    /// Whether a node that is listed takes links at this address, or one came from there.
    pub(crate) fn is_neighbour(&self, ip: IpAddr, consensuses: &Consensuses, now_ms: u64) -> bool {
        let from_there = |(id, seen): (&NodeId, &IpAddr)| *seen == ip && consensuses.lists(*id, now_ms);
        consensuses.lists_address(ip, now_ms) || lock(&self.seen).iter().any(from_there)
    }

    /// Whether a stranger's address may make one more connection. All the users of this machine have one address, so it
    /// is not counted.
    pub(crate) fn admits(&self, ip: IpAddr) -> bool {
        origin(ip).is_none_or(|address| self.connections.take(address))
    }

    /// The places for who is a neighbour, or for all others.
    pub(crate) const fn lot(&self, is_neighbour: bool) -> &Newcomers {
        if is_neighbour { &self.neighbours } else { &self.newcomers }
    }

    /// A node that is listed has come from `ip`.
    pub(crate) fn note(&self, id: NodeId, ip: IpAddr, consensuses: &Consensuses, now_ms: u64) {
        let mut seen = lock(&self.seen);
        seen.insert(id, ip);
        seen.retain(|id, _| consensuses.lists(*id, now_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// INV-LINK-78
    #[test]
    fn an_address_makes_no_more_connections_than_it_may_and_others_make_theirs() {
        let gate = Gate::new(8, 2);
        let made = |ip: [u8; 4]| (0..5000).filter(|_| gate.admits(ip.into())).count();
        assert!((512..600).contains(&made([192, 0, 2, 1])));
        assert!((512..600).contains(&made([192, 0, 2, 2])));
        assert_eq!(5000, made([127, 0, 0, 1]));
    }
}
