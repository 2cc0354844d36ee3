//! What a node remembers of packets of before, without the packets.

use std::path::Path;

use betanet_mix::epoch::Epoch;
use betanet_mix::replay::ReplayCache;
use betanet_node::clock::boot_id;
use betanet_node::daemon::packet_keys::PacketKeys;
use betanet_node::state::StateDir;
use betanet_sphinx::{ReplayFilter as _, ReplayTag};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;

use crate::Failure;

/// Tags that are written to a log at a time.
const GROUP: usize = 65_536;

/// Replay tags of two epochs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tags {
    /// Of the epoch before.
    pub former: usize,
    /// Of the present epoch, so far.
    pub present: usize,
    /// That will come in the present epoch.
    pub coming: usize,
}

impl Tags {
    /// All of them, and a few that are to spare.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        (self.former + self.present + self.coming) / 100 * 101
    }

    /// The rate that a node has to be told so that these fit, and hardly more.
    pub(super) fn target_throughput(&self, epoch_s: u64) -> u64 {
        u64::try_from(self.capacity()).unwrap_or(u64::MAX).div_ceil(2 * epoch_s).max(1)
    }

    /// Lets a node that has not started yet have seen them: writes its keys and logs as the node itself does.
    ///
    /// # Errors
    /// The folder is in use, or cannot be written.
    pub fn write(&self, folder: &Path, now: Epoch, rng: &mut ChaCha20Rng) -> Result<(), Failure> {
        let state = StateDir::open(folder)?;
        let epochs = PacketKeys::open(&state, &boot_id()?, now.previous(), self.capacity())?;
        for (epoch, tags) in [(now.previous(), self.former), (now, self.present)] {
            epochs.rotate(epoch)?;
            for number in 1..=tags {
                // One in a million is taken for another: it then counts as seen, which it is.
                let _ = epochs.check_and_insert(epoch, &any_tag(rng));
                if number % GROUP == 0 || number == tags {
                    epochs.write_logs()?;
                }
            }
        }
        Ok(())
    }

    /// Memory that the node needs for them at present, in MiB: what the same number of other tags takes here.
    #[must_use]
    pub fn shadow(&self, rng: &mut ChaCha20Rng) -> Shadow {
        let caches = [self.former, self.present].map(|tags| {
            let mut cache = ReplayCache::volatile(rng, self.capacity());
            take(&mut cache, tags, rng);
            cache
        });
        Shadow(caches)
    }
}

/// Replay memory as large as a node's.
#[derive(Debug)]
pub struct Shadow([ReplayCache; 2]);

impl Shadow {
    /// Takes so many tags more in the present epoch.
    pub fn add(&mut self, tags: usize, rng: &mut ChaCha20Rng) {
        let [_, present] = &mut self.0;
        take(present, tags, rng);
    }

    /// Its size in MiB.
    #[must_use]
    pub fn mib(&self) -> f64 {
        let bytes: usize = self.0.iter().map(ReplayCache::memory_bytes).sum();
        f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0
    }

    /// Tags in it.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.iter().map(ReplayCache::len).sum()
    }
}

fn take(cache: &mut ReplayCache, tags: usize, rng: &mut ChaCha20Rng) {
    for _ in 0..tags {
        let _ = cache.check_and_insert(&any_tag(rng));
    }
}

fn any_tag(rng: &mut ChaCha20Rng) -> ReplayTag {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    ReplayTag::from(bytes)
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn a_node_that_starts_holds_the_tags_that_were_written_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let tags = Tags { former: 3_000, present: 2_000, coming: 700 };
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        tags.write(folder.path(), Epoch(50), &mut rng).unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let epochs = PacketKeys::open(&state, &boot_id().unwrap(), Epoch(50), tags.capacity()).unwrap();
        assert_eq!((5_000, tags.capacity()), epochs.replay_load());
        assert!(epochs.accept(Epoch(49).parity()).is_some() && epochs.accept(Epoch(50).parity()).is_some());
        let mut shadow = tags.shadow(&mut rng);
        let before = shadow.mib();
        shadow.add(700, &mut rng);
        assert_eq!(5_700, shadow.held());
        assert!(shadow.mib() >= before && before > 0.0);
        assert!(tags.target_throughput(3600) * 7200 >= 5_700);
    }
}
