//! A link to one of the client's own edges, and what waits for it.

use betanet_mix::view::Mailbox;
use betanet_sphinx::PACKET_LEN;

use crate::client::links::LINK_QUEUE;
use crate::control::ControlChannel;
use crate::link::{Frame, LinkSender};

/// A link that was full this long, in milliseconds, takes nothing at present, and its edge is not used.
const STUCK_MS: u64 = 1_000;

/// Places in a link's queue that packets leave to deletions, and deletions that one frame carries.
const SPARE: usize = 16;
const DELETIONS: usize = PACKET_LEN / 8;

/// Deletions that wait for a link: two full mailboxes. An edge that reads none of them gets them again when it hands over the
/// items again.
const MOST_DELETIONS: usize = 1 << 17;

/// The client's hold on one of its mailboxes.
pub(super) struct OwnLink {
    pub(super) mailbox: Mailbox,
    pub(super) link: LinkSender,
    pub(super) channel: ControlChannel,
    /// Since when no look at the link has found room in it.
    full_since: Option<u64>,
    is_stuck: bool,
    /// Items whose deletion found no room in the link yet.
    deletions: Vec<u64>,
}

impl OwnLink {
    pub(super) const fn new(mailbox: Mailbox, link: LinkSender, channel: ControlChannel) -> Self {
        Self { mailbox, link, channel, full_since: None, is_stuck: false, deletions: Vec::new() }
    }

    /// Whether the link took nothing for so long that its edge should not be used.
    pub(super) const fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Looks whether the link takes something; returns whether that has changed.
    pub(super) fn watch(&mut self, now: u64) -> bool {
        self.full_since = (self.room() == 0).then(|| self.full_since.unwrap_or(now));
        let is_stuck = self.full_since.is_some_and(|since| now.saturating_sub(since) >= STUCK_MS);
        std::mem::replace(&mut self.is_stuck, is_stuck) != is_stuck
    }

    /// Resolves when the link has room for a packet, or has ended.
    pub(super) fn takes_something(&self) -> impl Future<Output = ()> + use<> {
        let link = self.link.clone();
        async move {
            // If it has ended, the driver is told in another way.
            let _ = link.room_for(SPARE + 1).await;
        }
    }

    /// Packets that the link has room for.
    pub(super) fn room(&self) -> usize {
        (LINK_QUEUE - SPARE).saturating_sub(self.link.queued())
    }

    /// Deletes items with the next frames that there is room for, or forgets about it: what comes again is known then.
    pub(super) fn delete(&mut self, seqs: &[u64]) {
        let room = MOST_DELETIONS.saturating_sub(self.deletions.len());
        // Items with number 0 were never stored.
        self.deletions.extend(seqs.iter().filter(|seq| **seq != 0).take(room));
    }

    /// Deletions that wait.
    #[cfg(test)]
    pub(super) fn deletions(&self) -> &[u64] {
        &self.deletions
    }

    /// Sends the deletions that there is room for.
    pub(super) fn flush_deletions(&mut self) {
        while !self.deletions.is_empty() && self.link.queued() < LINK_QUEUE {
            let first = self.deletions.len().saturating_sub(DELETIONS);
            for frame in Frame::item_acks(&self.deletions.split_off(first)) {
                // A deletion that gets lost brings the item again at the next attach, and the courier
                // recognises it.
                let _ = self.link.try_send(frame);
            }
        }
    }
}
