//! The client: sends, receives and answers messages through the mixnet.
//!
//! A client keeps links to a few edges, its mailboxes live there, and its [`Courier`] runs on a
//! thread of its own because it seals and builds packets. Everything here survives what a network
//! does: an edge that restarts, a node that dies, an authority that is gone, a new epoch.
//!
//! [`Courier`]: betanet_mix::courier::Courier

mod driver;
mod edges;
mod id_log;
mod network_time;
mod offline;
mod seen;
mod spool;
mod status;
mod store;

use std::hash::{BuildHasher, Hash as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use betanet_mix::courier::{CourierConfig, FailReason, SendError};
use betanet_mix::directory::Consensuses;
use betanet_mix::message::{MessageId, REPLY_DATA_LEN};
use betanet_mix::path::PathError;
use betanet_mix::view::{Address, Verified, WorkerDescriptor, WorkerId};
use ed25519_dalek::SigningKey;
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};

pub use betanet_mix::courier::{PathFigures, ReplyHandle, SendOptions};
pub use betanet_mix::message::Body;

pub use self::driver::Progress;
pub use self::offline::{ConsensusTrouble, EdgeFailure, Offline};
pub use self::spool::{ReceivedBody, body_from_file};
pub use self::status::{ClientStatus, ExcludedNode, OwnEdgeStatus};

use self::driver::{ClientCommand, Clocks, Driver, SendFailure, Shared, Spooling};
use self::edges::{EdgeLinks, Edges};
use self::network_time::NetworkTime;
use self::store::ClientStore;
use crate::clock::NetworkClock;
use crate::control::{ControlError, Op, Outcome};
use crate::link::HandshakeError;
use crate::net::NetFile;
use crate::state::StateError;
use crate::sync::lock;

/// Bytes of a reply that one reply packet carries.
pub const REPLY_PACKET_CAPACITY: usize = REPLY_DATA_LEN;

/// Commands that wait for the courier.
const COMMANDS: usize = 1024;

/// Messages that wait for [`Client::receive`]; more wait in the courier.
const INCOMING: usize = 64;

/// How long [`Client::open`] waits for all edges before it makes do with some.
const ALL_EDGES_PATIENCE: Duration = Duration::from_secs(3);

/// How long [`Client::open`] waits for the first edge and a consensus.
const OPEN_PATIENCE: Duration = Duration::from_secs(30);

/// How long [`Client::close`] waits for what is still being written.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// Memory of all messages under way, in KiB, and the least that one counts for: the courier's own limits.
const ROOM_KIB: usize = 256 * 1024;
const LEAST_KIB: usize = 64;

/// The folder of large messages in the client's folder.
const SPOOL: &str = "spool";

/// Bytes that are read at a time to tell the contents of messages apart.
const HASHED: usize = 64 * 1024;

/// Pause before a send is tried again when too much is under way.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How long a send waits for an edge that is away, and the pause between its tries.
const EDGE_PATIENCE: Duration = Duration::from_secs(10);
const EDGE_PAUSE: Duration = Duration::from_millis(50);

/// How long the courier, whose timer ends with a request's timeout, may take to say what it knows about the reason.
const LAST_WORD: Duration = Duration::from_millis(100);

/// How a client is opened.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// State folder; one client at a time owns it, and its address lives in it.
    pub dir: PathBuf,
    /// The bootstrap file, `net.json`.
    pub bootstrap: PathBuf,
    /// Edges to attach to, where the folder is new; 2 unless there is a reason.
    pub edges: usize,
    /// Hops of packets where the caller names none.
    pub hops_default: u8,
    /// Hops of the client's privacy level: messages of other levels are neither sent nor taken. `None` sends and takes all,
    /// but answers over its own edges alone, which leaves no way to answer a request of one hop.
    pub level: Option<u8>,
    /// Whether a client without a level answers requests of one hop too, over their senders' edges: for whoever serves PUBLIC.
    pub is_public: bool,
    /// Whether large messages go in bulk: as fast as back-pressure allows, which is observable, and acknowledged by their
    /// recipients' clients, which have to be there. Otherwise they go like short ones, and wait at the recipients' edges.
    pub bulk: bool,
}

impl ClientConfig {
    /// Two edges, three hops, nothing in bulk.
    #[must_use]
    pub const fn new(dir: PathBuf, bootstrap: PathBuf) -> Self {
        Self { dir, bootstrap, edges: 2, hops_default: 3, level: None, is_public: false, bulk: false }
    }
}

/// Why the client could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The state folder or the bootstrap file.
    #[error(transparent)]
    State(#[from] StateError),
    /// The link keys.
    #[error(transparent)]
    Link(#[from] HandshakeError),
    /// The bootstrap file names no edge.
    #[error("the network file names no edge; is the network up?")]
    NoEdges,
    /// There is no bootstrap file.
    #[error("there is no network file {path}; is the network up?")]
    NoBootstrap {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A new client cannot have that many mailboxes.
    #[error("edges must be 1 to {most} in this network, not {asked}")]
    BadEdges {
        /// What was asked for.
        asked: usize,
        /// Edges of the network, or mailboxes that an address holds.
        most: usize,
    },
    /// The id of a send stands for another message.
    #[error("id {id} was used for another message; take a new one")]
    IdUsed {
        /// The id.
        id: MessageId,
    },
    /// The client itself cannot reach the network.
    #[error(transparent)]
    Offline(Offline),
    /// The network, or the client's part of it, is too small for the path.
    #[error("{0}")]
    NotEnoughNodes(PathError),
    /// The message, request or reply cannot be sent as it is.
    #[error("{0}")]
    Invalid(String),
    /// So much is under way that another message would have to wait.
    #[error("too many messages are under way; wait until some are done")]
    Busy,
    /// The message may or may not have arrived.
    #[error("the message failed: {0}")]
    Failed(FailReason),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// An edge or the authority refused, or could not be reached.
    #[error("the directory did not answer as it should: {0}")]
    Directory(#[from] ControlError),
    /// The operating system.
    #[error("cannot start the client: {0}")]
    System(#[from] std::io::Error),
    /// What must not be forgotten cannot be written down.
    #[error("cannot write to the client's folder: {0}")]
    Storage(std::io::Error),
}

/// What a worker says about itself; the client adds its address, its key and the times.
#[derive(Clone, Debug)]
pub struct WorkerOffer {
    /// A name for people.
    pub name: String,
    /// Kinds of task that it runs.
    pub kinds: Vec<String>,
    /// Tasks that it runs at a time.
    pub slots: u32,
    /// Memory that it lends, in bytes.
    pub memory_bytes: u64,
    /// Groups that it serves.
    pub groups: Vec<String>,
    /// How long the offer holds.
    pub lifetime: Duration,
}

/// A message from somebody.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its id, for [`Client::commit`].
    pub id: MessageId,
    /// Its body.
    pub body: ReceivedBody,
    /// The number of hops it was sealed for.
    pub hops: u8,
    /// How it is answered, if the sender left reply blocks and they were not used before a restart.
    pub reply: Option<ReplyHandle>,
    /// Most bytes of an answer; 0 if none is possible.
    pub reply_capacity: usize,
}

/// A client of the mixnet. Cheap to share behind an [`Arc`]; all methods take `&self`.
#[derive(Debug)]
pub struct Client {
    hops_default: u8,
    commands: mpsc::Sender<ClientCommand>,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    shared: Arc<Shared>,
    edges: Arc<Edges>,
    worker_key: SigningKey,
    authority: betanet_sphinx::NodeId,
    workers: Mutex<Option<(u64, Vec<WorkerDescriptor>)>>,
    links: tokio::sync::Mutex<Option<Running>>,
    closed: watch::Sender<bool>,
    /// Tells the contents of messages apart.
    content: RandomState,
    /// Where large messages lie.
    spool: PathBuf,
    /// What messages under way may take of the memory, in KiB: who finds none waits in turn.
    room: Semaphore,
}

/// What ends with the client.
#[derive(Debug)]
struct Running {
    links: EdgeLinks,
    thread: std::thread::JoinHandle<()>,
}

impl Client {
    /// Opens the client in `config.dir` and attaches to its edges; returns as soon as it can send.
    ///
    /// Call it on a multi-threaded tokio runtime: links live there until [`Client::close`].
    ///
    /// # Errors
    /// The folder has another owner or is damaged, or no edge answers within half a minute
    /// ([`ClientError::Offline`]).
    pub async fn open(config: ClientConfig) -> Result<Self, ClientError> {
        let client = Self::start(&config).await?;
        match client.wait_until_usable().await {
            Ok(()) => Ok(client),
            Err(err) => {
                client.close().await;
                Err(err)
            }
        }
    }

    /// Starts the client in `config.dir` without waiting for its edges. Whoever gives it up before
    /// [`Client::wait_until_usable`] returns has to [`Client::close`] it.
    ///
    /// # Errors
    /// As [`Client::open`], but for edges that do not answer.
    pub async fn start(config: &ClientConfig) -> Result<Self, ClientError> {
        let net = NetFile::wait_for(&config.bootstrap).await.map_err(|error| match error {
            StateError::Io { path, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ClientError::NoBootstrap { path }
            }
            other => other.into(),
        })?;
        let drawn = if ClientStore::is_new(&config.dir) { edges::draw_apart(&net, config.edges).await } else { None };
        let store = match drawn {
            Some(edges) => ClientStore::open(&config.dir, &NetFile { edges, ..net.clone() }, config.edges)?,
            None => ClientStore::open(&config.dir, &net, config.edges)?,
        };
        let worker_key = store.worker_key();
        let authority = net.authority.id;
        let consensuses = Consensuses::new(net.network.clone(), authority);
        let time = NetworkTime::new(NetworkClock::open(&config.dir), store.mailboxes().len());
        let edges = Arc::new(Edges::new(config.bootstrap.clone(), consensuses, time, store.seen_documents(authority)?));
        let shared = Arc::new(Shared::new(net.network, store.address()));
        let (commands, queue) = mpsc::channel(COMMANDS);
        let (deliver, incoming) = mpsc::channel(INCOMING);
        edges.set_own(store.own_mailboxes());
        let links = EdgeLinks::start(&edges, &commands);
        let spool = Spooling::open(config.dir.join(SPOOL))?;
        let usual = CourierConfig::default();
        let bulk_above = if config.bulk { usual.bulk_above } else { u16::MAX };
        let courier = CourierConfig { level: config.level, is_public: config.is_public, bulk_above, ..usual };
        let clocks = Clocks::of(&edges);
        let driver = Driver::new(store, courier, Arc::clone(&edges), Arc::clone(&shared), deliver, clocks, spool);
        let thread = driver.start(queue, &links)?;
        Ok(Self {
            hops_default: config.hops_default,
            commands,
            incoming: tokio::sync::Mutex::new(incoming),
            shared,
            edges,
            worker_key,
            authority,
            workers: Mutex::new(None),
            links: tokio::sync::Mutex::new(Some(Running { links, thread })),
            closed: watch::Sender::new(false),
            content: RandomState::new(),
            spool: config.dir.join(SPOOL),
            room: Semaphore::new(ROOM_KIB),
        })
    }

    /// Waits until the client can send.
    ///
    /// # Errors
    /// No edge answers within half a minute ([`ClientError::Offline`]).
    pub async fn wait_until_usable(&self) -> Result<(), ClientError> {
        let usable = |at_least: usize| {
            let mut ready = self.shared.ready();
            async move {
                // The sender lives as long as the shared state.
                let _ = ready.wait_for(|ready| ready.has_view && ready.attached >= at_least).await;
            }
        };
        let wanted = self.address().mailboxes().len();
        if tokio::time::timeout(ALL_EDGES_PATIENCE, usable(wanted)).await.is_ok() {
            return Ok(());
        }
        tokio::time::timeout(OPEN_PATIENCE, usable(1)).await.map_err(|_| ClientError::Offline(self.offline()))
    }

    /// Where this client is reached. Stays the same over restarts with the same folder, until an edge of it is gone for
    /// good and the mailbox moves; what was sent to the former address arrives for two weeks more, as far as its edges live.
    #[must_use]
    pub fn address(&self) -> Address {
        self.shared.address()
    }

    /// Hops to use where the caller has no opinion.
    #[must_use]
    pub const fn hops_default(&self) -> u8 {
        self.hops_default
    }

    /// Sends a message and returns its id once all of it is on disk at the recipient's edges.
    ///
    /// Dropping the future gives the message up; what has left arrives or not. While an edge of
    /// the client is away, a send that needs it waits for it for a while.
    ///
    /// # Errors
    /// The network is too small for the path, the message cannot be sent as it is, or nobody
    /// acknowledged it after many tries.
    pub async fn send(&self, to: &Address, body: impl Into<Body>, hops: u8) -> Result<MessageId, ClientError> {
        self.send_with(to, body, SendOptions::hops(hops)).await
    }

    /// As [`Client::send`], with an id or a lifetime of the caller's choice.
    ///
    /// A send with an id can be repeated, for instance after a crash when nobody knows how far it
    /// came: the recipient gets one message per id, for as long as it remembers the id.
    ///
    /// # Errors
    /// As [`Client::send`], [`ClientError::Invalid`] while a send with this id is under way, and
    /// [`ClientError::IdUsed`] if this client used it for another message before.
    pub async fn send_with(
        &self,
        to: &Address,
        body: impl Into<Body>,
        options: SendOptions,
    ) -> Result<MessageId, ClientError> {
        self.send_watched(to, body, options, None).await
    }

    /// As [`Client::send_with`], and tells on the way how far the message is. The sender of `progress` is dropped with the
    /// end of the send.
    ///
    /// # Errors
    /// As [`Client::send_with`].
    pub async fn send_watched(
        &self,
        to: &Address,
        body: impl Into<Body>,
        options: SendOptions,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<MessageId, ClientError> {
        let body = body.into();
        let permit = self.room.acquire_many(room_for(&body)).await.map_err(|_| ClientError::Closed)?;
        self.send_in(permit, to, body, options, progress).await
    }

    /// As [`Client::send_watched`], but refuses at once where that would wait for other messages.
    ///
    /// # Errors
    /// As [`Client::send_with`], and [`ClientError::Busy`].
    pub async fn try_send(
        &self,
        to: &Address,
        body: impl Into<Body>,
        options: SendOptions,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<MessageId, ClientError> {
        let body = body.into();
        let permit = self.room.try_acquire_many(room_for(&body)).map_err(|_| ClientError::Busy)?;
        self.send_in(permit, to, body, options, progress).await
    }

    async fn send_in(
        &self,
        permit: SemaphorePermit<'_>,
        to: &Address,
        body: Body,
        options: SendOptions,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<MessageId, ClientError> {
        let content = options.id.map(|_| self.content_of(to, &body)).transpose()?;
        let command = |done| ClientCommand::Send {
            to: to.clone(),
            body: body.clone(),
            options,
            content,
            progress: progress.clone(),
            done,
        };
        let sent = self.persist(tokio::time::Instant::now() + EDGE_PATIENCE, command).await;
        drop(permit);
        sent
    }

    /// A file in the client's folder that ends with its handle, for a large body that should not be in memory while it is
    /// sent: write to it, then send [`body_from_file`].
    ///
    /// # Errors
    /// [`ClientError::Storage`].
    pub fn body_file(&self) -> Result<std::fs::File, ClientError> {
        spool::nameless_file(&self.spool).map_err(ClientError::Storage)
    }

    /// What tells a message apart from others.
    fn content_of(&self, to: &Address, body: &Body) -> Result<u64, ClientError> {
        let mut hasher = self.content.build_hasher();
        to.to_string().hash(&mut hasher);
        let mut part = vec![0; body.len().min(HASHED)];
        for start in (0..body.len()).step_by(HASHED) {
            part.truncate(body.len() - start);
            let unreadable = || ClientError::Storage(std::io::Error::other("the body of a message cannot be read"));
            body.read(start, &mut part).ok_or_else(unreadable)?;
            part.hash(&mut hasher);
        }
        Ok(hasher.finish())
    }

    /// Sends a request and returns the whole reply.
    ///
    /// The replier has room for `reply_packets` × [`REPLY_PACKET_CAPACITY`] bytes. Dropping the
    /// future gives the request up.
    ///
    /// # Errors
    /// As [`Client::send`], and [`ClientError::Timeout`] if the reply is not complete in time.
    pub async fn request(
        &self,
        to: &Address,
        body: impl Into<Body>,
        hops: u8,
        reply_packets: u8,
        timeout: Duration,
    ) -> Result<Vec<u8>, ClientError> {
        let body = body.into();
        let deadline = tokio::time::Instant::now() + timeout;
        let command = |done| ClientCommand::Request {
            to: to.clone(),
            body: body.clone(),
            hops,
            reply_packets,
            timeout: deadline.saturating_duration_since(tokio::time::Instant::now()),
            done,
        };
        let answered = self.persist(deadline, command);
        tokio::time::timeout_at(deadline + LAST_WORD, answered).await.unwrap_or_else(|_| Err(self.too_late()))
    }

    /// Gives a command to the driver, and again while the reason for its refusal will pass: too
    /// much is under way, or an edge is away or the next consensus not there yet, and there is time
    /// until `until`. After a pause of the machine the links and the consensus come back by themselves.
    async fn persist<T>(
        &self,
        until: tokio::time::Instant,
        command: impl Fn(oneshot::Sender<Result<T, SendFailure>>) -> ClientCommand,
    ) -> Result<T, ClientError> {
        loop {
            let (done, wait) = oneshot::channel();
            let outcome = self.ask(command(done), wait).await?;
            let pause = match &outcome {
                Err(SendFailure::Refused(SendError::Busy { .. })) => BUSY_PAUSE,
                Err(SendFailure::Refused(refusal)) if self.is_own_trouble(refusal) => EDGE_PAUSE,
                _ => return outcome.map_err(|failure| self.error_of(failure)),
            };
            if pause == EDGE_PAUSE && tokio::time::Instant::now() + pause >= until {
                return outcome.map_err(|failure| self.error_of(failure));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether a send is refused for what keeps this client, or the recipient's edges, from the network at this moment.
    fn is_own_trouble(&self, refusal: &SendError) -> bool {
        match refusal {
            SendError::NoConsensus => true,
            SendError::Path(path) => path.lacks_recipients_edge() || self.shared.lacks_edges(),
            _ => false,
        }
    }

    /// What keeps the client from the network at this moment.
    fn cut_off(&self) -> Option<Offline> {
        let edges = || self.edges.failures();
        if self.shared.status().edges_attached == 0 {
            return Some(Offline::Edges { all: true, edges: edges() });
        }
        self.edges.consensus_trouble(self.edges.now_ms()).map(Offline::Consensus)
    }

    /// What keeps, or has just kept, the client from the network.
    fn offline(&self) -> Offline {
        self.cut_off().unwrap_or_else(|| {
            let edges = self.edges.failures();
            if edges.is_empty() { Offline::Passed } else { Offline::Edges { all: false, edges } }
        })
    }

    /// What is wrong when nothing came in time.
    fn too_late(&self) -> ClientError {
        self.cut_off().map_or(ClientError::Timeout, ClientError::Offline)
    }

    fn error_of(&self, failure: SendFailure) -> ClientError {
        let own_edge = |error: &PathError| error.lacks_own_edge() && self.shared.lacks_edges();
        match failure {
            SendFailure::Refused(SendError::NoConsensus) | SendFailure::Failed(FailReason::NoConsensus { .. }) => {
                ClientError::Offline(self.offline())
            }
            SendFailure::Refused(SendError::Path(error)) | SendFailure::Failed(FailReason::NoPath { error, .. })
                if own_edge(&error) =>
            {
                ClientError::Offline(self.offline())
            }
            SendFailure::Refused(SendError::Path(error @ PathError::NotEnoughNodes { .. }))
            | SendFailure::Failed(FailReason::NoPath { error, .. }) => ClientError::NotEnoughNodes(error),
            SendFailure::Refused(err) => ClientError::Invalid(err.to_string()),
            SendFailure::Failed(FailReason::ReplyTimeout { .. }) => self.too_late(),
            SendFailure::IdUsed(id) => ClientError::IdUsed { id },
            SendFailure::Failed(FailReason::Cancelled) => ClientError::Closed,
            SendFailure::Failed(reason) => self.cut_off().map_or(ClientError::Failed(reason), ClientError::Offline),
        }
    }

    /// Waits for the next message. Cancel safe. Each id comes once while the client is open, and
    /// again after a restart unless it was committed.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn receive(&self) -> Result<Incoming, ClientError> {
        let mut closed = self.closed.subscribe();
        let mut incoming = tokio::select! {
            incoming = self.incoming.lock() => incoming,
            _ = closed.wait_for(|closed| *closed) => return Err(ClientError::Closed),
        };
        if *self.closed.borrow() {
            return Err(ClientError::Closed);
        }
        incoming.recv().await.ok_or(ClientError::Closed)
    }

    /// A message that is there already, unless somebody waits in [`Client::receive`].
    pub fn try_receive(&self) -> Option<Incoming> {
        self.incoming.try_lock().ok()?.try_recv().ok()
    }

    /// Answers a request. Returns when the reply's packets are made; whether they arrive, only the
    /// requester learns.
    ///
    /// That the request is answered is on the disk before the first packet leaves: if the message
    /// comes again after a restart, it has no way to answer.
    ///
    /// # Errors
    /// The handle was used, its reply packets have expired, the body is too long for them, or the
    /// state folder cannot be written to; then the request can be answered later.
    pub async fn reply(&self, handle: ReplyHandle, body: Vec<u8>) -> Result<(), ClientError> {
        let (done, wait) = oneshot::channel();
        self.ask(ClientCommand::Reply { handle, body, done }, wait).await?
    }

    /// Says that a received message is dealt with: the edges may delete it. Repeatable.
    ///
    /// # Errors
    /// The message is unknown, or the note cannot be written to the state folder.
    pub async fn commit(&self, id: MessageId) -> Result<(), ClientError> {
        let (done, wait) = oneshot::channel();
        self.ask(ClientCommand::Commit { id, done }, wait).await?
    }

    /// Sends a packet around a loop to the own mailbox and returns the time it took; another one if it gets lost, for a
    /// while.
    ///
    /// # Errors
    /// The network is too small, or no packet came back in time.
    pub async fn ping(&self, hops: u8) -> Result<Duration, ClientError> {
        let until = tokio::time::Instant::now() + EDGE_PATIENCE;
        loop {
            if let Some(time) = self.persist(until, |done| ClientCommand::Ping { hops, done }).await? {
                return Ok(time);
            }
            // Over a link that has died unnoticed nothing comes back, and the next loop goes over its successor.
            if tokio::time::Instant::now() >= until {
                return Err(self.too_late());
            }
        }
    }

    /// Publishes this client as a worker; returns the descriptor as it was published.
    ///
    /// # Errors
    /// The offer breaks a rule, or the directory does not take it.
    pub async fn publish_worker(&self, offer: WorkerOffer) -> Result<WorkerDescriptor, ClientError> {
        let issued_ms = self.edges.now_ms();
        let lifetime_ms = u64::try_from(offer.lifetime.as_millis()).unwrap_or(u64::MAX);
        let descriptor = WorkerDescriptor {
            id: WorkerId(self.worker_key.verifying_key().to_bytes()),
            name: offer.name,
            kinds: offer.kinds,
            slots: offer.slots,
            memory_bytes: offer.memory_bytes,
            groups: offer.groups,
            address: self.address(),
            issued_ms,
            expires_ms: issued_ms.saturating_add(lifetime_ms),
        };
        let signed =
            Verified::sign(descriptor, &self.worker_key).map_err(|err| ClientError::Invalid(err.to_string()))?;
        let op = || Op::PutWorker { worker: signed.signed().clone() };
        let take = |outcome| matches!(outcome, Outcome::Stored).then_some(()).ok_or(ControlError::Unexpected);
        self.directory(op, take).await?;
        Ok(signed.into_value())
    }

    /// The workers of the network whose descriptors verify and have not expired.
    ///
    /// # Errors
    /// No edge answers, or the list is not signed by the authority.
    pub async fn workers(&self) -> Result<Vec<WorkerDescriptor>, ClientError> {
        let have = self.known_workers().as_ref().map(|(revision, _)| *revision);
        let take = |outcome| match outcome {
            Outcome::Workers { list: Some(list) } => self.edges.take_workers(&list, self.authority).map(Some),
            Outcome::Workers { list: None } if have.is_some() => Ok(None),
            _ => Err(ControlError::Unexpected),
        };
        let list = self.directory(|| Op::GetWorkers { have }, take).await?;
        let now = self.edges.now_ms();
        // Signatures are verified before the lock is taken.
        let fresh = list
            .map(|list| (list.revision, list.verified(now).into_iter().map(Verified::into_value).collect::<Vec<_>>()));
        let mut known = self.known_workers();
        if let Some(fresh) = fresh
            && known.as_ref().is_none_or(|(revision, _)| *revision <= fresh.0)
        {
            *known = Some(fresh);
        }
        let workers = known.as_ref().map_or(&[][..], |(_, workers)| workers);
        Ok(workers.iter().filter(|worker| worker.expires_ms > now).cloned().collect())
    }

    /// Asks the directory through an edge, and waits a while for one if none is attached.
    async fn directory<T>(
        &self,
        op: impl Fn() -> Op,
        take: impl Fn(Outcome) -> Result<T, ControlError>,
    ) -> Result<T, ClientError> {
        let mut ready = self.shared.ready();
        let mut closed = self.closed.subscribe();
        let attached = tokio::time::timeout(EDGE_PATIENCE, ready.wait_for(|ready| ready.attached > 0));
        tokio::select! {
            // What the timeout brings, the call says better.
            _ = attached => {}
            _ = closed.wait_for(|closed| *closed) => return Err(ClientError::Closed),
        }
        self.edges.call(op, take).await.map_err(|error| match self.cut_off() {
            Some(offline @ Offline::Edges { .. }) => ClientError::Offline(offline),
            _ => error.into(),
        })
    }

    fn known_workers(&self) -> std::sync::MutexGuard<'_, Option<(u64, Vec<WorkerDescriptor>)>> {
        lock(&self.workers)
    }

    /// What the client knows at the moment.
    #[must_use]
    pub fn status(&self) -> ClientStatus {
        self.shared.status()
    }

    /// Ends the client: everything under way ends with [`ClientError::Closed`], what is queued for
    /// the edges is written, and all tasks and threads end. Repeatable.
    pub async fn close(&self) {
        self.closed.send_replace(true);
        let Some(running) = self.links.lock().await.take() else {
            return;
        };
        let (done, wait) = oneshot::channel();
        // A full queue is worked off; a driver that is gone has closed already.
        if self.commands.send(ClientCommand::Close { done }).await.is_ok() {
            let _ = wait.await;
        }
        running.links.close(CLOSE_PATIENCE).await;
        // It has answered, or ended before: nothing is left that it could wait for. No thread is asked for to wait here,
        // because where the system gives none, that would be a panic.
        let _ = running.thread.join();
    }

    async fn ask<T>(&self, command: ClientCommand, wait: oneshot::Receiver<T>) -> Result<T, ClientError> {
        if *self.closed.borrow() {
            return Err(ClientError::Closed);
        }
        self.commands.send(command).await.map_err(|_| ClientError::Closed)?;
        wait.await.map_err(|_| ClientError::Closed)
    }
}

/// What a message takes of the room.
fn room_for(body: &Body) -> u32 {
    u32::try_from((body.in_memory() / 1024).clamp(LEAST_KIB, ROOM_KIB)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
