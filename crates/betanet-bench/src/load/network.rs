//! An authority and one node, as programs of their own, and members around them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use betanet_mix::epoch::EpochClock;
use betanet_node::authority::{self, AuthorityRecord};
use betanet_node::daemon::{self, NodeRecord};
use betanet_node::http;
use betanet_node::net::{Endpoint, NetFile};
use serde::de::DeserializeOwned;

use super::{Maker, Members, Tags};
use crate::child::{Child, wait_for};
use crate::{Failure, fresh_rng, now_ms};

/// Epoch lengths to choose from: that whose next boundary is farthest away is taken, so that none comes while it counts.
const EPOCHS_S: [u64; 3] = [600, 660, 780];

/// The same for a node that takes long: so that 10^7 packets fit.
const LONG_EPOCHS_S: [u64; 3] = [3600, 3900, 4500];

/// How the network is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program.
    pub betanet: PathBuf,
    /// The processor that the node has for itself.
    pub processor: usize,
    /// Threads of the node that unwrap.
    pub workers: u16,
    /// Nodes around it.
    pub members: usize,
    /// Variables for the node alone.
    pub variables: Vec<(&'static str, String)>,
    /// What the node remembers when it starts. Its epochs are long then, so that it goes through no other.
    pub tags: Option<Tags>,
}

/// How the node is started.
#[derive(Debug)]
struct Program {
    betanet: PathBuf,
    processor: usize,
    arguments: Vec<OsString>,
    variables: Vec<(&'static str, String)>,
    record: PathBuf,
}

impl Program {
    async fn start(&self) -> Result<(Child, NodeRecord), Failure> {
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let arguments: Vec<_> = self.arguments.iter().map(OsString::as_os_str).collect();
        let node = Child::start(&self.betanet, Some(self.processor), &arguments, &variables)?;
        let pid = node.pid();
        let record = wait_for("the node", async || read(&self.record).filter(|it: &NodeRecord| it.pid == pid)).await?;
        Ok((node, record))
    }
}

async fn until_ready(record: &NodeRecord) -> Result<(), Failure> {
    let ask = async || http::get(record.http_address, "/health").await.ok().filter(|(status, _)| *status == 200);
    wait_for("the node to be ready", ask).await.map(drop)
}

/// A node that is ready for packets.
#[derive(Debug)]
pub struct Network {
    /// The other nodes, with their links to it.
    pub members: Members,
    node: Child,
    program: Program,
    record: NodeRecord,
    folder: PathBuf,
    clock: EpochClock,
    /// How long the node took until it was ready, with all that it remembers.
    pub node_start: Duration,
    _authority: Child,
}

impl Network {
    /// Starts everything in the empty folder `dir` and waits until the node takes packets.
    ///
    /// # Errors
    /// Something does not start or does not answer.
    pub async fn start(dir: &Path, settings: &Settings) -> Result<Self, Failure> {
        let mut rng = fresh_rng()?;
        let mut members = Members::start(&mut rng, settings.members).await?;
        let epochs = if settings.tags.is_some() { LONG_EPOCHS_S } else { EPOCHS_S };
        let length_s = epochs.into_iter().max_by_key(|length| length - now_ms() / 1000 % length).unwrap_or(600);
        let length = format!("{length_s}s");
        let expect = (settings.members + 1).to_string();
        let authority_dir = dir.join("authority");
        let arguments =
            ["authority", "run", "--network", "load", "--one-operator", "--die-with-parent", "--expect", &expect]
                .into_iter()
                .chain(["--epoch", &length, "--dir"])
                .map(OsStr::new)
                .chain([authority_dir.as_os_str()]);
        let authority = Child::start(&settings.betanet, None, &arguments.collect::<Vec<_>>(), &[])?;
        let pid = authority.pid();
        let record_file = authority_dir.join(authority::RECORD_FILE);
        let record: AuthorityRecord =
            wait_for("the authority", async || read(&record_file).filter(|it: &AuthorityRecord| it.pid == pid)).await?;
        let endpoint = Endpoint { id: record.id, address: record.address };
        let bootstrap = dir.join("net.json");
        let net = NetFile {
            network: record.network,
            authority: endpoint.clone(),
            edges: Vec::new(),
            one_operator: true,
            http: BTreeMap::new(),
        };
        std::fs::write(&bootstrap, serde_json::to_vec(&net)?)?;

        let folder = dir.join("node");
        let clock = EpochClock::new(length_s * 1000, length_s * 100)?;
        let tags = settings.tags.unwrap_or_default();
        if settings.tags.is_some() {
            tags.write(&folder, clock.epoch_at(now_ms()), &mut rng)?;
        }
        let (workers, target) = (settings.workers.to_string(), tags.target_throughput(length_s).to_string());
        let arguments = ["node", "--http-port", "0", "--link-port", "0", "--exact-metrics"]
            .into_iter()
            .chain(["--die-with-parent", "--workers", &workers, "--bootstrap"])
            .map(OsStr::new)
            .chain([bootstrap.as_os_str(), OsStr::new("--dir"), folder.as_os_str()]);
        let mut arguments: Vec<_> = arguments.map(OsStr::to_owned).collect();
        if settings.tags.is_some() {
            arguments.extend(["--target-throughput", &target].map(OsString::from));
        }
        let program = Program {
            betanet: settings.betanet.clone(),
            processor: settings.processor,
            arguments,
            variables: settings.variables.clone(),
            record: folder.join(daemon::RECORD_FILE),
        };
        let started = Instant::now();
        let (node, record) = program.start().await?;

        members.publish(&endpoint, &clock, now_ms()).await?;
        until_ready(&record).await?;
        let node_start = started.elapsed();
        members.connect(record.id, &record.link_address).await?;
        Ok(Self { members, node, record, folder, clock, node_start, program, _authority: authority })
    }

    /// Kills the node where it stands, starts it again and links the members to it.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn kill_node(&mut self) -> Result<(), Failure> {
        self.node.kill();
        self.start_node_again().await
    }

    /// The same, while somebody sets its replay logs back to half of what they were.
    ///
    /// # Errors
    /// They cannot be written, or it does not come back.
    pub async fn set_node_back(&mut self) -> Result<(), Failure> {
        self.node.kill();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = File::options().write(true).open(path)?;
                log.set_len(log.metadata()?.len() / 2)?;
            }
        }
        self.start_node_again().await
    }

    async fn start_node_again(&mut self) -> Result<(), Failure> {
        (self.node, self.record) = self.program.start().await?;
        until_ready(&self.record).await?;
        self.members.connect(self.record.id, &self.record.link_address).await
    }

    /// A maker of packets for the node.
    ///
    /// # Errors
    /// The node's files are not what they were when this was written.
    pub fn maker(&self) -> Result<Maker, Failure> {
        let rng = fresh_rng()?;
        Maker::new(rng, &self.folder, self.record.id, self.clock.epoch_at(now_ms()), self.members.hops())
    }

    /// The node's process id.
    #[must_use]
    pub fn node_pid(&self) -> u32 {
        self.node.pid()
    }

    /// What the node has dropped so far, by reason.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn drops(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let (_, page) = http::get(self.record.http_address, "/metrics").await?;
        let lines = page.lines().filter_map(|line| line.strip_prefix("betanet_packets_dropped_total{reason=\""));
        let read = |line: &str| {
            let (reason, count) = line.split_once("\"} ")?;
            Some((reason.to_owned(), count.trim().parse().ok()?))
        };
        Ok(lines.filter_map(read).filter(|(_, count)| *count > 0).collect())
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
