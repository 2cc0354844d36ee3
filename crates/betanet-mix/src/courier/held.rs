//! SURBs of requests that wait for an answer: bounded in number and in bytes.

use std::collections::BTreeMap;

use betanet_sphinx::SURB_LEN;

use super::state::HeldReply;
use super::types::ReplyHandle;

/// What can be answered.
#[derive(Debug)]
pub(super) struct HeldReplies {
    replies: BTreeMap<ReplyHandle, HeldReply>,
    surbs: usize,
    max_handles: usize,
    max_bytes: usize,
}

impl HeldReplies {
    pub(super) const fn new(max_handles: usize, max_bytes: usize) -> Self {
        Self { replies: BTreeMap::new(), surbs: 0, max_handles, max_bytes }
    }

    pub(super) fn get(&self, handle: ReplyHandle) -> Option<&HeldReply> {
        self.replies.get(&handle)
    }

    /// Takes a request; returns how many others made room. They are the ones that hold most, the oldest of them first: a
    /// flood of large ones costs those that send it.
    pub(super) fn insert(&mut self, handle: ReplyHandle, held: HeldReply) -> usize {
        self.surbs += held.surbs.len();
        self.replies.insert(handle, held);
        let mut evicted = 0;
        while self.replies.len() > self.max_handles || self.surbs * SURB_LEN > self.max_bytes {
            // The newest is spared: a request that alone is too large for the bound cannot be.
            let others = self.replies.iter().filter(|(other, _)| **other != handle);
            let largest = others.max_by_key(|(other, held)| (held.surbs.len(), std::cmp::Reverse(**other)));
            let Some(largest) = largest.map(|(other, _)| *other) else { break };
            self.remove(largest);
            evicted += 1;
        }
        evicted
    }

    pub(super) fn remove(&mut self, handle: ReplyHandle) -> Option<HeldReply> {
        let held = self.replies.remove(&handle)?;
        self.surbs = self.surbs.saturating_sub(held.surbs.len());
        Some(held)
    }

    /// Forgets what has expired; returns how many.
    pub(super) fn expire(&mut self, now_ms: u64) -> usize {
        let gone: Vec<_> =
            self.replies.iter().filter(|(_, held)| held.expires_ms <= now_ms).map(|(handle, _)| *handle).collect();
        for handle in &gone {
            self.remove(*handle);
        }
        gone.len()
    }
}
