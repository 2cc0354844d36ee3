//! Nym's packets, byte for byte as the crate `sphinx-packet` 0.6 makes and takes them (its version 259).
//!
//! HKDF-SHA256, AES-128-CTR, HMAC-SHA256 cut to 16 bytes, LIONESS over ChaCha20 and BLAKE2b. The sender chooses the
//! delays. A reply is built by the SURB's holder like any packet, so that hops cannot tell the two apart.

use std::ops::Range;
use std::time::Duration;

use aes::Aes128Enc;
use ctr::Ctr64BE;
use ctr::cipher::KeyIvInit;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::lioness::Lioness;
use super::{Block, MacTag, Maker, RoutingCommand, Suite, hkdf_expand, hmac_sha256, write};
use crate::error::{BuildError, PacketError};
use crate::geometry::Geometry;
use crate::ids::{NodeId, ReplayTag};
use crate::payload::is_zero;

/// HKDF label of what a hop derives; given as it is, see `sphinx_packet::constants`.
const LABEL: &[u8] =
    b"Dwste mou enan moxlo arketa makru kai ena upomoxlio gia na ton topothetisw kai tha kinisw thn gh.";
/// Salt and label of the payload key.
const PAYLOAD_SALT: &[u8] = b"sphinx-payload-key-V01-CS01-HKDF:SHA256-SALT";
const PAYLOAD_LABEL: &[u8] = b"sphinx-payload-key-V01-CS01-HKDF:SHA256-INFO";

/// Kinds of routing block.
const KIND_FORWARD: u8 = 1;
const KIND_LAST: u8 = 2;

/// 259: payload keys come from seeds.
const VERSION: [u8; 3] = [0, 1, 3];

/// What stands between the zero tag of δ and the zero padding, behind the payload.
const END_MARK: u8 = 1;

/// The suite of Nym's regular packets.
#[derive(Clone, Copy, Debug)]
pub struct Nym;

/// What the last hop of a Nym packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NymLast {
    /// Whom the packet is for.
    pub destination: [u8; 32],
    /// Which SURB was used, if one was.
    pub identifier: [u8; 16],
}

/// What to do with an unwrapped Nym packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NymAction {
    /// Send the packet, which has been rewritten in place, to the next node.
    Forward {
        /// To whom.
        next: NodeId,
    },
    /// The packet is at its end.
    Deliver {
        /// Whom it is for.
        last: NymLast,
        /// Where in the packet the user payload stands.
        payload: Range<usize>,
    },
}

/// What one hop derives.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct NymKeys {
    stream: [u8; 16],
    mac: [u8; 16],
    /// The rest of 192 bytes that a layer's key once was.
    payload_seed: [u8; 16],
    blinding: [u8; 32],
    replay_tag: [u8; 32],
}

impl NymKeys {
    fn lioness(&self) -> Lioness {
        let hkdf = Hkdf::<Sha256>::new(Some(PAYLOAD_SALT), &self.payload_seed);
        Lioness::new(&Zeroizing::new(hkdf_expand(&hkdf, PAYLOAD_LABEL)))
    }
}

impl Suite for Nym {
    const GEOMETRY: Geometry = Geometry::NYM;

    type Keys = NymKeys;
    type Stream = Ctr64BE<Aes128Enc>;
    type Hold = Duration;
    type Last = NymLast;
    type Action = NymAction;
    type Delay = Duration;

    fn derive(shared: &[u8; 32]) -> NymKeys {
        let hkdf = Hkdf::<Sha256>::new(None, shared);
        let bytes: Zeroizing<[u8; 288]> = Zeroizing::new(hkdf_expand(&hkdf, LABEL));
        let mut keys =
            NymKeys { stream: [0; 16], mac: [0; 16], payload_seed: [0; 16], blinding: [0; 32], replay_tag: [0; 32] };
        let front = keys.stream.iter_mut().chain(&mut keys.mac).chain(&mut keys.payload_seed);
        front.zip(bytes.iter()).for_each(|(to, from)| *to = *from);
        let back = keys.blinding.iter_mut().chain(&mut keys.replay_tag);
        back.zip(bytes.iter().skip(32 + Lioness::KEY_LEN)).for_each(|(to, from)| *to = *from);
        keys
    }

    fn read_prefix(_: &[u8]) -> Result<u8, PacketError> {
        Ok(0)
    }

    fn mac(keys: &NymKeys, _: &[u8], _: &[u8; 32], beta: &[u8]) -> MacTag {
        hmac_sha256(&keys.mac, &[beta])
    }

    /// The first half of the tag: 16 bytes tell packets apart as well.
    fn replay_tag(keys: &NymKeys, _: &[u8; 32]) -> ReplayTag {
        let mut tag = [0; ReplayTag::LEN];
        write(&mut tag, &[&keys.replay_tag]);
        tag.into()
    }

    fn stream(keys: &NymKeys) -> Self::Stream {
        Ctr64BE::new((&keys.stream).into(), (&[0; 16]).into())
    }

    fn read_block(block: &[u8]) -> Result<Block<'_, Duration, NymLast>, PacketError> {
        let (kind, rest) = block.split_first().ok_or(PacketError::BadCommand)?;
        let (version, rest) = rest.split_first_chunk().ok_or(PacketError::BadCommand)?;
        if *version != VERSION {
            return Err(PacketError::UnknownVersion);
        }
        let (address, rest) = rest.split_first_chunk::<32>().ok_or(PacketError::BadCommand)?;
        match *kind {
            KIND_FORWARD => {
                let (nanoseconds, next_gamma) = rest.split_first_chunk().ok_or(PacketError::BadCommand)?;
                let hold = Duration::from_nanos(u64::from_be_bytes(*nanoseconds));
                Ok(Block { command: RoutingCommand::Forward { next: (*address).into(), hold }, next_gamma })
            }
            KIND_LAST => {
                let (identifier, _) = rest.split_first_chunk().ok_or(PacketError::BadCommand)?;
                Ok(Block::last(NymLast { destination: *address, identifier: *identifier }))
            }
            _ => Err(PacketError::BadCommand),
        }
    }

    fn blinding(keys: &NymKeys) -> &[u8; 32] {
        &keys.blinding
    }

    fn decrypt_payload(keys: &NymKeys, delta: &mut [u8]) {
        keys.lioness().decrypt(delta);
    }

    fn action(command: RoutingCommand<Duration, NymLast>, delta: &[u8]) -> Result<NymAction, PacketError> {
        match command {
            RoutingCommand::Forward { next, .. } => Ok(NymAction::Forward { next }),
            RoutingCommand::Last(last) => {
                let len = read_payload(delta).ok_or(PacketError::BadPayload)?;
                let start = Self::GEOMETRY.header_len + Self::GEOMETRY.user_payload_start();
                Ok(NymAction::Deliver { last, payload: start..start + len })
            }
        }
    }

    fn delay(_: &NymKeys, hold: Duration) -> Duration {
        hold
    }
}

impl Maker for Nym {
    type Recipient = NymLast;

    fn write_prefix(_: u8, _: &mut [u8]) {}

    fn last(to: NymLast) -> NymLast {
        to
    }

    fn write_block(command: &RoutingCommand<Duration, NymLast>, gamma: &[u8], block: &mut [u8]) {
        match command {
            RoutingCommand::Forward { next, hold } => {
                // The field holds 584 years.
                let nanoseconds = u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX);
                write(block, &[&[KIND_FORWARD], &VERSION, next.as_ref(), &nanoseconds.to_be_bytes(), gamma]);
            }
            RoutingCommand::Last(last) => {
                write(block, &[&[KIND_LAST], &VERSION, &last.destination, &last.identifier]);
            }
        }
    }

    fn write_payload(_: NymLast, payload: &[u8], delta: &mut [u8]) -> Result<(), BuildError> {
        let too_long = BuildError::PayloadTooLong { len: payload.len(), max: Self::GEOMETRY.user_payload_len };
        let (tag, room) = delta.split_at_mut_checked(Self::GEOMETRY.tag_len).ok_or(too_long)?;
        let (used, rest) = room.split_at_mut_checked(payload.len()).ok_or(too_long)?;
        let (end, padding) = rest.split_first_mut().ok_or(too_long)?;
        tag.fill(0);
        used.copy_from_slice(payload);
        *end = END_MARK;
        padding.fill(0);
        Ok(())
    }

    fn encrypt_payload(keys: &NymKeys, delta: &mut [u8]) {
        keys.lioness().encrypt(delta);
    }
}

/// The length of the user payload in an opened δ: up to the mark, which zeros follow.
fn read_payload(delta: &[u8]) -> Option<usize> {
    let (tag, room) = delta.split_at_checked(Nym::GEOMETRY.tag_len)?;
    let len = room.iter().rposition(|byte| *byte != 0)?;
    (is_zero(tag) && room.get(len) == Some(&END_MARK)).then_some(len)
}
