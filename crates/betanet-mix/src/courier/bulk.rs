//! Bulk messages: pieces without acks of their own, probes for what has arrived, and the recipient's answers to them.
//!
//! A sender keeps a window of pieces on their way. Each few dozen of them are followed by a probe with a SURB, over which the
//! recipient says what it has on its disk. A piece that is missing although the probe left well after it is lost, and is sent
//! again; no piece has a timer. Only probes are repeated by time, while nothing is heard.

use betanet_sphinx::SurbId;
use rand_core::CryptoRng;

use super::Courier;
use super::state::{Bulk, Due, Load, Outgoing, ReadyPacket, Sending};
use super::transmit::Trouble;
use super::types::{Delivery, Effect, FailReason};
use crate::message::{
    BULK_SEALED_LEN, BulkContent, BulkMessage, BulkPacket, MessageId, Pieces, ProbeAnswer, SpoolHead, SpoolKey,
    TakenPiece, WindowAck, encode_piece, parse_head,
};
use crate::path::{select_forward, select_return};
use crate::random;

/// Pieces between two probes.
const PROBE_EVERY: u16 = 64;
/// SURBs in a probe: one for the answer at once, one that the recipient keeps to say when it has the whole message.
const PROBE_SURBS: usize = 2;
/// SURBs of one message over which answers are waited for; older ones would say less.
const MAX_PROBES: usize = 128;
/// The shortest way of a window-ack: from an edge of the recipient's to one of the sender's.
const MIN_HOPS_BACK: u8 = 2;
/// Waits that pass in silence before they become longer. A probe is one packet for dozens of pieces, so one more costs little; where each
/// link loses a tenth of its frames, more than half of the probes get no answer.
const PATIENT_WAITS: u32 = 4;
/// A probe that finds no path is tried again after this long.
const PROBE_RETRY_MS: u64 = 1_000;
/// Packets that may wait to be injected before answers to probes are dropped: whoever probes asks again.
const MAX_READY: usize = 4_096;

impl<R: CryptoRng> Courier<R> {
    /// Chooses the way of one piece, seals it and counts it as sent.
    pub(super) fn prepare_piece(
        &mut self,
        now_ms: u64,
        id: MessageId,
        message: &mut Outgoing,
        index: u16,
    ) -> Result<Sending, Trouble> {
        let (view, epoch) = self.sending_view(now_ms).ok_or(Trouble::Wait)?;
        self.check_progress(now_ms, message)?;
        let there = select_forward(&mut self.rng, &view, epoch, &self.edges, &message.to, message.hops)?;
        let Some(data) = message.outbound.part(index) else {
            return Err(Trouble::Fatal(FailReason::NoFragment { index }));
        };
        let Some(piece) = encode_piece(&mut self.rng, &message.outbound.bulk_message(), index, &data) else {
            return Err(Trouble::Fatal(FailReason::NoFragment { index }));
        };
        let sealed = message.sealer.seal_bulk(&mut self.rng, &piece);
        let payload = sealed.map_err(|error| Trouble::Fatal(error.into()))?;
        if index >= message.next {
            message.next = index.saturating_add(1);
            self.stats.fragments_sent += 1;
        } else {
            self.stats.fragments_resent += 1;
        }
        self.bulk_window.sent();
        let has_more = message.has_more();
        if let Some(bulk) = &mut message.bulk {
            bulk.in_air.insert(index, now_ms);
            bulk.since_probe += 1;
            // Whatever follows waits for an answer.
            let is_last = !has_more || !self.bulk_window.has_room();
            if (bulk.since_probe >= PROBE_EVERY || is_last) && !std::mem::replace(&mut bulk.is_due, true) {
                self.probes.push_back(id);
            }
        }
        Ok(Sending { id, epoch, there, load: Load::Whole(payload), sent_ms: now_ms })
    }

    /// Chooses the ways of a probe and of its answer.
    pub(super) fn prepare_probe(&mut self, now_ms: u64, id: MessageId) -> Option<Sending> {
        let mut message = self.outgoing.remove(&id)?;
        let prepared = self.ways_of_probe(now_ms, &mut message);
        let wait_ms = match (&prepared, &message.bulk) {
            (Ok(_), Some(bulk)) => {
                self.timeout_ms(message.hops, bulk.silent_waits.saturating_sub(PATIENT_WAITS).saturating_add(1))
            }
            _ => PROBE_RETRY_MS,
        };
        let timer = self.set_timer(now_ms.saturating_add(wait_ms), Due::Probe { id });
        if let Some(old) = message.bulk.as_mut().and_then(|bulk| bulk.timer.replace(timer)) {
            self.timers.remove(&old);
        }
        match prepared {
            Ok(sending) => {
                if let Some((_, timer)) = message.blocked.take_if(|_| !message.queued) {
                    self.timers.remove(&timer);
                }
                self.outgoing.insert(id, message);
                Some(sending)
            }
            Err(Trouble::Wait) => {
                self.outgoing.insert(id, message);
                self.start_patience(now_ms, id);
                None
            }
            Err(Trouble::Fatal(reason)) => {
                self.outgoing.insert(id, message);
                self.fail(id, reason);
                None
            }
        }
    }

    /// Puts off probes that nothing can be granted for.
    pub(super) fn put_off_probes(&mut self, now_ms: u64) {
        for id in std::mem::take(&mut self.probes) {
            drop(self.prepare_probe(now_ms, id));
        }
    }

    fn ways_of_probe(&mut self, now_ms: u64, message: &mut Outgoing) -> Result<Sending, Trouble> {
        if let Some(bulk) = &mut message.bulk {
            bulk.is_due = false;
        }
        self.check_progress(now_ms, message)?;
        let (view, epoch) = self.sending_view(now_ms).ok_or(Trouble::Wait)?;
        let there = select_forward(&mut self.rng, &view, epoch, &self.edges, &message.to, message.hops)?;
        // With one hop the recipient would link to the sender's edge, which only clients of that level do.
        let hops_back = message.hops.max(MIN_HOPS_BACK);
        let mut backs = Vec::with_capacity(PROBE_SURBS);
        for _ in 0..PROBE_SURBS {
            let back = select_return(&mut self.rng, &view, epoch, &message.to, &self.mailboxes, hops_back)?;
            backs.push((back, SurbId::from(random::bytes(&mut self.rng))));
        }
        if let Some(bulk) = &mut message.bulk {
            bulk.since_probe = 0;
            bulk.probes.extend(backs.iter().map(|(_, surb_id)| *surb_id));
            let too_many = bulk.probes.len().saturating_sub(MAX_PROBES);
            for oldest in bulk.probes.drain(..too_many) {
                self.awaiting.remove(&oldest);
            }
        }
        let id = message.outbound.id();
        Ok(Sending { id, epoch, there, load: Load::Probe { backs }, sent_ms: now_ms })
    }

    /// A message of which the recipient gets nothing more has failed: recipients rely on it, as with fragments.
    fn check_progress(&self, now_ms: u64, message: &Outgoing) -> Result<(), Trouble> {
        let Some(bulk) = &message.bulk else { return Ok(()) };
        let idle_ms = self.wall_ms(now_ms).saturating_sub(bulk.progress_ms);
        if idle_ms < self.repeat_ms(message.hops) {
            return Ok(());
        }
        Err(Trouble::Fatal(FailReason::NoProgress { idle_ms }))
    }

    pub(super) fn probe_is_due(&mut self, id: MessageId) {
        let Some(bulk) = self.outgoing.get_mut(&id).and_then(|message| message.bulk.as_mut()) else { return };
        bulk.timer = None;
        bulk.silent_waits = bulk.silent_waits.saturating_add(1);
        if !std::mem::replace(&mut bulk.is_due, true) {
            self.probes.push_back(id);
        }
    }

    /// Takes an answer to a probe that left at `sent_ms`.
    pub(super) fn window_acked(&mut self, now_ms: u64, id: MessageId, sent_ms: u64, sealed: &[u8]) {
        let Some(message) = self.outgoing.get_mut(&id) else { return self.count_drop("unknown_surb") };
        let Some(bulk) = &mut message.bulk else { return self.count_drop("unknown_surb") };
        let Some(ack) = message.sealer.ack_key().open(sealed).and_then(|bytes| WindowAck::parse(&bytes)) else {
            return self.count_drop("bad_ack");
        };
        let hops = message.hops;
        let place_of = usize::from(hops).checked_sub(1);
        let trips = place_of.and_then(|place| self.round_trips.get_mut(place));
        let reorder_ms = trips.map_or(0, |trips| {
            // That all of it has come may be told long after the probe.
            if ack != WindowAck::Whole {
                trips.measure(now_ms.saturating_sub(sent_ms));
            }
            trips.mixing_ms()
        });
        bulk.silent_waits = 0;
        let WindowAck::Partly { place, .. } = ack else {
            let total = u64::from(message.outbound.total());
            self.stats.fragments_acked += total.saturating_sub(bulk.there.count().into());
            self.stats.messages_sent += 1;
            self.forget_outgoing(id);
            return self.effects.push_back(Effect::Sent { id });
        };
        if place != bulk.place.0 {
            if sent_ms <= bulk.place.1 {
                // From before the place that it has now.
                return;
            }
            bulk.place = (place, sent_ms);
            // What it had before is lost.
            let before = std::mem::replace(&mut bulk.there, Pieces::none(message.outbound.total()));
            message.again.extend((0..message.next).filter(|index| before.contains(*index) && !ack.contains(*index)));
            (0..message.next).filter(|index| before.contains(*index) && ack.contains(*index)).for_each(|index| {
                bulk.there.insert(index);
            });
        }
        let before = bulk.there.count();
        let (mut acked, mut lost) = (0, 0);
        let (again, there) = (&mut message.again, &mut bulk.there);
        bulk.in_air.retain(|index, left_ms| {
            let has_come = ack.contains(*index);
            let is_lost = !has_come && left_ms.saturating_add(reorder_ms) <= sent_ms;
            if has_come {
                there.insert(*index);
                acked += 1;
            } else if is_lost {
                again.push_back(*index);
                lost += 1;
            }
            !(has_come || is_lost)
        });
        // Some come late, after they were given up.
        again.retain(|index| !ack.contains(*index) || (there.insert(*index), false).1);
        let newly = there.count().saturating_sub(before);
        self.stats.fragments_acked += u64::from(newly);
        if newly > 0 {
            bulk.progress_ms = now_ms.wrapping_add_signed(self.wall_ahead_ms);
            let (done, total) = (there.count(), message.outbound.total());
            self.effects.push_back(Effect::Progress { id, done, total });
        }
        for _ in 0..acked {
            self.bulk_window.gone();
            self.bulk_window.acked();
        }
        let wait_ms = self.timeout_ms(hops, 1);
        for _ in 0..lost {
            self.bulk_window.lost(now_ms, wait_ms);
        }
        self.enqueue(id);
        // What is still on its way becomes lost or not with a later probe.
        let timer = self.set_timer(now_ms.saturating_add(reorder_ms.max(1)), Due::Probe { id });
        let bulk = self.outgoing.get_mut(&id).and_then(|message| message.bulk.as_mut());
        if let Some(old) = bulk.and_then(|bulk| bulk.timer.replace(timer)) {
            self.timers.remove(&old);
        }
    }

    /// Takes what a message left under way out of the books.
    pub(super) fn forget_bulk(&mut self, bulk: &Bulk) {
        bulk.probes.iter().for_each(|surb_id| drop(self.awaiting.remove(surb_id)));
        bulk.in_air.iter().for_each(|_| self.bulk_window.gone());
        if let Some(timer) = bulk.timer {
            self.timers.remove(&timer);
        }
    }

    /// Takes a bulk packet.
    pub(super) fn on_bulk(&mut self, now_ms: u64, sealed: &[u8; BULK_SEALED_LEN]) {
        let Ok(opened) = self.contexts.open_bulk(sealed) else { return self.count_drop("not_for_us") };
        let Some(BulkPacket { message, content }) = BulkPacket::parse(&opened.content) else {
            return self.count_drop("bad_fragment");
        };
        if self.config.level.is_some_and(|level| level != opened.hops) {
            return self.count_drop("wrong_level");
        }
        let BulkMessage { id, expiry_ms, .. } = message;
        let key = SpoolKey { id, context: opened.context };
        let is_finished = self.reassembler.is_finished(id);
        match content {
            BulkContent::Probe { surbs } if is_finished => {
                let answer = |surb| ProbeAnswer { surb, key: opened.ack_key.clone(), ack: WindowAck::Whole };
                let answers = surbs.into_iter().map(answer).collect();
                self.answer_probes(answers);
            }
            BulkContent::Probe { surbs } => {
                let answers = self.spools.probe(&key, surbs, &opened.ack_key);
                self.answer_probes(answers);
            }
            BulkContent::Piece { .. } if is_finished => self.count_drop("duplicate_message"),
            BulkContent::Piece { index, data } => {
                let is_late = self.wall_ms(now_ms) >= expiry_ms.saturating_add(self.config.reassembly.late_ms);
                if is_late && !self.spools.has(&key) {
                    return self.count_drop("expired");
                }
                if !self.reassembler.has_room_for_ids(now_ms, 1) {
                    return self.count_drop("ids_full");
                }
                let place = u32::from_be_bytes(random::bytes(&mut self.rng)).max(1);
                let head = SpoolHead::of(&message, opened.hops);
                let mut discarded = Vec::new();
                let taken = self.spools.take(now_ms, place, key, head, index, data.len(), &mut discarded);
                for key in discarded {
                    self.count_drop("spool_evicted");
                    self.effects.push_back(Effect::DiscardSpool { key });
                }
                match taken {
                    TakenPiece::Write => self.effects.push_back(Effect::SpoolPiece { key, head, index, data }),
                    TakenPiece::Useless(reason) => self.count_drop(reason),
                }
            }
        }
    }

    /// Says that pieces of a bulk message are on the disk.
    pub fn pieces_written(&mut self, key: &SpoolKey, indexes: &[u16]) {
        let answers = self.spools.written(key, indexes);
        self.finish_spool(key);
        // After it, because a whole message says so.
        self.answer_probes(answers);
    }

    /// Says that pieces could not be written. They are forgotten: their sender repeats them.
    pub fn pieces_not_written(&mut self, key: &SpoolKey, indexes: &[u16]) {
        self.count_drop("spool_not_written");
        let answers = self.spools.not_written(key, indexes);
        self.answer_probes(answers);
    }

    /// Takes a spool from before a restart. If it is of no use, [`Effect::DiscardSpool`] follows.
    pub fn restore_spool(
        &mut self,
        now_ms: u64,
        key: SpoolKey,
        head: SpoolHead,
        pieces: Pieces,
        last_len: Option<u16>,
    ) {
        let place = u32::from_be_bytes(random::bytes(&mut self.rng)).max(1);
        if self.reassembler.is_finished(key.id) || !self.spools.restore(now_ms, place, key, head, pieces, last_len) {
            return self.effects.push_back(Effect::DiscardSpool { key });
        }
        self.finish_spool(&key);
    }

    fn finish_spool(&mut self, key: &SpoolKey) {
        if let Some(stream_len) = self.spools.take_whole(key) {
            self.effects.push_back(Effect::OpenSpool { key: *key, stream_len });
        }
    }

    /// Delivers a message whose spool is whole; `start` are the first bytes of its stream, all or [`MAX_HEAD_LEN`].
    ///
    /// [`MAX_HEAD_LEN`]: crate::message::MAX_HEAD_LEN
    pub fn spool_opened(&mut self, now_ms: u64, key: &SpoolKey, stream_len: u64, start: &[u8]) {
        let Some(head) = self.spools.head(key) else { return };
        for other in self.spools.forget(key.id, Some(key)) {
            self.effects.push_back(Effect::DiscardSpool { key: other });
        }
        let wall_ms = self.wall_ms(now_ms);
        self.reassembler.finish(now_ms, wall_ms, key.id, head.expiry_ms);
        let Ok(stream) = parse_head(start) else {
            self.count_drop("bad_stream");
            for item in self.commit(key.id).unwrap_or_default() {
                self.delete(item);
            }
            return;
        };
        let head_len = u64::try_from(stream.len).unwrap_or(u64::MAX);
        let (reply, reply_capacity) = self.hold(now_ms, key.id, head.hops, stream);
        let body = head_len..stream_len.max(head_len);
        self.stats.messages_delivered += 1;
        let message = Delivery { id: key.id, body: Vec::new(), hops: head.hops, reply, reply_capacity };
        self.effects.push_back(Effect::DeliverSpool { message, key: *key, body });
    }

    /// Forgets a spool that the driver cannot read: its sender sends the message again.
    pub fn spool_lost(&mut self, key: &SpoolKey) {
        self.count_drop("spool_lost");
        self.spools.forget(key.id, None);
        self.effects.push_back(Effect::DiscardSpool { key: *key });
    }

    fn answer_probes(&mut self, answers: Vec<ProbeAnswer>) {
        for ProbeAnswer { surb, key, ack } in answers {
            if self.ready.len() >= MAX_READY {
                self.count_drop("acks_full");
            } else if self.may_enter_at(surb.first()) {
                let payload = key.seal(&mut self.rng, &ack.encode());
                self.ready.push_back(ReadyPacket::Reply {
                    surb: Box::new(surb),
                    anywhere: false,
                    payload,
                    last_of: None,
                });
            } else {
                self.count_drop("foreign_surb");
            }
        }
    }
}
