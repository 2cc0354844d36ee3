//! What happens to a message between its start and its verdict: sendings, timeouts, failures.

use std::sync::Arc;

use betanet_sphinx::{
    BuildError, Draft, NodeId, PACKET_LEN, ReplyOpener, Surb, SurbDraft, SurbId, build_forward_batch_knowing,
    build_surb_batch_knowing,
};
use rand_core::CryptoRng;

use super::Courier;
use super::state::{Awaiting, Drawn, Due, Load, Outgoing, ReadyPacket, Sending, TimerKey};
use super::types::{Effect, FailReason};
use crate::epoch::Epoch;
use crate::evidence::Trail;
use crate::message::{EnvelopeKind, MessageId, encode_envelope, encode_probe};
use crate::path::{Path, PathError, select_ack, select_forward};
use crate::pool::Buffer;
use crate::random;
use crate::view::{Address, NetworkView};

impl<R: CryptoRng> Courier<R> {
    /// The view and the epoch to send by, unless there is no valid consensus.
    pub(super) fn sending_view(&self, now_ms: u64) -> Option<(Arc<NetworkView>, Epoch)> {
        let wall_ms = self.wall_ms(now_ms);
        let view = self.view.as_ref().filter(|view| view.is_valid_at(wall_ms))?;
        Some((Arc::clone(view), view.sending_epoch(wall_ms)))
    }

    pub(super) fn inject_ready(&mut self, ready: ReadyPacket) -> bool {
        let (edge, packet) = match ready {
            ReadyPacket::Packet { edge, packet } => (edge, packet),
            ReadyPacket::Reply { surb, anywhere, payload, last_of } => {
                let edge = surb.first();
                let mut packet = [0; PACKET_LEN];
                // An edge may have ceased to be an own one since the request was delivered.
                let refusal = match surb.reply(&payload, &mut packet) {
                    Ok(()) if anywhere || self.may_enter_at(edge) => None,
                    Ok(()) => Some("foreign_surb"),
                    Err(_) => Some("reply_not_built"),
                };
                match refusal {
                    None => self.inject(edge, (&packet).into()),
                    Some(reason) => self.count_drop(reason),
                }
                if let Some(handle) = last_of {
                    self.effects.push_back(Effect::ReplySent { handle });
                }
                return refusal.is_none();
            }
        };
        self.inject(edge, packet);
        true
    }

    fn inject(&mut self, edge: NodeId, packet: Buffer) {
        self.stats.packets_injected += 1;
        self.effects.push_back(Effect::Inject { edge, packet });
    }

    /// Takes the next fragment of one message out for sending, if it has one and nothing is in the way.
    pub(super) fn take_one(&mut self, now_ms: u64, id: MessageId) -> Option<Sending> {
        let mut message = self.outgoing.remove(&id)?;
        message.queued = false;
        let Some(index) = message.pick() else {
            self.outgoing.insert(id, message);
            return None;
        };
        let prepared = if message.bulk.is_some() {
            self.prepare_piece(now_ms, id, &mut message, index)
        } else {
            self.prepare_fragment(now_ms, id, &mut message, index)
        };
        match prepared {
            Ok(sending) => {
                if let Some((_, timer)) = message.blocked.take() {
                    self.timers.remove(&timer);
                }
                self.outgoing.insert(id, message);
                self.enqueue(id);
                Some(sending)
            }
            Err(Trouble::Wait) => {
                if index < message.next {
                    message.again.push_front(index);
                }
                message.queued = true;
                self.outgoing.insert(id, message);
                self.block(now_ms, id);
                None
            }
            Err(Trouble::Fatal(reason)) => {
                self.outgoing.insert(id, message);
                self.fail(id, reason);
                None
            }
        }
    }

    /// Chooses the ways of one fragment, seals it and counts it as sent. [`Courier::send_all`] makes its packet.
    fn prepare_fragment(
        &mut self,
        now_ms: u64,
        id: MessageId,
        message: &mut Outgoing,
        index: u16,
    ) -> Result<Sending, Trouble> {
        let (view, epoch) = self.sending_view(now_ms).ok_or(Trouble::Wait)?;
        let (hops, wall_ms) = (message.hops, self.wall_ms(now_ms));
        // Recipients rely on it: they forget messages, and give up unfinished ones, after this long. By the wall clock,
        // because their time does not stop when this machine sleeps.
        let repeat_ms = self.repeat_ms(hops);
        match message.flights.get(&index) {
            Some(flight) if wall_ms.saturating_sub(flight.first_ms) >= repeat_ms => {
                return Err(Trouble::Fatal(FailReason::NoAck { tries: flight.tries }));
            }
            None if message.next > 0 && wall_ms.saturating_sub(message.advanced_ms) >= repeat_ms => {
                let idle_ms = wall_ms.saturating_sub(message.advanced_ms);
                return Err(Trouble::Fatal(FailReason::Interrupted { idle_ms }));
            }
            _ => {}
        }
        let surroundings = self.surroundings;
        let drawn = message.drawn.take().filter(|drawn| (drawn.epoch, drawn.surroundings) == (epoch, surroundings));
        let Drawn { there, back, .. } = drawn.map_or_else(|| self.draw(&view, epoch, &message.to, hops), Ok)?;
        let surb_id = SurbId::from(random::bytes(&mut self.rng));
        let Some(fragment) = message.outbound.fragment(&mut self.rng, index) else {
            return Err(Trouble::Fatal(FailReason::NoFragment { index }));
        };
        let sealed = message.sealer.seal(&mut self.rng, &fragment).map_err(|error| Trouble::Fatal(error.into()))?;

        let flight = message.flights.entry(index).or_default();
        flight.tries += 1;
        flight.surbs.push(surb_id);
        let tries = flight.tries;
        let late_ms = now_ms.saturating_add(self.timeout_ms(hops, tries));
        flight.in_air = Some(self.set_timer(late_ms, Due::Ack { id, index }));
        if tries == 1 {
            flight.first_ms = wall_ms;
            message.advanced_ms = wall_ms;
            message.next = index.saturating_add(1);
            self.stats.fragments_sent += 1;
        } else {
            self.stats.fragments_resent += 1;
        }
        self.window.sent();
        Ok(Sending { id, epoch, there, load: Load::Fragment { index, back, surb_id, sealed }, sent_ms: now_ms })
    }

    /// Makes the packets of many sendings and the SURBs in them, of both in lanes, and injects them.
    pub(super) fn send_all(&mut self, sendings: Vec<Sending>) {
        let mut drafts = Vec::with_capacity(sendings.len());
        for Sending { epoch, load, .. } in &sendings {
            let parity = epoch.parity();
            for (back, surb_id) in load.surbs() {
                drafts.push(SurbDraft { parity, path: &back.hops, mailbox: back.mailbox, surb_id });
            }
        }
        let mut surbs = build_surb_batch_knowing(&mut self.rng, &mut self.known, &drafts).into_iter();
        let mut ready = Vec::with_capacity(sendings.len());
        for Sending { id, epoch, there, load, sent_ms } in sendings {
            let made: Result<Vec<_>, _> = surbs.by_ref().take(load.surbs().len()).collect();
            match made.map_err(FailReason::from).and_then(|made| self.load(id, &there, load, made, sent_ms)) {
                Ok((payload, awaiting)) => ready.push((id, epoch, there, payload, awaiting)),
                Err(reason) => self.fail(id, reason),
            }
        }
        let mut packets: Vec<_> = ready.iter().map(|_| Buffer::blank()).collect();
        let drafts: Vec<Draft<'_>> = ready
            .iter()
            .map(|(_, epoch, there, payload, _)| Draft::new(epoch.parity(), &there.hops, there.mailbox, payload))
            .collect();
        let outcomes = build_forward_batch_knowing(&mut self.rng, &mut self.known, &drafts, &mut packets);
        for (((id, _, there, _, awaiting), packet), outcome) in ready.into_iter().zip(packets).zip(outcomes) {
            match outcome {
                Ok(_) => {
                    self.awaiting.extend(awaiting);
                    self.inject(there.first, packet);
                }
                Err(error) => self.fail(id, error.into()),
            }
        }
    }

    /// The payload of a sending, and what its SURBs are for.
    fn load(
        &mut self,
        id: MessageId,
        there: &Path,
        load: Load,
        mut made: Vec<(Surb, ReplyOpener)>,
        sent_ms: u64,
    ) -> Result<Loaded, FailReason> {
        match load {
            Load::Fragment { index, back, surb_id, sealed } => {
                let (surb, opener) = made.pop().ok_or(BuildError::EmptyPath)?;
                let trail = Some(Trail::there_and_back(there, &back));
                let payload = encode_envelope(&mut self.rng, EnvelopeKind::AckWanted, Some(&surb), &sealed);
                Ok((payload, vec![(surb_id, Awaiting::Ack { opener, id, index, sent_ms, trail })]))
            }
            Load::Probe { .. } => {
                let (surbs, openers): (Vec<_>, Vec<_>) = made.into_iter().unzip();
                let message = self.outgoing.get(&id).ok_or(FailReason::Cancelled)?;
                let probe = encode_probe(&mut self.rng, &message.outbound.bulk_message(), &surbs);
                let probe = probe.ok_or(FailReason::NoFragment { index: 0 })?;
                let payload = message.sealer.seal_bulk(&mut self.rng, &probe)?;
                let wait = |opener: ReplyOpener| (opener.surb_id(), Awaiting::Window { opener, id, sent_ms });
                Ok((payload, openers.into_iter().map(wait).collect()))
            }
            Load::Whole(payload) => Ok((payload, Vec::new())),
        }
    }

    /// Gives a message its turn if it has something to send.
    pub(super) fn enqueue(&mut self, id: MessageId) {
        let Some(message) = self.outgoing.get_mut(&id) else { return };
        if !message.queued && message.has_more() {
            message.queued = true;
            let turn = if message.bulk.is_some() { &mut self.bulk_turn } else { &mut self.turn };
            turn.push_back(id);
        }
    }

    /// Draws the ways of one fragment and of its ack.
    pub(super) fn draw(
        &mut self,
        view: &NetworkView,
        epoch: Epoch,
        to: &Address,
        hops: u8,
    ) -> Result<Drawn, PathError> {
        let there = select_forward(&mut self.rng, view, epoch, &self.edges, to, hops)?;
        let back = select_ack(&mut self.rng, view, epoch, there.edge, &self.mailboxes, hops)?;
        Ok(Drawn { there, back, epoch, surroundings: self.surroundings })
    }

    pub(super) fn run_timers(&mut self, now_ms: u64) {
        while let Some(timer) = self.timers.first_entry().filter(|timer| timer.key().0 <= now_ms) {
            match timer.remove() {
                Due::Ack { id, index } => self.ack_is_late(now_ms, id, index),
                Due::Probe { id } => self.probe_is_due(id),
                Due::Patience { id } => self.patience_ends(now_ms, id),
                Due::Expiry { id } => self.fail(id, FailReason::Expired),
                Due::Request { id } => {
                    if let Some(timeout_ms) = self.requests.get(&id).map(|request| request.timeout_ms) {
                        let stored = !self.outgoing.contains_key(&id);
                        let late = FailReason::ReplyTimeout { timeout_ms, stored };
                        let reason = self.hindrance(now_ms, id).unwrap_or(late);
                        self.fail(id, reason);
                    }
                }
                Due::Ping { ping, surb_id } => {
                    if let Some(Awaiting::Pong { trail, .. }) = self.awaiting.remove(&surb_id) {
                        self.conclude(now_ms, trail, true);
                        self.effects.push_back(Effect::PingLost { ping });
                    }
                }
            }
        }
    }

    fn ack_is_late(&mut self, now_ms: u64, id: MessageId, index: u16) {
        let Some(message) = self.outgoing.get_mut(&id) else { return };
        let hops = message.hops;
        let Some(flight) = message.flights.get_mut(&index) else { return };
        flight.in_air = None;
        let trail = match flight.surbs.last().and_then(|surb_id| self.awaiting.get_mut(surb_id)) {
            Some(Awaiting::Ack { trail, .. }) => trail.take(),
            _ => None,
        };
        let tries = flight.tries;
        let exhausted = tries >= self.config.max_tries;
        if !exhausted {
            message.again.push_back(index);
            self.enqueue(id);
        }
        if let Some(trail) = trail {
            self.conclude(now_ms, trail, true);
        }
        let wait = self.timeout_ms(hops, 1);
        self.window.lost(now_ms, wait);
        if exhausted {
            self.fail(id, FailReason::NoAck { tries });
        }
    }

    /// Fails a message that has been blocked for too long.
    fn patience_ends(&mut self, now_ms: u64, id: MessageId) {
        if let Some(reason) = self.hindrance(now_ms, id) {
            self.fail(id, reason);
        } else if let Some(message) = self.outgoing.get_mut(&id) {
            // It works again: the next grant sends it.
            message.blocked = None;
            self.unblock();
        }
    }

    /// Why a message that waits for a usable path or consensus still does; `None` if it does not.
    fn hindrance(&mut self, now_ms: u64, id: MessageId) -> Option<FailReason> {
        let message = self.outgoing.get(&id)?;
        let waited_ms = now_ms.saturating_sub(message.blocked.as_ref()?.0);
        let (to, hops) = (message.to.clone(), message.hops);
        match self.sending_view(now_ms) {
            None => Some(FailReason::NoConsensus { waited_ms }),
            Some((view, epoch)) => {
                let error = self.draw(&view, epoch, &to, hops).err()?;
                Some(FailReason::NoPath { waited_ms, error })
            }
        }
    }

    /// Takes a message out of its turn because it cannot be sent at present; its patience runs from the first time.
    pub(super) fn block(&mut self, now_ms: u64, id: MessageId) {
        self.blocked.push(id);
        self.start_patience(now_ms, id);
    }

    /// Lets a message's patience run, unless it does.
    pub(super) fn start_patience(&mut self, now_ms: u64, id: MessageId) {
        if self.outgoing.get(&id).is_some_and(|message| message.blocked.is_none()) {
            let timer = self.set_timer(now_ms.saturating_add(self.config.path_patience_ms), Due::Patience { id });
            if let Some(message) = self.outgoing.get_mut(&id) {
                message.blocked = Some((now_ms, timer));
            }
        }
    }

    /// Gives every blocked message another turn.
    pub(super) fn unblock(&mut self) {
        for id in std::mem::take(&mut self.blocked) {
            if let Some(message) = self.outgoing.get_mut(&id) {
                message.queued = false;
                self.enqueue(id);
            }
        }
    }

    pub(super) fn fail(&mut self, id: MessageId, reason: FailReason) {
        *self.stats.failed.entry(reason.reason()).or_default() += 1;
        self.forget_outgoing(id);
        self.forget_request(id);
        self.effects.push_back(Effect::Failed { id, reason });
    }

    /// Stops sending a message, without a word to the driver.
    pub(super) fn forget_outgoing(&mut self, id: MessageId) {
        let Some(message) = self.outgoing.remove(&id) else { return };
        self.outgoing_bytes = self.outgoing_bytes.saturating_sub(message.bytes);
        if let Some(timer) = message.expiry {
            self.timers.remove(&timer);
        }
        if let Some(bulk) = &message.bulk {
            self.forget_bulk(bulk);
        }
        if let Some((_, timer)) = message.blocked {
            self.timers.remove(&timer);
        }
        for flight in message.flights.values() {
            flight.surbs.iter().for_each(|surb_id| drop(self.awaiting.remove(surb_id)));
            if let Some(timer) = flight.in_air {
                self.timers.remove(&timer);
                self.window.gone();
            }
        }
        if message.queued {
            self.turn.retain(|queued| *queued != id);
            self.bulk_turn.retain(|queued| *queued != id);
            self.blocked.retain(|blocked| *blocked != id);
        }
    }

    pub(super) fn forget_request(&mut self, id: MessageId) {
        if let Some(request) = self.requests.remove(&id) {
            self.timers.remove(&request.timer);
            request.surbs.iter().for_each(|surb_id| drop(self.awaiting.remove(surb_id)));
        }
    }

    /// A fragment is not sent again this long after its first sending, whatever it waited for in between: the time of all
    /// its sendings if each waits as long as any may.
    pub(super) fn repeat_ms(&self, hops: u8) -> u64 {
        let place = usize::from(hops).checked_sub(1);
        let trips = place.and_then(|place| self.round_trips.get(place)).copied().unwrap_or_default();
        let wait = trips.unmeasured_ms(self.config.rto_slack_ms).max(self.config.max_rto_ms);
        wait.saturating_mul(self.config.max_tries.into())
    }

    pub(super) fn timeout_ms(&self, hops: u8, tries: u32) -> u64 {
        let place = usize::from(hops).checked_sub(1);
        let measured = place.and_then(|place| self.round_trips.get(place)).copied().unwrap_or_default();
        measured.timeout_ms(tries, self.config.rto_slack_ms, self.config.max_rto_ms)
    }

    pub(super) fn set_timer(&mut self, at_ms: u64, due: Due) -> TimerKey {
        self.timers_set += 1;
        let key = (at_ms, self.timers_set);
        self.timers.insert(key, due);
        key
    }
}

/// A payload, and what the SURBs in it are for.
type Loaded = (Vec<u8>, Vec<(SurbId, Awaiting)>);

pub(super) enum Trouble {
    /// It may work later.
    Wait,
    /// It never will.
    Fatal(FailReason),
}

impl From<PathError> for Trouble {
    fn from(_: PathError) -> Self {
        // Which node is missing may change until patience ends; the error is computed again then.
        Self::Wait
    }
}
