//! The mix node daemon.
//!
//! ```text
//! inbound link ─┐                                               ┌─ egress ─ outbound link
//! inbound link ─┼─ ingress ─ unwrap threads ─ log ─ delay line ─┤
//! own acks ─────┘                                               └─ edge ─ mailboxes ─ client
//! ```
//!
//! Every queue on the way is bounded and drops with a counted reason when it is full.

pub mod delays;
pub mod directory;
pub mod edge;
pub mod egress;
pub mod epochs;
pub mod inbound;
pub mod keeper;
pub mod mailboxes;
pub mod metrics;
pub mod mixer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use betanet_mix::directory::{Consensuses, NetworkConstants, OwedProof};
use betanet_mix::epoch::EpochClock;
use betanet_mix::mailbox::Limits;
use betanet_mix::view::{DelayProof, DocumentError, LinkAddress, NodeDescriptor, Role, Verified, node_id_of};
use betanet_sphinx::NodeId;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;

use self::delays::Delays;
use self::directory::{Described, Directory, Uplink};
use self::edge::{Acknowledger, Edge, Sessions};
use self::egress::Egress;
use self::epochs::Epochs;
use self::inbound::Inbound;
use self::keeper::Keeper;
use self::mailboxes::{Mailboxes, StoreError};
use self::metrics::{Exporter, Metrics};
use self::mixer::{Ingress, MixerConfig, Released};
use crate::bind::{BindError, Purpose, announced, bind};
use crate::clock::{NetworkClock, boot_id};
use crate::control::{ControlChannel, ControlError, Op, Outcome};
use crate::http::{self, Response};
use crate::link::{Dialer, HandshakeError, LinkError, LinkTimeouts, Listener};
use crate::net::{Endpoint, NetFile, hex_id};
use crate::process::{http_places, shut_down};
use crate::rarely::Rarely;
use crate::state::{StateDir, StateError, note_trouble, read_json, write_json};
use crate::sync::lock;

/// File that tells others where the node is.
pub const RECORD_FILE: &str = "node.json";

/// How often health, gauges and keys are looked at.
const ROUND: Duration = Duration::from_millis(200);

/// How long a node that holds a consensus waits for the authority before it starts without it.
const CONSTANTS_PATIENCE: Duration = Duration::from_secs(3);

/// A clock that was set back by less goes on with its dates.
const SET_BACK_MS: u64 = 10_000;

/// How a node is run.
#[derive(Clone, Debug)]
pub struct DaemonConfig {
    /// State folder.
    pub dir: PathBuf,
    /// The bootstrap file.
    pub bootstrap: PathBuf,
    /// Part of a path that the node serves.
    pub role: Role,
    /// Who runs it.
    pub operator: String,
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
    /// The network's constants make no sense.
    #[error("the authority announces an unusable epoch length")]
    Constants,
    /// The own descriptor breaks a rule, for instance the operator's name.
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
    listener: Listener,
    record: NodeRecord,
    dialer: Dialer,
    metrics: Arc<Metrics>,
    views: watch::Sender<Arc<Consensuses>>,
    time: NetworkClock,
    /// The date of the last descriptor.
    issued_ms: AtomicU64,
}

impl Node {
    async fn open(config: DaemonConfig) -> Result<Self, DaemonError> {
        let state = StateDir::open(&config.dir)?;
        let key = state.signing_key("identity.key")?;
        let id = node_id_of(&key);
        let net = NetFile::wait_for(&config.bootstrap).await?;
        let former: Option<NodeRecord> = read_json(&state.join(RECORD_FILE), "node record").unwrap_or_default();
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
        let time = NetworkClock::open(&config.dir);
        let mut views = Consensuses::new(net.network.clone(), net.authority.id);
        directory::read_cache(&state.join("consensus.json"), &mut views, time.now_ms())?;
        let metrics = Arc::new(Metrics::new(config.exact_metrics));
        let views = watch::Sender::new(Arc::new(views));
        serve_http(http, &record, &metrics, views.subscribe(), time.clone());
        write_json(&state.join(RECORD_FILE), &record)?;
        Ok(Self {
            config,
            state,
            key,
            id,
            net,
            listener,
            record,
            dialer,
            metrics,
            views,
            time,
            issued_ms: AtomicU64::new(0),
        })
    }

    async fn run(self) -> Result<(), DaemonError> {
        let constants = self.constants().await;
        let clock =
            EpochClock::new(constants.epoch_length_ms, constants.skew_ms).map_err(|_| DaemonError::Constants)?;
        let seconds = usize::try_from(constants.epoch_length_ms.div_ceil(1000)).unwrap_or(1);
        let capacity = self.config.target_throughput.saturating_mul(seconds.saturating_mul(2));
        let epochs = Epochs::open(&self.state, &boot_id(), clock.epoch_at(self.time.now_ms()), capacity)?;
        let egress = Egress::new(self.time.clone(), Arc::clone(&self.metrics));
        let keeper = Keeper {
            epochs: Arc::new(Mutex::new(epochs)),
            delays: Arc::new(Mutex::new(Delays::open(&self.state)?)),
            clock,
            time: self.time.clone(),
        };
        let mut moves = self.time.moves();
        keeper.keep(Arc::clone(&self.views.borrow())).await;
        // The threads end with the last place where packets go in.
        let (ingress, edge) = self.start_mixer(&keeper, &egress)?;

        let mut proofs = revealed(&keeper);
        let descriptor = watch::Sender::new(self.describe(&keeper, &proofs, moves)?);
        let owed = watch::Sender::default();
        let mut asked = owed.subscribe();
        let directory = self.start_uplink(descriptor.subscribe(), owed);
        let inbound = Inbound {
            ingress,
            edge: edge.clone(),
            directory,
            views: self.views.subscribe(),
            time: self.time.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        tracing::info!(role = self.config.role.name(), "node.started");
        let Self { listener, dialer, views, id, metrics, time, .. } = &self;
        let mut seen = views.subscribe();
        egress.follow(*id, dialer, &seen);
        let housekeeping = async {
            let mut rounds = tokio::time::interval(ROUND);
            let mut trouble = None;
            loop {
                tokio::select! {
                    _ = rounds.tick() => {
                        let current = Arc::clone(&views.borrow());
                        // Read first: what is made from here on may still be made by this time.
                        let made_by = time.moves();
                        let kept = keeper.keep(current).await;
                        let revealed = revealed(&keeper);
                        if kept.keys_changed || revealed != proofs || moves != made_by {
                            (proofs, moves) = (revealed, made_by);
                            descriptor.send_replace(self.describe(&keeper, &proofs, moves)?);
                        }
                        note_trouble(&mut trouble, kept.trouble);
                        let (current, (entries, capacity)) = {
                            let epochs = lock(&keeper.epochs);
                            (epochs.current(), epochs.replay_load())
                        };
                        metrics.epoch.store(current.0, Ordering::Relaxed);
                        metrics.replay_entries.set(entries);
                        metrics.replay_capacity.set(capacity);
                        let store_failed = edge.as_ref().is_some_and(|edge| {
                            edge.update_levels();
                            edge.has_failed()
                        });
                        // Listed where it was before, it would be ready for nobody.
                        let listed = views.borrow().at(time.now_ms()).is_some_and(|view| {
                            view.node(*id).is_some_and(|node| *node.link_address() == self.record.link_address)
                        });
                        let mixes = lock(&keeper.delays).source(current).is_some() && trouble.is_none();
                        metrics.healthy.store(listed && mixes && !store_failed, Ordering::Relaxed);
                    }
                    changed = seen.changed() => {
                        if changed.is_err() {
                            return Ok(());
                        }
                        egress.follow(*id, dialer, &seen);
                        // A new consensus may say what is waited for.
                        rounds.reset_immediately();
                    }
                    changed = asked.changed() => {
                        if changed.is_err() {
                            return Ok(());
                        }
                        lock(&keeper.delays).owe(asked.borrow_and_update().clone());
                        rounds.reset_immediately();
                    }
                }
            }
        };
        let served = inbound.serve(listener);
        tokio::select! {
            ended = housekeeping => ended,
            () = served => Ok(()),
        }
    }

    /// The network's constants and its time: from the authority, which is asked until it answers, or
    /// but once where a consensus is held.
    async fn constants(&self) -> NetworkConstants {
        let held = self.views.borrow().newest().map(|view| {
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
                tracing::warn!(address = %authority.address, %error, "authority.away");
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

    fn start_mixer(&self, keeper: &Keeper, egress: &Egress) -> Result<(Ingress, Option<Arc<Edge>>), DaemonError> {
        // The edge acknowledges through the packet path and the path delivers to the edge; the
        // path's half is weak, so that both can end.
        let place: Arc<OnceLock<Weak<Edge>>> = Arc::default();
        let released = {
            let place = Arc::clone(&place);
            let egress = egress.clone();
            let metrics = Arc::clone(&self.metrics);
            move |released| {
                let edge = || {
                    let edge = place.get().and_then(Weak::upgrade);
                    if edge.is_none() {
                        metrics.drop_one("not_an_edge");
                    }
                    edge
                };
                match released {
                    Released::Forward { next, packet } => egress.send(next, packet),
                    Released::Deliver { mailbox, payload } => {
                        if let Some(edge) = edge() {
                            edge.deliver(mailbox, &payload);
                        }
                    }
                    Released::Reply { mailbox, surb_id, delta } => {
                        if let Some(edge) = edge() {
                            edge.deliver_reply(mailbox, surb_id, &delta);
                        }
                    }
                }
            }
        };
        let ingress = mixer::start(self.config.mixer, &keeper.epochs, &keeper.delays, &self.metrics, released)?;
        if !self.config.role.is_edge() {
            return Ok((ingress, None));
        }
        let sessions = Sessions::default();
        let acknowledger = Acknowledger {
            own: self.id,
            ingress: ingress.own(),
            egress: egress.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        let stored = {
            let sessions = sessions.clone();
            Box::new(move |mailbox, receipt| {
                sessions.wake(mailbox);
                if let Some(surb) = receipt {
                    acknowledger.acknowledge(surb);
                }
            })
        };
        let metrics = Arc::clone(&self.metrics);
        let mailboxes = Mailboxes::open(&self.state.join("mailboxes.redb"), Limits::default(), metrics, stored)?;
        let edge = Arc::new(Edge::new(mailboxes, sessions, Arc::clone(&self.metrics)));
        let _ = place.set(Arc::downgrade(&edge));
        Ok((ingress, Some(edge)))
    }

    fn start_uplink(&self, descriptor: watch::Receiver<Described>, owed: watch::Sender<Vec<OwedProof>>) -> Directory {
        Uplink {
            owed,
            time: self.time.clone(),
            bootstrap: self.config.bootstrap.clone(),
            authority: self.net.authority.clone(),
            dialer: self.dialer.clone(),
            descriptor,
            views: self.views.clone(),
            cache: self.state.join("consensus.json"),
            metrics: Arc::clone(&self.metrics),
        }
        .start()
    }

    /// The descriptor to publish; none while no key is on disk.
    fn describe(&self, keeper: &Keeper, proofs: &[DelayProof], moves: u64) -> Result<Described, DocumentError> {
        let (keys, current) = {
            let epochs = lock(&keeper.epochs);
            (epochs.public_keys(), epochs.current())
        };
        if keys.is_empty() {
            return Ok(Described { signed: None, moves });
        }
        // The later of two has the later date, also where the clock was set back by a moment meanwhile.
        let now_ms = self.time.now_ms();
        let after_last_ms = self.issued_ms.load(Ordering::Relaxed) + 1;
        let issued_ms =
            if after_last_ms.saturating_sub(now_ms) < SET_BACK_MS { now_ms.max(after_last_ms) } else { now_ms };
        self.issued_ms.store(issued_ms, Ordering::Relaxed);
        let descriptor = NodeDescriptor {
            id: self.id,
            role: self.config.role,
            link_address: self.record.link_address.clone(),
            keys,
            vrf_key: lock(&keeper.delays).public_key(),
            delay_proofs: proofs.to_vec(),
            operator: self.config.operator.clone(),
            issued_ms,
            // The last published key stops being accepted two epochs after this one.
            expires_ms: keeper.clock.start_of(current.next().next().next()),
        };
        Ok(Described { signed: Some(Verified::sign(descriptor, &self.key)?.signed().clone()), moves })
    }
}

/// The proofs that may be told now.
fn revealed(keeper: &Keeper) -> Vec<DelayProof> {
    let current = lock(&keeper.epochs).current();
    lock(&keeper.delays).revealed(current, &keeper.clock, keeper.time.now_ms(), Instant::now())
}

fn serve_http(
    listener: tokio::net::TcpListener,
    record: &NodeRecord,
    metrics: &Arc<Metrics>,
    views: watch::Receiver<Arc<Consensuses>>,
    time: NetworkClock,
) {
    let exporter = Exporter::new(metrics);
    let metrics = Arc::clone(metrics);
    let record = record.clone();
    let started = Instant::now();
    let crowded = {
        let metrics = Arc::clone(&metrics);
        move || metrics.drop_one("http_crowded")
    };
    let answer = move |path: &str| match path {
        "/health" => {
            let healthy = metrics.healthy.load(Ordering::Relaxed);
            let views = views.borrow();
            let now_ms = time.now_ms();
            let consensus = views.at(now_ms).map(|view| view.consensus());
            let body = serde_json::json!({
                "status": if healthy { "ok" } else { "not_ready" },
                "id": record.id.to_string(),
                "role": record.role.name(),
                "epoch": consensus.map(|consensus| consensus.epoch.0),
                "revision": consensus.map(|consensus| consensus.revision),
                "nodes": consensus.map(|consensus| consensus.nodes.len()),
                "trouble": views.complaint(now_ms),
                "uptime_seconds": started.elapsed().as_secs(),
                "version": env!("CARGO_PKG_VERSION"),
            });
            Some(Response::json(if healthy { 200 } else { 503 }, &body))
        }
        "/metrics" => Some(Response {
            status: 200,
            content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
            body: exporter.render(Instant::now()),
        }),
        _ => None,
    };
    tokio::spawn(http::serve(listener, http_places(), answer, crowded));
}
