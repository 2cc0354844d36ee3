//! What can go wrong, once for all operations: a caller counts the reasons.

/// Why a message, a frame or a seal was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NoiseError {
    /// Too short or too long to be what it should be.
    #[error("{len} bytes are not the length of such a message: {least} to {most} are")]
    WrongLength {
        /// Bytes that were given.
        len: usize,
        /// Bytes of the shortest.
        least: usize,
        /// Bytes of the longest.
        most: usize,
    },
    /// Not what the session waits for: the handshake is not over, or is, or the other side is to speak.
    #[error("the session does not wait for this now")]
    OutOfTurn,
    /// With this public key every secret would be zero.
    #[error("the public key has small order")]
    WeakKey,
    /// Altered, or made with other keys.
    #[error("the message was altered, or was not made for this key")]
    BadTag,
    /// The frame's number was received before.
    #[error("the frame was received before")]
    Replayed,
    /// The frame's number is so far behind the newest that nothing is known of it.
    #[error("the frame is too far behind the newest")]
    TooOld,
    /// The session has sent as many frames as it has numbers for.
    #[error("the session has no numbers left: open another")]
    Exhausted,
}

impl NoiseError {
    /// The metric label, in snake case.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::WrongLength { .. } => "wrong_length",
            Self::OutOfTurn => "out_of_turn",
            Self::WeakKey => "weak_key",
            Self::BadTag => "bad_tag",
            Self::Replayed => "replayed",
            Self::TooOld => "too_old",
            Self::Exhausted => "exhausted",
        }
    }
}

/// What `snow` says, lengths aside: those are looked at before it is asked.
impl From<snow::Error> for NoiseError {
    fn from(error: snow::Error) -> Self {
        match error {
            snow::Error::Dh => Self::WeakKey,
            snow::Error::Decrypt | snow::Error::Input => Self::BadTag,
            _ => Self::OutOfTurn,
        }
    }
}
