//! The records that a courier keeps of what is under way.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use betanet_sphinx::{NodeId, PACKET_LEN, ReplyOpener, Surb, SurbId};

use super::types::{PingId, ReplyHandle};
use crate::message::{MessageId, Outbound, ReplyAssembler, Sealer};
use crate::view::Address;

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) outbound: Outbound,
    pub(super) bytes: usize,
    pub(super) to: Address,
    pub(super) hops: u8,
    pub(super) sealer: Sealer,
    /// The first fragment that was never sent.
    pub(super) next: u16,
    /// Fragments that were sent and have to be sent again.
    pub(super) again: VecDeque<u16>,
    /// Fragments that were sent and not acknowledged yet.
    pub(super) flights: BTreeMap<u16, Flight>,
    pub(super) blocked_since: Option<u64>,
    /// Whether the message stands in the courier's `turn` or among its `blocked`.
    pub(super) queued: bool,
}

impl Outgoing {
    /// The fragment to send next, if any. Fragments that were acknowledged late are passed over.
    pub(super) fn pick(&mut self) -> Option<u16> {
        while let Some(index) = self.again.pop_front() {
            if self.flights.get(&index).is_some_and(|flight| !flight.in_air) {
                return Some(index);
            }
        }
        (self.next < self.outbound.total()).then_some(self.next)
    }

    pub(super) fn has_more(&self) -> bool {
        self.next < self.outbound.total() || !self.again.is_empty()
    }

    pub(super) fn is_done(&self) -> bool {
        self.next >= self.outbound.total() && self.flights.is_empty()
    }
}

/// A fragment that was sent at least once.
#[derive(Debug, Default)]
pub(super) struct Flight {
    pub(super) tries: u32,
    /// Whether its latest sending still counts against the window.
    pub(super) in_air: bool,
    /// The ack SURBs of all its sendings; any of them will do.
    pub(super) surbs: Vec<SurbId>,
}

/// A request without a complete answer.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) surbs: Vec<SurbId>,
    pub(super) parts: ReplyAssembler,
    pub(super) timeout_ms: u64,
}

/// What a SURB was given out for.
pub(super) enum Awaiting {
    Ack { opener: ReplyOpener, id: MessageId, index: u16, sent_ms: u64 },
    Reply { opener: ReplyOpener, id: MessageId },
    Pong { opener: ReplyOpener, ping: PingId, sent_ms: u64 },
}

/// SURBs of somebody else's request.
#[derive(Debug)]
pub(super) struct HeldReply {
    pub(super) surbs: Vec<Surb>,
    pub(super) expires_ms: u64,
}

/// A packet that goes before fragments.
pub(super) enum Ready {
    Packet { edge: NodeId, packet: Box<[u8; PACKET_LEN]> },
    Reply { surb: Box<Surb>, payload: Vec<u8>, last_of: Option<ReplyHandle> },
}

/// Something that is due at a time. Ordered for a max-heap: the earliest is the greatest.
#[derive(Debug)]
pub(super) struct Timer {
    pub(super) at_ms: u64,
    pub(super) order: u64,
    pub(super) due: Due,
}

#[derive(Debug)]
pub(super) enum Due {
    Ack {
        id: MessageId,
        index: u16,
        tries: u32,
    },
    /// The message is blocked, or expires.
    Message {
        id: MessageId,
    },
    Request {
        id: MessageId,
    },
    Ping {
        ping: PingId,
        surb_id: SurbId,
    },
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ms, other.order).cmp(&(self.at_ms, self.order))
    }
}
