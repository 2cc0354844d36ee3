//! Messages as streams of bytes, and streams cut into fragments.

use std::collections::HashSet;

use betanet_sphinx::{SURB_LEN, Surb};
use rand_core::CryptoRng;

use super::{FRAGMENT_DATA_LEN, FRAGMENT_HEADER_LEN, FRAGMENT_LEN, MAX_MESSAGE_LEN, MAX_REPLY_SURBS, MessageId};

/// A message on its way out: its stream and how it is cut.
#[derive(Debug)]
pub struct Outbound {
    id: MessageId,
    expiry_ms: u64,
    total: u16,
    stream: Vec<u8>,
}

/// Why a message cannot be cut or a stream not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The body is longer than messages may be.
    #[error("the message has {len} bytes, at most {MAX_MESSAGE_LEN} can be sent")]
    TooLong {
        /// Bytes of the body.
        len: usize,
    },
    /// More SURBs than their count can say.
    #[error("{count} reply packets were asked for, at most {MAX_REPLY_SURBS} are possible")]
    TooManySurbs {
        /// SURBs asked for.
        count: usize,
    },
    /// The stream ends before the SURBs it announces.
    #[error("the message ends inside its reply blocks")]
    Truncated,
}

impl Outbound {
    /// Cuts a message: `surb_count ‖ surbs ‖ body`.
    ///
    /// # Errors
    /// [`StreamError`] when body or SURBs exceed their limits.
    pub fn new(id: MessageId, expiry_ms: u64, surbs: &[Surb], body: &[u8]) -> Result<Self, StreamError> {
        if body.len() > MAX_MESSAGE_LEN {
            return Err(StreamError::TooLong { len: body.len() });
        }
        let too_many = StreamError::TooManySurbs { count: surbs.len() };
        let count = u8::try_from(surbs.len()).map_err(|_| too_many)?;
        let mut stream = Vec::with_capacity(1 + surbs.len() * SURB_LEN + body.len());
        stream.push(count);
        for surb in surbs {
            stream.extend_from_slice(&surb.to_bytes());
        }
        stream.extend_from_slice(body);
        let total = u16::try_from(stream.len().div_ceil(FRAGMENT_DATA_LEN));
        let total = total.map_err(|_| StreamError::TooLong { len: body.len() })?;
        Ok(Self { id, expiry_ms, total, stream })
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Number of fragments, at least one.
    #[must_use]
    pub fn total(&self) -> u16 {
        self.total
    }

    /// The fragment at `index`, ready for sealing; what the data does not fill is random. `None` past the end.
    #[must_use]
    pub fn fragment(&self, rng: &mut impl CryptoRng, index: u16) -> Option<[u8; FRAGMENT_LEN]> {
        let start = usize::from(index).checked_mul(FRAGMENT_DATA_LEN)?;
        let rest = self.stream.get(start..).filter(|rest| !rest.is_empty())?;
        let data = rest.get(..FRAGMENT_DATA_LEN).unwrap_or(rest);
        let mut bytes = [0; FRAGMENT_LEN];
        rng.fill_bytes(bytes.get_mut(FRAGMENT_HEADER_LEN + data.len()..)?);
        let len = u16::try_from(data.len()).ok()?.to_be_bytes();
        let (index, total, expiry) = (index.to_be_bytes(), self.total.to_be_bytes(), self.expiry_ms.to_be_bytes());
        let fields = self.id.0.iter().chain(&index).chain(&total).chain(&expiry).chain(&len).chain(data);
        for (target, source) in bytes.iter_mut().zip(fields) {
            *target = *source;
        }
        Some(bytes)
    }
}

/// A parsed fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// The message it belongs to.
    pub id: MessageId,
    /// Its position.
    pub index: u16,
    /// How many fragments the message has.
    pub total: u16,
    /// When the message expires, Unix milliseconds.
    pub expiry_ms: u64,
    /// Its part of the stream.
    pub data: Box<[u8]>,
}

impl Fragment {
    /// Reads an opened fragment. `None` for anything that no sender writes: an index past the end, a short fragment
    /// that is not the last, an empty one, a length that runs over.
    #[must_use]
    pub fn parse(bytes: &[u8; FRAGMENT_LEN]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let (index, rest) = rest.split_first_chunk::<2>()?;
        let (total, rest) = rest.split_first_chunk::<2>()?;
        let (expiry, rest) = rest.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let (index, total) = (u16::from_be_bytes(*index), u16::from_be_bytes(*total));
        let data = rest.get(..usize::from(u16::from_be_bytes(*len)))?;
        let is_last = index.checked_add(1) == Some(total);
        if index >= total || data.is_empty() || (!is_last && data.len() != FRAGMENT_DATA_LEN) {
            return None;
        }
        Some(Self { id: MessageId(*id), index, total, expiry_ms: u64::from_be_bytes(*expiry), data: data.into() })
    }
}

/// A complete message as its recipient reads it.
#[derive(Debug)]
pub struct Stream {
    /// The reply SURBs that parse, each once.
    pub surbs: Vec<Surb>,
    /// How many announced SURBs did not parse, or stood there before.
    pub bad_surbs: usize,
    /// The body.
    pub body: Vec<u8>,
}

/// Where a SURB's packet header begins: after its first node, with version, parity and group element.
const SURB_HEADER: std::ops::Range<usize> = 32..32 + 2 + 32;

/// Splits a complete stream into its SURBs and its body.
///
/// # Errors
/// [`StreamError`] when the stream ends inside the SURBs or the body is too long.
pub fn parse_stream(mut stream: Vec<u8>) -> Result<Stream, StreamError> {
    let (count, rest) = stream.split_first().ok_or(StreamError::Truncated)?;
    let region_len = usize::from(*count) * SURB_LEN;
    let region = rest.get(..region_len).ok_or(StreamError::Truncated)?;
    let (blocks, _) = region.as_chunks::<SURB_LEN>();
    // Two packets over one header would be alike, whatever else the blocks say.
    let mut headers = HashSet::new();
    let fresh = blocks.iter().filter(|block| headers.insert(block.get(SURB_HEADER)));
    let surbs: Vec<Surb> = fresh.filter_map(|block| Surb::parse(block).ok()).collect();
    let bad_surbs = blocks.len() - surbs.len();
    stream.drain(..=region_len);
    if stream.len() > MAX_MESSAGE_LEN {
        return Err(StreamError::TooLong { len: stream.len() });
    }
    Ok(Stream { surbs, bad_surbs, body: stream })
}
