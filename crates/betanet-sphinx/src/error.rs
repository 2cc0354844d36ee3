//! One error type per operation.

use crate::geometry::SURB_LEN;

/// Why a packet was dropped. Each variant is one `reason` label of the drop metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Not exactly as long as the geometry says.
    #[error("packet or payload is not exactly as long as its suite says")]
    WrongLength,
    /// First byte names no format that this build knows.
    #[error("packet has an unknown version")]
    UnknownVersion,
    /// The parity byte is neither 0 nor 1.
    #[error("key-epoch parity is neither 0 nor 1")]
    BadParity,
    /// α is not the canonical encoding of a group element.
    #[error("alpha is not a canonical group element")]
    BadAlpha,
    /// α has small order: the shared secret would be all zero.
    #[error("shared secret is all zero")]
    WeakSecret,
    /// γ does not fit the header: altered, or meant for another key.
    #[error("header MAC does not match")]
    BadMac,
    /// This node has seen the packet before.
    #[error("packet was seen before")]
    Replay,
    /// The replay cache can remember no more packets in this epoch.
    #[error("replay cache is full")]
    ReplayCacheFull,
    /// The routing block holds no known command.
    #[error("routing command is unknown")]
    BadCommand,
    /// δ was altered on its way, or was never well formed.
    #[error("payload was altered")]
    BadPayload,
    /// No key is held for the packet's epoch.
    #[error("no key for the packet's epoch")]
    NoKey,
}

impl PacketError {
    /// All reasons, in the order of the checks, for registering their counters at start.
    pub const ALL: [Self; 11] = [
        Self::WrongLength,
        Self::UnknownVersion,
        Self::BadParity,
        Self::NoKey,
        Self::BadAlpha,
        Self::WeakSecret,
        Self::BadMac,
        Self::Replay,
        Self::ReplayCacheFull,
        Self::BadCommand,
        Self::BadPayload,
    ];

    /// The metric label, in snake case.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::WrongLength => "wrong_length",
            Self::UnknownVersion => "unknown_version",
            Self::BadParity => "bad_parity",
            Self::BadAlpha => "bad_alpha",
            Self::WeakSecret => "weak_secret",
            Self::BadMac => "bad_mac",
            Self::Replay => "replay",
            Self::ReplayCacheFull => "replay_cache_full",
            Self::BadCommand => "bad_command",
            Self::BadPayload => "bad_payload",
            Self::NoKey => "no_key",
        }
    }
}

/// Why a packet or a SURB could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A path of no hops leads nowhere.
    #[error("the path has no hops")]
    EmptyPath,
    /// More hops than the geometry has routing blocks.
    #[error("the path has {hops} hops; give 1 to {max}")]
    PathTooLong {
        /// Hops of the path that was given.
        hops: usize,
        /// Hops that the suite's geometry has room for.
        max: usize,
    },
    /// More payload than one packet carries.
    #[error("the payload has {len} bytes; a packet carries up to {max}")]
    PayloadTooLong {
        /// Bytes that were given.
        len: usize,
        /// Bytes that a packet of the suite carries.
        max: usize,
    },
    /// Parity is the lowest bit of the epoch.
    #[error("key-epoch parity is {parity}, not 0 or 1")]
    BadParity {
        /// What was given.
        parity: u8,
    },
    /// The buffer is not as long as the packet that goes into it.
    #[error("the buffer for the packet has {len} bytes, which no packet has")]
    WrongBuffer {
        /// Bytes of the buffer.
        len: usize,
    },
    /// The random source gave a value with which no secret can be agreed.
    #[error("the random source gave an unusable value")]
    BadRandomness,
}

/// Why bytes are not a SURB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SurbError {
    /// Not exactly as long as the geometry says.
    #[error("SURB has {len} bytes, not {SURB_LEN}")]
    WrongLength {
        /// Bytes that were given.
        len: usize,
    },
    /// Its header is one that no node would take.
    #[error("SURB header is malformed: {0}")]
    BadHeader(PacketError),
}

/// Why bytes are not a reply opener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reply opener is malformed")]
pub struct OpenerError;

/// Why bytes are not the public key of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not 32 bytes.
    #[error("public key has {len} bytes, not 32")]
    WrongLength {
        /// Bytes that were given.
        len: usize,
    },
    /// The same element has a smaller encoding.
    #[error("public key is not canonical")]
    NotCanonical,
    /// The coordinate belongs to the twist, not to the curve.
    #[error("public key is not on the curve")]
    NotOnCurve,
    /// The element has order 1, 2, 4 or 8.
    #[error("public key has small order")]
    LowOrder,
    /// The element lies outside the subgroup of prime order.
    #[error("public key is not of prime order")]
    NotPrimeOrder,
}
