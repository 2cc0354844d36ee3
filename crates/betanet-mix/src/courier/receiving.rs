//! Receiving: fragments, acks, answers, loops.

use betanet_sphinx::SurbId;
use rand_core::CryptoRng;

use super::Courier;
use super::state::{Answered, Answers, Awaiting, HeldReply};
use super::types::{Delivery, Effect, ReplyHandle};
use crate::message::{
    Envelope, EnvelopeKind, Fragment, Inserted, ItemRef, MessageId, REPLY_DATA_LEN, ReplyPart, ReplyPush, Sealed,
    StreamHead, is_stored_ack, parse_stream,
};

/// How long reply handles live when no view says how long keys do.
const FALLBACK_SURB_LIFE_MS: u64 = 20 * 60_000;

impl<R: CryptoRng> Courier<R> {
    /// Takes a mailbox item that came in a forward packet. The same item may come again after a reconnect.
    pub fn on_forward(&mut self, now_ms: u64, item: ItemRef, payload: &[u8]) {
        let Ok(envelope) = Envelope::parse(payload) else { return self.drop_item(item, "bad_envelope") };
        if envelope.kind == EnvelopeKind::Cover {
            self.stats.cover_received += 1;
            return self.delete(item);
        }
        let sealed = match envelope.sealed {
            Sealed::Fragment(sealed) => sealed,
            Sealed::Bulk(sealed) => {
                // Its sender repeats it: no edge has to keep it.
                self.delete(item);
                return self.on_bulk(now_ms, sealed);
            }
        };
        let Ok(opened) = self.contexts.open(sealed) else { return self.drop_item(item, "not_for_us") };
        if self.config.level.is_some_and(|level| level != opened.hops) {
            return self.drop_item(item, "wrong_level");
        }
        let Some(fragment) = Fragment::parse(&opened.fragment) else { return self.drop_item(item, "bad_fragment") };
        let id = fragment.id;
        match self.reassembler.insert(now_ms, self.wall_ms(now_ms), item, opened.context, fragment) {
            Inserted::Kept | Inserted::SameItem => {}
            Inserted::Useless(reason) => self.drop_item(item, reason),
            Inserted::Deferred(reason) => self.count_drop(reason),
            Inserted::Complete(stream) => self.deliver(now_ms, id, opened.hops, stream),
        }
    }

    /// Takes a mailbox item that came over a SURB: an ack, a part of an answer, or a loop.
    pub fn on_reply(&mut self, now_ms: u64, item: ItemRef, surb_id: SurbId, delta: &mut [u8]) {
        // Whatever it is, it means something to this process only, and only once.
        self.delete(item);
        match self.awaiting.remove(&surb_id) {
            None => self.count_drop("unknown_surb"),
            Some(Awaiting::Ack { opener, id, index, sent_ms, trail }) => {
                if opener.open(delta).is_ok_and(|payload| is_stored_ack(&payload)) {
                    if let Some(trail) = trail {
                        self.conclude(now_ms, trail, false);
                    }
                    self.acked(now_ms, id, index, sent_ms);
                } else {
                    self.count_drop("bad_ack");
                }
            }
            Some(Awaiting::Reply { opener, id }) => match opener.open(delta) {
                Ok(payload) => self.reply_part(id, &payload),
                Err(_) => self.count_drop("bad_reply"),
            },
            Some(Awaiting::Window { opener, id, sent_ms }) => match opener.open(delta) {
                Ok(payload) => self.window_acked(now_ms, id, sent_ms, &payload),
                Err(_) => self.count_drop("bad_ack"),
            },
            Some(Awaiting::Pong { opener, ping, sent_ms, trail }) => {
                let (came_back, hops) = (opener.open(delta).is_ok(), trail.hops());
                self.conclude(now_ms, trail, !came_back);
                if came_back {
                    if let Some(loops) = hops.checked_sub(1).and_then(|place| self.loops.get_mut(place)) {
                        loops.measure(now_ms.saturating_sub(sent_ms));
                    }
                    self.effects.push_back(Effect::Pong { ping, rtt_ms: now_ms.saturating_sub(sent_ms) });
                } else {
                    self.count_drop("bad_pong");
                    self.effects.push_back(Effect::PingLost { ping });
                }
            }
        }
    }

    /// Says that a delivered message was dealt with, and gives the mailbox items to delete.
    ///
    /// Repeatable: the second call gives no items. `None` for a message that was never delivered or whose id has expired.
    /// Items whose deletion does not reach the edge come again and are recognised.
    pub fn commit(&mut self, id: MessageId) -> Option<Vec<ItemRef>> {
        // It is not delivered again.
        self.answered.remove(&id);
        for key in self.spools.forget(id, None) {
            self.effects.push_back(Effect::DiscardSpool { key });
        }
        self.reassembler.commit(id)
    }

    /// Until when the id of a message that was delivered and not committed yet has to be remembered, Unix milliseconds. A
    /// driver that keeps the ids of committed messages writes this one down before it commits it.
    #[must_use]
    pub fn uncommitted_until(&self, id: MessageId) -> Option<u64> {
        self.reassembler.uncommitted_until(id)
    }

    /// Ids of messages that were answered and not committed, with the time until when they may be delivered again in Unix
    /// milliseconds, for a driver that keeps them over a restart.
    pub fn answered(&self) -> impl ExactSizeIterator<Item = (MessageId, u64)> + '_ {
        self.answered.iter().map(|(id, one)| (*id, one.until_ms))
    }

    /// Takes an id from before a restart: when the message is delivered again, it comes without a way to answer, because
    /// its SURBs are used.
    pub fn remember_answered(&mut self, now_ms: u64, id: MessageId, until_ms: u64) {
        self.answered.insert(id, Answered { until_ms, since_ms: now_ms });
    }

    /// Ids of committed messages with the time until when to remember them in Unix milliseconds, in the order they came,
    /// for a driver that keeps them over a restart.
    #[must_use]
    pub fn remembered(&self) -> impl ExactSizeIterator<Item = (MessageId, u64)> + '_ {
        self.reassembler.remembered()
    }

    /// Takes an id from before a restart: the message will not be delivered again.
    pub fn remember(&mut self, now_ms: u64, id: MessageId, until_ms: u64) {
        self.reassembler.remember(now_ms, id, until_ms);
    }

    /// SURBs die with the keys on their path, two epochs after they were made at the latest.
    pub(super) fn surb_life_ms(&self) -> u64 {
        self.view.as_ref().map_or(FALLBACK_SURB_LIFE_MS, |view| 2 * view.clock().length_ms())
    }

    fn deliver(&mut self, now_ms: u64, id: MessageId, hops: u8, stream: Vec<u8>) {
        let Ok(stream) = parse_stream(stream) else {
            self.count_drop("bad_stream");
            for item in self.commit(id).unwrap_or_default() {
                self.delete(item);
            }
            return;
        };
        let (reply, reply_capacity) = self.hold(now_ms, id, hops, stream.head);
        for key in self.spools.forget(id, None) {
            // Another sending of it came as bulk.
            self.effects.push_back(Effect::DiscardSpool { key });
        }
        self.stats.messages_delivered += 1;
        let message = Delivery { id, body: stream.body, hops, reply, reply_capacity };
        self.effects.push_back(Effect::Deliver { message });
    }

    /// Keeps the SURBs of a delivered message; gives the handle for its answer, and the room in it.
    pub(super) fn hold(
        &mut self,
        now_ms: u64,
        id: MessageId,
        hops: u8,
        head: StreamHead,
    ) -> (Option<ReplyHandle>, usize) {
        for _ in 0..head.bad_surbs {
            self.count_drop("bad_surb");
        }
        let mut surbs = head.surbs;
        if !surbs.is_empty() && self.answered.contains_key(&id) {
            surbs.clear();
            self.count_drop("surbs_used");
        }
        let given = surbs.len();
        let answers = self.answers_to(hops);
        surbs.retain(|surb| match answers {
            Answers::Anywhere => true,
            Answers::OwnEdges => self.may_enter_at(surb.first()),
            Answers::Nowhere => false,
        });
        let anywhere = matches!(answers, Answers::Anywhere);
        for _ in surbs.len()..given {
            self.count_drop("foreign_surb");
        }
        let until_ms = self.reassembler.uncommitted_until(id).unwrap_or(u64::MAX);
        let reply_capacity = surbs.len() * REPLY_DATA_LEN;
        let reply = (!surbs.is_empty()).then(|| {
            let handle = ReplyHandle(self.next_reply);
            self.next_reply += 1;
            let expires_ms = now_ms.saturating_add(self.surb_life_ms());
            for _ in 0..self.replies.insert(handle, HeldReply { surbs, anywhere, expires_ms, id, until_ms }) {
                self.count_drop("reply_handles_full");
            }
            handle
        });
        (reply, reply_capacity)
    }

    fn acked(&mut self, now_ms: u64, id: MessageId, index: u16, sent_ms: u64) {
        let Some(message) = self.outgoing.get_mut(&id) else { return self.count_drop("unknown_surb") };
        let Some(flight) = message.flights.remove(&index) else { return self.count_drop("unknown_surb") };
        flight.surbs.iter().for_each(|surb_id| drop(self.awaiting.remove(surb_id)));
        let place = usize::from(message.hops).checked_sub(1);
        if let Some(trips) = place.and_then(|place| self.round_trips.get_mut(place)) {
            trips.measure(now_ms.saturating_sub(sent_ms));
        }
        if let Some(timer) = flight.in_air {
            self.timers.remove(&timer);
            self.window.gone();
        }
        self.window.acked();
        self.stats.fragments_acked += 1;
        let total = message.outbound.total();
        if total > 1 {
            let open = u16::try_from(message.flights.len()).unwrap_or(u16::MAX);
            let done = message.next.saturating_sub(open);
            self.effects.push_back(Effect::Progress { id, done, total });
        }
        if message.is_done() {
            self.stats.messages_sent += 1;
            self.forget_outgoing(id);
            self.effects.push_back(Effect::Sent { id });
        }
    }

    fn reply_part(&mut self, id: MessageId, payload: &[u8]) {
        let Some(request) = self.requests.get_mut(&id) else { return self.count_drop("unknown_surb") };
        let pushed = match ReplyPart::parse(payload) {
            Some(part) => request.parts.push(&part, request.surbs.len()),
            None => return self.count_drop("bad_reply"),
        };
        match pushed {
            // Spare packets repeat parts on purpose.
            ReplyPush::Kept | ReplyPush::Duplicate => {}
            ReplyPush::Inconsistent => self.count_drop("bad_reply"),
            ReplyPush::Complete(body) => {
                self.stats.replies_completed += 1;
                // Whoever answers has the request; fragments that wait for their acks need no repeating.
                self.forget_outgoing(id);
                self.forget_request(id);
                self.effects.push_back(Effect::ReplyComplete { id, body });
            }
        }
    }
}
