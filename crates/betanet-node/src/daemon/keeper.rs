//! What must be on disk in time: the next packet keys and the seeds of their delays.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use betanet_mix::directory::Consensuses;
use betanet_mix::epoch::{Epoch, EpochClock};

use super::delays::Delays;
use super::packet_keys::{PacketKeys, Renewal};
use crate::clock::{NetworkClock, boot_id};
use crate::state::StateError;
use crate::sync::lock;

/// Keeps keys and delays up to date. Clones share them.
#[derive(Clone, Debug)]
pub struct Keeper {
    /// Keys and replay memory.
    pub packet_keys: Arc<PacketKeys>,
    /// Delays and proofs.
    pub delays: Arc<Mutex<Delays>>,
    /// When an epoch begins.
    pub clock: EpochClock,
    /// The time.
    pub time: NetworkClock,
}

/// What a round has brought.
#[derive(Debug, Default)]
pub struct Kept {
    /// The keys to publish are others than before.
    pub keys_changed: bool,
    /// Why something is not on disk; the next round tries again.
    pub trouble: Option<String>,
}

impl Keeper {
    /// One round, on a thread where it may wait for the disk. One at a time.
    pub async fn keep(&self, consensuses: Arc<Consensuses>) -> Kept {
        let keeper = self.clone();
        let round =
            tokio::task::spawn_blocking(move || keeper.round(&consensuses, keeper.time.now_ms(), Instant::now()));
        round.await.unwrap_or_else(|err| Kept { keys_changed: false, trouble: Some(err.to_string()) })
    }

    /// What [`Keeper::keep`] does, at the time `now_ms` of the network and `now` of the timers.
    pub(crate) fn round(&self, consensuses: &Consensuses, now_ms: u64, now: Instant) -> Kept {
        let (keys_changed, rotated) = self.rotate(self.clock.epoch_at(now_ms), now);
        let fixed = self.fix_delays(consensuses, now_ms);
        // Tags that the disk refused wait for the next packet, or for this.
        let logged = self.packet_keys.write_logs().map_err(|err| format!("cannot write the replay log: {err}"));
        let trouble = rotated.and(fixed).map_err(|err| err.to_string()).and(logged).err();
        Kept { keys_changed, trouble }
    }

    /// Gives up old keys at once, makes new ones, and says whether the keys changed.
    fn rotate(&self, epoch: Epoch, now: Instant) -> (bool, Result<(), StateError>) {
        if self.time.was_set_back() {
            // What passed in the time that is gone would pass once more. The epochs go on, and so do their delays.
            tracing::warn!("keys.forgotten: this machine was set back to a former state, so its packet keys are new");
            self.packet_keys.forget(boot_id()).erase();
        }
        let former = self.packet_keys.current();
        let retired = self.packet_keys.retire(epoch);
        let renewal = self.packet_keys.renewal();
        {
            let mut delays = lock(&self.delays);
            delays.retire(retired.epochs(), now);
            if epoch < former {
                delays.set_back(former, epoch.next());
            }
        }
        let fewer = !retired.epochs().is_empty();
        retired.erase();
        match renewal.map(Renewal::write) {
            None => (fewer, Ok(())),
            Some(Err(err)) => (fewer, Err(err)),
            Some(Ok(renewed)) => {
                self.packet_keys.adopt(renewed);
                tracing::info!(epoch = epoch.0, "keys.rotated");
                (true, Ok(()))
            }
        }
    }

    /// Fixes the delays of the epochs at hand, as far as the consensuses allow it.
    fn fix_delays(&self, consensuses: &Consensuses, now_ms: u64) -> Result<(), StateError> {
        let live: Vec<_> = consensuses.live(now_ms).map(Arc::as_ref).collect();
        let current = self.packet_keys.current();
        let unwritten = lock(&self.delays).missing_seeds(current, live.iter().copied());
        if let Some(unwritten) = unwritten {
            let fixed = unwritten.write()?;
            lock(&self.delays).adopt(fixed);
        }
        Ok(())
    }
}
