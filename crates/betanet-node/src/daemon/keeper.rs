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
        let round = tokio::task::spawn_blocking(move || {
            keeper.round(&consensuses, boot_id().ok(), keeper.time.now_ms(), Instant::now())
        });
        round.await.unwrap_or_else(|err| Kept { keys_changed: false, trouble: Some(err.to_string()) })
    }

    /// What [`Keeper::keep`] does at the time `now_ms` of the network and `now` of the timers, in the boot `boot_id`. One that
    /// cannot be read now is asked for in the next round.
    pub(crate) fn round(&self, consensuses: &Consensuses, boot_id: Option<String>, now_ms: u64, now: Instant) -> Kept {
        self.forget_if_set_back(boot_id);
        let (keys_changed, rotated) = self.rotate(self.clock.epoch_at(now_ms), now);
        let fixed = self.fix_delays(consensuses, now_ms);
        // Tags that the disk refused wait for the next packet, or for this.
        let logged = self.packet_keys.write_logs().map_err(|err| format!("cannot write the replay log: {err}"));
        let trouble = rotated.and(fixed).map_err(|err| err.to_string()).and(logged).err();
        Kept { keys_changed, trouble }
    }

    /// Gives up all keys if the machine is not as it was when they were made; `boot_id` names it, where that can be told.
    fn forget_if_set_back(&self, boot_id: Option<String>) {
        let renamed = boot_id.as_ref().is_some_and(|boot_id| !self.packet_keys.are_of(boot_id));
        if self.time.was_set_back() || renamed {
            // What passed in the time that is gone would pass once more. The epochs go on, and so do their delays.
            tracing::warn!(
                reason = "this machine was set back to a former state, so its packet keys are new",
                "keys.forgotten"
            );
            self.packet_keys.forget(boot_id).erase();
        }
    }

    /// Gives up old keys at once, makes new ones, and says whether the keys changed.
    fn rotate(&self, epoch: Epoch, now: Instant) -> (bool, Result<(), StateError>) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use betanet_mix::view::node_id_of;

    use super::*;
    use crate::fixtures::{NETWORK, key};
    use crate::state::StateDir;

    /// INV-LINK-87
    #[test]
    fn a_boot_that_cannot_be_named_for_a_while_is_no_other_boot() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let clock = EpochClock::new(60_000, 5_000).unwrap();
        let now_ms = 7_000_000;
        let keeper = Keeper {
            packet_keys: Arc::new(PacketKeys::open(&state, "boot", clock.epoch_at(now_ms), 8).unwrap()),
            delays: Arc::new(Mutex::new(Delays::open(&state).unwrap())),
            clock,
            time: NetworkClock::from_wall(),
        };
        let none = Consensuses::new(NETWORK.into(), node_id_of(&key()));
        let round = |boot: Option<&str>| {
            assert_eq!(None, keeper.round(&none, boot.map(str::to_owned), now_ms, Instant::now()).trouble);
            keeper.packet_keys.public_keys()
        };
        let first = round(Some("boot"));
        for boot in [None, None, Some("boot"), None] {
            assert_eq!(first, round(boot), "{boot:?}");
        }
        let second = round(Some("another"));
        assert!(second.len() == first.len() && second.values().all(|key| first.values().all(|former| former != key)));
        assert_eq!(second, round(None));
        assert_eq!(second, round(Some("another")));
        // Set back otherwise, while nothing can be read: the next are of the same boot.
        keeper.time.set(keeper.time.now_ms() + 50_000);
        keeper.time.set(keeper.time.now_ms() + 50_000);
        let third = round(None);
        assert!(third.values().all(|key| second.values().all(|former| former != key)));
        assert_eq!(third, round(Some("another")));
    }
}
