//! The newest documents that somebody has seen, so that nobody can show older ones as the present, not even after a restart.

use serde::{Deserialize, Serialize};

use crate::view::{Consensus, WorkerList};

/// Epochs whose revisions are remembered: no older one is in force by then.
const EPOCHS: usize = 4;

/// A worker list is numbered by the authority's time. One that is numbered further ahead than this, in milliseconds, is
/// from before a clock was set back.
const AHEAD_MS: u64 = 10 * 60_000;

/// What was seen. The driver keeps it over restarts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newest {
    consensuses: Vec<Seen>,
    workers: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    epoch: u64,
    revision: u32,
    valid_after_ms: u64,
    /// One that begins later than this after the present was signed by a clock that has been set back since.
    ahead_ms: u64,
}

impl Newest {
    /// Whether a consensus may be used: neither has a later revision of it been seen, nor one of a later epoch that is in
    /// force by now.
    #[must_use]
    pub fn admits(&self, consensus: &Consensus, now_ms: u64) -> bool {
        let epoch = consensus.epoch.0;
        self.consensuses.iter().all(|seen| {
            let is_revised = seen.epoch == epoch && seen.revision > consensus.revision;
            let is_over = seen.epoch > epoch && seen.valid_after_ms <= now_ms;
            !is_revised && !is_over
        })
    }

    /// Remembers a consensus that is used; says whether it is news.
    pub fn see(&mut self, consensus: &Consensus) -> bool {
        let before = self.consensuses.clone();
        let seen = Seen {
            epoch: consensus.epoch.0,
            revision: consensus.revision,
            valid_after_ms: consensus.valid_after_ms,
            ahead_ms: consensus.epoch_length_ms.saturating_add(consensus.skew_ms),
        };
        match self.consensuses.iter_mut().find(|known| known.epoch == seen.epoch) {
            Some(known) if known.revision < seen.revision => *known = seen,
            Some(_) => {}
            None => self.consensuses.push(seen),
        }
        self.consensuses.sort_by_key(|seen| seen.epoch);
        let old = self.consensuses.len().saturating_sub(EPOCHS);
        self.consensuses.drain(..old);
        self.consensuses != before
    }

    /// Whether a worker list may be used: no later one has been seen.
    #[must_use]
    pub fn admits_workers(&self, list: &WorkerList) -> bool {
        list.revision >= self.workers
    }

    /// Remembers a worker list that is used; says whether it is news.
    pub fn see_workers(&mut self, list: &WorkerList) -> bool {
        let is_news = list.revision > self.workers;
        self.workers = self.workers.max(list.revision);
        is_news
    }

    /// Forgets what is from the future of `now_ms`: a clock was set back since, the authority's among them, and what it
    /// signs from now on is older by number. Says whether anything went.
    pub fn forget_after(&mut self, now_ms: u64) -> bool {
        let before = self.clone();
        self.consensuses.retain(|seen| seen.valid_after_ms <= now_ms.saturating_add(seen.ahead_ms));
        if self.workers > now_ms.saturating_add(AHEAD_MS) {
            self.workers = 0;
        }
        *self != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::Epoch;
    use crate::fixtures::{EPOCH, EPOCH_MS, NOW_MS, consensus, nodes};

    fn of(epoch: u64, revision: u32) -> Consensus {
        let valid_after_ms = epoch * EPOCH_MS;
        Consensus { epoch: Epoch(epoch), revision, valid_after_ms, ..consensus(nodes(1)) }
    }

    /// INV-LINK-73
    #[test]
    fn an_older_consensus_is_not_taken_for_the_present() {
        let mut newest = Newest::default();
        let present = EPOCH.0;
        assert!(newest.admits(&of(present, 0), NOW_MS) && newest.see(&of(present, 2)));
        assert!(!newest.see(&of(present, 2)), "no news");
        assert!(!newest.admits(&of(present, 1), NOW_MS), "it was revised");
        assert!(!newest.admits(&of(present - 1, 9), NOW_MS), "its successor is in force");
        assert!(newest.admits(&of(present, 2), NOW_MS) && newest.admits(&of(present, 3), NOW_MS));
        // The next one is shown before its time; until then the present one is in force, and may be shown again.
        assert!(newest.see(&of(present + 1, 0)));
        assert!(newest.admits(&of(present, 2), NOW_MS));
        assert!(!newest.admits(&of(present, 2), NOW_MS + EPOCH_MS));
        let written = serde_json::to_vec(&newest).unwrap();
        assert_eq!(newest, serde_json::from_slice(&written).unwrap());
        for epoch in 2..9 {
            newest.see(&of(present + epoch, 0));
        }
        assert_eq!(newest.consensuses.len(), 4);
        assert!(!newest.admits(&of(present, 9), NOW_MS + 9 * EPOCH_MS));
    }

    /// INV-LINK-73
    #[test]
    fn an_older_worker_list_is_refused() {
        let list = |revision| WorkerList { epoch: EPOCH, revision, workers: Vec::new() };
        let mut newest = Newest::default();
        assert!(newest.see_workers(&list(NOW_MS)) && !newest.see_workers(&list(NOW_MS - 5)));
        assert!(!newest.admits_workers(&list(NOW_MS - 1)));
        assert!(newest.admits_workers(&list(NOW_MS)) && newest.admits_workers(&list(NOW_MS + 1)));
    }

    /// INV-LINK-73, INV-LINK-27: what a clock that was wrong once made the authority sign holds nobody up.
    #[test]
    fn a_clock_that_is_set_back_starts_anew() {
        let mut newest = Newest::default();
        newest.see(&of(EPOCH.0, 1));
        newest.see(&of(EPOCH.0 + 50, 3));
        newest.see_workers(&WorkerList { epoch: EPOCH, revision: NOW_MS + 50 * EPOCH_MS, workers: Vec::new() });
        assert!(newest.forget_after(NOW_MS) && !newest.forget_after(NOW_MS));
        assert!(newest.admits(&of(EPOCH.0 + 50, 0), NOW_MS + 50 * EPOCH_MS));
        assert!(!newest.admits(&of(EPOCH.0, 0), NOW_MS), "the present is no future");
        assert!(newest.admits_workers(&WorkerList { epoch: EPOCH, revision: NOW_MS, workers: Vec::new() }));
    }
}
