//! What travels in the payload of a packet: edge envelopes, sealed fragments, replies.
//!
//! The byte tables and the promises `INV-MSG-…` stand in `docs/spec/message.md`; the constants here are derived from
//! one another and a test compares them with the tables.

mod body;
mod bulk;
mod envelope;
mod fragment;
mod hpke;
mod reassembly;
mod reply;
mod seal;
mod spools;

use betanet_sphinx::{NodeId, SURB_LEN, USER_PAYLOAD_LEN};

pub use body::{Body, BodySource};
pub use bulk::{
    BULK_DATA_LEN, BULK_LEN, BulkContent, BulkMessage, BulkPacket, Pieces, WindowAck, encode_piece, encode_probe,
};
pub use envelope::{Envelope, EnvelopeError, EnvelopeKind, Sealed, encode_ack, encode_envelope, is_stored_ack};
pub use fragment::{Fragment, Outbound, Stream, StreamError, StreamHead, parse_head, parse_stream};
pub use reassembly::{Inserted, Reassembler, ReassemblyLimits};
pub use reply::{ReplyAssembler, ReplyPart, ReplyPush, reply_parts};
pub use seal::{AckKey, Agreements, ContextCache, OpenedBulk, OpenedFragment, SealError, Sealer, SealingKey};
pub use spools::{ProbeAnswer, SpoolHead, SpoolKey, SpoolLimits, Spools, TakenPiece};

/// Longest body of one message.
pub const MAX_MESSAGE_LEN: usize = 64 * 1024 * 1024;
/// Most reply SURBs that one message carries.
pub const MAX_REPLY_SURBS: usize = 255;
/// Bytes of a sealed fragment.
pub const SEALED_LEN: usize = USER_PAYLOAD_LEN - 1 - SURB_LEN;
/// Bytes of a sealed bulk packet.
pub const BULK_SEALED_LEN: usize = USER_PAYLOAD_LEN - 1;
/// Most bytes of a stream before its body.
pub const MAX_HEAD_LEN: usize = 1 + MAX_REPLY_SURBS * SURB_LEN;
/// Bytes of a fragment before sealing.
pub const FRAGMENT_LEN: usize = SEALED_LEN - ENC_LEN - NONCE_LEN - TAG_LEN;
/// Bytes of message stream in one fragment.
pub const FRAGMENT_DATA_LEN: usize = FRAGMENT_LEN - FRAGMENT_HEADER_LEN;
/// Bytes of reply body in one SURB reply.
pub const REPLY_DATA_LEN: usize = USER_PAYLOAD_LEN - REPLY_HEADER_LEN;

pub(crate) const ENC_LEN: usize = 32;
pub(crate) const NONCE_LEN: usize = 12;
pub(crate) const TAG_LEN: usize = 16;
/// id 16 ‖ index 2 ‖ total 2 ‖ expiry 8 ‖ len 2.
pub(crate) const FRAGMENT_HEADER_LEN: usize = 16 + 2 + 2 + 8 + 2;
/// index 2 ‖ total 2 ‖ len 2.
pub(crate) const REPLY_HEADER_LEN: usize = 2 + 2 + 2;

/// The name of a message, drawn at random by its sender; a message is delivered once per id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub [u8; 16]);

impl std::fmt::Debug for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MessageId({self})")
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// One item of a mailbox: which edge keeps it and under which number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ItemRef {
    /// The edge that keeps the item.
    pub edge: NodeId,
    /// The edge's number for it.
    pub seq: u64,
}

#[cfg(test)]
mod tests;
