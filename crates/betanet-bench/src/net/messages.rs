//! Two clients: one sends, the other keeps count.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use betanet_mix::message::MessageId;
use betanet_node::client::{Client, ClientConfig};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::Failure;
use crate::histogram::Histogram;

/// Bytes of a message of those that are counted.
const MESSAGE: usize = 1024;

/// Messages that the receiving client gives back at a time.
const COMMITS: usize = 256;

/// How long what is acknowledged may take to be received, and a large message to arrive at all.
const PATIENCE: Duration = Duration::from_mins(1);

/// What came of many messages.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Acknowledged in the time that counts.
    pub acknowledged: usize,
    /// Acknowledged at any time, and not received.
    pub lost: usize,
    /// The time that counts.
    pub took: Duration,
}

/// What came of messages at a fixed rate.
#[derive(Clone, Debug, Default)]
pub struct Timed {
    /// Given to the sender.
    pub sent: usize,
    /// Neither stored nor given up in time.
    pub failed: usize,
    /// Acknowledged, and not received.
    pub lost: usize,
    /// While messages were sent.
    pub took: Duration,
    /// Acknowledged in that time.
    pub acknowledged_in_time: usize,
    /// Received in that time.
    pub received_in_time: usize,
    /// From when a message was due until its sender knew that it is stored.
    pub acknowledged: Histogram,
    /// Until its recipient had it.
    pub received: Histogram,
}

/// A sender and a recipient.
#[derive(Debug)]
pub struct Pair {
    from: Arc<Client>,
    to: Arc<Client>,
    received: Arc<Mutex<Received>>,
    keeper: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Received {
    /// When which message came first.
    came: HashMap<MessageId, Instant>,
    /// Length of the longest message, and when it came.
    longest: Option<(usize, Instant)>,
}

impl Pair {
    /// Opens both in `folder`.
    ///
    /// # Errors
    /// They do not reach the network.
    pub async fn open(folder: &Path, bootstrap: &Path) -> Result<Self, Failure> {
        let config =
            |name: &str| ClientConfig { bulk: true, ..ClientConfig::new(folder.join(name), bootstrap.to_owned()) };
        let (from, to) = tokio::try_join!(Client::open(config("from")), Client::open(config("to")))?;
        let (from, to) = (Arc::new(from), Arc::new(to));
        let received = Arc::default();
        let keeper = tokio::spawn(receive(Arc::clone(&to), Arc::clone(&received)));
        Ok(Self { from, to, received, keeper })
    }

    /// Sends one message and waits until it is received.
    ///
    /// # Errors
    /// It does not arrive.
    pub async fn one(&self, hops: u8, length: usize) -> Result<Duration, Failure> {
        let before = self.longest();
        let start = Instant::now();
        self.from.send(&self.to.address(), vec![7; length], hops).await?;
        let arrived = self.until(|received| {
            received.longest.filter(|(longest, _)| *longest == length && received.longest != before).map(|(_, at)| at)
        });
        let at = arrived.await.ok_or_else(|| format!("a message of {length} bytes did not arrive"))?;
        self.received.lock().unwrap_or_else(PoisonError::into_inner).longest = None;
        Ok(at - start)
    }

    fn longest(&self) -> Option<(usize, Instant)> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).longest
    }

    /// Keeps so many small messages under way for so long.
    ///
    /// # Errors
    /// One fails.
    pub async fn many(&self, hops: u8, under_way: usize, length: Duration) -> Result<Sent, Failure> {
        let over = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let mut senders = JoinSet::new();
        for _ in 0..under_way {
            let (from, to, over) = (Arc::clone(&self.from), self.to.address(), Arc::clone(&over));
            senders.spawn(async move {
                let (mut in_time, mut ids) = (0, Vec::new());
                while !over.load(Ordering::Relaxed) {
                    ids.push(from.send(&to, vec![7; MESSAGE], hops).await.map_err(|err| err.to_string())?);
                    in_time += usize::from(!over.load(Ordering::Relaxed));
                }
                Ok::<_, String>((in_time, ids))
            });
        }
        tokio::time::sleep(length).await;
        over.store(true, Ordering::Relaxed);
        let took = start.elapsed();
        let (mut acknowledged, mut ids) = (0, Vec::new());
        while let Some(sender) = senders.join_next().await {
            let (in_time, sent) = sender??;
            acknowledged += in_time;
            ids.extend(sent);
        }
        Ok(Sent { acknowledged, lost: self.lost(&ids).await, took })
    }

    /// Sends small messages at one rate, whether or not they get through, for so long.
    ///
    /// # Errors
    /// One fails.
    pub async fn paced(&self, hops: u8, per_s: u32, length: Duration) -> Result<Sent, Failure> {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_s);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let start = Instant::now();
        let (mut senders, mut ids) = (JoinSet::new(), Vec::new());
        while start.elapsed() < length {
            ticks.tick().await;
            let (from, to) = (Arc::clone(&self.from), self.to.address());
            senders.spawn(async move { from.send(&to, vec![7; MESSAGE], hops).await });
            // A task that has ended keeps its memory until it is asked.
            while let Some(sent) = senders.try_join_next() {
                ids.push(sent??);
            }
        }
        let took = start.elapsed();
        while let Some(sent) = senders.join_next().await {
            ids.push(sent??);
        }
        Ok(Sent { acknowledged: ids.len(), lost: self.lost(&ids).await, took })
    }

    /// As [`Self::paced`], with the times of each message; one that fails is counted, and the others go on.
    pub async fn timed(&self, hops: u8, per_s: u32, length: Duration) -> Timed {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_s);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let start = Instant::now();
        let (mut senders, mut ended, mut number) = (JoinSet::new(), Vec::new(), 0);
        while start.elapsed() < length {
            // From when it is due: a message does not wait for this process unnoticed.
            let due = ticks.tick().await.into_std();
            let (from, to) = (Arc::clone(&self.from), self.to.address());
            senders.spawn(async move {
                let sent = from.send(&to, vec![7; MESSAGE], hops).await;
                (due, Instant::now(), sent)
            });
            number += 1;
            // A task that has ended keeps its memory until it is asked.
            while let Some(done) = senders.try_join_next() {
                ended.push(done);
            }
        }
        let end = Instant::now();
        let mut timed = Timed { sent: number, took: end - start, ..Timed::default() };
        let mut sent = Vec::new();
        while let Some(done) = senders.join_next().await {
            ended.push(done);
        }
        for done in ended {
            let Ok((due, acknowledged, Ok(id))) = done else {
                timed.failed += 1;
                continue;
            };
            timed.acknowledged.note(acknowledged - due);
            timed.acknowledged_in_time += usize::from(acknowledged <= end);
            sent.push((due, id));
        }
        let ids: Vec<_> = sent.iter().map(|(_, id)| *id).collect();
        timed.lost = self.lost(&ids).await;
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        for (due, at) in sent.iter().filter_map(|(due, id)| Some((*due, *received.came.get(id)?))) {
            timed.received.note(at - due);
            timed.received_in_time += usize::from(at <= end);
        }
        timed
    }

    /// How many of these messages do not come.
    async fn lost(&self, ids: &[MessageId]) -> usize {
        let missing = |received: &Received| ids.iter().filter(|id| !received.came.contains_key(id)).count();
        if self.until(|received| (missing(received) == 0).then_some(())).await.is_some() {
            return 0;
        }
        missing(&self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for something to be received.
    async fn until<T>(&self, look: impl Fn(&Received) -> Option<T>) -> Option<T> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(seen) = look(&self.received.lock().unwrap_or_else(PoisonError::into_inner)) {
                return Some(seen);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }

    /// Closes both clients.
    pub async fn close(self) {
        self.keeper.abort();
        self.from.close().await;
        self.to.close().await;
    }
}

/// Notes what comes, and gives it back.
async fn receive(client: Arc<Client>, received: Arc<Mutex<Received>>) {
    let mut commits = JoinSet::new();
    while let Ok(message) = client.receive().await {
        {
            let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
            received.came.entry(message.id).or_insert_with(Instant::now);
            if received.longest.is_none_or(|(longest, _)| longest <= message.body.len()) {
                received.longest = Some((message.body.len(), Instant::now()));
            }
        }
        if commits.len() >= COMMITS {
            let _ = commits.join_next().await;
        }
        let client = Arc::clone(&client);
        commits.spawn(async move { client.commit(message.id).await });
    }
}
