//! Replies over SURBs. Every SURB of a request is used, so the number of packets tells nothing about the reply's
//! length; those that the reply does not need repeat its parts and make up for lost ones.

use super::{REPLY_DATA_LEN, REPLY_HEADER_LEN};

/// One part of a reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplyPart<'a> {
    /// Its position.
    pub index: u16,
    /// How many parts the reply has.
    pub total: u16,
    /// Its bytes.
    pub data: &'a [u8],
}

/// Cuts a reply for `surbs` SURBs: exactly `surbs` payloads, each part at least once, spare ones repeating the parts in turn.
///
/// `None` when the body needs more SURBs than there are.
#[must_use]
pub fn reply_parts(body: &[u8], surbs: usize) -> Option<Vec<Vec<u8>>> {
    let needed = body.len().div_ceil(REPLY_DATA_LEN).max(1);
    let total = u16::try_from(needed).ok()?;
    if needed > surbs {
        return None;
    }
    let encode = |index: u16| {
        let start = usize::from(index) * REPLY_DATA_LEN;
        let data = body.get(start..(start + REPLY_DATA_LEN).min(body.len())).unwrap_or_default();
        let len = u16::try_from(data.len()).unwrap_or(0);
        let mut payload = Vec::with_capacity(REPLY_HEADER_LEN + data.len());
        payload.extend_from_slice(&index.to_be_bytes());
        payload.extend_from_slice(&total.to_be_bytes());
        payload.extend_from_slice(&len.to_be_bytes());
        payload.extend_from_slice(data);
        payload
    };
    Some((0..total).cycle().take(surbs).map(encode).collect())
}

impl<'a> ReplyPart<'a> {
    /// Reads a reply payload. `None` for anything that no replier writes.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (header, data) = payload.split_first_chunk::<REPLY_HEADER_LEN>()?;
        let [i0, i1, t0, t1, l0, l1] = *header;
        let (index, total) = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([t0, t1]));
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let data = data.get(..len)?;
        let last = index.checked_add(1) == Some(total);
        // Only the last part may be short, and only a reply of one part may be empty.
        let shape_ok = index < total && if last { len > 0 || total == 1 } else { len == REPLY_DATA_LEN };
        shape_ok.then_some(Self { index, total, data })
    }
}

/// Collects the parts of one reply.
#[derive(Debug, Default)]
pub struct ReplyAssembler {
    total: u16,
    parts: std::collections::BTreeMap<u16, Vec<u8>>,
}

/// What became of a part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplyPush {
    /// Kept; others are missing.
    Kept,
    /// Known already.
    Duplicate,
    /// Contradicts an earlier part.
    Inconsistent,
    /// The whole reply.
    Complete(Vec<u8>),
}

impl ReplyAssembler {
    /// Adds a part of a reply to a request that carried `surbs` SURBs.
    pub fn push(&mut self, part: &ReplyPart<'_>, surbs: usize) -> ReplyPush {
        if usize::from(part.total) > surbs || (self.total != 0 && self.total != part.total) {
            return ReplyPush::Inconsistent;
        }
        if self.parts.contains_key(&part.index) {
            return ReplyPush::Duplicate;
        }
        self.total = part.total;
        self.parts.insert(part.index, part.data.to_vec());
        if self.parts.len() < usize::from(self.total) {
            return ReplyPush::Kept;
        }
        ReplyPush::Complete(std::mem::take(&mut self.parts).into_values().flatten().collect())
    }
}
