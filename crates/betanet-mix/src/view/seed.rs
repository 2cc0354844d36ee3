//! What a node's delays of an epoch follow from, by the consensuses that it holds, and when their proof is due.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::delay_proof::{Beacon, DelayProof};
use super::network::NetworkView;
use crate::delay::{CAP_IN_MEANS, VrfDelays};
use crate::epoch::{Epoch, EpochClock};
use crate::vrf::VrfSecretKey;

/// What a node's delays of one key epoch are computed from, beside its VRF key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelaySeed {
    /// The beacon.
    pub beacon: Beacon,
    /// The mean delay, in milliseconds.
    pub mean_ms: u64,
}

impl DelaySeed {
    /// The seed of `epoch` by the consensuses that a node holds during `current`.
    ///
    /// The epoch's own consensus states it. Until there is one, it follows from the consensus before, but only once the
    /// epoch has begun: an authority may be away, and nobody else is waited for. What a consensus states must follow from
    /// the one before wherever both are held. Before the first consensus of all, and after a pause of the authority,
    /// packets may still come under the key of one epoch earlier: that epoch shares the beacon.
    #[must_use]
    pub fn find<'a>(
        epoch: Epoch,
        current: Epoch,
        views: impl IntoIterator<Item = &'a NetworkView, IntoIter: Clone>,
    ) -> Option<Self> {
        let views = views.into_iter();
        let of = |epoch: Epoch| views.clone().find(|view| view.consensus().epoch == epoch);
        let stated = |view: &NetworkView| Self::new(view.consensus().delays.beacon, view);
        match (of(epoch), of(epoch.previous()).filter(|_| epoch.previous() != epoch)) {
            (Some(own), Some(before)) => {
                (own.consensus().delays.beacon == before.consensus().next_beacon()).then(|| stated(own))
            }
            (Some(own), None) => Some(stated(own)),
            (None, Some(before)) if epoch <= current => Some(Self::new(before.consensus().next_beacon(), before)),
            (None, None) if epoch < current => of(epoch.next()).map(stated),
            _ => None,
        }
    }

    fn new(beacon: Beacon, view: &NetworkView) -> Self {
        Self { beacon, mean_ms: view.consensus().mean_delay_ms }
    }

    /// The delays of `epoch` for the holder of `key`, with the proof to publish later.
    #[must_use]
    pub fn delays(&self, key: &VrfSecretKey, epoch: Epoch) -> (VrfDelays, DelayProof) {
        let (beta, proof) = DelayProof::make(key, epoch, &self.beacon);
        (VrfDelays::new(Duration::from_millis(self.mean_ms), &beta), proof)
    }

    /// From when β of `epoch` may be published, Unix milliseconds: its key is accepted no more, and what it let in has left.
    #[must_use]
    pub fn reveal_ms(&self, epoch: Epoch, clock: &EpochClock) -> u64 {
        clock.start_of(epoch.next().next()).saturating_add(cap_ms(self.mean_ms))
    }
}

/// The first epoch whose consensus demands the proof of `epoch`: the node has had at least one whole epoch to show it.
#[must_use]
pub fn proof_due(epoch: Epoch, mean_ms: u64, clock: &EpochClock) -> Epoch {
    // A consensus is signed a quarter of an epoch ahead.
    let slack = cap_ms(mean_ms).saturating_add(clock.length_ms() / 4);
    Epoch(epoch.0.saturating_add(3).saturating_add(slack.div_ceil(clock.length_ms().max(1))))
}

fn cap_ms(mean_ms: u64) -> u64 {
    mean_ms.saturating_mul(u64::from(CAP_IN_MEANS))
}
