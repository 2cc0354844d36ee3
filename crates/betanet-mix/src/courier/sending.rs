//! Sending: messages, requests, answers, loops.

use std::collections::{BTreeMap, VecDeque};

use betanet_sphinx::{
    PACKET_LEN, ReplyOpener, SURB_LEN, Surb, SurbDraft, SurbId, build_surb, build_surb_batch_knowing,
};
use rand_core::CryptoRng;

use super::Courier;
use super::state::{Awaiting, Bulk, Due, OpenRequest, Outgoing, ReadyPacket, UnnotedReply};
use super::types::{Effect, FailReason, PingId, ReplyError, ReplyHandle, SendError, SendOptions};
use crate::epoch::Epoch;
use crate::evidence::Trail;
use crate::message::{
    Body, FRAGMENT_DATA_LEN, MAX_MESSAGE_LEN, MessageId, Outbound, REPLY_DATA_LEN, ReplyAssembler, Sealer, StreamError,
    reply_parts,
};
use crate::path::{select_loop, select_return};
use crate::random;
use crate::view::{Address, NetworkView};

/// Loops that have not come back by then are lost, whatever the delays.
const MIN_PING_TIMEOUT_MS: u64 = 5_000;
/// Blocked messages are tried this often even if neither view nor mailboxes change: a new epoch may bring keys.
const RETRY_MS: u64 = 1_000;
/// It is looked this often whether some node loses packets.
const JUDGE_MS: u64 = 1_000;
/// Unfinished incoming messages are looked through this often.
const SWEEP_MS: u64 = 10_000;

impl<R: CryptoRng> Courier<R> {
    /// Starts sending a message. Ends in one [`Effect::Sent`] or one [`Effect::Failed`].
    ///
    /// # Errors
    /// [`SendError`] when it cannot even start; then nothing follows.
    pub fn send(
        &mut self,
        now_ms: u64,
        to: &Address,
        body: impl Into<Body>,
        options: SendOptions,
    ) -> Result<MessageId, SendError> {
        self.start(now_ms, to, body.into(), options, None)
    }

    /// Starts a request: a message with `reply_packets` SURBs. Ends in one [`Effect::ReplyComplete`] or one [`Effect::Failed`].
    ///
    /// The answer may have `reply_packets` × [`REPLY_DATA_LEN`] bytes; packets that it does not need repeat its parts, so
    /// more of them make a lost answer less likely.
    ///
    /// # Errors
    /// [`SendError`] when it cannot even start; then nothing follows.
    pub fn request(
        &mut self,
        now_ms: u64,
        to: &Address,
        body: impl Into<Body>,
        options: SendOptions,
        reply_packets: u8,
        timeout_ms: u64,
    ) -> Result<MessageId, SendError> {
        if reply_packets == 0 {
            return Err(SendError::NoReplyPackets);
        }
        // A recipient need not keep a request longer than its sender waits.
        let lifetime_ms = options.lifetime_ms.unwrap_or(timeout_ms.min(self.config.lifetime_ms));
        let options = SendOptions { lifetime_ms: Some(lifetime_ms), ..options };
        self.start(now_ms, to, body.into(), options, Some((reply_packets, timeout_ms)))
    }

    /// Gives up a message or request that is under way; it ends in [`Effect::Failed`]. Returns whether it was under way.
    pub fn cancel(&mut self, id: MessageId) -> bool {
        let known = self.outgoing.contains_key(&id) || self.requests.contains_key(&id);
        if known {
            self.fail(id, FailReason::Cancelled);
        }
        known
    }

    /// Answers a request. All of its SURBs are used, once it is written down that they are: [`Effect::NoteAnswer`] asks for
    /// it. Ends in one [`Effect::ReplySent`], unless [`Courier::answer_not_noted`] takes it back.
    ///
    /// # Errors
    /// [`ReplyError`] when the handle is not usable or the answer too long.
    pub fn reply(&mut self, now_ms: u64, handle: ReplyHandle, body: &[u8]) -> Result<(), ReplyError> {
        let held = self.replies.get(handle).filter(|held| held.expires_ms > now_ms).ok_or(ReplyError::UnknownHandle)?;
        let parts = reply_parts(body, held.surbs.len())
            .ok_or(ReplyError::TooLong { len: body.len(), capacity: held.surbs.len() * REPLY_DATA_LEN })?;
        let held = self.replies.remove(handle).ok_or(ReplyError::UnknownHandle)?;
        self.effects.push_back(Effect::NoteAnswer { handle, id: held.id, until_ms: held.until_ms });
        self.unnoted.insert(handle, UnnotedReply { held, parts });
        Ok(())
    }

    /// Lets an answer leave: it is written down that its SURBs are used.
    pub fn answer_noted(&mut self, now_ms: u64, handle: ReplyHandle) {
        let Some(UnnotedReply { held, parts }) = self.unnoted.remove(&handle) else { return };
        // What was committed meanwhile is not delivered again.
        if self.reassembler.uncommitted_until(held.id).is_some() {
            self.remember_answered(now_ms, held.id, held.until_ms);
        }
        let last = parts.len();
        for ((position, payload), surb) in (1..).zip(parts).zip(held.surbs) {
            let last_of = (position == last).then_some(handle);
            let anywhere = held.anywhere;
            self.ready.push_back(ReadyPacket::Reply { surb: Box::new(surb), anywhere, payload, last_of });
        }
    }

    /// Takes an answer back that could not be written down: its request can be answered again.
    pub fn answer_not_noted(&mut self, handle: ReplyHandle) {
        if let Some(unnoted) = self.unnoted.remove(&handle) {
            self.replies.insert(handle, unnoted.held);
        }
    }

    /// Sends a packet around a loop to an own mailbox. Ends in one [`Effect::Pong`] or one [`Effect::PingLost`].
    ///
    /// # Errors
    /// [`SendError`] when the loop cannot be made.
    pub fn ping(&mut self, now_ms: u64, hops: u8) -> Result<PingId, SendError> {
        let (view, epoch) = self.sending_view(now_ms).ok_or(SendError::NoConsensus)?;
        let path = select_loop(&mut self.rng, &view, epoch, &self.mailboxes, hops)?;
        let surb_id = SurbId::from(random::bytes(&mut self.rng));
        let (surb, opener) = build_surb(&mut self.rng, epoch.parity(), &path.hops, path.mailbox, surb_id)?;
        let mut packet = [0; PACKET_LEN];
        surb.reply(&[], &mut packet)?;
        let ping = PingId(self.next_ping);
        self.next_ping += 1;
        self.awaiting.insert(surb_id, Awaiting::Pong { opener, ping, sent_ms: now_ms, trail: Trail::around(&path) });
        self.ready.push_back(ReadyPacket::Packet { edge: path.first, packet: (&packet).into() });
        let wait = self.timeout_ms(hops, 4).max(MIN_PING_TIMEOUT_MS);
        self.set_timer(now_ms.saturating_add(wait), Due::Ping { ping, surb_id });
        Ok(ping)
    }

    /// Whether a grant would bring packets.
    #[must_use]
    pub fn wants_credit(&self) -> bool {
        !self.ready.is_empty()
            || !self.probes.is_empty()
            || (!self.turn.is_empty() && self.window.has_room())
            || (!self.bulk_turn.is_empty() && self.bulk_window.has_room())
    }

    /// Lets at most `credit` packets be injected now. Credit that finds nothing to send is not kept.
    pub fn grant(&mut self, now_ms: u64, credit: usize) {
        self.run_timers(now_ms);
        let mut left = credit;
        while left > 0
            && let Some(ready) = self.ready.pop_front()
        {
            if self.inject_ready(ready) {
                left -= 1;
            }
        }
        let mut sendings = Vec::new();
        while sendings.len() < left
            && let Some(id) = self.probes.pop_front()
        {
            sendings.extend(self.prepare_probe(now_ms, id));
        }
        while sendings.len() < left
            && let Some(id) = self.next_turn()
        {
            sendings.extend(self.take_one(now_ms, id));
        }
        self.send_all(sendings);
    }

    /// Whose turn it is to send a fragment: those of bulk messages and the others in turn, while their windows have room.
    fn next_turn(&mut self) -> Option<MessageId> {
        self.bulk_is_next = !self.bulk_is_next;
        for is_bulk in [self.bulk_is_next, !self.bulk_is_next] {
            let (turn, window) =
                if is_bulk { (&mut self.bulk_turn, &self.bulk_window) } else { (&mut self.turn, &self.window) };
            if window.has_room()
                && let Some(id) = turn.pop_front()
            {
                return Some(id);
            }
        }
        None
    }

    /// Deals with everything that is due: repeats, failures, expired state.
    pub fn tick(&mut self, now_ms: u64) {
        self.run_timers(now_ms);
        if now_ms >= self.judge_at_ms {
            self.judge_at_ms = now_ms.saturating_add(JUDGE_MS);
            self.judge(now_ms);
        }
        if self.edges.is_empty() || self.sending_view(now_ms).is_none() {
            // Without edges the driver has nothing to grant, so the waiting is noticed here.
            for id in std::mem::take(&mut self.turn).into_iter().chain(std::mem::take(&mut self.bulk_turn)) {
                self.block(now_ms, id);
            }
            self.put_off_probes(now_ms);
        } else if now_ms >= self.retry_at_ms {
            self.retry_at_ms = now_ms.saturating_add(RETRY_MS);
            self.unblock();
        }
        let wall_ms = self.wall_ms(now_ms);
        for item in self.reassembler.expire(now_ms, wall_ms) {
            self.drop_item(item, "expired");
        }
        if self.mailboxes.is_empty() || self.mailboxes.len() < self.config.mailboxes {
            self.attached_ms = None;
        } else if now_ms >= self.sweep_at_ms {
            self.sweep_at_ms = now_ms.saturating_add(SWEEP_MS);
            let attached_ms = *self.attached_ms.get_or_insert(now_ms);
            for item in self.reassembler.give_up(now_ms, attached_ms) {
                self.drop_item(item, "given_up");
            }
            let after_ms = self.reassembler.repeat_ms().saturating_mul(2);
            for key in self.spools.give_up(now_ms, attached_ms, after_ms) {
                self.count_drop("spool_given_up");
                self.effects.push_back(Effect::DiscardSpool { key });
            }
        }
        // Both, because the wall clock may be set forward for a while. The SURBs themselves are dead by then.
        let life_ms = self.surb_life_ms();
        self.answered.retain(|_, one| one.until_ms > wall_ms || one.since_ms.saturating_add(life_ms) > now_ms);
        for _ in 0..self.replies.expire(now_ms) {
            self.count_drop("reply_expired");
        }
        if self.reassembler.take_redeliver(now_ms, wall_ms) {
            self.effects.push_back(Effect::Redeliver);
        }
    }

    fn start(
        &mut self,
        now_ms: u64,
        to: &Address,
        body: Body,
        options: SendOptions,
        answer: Option<(u8, u64)>,
    ) -> Result<MessageId, SendError> {
        let (reply_packets, timeout_ms) = answer.unwrap_or_default();
        let SendOptions { hops, id, lifetime_ms, delivered } = options;
        if let Some(level) = self.config.level.filter(|level| *level != hops) {
            return Err(SendError::WrongLevel { hops, level });
        }
        let id = id.unwrap_or_else(|| MessageId(random::bytes(&mut self.rng)));
        if self.outgoing.contains_key(&id) || self.requests.contains_key(&id) {
            return Err(SendError::Duplicate { id });
        }
        if body.len() > MAX_MESSAGE_LEN {
            return Err(StreamError::TooLong { len: body.len() }.into());
        }
        let stream_len = body.len() + usize::from(reply_packets) * SURB_LEN;
        let bytes = body.in_memory() + usize::from(reply_packets) * SURB_LEN;
        let too_many = self.outgoing.len() >= self.config.max_outgoing_messages;
        // One message always fits, or a small limit would refuse it for ever.
        if too_many || (!self.outgoing.is_empty() && self.outgoing_bytes + bytes > self.config.max_outgoing_bytes) {
            return Err(SendError::Busy { messages: self.outgoing.len(), bytes: self.outgoing_bytes });
        }
        let (view, epoch) = self.sending_view(now_ms).ok_or(SendError::NoConsensus)?;
        // What can never work is said now; what stops working later is waited for.
        let drawn = self.draw(&view, epoch, to, hops)?;
        let (surbs, openers) = self.reply_blocks(&view, epoch, to, hops, reply_packets)?;
        let sealer = Sealer::by(&mut self.agreements, &mut self.rng, to.sealing_key(), hops)?;
        let longest_ms = self.config.reassembly.max_lifetime_ms;
        let lifetime_ms = lifetime_ms.unwrap_or(self.config.lifetime_ms).min(longest_ms);
        let wall_ms = self.wall_ms(now_ms);
        let is_bulk = delivered || stream_len > usize::from(self.config.bulk_above) * FRAGMENT_DATA_LEN;
        let cut = if is_bulk { Outbound::bulk } else { Outbound::new };
        let outbound = cut(id, wall_ms.saturating_add(lifetime_ms), &surbs, body)?;
        if answer.is_some() {
            let surbs = openers.iter().map(betanet_sphinx::ReplyOpener::surb_id).collect();
            let timer = self.set_timer(now_ms.saturating_add(timeout_ms), Due::Request { id });
            self.requests.insert(id, OpenRequest { surbs, parts: ReplyAssembler::default(), timeout_ms, timer });
        }
        for opener in openers {
            self.awaiting.insert(opener.surb_id(), Awaiting::Reply { opener, id });
        }
        let expiry = (!is_bulk).then(|| self.set_timer(now_ms.saturating_add(lifetime_ms), Due::Expiry { id }));
        self.outgoing_bytes += bytes;
        self.outgoing.insert(
            id,
            Outgoing {
                bulk: is_bulk.then(|| Bulk::new(outbound.total(), wall_ms)),
                outbound,
                bytes,
                to: to.clone(),
                hops,
                sealer,
                drawn: Some(drawn),
                next: 0,
                again: VecDeque::new(),
                flights: BTreeMap::new(),
                blocked: None,
                expiry,
                advanced_ms: wall_ms,
                queued: false,
            },
        );
        self.enqueue(id);
        Ok(id)
    }

    /// The SURBs of a request and what opens the answers over them.
    fn reply_blocks(
        &mut self,
        view: &NetworkView,
        epoch: Epoch,
        to: &Address,
        hops: u8,
        count: u8,
    ) -> Result<(Vec<Surb>, Vec<ReplyOpener>), SendError> {
        let mut backs = Vec::with_capacity(count.into());
        for _ in 0..count {
            let back = select_return(&mut self.rng, view, epoch, to, &self.mailboxes, hops)?;
            backs.push((back, SurbId::from(random::bytes(&mut self.rng))));
        }
        let parity = epoch.parity();
        let drafts: Vec<_> = backs
            .iter()
            .map(|(back, surb_id)| SurbDraft { parity, path: &back.hops, mailbox: back.mailbox, surb_id: *surb_id })
            .collect();
        let made = build_surb_batch_knowing(&mut self.rng, &mut self.known, &drafts)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        Ok(made.into_iter().unzip())
    }
}
