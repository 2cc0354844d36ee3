//! One unwrap thread.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use betanet_mix::delay::VrfDelays;
use betanet_mix::epoch::Epoch;
use betanet_mix::fair::SourceId;
use betanet_mix::pool::Buffer;
use betanet_sphinx::{
    Action, Native, NodeKeys, PacketError, ReplayTag, SecretKey, UnwrapResult, parity_of, unwrap_batch_with,
};

use super::delay_line::DelayLine;
use super::{Processed, Released};
use crate::daemon::delays::Delays;
use crate::daemon::metrics::Metrics;
use crate::daemon::packet_keys::PacketKeys;
use crate::pipeline::{Arrival, Held, Stage};
use crate::sync::lock;

/// Unwraps groups of packets and brings them into the delay line.
pub(super) struct Unwrapper {
    packet_keys: Arc<PacketKeys>,
    delays: Arc<Mutex<Delays>>,
    line: Arc<DelayLine>,
    metrics: Arc<Metrics>,
    /// How long a packet may wait for others to share the lanes with.
    patience: Duration,
    outcomes: Vec<UnwrapResult>,
    pub(super) done: Vec<Processed>,
}

impl Unwrapper {
    pub(super) fn new(
        batch: usize,
        packet_keys: Arc<PacketKeys>,
        delays: Arc<Mutex<Delays>>,
        line: Arc<DelayLine>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            packet_keys,
            delays,
            line,
            metrics,
            patience: Duration::ZERO,
            outcomes: Vec::with_capacity(batch),
            done: Vec::with_capacity(batch),
        }
    }

    /// Unwraps the group; what is accepted is `done` then, the rest dropped, counted and charged.
    fn unwrap(&mut self, group: &mut Vec<Arrival<Held>>, charges: &mut Vec<(SourceId, u32)>) {
        let start = Instant::now();
        let mut keys = Keys::current(&self.packet_keys, &self.delays);
        self.patience = keys.patience();
        unwrap_batch_with::<Native, _>(&mut keys, group, &mut self.outcomes);
        for (arrival, outcome) in group.drain(..).zip(self.outcomes.drain(..)) {
            let owed = outcome.and_then(|unwrapped| {
                let delays = keys.delays(unwrapped.parity).ok_or(PacketError::NoKey)?;
                Ok((unwrapped.action, delays.owed(&unwrapped.delay)))
            });
            match owed {
                Ok((action, delay)) => {
                    arrival.from.praise();
                    self.done.push(Processed {
                        release_at: arrival.received + delay,
                        received: arrival.received,
                        outcome: release(action, arrival.packet),
                        _held: arrival.from,
                    });
                }
                Err(PacketError::NoKey)
                    if parity_of(&arrival.packet).is_ok_and(|parity| keys.awaits_beacon(parity)) =>
                {
                    self.metrics.drop_one("no_beacon");
                }
                Err(error) => {
                    self.metrics.drop_one(error.reason());
                    let (turns, is_too_much) = arrival.from.blame(error);
                    charges.push((arrival.from.source, turns));
                    if is_too_much {
                        self.metrics.drop_one("too_much_garbage");
                    }
                }
            }
        }
        let accepted = u32::try_from(self.done.len()).unwrap_or(u32::MAX);
        self.metrics.unwrap.observe_shared(start.elapsed(), accepted);
    }

    /// Makes the new replay tags last, or gives up the packets behind them.
    pub(super) fn log(&mut self) {
        let written = self.packet_keys.write_logs();
        if written.is_err() {
            // What is not in the log must not leave: after a crash it could pass twice.
            for _ in self.done.drain(..) {
                self.metrics.drop_one("replay_log_failed");
            }
        }
        self.metrics.processed.add(u64::try_from(self.done.len()).unwrap_or(0));
    }
}

impl Stage for Unwrapper {
    type From = Held;

    fn patience(&self) -> Duration {
        self.patience
    }

    fn process(&mut self, group: &mut Vec<Arrival<Held>>, charges: &mut Vec<(SourceId, u32)>) {
        self.unwrap(group, charges);
        self.log();
        self.line.take(self.done.drain(..));
    }
}

impl Drop for Unwrapper {
    /// With its thread.
    fn drop(&mut self) {
        self.line.end();
    }
}

fn release(action: Action, packet: Buffer) -> Released {
    match action {
        Action::Forward { next } => Released::Forward { next, packet },
        Action::Deliver { mailbox, payload } => {
            Released::Deliver { mailbox, payload: packet.get(payload).unwrap_or_default().to_vec() }
        }
        Action::Reply { mailbox, surb_id, delta } => {
            Released::Reply { mailbox, surb_id, delta: packet.get(delta).unwrap_or_default().to_vec() }
        }
    }
}

/// The packet keys of the moment by parity, with the delays that belong to them.
struct Keys<'a> {
    packet_keys: &'a PacketKeys,
    by_parity: [Option<Key>; 2],
}

struct Key {
    epoch: Epoch,
    secret: SecretKey,
    delays: Option<VrfDelays>,
}

impl<'a> Keys<'a> {
    fn current(packet_keys: &'a PacketKeys, delays: &Mutex<Delays>) -> Self {
        let accepted = [packet_keys.accept(0), packet_keys.accept(1)];
        let delays = lock(delays);
        let key = |(epoch, secret)| Key { epoch, secret, delays: delays.source(epoch) };
        Self { packet_keys, by_parity: accepted.map(|accepted| accepted.map(key)) }
    }

    fn get(&self, parity: u8) -> Option<&Key> {
        self.by_parity.get(usize::from(parity)).and_then(Option::as_ref)
    }

    fn delays(&self, parity: u8) -> Option<&VrfDelays> {
        self.get(parity).and_then(|key| key.delays.as_ref())
    }

    /// A part of the mean delay in which few packets are due, and no more than is allowed beside a delay (ADR 7).
    fn patience(&self) -> Duration {
        let means = self.by_parity.iter().flatten().filter_map(|key| key.delays.as_ref()).map(VrfDelays::mean);
        means.min().map_or(Duration::ZERO, |mean| (mean / 4).min(Duration::from_millis(4)))
    }

    /// Whether packets of this parity are not unwrapped yet, for their delays are not fixed.
    fn awaits_beacon(&self, parity: u8) -> bool {
        self.get(parity).is_some_and(|key| key.delays.is_none())
    }
}

impl NodeKeys for Keys<'_> {
    /// A key whose delays are not fixed yet is no key: no tag is remembered, and the sender may try again.
    fn secret(&self, parity: u8) -> Result<&SecretKey, PacketError> {
        self.get(parity).filter(|key| key.delays.is_some()).map(|key| &key.secret).ok_or(PacketError::NoKey)
    }

    /// Takes the lock for one tag at a time, so that threads share a cache and not its lock.
    fn check_and_insert(&mut self, parity: u8, tag: &ReplayTag) -> Result<(), PacketError> {
        let epoch = self.get(parity).ok_or(PacketError::NoKey)?.epoch;
        self.packet_keys.check_and_insert(epoch, tag)
    }
}
