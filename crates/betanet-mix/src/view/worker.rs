//! What a worker offers, and the list of all workers.

use betanet_sphinx::{MAX_HOPS, NodeId};
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::hexes;
use super::node::NodeDescriptor;
use super::signed::{Document, DocumentError, Signed, Verified};
use crate::epoch::Epoch;
use crate::text::is_short;

const MAX_WORKERS: usize = 4096;
const MAX_LABELS: usize = 32;
/// Every reader of JSON has integers up to here.
const MAX_LIMIT: u64 = (1 << 53) - 1;

/// A worker's Ed25519 key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(#[serde(with = "hexes::array")] pub [u8; 32]);

/// What a worker gives one task at most, besides memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerLimits {
    /// Time that it may run, in milliseconds.
    pub wall_ms: u64,
    /// What its working directory may hold, in bytes.
    pub scratch_bytes: u64,
    /// Its output, its errors, and its files that come back: each of the three, in bytes.
    pub output_bytes: u64,
}

/// A worker's description of itself, signed by its own key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerDescriptor {
    /// The key that signs the descriptor.
    pub id: WorkerId,
    /// A name for people.
    pub name: String,
    /// Kinds of task that it runs.
    pub kinds: Vec<String>,
    /// Tasks that it runs at a time.
    pub slots: u32,
    /// Memory that it lends, in bytes.
    pub memory_bytes: u64,
    /// What else one task may have; `None` where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<WorkerLimits>,
    /// Groups that it serves.
    pub groups: Vec<String>,
    /// Where it is reached.
    pub address: Address,
    /// The number of hops of all that it takes and answers there; `None` if it takes every number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// When it was written, Unix milliseconds.
    pub issued_ms: u64,
    /// Until when it holds, Unix milliseconds.
    pub expires_ms: u64,
}

impl WorkerLimits {
    fn hold(self) -> bool {
        self.wall_ms > 0
            && [self.wall_ms, self.scratch_bytes, self.output_bytes].iter().all(|limit| *limit <= MAX_LIMIT)
    }
}

impl Document for WorkerDescriptor {
    const DOMAIN: &'static str = "betanet worker descriptor v1";
    const MAX_BYTES: usize = 8192;

    fn check(&self) -> Result<(), &'static str> {
        let labels_ok = |labels: &[String]| {
            labels.len() <= MAX_LABELS && labels.iter().all(|label| !label.is_empty() && is_short(label, 64))
        };
        if self.name.is_empty() || !is_short(&self.name, 64) {
            return Err("a worker's name is 1 to 64 printable characters");
        }
        if self.kinds.is_empty() || !labels_ok(&self.kinds) || !labels_ok(&self.groups) {
            return Err("a worker lists 1 to 32 kinds and up to 32 groups, each 1 to 64 printable characters");
        }
        if self.level.is_some_and(|hops| hops == 0 || usize::from(hops) > MAX_HOPS) {
            return Err("a worker's level is a number of hops");
        }
        if self.limits.is_some_and(|limits| !limits.hold()) {
            return Err("a worker's limits are numbers below 2^53, and of time there is some");
        }
        if self.slots == 0 {
            return Err("a worker has at least one slot");
        }
        if self.issued_ms >= self.expires_ms {
            return Err("a descriptor is issued before it expires");
        }
        Ok(())
    }
}

impl Signed {
    /// Verifies a worker descriptor against the key that it names.
    ///
    /// # Errors
    /// [`DocumentError`] with the first thing that does not hold.
    pub fn verify_worker(&self) -> Result<Verified<WorkerDescriptor>, DocumentError> {
        self.verify_issuer(|worker: &WorkerDescriptor| NodeId::from(worker.id.0))
    }

    /// Verifies a node descriptor against the identity key that it names.
    ///
    /// # Errors
    /// [`DocumentError`] with the first thing that does not hold.
    pub fn verify_node(&self) -> Result<Verified<NodeDescriptor>, DocumentError> {
        self.verify_issuer(|node: &NodeDescriptor| node.id)
    }
}

/// All workers of the network, signed by the directory authorities. Everybody downloads it whole, so asking tells nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerList {
    /// The epoch it was made in.
    pub epoch: Epoch,
    /// Counts the versions, across epochs.
    pub revision: u64,
    /// The workers' own signed descriptors.
    pub workers: Vec<Signed>,
}

impl WorkerList {
    /// The descriptors whose own signatures hold and that have not expired at `now_ms`; others are left out.
    #[must_use]
    pub fn verified(&self, now_ms: u64) -> Vec<Verified<WorkerDescriptor>> {
        self.workers
            .iter()
            .filter_map(|signed| signed.verify_worker().ok())
            .filter(|worker| worker.expires_ms > now_ms)
            .collect()
    }
}

impl Document for WorkerList {
    const DOMAIN: &'static str = "betanet worker list v1";
    const MAX_BYTES: usize = 16 * 1024 * 1024;

    fn check(&self) -> Result<(), &'static str> {
        if self.workers.len() > MAX_WORKERS {
            return Err("a worker list holds at most 4096 workers");
        }
        Ok(())
    }
}
