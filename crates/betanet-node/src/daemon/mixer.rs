//! The packet path: bounded queue, unwrap threads, log, delay, release.
//!
//! Unwrapping is arithmetic and runs on its own threads, never on those that serve sockets. A
//! thread takes what has arrived, unwraps it together, appends the new replay tags of the whole
//! group to the log, and only then puts the packets into the delay line. The delay counts from the
//! socket read, so all of this hides inside it.
//!
//! Buffers come from a pool and every list is used again: in steady state a packet that goes on to
//! another node costs no allocation.

mod delay_line;
mod unwrapper;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use betanet_mix::pool::{Buffer, Pool};
use betanet_sphinx::{MailboxId, NodeId, PACKET_LEN, SurbId};

use self::delay_line::DelayLine;
use self::unwrapper::Unwrapper;
use super::delays::Delays;
use super::looks::Looks;
use super::metrics::Metrics;
use super::packet_keys::PacketKeys;
use crate::pipeline::{self, Arrival, Arrivals, Held, Parties, Party};

/// A packet whose layer is off and whose tag is in the log.
#[derive(Debug)]
struct Processed {
    release_at: Instant,
    received: Instant,
    outcome: Released,
    /// Until it has left.
    _held: Held,
}

/// What leaves the delay line.
#[derive(Debug)]
pub enum Released {
    /// For another node.
    Forward {
        /// Which.
        next: NodeId,
        /// The packet to send.
        packet: Buffer,
    },
    /// For a mailbox of this edge.
    Deliver {
        /// Which.
        mailbox: MailboxId,
        /// The user payload.
        payload: Vec<u8>,
    },
    /// A SURB reply for a mailbox of this edge.
    Reply {
        /// Which.
        mailbox: MailboxId,
        /// The SURB that was used.
        surb_id: SurbId,
        /// δ, for the SURB's maker to open.
        delta: Vec<u8>,
    },
}

/// Sizes of the path.
#[derive(Clone, Copy, Debug)]
pub struct MixerConfig {
    /// Unwrap threads.
    pub workers: usize,
    /// Packets that one thread takes at once.
    pub batch: usize,
    /// Packet buffers that are kept for their next use.
    pub pool: usize,
    /// Packets that may wait to be unwrapped, and as many for their delay.
    pub depth: usize,
    /// Packets a second that one client may send.
    pub client_rate: u32,
}

/// Where packets go in. Clones share one path.
#[derive(Clone, Debug)]
pub struct Ingress(Arc<Door>);

#[derive(Debug)]
struct Door {
    arrivals: Arc<Arrivals<Held>>,
    parties: Parties,
    pool: Pool,
    looks: Arc<Looks>,
    metrics: Arc<Metrics>,
}

impl Ingress {
    /// This node as a source: its own acknowledgements.
    #[must_use]
    pub fn own(&self) -> Source {
        self.source(self.0.parties.own())
    }

    /// A link of a node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Source {
        self.source(self.0.parties.node(id))
    }

    /// A link of a client, by where it comes from and its link key; `None` if it has to wait, for it sent garbage.
    #[must_use]
    pub fn client(&self, ip: IpAddr, key: [u8; 32]) -> Option<Source> {
        let party = self.0.parties.client(ip, key);
        if party.is_err() {
            self.0.metrics.drop_one("shut_out");
        }
        party.ok().map(|party| self.source(party))
    }

    /// Whether clients at an address have to wait; then this one is counted.
    #[must_use]
    pub fn is_shut_out(&self, ip: IpAddr) -> bool {
        let is_shut_out = self.0.parties.is_shut_out(ip);
        if is_shut_out {
            self.0.metrics.drop_one("shut_out");
        }
        is_shut_out
    }

    /// A connection that broke the protocol before it was known whose it is.
    pub fn blame_address(&self, ip: IpAddr) {
        if self.0.parties.blame_address(ip) {
            self.0.metrics.drop_one("too_much_garbage");
        }
    }

    /// Takes note of packets that have left the node or are kept by it, and by how much they were late, all together.
    pub fn left(&self, packets: u32, late: Duration) {
        self.0.parties.left(packets, late);
    }

    /// Refreshes the gauges of the packets that are in the node.
    pub fn update_levels(&self) {
        let Door { arrivals, pool, metrics, .. } = &*self.0;
        metrics.ingress_depth.set(arrivals.waiting());
        metrics.pool_free.set(pool.free());
        metrics.pool_taken.set(pool.taken());
    }

    fn source(&self, party: Arc<Party>) -> Source {
        Source { ingress: self.clone(), party }
    }
}

/// A link as a source of packets. All links of one party share one place in the queue and one account.
#[derive(Debug)]
pub struct Source {
    ingress: Ingress,
    party: Arc<Party>,
}

impl Source {
    /// Takes packets that were received together, or drops and counts what finds no room. Never blocks.
    pub fn push<'a>(&self, packets: impl IntoIterator<Item = &'a [u8; PACKET_LEN]>, received: Instant) {
        let Door { arrivals, pool, looks, metrics, .. } = &*self.ingress.0;
        let packets =
            packets.into_iter().map(|packet| Arrival { packet: pool.take(packet), received, from: self.party.hold() });
        let most = packets.size_hint().1.unwrap_or(0);
        looks.note(most);
        // Without memory there is room for none.
        metrics.drop_many("ingress_full", arrivals.push(self.party.source, packets).unwrap_or(most));
    }

    /// Takes note of packets and says how long to wait before more are read.
    #[must_use]
    pub fn spend(&self, packets: usize) -> Duration {
        self.party.spend(u32::try_from(packets).unwrap_or(u32::MAX))
    }

    /// Resolves when there is room for more packets.
    pub async fn room(&self) {
        self.party.room().await;
    }

    /// Takes note of a frame that acknowledges items and says how long to wait before more is read.
    #[must_use]
    pub fn acknowledge(&self, items: usize) -> Duration {
        self.party.acknowledge(u32::try_from(items).unwrap_or(u32::MAX))
    }

    /// Takes note of a request and says how long to wait before it is answered.
    #[must_use]
    pub fn ask(&self) -> Duration {
        self.party.ask()
    }

    /// The link broke the protocol.
    pub fn broke_link(&self) {
        if self.party.broke_link() {
            self.ingress.0.metrics.drop_one("too_much_garbage");
        }
    }

    /// Resolves when the link is to end, for it brought too much garbage.
    pub async fn shut_out(&self) {
        self.party.shut_out().await;
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.ingress.0.parties.go(&self.party);
    }
}

/// The packet path of a node. Its way in is there before it starts, for whoever gets what comes out may send acknowledgements
/// through it. The threads and the release task end when this is dropped.
#[derive(Debug)]
pub struct Mixer {
    config: MixerConfig,
    ingress: Ingress,
}

impl Mixer {
    /// A path that takes packets and does not work on them yet; `looks` are those of the thread that brings them.
    #[must_use]
    pub fn new(config: MixerConfig, looks: Arc<Looks>, metrics: &Arc<Metrics>) -> Self {
        metrics.queue_capacity.set(config.depth);
        let arrivals = Arc::new(Arrivals::new(config.depth, config.workers));
        let ingress = Ingress(Arc::new(Door {
            parties: Parties::new(Arc::clone(&arrivals), config.client_rate),
            arrivals,
            pool: Pool::new(config.pool),
            looks,
            metrics: Arc::clone(metrics),
        }));
        Self { config, ingress }
    }

    /// The way in.
    #[must_use]
    pub const fn ingress(&self) -> &Ingress {
        &self.ingress
    }

    /// Starts the threads and the release task; `released` gets what has served its delay.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start<F>(&self, packet_keys: &Arc<PacketKeys>, delays: &Arc<Mutex<Delays>>, released: F) -> io::Result<()>
    where
        F: FnMut(Released) + Send + 'static,
    {
        let Door { arrivals, looks, metrics, .. } = &*self.ingress.0;
        let (workers, batch) = (self.config.workers.max(1), self.config.batch.max(1));
        let line = Arc::new(DelayLine::new(self.config.depth, Arc::clone(looks), Arc::clone(metrics)));
        pipeline::start(arrivals, workers, batch, || {
            Unwrapper::new(batch, Arc::clone(packet_keys), Arc::clone(delays), Arc::clone(&line), Arc::clone(metrics))
        })?;
        let ingress = self.ingress.clone();
        tokio::spawn(line.serve(released, move |packets, late| ingress.left(packets, late)));
        Ok(())
    }
}

impl Drop for Mixer {
    fn drop(&mut self) {
        self.ingress.0.arrivals.end();
    }
}

#[cfg(test)]
mod tests;
