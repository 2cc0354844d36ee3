//! The packet path: bounded queue, unwrap threads, log, delay, release.
//!
//! Unwrapping is arithmetic and runs on its own threads, never on those that serve sockets. A
//! thread takes what has arrived, unwraps it, appends the new replay tags of the whole group to
//! the log, and only then hands the packets on. The delay counts from the socket read, so all of
//! this hides inside it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use betanet_mix::delay::{DelayQueue, VrfDelays};
use betanet_mix::epoch::Epoch;
use betanet_sphinx::{
    Action, MailboxId, NodeId, PacketError, ReplayFilter, ReplayTag, SecretKey, SurbId, parity_of, unwrap,
};
use tokio::sync::mpsc;

use super::delays::Delays;
use super::epochs::Epochs;
use super::metrics::Metrics;

/// A packet as it came off a link.
#[derive(Debug)]
pub struct Arrival {
    /// The bytes.
    pub packet: Vec<u8>,
    /// When the socket was read; the owed delay counts from here.
    pub received: Instant,
}

/// A packet whose layer is off and whose tag is in the log.
#[derive(Debug)]
struct Processed {
    release_at: Instant,
    received: Instant,
    outcome: Released,
}

/// What leaves the delay queue.
#[derive(Debug)]
pub enum Released {
    /// For another node.
    Forward {
        /// Which.
        next: NodeId,
        /// The packet to send.
        packet: Vec<u8>,
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
    /// Packets that may wait to be unwrapped, and as many for their delay.
    pub depth: usize,
}

/// Where packets go in. Clones share one path.
#[derive(Clone, Debug)]
pub struct Ingress {
    queue: SyncSender<Arrival>,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Ingress {
    /// Takes a packet, or drops and counts it when the queue is full. Never blocks.
    pub fn push(&self, packet: Vec<u8>, received: Instant) {
        // Counted before it can be taken, so that the count never goes below zero.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let Err(err) = self.queue.try_send(Arrival { packet, received }) else {
            return;
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.metrics.drop_one(match err {
            TrySendError::Full(_) => "ingress_full",
            TrySendError::Disconnected(_) => "stopping",
        });
    }
}

/// The running path. Its threads end when every [`Ingress`] is gone.
#[derive(Debug)]
pub struct Mixer {
    threads: Vec<JoinHandle<()>>,
}

impl Mixer {
    /// Starts the threads and the release task; `released` gets what has served its delay.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start<F>(
        config: MixerConfig,
        epochs: &Arc<Mutex<Epochs>>,
        delays: &Arc<Mutex<Delays>>,
        metrics: &Arc<Metrics>,
        mut released: F,
    ) -> io::Result<(Self, Ingress)>
    where
        F: FnMut(Released) + Send + 'static,
    {
        let (queue, arrivals) = sync_channel(config.depth.max(1));
        let arrivals = Arc::new(Mutex::new(arrivals));
        let waiting = Arc::default();
        let ingress = Ingress { queue, waiting: Arc::clone(&waiting), metrics: Arc::clone(metrics) };
        let (processed, mut due) = mpsc::channel::<Vec<Processed>>(64);
        let mut threads = Vec::new();
        for number in 0..config.workers.max(1) {
            let unwrapper = Unwrapper {
                arrivals: Arc::clone(&arrivals),
                waiting: Arc::clone(&waiting),
                batch: config.batch.max(1),
                epochs: Arc::clone(epochs),
                delays: Arc::clone(delays),
                metrics: Arc::clone(metrics),
                processed: processed.clone(),
            };
            threads.push(std::thread::Builder::new().name(format!("unwrap-{number}")).spawn(move || unwrapper.run())?);
        }
        let metrics = Arc::clone(metrics);
        tokio::spawn(async move {
            let mut queue = DelayLine::new(config.depth, metrics);
            loop {
                tokio::select! {
                    group = due.recv() => match group {
                        Some(group) => queue.take(group),
                        None => return,
                    },
                    () = queue.next_due() => {}
                }
                queue.release(&mut released);
            }
        });
        Ok((Self { threads }, ingress))
    }

    /// Waits for the threads; drop every [`Ingress`] first.
    pub fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// A packet key with the delays that belong to it.
struct Key {
    epoch: Epoch,
    secret: SecretKey,
    delays: Option<VrfDelays>,
}

/// One unwrap thread.
struct Unwrapper {
    arrivals: Arc<Mutex<Receiver<Arrival>>>,
    waiting: Arc<AtomicUsize>,
    batch: usize,
    epochs: Arc<Mutex<Epochs>>,
    delays: Arc<Mutex<Delays>>,
    metrics: Arc<Metrics>,
    processed: mpsc::Sender<Vec<Processed>>,
}

impl Unwrapper {
    fn run(self) {
        let mut group = Vec::with_capacity(self.batch);
        while self.fetch(&mut group) {
            let done = self.process(&mut group);
            if !done.is_empty() && self.processed.blocking_send(done).is_err() {
                return;
            }
        }
    }

    /// Waits for one packet and takes what else is there; `false` when no more will come.
    fn fetch(&self, group: &mut Vec<Arrival>) -> bool {
        let arrivals = lock(&self.arrivals);
        let Ok(first) = arrivals.recv() else {
            return false;
        };
        group.push(first);
        while group.len() < self.batch
            && let Ok(next) = arrivals.try_recv()
        {
            group.push(next);
        }
        drop(arrivals);
        let before = self.waiting.fetch_sub(group.len(), Ordering::Relaxed);
        self.metrics.ingress_depth.set(before.saturating_sub(group.len()));
        true
    }

    fn process(&self, group: &mut Vec<Arrival>) -> Vec<Processed> {
        let keys = {
            let epochs = lock(&self.epochs);
            [epochs.accept(0), epochs.accept(1)]
        };
        let keys = {
            let delays = lock(&self.delays);
            keys.map(|key| key.map(|(epoch, secret)| Key { epoch, secret, delays: delays.source(epoch) }))
        };
        let mut done = Vec::with_capacity(group.len());
        for arrival in group.drain(..) {
            let start = Instant::now();
            match self.unwrap(&keys, arrival) {
                Ok(processed) => {
                    self.metrics.unwrap.observe(start.elapsed());
                    done.push(processed);
                }
                Err(reason) => self.metrics.drop_one(reason),
            }
        }
        let mut epochs = lock(&self.epochs);
        let written = epochs.write_logs();
        drop(epochs);
        if written.is_err() {
            // What is not in the log must not leave: after a crash it could pass twice.
            for _ in done.drain(..) {
                self.metrics.drop_one("replay_log_failed");
            }
        }
        self.metrics.processed.add(u64::try_from(done.len()).unwrap_or(0));
        done
    }

    /// Unwraps one packet, or says why it is dropped.
    fn unwrap(&self, keys: &[Option<Key>; 2], arrival: Arrival) -> Result<Processed, &'static str> {
        let Arrival { mut packet, received } = arrival;
        let parity = usize::from(parity_of(&packet).map_err(|err| err.reason())?);
        let key = keys.get(parity).and_then(Option::as_ref).ok_or_else(|| PacketError::NoKey.reason())?;
        // Before the tag is remembered: the sender may try again once the delays are fixed.
        let delays = key.delays.as_ref().ok_or("no_beacon")?;
        let mut filter = Guarded { epochs: &self.epochs, epoch: key.epoch };
        let unwrapped = unwrap(&key.secret, &mut packet, &mut filter).map_err(|err| err.reason())?;
        let outcome = match unwrapped.action {
            Action::Forward { next } => Released::Forward { next, packet },
            Action::Deliver { mailbox, payload } => {
                Released::Deliver { mailbox, payload: packet.get(payload).unwrap_or_default().to_vec() }
            }
            Action::Reply { mailbox, surb_id, delta } => {
                Released::Reply { mailbox, surb_id, delta: packet.get(delta).unwrap_or_default().to_vec() }
            }
        };
        Ok(Processed { release_at: received + delays.owed(&unwrapped.delay), received, outcome })
    }
}

/// Takes the lock for one tag at a time, so that threads share a cache and not its lock.
struct Guarded<'a> {
    epochs: &'a Mutex<Epochs>,
    epoch: Epoch,
}

impl ReplayFilter for Guarded<'_> {
    fn check_and_insert(&mut self, tag: &ReplayTag) -> Result<(), PacketError> {
        lock(self.epochs).check_and_insert(self.epoch, tag)
    }
}

/// Holds packets until their time.
struct DelayLine {
    queue: DelayQueue<Processed>,
    origin: Instant,
    metrics: Arc<Metrics>,
}

impl DelayLine {
    fn new(depth: usize, metrics: Arc<Metrics>) -> Self {
        Self { queue: DelayQueue::new(depth), origin: Instant::now(), metrics }
    }

    fn take(&mut self, group: Vec<Processed>) {
        for processed in group {
            let release_at = processed.release_at.saturating_duration_since(self.origin);
            if self.queue.push(release_at, processed).is_err() {
                self.metrics.drop_one("delay_queue_full");
            }
        }
    }

    async fn next_due(&self) {
        match self.queue.next_release() {
            Some(at) => tokio::time::sleep_until((self.origin + at).into()).await,
            None => std::future::pending().await,
        }
    }

    fn release(&mut self, released: &mut impl FnMut(Released)) {
        let now = self.origin.elapsed();
        while let Some(processed) = self.queue.pop_due(now) {
            self.metrics.hop_delay.observe(processed.received.elapsed());
            released(processed.outcome);
        }
        self.metrics.delay_depth.set(self.queue.len());
    }
}

/// A poisoned lock only means that a thread died; the value behind it is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
