//! Frames: one length for packets, padding, control messages and mailbox items.
//!
//! ```text
//! offset  bytes             field
//!      0  1                 kind
//!      1  2                 length of the body, big-endian, <= PACKET_LEN
//!      3  length            body
//!      .  PACKET_LEN-length zeros
//! ```
//!
//! Whoever sees the ciphertext sees multiples of [`FRAME_LEN`] and nothing of the kinds.

use betanet_mix::pool::Buffer;
use betanet_sphinx::{PACKET_LEN, SURB_LEN, SurbId};
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;

use super::control_message::{ControlMessage, NotInStock};

/// Bytes of a frame on the wire.
pub const FRAME_LEN: usize = HEADER_LEN + PACKET_LEN;

/// Bytes before the body.
pub const HEADER_LEN: usize = 3;

/// Bytes of a control message that fit into one frame beside its flag.
pub const CHUNK_LEN: usize = PACKET_LEN - 1;

/// Set in a control chunk that ends its message.
const LAST_CHUNK: u8 = 0x01;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Nothing; keeps a quiet link alive.
    Padding,
    /// A Sphinx packet.
    Packet,
    /// A part of a JSON control message.
    Control,
    /// An item of a mailbox, from an edge to its client.
    Item,
    /// The client's word that items may be deleted.
    ItemAck,
}

impl FrameKind {
    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Padding => 0x00,
            Self::Packet => 0x01,
            Self::Control => 0x02,
            Self::Item => 0x03,
            Self::ItemAck => 0x04,
        }
    }

    const fn parse(code: u8) -> Option<Self> {
        match code {
            0x00 => Some(Self::Padding),
            0x01 => Some(Self::Packet),
            0x02 => Some(Self::Control),
            0x03 => Some(Self::Item),
            0x04 => Some(Self::ItemAck),
            _ => None,
        }
    }
}

/// A peer sent something that is no frame.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The kind is unknown.
    #[error("unknown frame kind")]
    Kind,
    /// The length exceeds the frame, or does not fit the kind.
    #[error("frame length out of range")]
    Length,
    /// The body does not parse.
    #[error("frame body is malformed")]
    Body,
}

/// A frame to be written: its kind and its body without padding.
#[derive(Debug)]
pub struct Frame {
    kind: FrameKind,
    body: Body,
    /// The turn of a control message, given back when it is written.
    _turn: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Body {
    Packet(Buffer),
    Control(ControlMessage),
    Other(Vec<u8>),
}

impl Frame {
    /// An empty frame.
    #[must_use]
    pub const fn padding() -> Self {
        Self::other(FrameKind::Padding, Vec::new())
    }

    /// A frame around a packet.
    #[must_use]
    pub fn packet(packet: impl Into<Buffer>) -> Self {
        Self { kind: FrameKind::Packet, body: Body::Packet(packet.into()), _turn: None }
    }

    /// A control message, which becomes one frame or several that stay together on the link.
    #[must_use]
    pub fn control(message: impl Into<ControlMessage>) -> Self {
        Self { kind: FrameKind::Control, body: Body::Control(message.into()), _turn: None }
    }

    const fn other(kind: FrameKind, body: Vec<u8>) -> Self {
        Self { kind, body: Body::Other(body), _turn: None }
    }

    /// The same frame, which gives `turn` back when it has been written.
    #[must_use]
    pub(super) fn in_turn(self, turn: OwnedSemaphorePermit) -> Self {
        Self { _turn: Some(turn), ..self }
    }

    /// A frame around a mailbox item.
    #[must_use]
    pub fn item(item: EncodedItem) -> Self {
        Self::other(FrameKind::Item, item.0)
    }

    /// The frames that acknowledge `seqs`.
    #[must_use]
    pub fn item_acks(seqs: &[u64]) -> Vec<Self> {
        seqs.chunks(PACKET_LEN / 8)
            .map(|chunk| Self::other(FrameKind::ItemAck, chunk.iter().flat_map(|seq| seq.to_be_bytes()).collect()))
            .collect()
    }

    /// Appends one padded frame to `out`: the part of the body from `start` on, which is 0 or what
    /// came back before. Returns where the next frame starts; only control messages need several.
    ///
    /// # Errors
    /// A document of the message is held no more: nothing more of the message can be sent.
    pub(super) fn encode(&self, start: usize, out: &mut Vec<u8>) -> Result<Option<usize>, NotInStock> {
        let end = out.len() + FRAME_LEN;
        let next = match &self.body {
            Body::Packet(packet) => {
                self.head(packet.len(), out);
                out.extend_from_slice(packet);
                None
            }
            Body::Other(body) => {
                self.head(body.len(), out);
                out.extend_from_slice(body);
                None
            }
            Body::Control(message) => {
                let rest = message.len().saturating_sub(start);
                let chunk = rest.min(CHUNK_LEN);
                self.head(1 + chunk, out);
                out.push(if chunk == rest { LAST_CHUNK } else { 0 });
                message.copy(start, chunk, out)?;
                (chunk < rest).then_some(start + chunk)
            }
        };
        out.resize(end, 0);
        Ok(next)
    }

    fn head(&self, body: usize, out: &mut Vec<u8>) {
        out.push(self.kind.code());
        // Every constructor and the chunking keep this within PACKET_LEN < 2^16.
        out.extend_from_slice(&u16::try_from(body).unwrap_or(0).to_be_bytes());
    }
}

/// Splits a frame that was read into its kind and its body.
///
/// # Errors
/// The kind is unknown or the length is out of range for it.
pub fn parse(frame: &[u8; FRAME_LEN]) -> Result<(FrameKind, &[u8]), FrameError> {
    let ([code, high, low], rest) = frame.split_first_chunk().ok_or(FrameError::Length)?;
    let kind = FrameKind::parse(*code).ok_or(FrameError::Kind)?;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let body = rest.get(..length).ok_or(FrameError::Length)?;
    let fits = match kind {
        FrameKind::Padding => length == 0,
        FrameKind::Packet => length == PACKET_LEN,
        FrameKind::Control => length >= 1,
        FrameKind::Item => length >= Item::HEADER_LEN,
        FrameKind::ItemAck => length.is_multiple_of(8),
    };
    if fits { Ok((kind, body)) } else { Err(FrameError::Length) }
}

/// The chunk in a control frame, and whether it ends its message.
///
/// # Errors
/// [`FrameError::Body`] if the flag is unknown.
pub fn parse_chunk(body: &[u8]) -> Result<(bool, &[u8]), FrameError> {
    match body.split_first() {
        Some((&LAST_CHUNK, chunk)) => Ok((true, chunk)),
        Some((0, chunk)) if !chunk.is_empty() => Ok((false, chunk)),
        _ => Err(FrameError::Body),
    }
}

/// The sequence numbers in an item-ack frame.
pub fn parse_acks(body: &[u8]) -> impl Iterator<Item = u64> {
    body.as_chunks().0.iter().map(|bytes: &[u8; 8]| u64::from_be_bytes(*bytes))
}

/// What a mailbox holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemBody {
    /// The user payload of a forward packet, with zeros in place of its SURB if it has one for the edge.
    Forward(Vec<u8>),
    /// The payload of a SURB reply, still under the keys of its maker.
    Reply {
        /// Which SURB was used.
        surb_id: SurbId,
        /// δ as it arrived.
        delta: Vec<u8>,
    },
}

/// One mailbox item on a link.
///
/// ```text
/// seq(8) ‖ 0x01 ‖ kind(1) ‖ sealed   forward: the payload without its SURB
/// seq(8) ‖ 0x02 ‖ surb_id(16) ‖ δ    reply
/// seq(8) ‖ 0x03 ‖ payload            bulk: it has no SURB for the edge
/// ```
///
/// A `seq` of 0 says that the edge did not store the item, so it needs no acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Position in the mailbox; ascending, never reused; 0 for what was not stored.
    pub seq: u64,
    /// The content.
    pub body: ItemBody,
}

impl Item {
    const HEADER_LEN: usize = 9;
    const FORWARD: u8 = 0x01;
    const REPLY: u8 = 0x02;
    const BULK: u8 = 0x03;

    /// Reads an item.
    ///
    /// # Errors
    /// [`FrameError::Body`] if it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let (seq, rest) = bytes.split_first_chunk().ok_or(FrameError::Body)?;
        let body = match rest.split_first() {
            Some((&Self::FORWARD, rest)) => {
                let (kind, sealed) = rest.split_first_chunk::<1>().ok_or(FrameError::Body)?;
                ItemBody::Forward([kind, [0; SURB_LEN].as_slice(), sealed].concat())
            }
            Some((&Self::BULK, payload)) => ItemBody::Forward(payload.to_vec()),
            Some((&Self::REPLY, rest)) => {
                let (surb_id, delta) = rest.split_first_chunk::<16>().ok_or(FrameError::Body)?;
                ItemBody::Reply { surb_id: SurbId::from(*surb_id), delta: delta.to_vec() }
            }
            _ => return Err(FrameError::Body),
        };
        Ok(Self { seq: u64::from_be_bytes(*seq), body })
    }
}

/// The bytes of an [`Item`], written once: they are kept on disk and sent to the client as they are.
#[derive(Debug)]
pub struct EncodedItem(Vec<u8>);

impl EncodedItem {
    /// An item with the payload of a forward packet, and with the number 0. The payload's SURB is for the edge alone: it is
    /// neither kept nor sent on.
    ///
    /// # Errors
    /// [`FrameError::Length`] if the payload has no room for a SURB, or the rest does not fit into a frame.
    pub fn forward(payload: &[u8]) -> Result<Self, FrameError> {
        let (kind, rest) = payload.split_first_chunk::<1>().ok_or(FrameError::Length)?;
        let sealed = rest.get(SURB_LEN..).ok_or(FrameError::Length)?;
        Self::new([&[0; 8], [Item::FORWARD].as_slice(), kind, sealed].concat())
    }

    /// An item with the whole payload of a bulk packet, and with the number 0.
    ///
    /// # Errors
    /// [`FrameError::Length`] if it does not fit into a frame.
    pub fn bulk(payload: &[u8]) -> Result<Self, FrameError> {
        Self::new([&[0; 8], [Item::BULK].as_slice(), payload].concat())
    }

    /// An item with what came over a SURB, and with the number 0.
    ///
    /// # Errors
    /// [`FrameError::Length`] if it does not fit into a frame.
    pub fn reply(surb_id: SurbId, delta: &[u8]) -> Result<Self, FrameError> {
        Self::new([&[0; 8], [Item::REPLY].as_slice(), surb_id.as_bytes(), delta].concat())
    }

    /// The bytes of an item that was kept.
    ///
    /// # Errors
    /// [`FrameError::Length`] if they cannot be that of one.
    pub fn new(bytes: Vec<u8>) -> Result<Self, FrameError> {
        if (Item::HEADER_LEN..=PACKET_LEN).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(FrameError::Length) }
    }

    /// The same item with another number.
    #[must_use]
    pub fn numbered(mut self, seq: u64) -> Self {
        self.0.iter_mut().zip(seq.to_be_bytes()).for_each(|(to, from)| *to = from);
        self
    }

    /// What stands in the frame.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

    use super::*;

    fn bytes(frame: &Frame) -> Vec<[u8; FRAME_LEN]> {
        let mut out = Vec::new();
        let mut next = Some(0);
        while let Some(start) = next {
            next = frame.encode(start, &mut out).unwrap();
        }
        let (frames, rest) = out.as_chunks();
        assert!(rest.is_empty());
        frames.to_vec()
    }

    /// INV-LINK-02
    #[test]
    fn every_kind_of_frame_has_the_same_length_and_layout() {
        let item = || EncodedItem::forward(&[7; 2048]).unwrap().numbered(0x0102);
        let frames = [
            (Frame::padding(), vec![]),
            (Frame::packet(&[9; PACKET_LEN]), vec![9; PACKET_LEN]),
            (Frame::control(b"{}".to_vec()), vec![1, b'{', b'}']),
            (Frame::item(item()), item().as_bytes().to_vec()),
            (Frame::item_acks(&[1, 2]).remove(0), [1u64.to_be_bytes(), 2u64.to_be_bytes()].concat()),
        ];
        for (code, (frame, body)) in (0u8..).zip(frames) {
            let bytes = bytes(&frame).remove(0);
            assert_eq!(code, bytes[0]);
            assert_eq!(body.len(), usize::from(u16::from_be_bytes([bytes[1], bytes[2]])));
            assert_eq!(body, bytes[HEADER_LEN..][..body.len()]);
            assert!(bytes[HEADER_LEN + body.len()..].iter().all(|b| *b == 0));
            assert_eq!((frame.kind, body.as_slice()), parse(&bytes).unwrap());
        }
    }

    /// INV-LINK-02
    #[test]
    fn malformed_frames_are_refused() {
        let mut bytes = [0u8; FRAME_LEN];
        bytes[0] = 0x05;
        assert_eq!(Err(FrameError::Kind), parse(&bytes));
        for (kind, length) in [(0x00, 1), (0x01, 100), (0x02, 0), (0x03, 8), (0x04, 9)] {
            bytes[0] = kind;
            bytes[1..3].copy_from_slice(&u16::to_be_bytes(length));
            assert_eq!(Err(FrameError::Length), parse(&bytes), "kind {kind}");
        }
        bytes[0] = 0x01;
        bytes[1..3].copy_from_slice(&u16::MAX.to_be_bytes());
        assert_eq!(Err(FrameError::Length), parse(&bytes));
        assert_eq!(Err(FrameError::Body), parse_chunk(&[2, 1]));
        assert_eq!(Err(FrameError::Body), parse_chunk(&[]));
        assert_eq!(Err(FrameError::Body), parse_chunk(&[0]));
        assert_eq!(Err(FrameError::Body), Item::parse(&[0; 9]));
    }

    #[test]
    fn a_control_message_survives_chunking_at_every_boundary() {
        for length in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN] {
            let message: Vec<u8> = (0u8..=255).cycle().take(length).collect();
            let mut joined = Vec::new();
            let mut ends = Vec::new();
            for bytes in bytes(&Frame::control(message.clone())) {
                let (kind, body) = parse(&bytes).unwrap();
                assert_eq!(FrameKind::Control, kind);
                let (last, chunk) = parse_chunk(body).unwrap();
                joined.extend_from_slice(chunk);
                ends.push(last);
            }
            assert_eq!(message, joined);
            assert_eq!(Some(true), ends.pop());
            assert!(ends.iter().all(|last| !last));
        }
    }

    #[test]
    fn items_and_acks_round_trip() {
        let surb_id = SurbId::from([3; 16]);
        let reply = Item { seq: 0, body: ItemBody::Reply { surb_id, delta: vec![1, 2, 3] } };
        assert_eq!(Ok(reply), Item::parse(EncodedItem::reply(surb_id, &[1, 2, 3]).unwrap().as_bytes()));
        let bulk = Item { seq: 0, body: ItemBody::Forward(vec![4; 2048]) };
        assert_eq!(Ok(bulk), Item::parse(EncodedItem::bulk(&[4; 2048]).unwrap().as_bytes()), "all of it");
        // Of a payload, everything arrives but the SURB.
        let payload = [[7].as_slice(), &[8; SURB_LEN], &[1, 2, 3]].concat();
        let encoded = EncodedItem::forward(&payload).unwrap().numbered(9);
        assert!(!encoded.as_bytes().contains(&8));
        let body = ItemBody::Forward([[7].as_slice(), &[0; SURB_LEN], &[1, 2, 3]].concat());
        assert_eq!(Ok(Item { seq: 9, body }), Item::parse(encoded.as_bytes()));
        assert_eq!(Err(FrameError::Length), EncodedItem::forward(&payload[..SURB_LEN]).map(|_| ()));
        assert_eq!(Err(FrameError::Length), EncodedItem::forward(&[0; PACKET_LEN + SURB_LEN - 8]).map(|_| ()));
        assert_eq!(Err(FrameError::Length), EncodedItem::new(vec![0; 8]).map(|_| ()));
        let seqs: Vec<u64> = (0..1000).collect();
        let parsed: Vec<u64> = Frame::item_acks(&seqs)
            .iter()
            .flat_map(bytes)
            .flat_map(|frame| parse_acks(parse(&frame).unwrap().1).collect::<Vec<_>>())
            .collect();
        assert_eq!(seqs, parsed);
    }
}
