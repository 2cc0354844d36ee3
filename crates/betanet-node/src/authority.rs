//! The directory authority: takes descriptors, signs a consensus for each epoch, keeps its word.
//!
//! A consensus for the next epoch is out a quarter of an epoch before the boundary. When the
//! nodes' descriptors change, a further revision follows. Nothing is sent before it is on disk, so
//! a restarted authority goes on with the same key, address and chain.

#[cfg(test)]
mod history;
mod links;
mod metrics;
mod pages;
mod tokens;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use betanet_mix::directory::{
    Bringer, ConsensusError, Consensuses, Door, Ledger, NetworkConstants, Saved, Shown, Terms, Workers,
};
use betanet_mix::epoch::EpochClock;
use betanet_mix::view::{DocumentError, LinkAddress, Signed, TokenId, node_id_of};
use betanet_sphinx::NodeId;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, watch};

pub use self::metrics::blank_page;
use self::metrics::{Counts, Refused};
pub use self::tokens::{GivenToken, given_tokens, issue_token, revoke_token};
use crate::bind::{BindError, Purpose, announced, bind};
use crate::clock::NetworkClock;
use crate::control::{Given, Op, Outcome};
use crate::link::{Dialer, HandshakeError, LinkTimeouts, Listener, Stock};
use crate::net::{Endpoint, NET_FILE, NetFile, hex_id};
use crate::process::shut_down;
use crate::state::{StateDir, StateError, read_json, shell_word, unless_damaged, write_json, write_private};
use crate::sync::lock;

/// File that tells others where the authority is.
pub const RECORD_FILE: &str = "authority.json";

/// File with what is held: descriptors, consensuses, who came with which token.
const STATE_FILE: &str = "directory.json";

/// File with its signing key.
const KEY_FILE: &str = "identity.key";

/// What `/health` and `/metrics` are moved with.
const HTTP: Purpose = Purpose { name: "/health and /metrics", option: "--http-port" };

/// Nodes that are dialled at once to see where they are.
const DIALS: usize = 64;

/// How often the plan is looked at.
const ROUND: Duration = Duration::from_millis(25);

/// Epoch length of a new network.
pub const EPOCH: Duration = Duration::from_mins(10);

/// Mean delay per hop of a new network.
pub const MEAN_DELAY: Duration = Duration::from_millis(15);

/// How an authority is run.
#[derive(Clone, Debug)]
pub struct AuthorityConfig {
    /// State folder.
    pub dir: PathBuf,
    /// Where the network file goes, if not into the state folder, which has the key beside it.
    pub net_file: Option<PathBuf>,
    /// The network's name.
    pub network: String,
    /// Nodes that the first consensus waits for.
    pub expect: usize,
    /// Epoch length; that of the network, or [`EPOCH`] for a new one, if not given.
    pub epoch: Option<Duration>,
    /// Mean delay per hop; that of the network, or [`MEAN_DELAY`] for a new one, if not given.
    pub mean_delay: Option<Duration>,
    /// One party runs all nodes.
    pub one_operator: bool,
    /// Where the link socket listens; port 0 for any, kept over restarts.
    pub listen: SocketAddr,
    /// Where others reach it, if that is somewhere else.
    pub announce: Option<LinkAddress>,
    /// Where `/health` and `/metrics` are, if anywhere; port 0 for any, kept over restarts.
    pub http: Option<SocketAddr>,
}

impl AuthorityConfig {
    /// Who may come in. A network of one operator on one machine lets in everybody: nobody else reaches it.
    fn door(&self, authority: NodeId) -> Door {
        let listens = self.listen.ip().is_loopback();
        let loopback = self.announce.as_ref().map_or(listens, LinkAddress::is_loopback);
        if self.one_operator && listens && loopback { Door::Open } else { Door::Tokens { authority, loopback } }
    }

    /// The constants that follow from the configuration and from what the network has been so far.
    /// Clocks may be 30 s apart, or a tenth of an epoch if that is less.
    ///
    /// Epochs are numbered by their length, so that keys, logs and documents of another length fit
    /// nothing: it stays. The mean delay changes with the next consensus.
    fn constants(&self, saved: &Saved) -> Result<NetworkConstants, AuthorityError> {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let held = saved.latest();
        let asked = self.epoch.map(milliseconds);
        let epoch_length_ms = held.as_ref().map_or(milliseconds(EPOCH), |held| held.epoch_length_ms);
        if let (Some(asked), Some(_)) = (asked, &held)
            && asked != epoch_length_ms
        {
            return Err(AuthorityError::EpochLength { dir: self.dir.clone(), has_ms: epoch_length_ms });
        }
        let epoch_length_ms = asked.unwrap_or(epoch_length_ms);
        let mean_delay_ms = self
            .mean_delay
            .map(milliseconds)
            .or(held.map(|held| held.mean_delay_ms))
            .unwrap_or(milliseconds(MEAN_DELAY));
        let skew_ms = (epoch_length_ms / 10).min(30_000);
        Ok(NetworkConstants { network: self.network.clone(), epoch_length_ms, skew_ms, mean_delay_ms })
    }

    fn terms(&self, constants: &NetworkConstants, authority: NodeId) -> Terms {
        let door = self.door(authority);
        Terms { constants: constants.clone(), expect: self.expect, one_operator: self.one_operator, door }
    }
}

/// What the authority writes about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityRecord {
    /// Signing key.
    #[serde(with = "hex_id")]
    pub id: NodeId,
    /// Where it takes links.
    pub listens: SocketAddr,
    /// Where others reach it.
    pub address: LinkAddress,
    /// The network's name.
    pub network: String,
    /// Where it answers `/health` and `/metrics`, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_address: Option<SocketAddr>,
    /// Process id.
    pub pid: u32,
}

/// Why an authority does not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The link key.
    #[error(transparent)]
    Link(#[from] HandshakeError),
    /// The settings make no consensus.
    #[error("these settings make no network: {0}")]
    Settings(&'static str),
    /// The network has epochs of another length.
    #[error(
        "the network in {} has epochs of {has_ms} ms for good: start it with --epoch {has_ms}ms or without, or begin \
         another in an empty folder",
        dir.display()
    )]
    EpochLength {
        /// The authority's folder.
        dir: PathBuf,
        /// How long they are, in milliseconds.
        has_ms: u64,
    },
    /// There is no key that could sign.
    #[error("no authority was started in {}; start one with: betanet authority run --dir {}", dir.display(),
        shell_word(dir))]
    NotStarted {
        /// The folder.
        dir: PathBuf,
    },
    /// A token that is asked for would let in nobody.
    #[error("no such token can be: {0}")]
    Token(String),
    /// No token has this id.
    #[error("{id} is no token of this authority; see: betanet authority tokens --dir {}", shell_word(dir))]
    NoToken {
        /// What was asked for.
        id: TokenId,
        /// The authority's folder.
        dir: PathBuf,
    },
    /// An own document breaks a rule.
    #[error("cannot sign: {0}")]
    Document(#[from] DocumentError),
    /// An own consensus does not verify.
    #[error("the saved consensus does not fit this network: {0}; remove the folder to start anew")]
    Saved(#[from] ConsensusError),
    /// The operating system.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// Runs an authority until `shutdown` is given.
///
/// # Errors
/// It cannot start, or cannot keep its state; the message is one line.
pub async fn run(config: AuthorityConfig, shutdown: watch::Receiver<bool>) -> Result<(), AuthorityError> {
    let authority = Authority::open(config).await?;
    tokio::select! {
        ran = authority.run() => ran,
        () = shut_down(shutdown) => Ok(()),
    }
}

struct Authority {
    state: StateDir,
    /// Tokens, as it began.
    revoked: BTreeSet<TokenId>,
    listener: Listener,
    http: Option<TcpListener>,
    shared: Arc<Shared>,
}

/// What the links need.
struct Shared {
    constants: NetworkConstants,
    clock: EpochClock,
    /// What all others take over.
    time: NetworkClock,
    key: SigningKey,
    ledger: Mutex<Ledger>,
    workers: std::sync::Mutex<Workers>,
    /// The revision of the worker list on disk.
    saved_workers: Mutex<u64>,
    /// For nodes that say where they are.
    dialer: Dialer,
    dials: Semaphore,
    /// What newcomers need, as it stands in its file.
    net: Mutex<NetFile>,
    net_file: PathBuf,
    consensuses: watch::Sender<Arc<Consensuses>>,
    /// What links are sending.
    stock: Stock,
    left: links::Left,
    counts: Counts,
    state_file: PathBuf,
    workers_file: PathBuf,
}

impl Authority {
    async fn open(config: AuthorityConfig) -> Result<Self, AuthorityError> {
        let state = StateDir::open(&config.dir)?;
        let state_file = state.join(STATE_FILE);
        let saved: Saved = read_json(&state_file, "directory")?.unwrap_or_default();
        let constants = config.constants(&saved)?;
        let clock = constants.clock().map_err(AuthorityError::Settings)?;
        let key = state.signing_key(KEY_FILE)?;
        let id = node_id_of(&key);
        let workers_file = state.join("workers.json");
        let workers: Vec<Signed> = unless_damaged(read_json(&workers_file, "worker list"))?.unwrap_or_default();
        let time = NetworkClock::open(&config.dir)?;
        let now_ms = set_right(&time, &saved, &clock);
        let mut ledger = Ledger::open(&config.terms(&constants, id), clock, &saved, now_ms);
        let revoked = tokens::open(&config.dir)?;
        ledger.revoke(&revoked, now_ms);
        let mut consensuses = Consensuses::new(config.network.clone(), id);
        for signed in ledger.consensuses() {
            consensuses.accept(signed, now_ms)?;
        }
        let former: Option<AuthorityRecord> = unless_damaged(read_json(&state.join(RECORD_FILE), "authority record"))?;
        let links = bind(
            config.listen,
            former.as_ref().map(|record| record.listens),
            Purpose { name: "links", option: "--listen" },
        )
        .await?;
        let former_http = former.and_then(|record| record.http_address);
        let http = match config.http {
            Some(address) => Some(bind(address, former_http, HTTP).await?),
            None => None,
        };
        let record = AuthorityRecord {
            id,
            listens: links.local_addr()?,
            address: announced(config.listen, links.local_addr()?, config.announce.as_ref())?,
            network: config.network.clone(),
            http_address: http.as_ref().map(TcpListener::local_addr).transpose()?,
            pid: std::process::id(),
        };
        let listener = Listener::new(links, &key, LinkTimeouts::default())?;
        let dialer = Dialer::new(&key, LinkTimeouts::default())?;
        write_json(&state.join(RECORD_FILE), &record)?;
        let net = NetFile {
            network: record.network,
            authority: Endpoint { id, address: record.address },
            edges: edges_of(&consensuses),
            one_operator: config.one_operator,
            http: [].into(),
        };
        let net_file = config.net_file.unwrap_or_else(|| state.join(NET_FILE));
        write_json(&net_file, &net)?;
        Ok(Self {
            state,
            revoked,
            listener,
            http,
            shared: Arc::new(Shared {
                constants,
                clock,
                time,
                key,
                ledger: Mutex::new(ledger),
                workers: std::sync::Mutex::new(Workers::open(&workers, now_ms)),
                saved_workers: Mutex::new(0),
                dialer,
                dials: Semaphore::new(DIALS),
                net: Mutex::new(net),
                net_file,
                consensuses: watch::Sender::new(Arc::new(consensuses)),
                stock: Stock::default(),
                left: links::Left::default(),
                counts: Counts::default(),
                state_file,
                workers_file,
            }),
        })
    }

    async fn run(self) -> Result<(), AuthorityError> {
        tracing::info!(network = %self.shared.constants.network, "authority.started");
        let publish = async {
            let mut rounds = tokio::time::interval(ROUND);
            loop {
                rounds.tick().await;
                self.shared.publish().await?;
            }
        };
        if let Some(http) = self.http {
            pages::serve(http, &self.shared);
        }
        tokio::select! {
            ended = publish => ended,
            () = tokens::follow(self.state.path(), &self.shared, self.revoked) => Ok(()),
            () = links::serve(&self.listener, &self.shared) => Ok(()),
        }
    }
}

/// The edges of the newest consensus.
fn edges_of(consensuses: &Consensuses) -> Vec<Endpoint> {
    let edges = consensuses.newest().into_iter().flat_map(|view| view.edges());
    edges.map(|edge| Endpoint { id: edge.id(), address: edge.link_address().clone() }).collect()
}

/// Makes up for a wall clock that went back between two boots of the machine, and says so.
fn set_right(time: &NetworkClock, saved: &Saved, clock: &EpochClock) -> u64 {
    let shown_ms = time.now_ms();
    let now_ms = saved.present(clock, shown_ms);
    if now_ms > shown_ms {
        time.set(now_ms);
    } else if saved.latest().is_some_and(|last| last.epoch > clock.epoch_at(now_ms).next()) {
        tracing::warn!(
            reason = "the last one is from the future of this machine's clock, which was set back since: what comes \
                      after the present is dropped",
            "consensus.dropped"
        );
    }
    now_ms
}

impl Shared {
    /// Signs what is due, saves it, and only then lets it be seen.
    async fn publish(&self) -> Result<(), AuthorityError> {
        let mut ledger = self.ledger.lock().await;
        let previous = Arc::clone(&self.consensuses.borrow());
        let now_ms = self.time.now_ms();
        let signed = ledger.due(&self.key, now_ms)?;
        if signed.is_empty() {
            return Ok(());
        }
        let mut consensuses = Consensuses::clone(&previous);
        for consensus in signed {
            tracing::info!(
                epoch = consensus.epoch.0,
                revision = consensus.revision,
                nodes = consensus.nodes.len(),
                "consensus.published"
            );
            consensuses.accept(consensus.signed(), now_ms)?;
        }
        self.save(&ledger).await?;
        let edges = edges_of(&consensuses);
        self.consensuses.send_replace(Arc::new(consensuses));
        self.save_net(edges).await
    }

    /// Keeps the network file so that whoever gets it now finds an edge.
    async fn save_net(&self, edges: Vec<Endpoint>) -> Result<(), AuthorityError> {
        let mut net = self.net.lock().await;
        if net.edges == edges {
            return Ok(());
        }
        net.edges = edges;
        let (path, net) = (self.net_file.clone(), net.clone());
        tokio::task::spawn_blocking(move || write_json(&path, &net)).await.map_err(std::io::Error::other)??;
        Ok(())
    }

    /// Takes a node's descriptor. Where the node is has to be seen first, and meanwhile others are served.
    async fn put_descriptor(&self, peer: NodeId, descriptor: &Signed, token: Option<&Signed>) -> Result<(), String> {
        let unfit = |reason| {
            self.counts.refuse(Refused::Descriptor);
            reason
        };
        let wanted = self.ledger.lock().await.to_be_reached(peer, descriptor, token, self.time.now_ms());
        let wanted = wanted.map_err(unfit)?;
        let mut shown = Shown { token, reached: None };
        if let Some(address) = wanted {
            let _turn = self.dials.acquire().await.map_err(|err| err.to_string())?;
            let found = self.dialer.find(&address, *peer.as_bytes()).await;
            shown.reached = Some(found.map_err(|err| {
                self.counts.refuse(Refused::Unreachable);
                format!(
                    "the authority does not reach the node at {address} ({err}): open that port, or announce another"
                )
            })?);
        }
        // The descriptor goes to disk with the consensus that it leads to; until then its
        // node sends it again whenever it reconnects.
        self.ledger.lock().await.put_node(peer, descriptor, shown, self.time.now_ms()).map_err(unfit)?;
        self.counts.descriptors.add(1);
        Ok(())
    }

    async fn save(&self, ledger: &Ledger) -> Result<(), AuthorityError> {
        write(self.state_file.clone(), &ledger.save()).await
    }

    /// Brings the worker list to disk in revision `wanted` or a later one. Nothing else waits for it,
    /// and who comes while it is written shares the next write.
    async fn save_workers(&self, wanted: u64) -> Result<(), AuthorityError> {
        let mut saved = self.saved_workers.lock().await;
        if *saved < wanted {
            let (revision, workers) = lock(&self.workers).save();
            write(self.workers_file.clone(), &workers).await?;
            *saved = revision;
        }
        Ok(())
    }

    /// A peer that may bring descriptors of workers: an edge that a consensus lists. Other keys cost nothing, so that who
    /// makes many would have a share of the list for each.
    fn bringer(&self, peer: NodeId) -> Option<Bringer> {
        let now_ms = self.time.now_ms();
        let consensuses = self.consensuses.borrow();
        let edge = consensuses.live(now_ms).find_map(|view| view.node(peer).filter(|node| node.role().is_edge()))?;
        Some(Bringer { operator: edge.operator().to_owned(), edge: peer })
    }

    async fn answer(&self, peer: NodeId, op: Op) -> Given {
        let refused = |reason: String| Outcome::Refused { reason };
        let outcome = match op {
            Op::Time => Outcome::Time { now_ms: self.time.now_ms() },
            Op::GetNetwork => Outcome::Network(self.constants.clone()),
            Op::PutDescriptor { descriptor, token } => {
                self.put_descriptor(peer, &descriptor, token.as_ref()).await.map_or_else(refused, |()| Outcome::Stored)
            }
            Op::PutWorker { worker } => {
                let Some(edge) = self.bringer(peer) else {
                    self.counts.refuse(Refused::NotAnEdge);
                    return refused("workers publish through an edge that the network lists".to_owned()).into();
                };
                let taken = lock(&self.workers).put(&edge, &worker, self.time.now_ms());
                match taken {
                    Ok(revision) => match self.save_workers(revision).await {
                        Ok(()) => Outcome::Stored,
                        Err(err) => refused(err.to_string()),
                    },
                    Err(reason) => {
                        self.counts.refuse(Refused::Worker);
                        refused(reason)
                    }
                }
            }
            Op::GetWorkers { have } => {
                let now_ms = self.time.now_ms();
                let mut workers = lock(&self.workers);
                match workers.list(self.clock.epoch_at(now_ms), &self.key, now_ms) {
                    Ok(list) if have == Some(list.revision) => return Given::Workers(None),
                    Ok(list) => return Given::Workers(Some(Arc::clone(&list.encoded))),
                    Err(err) => refused(err.to_string()),
                }
            }
            Op::GetDuties => Outcome::Duties { owed: self.ledger.lock().await.owed_by(peer) },
            Op::Attach => {
                self.counts.refuse(Refused::Unexpected);
                refused("the authority keeps no mailboxes".to_owned())
            }
            // Links answer it themselves.
            Op::GetConsensus { .. } => refused("unexpected request".to_owned()),
        };
        outcome.into()
    }
}

async fn write(path: PathBuf, content: &impl Serialize) -> Result<(), AuthorityError> {
    let bytes = serde_json::to_vec(content).map_err(std::io::Error::from)?;
    tokio::task::spawn_blocking(move || write_private(&path, &bytes)).await.map_err(std::io::Error::other)??;
    Ok(())
}

#[cfg(test)]
mod tests;
