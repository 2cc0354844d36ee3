//! What a courier is told and what it tells.

use std::collections::BTreeMap;
use std::ops::Range;

use betanet_sphinx::{BuildError, NodeId};

use crate::message::{MessageId, ReassemblyLimits, SealError, SpoolHead, SpoolKey, SpoolLimits, StreamError};
use crate::path::PathError;
use crate::pool::Buffer;

/// Limits and times of a [`Courier`](super::Courier).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CourierConfig {
    /// Most fragments that wait for their ack at a time.
    pub max_window: usize,
    /// Fragments that may always wait for their ack, however much is lost.
    pub min_window: usize,
    /// Messages of more fragments than this go as bulk: in larger pieces, of which no edge keeps any, and which the
    /// recipient's client acknowledges itself, many at a time. Observable: see the edges' links. `u16::MAX` for none.
    pub bulk_above: u16,
    /// Most pieces of bulk messages that are on their way at a time.
    pub max_bulk_window: u16,
    /// Pieces that may always be on their way.
    pub min_bulk_window: u16,
    /// Sendings of one fragment before its message fails.
    pub max_tries: u32,
    /// What is added to the 99.99 % quantile of the mixing delays until a fragment is sent again, in milliseconds.
    pub rto_slack_ms: u64,
    /// Where the doubling of that time ends, in milliseconds.
    pub max_rto_ms: u64,
    /// How long a message waits for a usable path or consensus before it fails, in milliseconds.
    pub path_patience_ms: u64,
    /// How long recipients and edges keep a message, in milliseconds, unless the send says otherwise.
    pub lifetime_ms: u64,
    /// Most messages on their way out.
    pub max_outgoing_messages: usize,
    /// Most bytes of messages on their way out.
    pub max_outgoing_bytes: usize,
    /// Most requests of others that wait for an answer; those with most reply blocks make room.
    pub max_reply_handles: usize,
    /// Most bytes of their reply blocks.
    pub max_reply_bytes: usize,
    /// Bounds of what arrives in bulk.
    pub spools: SpoolLimits,
    /// Decapsulated contexts that are remembered.
    pub contexts: usize,
    /// Hops of the client's privacy level: only messages that were sealed for as many are taken, and only such are sent.
    /// `None` takes and sends all; but then answers leave over own edges alone, so that no requester learns by an edge of
    /// its own where the client is, and a request of one hop has none.
    pub level: Option<u8>,
    /// Mailboxes of the own address. While the client is not attached to all of them, what is missing of an unfinished
    /// message may lie there, so none is given up.
    pub mailboxes: usize,
    /// Bounds of reassembly.
    pub reassembly: ReassemblyLimits,
}

impl Default for CourierConfig {
    fn default() -> Self {
        Self {
            max_window: 512,
            bulk_above: 128,
            max_bulk_window: 2048,
            min_bulk_window: 64,
            min_window: 32,
            max_tries: 16,
            rto_slack_ms: 300,
            max_rto_ms: 16_000,
            path_patience_ms: 30_000,
            lifetime_ms: 3_600_000,
            max_outgoing_messages: 4096,
            max_outgoing_bytes: 256 * 1024 * 1024,
            max_reply_handles: 4096,
            max_reply_bytes: 32 * 1024 * 1024,
            spools: SpoolLimits::default(),
            contexts: 4096,
            level: None,
            mailboxes: 1,
            reassembly: ReassemblyLimits::default(),
        }
    }
}

/// How a message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendOptions {
    /// Hops of each of its packets, 1 to 7.
    pub hops: u8,
    /// The message's id, for a send that repeats one from before a restart; drawn at random otherwise.
    pub id: Option<MessageId>,
    /// How long it is kept, in milliseconds, though not longer than recipients accept; the configured lifetime otherwise.
    pub lifetime_ms: Option<u64>,
    /// Whether it counts as sent only when the recipient's client has it, which then has to be there. It goes as a bulk
    /// message, however short it is.
    pub delivered: bool,
}

impl SendOptions {
    /// Packets of `hops` hops, a random id, the configured lifetime.
    #[must_use]
    pub fn hops(hops: u8) -> Self {
        Self { hops, id: None, lifetime_ms: None, delivered: false }
    }
}

/// A request of somebody else that waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ReplyHandle(pub u64);

/// A loop under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PingId(pub u64);

/// A complete message from somebody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Its id, for [`Courier::commit`](super::Courier::commit).
    pub id: MessageId,
    /// Its body.
    pub body: Vec<u8>,
    /// The number of hops it was sealed for.
    pub hops: u8,
    /// How it is answered, if the sender left SURBs and they were not used before a restart.
    pub reply: Option<ReplyHandle>,
    /// Most bytes of an answer; 0 if none is possible.
    pub reply_capacity: usize,
}

/// What the driver does next.
#[derive(Debug)]
#[non_exhaustive]
pub enum Effect {
    /// Hand a packet to this edge, linking to it first if need be.
    Inject {
        /// The first node of the packet's path: an own edge, unless the packet has one hop and the client is of a level
        /// that permits it.
        edge: NodeId,
        /// The packet.
        packet: Buffer,
    },
    /// Every fragment of the message is on disk at the recipient's edges, or, of a bulk message, the recipient's client
    /// has all of it.
    Sent {
        /// The message.
        id: MessageId,
    },
    /// More of a message of several parts is acknowledged than before.
    Progress {
        /// The message.
        id: MessageId,
        /// Parts that are.
        done: u16,
        /// Parts of the message.
        total: u16,
    },
    /// Write a piece of a bulk message to the disk, at its place among the others of `key`, and call
    /// [`Courier::pieces_written`](super::Courier::pieces_written) when it would survive a crash, or
    /// [`Courier::pieces_not_written`](super::Courier::pieces_not_written).
    SpoolPiece {
        /// The message.
        key: SpoolKey,
        /// What all its packets say.
        head: SpoolHead,
        /// The piece's position.
        index: u16,
        /// Its bytes.
        data: Box<[u8]>,
    },
    /// A spool is whole: read its beginning and call [`Courier::spool_opened`](super::Courier::spool_opened), or
    /// [`Courier::spool_lost`](super::Courier::spool_lost).
    OpenSpool {
        /// The message.
        key: SpoolKey,
        /// Bytes of its stream.
        stream_len: u64,
    },
    /// A bulk message for the application, as [`Effect::Deliver`], but that its body lies in its spool.
    DeliverSpool {
        /// The message, without its body.
        message: Delivery,
        /// Its spool, which stays until the message is committed.
        key: SpoolKey,
        /// Where in the spool its body lies.
        body: Range<u64>,
    },
    /// Delete a spool, after what was asked for before.
    DiscardSpool {
        /// The message.
        key: SpoolKey,
    },
    /// The message or request came to nothing, or nobody can tell.
    Failed {
        /// The message.
        id: MessageId,
        /// Why.
        reason: FailReason,
    },
    /// A message for the application. Comes once per id; its items stay at the edges until it is committed.
    Deliver {
        /// The message.
        message: Delivery,
    },
    /// The whole answer to a request.
    ReplyComplete {
        /// The request.
        id: MessageId,
        /// The answer.
        body: Vec<u8>,
    },
    /// Write down that a request is answered, so that it lasts over a crash, and then call
    /// [`Courier::answer_noted`](super::Courier::answer_noted): no packet of the answer leaves before. If it cannot be
    /// written, call [`Courier::answer_not_noted`](super::Courier::answer_not_noted).
    NoteAnswer {
        /// The request that is answered.
        handle: ReplyHandle,
        /// Its message, for [`Courier::remember_answered`](super::Courier::remember_answered) after a restart.
        id: MessageId,
        /// Until when the message may be delivered again, Unix milliseconds.
        until_ms: u64,
    },
    /// All packets of an answer were injected. Whether they arrived, only the requester learns.
    ReplySent {
        /// The request that was answered.
        handle: ReplyHandle,
    },
    /// A loop came back.
    Pong {
        /// Which.
        ping: PingId,
        /// Milliseconds from making the packet to its return.
        rtt_ms: u64,
    },
    /// A loop did not come back in time.
    PingLost {
        /// Which.
        ping: PingId,
    },
    /// Let the edge delete these items: they are of no use, or dealt with.
    Delete {
        /// The edge.
        edge: NodeId,
        /// Its numbers for them.
        seqs: Vec<u64>,
    },
    /// Ask every edge to hand over all items that it still holds, as after a reconnect: some were deferred for lack of room.
    Redeliver,
}

/// Why a message came to nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FailReason {
    /// A fragment was sent as often as allowed and never acknowledged. The message may have arrived all the same.
    #[error("no acknowledgement after {tries} sendings; the recipient's edges may be down")]
    NoAck {
        /// Sendings of the fragment.
        tries: u32,
    },
    /// No path could be found for too long.
    #[error("no path for {waited_ms} ms: {error}")]
    NoPath {
        /// How long the message waited.
        waited_ms: u64,
        /// What was missing at the end.
        error: PathError,
    },
    /// There was no valid consensus for too long.
    #[error("no valid consensus for {waited_ms} ms; nothing is sent by an expired one")]
    NoConsensus {
        /// How long the message waited.
        waited_ms: u64,
    },
    /// The recipient's client got nothing more of a bulk message for too long.
    #[error("the recipient's client got nothing more of the message for {idle_ms} ms; it may be away")]
    NoProgress {
        /// How long ago it last had more than before.
        idle_ms: u64,
    },
    /// Nothing of the message could be sent for so long that its recipient may have given it up.
    #[error("nothing could be sent for {idle_ms} ms; the recipient may have given the message up")]
    Interrupted {
        /// How long ago the last of it was sent.
        idle_ms: u64,
    },
    /// The message's lifetime ended first.
    #[error("the message expired before all of it was acknowledged")]
    Expired,
    /// The answer did not come, or not all of it.
    #[error("no complete reply within {timeout_ms} ms")]
    ReplyTimeout {
        /// The time that was given.
        timeout_ms: u64,
        /// Whether all of the request was acknowledged: then it is with the recipient, or at the recipient's edge.
        stored: bool,
    },
    /// [`Courier::cancel`](super::Courier::cancel) was called.
    #[error("cancelled")]
    Cancelled,
    /// The message has no such fragment: its body cannot be read any more.
    #[error("fragment {index} of the message cannot be read; was its file changed?")]
    NoFragment {
        /// The fragment's position.
        index: u16,
    },
    /// A packet could not be made.
    #[error("a packet could not be made: {0}")]
    Build(#[from] BuildError),
    /// A fragment could not be sealed.
    #[error("a fragment could not be sealed: {0}")]
    Seal(#[from] SealError),
}

impl FailReason {
    /// A short name of the reason, for counters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoAck { .. } => "no_ack",
            Self::NoPath { .. } => "no_path",
            Self::NoConsensus { .. } => "no_consensus",
            Self::NoProgress { .. } => "no_progress",
            Self::Interrupted { .. } => "interrupted",
            Self::Expired => "expired",
            Self::ReplyTimeout { .. } => "reply_timeout",
            Self::Cancelled => "cancelled",
            Self::NoFragment { .. } => "no_fragment",
            Self::Build(_) => "build",
            Self::Seal(_) => "seal",
        }
    }
}

/// Why a send is refused at once.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no consensus, or it has expired.
    #[error("there is no valid consensus; nothing can be sent until one arrives")]
    NoConsensus,
    /// The network cannot carry packets with that many hops.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The message is too long or asks for too many reply packets.
    #[error(transparent)]
    Message(#[from] StreamError),
    /// The client is of another privacy level.
    #[error("this client sends packets of {level} hops only, not of {hops}; use the client of that level")]
    WrongLevel {
        /// Hops that were asked for.
        hops: u8,
        /// Hops of the client's level.
        level: u8,
    },
    /// A request without reply packets.
    #[error("a request needs at least one reply packet")]
    NoReplyPackets,
    /// The recipient's key is not usable.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A SURB could not be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A message with this id is under way.
    #[error("message {id} is under way already")]
    Duplicate {
        /// The id.
        id: MessageId,
    },
    /// Too much is under way.
    #[error("{messages} messages with {bytes} bytes are under way; wait until some are done")]
    Busy {
        /// Messages under way.
        messages: usize,
        /// Their bytes.
        bytes: usize,
    },
}

/// Why an answer is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The handle was used before, has expired, or never was.
    #[error("the request was answered already, or its reply blocks have expired")]
    UnknownHandle,
    /// The answer does not fit the reply packets that the requester gave. The handle stays usable.
    #[error("the reply has {len} bytes, the requester left room for {capacity}")]
    TooLong {
        /// Bytes of the answer.
        len: usize,
        /// Bytes that fit.
        capacity: usize,
    },
}

/// What became of the client's own packets of one number of hops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathFigures {
    /// The number of hops.
    pub hops: u8,
    /// Fragments and loops whose end is known, each sending for itself.
    pub tries: u64,
    /// How many of them did not come back in time.
    pub lost: u64,
    /// What a fragment and its ack take, in milliseconds, if any came back.
    pub round_trip_ms: Option<u64>,
    /// What a loop takes, in milliseconds, if any came back.
    pub loop_ms: Option<u64>,
}

/// Counters since the start, and gauges of the moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CourierStats {
    /// Packets injected, of every kind.
    pub packets_injected: u64,
    /// Fragments sent for the first time.
    pub fragments_sent: u64,
    /// Fragments sent again.
    pub fragments_resent: u64,
    /// Fragments acknowledged.
    pub fragments_acked: u64,
    /// Messages stored completely at the recipient's edges.
    pub messages_sent: u64,
    /// Messages and requests that failed, by reason.
    pub failed: BTreeMap<&'static str, u64>,
    /// Messages delivered.
    pub messages_delivered: u64,
    /// Answers received completely.
    pub replies_completed: u64,
    /// Cover packets received.
    pub cover_received: u64,
    /// What was dropped or deferred, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Fragments that wait for their ack now.
    pub in_flight: usize,
    /// How many may.
    pub window: usize,
    /// Messages on their way out.
    pub outgoing_messages: usize,
    /// Requests without a complete answer.
    pub open_requests: usize,
    /// Incoming messages that lack fragments.
    pub unfinished_incoming: usize,
    /// Delivered messages that wait for their commit.
    pub uncommitted: usize,
    /// Bytes that unfinished and uncommitted messages take.
    pub reassembly_bytes: usize,
    /// Pieces of bulk messages that are on their way.
    pub bulk_in_flight: usize,
    /// How many may be.
    pub bulk_window: usize,
    /// Bytes of bulk messages on the disk.
    pub spooled_bytes: u64,
}
