//! Packets of bulk messages: pieces of the stream, and probes that carry SURBs for the recipient's window acks.
//!
//! A bulk packet asks nothing of the edge, so the place of the ack SURB belongs to the sealed part too. What the recipient
//! holds comes back in a [`WindowAck`], sealed under a key that only the two ends have: edges see the SURBs of nobody.

use betanet_sphinx::{SURB_LEN, Surb, USER_PAYLOAD_LEN};
use rand_core::CryptoRng;

use super::{ENC_LEN, MessageId, NONCE_LEN, TAG_LEN};

/// Bytes of a bulk packet before sealing.
pub const BULK_LEN: usize = USER_PAYLOAD_LEN - 1 - ENC_LEN - NONCE_LEN - TAG_LEN;
/// Bytes of message stream in one bulk packet.
pub const BULK_DATA_LEN: usize = BULK_LEN - BULK_HEADER_LEN;
/// kind 1 ‖ id 16 ‖ index 2 ‖ total 2 ‖ expiry 8 ‖ len 2.
const BULK_HEADER_LEN: usize = 1 + 16 + 2 + 2 + 8 + 2;
/// Most SURBs in one probe.
const MAX_PROBE_SURBS: usize = BULK_DATA_LEN / SURB_LEN;

const PIECE: u8 = 0;
const PROBE: u8 = 1;

/// The message that a bulk packet belongs to, as every one of its packets says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BulkMessage {
    /// Its id.
    pub id: MessageId,
    /// How many pieces it has.
    pub total: u16,
    /// When it expires, Unix milliseconds.
    pub expiry_ms: u64,
}

/// A parsed bulk packet.
#[derive(Debug)]
pub struct BulkPacket {
    /// Its message.
    pub message: BulkMessage,
    /// What it brings.
    pub content: BulkContent,
}

/// What a bulk packet brings.
#[derive(Debug)]
pub enum BulkContent {
    /// A part of the stream.
    Piece {
        /// Its position.
        index: u16,
        /// Its bytes.
        data: Box<[u8]>,
    },
    /// The wish to hear what has arrived.
    Probe {
        /// The SURBs for the answer that parse.
        surbs: Vec<Surb>,
    },
}

/// Writes a piece; what the data does not fill is random. `None` if the data does not fit.
#[must_use]
pub fn encode_piece(
    rng: &mut impl CryptoRng,
    message: &BulkMessage,
    index: u16,
    data: &[u8],
) -> Option<[u8; BULK_LEN]> {
    encode(rng, PIECE, message, index, data)
}

/// Writes a probe. `None` if it is given more SURBs than fit.
#[must_use]
pub fn encode_probe(rng: &mut impl CryptoRng, message: &BulkMessage, surbs: &[Surb]) -> Option<[u8; BULK_LEN]> {
    let count = u16::try_from(surbs.len()).ok()?;
    let data: Vec<u8> = surbs.iter().flat_map(Surb::to_bytes).collect();
    encode(rng, PROBE, message, count, &data)
}

fn encode(
    rng: &mut impl CryptoRng,
    kind: u8,
    message: &BulkMessage,
    number: u16,
    data: &[u8],
) -> Option<[u8; BULK_LEN]> {
    let mut bytes = [0; BULK_LEN];
    rng.fill_bytes(bytes.get_mut(BULK_HEADER_LEN + data.len()..)?);
    let len = u16::try_from(data.len()).ok()?.to_be_bytes();
    let (number, total, expiry) = (number.to_be_bytes(), message.total.to_be_bytes(), message.expiry_ms.to_be_bytes());
    let fields = [kind].into_iter().chain(message.id.0).chain(number).chain(total).chain(expiry).chain(len);
    for (target, source) in bytes.iter_mut().zip(fields.chain(data.iter().copied())) {
        *target = source;
    }
    Some(bytes)
}

impl BulkPacket {
    /// Reads an opened bulk packet. `None` for anything that no sender writes.
    #[must_use]
    pub fn parse(bytes: &[u8; BULK_LEN]) -> Option<Self> {
        let ([kind], rest) = bytes.split_first_chunk::<1>()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (number, rest) = rest.split_first_chunk::<2>()?;
        let (total, rest) = rest.split_first_chunk::<2>()?;
        let (expiry, rest) = rest.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let (number, total) = (u16::from_be_bytes(*number), u16::from_be_bytes(*total));
        let data = rest.get(..usize::from(u16::from_be_bytes(*len)))?;
        let message = BulkMessage { id: MessageId(*id), total, expiry_ms: u64::from_be_bytes(*expiry) };
        let content = match *kind {
            PIECE => {
                let is_last = number.checked_add(1) == Some(total);
                if number >= total || data.is_empty() || (!is_last && data.len() != BULK_DATA_LEN) {
                    return None;
                }
                BulkContent::Piece { index: number, data: data.into() }
            }
            PROBE => {
                let (blocks, rest) = data.as_chunks::<SURB_LEN>();
                if total == 0 || blocks.len() != usize::from(number) || number == 0 || !rest.is_empty() {
                    return None;
                }
                let surbs = blocks.iter().take(MAX_PROBE_SURBS).filter_map(|block| Surb::parse(block).ok()).collect();
                BulkContent::Probe { surbs }
            }
            _ => return None,
        };
        Some(Self { message, content })
    }
}

/// Which pieces of a message are there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pieces {
    total: u16,
    /// All before this one are there.
    first: u16,
    count: u16,
    bits: Vec<u8>,
}

impl Pieces {
    /// None of `total`.
    #[must_use]
    pub fn none(total: u16) -> Self {
        Self { total, first: 0, count: 0, bits: vec![0; usize::from(total).div_ceil(8)] }
    }

    /// Adds one; `false` if it is there already, or past the end.
    pub fn insert(&mut self, index: u16) -> bool {
        if index >= self.total || self.contains(index) {
            return false;
        }
        if let Some(byte) = self.bits.get_mut(usize::from(index / 8)) {
            *byte |= 1 << (index % 8);
        }
        self.count += 1;
        while self.first < self.total && self.contains(self.first) {
            self.first += 1;
        }
        true
    }

    /// Whether it is there.
    #[must_use]
    pub fn contains(&self, index: u16) -> bool {
        self.bits.get(usize::from(index / 8)).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Whether none is missing.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.count == self.total
    }
}

/// What a recipient says of a message in answer to a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WindowAck {
    /// It has all of it: the message was given to the application, or will be without anything more.
    Whole,
    /// It has some of it on its disk.
    Partly {
        /// Tells the places apart that the message was kept in: where one was lost, all has to be sent again.
        /// 0 for none.
        place: u32,
        /// All pieces before this one are there.
        first: u16,
        /// Which are, from `first` on, the lowest bit of the first byte first.
        bits: Vec<u8>,
    },
}

const ACK_WHOLE: u8 = 1;
const ACK_PARTLY: u8 = 0;
/// Bytes of a bitmap that fit an ack, beside its seal and the fields before.
const MAX_BITS_LEN: usize = USER_PAYLOAD_LEN - NONCE_LEN - TAG_LEN - 1 - 4 - 2;

impl WindowAck {
    /// An ack for what is there, as far beyond the first gap as fits.
    #[must_use]
    pub fn of(place: u32, pieces: &Pieces) -> Self {
        // From a whole byte on, so that the bits need no shifting.
        let start = usize::from(pieces.first / 8);
        let rest = pieces.bits.get(start..).unwrap_or_default();
        let bits = rest.get(..MAX_BITS_LEN).unwrap_or(rest);
        let end = bits.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let first = pieces.first - pieces.first % 8;
        Self::Partly { place, first, bits: bits.get(..end).unwrap_or_default().to_vec() }
    }

    /// Whether it says that this piece is there.
    #[must_use]
    pub fn contains(&self, index: u16) -> bool {
        match self {
            Self::Whole => true,
            Self::Partly { first, bits, .. } => index
                .checked_sub(*first)
                .is_none_or(|place| bits.get(usize::from(place / 8)).is_some_and(|byte| byte >> (place % 8) & 1 == 1)),
        }
    }

    /// The bytes before sealing.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Whole => vec![ACK_WHOLE],
            Self::Partly { place, first, bits } => {
                [&[ACK_PARTLY][..], &place.to_be_bytes(), &first.to_be_bytes(), bits].concat()
            }
        }
    }

    /// Reads opened bytes. `None` for anything that no recipient writes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match *kind {
            ACK_WHOLE => rest.is_empty().then_some(Self::Whole),
            ACK_PARTLY => {
                let (place, rest) = rest.split_first_chunk::<4>()?;
                let (first, bits) = rest.split_first_chunk::<2>()?;
                let (place, first) = (u32::from_be_bytes(*place), u16::from_be_bytes(*first));
                Some(Self::Partly { place, first, bits: bits.to_vec() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// INV-MSG-60: an ack names exactly the pieces that are there.
        #[test]
        fn an_ack_survives_its_bytes_and_names_what_is_there(
            total in 1_u16..3000,
            some in proptest::collection::vec(any::<u16>(), 0..400),
            leading in 0_u16..3000,
        ) {
            let mut pieces = Pieces::none(total);
            let there: std::collections::BTreeSet<u16> =
                some.iter().map(|index| index % total).chain(0..leading.min(total)).collect();
            for index in &there {
                prop_assert!(pieces.insert(*index));
                prop_assert!(!pieces.insert(*index));
            }
            prop_assert_eq!(usize::from(pieces.count()), there.len());
            prop_assert_eq!(pieces.is_whole(), there.len() == usize::from(total));
            let ack = WindowAck::parse(&WindowAck::of(7, &pieces).encode()).unwrap();
            for index in 0..total {
                prop_assert_eq!(ack.contains(index), there.contains(&index), "{}", index);
            }
        }

        #[test]
        fn the_parsers_take_any_bytes(bytes in proptest::collection::vec(any::<u8>(), BULK_LEN)) {
            let _ = BulkPacket::parse(bytes.as_slice().try_into().unwrap());
            let _ = WindowAck::parse(&bytes);
        }
    }

    #[test]
    fn an_ack_of_the_longest_message_fits_a_reply_however_sparse_it_is() {
        let mut pieces = Pieces::none(u16::MAX);
        for index in (1..u16::MAX).step_by(2) {
            pieces.insert(index);
        }
        let ack = WindowAck::of(u32::MAX, &pieces);
        assert!(ack.encode().len() + NONCE_LEN + TAG_LEN <= USER_PAYLOAD_LEN);
        assert!(ack.contains(1) && !ack.contains(2), "the nearest gaps are named, those far off later");
    }
}
