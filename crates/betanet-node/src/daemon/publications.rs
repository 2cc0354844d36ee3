//! What the clients of an edge may publish through it.

use std::sync::Mutex;

use betanet_mix::allowance::Asker;
use betanet_mix::directory::Publishers;
use betanet_mix::view::{Signed, WorkerDescriptor};

use crate::allowances::SharedAllowances;
use crate::sync::lock;

/// Worker descriptors that an address may publish in one go, and per second.
const PUBLICATIONS: (f64, f64) = (8.0, 1.0);

/// By whom, how often and for which workers.
#[derive(Debug)]
pub(super) struct Publications {
    left: SharedAllowances<Asker>,
    listed: Mutex<Publishers<Asker>>,
}

impl Default for Publications {
    fn default() -> Self {
        Self { left: SharedAllowances::new(PUBLICATIONS), listed: Mutex::default() }
    }
}

/// Why a descriptor is not passed on.
#[derive(Debug)]
pub(super) enum Unpublished {
    /// The party has published too much.
    TooMany(&'static str),
    /// The descriptor does not verify.
    Refused(String),
}

impl Publications {
    /// Whether a descriptor may go up to the authority. It is verified here, so that nothing goes up that the authority
    /// would close the link for.
    pub(super) fn check(&self, asker: Asker, worker: &Signed, now_ms: u64) -> Result<(), Unpublished> {
        if !self.left.take(asker) {
            return Err(Unpublished::TooMany("too many descriptors from one address; try again later"));
        }
        let worker = worker.verify_worker().map_err(|err| Unpublished::Refused(err.to_string()))?;
        let WorkerDescriptor { id, expires_ms, .. } = *worker.value();
        if lock(&self.listed).may_publish(asker, id, expires_ms, now_ms) {
            Ok(())
        } else {
            Err(Unpublished::TooMany("too many workers from one address; publish them through other edges"))
        }
    }
}
