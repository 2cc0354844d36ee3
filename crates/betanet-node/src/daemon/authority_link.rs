//! A node's link to the directory authority: its descriptor goes up, consensuses come down.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use betanet_mix::directory::{ConsensusError, Consensuses, Listed, OwedProof};
use betanet_mix::view::{Encoded, Signed, WorkerList};
use betanet_sphinx::NodeId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::metrics::Metrics;
use crate::clock::NetworkClock;
use crate::control::{ControlChannel, ControlError, Given, Op, Outcome};
use crate::link::{Dialer, LinkError, LinkReader, Received};
use crate::net::{Endpoint, NetFile};
use crate::rarely::Rarely;
use crate::state::StateError;
use crate::sync::lock;

/// Frames that wait for the authority.
const QUEUE: usize = 64;

/// Requests of clients that wait to be passed on.
const RELAYED: usize = 64;

/// How long a worker list is served without asking for a newer one.
const WORKERS_FRESH: Duration = Duration::from_millis(500);

/// First and longest pause between attempts to reach the authority.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Pause before the authority is asked again for what it did not give.
const RETRY: Duration = Duration::from_secs(2);

/// How often the authority is asked for the time: clocks drift, and a machine may stand still unnoticed.
const TIME_AGAIN: Duration = Duration::from_secs(15);

/// A descriptor, and how often the clock had been set when it was made.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// The descriptor; none while no key is on disk.
    pub signed: Option<Signed>,
    /// What [`NetworkClock::moves`] said before.
    pub moves: u64,
}

/// Passes requests of clients on to the authority.
#[derive(Clone, Debug)]
pub struct Directory {
    relayed: mpsc::Sender<(Op, oneshot::Sender<Given>)>,
}

impl Directory {
    /// Asks the authority on behalf of a client; the worker list may come from memory.
    pub async fn relay(&self, op: Op) -> Given {
        let unreachable =
            || Outcome::Refused { reason: "the directory authority cannot be reached now; try again".to_owned() };
        let (sender, receiver) = oneshot::channel();
        if self.relayed.try_send((op, sender)).is_err() {
            return unreachable().into();
        }
        receiver.await.unwrap_or_else(|_| unreachable().into())
    }
}

/// What the task needs.
#[derive(Debug)]
pub struct Uplink {
    /// The file that names the authority; read again before every attempt.
    pub bootstrap: PathBuf,
    /// What the file said when it could last be read.
    pub authority: Endpoint,
    /// Presents this node's key.
    pub dialer: Dialer,
    /// What lets the node in, where it was given one.
    pub token: Option<Signed>,
    /// The descriptor to publish; changes with the keys.
    pub descriptor: watch::Receiver<Described>,
    /// Where consensuses go.
    pub consensuses: watch::Sender<Arc<Consensuses>>,
    /// Why the authority does not list this node, as far as it said so.
    pub refusal: watch::Sender<Option<String>>,
    /// Where the proofs go that the authority asks for.
    pub owed: watch::Sender<Vec<OwedProof>>,
    /// The time, which follows the authority's.
    pub time: NetworkClock,
    /// Where accepted consensuses are kept for a restart without the authority.
    pub cache: ConsensusFile,
    /// The figures.
    pub metrics: Arc<Metrics>,
}

impl Uplink {
    /// Starts the task. It ends when the consensuses are no longer wanted.
    #[must_use]
    pub fn start(self) -> Directory {
        let (relayed, requests) = mpsc::channel(RELAYED);
        tokio::spawn(self.run(requests));
        Directory { relayed }
    }

    async fn run(mut self, mut requests: mpsc::Receiver<(Op, oneshot::Sender<Given>)>) {
        let mut workers = WorkerCache::default();
        let mut pause = BACK_OFF.0;
        let mut away = Rarely::default();
        let said = Said::default();
        while !self.consensuses.is_closed() {
            let up = Instant::now();
            if let Ok(net) = NetFile::read_again(&self.bootstrap) {
                self.authority = net.authority;
            }
            let Endpoint { id, address } = self.authority.clone();
            let ended = match self.dialer.dial(&address, *id.as_bytes(), QUEUE).await {
                Ok((sender, reader)) => {
                    workers.authority = Some(id);
                    let channel = ControlChannel::new(sender);
                    let ended = self.talk(&channel, reader, &mut requests, &mut workers, &said).await;
                    ended.err().map(|err| err.to_string())
                }
                Err(err) => Some(err.to_string()),
            };
            if let Some(error) = ended
                && away.is_due(Instant::now())
            {
                tracing::warn!(authority = %address, %error, "authority.away");
            }
            if up.elapsed() > BACK_OFF.1 {
                pause = BACK_OFF.0;
            }
            self.wait(pause, &mut requests, &workers).await;
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    /// Waits for the next attempt; meanwhile clients get what is in memory.
    async fn wait(
        &self,
        pause: Duration,
        requests: &mut mpsc::Receiver<(Op, oneshot::Sender<Given>)>,
        workers: &WorkerCache,
    ) {
        let until = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                Some((op, answer)) = requests.recv() => {
                    if let Op::GetWorkers { have } = op
                        && let Some(given) = workers.answer(have)
                    {
                        let _ = answer.send(given);
                    }
                }
            }
        }
    }

    async fn talk(
        &mut self,
        channel: &ControlChannel,
        mut reader: LinkReader,
        requests: &mut mpsc::Receiver<(Op, oneshot::Sender<Given>)>,
        workers: &mut WorkerCache,
        said: &Said,
    ) -> Result<(), LinkError> {
        let Self { consensuses, cache, metrics, time, owed, descriptor, token, refusal, .. } = self;
        let documents = Documents { consensuses, cache, metrics, time, said };
        // Reading goes on beside every request: it is what brings the answers.
        let read = async {
            loop {
                let Received::Message(message) = reader.next().await? else {
                    return Err(LinkError::Message);
                };
                let announced = channel.take(&message)?;
                documents.accept(&announced).await;
            }
        };
        let write = async {
            // What is refused or takes too long is asked for again; only the link's end ends this.
            let (mut informed, mut published) = (false, false);
            let mut attempts = tokio::time::interval(RETRY);
            attempts.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut times = tokio::time::interval(TIME_AGAIN);
            times.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut consensuses = consensuses.subscribe();
            loop {
                tokio::select! {
                    biased;
                    // Before anything else: all that follows bears dates.
                    _ = times.tick() => {
                        if documents.follow_time(channel).await? {
                            (informed, published) = (false, false);
                            attempts.reset_immediately();
                        }
                    }
                    _ = attempts.tick(), if !(informed && published) => {
                        if !informed {
                            let have = consensuses.borrow().hashes();
                            let outcome = ask(channel, Op::GetConsensus { have, follow: true }).await?;
                            if let Outcome::Consensus { documents: new } = outcome {
                                documents.accept(&new).await;
                                informed = true;
                            }
                            ask_duties(channel, owed).await?;
                        }
                        let Described { signed, moves } = descriptor.borrow_and_update().clone();
                        // What was made by a wrong clock waits for its successor.
                        if let Some(descriptor) = signed.filter(|_| !published && moves == time.moves()) {
                            let outcome = ask(channel, Op::PutDescriptor { descriptor, token: token.clone() }).await?;
                            published = matches!(outcome, Outcome::Stored);
                            let reason = if let Outcome::Refused { reason } = outcome { Some(reason) } else { None };
                            if let Some(reason) = &reason
                                && lock(&said.turned_down).is_due(Instant::now())
                            {
                                tracing::warn!(%reason, "descriptor.refused");
                            }
                            refusal.send_replace(reason);
                        }
                    }
                    changed = descriptor.changed() => {
                        if changed.is_err() {
                            return Ok(());
                        }
                        published = false;
                        attempts.reset_immediately();
                    }
                    changed = consensuses.changed() => {
                        if changed.is_err() {
                            return Ok(());
                        }
                        // What is owed grows with each, and is forgiven by some.
                        consensuses.mark_unchanged();
                        ask_duties(channel, owed).await?;
                    }
                    request = requests.recv() => {
                        let Some((op, answer)) = request else {
                            return Ok(());
                        };
                        let given = workers.relay(channel, op).await?;
                        let _ = answer.send(given);
                    }
                }
            }
        };
        tokio::select! {
            ended = read => ended,
            ended = write => ended,
        }
    }
}

/// Asks the authority. What it refuses, or does not answer, is an answer too.
async fn ask(channel: &ControlChannel, op: Op) -> Result<Outcome, LinkError> {
    match channel.call(op).await {
        Ok(outcome) => Ok(outcome),
        Err(ControlError::Link(err)) => Err(err),
        Err(ControlError::Refused(reason)) => Ok(Outcome::Refused { reason }),
        Err(err) => Ok(Outcome::Refused { reason: format!("the directory authority: {err}") }),
    }
}

/// Asks what this node owes.
async fn ask_duties(channel: &ControlChannel, known: &watch::Sender<Vec<OwedProof>>) -> Result<(), LinkError> {
    if let Outcome::Duties { owed } = ask(channel, Op::GetDuties).await? {
        known.send_if_modified(|known| {
            let changed = *known != owed;
            *known = owed;
            changed
        });
    }
    Ok(())
}

/// What the authority says about the network, and where it is kept.
struct Documents<'a> {
    consensuses: &'a watch::Sender<Arc<Consensuses>>,
    cache: &'a ConsensusFile,
    metrics: &'a Metrics,
    time: &'a NetworkClock,
    said: &'a Said,
}

/// What was said of the authority's answers, over all links to it.
#[derive(Default)]
struct Said {
    /// That it does not take the node's descriptor.
    turned_down: Mutex<Rarely>,
    /// That a consensus of its is none.
    refused: Mutex<Rarely>,
    /// That consensuses cannot be written to disk.
    not_cached: Mutex<Rarely>,
}

impl Documents<'_> {
    /// Takes over the authority's time; whether that changed anything.
    async fn follow_time(&self, channel: &ControlChannel) -> Result<bool, LinkError> {
        let sample = match channel.time().await {
            Ok(sample) => sample,
            Err(ControlError::Link(err)) => return Err(err),
            // It is asked again.
            Err(_) => return Ok(false),
        };
        let set = self.time.follow(&sample);
        if set {
            // Those who follow the consensuses look at them with the new time.
            self.consensuses.send_modify(|consensuses| {
                Arc::make_mut(consensuses).forget_after(self.time.now_ms());
            });
        }
        Ok(set)
    }

    /// Verifies consensuses, uses the good ones, and writes them to disk.
    async fn accept(&self, documents: &[Signed]) {
        let held = Arc::clone(&self.consensuses.borrow());
        let verify = |document| held.verify(document).inspect_err(|err| self.refuse(err)).ok().flatten();
        let verified: Vec<_> = documents.iter().filter_map(verify).collect();
        // In one step: while these were verified others may have come, and may while they are written.
        let now_ms = self.time.now_ms();
        let mut disputed = Vec::new();
        let changed = self.consensuses.send_if_modified(|consensuses| {
            let mut updated = Consensuses::clone(consensuses);
            let mut changed = updated.forget_after(now_ms);
            for view in verified {
                match updated.hold(view, now_ms) {
                    Ok(new) => changed |= new,
                    Err(err) => {
                        // Kept, so that it is told once.
                        changed = true;
                        disputed.push(err);
                    }
                }
            }
            if changed {
                *consensuses = Arc::new(updated);
            }
            changed
        });
        for err in &disputed {
            self.metrics.drop_one("equivocation");
            self.refuse(err);
        }
        if !changed {
            return;
        }
        if let Some(view) = self.consensuses.borrow().at(now_ms) {
            let consensus = view.consensus();
            tracing::info!(
                epoch = consensus.epoch.0,
                revision = consensus.revision,
                nodes = consensus.nodes.len(),
                "consensus.accepted"
            );
        }
        if let Err(err) = self.cache.write(self.consensuses.clone(), now_ms).await
            && lock(&self.said.not_cached).is_due(Instant::now())
        {
            tracing::warn!(error = %err, "consensus.not_cached");
        }
    }

    fn refuse(&self, err: &ConsensusError) {
        if lock(&self.said.refused).is_due(Instant::now()) {
            tracing::warn!(error = %err, "consensus.refused");
        }
    }
}

/// The file of the consensuses that are held.
#[derive(Clone, Debug)]
pub struct ConsensusFile(Arc<Mutex<PathBuf>>);

impl ConsensusFile {
    /// The one at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(Arc::new(Mutex::new(path)))
    }

    /// Writes down what has not run out by `now_ms`. Whose turn it is looks at what is held then, so that nothing older
    /// replaces it; also where nobody waits any more because the link has ended.
    async fn write(&self, consensuses: watch::Sender<Arc<Consensuses>>, now_ms: u64) -> Result<(), StateError> {
        let file = Arc::clone(&self.0);
        let written = tokio::task::spawn_blocking(move || {
            let file = lock(&file);
            let held = Arc::clone(&consensuses.borrow());
            let kept: Vec<_> = held.live(now_ms).map(|view| view.consensus().signed().clone()).collect();
            crate::state::write_json(&file, &kept)
        });
        // A runtime that ends drops what has not begun.
        written.await.unwrap_or(Ok(()))
    }
}

/// Reads the consensuses that a former process kept; what does not verify is left out.
///
/// # Errors
/// The file exists and cannot be read.
pub fn read_cache(cache: &Path, consensuses: &mut Consensuses, now_ms: u64) -> Result<(), StateError> {
    // A damaged cache is no loss: the authority has everything.
    let documents: Vec<Signed> = crate::state::read_json(cache, "consensus cache")
        .or_else(|err| match err {
            StateError::Content { .. } => Ok(None),
            other => Err(other),
        })?
        .unwrap_or_default();
    for document in &documents {
        let _ = consensuses.accept(document, now_ms);
    }
    Ok(())
}

/// The worker list as this edge last saw it.
#[derive(Default)]
struct WorkerCache {
    authority: Option<NodeId>,
    list: Option<Listed>,
    asked: Option<Instant>,
}

impl WorkerCache {
    /// The list for a client that holds revision `have`, if there is one in memory.
    fn answer(&self, have: Option<u64>) -> Option<Given> {
        let list = self.list.as_ref()?;
        let news = have != Some(list.revision);
        Some(Given::Workers(news.then(|| Arc::clone(&list.encoded))))
    }

    async fn relay(&mut self, channel: &ControlChannel, op: Op) -> Result<Given, LinkError> {
        let Op::GetWorkers { have } = op else {
            self.asked = None;
            return ask(channel, op).await.map(Given::from);
        };
        let fresh = self.asked.is_some_and(|asked| asked.elapsed() < WORKERS_FRESH);
        if !fresh {
            let known = self.list.as_ref().map(|list| list.revision);
            match ask(channel, Op::GetWorkers { have: known }).await? {
                Outcome::Workers { list: None } => {}
                Outcome::Workers { list: Some(list) } => {
                    if let Err(reason) = self.accept(&list) {
                        return Ok(Outcome::Refused { reason }.into());
                    }
                }
                other => return Ok(other.into()),
            }
            self.asked = Some(Instant::now());
        }
        let reason = || "the directory authority gave no worker list; try again".to_owned();
        Ok(self.answer(have).unwrap_or_else(|| Outcome::Refused { reason: reason() }.into()))
    }

    fn accept(&mut self, list: &Signed) -> Result<(), String> {
        let authority: Vec<_> = self.authority.into_iter().collect();
        let verified = list.verify::<WorkerList>(&authority, 1).map_err(|err| err.to_string())?;
        let encoded = Arc::new(Encoded::of(list));
        self.list = Some(Listed { epoch: verified.epoch, revision: verified.revision, encoded });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
