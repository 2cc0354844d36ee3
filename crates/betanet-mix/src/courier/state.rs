//! The records that a courier keeps of what is under way.

use std::collections::{BTreeMap, VecDeque};

use betanet_sphinx::{NodeId, ReplyOpener, Surb, SurbId};

use super::types::{PingId, ReplyHandle};
use crate::epoch::Epoch;
use crate::evidence::Trail;
use crate::message::{MessageId, Outbound, Pieces, ReplyAssembler, SEALED_LEN, Sealer};
use crate::path::Path;
use crate::pool::Buffer;
use crate::view::Address;

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) outbound: Outbound,
    pub(super) bytes: usize,
    pub(super) to: Address,
    pub(super) hops: u8,
    pub(super) sealer: Sealer,
    /// The paths that showed, when the message was taken, that it can be sent: its first fragment goes over them.
    pub(super) drawn: Option<Drawn>,
    /// The first fragment that was never sent.
    pub(super) next: u16,
    /// Fragments that were sent and have to be sent again.
    pub(super) again: VecDeque<u16>,
    /// Fragments that were sent and not acknowledged yet.
    pub(super) flights: BTreeMap<u16, Flight>,
    /// Since when the message cannot be sent, and the timer of its patience.
    pub(super) blocked: Option<(u64, TimerKey)>,
    /// The timer of its lifetime; bulk messages go on for as long as they get on.
    pub(super) expiry: Option<TimerKey>,
    /// When the latest of its fragments was sent for the first time, by the wall clock.
    pub(super) advanced_ms: u64,
    /// Whether the message stands in the courier's `turn` or among its `blocked`.
    pub(super) queued: bool,
    /// How far the recipient is with a bulk message, which has no `flights`.
    pub(super) bulk: Option<Bulk>,
}

impl Outgoing {
    /// The fragment to send next, if any. Fragments that were acknowledged late are passed over.
    pub(super) fn pick(&mut self) -> Option<u16> {
        while let Some(index) = self.again.pop_front() {
            let is_open = self.bulk.as_ref().map_or_else(
                || self.flights.get(&index).is_some_and(|flight| flight.in_air.is_none()),
                |bulk| bulk.is_missing(index),
            );
            if is_open {
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

/// What a sender knows of a bulk message.
#[derive(Debug)]
pub(super) struct Bulk {
    /// Pieces that are on their way, and when they left.
    pub(super) in_air: BTreeMap<u16, u64>,
    /// Pieces that the recipient has.
    pub(super) there: Pieces,
    /// Where it has them, and when the probe left that told.
    pub(super) place: (u32, u64),
    pub(super) since_probe: u16,
    /// Whether a probe waits for its turn.
    pub(super) is_due: bool,
    /// Waits for an answer in a row in which nothing was heard.
    pub(super) silent_waits: u32,
    pub(super) timer: Option<TimerKey>,
    pub(super) probes: VecDeque<SurbId>,
    /// When the recipient last had more than before, by the wall clock; at first, when the message was taken.
    pub(super) progress_ms: u64,
}

impl Bulk {
    pub(super) fn new(total: u16, wall_ms: u64) -> Self {
        Self {
            in_air: BTreeMap::new(),
            there: Pieces::none(total),
            place: (0, 0),
            since_probe: 0,
            is_due: false,
            silent_waits: 0,
            timer: None,
            probes: VecDeque::new(),
            progress_ms: wall_ms,
        }
    }

    /// Whether a piece has to be sent again.
    pub(super) fn is_missing(&self, index: u16) -> bool {
        !self.there.contains(index) && !self.in_air.contains_key(&index)
    }
}

/// The ways of one sending and of its ack, and what they were drawn from.
#[derive(Debug)]
pub(super) struct Drawn {
    pub(super) there: Path,
    pub(super) back: Path,
    pub(super) epoch: Epoch,
    /// The courier's count of views and mailboxes.
    pub(super) surroundings: u64,
}

/// Where the answers to a message may enter the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// At the edges that its reply blocks name.
    Anywhere,
    /// At those of them that are the client's own.
    OwnEdges,
    /// It is not answered.
    Nowhere,
}

/// A sealed fragment on its way into a packet: its packet and its ack SURB are made together with those of others.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) id: MessageId,
    pub(super) epoch: Epoch,
    pub(super) there: Path,
    pub(super) load: Load,
    pub(super) sent_ms: u64,
}

/// What goes into the packet of a sending.
#[derive(Debug)]
pub(super) enum Load {
    /// A sealed fragment, which goes beside its ack SURB.
    Fragment { index: u16, back: Path, surb_id: SurbId, sealed: Box<[u8; SEALED_LEN]> },
    /// A probe for a bulk message: its SURBs are sealed with it.
    Probe { backs: Vec<(Path, SurbId)> },
    /// A finished payload.
    Whole(Vec<u8>),
}

impl Load {
    /// The ways back and the ids of the SURBs that have to be made.
    pub(super) fn surbs(&self) -> Vec<(&Path, SurbId)> {
        match self {
            Self::Fragment { back, surb_id, .. } => vec![(back, *surb_id)],
            Self::Probe { backs } => backs.iter().map(|(back, surb_id)| (back, *surb_id)).collect(),
            Self::Whole(_) => Vec::new(),
        }
    }
}

/// A fragment that was sent at least once.
#[derive(Debug, Default)]
pub(super) struct Flight {
    pub(super) tries: u32,
    /// When it was sent for the first time, by the wall clock.
    pub(super) first_ms: u64,
    /// The timer of its latest sending, while that counts against the window.
    pub(super) in_air: Option<TimerKey>,
    /// The ack SURBs of all its sendings; any of them will do.
    pub(super) surbs: Vec<SurbId>,
}

/// A request without a complete answer.
#[derive(Debug)]
pub(super) struct OpenRequest {
    pub(super) surbs: Vec<SurbId>,
    pub(super) parts: ReplyAssembler,
    pub(super) timeout_ms: u64,
    pub(super) timer: TimerKey,
}

/// What a SURB was given out for.
pub(super) enum Awaiting {
    /// With the nodes that it depends on, until it is known what became of the packet.
    Ack {
        opener: ReplyOpener,
        id: MessageId,
        index: u16,
        sent_ms: u64,
        trail: Option<Trail>,
    },
    Reply {
        opener: ReplyOpener,
        id: MessageId,
    },
    Pong {
        opener: ReplyOpener,
        ping: PingId,
        sent_ms: u64,
        trail: Trail,
    },
    Window {
        opener: ReplyOpener,
        id: MessageId,
        sent_ms: u64,
    },
}

/// SURBs of somebody else's request.
#[derive(Debug)]
pub(super) struct HeldReply {
    pub(super) surbs: Vec<Surb>,
    /// Whether the answer may enter at edges that are not the client's.
    pub(super) anywhere: bool,
    pub(super) expires_ms: u64,
    /// The message that they came in.
    pub(super) id: MessageId,
    /// Until when that may be delivered again, Unix milliseconds.
    pub(super) until_ms: u64,
}

/// A message that was answered and may be delivered again.
#[derive(Debug)]
pub(super) struct Answered {
    /// Until when it may, by the wall clock.
    pub(super) until_ms: u64,
    /// Since when this process knows.
    pub(super) since_ms: u64,
}

/// An answer that leaves as soon as it is written down that its SURBs are used.
#[derive(Debug)]
pub(super) struct UnnotedReply {
    pub(super) held: HeldReply,
    pub(super) parts: Vec<Vec<u8>>,
}

/// A packet that goes before fragments.
pub(super) enum ReadyPacket {
    Packet { edge: NodeId, packet: Buffer },
    Reply { surb: Box<Surb>, anywhere: bool, payload: Vec<u8>, last_of: Option<ReplyHandle> },
}

/// When something is due, and a number that tells apart what is due at the same time.
pub(super) type TimerKey = (u64, u64);

/// What happens at a time unless it is cancelled before.
#[derive(Debug)]
pub(super) enum Due {
    /// The latest sending of a fragment was not acknowledged in time.
    Ack { id: MessageId, index: u16 },
    /// Nothing was heard of a bulk message for a while.
    Probe { id: MessageId },
    /// A message could not be sent for as long as it waits.
    Patience { id: MessageId },
    /// A message's lifetime ends.
    Expiry { id: MessageId },
    /// A request has waited for its answer for long enough.
    Request { id: MessageId },
    /// A loop has not come back in time.
    Ping { ping: PingId, surb_id: SurbId },
}
