//! The way of packets and items: over links, through nodes, into mailboxes and to their owners.

use betanet_mix::message::{Envelope, EnvelopeKind, ItemRef, encode_ack};
use betanet_sphinx::{Action, MailboxId, NodeId, PACKET_LEN};

use super::MemoryNetwork;
use super::events::Kind;
use crate::client::ClientIndex;
use crate::faults::happens;
use crate::node::StoredItem;

impl MemoryNetwork {
    pub(super) fn arrive(&mut self, index: usize, mut packet: Box<[u8; PACKET_LEN]>) {
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.up) else { return self.count("node_down") };
        match node.unwrap(packet.as_mut_slice()) {
            Ok((action, delay)) => {
                let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
                self.schedule(delay_us, Kind::Release { node: index, action, packet });
            }
            Err(error) => self.count(error.reason()),
        }
    }

    pub(super) fn release(&mut self, index: usize, action: Action, packet: Box<[u8; PACKET_LEN]>) {
        match action {
            Action::Forward { next } => self.link(next, packet, false),
            Action::Deliver { mailbox, payload } => {
                let payload = packet.get(payload).unwrap_or_default().to_vec();
                let envelope = Envelope::parse(&payload).ok();
                if envelope.as_ref().is_some_and(|envelope| envelope.kind == EnvelopeKind::Bulk) {
                    return self.pass_on(index, mailbox, payload);
                }
                let surb = envelope.and_then(|envelope| envelope.ack_surb());
                if !self.store(index, mailbox, StoredItem::Forward(payload)) {
                    return;
                }
                if let Some(surb) = surb {
                    let (first, mut ack) = (surb.first(), Box::new([0; PACKET_LEN]));
                    if surb.reply(&encode_ack(), &mut ack).is_ok() {
                        self.link(first, ack, true);
                    }
                }
            }
            Action::Reply { mailbox, surb_id, delta } => {
                let delta = packet.get(delta).unwrap_or_default().to_vec();
                self.store(index, mailbox, StoredItem::Reply { surb_id, delta });
            }
        }
    }

    /// Hands a bulk packet to whoever the mailbox belongs to, if he is there.
    pub(super) fn pass_on(&mut self, index: usize, mailbox: MailboxId, payload: Vec<u8>) {
        let node = self.nodes.get(index);
        let found = node.and_then(|node| Some((node.id, node.mailboxes.get(&mailbox)?.owner?)));
        let Some((edge, client)) = found.filter(|(_, client)| self.client(*client).is_attached()) else {
            return self.count("owner_away");
        };
        let latency = self.faults.latency_us(&mut self.rng);
        self.schedule(latency, Kind::PassOn { client, edge, payload });
    }

    pub(super) fn store(&mut self, index: usize, mailbox: MailboxId, item: StoredItem) -> bool {
        let node = self.nodes.get_mut(index);
        let found = node.and_then(|node| Some((node.id, node.mailboxes.get_mut(&mailbox)?)));
        let Some((edge, store)) = found else {
            self.count("unknown_mailbox");
            return false;
        };
        let (seq, owner) = (store.store(item), store.owner);
        if let Some(client) = owner.filter(|client| self.client(*client).is_attached()) {
            self.hand_over(client, ItemRef { edge, seq }, mailbox);
        }
        true
    }

    pub(super) fn hand_over(&mut self, client: ClientIndex, item: ItemRef, mailbox: MailboxId) {
        let copies = 1 + u32::from(happens(&mut self.rng, self.faults.redelivery));
        for _ in 0..copies {
            let latency = self.faults.latency_us(&mut self.rng);
            self.schedule(latency, Kind::HandOver { client, item, mailbox });
        }
    }

    pub(super) fn take_item(&mut self, client: ClientIndex, item: ItemRef, mailbox: MailboxId) {
        let node = self.by_id.get(&item.edge).and_then(|index| self.nodes.get(*index));
        let stored = node.and_then(|node| node.mailboxes.get(&mailbox)).and_then(|store| store.items.get(&item.seq));
        let Some(stored) = stored.cloned() else { return };
        let now_ms = self.now_ms();
        let owner = self.client_mut(client);
        if !owner.is_attached() {
            return;
        }
        match stored {
            StoredItem::Forward(payload) => owner.courier.on_forward(now_ms, item, &payload),
            StoredItem::Reply { surb_id, mut delta } => owner.courier.on_reply(now_ms, item, surb_id, &mut delta),
        }
        self.pump(client);
    }

    /// Carries a packet to a node, with everything that may go wrong; `is_new` where its way begins.
    pub(super) fn link(&mut self, to: NodeId, packet: Box<[u8; PACKET_LEN]>, is_new: bool) {
        let Some(node) = self.by_id.get(&to).copied() else { return self.count("unknown_next_hop") };
        if happens(&mut self.rng, self.faults.link_loss) || (is_new && happens(&mut self.rng, self.faults.packet_loss))
        {
            return self.count("lost");
        }
        if happens(&mut self.rng, self.faults.duplication) {
            let latency = self.faults.latency_us(&mut self.rng);
            self.schedule(latency, Kind::Arrive { node, packet: packet.clone() });
        }
        let latency = self.faults.latency_us(&mut self.rng);
        self.schedule(latency, Kind::Arrive { node, packet });
    }
}
