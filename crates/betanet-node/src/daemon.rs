//! The mix node daemon.
//!
//! ```text
//! inbound link ─┐                                               ┌─ egress ─ outbound link
//! inbound link ─┼─ ingress ─ unwrap threads ─ log ─ delay line ─┤
//! own acks ─────┘                                               └─ edge ─ mailboxes ─ client
//! ```
//!
//! Every queue on the way is bounded and drops with a counted reason when it is full.

pub mod authority_link;
pub mod delays;
pub mod edge;
pub mod egress;
pub mod inbound;
pub mod keeper;
pub mod looks;
pub mod mailboxes;
pub mod metrics;
pub mod mixer;
mod onward;
pub mod packet_keys;
mod pages;
mod publications;
mod rounds;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use betanet_mix::directory::{Consensuses, NetworkConstants, OwedProof};
use betanet_mix::mailbox::Limits;
use betanet_mix::view::{DocumentError, LinkAddress, NetworkView, Role, Signed, node_id_of};
use betanet_sphinx::NodeId;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;

use self::authority_link::{ConsensusFile, Described, Directory, Uplink};
use self::delays::Delays;
use self::edge::{Acknowledger, Edge, Sessions};
use self::egress::Egress;
use self::inbound::Inbound;
use self::keeper::Keeper;
use self::looks::Looks;
use self::mailboxes::{Mailboxes, StoreError};
use self::metrics::Metrics;
use self::mixer::{Ingress, Mixer, MixerConfig};
use self::onward::Onward;
use self::packet_keys::PacketKeys;
use self::rounds::Rounds;
use crate::bind::{BindError, Purpose, announced, bind};
use crate::clock::{NetworkClock, boot_id};
use crate::control::{ControlChannel, ControlError, Op, Outcome};
use crate::link::{Dialer, HandshakeError, LinkError, LinkTimeouts, Listener};
use crate::net::{Endpoint, NetFile, hex_id};
use crate::process::shut_down;
use crate::rarely::Rarely;
use crate::state::{StateDir, StateError, read_json, read_named_json, unless_damaged, write_json};

/// File that tells others where the node is.
pub const RECORD_FILE: &str = "node.json";

/// Bytes that the file of an admission token may have.
const TOKEN_LIMIT: usize = 16 * 1024;

/// How long a node that holds a consensus waits for the authority before it starts without it.
const CONSTANTS_PATIENCE: Duration = Duration::from_secs(3);

/// How a node is run.
#[derive(Clone, Debug)]
pub struct DaemonConfig {
    /// State folder.
    pub dir: PathBuf,
    /// The bootstrap file.
    pub bootstrap: PathBuf,
    /// Part of a path that the node serves.
    pub role: Role,
    /// The file with its admission token; a network on one machine needs none.
    pub token: Option<PathBuf>,
    /// Where the link socket listens; port 0 for any, kept over restarts.
    pub listen: SocketAddr,
    /// Where others reach it, if that is somewhere else.
    pub announce: Option<LinkAddress>,
    /// Where `/health` and `/metrics` are: they are for this machine, whoever may reach the links. Port 0 for any, kept
    /// over restarts.
    pub http: SocketAddr,
    /// Export exact counters.
    pub exact_metrics: bool,
    /// Sizes of the packet path.
    pub mixer: MixerConfig,
    /// When the thread that the node runs on looks at its sockets.
    pub looks: Arc<Looks>,
    /// Packets per second that the replay caches are made for.
    pub target_throughput: usize,
}

/// What the node writes about itself, for its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Identity key.
    #[serde(with = "hex_id")]
    pub id: NodeId,
    /// Part of a path.
    pub role: Role,
    /// Where it takes links.
    pub listens: SocketAddr,
    /// Where others reach it.
    pub link_address: LinkAddress,
    /// Where it answers `/health` and `/metrics`.
    pub http_address: SocketAddr,
    /// Process id.
    pub pid: u32,
}

impl NodeRecord {
    /// Whether a view lists the node where it is now. Listed where it was before, it would be ready for nobody.
    fn is_listed_in(&self, view: &NetworkView) -> bool {
        view.node(self.id).is_some_and(|node| *node.link_address() == self.link_address)
    }
}

/// Why a node does not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The state folder or the bootstrap file.
    #[error(transparent)]
    State(#[from] StateError),
    /// A port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The mailboxes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The link key.
    #[error(transparent)]
    Link(#[from] HandshakeError),
    /// No network has such constants.
    #[error("the authority announces a network that cannot be: {0}")]
    Constants(&'static str),
    /// The own descriptor breaks a rule.
    #[error("the node's descriptor is not valid: {0}")]
    Descriptor(#[from] DocumentError),
    /// The operating system.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// Runs a node until `shutdown` is given.
///
/// # Errors
/// It cannot start; the message is one line that names the cause and what to do.
pub async fn run(config: DaemonConfig, shutdown: watch::Receiver<bool>) -> Result<(), DaemonError> {
    tokio::select! {
        ran = async { Node::open(config).await?.run().await } => ran,
        () = shut_down(shutdown) => Ok(()),
    }
}

/// A node that holds its folder and its ports.
struct Node {
    config: DaemonConfig,
    state: StateDir,
    key: SigningKey,
    id: NodeId,
    net: NetFile,
    token: Option<Signed>,
    listener: Listener,
    record: NodeRecord,
    dialer: Dialer,
    metrics: Arc<Metrics>,
    consensuses: watch::Sender<Arc<Consensuses>>,
    /// Why the authority does not list this node, as far as it said so.
    refusal: watch::Sender<Option<String>>,
    time: NetworkClock,
}

impl Node {
    async fn open(config: DaemonConfig) -> Result<Self, DaemonError> {
        let state = StateDir::open(&config.dir)?;
        let key = state.signing_key("identity.key")?;
        let id = node_id_of(&key);
        let token =
            config.token.as_deref().map(|path| read_named_json(path, "admission token", TOKEN_LIMIT)).transpose()?;
        let net = NetFile::wait_for(&config.bootstrap).await?;
        let former: Option<NodeRecord> = unless_damaged(read_json(&state.join(RECORD_FILE), "node record"))?;
        let links = bind(
            config.listen,
            former.as_ref().map(|record| record.listens),
            Purpose { name: "links", option: "--listen" },
        )
        .await?;
        let http = bind(
            config.http,
            former.as_ref().map(|record| record.http_address),
            Purpose { name: "/health and /metrics", option: "--http-port" },
        )
        .await?;
        let record = NodeRecord {
            id,
            role: config.role,
            listens: links.local_addr()?,
            link_address: announced(config.listen, links.local_addr()?, config.announce.as_ref())?,
            http_address: http.local_addr()?,
            pid: std::process::id(),
        };
        let listener = Listener::new(links, &key, LinkTimeouts::default())?;
        let dialer = Dialer::new(&key, LinkTimeouts::default())?;
        let time = NetworkClock::open(&config.dir)?;
        let mut consensuses = Consensuses::new(net.network.clone(), net.authority.id);
        authority_link::read_cache(&state.join("consensus.json"), &mut consensuses, time.now_ms())?;
        let metrics = Arc::new(Metrics::new(config.exact_metrics));
        let consensuses = watch::Sender::new(Arc::new(consensuses));
        let refusal = watch::Sender::default();
        pages::serve(http, &record, &metrics, consensuses.subscribe(), refusal.subscribe(), time.clone());
        write_json(&state.join(RECORD_FILE), &record)?;
        Ok(Self { config, state, key, id, net, token, listener, record, dialer, metrics, consensuses, refusal, time })
    }

    async fn run(self) -> Result<(), DaemonError> {
        let constants = self.constants().await;
        let clock = constants.clock().map_err(DaemonError::Constants)?;
        let seconds = usize::try_from(constants.epoch_length_ms.div_ceil(1000)).unwrap_or(1);
        let capacity = self.config.target_throughput.saturating_mul(seconds.saturating_mul(2));
        let packet_keys = PacketKeys::open(&self.state, &boot_id()?, clock.epoch_at(self.time.now_ms()), capacity)?;
        let egress = Egress::new(self.time.clone(), Arc::clone(&self.metrics));
        let keeper = Keeper {
            packet_keys: Arc::new(packet_keys),
            delays: Arc::new(Mutex::new(Delays::open(&self.state)?)),
            clock,
            time: self.time.clone(),
        };
        let moves = self.time.moves();
        keeper.keep(Arc::clone(&self.consensuses.borrow())).await;
        let mixer = Mixer::new(self.config.mixer, Arc::clone(&self.config.looks), &self.metrics);
        let edge = if self.config.role.is_edge() { Some(self.open_edge(mixer.ingress(), &egress)?) } else { None };
        let onward = Onward { egress: egress.clone(), edge: edge.clone(), metrics: Arc::clone(&self.metrics) };
        mixer.start(&keeper.packet_keys, &keeper.delays, move |released| onward.take(released))?;

        let owed = watch::Sender::default();
        let asked = owed.subscribe();
        let rounds = Rounds::new(&self, keeper, egress, mixer.ingress().clone(), edge.clone(), moves)?;
        let directory = self.start_uplink(rounds.descriptor(), owed);
        let inbound = Inbound {
            ingress: mixer.ingress().clone(),
            edge,
            directory,
            consensuses: self.consensuses.subscribe(),
            time: self.time.clone(),
            stock: Arc::default(),
            metrics: Arc::clone(&self.metrics),
        };
        tracing::info!(role = self.config.role.name(), "node.started");
        let served = inbound.serve(&self.listener);
        tokio::select! {
            ended = rounds.run(asked) => ended,
            () = served => Ok(()),
        }
    }

    /// The network's constants and its time: from the authority, which is asked until it answers, or
    /// but once where a consensus is held.
    async fn constants(&self) -> NetworkConstants {
        let held = self.consensuses.borrow().newest().map(|view| {
            let consensus = view.consensus();
            NetworkConstants {
                network: consensus.network.clone(),
                epoch_length_ms: consensus.epoch_length_ms,
                skew_ms: consensus.skew_ms,
                mean_delay_ms: consensus.mean_delay_ms,
            }
        });
        let mut pause = Duration::from_millis(20);
        let mut away = Rarely::default();
        loop {
            // The authority may have moved since.
            let authority = NetFile::read_again(&self.config.bootstrap)
                .map_or_else(|_| self.net.authority.clone(), |net| net.authority);
            let asked = tokio::time::timeout(CONSTANTS_PATIENCE, self.ask_constants(&authority)).await;
            let error = match asked.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
                Ok(constants) => return constants,
                Err(error) => error,
            };
            if let Some(constants) = held {
                return constants;
            }
            if away.is_due(Instant::now()) {
                tracing::warn!(authority = %authority.address, %error, "authority.away");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn ask_constants(&self, authority: &Endpoint) -> Result<NetworkConstants, String> {
        let dialled = self.dialer.dial(&authority.address, *authority.id.as_bytes(), 8).await;
        let (sender, reader) = dialled.map_err(|err| err.to_string())?;
        let asked = ControlChannel::ask_over(sender, reader, async |channel| {
            // Keys are made for an epoch, so the time comes first.
            self.time.follow(&channel.time().await?);
            match channel.call(Op::GetNetwork).await? {
                Outcome::Network(constants) => Ok(constants),
                _ => Err(ControlError::Unexpected),
            }
        });
        asked.await.unwrap_or_else(|| Err(LinkError::Closed.into())).map_err(|err| err.to_string())
    }

    /// The mailboxes, whose stored-acks go out through the packet path or over a link.
    fn open_edge(&self, ingress: &Ingress, egress: &Egress) -> Result<Arc<Edge>, DaemonError> {
        let sessions = Sessions::default();
        let acknowledger = Acknowledger {
            own: self.id,
            ingress: ingress.own(),
            egress: egress.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        let stored = {
            let (sessions, ingress) = (sessions.clone(), ingress.clone());
            Box::new(move |mailbox, receipt, late| {
                ingress.left(1, late);
                sessions.wake(mailbox);
                if let Some(surb) = receipt {
                    acknowledger.acknowledge(surb);
                }
            })
        };
        let metrics = Arc::clone(&self.metrics);
        let mailboxes = Mailboxes::open(&self.state.join("mailboxes.redb"), Limits::default(), metrics, stored)?;
        Ok(Arc::new(Edge::new(mailboxes, sessions, Arc::clone(&self.metrics))))
    }

    fn start_uplink(&self, descriptor: watch::Receiver<Described>, owed: watch::Sender<Vec<OwedProof>>) -> Directory {
        Uplink {
            owed,
            refusal: self.refusal.clone(),
            time: self.time.clone(),
            bootstrap: self.config.bootstrap.clone(),
            authority: self.net.authority.clone(),
            token: self.token.clone(),
            dialer: self.dialer.clone(),
            descriptor,
            consensuses: self.consensuses.clone(),
            cache: ConsensusFile::new(self.state.join("consensus.json")),
            metrics: Arc::clone(&self.metrics),
        }
        .start()
    }
}
