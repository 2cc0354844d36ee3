//! What a client asks of the directory: to list it as a worker, and who else is one.

use std::sync::MutexGuard;
use std::time::Duration;

use betanet_mix::view::{Verified, WorkerDescriptor, WorkerId, WorkerLimits};

use super::error::ClientError;
use super::offline::Offline;
use super::{Client, EDGE_PATIENCE};
use crate::control::{ControlError, Op, Outcome};
use crate::sync::lock;

/// What a worker says about itself; the client adds its address, its level, its key and the times.
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
    /// What else one task may have; `None` says nothing of it.
    pub limits: Option<WorkerLimits>,
    /// Groups that it serves.
    pub groups: Vec<String>,
    /// How long the offer holds.
    pub lifetime: Duration,
}

impl Client {
    /// Publishes this client as a worker; returns the descriptor as it was published.
    ///
    /// # Errors
    /// The offer breaks a rule, or the directory does not take it.
    pub async fn publish_worker(&self, offer: WorkerOffer) -> Result<WorkerDescriptor, ClientError> {
        let issued_ms = self.links.now_ms();
        let lifetime_ms = u64::try_from(offer.lifetime.as_millis()).unwrap_or(u64::MAX);
        let descriptor = WorkerDescriptor {
            id: WorkerId(self.worker_key.verifying_key().to_bytes()),
            name: offer.name,
            kinds: offer.kinds,
            slots: offer.slots,
            memory_bytes: offer.memory_bytes,
            limits: offer.limits,
            groups: offer.groups,
            address: self.address(),
            level: self.level,
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
            Outcome::Workers { list: Some(list) } => self.links.take_workers(&list, self.authority).map(Some),
            Outcome::Workers { list: None } if have.is_some() => Ok(None),
            _ => Err(ControlError::Unexpected),
        };
        let list = self.directory(|| Op::GetWorkers { have }, take).await?;
        let now = self.links.now_ms();
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
        self.links.call(op, take).await.map_err(|error| match self.cut_off() {
            Some(offline @ Offline::Edges { .. }) => ClientError::Offline(offline),
            _ => error.into(),
        })
    }

    fn known_workers(&self) -> MutexGuard<'_, Option<(u64, Vec<WorkerDescriptor>)>> {
        lock(&self.workers)
    }
}
