//! Who brings packets: a node by its key, a client by its address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use betanet_mix::conduct::{self, Conduct};
use betanet_mix::fair::{Side, SourceId};
use betanet_mix::pace::Pace;
use betanet_mix::places::origin;
use betanet_sphinx::{NodeId, PacketError};
use tokio::sync::{Notify, watch};

use super::Arrivals;
use crate::sync::lock;

/// Parties that are remembered, with and without links. Far more than may have links at a time.
const REMEMBERED: usize = 8192;

/// The part of the places for packets that a client may hold before its links are read no further, as a divisor.
const SHARE: usize = 8;

/// Who.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Name {
    /// This node.
    Own,
    Node(NodeId),
    Address(IpAddr),
    /// A client on this machine, by its link key: all its users have one address.
    Local([u8; 32]),
}

/// A client that may not come yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShutOut;

/// One source of packets, by all links that it has.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) source: SourceId,
    name: Name,
    /// A client's; a node is known by its key, and pays in turns alone.
    account: Option<Account>,
    /// Zero of the account's time.
    zero: Instant,
}

#[derive(Debug)]
struct Account {
    conduct: Mutex<Conduct>,
    /// Of all clients.
    pace: Arc<Mutex<Pace>>,
    /// Its packets in the node, how many there may be before no more are read, and the news that half of those are gone.
    waiting: AtomicUsize,
    most_waiting: usize,
    room: Notify,
    /// Packets that were good since the last that was not.
    good: AtomicU64,
    /// Whether its links are to end.
    shut: watch::Sender<bool>,
}

/// What a packet holds as long as it is in the node.
#[derive(Debug)]
pub(crate) struct Held(Arc<Party>);

impl Deref for Held {
    type Target = Party;

    fn deref(&self) -> &Party {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(account) = &self.0.account
            && account.waiting.fetch_sub(1, Ordering::AcqRel) == account.most_waiting / 2 + 1
        {
            account.room.notify_waiters();
        }
    }
}

impl Party {
    /// One more of its packets is in the node.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        if let Some(account) = &self.account {
            account.waiting.fetch_add(1, Ordering::AcqRel);
        }
        Held(Arc::clone(self))
    }

    /// Resolves when so few of its packets are here that more may be read.
    pub(crate) async fn room(&self) {
        let Some(account) = &self.account else {
            return;
        };
        loop {
            let mut news = pin!(account.room.notified());
            // From here on it hears of it.
            news.as_mut().enable();
            if account.waiting.load(Ordering::Acquire) <= account.most_waiting {
                return;
            }
            news.await;
        }
    }

    /// One of its packets was good.
    pub(crate) fn praise(&self) {
        if let Some(account) = &self.account {
            account.good.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One of its packets was refused. Says how many turns that costs, and whether it was one too many.
    pub(crate) fn blame(&self, error: PacketError) -> (u32, bool) {
        let side = if self.account.is_some() { Side::Clients } else { Side::Nodes };
        if self.name == Name::Own || !conduct::is_charged(side, error) {
            return (0, false);
        }
        (conduct::TURNS, self.charge(1))
    }

    /// It broke the protocol of links. Says whether that was once too often.
    pub(crate) fn broke_link(&self) -> bool {
        self.charge(conduct::BROKEN_LINK)
    }

    fn charge(&self, garbage: u32) -> bool {
        let Some(account) = &self.account else {
            return false;
        };
        let good = account.good.swap(0, Ordering::Relaxed);
        let is_too_much = lock(&account.conduct).charge(self.zero.elapsed(), garbage, good);
        if is_too_much {
            account.shut.send_replace(true);
        }
        is_too_much
    }

    /// Takes note of packets and says how long to wait before more are read.
    pub(crate) fn spend(&self, packets: u32) -> Duration {
        self.account.as_ref().map_or(Duration::ZERO, |account| {
            let mut pace = lock(&account.pace);
            lock(&account.conduct).spend(self.zero.elapsed(), packets, &mut pace)
        })
    }

    /// Takes note of a frame that acknowledges so many items, and says how long to wait before more is read.
    pub(crate) fn acknowledge(&self, items: u32) -> Duration {
        self.wait(|conduct, now| conduct.acknowledge(now, items))
    }

    /// Takes note of a request and says how long to wait before it is answered.
    pub(crate) fn ask(&self) -> Duration {
        self.wait(Conduct::ask)
    }

    fn wait(&self, note: impl FnOnce(&mut Conduct, Duration) -> Duration) -> Duration {
        self.account.as_ref().map_or(Duration::ZERO, |account| note(&mut lock(&account.conduct), self.zero.elapsed()))
    }

    /// Resolves when its links are to end.
    pub(crate) async fn shut_out(&self) {
        match &self.account {
            // Its other half is here.
            Some(account) => drop(account.shut.subscribe().wait_for(|shut| *shut).await),
            None => std::future::pending().await,
        }
    }

    fn is_shut_out(&self) -> bool {
        self.account.as_ref().is_some_and(|account| lock(&account.conduct).is_shut_out(self.zero.elapsed()))
    }

    /// What would be forgotten with it; `None` if nothing.
    fn grudge(&self) -> Option<f64> {
        let conduct = lock(&self.account.as_ref()?.conduct);
        let now = self.zero.elapsed();
        (!conduct.is_clean(now)).then(|| conduct.garbage_at(now))
    }
}

/// All parties that have links, and those that are remembered for what they sent.
#[derive(Debug)]
pub(crate) struct Parties {
    arrivals: Arc<Arrivals<Held>>,
    known: Mutex<HashMap<Name, Known>>,
    pace: Arc<Mutex<Pace>>,
    zero: Instant,
}

#[derive(Debug)]
struct Known {
    party: Arc<Party>,
    links: usize,
}

impl Parties {
    /// Nobody yet; one client may send `most` packets a second.
    pub(crate) fn new(arrivals: Arc<Arrivals<Held>>, most: u32) -> Self {
        let pace = Arc::new(Mutex::new(Pace::new(most)));
        Self { arrivals, known: Mutex::default(), pace, zero: Instant::now() }
    }

    /// Takes note of packets that have left the node, and by how much they were late, all together.
    pub(crate) fn left(&self, packets: u32, late: Duration) {
        lock(&self.pace).left(self.zero.elapsed(), packets, late);
    }

    /// This node, as a source for itself.
    pub(crate) fn own(&self) -> Arc<Party> {
        self.come(Name::Own)
    }

    /// One more link of a node.
    pub(crate) fn node(&self, id: NodeId) -> Arc<Party> {
        self.come(Name::Node(id))
    }

    /// One more link of a client.
    pub(crate) fn client(&self, ip: IpAddr, key: [u8; 32]) -> Result<Arc<Party>, ShutOut> {
        let party = self.come(origin(ip).map_or(Name::Local(key), Name::Address));
        if party.is_shut_out() {
            self.go(&party);
            return Err(ShutOut);
        }
        if let Some(account) = &party.account {
            account.shut.send_if_modified(std::mem::take);
        }
        Ok(party)
    }

    /// Whether all clients at an address are shut out. Nobody on this machine is known by its address.
    pub(crate) fn is_shut_out(&self, ip: IpAddr) -> bool {
        let Some(address) = origin(ip) else {
            return false;
        };
        lock(&self.known).get(&Name::Address(address)).is_some_and(|known| known.party.is_shut_out())
    }

    /// A connection from an address, whose key is not known, broke the protocol.
    pub(crate) fn blame_address(&self, ip: IpAddr) -> bool {
        let Some(address) = origin(ip) else {
            return false;
        };
        let party = self.come(Name::Address(address));
        let is_too_much = party.broke_link();
        self.go(&party);
        is_too_much
    }

    fn newcomer(&self) -> Conduct {
        let now = self.zero.elapsed();
        Conduct::new(now, lock(&self.pace).ceiling(now))
    }

    fn come(&self, name: Name) -> Arc<Party> {
        let mut known = lock(&self.known);
        if !known.contains_key(&name) && known.len() >= REMEMBERED {
            self.forget(&mut known);
        }
        let known = known.entry(name).or_insert_with(|| {
            let is_client = matches!(name, Name::Address(_) | Name::Local(_));
            let account = is_client.then(|| Account {
                conduct: Mutex::new(self.newcomer()),
                pace: Arc::clone(&self.pace),
                waiting: AtomicUsize::new(0),
                most_waiting: (self.arrivals.depth() / SHARE).max(1),
                room: Notify::new(),
                good: AtomicU64::new(0),
                shut: watch::Sender::new(false),
            });
            let side = if is_client { Side::Clients } else { Side::Nodes };
            let party = Party { source: self.arrivals.join(side), name, account, zero: self.zero };
            Known { party: Arc::new(party), links: 0 }
        });
        known.links += 1;
        Arc::clone(&known.party)
    }

    /// One link less.
    pub(crate) fn go(&self, party: &Party) {
        let mut known = lock(&self.known);
        let Some(entry) = known.get_mut(&party.name) else {
            return;
        };
        entry.links = entry.links.saturating_sub(1);
        if entry.links == 0 && party.grudge().is_none() {
            self.arrivals.leave(party.source);
            known.remove(&party.name);
        }
    }

    /// Forgets those without links that have nothing against them, or the one with the least.
    fn forget(&self, known: &mut HashMap<Name, Known>) {
        let mut least: Option<(Name, f64)> = None;
        known.retain(|name, entry| {
            if entry.links > 0 {
                return true;
            }
            let Some(grudge) = entry.party.grudge() else {
                self.arrivals.leave(entry.party.source);
                return false;
            };
            if least.is_none_or(|(_, least)| grudge < least) {
                least = Some((*name, grudge));
            }
            true
        });
        if known.len() >= REMEMBERED
            && let Some(entry) = least.and_then(|(name, _)| known.remove(&name))
        {
            self.arrivals.leave(entry.party.source);
        }
    }
}

#[cfg(test)]
mod tests;
