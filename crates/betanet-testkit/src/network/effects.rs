//! What the clients' couriers want done, carried out.

use std::collections::BTreeMap;

use betanet_mix::courier::Effect;
use betanet_mix::message::{ItemRef, MessageId};

use super::events::Kind;
use super::{MemoryNetwork, START_MS};
use crate::client::{Behaviour, ClientIndex};

/// Packets that a client's link takes before the courier is asked again.
const CREDIT: usize = 64;
const TICK_US: u64 = 1_000_000;

impl MemoryNetwork {
    /// Grants credit and carries out a client's actions until it has no more.
    pub(super) fn pump(&mut self, index: ClientIndex) {
        let now_ms = self.now_ms();
        loop {
            let client = self.client_mut(index);
            if client.courier.wants_credit() && client.is_attached() {
                client.courier.grant(now_ms, CREDIT);
            }
            let Some(effect) = client.courier.next_effect() else { break };
            self.carry_out(index, effect);
        }
        let wakeup_us = self.client(index).courier.next_wakeup().map(|at_ms| at_ms.saturating_sub(START_MS) * 1000);
        let at_us = wakeup_us.unwrap_or(u64::MAX).clamp(self.now_us, self.now_us + TICK_US);
        let client = self.client_mut(index);
        if client.tick_at_us.is_none_or(|set| at_us < set) {
            client.tick_at_us = Some(at_us);
            let wait = at_us - self.now_us;
            self.schedule(wait, Kind::Tick { client: index });
        }
    }

    pub(super) fn carry_out(&mut self, index: ClientIndex, effect: Effect) {
        let now_ms = self.now_ms();
        match effect {
            Effect::Inject { edge, packet } => {
                if let Some(node) = self.by_id.get(&edge).copied() {
                    *self.client_mut(index).injected.entry(node).or_default() += 1;
                }
                let packet = packet.as_array().expect("couriers make whole packets");
                self.link(edge, Box::new(*packet), true);
            }
            Effect::Delete { edge, seqs } => seqs.into_iter().for_each(|seq| self.delete(index, ItemRef { edge, seq })),
            Effect::Redeliver => {
                self.client_mut(index).redeliveries += 1;
                self.attach(index);
            }
            Effect::Deliver { message } => {
                let client = self.client_mut(index);
                if let (Behaviour::Echo, Some(handle)) = (client.behaviour, message.reply) {
                    let cut = message.body.len().min(message.reply_capacity);
                    let body = message.body.get(..cut).unwrap_or_default();
                    client.courier.reply(now_ms, handle, body).expect("a body cut to the capacity fits");
                }
                let items = if client.behaviour == Behaviour::Hold { None } else { client.courier.commit(message.id) };
                client.delivered.push(message);
                items.unwrap_or_default().into_iter().for_each(|item| self.delete(index, item));
            }
            Effect::SpoolPiece { key, head, index: piece, data } => {
                let client = self.client_mut(index);
                if client.has_room {
                    client.spools.entry(key).or_insert_with(|| (head, BTreeMap::new())).1.insert(piece, data);
                    client.courier.pieces_written(&key, &[piece]);
                } else {
                    client.courier.pieces_not_written(&key, &[piece]);
                }
            }
            Effect::OpenSpool { key, stream_len } => {
                let client = self.client_mut(index);
                let stream = client.stream(&key);
                client.courier.spool_opened(now_ms, &key, stream_len, &stream);
            }
            Effect::DeliverSpool { mut message, key, body } => {
                let stream = self.client(index).stream(&key);
                let body = usize::try_from(body.start).expect("fits")..usize::try_from(body.end).expect("fits");
                message.body = stream.get(body).expect("inside the stream").to_vec();
                self.carry_out(index, Effect::Deliver { message });
            }
            Effect::DiscardSpool { key } => drop(self.client_mut(index).spools.remove(&key)),
            Effect::Progress { .. } => {}
            Effect::Sent { id } => self.client_mut(index).sent.push(id),
            Effect::Failed { id, reason } => self.client_mut(index).failed.push((id, reason)),
            Effect::ReplyComplete { id, body } => self.client_mut(index).replies.push((id, body)),
            Effect::NoteAnswer { handle, id, until_ms } => {
                let client = self.client_mut(index);
                client.answered.push((id, until_ms));
                client.courier.answer_noted(now_ms, handle);
            }
            Effect::ReplySent { handle } => self.client_mut(index).replied.push(handle),
            Effect::Pong { ping, rtt_ms } => self.client_mut(index).pongs.push((ping, rtt_ms)),
            Effect::PingLost { ping } => self.client_mut(index).lost_pings.push(ping),
            other => panic!("the network does not know the effect {other:?}"),
        }
    }

    /// Commits a delivered message of a client that holds its messages.
    pub fn commit(&mut self, client: ClientIndex, id: MessageId) {
        let items = self.client_mut(client).courier.commit(id).unwrap_or_default();
        for item in items {
            self.delete(client, item);
        }
        self.pump(client);
    }

    pub(super) fn delete(&mut self, owner: ClientIndex, item: ItemRef) {
        let Some(node) = self.by_id.get(&item.edge).and_then(|index| self.nodes.get_mut(*index)) else { return };
        for store in node.mailboxes.values_mut().filter(|store| store.owner == Some(owner)) {
            store.items.remove(&item.seq);
        }
    }
}
