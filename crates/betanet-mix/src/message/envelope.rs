//! The part of a payload that the recipient's edge reads: whether somebody waits for a stored-ack.

use betanet_sphinx::{SURB_LEN, Surb, USER_PAYLOAD_LEN};
use rand_core::CryptoRng;

use super::{BULK_SEALED_LEN, SEALED_LEN};

/// First byte of an ack's payload: the item was stored after a flush to disk.
const ACK_STORED: u8 = 1;

/// What the edge does with a payload besides keeping it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnvelopeKind {
    /// Keep it; nobody waits for an ack.
    Plain,
    /// Keep it, flush it to disk, then use the SURB to say so.
    AckWanted,
    /// A bulk packet: handed to its recipient at once, and not kept; nobody waits for the edge.
    Bulk,
    /// Cover traffic: handed on like any other, and dropped by the recipient.
    Cover,
}

/// A parsed payload. Borrows from it.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// What the edge does with it.
    pub kind: EnvelopeKind,
    surb: &'a [u8],
    /// What is sealed for the recipient.
    pub sealed: Sealed<'a>,
}

/// The part that only the recipient reads.
#[derive(Clone, Copy, Debug)]
pub enum Sealed<'a> {
    /// A fragment, beside the place of the ack SURB.
    Fragment(&'a [u8; SEALED_LEN]),
    /// A bulk packet, which has that place too.
    Bulk(&'a [u8; BULK_SEALED_LEN]),
}

/// The first byte of a bulk packet's payload.
pub(super) const KIND_BULK: u8 = 3;

/// Why a payload is no envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// It is not as long as every payload is.
    #[error("the payload has {len} bytes, not {USER_PAYLOAD_LEN}")]
    WrongLength {
        /// Its length.
        len: usize,
    },
    /// Its first byte is no kind.
    #[error("the payload is of the unknown kind {kind}")]
    UnknownKind {
        /// Its first byte.
        kind: u8,
    },
}

impl<'a> Envelope<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`EnvelopeError`] when the length or the kind is wrong.
    pub fn parse(payload: &'a [u8]) -> Result<Self, EnvelopeError> {
        let wrong_length = EnvelopeError::WrongLength { len: payload.len() };
        let (kind, rest) = payload.split_first().ok_or(wrong_length)?;
        let (surb, sealed) = rest.split_at_checked(SURB_LEN).ok_or(wrong_length)?;
        let sealed = Sealed::Fragment(sealed.try_into().map_err(|_| wrong_length)?);
        let kind = match *kind {
            0 => EnvelopeKind::Plain,
            1 => EnvelopeKind::AckWanted,
            2 => EnvelopeKind::Cover,
            KIND_BULK => {
                let sealed = Sealed::Bulk(rest.try_into().map_err(|_| wrong_length)?);
                return Ok(Self { kind: EnvelopeKind::Bulk, surb: &[], sealed });
            }
            kind => return Err(EnvelopeError::UnknownKind { kind }),
        };
        Ok(Self { kind, surb, sealed })
    }

    /// What is sealed, of either length.
    #[must_use]
    pub fn sealed_bytes(&self) -> &'a [u8] {
        match self.sealed {
            Sealed::Fragment(sealed) => sealed,
            Sealed::Bulk(sealed) => sealed,
        }
    }

    /// The SURB that carries the stored-ack, if one is wanted and its bytes are a SURB.
    #[must_use]
    pub fn ack_surb(&self) -> Option<Surb> {
        (self.kind == EnvelopeKind::AckWanted).then(|| Surb::parse(self.surb).ok()).flatten()
    }
}

/// Writes the envelope of a fragment. Without a SURB its place is filled with random bytes, so that only the kind tells them apart.
#[must_use]
pub fn encode_envelope(
    rng: &mut impl CryptoRng,
    kind: EnvelopeKind,
    surb: Option<&Surb>,
    sealed: &[u8; SEALED_LEN],
) -> Vec<u8> {
    let mut payload = Vec::with_capacity(USER_PAYLOAD_LEN);
    payload.push(match kind {
        EnvelopeKind::Plain => 0,
        EnvelopeKind::AckWanted => 1,
        EnvelopeKind::Cover => 2,
        EnvelopeKind::Bulk => KIND_BULK,
    });
    let region = surb.map_or_else(|| crate::random::bytes(rng), Surb::to_bytes);
    payload.extend_from_slice(&region);
    payload.extend_from_slice(sealed);
    payload
}

/// The payload that an edge sends over an ack SURB once the item is on disk.
#[must_use]
pub fn encode_ack() -> Vec<u8> {
    vec![ACK_STORED]
}

/// Whether an opened SURB reply says that the item was stored.
#[must_use]
pub fn is_stored_ack(payload: &[u8]) -> bool {
    payload == [ACK_STORED]
}
