//! Messages as streams of bytes, and streams cut into fragments.

use std::collections::HashSet;

use betanet_sphinx::{SURB_LEN, Surb};
use rand_core::CryptoRng;

use super::body::Body;
use super::bulk::{BULK_DATA_LEN, BulkMessage};
use super::{FRAGMENT_DATA_LEN, FRAGMENT_HEADER_LEN, FRAGMENT_LEN, MAX_MESSAGE_LEN, MAX_REPLY_SURBS, MessageId};

/// A message on its way out: its stream and how it is cut.
#[derive(Debug)]
pub struct Outbound {
    id: MessageId,
    expiry_ms: u64,
    total: u16,
    /// Bytes of the stream in each part but the last.
    part_len: usize,
    /// What stands before the body.
    head: Vec<u8>,
    body: Body,
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
    /// Cuts a message into fragments: `surb_count ‖ surbs ‖ body`.
    ///
    /// # Errors
    /// [`StreamError`] when body or SURBs exceed their limits.
    pub fn new(id: MessageId, expiry_ms: u64, surbs: &[Surb], body: impl Into<Body>) -> Result<Self, StreamError> {
        Self::cut(id, expiry_ms, surbs, body.into(), FRAGMENT_DATA_LEN)
    }

    /// Cuts a message into pieces for bulk packets.
    ///
    /// # Errors
    /// As [`Outbound::new`].
    pub fn bulk(id: MessageId, expiry_ms: u64, surbs: &[Surb], body: impl Into<Body>) -> Result<Self, StreamError> {
        Self::cut(id, expiry_ms, surbs, body.into(), BULK_DATA_LEN)
    }

    fn cut(id: MessageId, expiry_ms: u64, surbs: &[Surb], body: Body, part_len: usize) -> Result<Self, StreamError> {
        if body.len() > MAX_MESSAGE_LEN {
            return Err(StreamError::TooLong { len: body.len() });
        }
        let too_many = StreamError::TooManySurbs { count: surbs.len() };
        let count = u8::try_from(surbs.len()).map_err(|_| too_many)?;
        let mut head = Vec::with_capacity(1 + surbs.len() * SURB_LEN);
        head.push(count);
        for surb in surbs {
            head.extend_from_slice(&surb.to_bytes());
        }
        let total = u16::try_from((head.len() + body.len()).div_ceil(part_len));
        let total = total.map_err(|_| StreamError::TooLong { len: body.len() })?;
        Ok(Self { id, expiry_ms, total, part_len, head, body })
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Number of fragments or pieces, at least one.
    #[must_use]
    pub fn total(&self) -> u16 {
        self.total
    }

    /// What its bulk packets say of the message.
    #[must_use]
    pub fn bulk_message(&self) -> BulkMessage {
        BulkMessage { id: self.id, total: self.total, expiry_ms: self.expiry_ms }
    }

    /// The part of the stream at `index`. `None` past the end, or if the body cannot be read.
    #[must_use]
    pub fn part(&self, index: u16) -> Option<Vec<u8>> {
        let start = usize::from(index).checked_mul(self.part_len)?;
        let rest = (self.head.len() + self.body.len()).checked_sub(start).filter(|rest| *rest > 0)?;
        let mut data = vec![0; rest.min(self.part_len)];
        let from_head = self.head.get(start..).unwrap_or_default();
        let from_head = from_head.get(..data.len()).unwrap_or(from_head);
        let (head, body) = data.split_at_mut(from_head.len());
        head.copy_from_slice(from_head);
        if !body.is_empty() {
            self.body.read(start.saturating_sub(self.head.len()), body)?;
        }
        Some(data)
    }

    /// The fragment at `index`, ready for sealing; what the data does not fill is random. `None` past the end, or if the
    /// body cannot be read.
    #[must_use]
    pub fn fragment(&self, rng: &mut impl CryptoRng, index: u16) -> Option<[u8; FRAGMENT_LEN]> {
        let data = self.part(index)?;
        let mut bytes = [0; FRAGMENT_LEN];
        rng.fill_bytes(bytes.get_mut(FRAGMENT_HEADER_LEN + data.len()..)?);
        let len = u16::try_from(data.len()).ok()?.to_be_bytes();
        let (index, total, expiry) = (index.to_be_bytes(), self.total.to_be_bytes(), self.expiry_ms.to_be_bytes());
        let fields = self.id.0.iter().chain(&index).chain(&total).chain(&expiry).chain(&len).chain(&data);
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
    /// What stands before the body.
    pub head: StreamHead,
    /// The body.
    pub body: Vec<u8>,
}

/// What stands before the body of a stream.
#[derive(Debug)]
pub struct StreamHead {
    /// The reply SURBs that parse, each once.
    pub surbs: Vec<Surb>,
    /// How many announced SURBs did not parse, or stood there before.
    pub bad_surbs: usize,
    /// Where the body begins.
    pub len: usize,
}

/// Where a SURB's packet header begins: after its first node, with version, parity and group element.
const SURB_HEADER: std::ops::Range<usize> = 32..32 + 2 + 32;

/// Reads the beginning of a stream.
///
/// # Errors
/// [`StreamError::Truncated`] when the stream ends inside the SURBs.
pub fn parse_head(stream: &[u8]) -> Result<StreamHead, StreamError> {
    let (count, rest) = stream.split_first().ok_or(StreamError::Truncated)?;
    let region_len = usize::from(*count) * SURB_LEN;
    let region = rest.get(..region_len).ok_or(StreamError::Truncated)?;
    let (blocks, _) = region.as_chunks::<SURB_LEN>();
    // Two packets over one header would be alike, whatever else the blocks say.
    let mut headers = HashSet::new();
    let fresh = blocks.iter().filter(|block| headers.insert(block.get(SURB_HEADER)));
    let surbs: Vec<Surb> = fresh.filter_map(|block| Surb::parse(block).ok()).collect();
    let bad_surbs = blocks.len() - surbs.len();
    Ok(StreamHead { surbs, bad_surbs, len: 1 + region_len })
}

/// Splits a complete stream into its SURBs and its body.
///
/// # Errors
/// [`StreamError`] when the stream ends inside the SURBs or the body is too long.
pub fn parse_stream(mut stream: Vec<u8>) -> Result<Stream, StreamError> {
    let head = parse_head(&stream)?;
    stream.drain(..head.len);
    if stream.len() > MAX_MESSAGE_LEN {
        return Err(StreamError::TooLong { len: stream.len() });
    }
    Ok(Stream { head, body: stream })
}
