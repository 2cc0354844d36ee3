//! The client: sends, receives and answers messages through the mixnet.
//!
//! A client keeps links to a few edges, its mailboxes live there, and its [`Courier`] runs on a
//! thread of its own because it seals and builds packets. Everything here survives what a network
//! does: an edge that restarts, a node that dies, an authority that is gone, a new epoch.
//!
//! [`Courier`]: betanet_mix::courier::Courier

mod driver;
mod error;
mod files;
mod id_log;
mod links;
mod network_time;
mod offline;
mod outgoing;
mod seen;
mod spool;
mod status;
mod store;
mod workers;

use std::hash::RandomState;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use betanet_mix::courier::CourierConfig;
use betanet_mix::directory::Consensuses;
use betanet_mix::message::{MessageId, REPLY_DATA_LEN};
use betanet_mix::view::{Address, NetworkView, WorkerDescriptor};
use ed25519_dalek::SigningKey;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use betanet_mix::courier::{PathFigures, ReplyHandle, SendOptions};
pub use betanet_mix::message::Body;

pub use self::driver::Progress;
pub use self::error::ClientError;
pub use self::files::{CopyError, ReceivedBody, body_from_file, copy_body};
pub use self::offline::{ConsensusTrouble, EdgeFailure, Offline};
pub use self::status::{ClientStatus, ExcludedNode, OwnEdgeStatus};
pub use self::workers::WorkerOffer;

use self::driver::{ClientCommand, Clocks, Driver, Shared, Spooling};
use self::links::{ClientLinks, KeptLinks};
use self::network_time::NetworkTime;
use self::outgoing::ROOM_KIB;
use self::store::ClientStore;
use crate::clock::NetworkClock;
use crate::net::NetFile;
use crate::state::StateError;

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

/// How long what needs an edge waits for one that is away.
const EDGE_PATIENCE: Duration = Duration::from_secs(10);

/// The folder of large messages in the client's folder.
const SPOOL: &str = "spool";

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
    /// Whether large messages go in bulk: as fast as back-pressure allows, which is observable, and acknowledged by their
    /// recipients' clients, which have to be there. Otherwise they go like short ones, and wait at the recipients' edges.
    pub bulk: bool,
}

impl ClientConfig {
    /// Two edges, three hops, nothing in bulk.
    #[must_use]
    pub const fn new(dir: PathBuf, bootstrap: PathBuf) -> Self {
        Self { dir, bootstrap, edges: 2, hops_default: 3, level: None, bulk: false }
    }
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
    level: Option<u8>,
    commands: mpsc::Sender<ClientCommand>,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    shared: Arc<Shared>,
    links: Arc<ClientLinks>,
    worker_key: SigningKey,
    authority: betanet_sphinx::NodeId,
    workers: Mutex<Option<(u64, Vec<WorkerDescriptor>)>>,
    running: tokio::sync::Mutex<Option<Running>>,
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
    kept: KeptLinks,
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
        let drawn = if ClientStore::is_new(&config.dir) { links::draw_apart(&net, config.edges).await } else { None };
        let store = match drawn {
            Some(edges) => ClientStore::open(&config.dir, &NetFile { edges, ..net.clone() }, config.edges)?,
            None => ClientStore::open(&config.dir, &net, config.edges)?,
        };
        let worker_key = store.worker_key();
        let authority = net.authority.id;
        let consensuses = Consensuses::new(net.network.clone(), authority);
        let time = NetworkTime::new(NetworkClock::open(&config.dir)?, store.mailboxes().len());
        let links =
            Arc::new(ClientLinks::new(config.bootstrap.clone(), consensuses, time, store.seen_documents(authority)?));
        let shared = Arc::new(Shared::new(net.network, store.address()));
        let (commands, queue) = mpsc::channel(COMMANDS);
        let (deliver, incoming) = mpsc::channel(INCOMING);
        links.set_own(store.own_mailboxes());
        let kept = KeptLinks::start(&links, &commands);
        let spool = Spooling::open(config.dir.join(SPOOL))?;
        let usual = CourierConfig::default();
        let bulk_above = if config.bulk { usual.bulk_above } else { u16::MAX };
        let courier = CourierConfig { level: config.level, bulk_above, ..usual };
        let clocks = Clocks::of(&links);
        let driver = Driver::new(store, courier, Arc::clone(&links), Arc::clone(&shared), deliver, clocks, spool);
        let thread = driver.start(queue, &kept)?;
        Ok(Self {
            hops_default: config.hops_default,
            level: config.level,
            commands,
            incoming: tokio::sync::Mutex::new(incoming),
            shared,
            links,
            worker_key,
            authority,
            workers: Mutex::new(None),
            running: tokio::sync::Mutex::new(Some(Running { kept, thread })),
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

    /// What the client knows at the moment.
    #[must_use]
    pub fn status(&self) -> ClientStatus {
        self.shared.status()
    }

    /// The network that packets are made for, and whether its consensus is in force now: without one, the newest that is
    /// held. `None` before there is one.
    #[must_use]
    pub fn view(&self) -> Option<(Arc<NetworkView>, bool)> {
        self.links.view_or_newest()
    }

    /// Ends the client: everything under way ends with [`ClientError::Closed`], what is queued for
    /// the edges is written, and all tasks and threads end. Repeatable.
    pub async fn close(&self) {
        self.closed.send_replace(true);
        let Some(running) = self.running.lock().await.take() else {
            return;
        };
        let (done, wait) = oneshot::channel();
        // A full queue is worked off; a driver that is gone has closed already.
        if self.commands.send(ClientCommand::Close { done }).await.is_ok() {
            let _ = wait.await;
        }
        running.kept.close(CLOSE_PATIENCE).await;
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

#[cfg(test)]
mod tests;
