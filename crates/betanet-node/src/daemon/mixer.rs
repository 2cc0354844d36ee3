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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use betanet_mix::pool::{Buffer, Pool};
use betanet_sphinx::{MailboxId, NodeId, PACKET_LEN, SurbId};

use self::delay_line::DelayLine;
use self::unwrapper::Unwrapper;
use super::delays::Delays;
use super::epochs::Epochs;
use super::metrics::Metrics;

/// Where packets come out of the queue, for one thread at a time.
struct Arrivals {
    queue: Receiver<Arrival>,
    /// When the last packet came that a thread has taken.
    latest: Instant,
}

/// A packet as it came off a link.
#[derive(Debug)]
struct Arrival {
    packet: Buffer,
    /// When the socket was read; the owed delay counts from here.
    received: Instant,
}

impl AsMut<[u8]> for Arrival {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.packet
    }
}

/// A packet whose layer is off and whose tag is in the log.
#[derive(Debug)]
struct Processed {
    release_at: Instant,
    received: Instant,
    outcome: Released,
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
}

/// Where packets go in. Clones share one path.
#[derive(Clone, Debug)]
pub struct Ingress {
    queue: SyncSender<Arrival>,
    pool: Pool,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Ingress {
    /// Takes a packet, or drops and counts it when the queue is full. Never blocks.
    pub fn push(&self, packet: &[u8; PACKET_LEN], received: Instant) {
        // Counted before it can be taken, so that the count never goes below zero.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let Err(err) = self.queue.try_send(Arrival { packet: self.pool.take(packet), received }) else {
            return;
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.metrics.drop_one(match err {
            TrySendError::Full(_) => "ingress_full",
            TrySendError::Disconnected(_) => "stopping",
        });
    }
}

/// Starts the threads and the release task; `released` gets what has served its delay. They end when every
/// [`Ingress`] is gone.
///
/// # Errors
/// A thread cannot be started.
pub fn start<F>(
    config: MixerConfig,
    epochs: &Arc<Mutex<Epochs>>,
    delays: &Arc<Mutex<Delays>>,
    metrics: &Arc<Metrics>,
    released: F,
) -> io::Result<Ingress>
where
    F: FnMut(Released) + Send + 'static,
{
    let (queue, arrivals) = sync_channel(config.depth.max(1));
    let arrivals = Arc::new(Mutex::new(Arrivals { queue: arrivals, latest: Instant::now() }));
    let waiting = Arc::default();
    let pool = Pool::new(config.pool);
    let ingress = Ingress { queue, pool, waiting: Arc::clone(&waiting), metrics: Arc::clone(metrics) };
    let line = Arc::new(DelayLine::new(config.depth, Arc::clone(metrics)));
    for number in 0..config.workers.max(1) {
        let unwrapper = Unwrapper::new(
            Arc::clone(&arrivals),
            Arc::clone(&waiting),
            config.batch.max(1),
            Arc::clone(epochs),
            Arc::clone(delays),
            Arc::clone(&line),
            Arc::clone(metrics),
        );
        std::thread::Builder::new().name(format!("unwrap-{number}")).spawn(move || unwrapper.run())?;
    }
    tokio::spawn(line.serve(released));
    Ok(ingress)
}
