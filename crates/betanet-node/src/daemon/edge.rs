//! What an edge does beside mixing: it keeps mailboxes and serves them to their owners.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use betanet_mix::mailbox::Origin;
use betanet_mix::message::{Envelope, EnvelopeKind, encode_ack};
use betanet_sphinx::{MailboxId, NodeId, PACKET_LEN, Surb, SurbId};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::egress::Egress;
use super::mailboxes::{Hold, Mailboxes, PutError};
use super::metrics::Metrics;
use super::mixer::Source;
use crate::link::frame::{EncodedItem, FrameError};
use crate::link::{Frame, LinkSender};
use crate::sync::lock;

/// Items read from disk at once for one client.
const READ_BATCH: usize = 64;

/// Pause before a disk that cannot be read is read again.
const AGAIN: Duration = Duration::from_millis(500);

/// The mailboxes of this node and who is attached to them.
#[derive(Debug)]
pub struct Edge {
    mailboxes: Mailboxes,
    sessions: Sessions,
    metrics: Arc<Metrics>,
}

/// Attached clients by mailbox. Shared with the thread that writes to disk.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    attached: Arc<Mutex<HashMap<MailboxId, Session>>>,
    next: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
struct Session {
    number: u64,
    sender: LinkSender,
    stored: Arc<Notify>,
    taken: Arc<Notify>,
}

impl Sessions {
    /// Tells the client's task that its mailbox has grown.
    pub fn wake(&self, mailbox: MailboxId) {
        if let Some(session) = lock(&self.attached).get(&mailbox) {
            session.stored.notify_one();
        }
    }
}

/// Sends stored-acks: the SURB's first hop is this node itself or a neighbour.
#[derive(Debug)]
pub struct Acknowledger {
    /// This node.
    pub own: NodeId,
    /// The way into its own packet path.
    pub ingress: Source,
    /// Its links.
    pub egress: Egress,
    /// Its figures.
    pub metrics: Arc<Metrics>,
}

impl Acknowledger {
    /// Says over `surb` that the item it came with is on disk.
    pub fn acknowledge(&self, surb: Surb) {
        let first = surb.first();
        let mut packet = [0; PACKET_LEN];
        if surb.reply(&encode_ack(), &mut packet).is_err() {
            self.metrics.drop_one("bad_surb");
        } else if first == self.own {
            // No short cut: the layer for this node has to come off, and its delay to be served, as on
            // any other first hop. Whose edge acknowledges would otherwise show in when it does.
            self.ingress.push([&packet], Instant::now());
        } else {
            self.egress.send(first, &packet);
        }
    }
}

impl Edge {
    /// An edge over opened mailboxes.
    #[must_use]
    pub const fn new(mailboxes: Mailboxes, sessions: Sessions, metrics: Arc<Metrics>) -> Self {
        Self { mailboxes, sessions, metrics }
    }

    /// Keeps the payload of a forward packet; its stored-ack goes out once it is on disk.
    pub fn deliver(&self, mailbox: MailboxId, payload: &[u8]) {
        let Ok(envelope) = Envelope::parse(payload) else {
            self.metrics.drop_one("bad_envelope");
            return;
        };
        let encode = if envelope.kind == EnvelopeKind::Bulk { EncodedItem::bulk } else { EncodedItem::forward };
        let Some(item) = self.encoded(encode(payload)) else {
            return;
        };
        if envelope.kind == EnvelopeKind::Cover {
            // Handed on like any other while its owner is there, and never worth a place on disk.
            self.metrics.cover.add(1);
            self.hand_over(mailbox, item);
            return;
        }
        if envelope.kind == EnvelopeKind::Bulk {
            // Its sender waits for the recipient, and repeats what finds nobody.
            if self.hand_over(mailbox, item).is_some() {
                self.metrics.drop_one("owner_away");
            } else {
                self.metrics.delivered.add(1);
            }
            return;
        }
        let surb = envelope.ack_surb();
        if surb.is_none() && envelope.kind == EnvelopeKind::AckWanted {
            // The item is good; its sender only never hears of it.
            self.metrics.drop_one("bad_surb");
        }
        self.note(self.mailboxes.put(mailbox, item, surb));
    }

    /// Hands a SURB reply to its owner at once, or keeps it until the owner comes.
    pub fn deliver_reply(&self, mailbox: MailboxId, surb_id: SurbId, delta: &[u8]) {
        let Some(item) = self.encoded(EncodedItem::reply(surb_id, delta)) else {
            return;
        };
        if let Some(item) = self.hand_over(mailbox, item) {
            self.note(self.mailboxes.put(mailbox, item, None));
        } else {
            self.metrics.delivered.add(1);
        }
    }

    fn encoded(&self, item: Result<EncodedItem, FrameError>) -> Option<EncodedItem> {
        item.inspect_err(|_| self.metrics.drop_one("bad_item")).ok()
    }

    /// Sends an item that is not stored to its owner; gives it back if the owner is not there or
    /// reads too slowly.
    fn hand_over(&self, mailbox: MailboxId, item: EncodedItem) -> Option<EncodedItem> {
        match lock(&self.sessions.attached).get(&mailbox) {
            Some(session) => session.sender.offer(item).err(),
            None => Some(item),
        }
    }

    fn note(&self, outcome: Result<(), PutError>) {
        match outcome {
            Ok(()) => self.metrics.delivered.add(1),
            Err(err) => self.metrics.drop_one(err.reason()),
        }
        self.update_levels();
    }

    /// Refreshes the gauges of the store.
    pub fn update_levels(&self) {
        let (mailboxes, items) = self.mailboxes.held();
        self.metrics.mailboxes.set(mailboxes);
        self.metrics.mailbox_items.set(items);
    }

    /// Whether the disk refuses writes.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.mailboxes.has_failed()
    }

    /// Attaches a client to its mailbox; a former attachment of the same key ends, and is told.
    ///
    /// # Errors
    /// The edge is full, or its disk refuses.
    pub async fn attach(
        self: &Arc<Self>,
        mailbox: MailboxId,
        origin: Origin,
        sender: LinkSender,
    ) -> Result<Attachment, PutError> {
        let hold = self.mailboxes.attach(mailbox, origin).await?;
        let number = self.sessions.next.fetch_add(1, Ordering::Relaxed);
        let session = Session { number, sender, stored: Arc::default(), taken: Arc::default() };
        let former = lock(&self.sessions.attached).insert(mailbox, session.clone());
        if let Some(former) = former {
            former.taken.notify_one();
        }
        self.update_levels();
        let taken = Arc::clone(&session.taken);
        let mut feeding = JoinSet::new();
        feeding.spawn(Arc::clone(self).feed(mailbox, session));
        Ok(Attachment { edge: Arc::clone(self), mailbox, number, taken, _feeding: feeding, _hold: hold })
    }

    /// Sends everything in the mailbox, oldest first, and then what comes, until the link is closed.
    async fn feed(self: Arc<Self>, mailbox: MailboxId, session: Session) {
        let mut after = 0;
        loop {
            let edge = Arc::clone(&self);
            let read = tokio::task::spawn_blocking(move || edge.mailboxes.read_after(mailbox, after, READ_BATCH));
            let Ok(Ok(items)) = read.await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            if items.is_empty() {
                session.stored.notified().await;
                continue;
            }
            for (seq, bytes) in items {
                after = seq;
                let Some(item) = self.encoded(EncodedItem::new(bytes)) else {
                    continue;
                };
                if session.sender.send(Frame::item(item)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A client's hold on its mailbox; ends when dropped.
#[derive(Debug)]
pub struct Attachment {
    edge: Arc<Edge>,
    mailbox: MailboxId,
    number: u64,
    taken: Arc<Notify>,
    /// What sends the items. It goes with the attachment, whatever it waits for: with the items that it has read, and its place
    /// in the queue of a link that a later attachment may have as well.
    _feeding: JoinSet<()>,
    _hold: Hold,
}

impl Attachment {
    /// Resolves once another attachment has the mailbox.
    pub async fn taken(&self) {
        self.taken.notified().await;
    }

    /// Deletes what the client has taken care of.
    pub fn acknowledge(&self, seqs: &[u64]) {
        self.edge.mailboxes.acknowledge(self.mailbox, seqs);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut attached = lock(&self.edge.sessions.attached);
        if attached.get(&self.mailbox).is_some_and(|session| session.number == self.number) {
            attached.remove(&self.mailbox);
        }
    }
}

#[cfg(test)]
mod tests;
