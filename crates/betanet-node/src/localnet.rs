//! A whole network on one machine: an authority and its nodes as processes of this program.
//!
//! The owner spawns the same binary that production runs, with the same settings, on loopback
//! ports that are kept over restarts. Its children die with it; a child that dies comes back.
//! Where links listen for other machines, nodes need a token: these have one that lies in the net's folder.

mod child;
mod needs;
mod status;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use betanet_mix::view::Role;
use rustix::process::{Pid, WaitOptions, waitpid};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::child::{Child, Spec, last_words};
use self::status::health;
pub use self::status::{Health, LocalnetState, NodeStatus, STATE_FILE, status};
use crate::authority::{self, AuthorityRecord};
use crate::bounded::{FILE_LIMIT, read_at_most};
use crate::daemon::{self, NodeRecord};
use crate::net::{Endpoint, NET_FILE, NetFile};
use crate::process::shut_down;
use crate::state::{StateDir, StateError, note_trouble, read_json, shell_word, write_json, write_private_json};

/// Pause between two looks at children that start.
const POLL: Duration = Duration::from_millis(20);

/// How often addresses and process ids are looked at while the net runs.
const WATCH: Duration = Duration::from_millis(250);

/// Deaths of one process, before the net is up, after which there is no hope.
const HOPELESS: u32 = 3;

/// How long the net may take to come up.
const START_PATIENCE: Duration = Duration::from_mins(1);

/// The authority's name among the processes, and its folder.
const AUTHORITY: &str = "authority";

/// The token of the net's own nodes, where one is needed.
const TOKEN_FILE: &str = "nodes.token";

/// What the token says: as many nodes as a net can have, for as long as anybody may want to add some.
const TOKEN_USES: u32 = 1024;
const TOKEN_LASTS: Duration = Duration::from_hours(24 * 365 * 20);

/// How a local network is run.
#[derive(Clone, Debug)]
pub struct LocalnetConfig {
    /// Folder of the network.
    pub dir: PathBuf,
    /// The program to run for each process: this one.
    pub program: PathBuf,
    /// Entry nodes.
    pub entry: usize,
    /// Middle nodes.
    pub middle: usize,
    /// Exit nodes.
    pub exit: usize,
    /// Where all processes listen.
    pub ip: IpAddr,
    /// Where links listen instead, for clients on other machines.
    pub listen: Option<IpAddr>,
    /// Epoch length, as an argument (`600s`); as the authority has it, if not given.
    pub epoch: Option<String>,
    /// Mean delay per hop, as an argument (`15ms`); as the authority has it, if not given.
    pub mean_delay: Option<String>,
    /// Exact counters.
    pub exact_metrics: bool,
    /// Logs of all processes as JSON lines.
    pub json_logs: bool,
}

impl LocalnetConfig {
    /// Where links listen.
    fn links(&self) -> IpAddr {
        self.listen.unwrap_or(self.ip)
    }
}

/// Why a local network does not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LocalnetError {
    /// The folder or a file in it.
    #[error(transparent)]
    State(#[from] StateError),
    /// Not enough nodes to be a network.
    #[error("a network needs at least one entry or exit node")]
    TooSmall,
    /// The machine or the folder is not as it must be.
    #[error("{0}")]
    Missing(String),
    /// A process cannot be started.
    #[error("cannot start {name}: {source}")]
    Spawn {
        /// Which.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It dies as often as it is started.
    #[error("{name} does not stay up: {reason}")]
    Dies {
        /// Which.
        name: String,
        /// The last line of its log.
        reason: String,
    },
    /// It did not come up.
    #[error("{waiting_for} did not come up within {after:?}; see the logs in {logs}")]
    Timeout {
        /// What was missing.
        waiting_for: String,
        /// After how long.
        after: Duration,
        /// Where to look.
        logs: PathBuf,
    },
    /// Whoever should hear how far it is does not.
    #[error("cannot write to standard output: {0}; the network was stopped")]
    Unheard(#[source] std::io::Error),
    /// Nothing runs in this folder.
    #[error("no local network runs in {}; start one with: betanet localnet run --dir {}", .0.display(), shell_word(.0))]
    NotRunning(PathBuf),
}

/// Tells how far a network is.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LocalnetEvent {
    /// It can be used.
    Ready {
        /// The bootstrap file for clients; in JSON, what is no text in its name is shown as such.
        #[serde(serialize_with = "shown")]
        net: PathBuf,
        /// Nodes.
        nodes: usize,
        /// Seconds from start to now.
        seconds: f64,
        /// What everybody should know.
        notice: &'static str,
    },
    /// It is being stopped.
    Stopping,
}

fn shown<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Runs a network until `shutdown` is given; `tell` hears of its stages.
///
/// Call it on a single-threaded runtime on the main thread: the kernel kills children when the
/// *thread* that started them ends.
///
/// # Errors
/// It cannot start; the message is one line that names the cause.
pub async fn run(
    config: LocalnetConfig,
    shutdown: watch::Receiver<bool>,
    mut tell: impl FnMut(&LocalnetEvent) -> std::io::Result<()>,
) -> Result<(), LocalnetError> {
    let started = Instant::now();
    if config.entry + config.exit == 0 {
        return Err(LocalnetError::TooSmall);
    }
    let nodes = names(&config);
    let processes: Vec<_> = [AUTHORITY].into_iter().chain(nodes.iter().map(|(name, _)| &**name)).collect();
    let missing = needs::missing(&config, &processes);
    if !missing.is_empty() {
        return Err(LocalnetError::Missing(missing.join("; ")));
    }
    let state = StateDir::open(&config.dir)?;
    std::fs::create_dir_all(config.dir.join("logs")).map_err(|source| StateError::Io {
        action: "create",
        path: config.dir.join("logs"),
        source,
    })?;
    let mut net = Localnet::new(config, state, nodes);
    let outcome = tokio::select! {
        ran = net.bring_up_and_watch(started, &mut tell) => ran,
        () = shut_down(shutdown) => Ok(()),
    };
    let told = match outcome {
        Ok(()) => tell(&LocalnetEvent::Stopping).map_err(LocalnetError::Unheard),
        failed => failed,
    };
    net.stop().await;
    told
}

/// The nodes of a network, by name.
fn names(config: &LocalnetConfig) -> Vec<(String, Role)> {
    let named = |role: Role, count: usize| (0..count).map(move |number| (format!("{}-{number}", role.name()), role));
    named(Role::Entry, config.entry)
        .chain(named(Role::Middle, config.middle))
        .chain(named(Role::Exit, config.exit))
        .collect()
}

struct Localnet {
    config: LocalnetConfig,
    _state: StateDir,
    nodes: Vec<(String, Role)>,
    stop: watch::Sender<bool>,
    children: JoinSet<()>,
    pids: BTreeMap<String, watch::Receiver<Option<u32>>>,
    deaths: BTreeMap<String, Arc<AtomicU32>>,
}

impl Localnet {
    fn new(config: LocalnetConfig, state: StateDir, nodes: Vec<(String, Role)>) -> Self {
        Self {
            config,
            _state: state,
            nodes,
            stop: watch::Sender::new(false),
            children: JoinSet::new(),
            pids: BTreeMap::new(),
            deaths: BTreeMap::new(),
        }
    }

    async fn bring_up_and_watch(
        &mut self,
        started: Instant,
        tell: &mut impl FnMut(&LocalnetEvent) -> std::io::Result<()>,
    ) -> Result<(), LocalnetError> {
        self.spawn(AUTHORITY.to_owned(), self.authority_arguments())?;
        let deadline = started + START_PATIENCE;
        while self.authority().is_none() {
            self.rest("the authority", started, deadline).await?;
        }
        self.write_net()?;
        self.write_token()?;
        for (name, role) in self.nodes.clone() {
            let arguments = self.node_arguments(&name, role);
            self.spawn(name, arguments)?;
        }
        while !self.is_ready().await {
            self.rest("the nodes", started, deadline).await?;
        }
        self.write_net()?;
        let mut trouble = None;
        note_trouble(&mut trouble, complaint(self.write_state()));
        tell(&LocalnetEvent::Ready {
            net: self.config.dir.join(NET_FILE),
            nodes: self.nodes.len(),
            seconds: started.elapsed().as_secs_f64(),
            notice: "one operator: no anonymity",
        })
        .map_err(LocalnetError::Unheard)?;
        loop {
            tokio::time::sleep(WATCH).await;
            self.reap_strangers();
            // The processes run whether or not it can be written where.
            note_trouble(&mut trouble, complaint(self.write_net().and(self.write_state())));
        }
    }

    async fn rest(&self, waiting_for: &str, started: Instant, deadline: Instant) -> Result<(), LocalnetError> {
        for (name, deaths) in &self.deaths {
            if deaths.load(Ordering::Relaxed) >= HOPELESS {
                let log = self.config.dir.join("logs").join(format!("{name}.log"));
                return Err(LocalnetError::Dies { name: name.clone(), reason: last_words(&log) });
            }
        }
        if Instant::now() > deadline {
            return Err(LocalnetError::Timeout {
                waiting_for: waiting_for.to_owned(),
                after: started.elapsed(),
                logs: self.config.dir.join("logs"),
            });
        }
        tokio::time::sleep(POLL).await;
        Ok(())
    }

    fn spawn(&mut self, name: String, arguments: Vec<OsString>) -> Result<(), LocalnetError> {
        let spec = Spec {
            program: self.config.program.clone(),
            arguments,
            log: self.config.dir.join("logs").join(format!("{name}.log")),
        };
        let child = Child::start(spec).map_err(|source| LocalnetError::Spawn { name: name.clone(), source })?;
        self.pids.insert(name.clone(), child.pid());
        self.deaths.insert(name.clone(), child.deaths());
        self.children.spawn(child.supervise(name, self.stop.subscribe()));
        Ok(())
    }

    fn authority_arguments(&self) -> Vec<OsString> {
        let mut arguments = Arguments::new("authority");
        arguments.flag("run");
        arguments
            .pair("--dir", self.config.dir.join(AUTHORITY))
            .pair("--name", AUTHORITY)
            .pair("--network", "local")
            .pair("--expect", self.nodes.len().to_string())
            .pair("--listen", SocketAddr::new(self.config.links(), 0).to_string())
            .pair("--http-ip", self.config.ip.to_string())
            .pair("--http-port", "0")
            .flag("--one-operator")
            .flag("--die-with-parent");
        if self.config.json_logs {
            arguments.flag("--json-logs");
        }
        for (name, value) in [("--epoch", &self.config.epoch), ("--mean-delay", &self.config.mean_delay)] {
            if let Some(value) = value {
                arguments.pair(name, value);
            }
        }
        arguments.0
    }

    fn node_arguments(&self, name: &str, role: Role) -> Vec<OsString> {
        let mut arguments = Arguments::new("node");
        arguments
            .pair("--dir", self.config.dir.join(name))
            .pair("--name", name)
            .pair("--bootstrap", self.config.dir.join(NET_FILE))
            .pair("--role", role.name())
            .pair("--listen", SocketAddr::new(self.config.links(), 0).to_string())
            .pair("--http-ip", self.config.ip.to_string())
            .pair("--http-port", "0")
            // Ten nodes share this machine's processors.
            .pair("--workers", "1")
            .flag("--die-with-parent");
        if self.config.exact_metrics {
            arguments.flag("--exact-metrics");
        }
        if self.config.json_logs {
            arguments.flag("--json-logs");
        }
        if self.config.listen.is_some() {
            arguments.pair("--token", self.config.dir.join(TOKEN_FILE));
        }
        arguments.0
    }

    /// Makes the token of the net's own nodes, once and if they need one.
    fn write_token(&self) -> Result<(), LocalnetError> {
        let path = self.config.dir.join(TOKEN_FILE);
        if self.config.listen.is_none() || path.exists() {
            return Ok(());
        }
        let roles = vec![Role::Entry, Role::Middle, Role::Exit];
        let dir = self.config.dir.join(AUTHORITY);
        let token = authority::issue_token(&dir, "local".to_owned(), roles, TOKEN_USES, TOKEN_LASTS)
            .map_err(|err| LocalnetError::Missing(err.to_string()))?;
        Ok(write_private_json(&path, &token)?)
    }

    /// The authority's record, once the running process has written it.
    fn authority(&self) -> Option<AuthorityRecord> {
        let path = self.config.dir.join(AUTHORITY).join(authority::RECORD_FILE);
        let record: AuthorityRecord = read_json(&path, "authority record").ok()??;
        (self.pid(AUTHORITY) == Some(record.pid)).then_some(record)
    }

    /// A node's record, once the running process has written it.
    fn node(&self, name: &str) -> Option<NodeRecord> {
        let record = read_node(&self.config.dir, name)?;
        (self.pid(name) == Some(record.pid)).then_some(record)
    }

    fn pid(&self, name: &str) -> Option<u32> {
        *self.pids.get(name)?.borrow()
    }

    /// Whether every node answers and holds a consensus with all nodes.
    async fn is_ready(&self) -> bool {
        for (name, _) in &self.nodes {
            let Some(record) = self.node(name) else {
                return false;
            };
            match health(record.http_address).await {
                Some(health) if health.healthy && health.nodes == Some(self.nodes.len()) => {}
                _ => return false,
            }
        }
        true
    }

    /// Writes the bootstrap file if something in it has changed.
    fn write_net(&self) -> Result<(), LocalnetError> {
        let path = self.config.dir.join(NET_FILE);
        let former = NetFile::read_again(&path).ok();
        let Some(authority) = self.authority() else {
            return Ok(());
        };
        let mut net = NetFile {
            network: authority.network,
            authority: Endpoint { id: authority.id, address: authority.address },
            edges: Vec::new(),
            one_operator: true,
            http: BTreeMap::new(),
        };
        for (name, role) in &self.nodes {
            // A node that is just restarting keeps its former place, unless the whole net has moved.
            let former =
                || read_node(&self.config.dir, name).filter(|former| former.listens.ip() == self.config.links());
            let Some(record) = self.node(name).or_else(former) else {
                continue;
            };
            if role.is_edge() {
                net.edges.push(Endpoint { id: record.id, address: record.link_address });
            }
            net.http.insert(name.clone(), record.http_address);
        }
        if former.as_ref() != Some(&net) {
            write_json(&path, &net)?;
        }
        Ok(())
    }

    fn write_state(&self) -> Result<(), LocalnetError> {
        let state = LocalnetState {
            pid: std::process::id(),
            children: self.pids.keys().filter_map(|name| Some((name.clone(), self.pid(name)?))).collect(),
        };
        let path = self.config.dir.join(STATE_FILE);
        let former: Option<LocalnetState> = read_json(&path, "net state").unwrap_or_default();
        if former.as_ref() != Some(&state) {
            write_json(&path, &state)?;
        }
        Ok(())
    }

    /// Takes note of the end of processes that are ours without having been started here: those that the first
    /// process of a container inherits, or whoever took over another program's process.
    fn reap_strangers(&self) {
        // They are the main thread's, on which this runs. A kernel that keeps no such list has no better one.
        let children = File::open("/proc/thread-self/children").and_then(|list| read_at_most(list, FILE_LIMIT));
        let children = children.unwrap_or_default();
        for pid in String::from_utf8_lossy(&children).split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // The end of what was started here is for whoever supervises it.
            if !self.pids.values().any(|known| *known.borrow() == Some(pid))
                && let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
            {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
    }

    async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.children.join_next().await.is_some() {}
        // Nothing runs any more; a file that stays would only name dead processes.
        let _ = std::fs::remove_file(self.config.dir.join(STATE_FILE));
    }
}

/// What a process is started with. Paths go through as they are, whatever bytes they have.
struct Arguments(Vec<OsString>);

impl Arguments {
    fn new(command: &str) -> Self {
        Self(vec![command.into()])
    }

    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }

    fn pair(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.extend([name.into(), value.into()]);
        self
    }
}

fn complaint(written: Result<(), LocalnetError>) -> Option<String> {
    written.err().map(|err| err.to_string())
}

fn read_node(dir: &Path, name: &str) -> Option<NodeRecord> {
    read_json(&dir.join(name).join(daemon::RECORD_FILE), "node record").ok()?
}
