//! Headers of Katzenpost's X25519 packets, in the geometry of its published vectors: five hops, 611 bytes.
//!
//! HKDF-SHA256 (expand only), AES-256-CTR, HMAC-SHA256 over all of the header but itself. The cipher of its payload,
//! AEZ, is not implemented: hops leave δ as it is, and packets cannot be made.

use std::time::Duration;

use aes::Aes256Enc;
use chacha20::ChaCha20;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hkdf::Hkdf;
use sha2::{Digest, Sha256, Sha512_256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Block, MacTag, RoutingCommand, Suite, hkdf_expand, hmac_sha256, write};
use crate::error::PacketError;
use crate::geometry::Geometry;
use crate::ids::{NodeId, ReplayTag};
use crate::payload::is_zero;

/// HKDF label of what a hop derives.
const LABEL: &[u8] = b"katzenpost-kdf-v0-hkdf-sha256";

/// What stands before α in every packet.
const VERSION: [u8; 2] = [0, 0];

/// Commands of a routing block; zeros follow the last one.
const COMMAND_END: u8 = 0x00;
const COMMAND_NEXT: u8 = 0x01;
const COMMAND_RECIPIENT: u8 = 0x02;
const COMMAND_SURB_REPLY: u8 = 0x03;
const COMMAND_DELAY: u8 = 0x80;

/// The suite of Katzenpost's X25519 headers.
#[derive(Clone, Copy, Debug)]
pub struct Katzenpost;

/// What the last hop is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KatzenpostLast {
    /// Whom the packet is for, if a command says so.
    pub recipient: Option<[u8; 32]>,
    /// Which SURB was used, if one was.
    pub surb_id: Option<[u8; 16]>,
}

/// What to do with a packet whose header is unwrapped. δ is still enciphered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KatzenpostAction {
    /// Another node is next.
    Forward {
        /// Which.
        next: NodeId,
    },
    /// The packet is at its end.
    Last(KatzenpostLast),
}

/// What one hop derives for the header.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct KatzenpostKeys {
    mac: [u8; 32],
    stream: [u8; 32],
    stream_iv: [u8; 16],
    blinding: [u8; 32],
}

impl Suite for Katzenpost {
    const GEOMETRY: Geometry = Geometry::KATZENPOST;

    type Keys = KatzenpostKeys;
    type Stream = Ctr128BE<Aes256Enc>;
    type Hold = Duration;
    type Last = KatzenpostLast;
    type Action = KatzenpostAction;
    type Delay = Duration;

    fn derive(shared: &[u8; 32]) -> KatzenpostKeys {
        let mut keys = KatzenpostKeys { mac: [0; 32], stream: [0; 32], stream_iv: [0; 16], blinding: [0; 32] };
        // The pseudorandom key is as long as the hash: it is never refused.
        let Ok(hkdf) = Hkdf::<Sha256>::from_prk(shared) else { return keys };
        let bytes: Zeroizing<[u8; 160]> = Zeroizing::new(hkdf_expand(&hkdf, LABEL));
        let front = keys.mac.iter_mut().chain(&mut keys.stream).chain(&mut keys.stream_iv);
        front.zip(bytes.iter()).for_each(|(to, from)| *to = *from);
        // Behind 48 bytes for the payload stands the seed of the factor: the start of the stream that it keys.
        if let Some(seed) = bytes.last_chunk::<32>() {
            ChaCha20::new(seed.into(), &[0; 12].into()).apply_keystream(&mut keys.blinding);
        }
        keys
    }

    fn read_prefix(prefix: &[u8]) -> Result<u8, PacketError> {
        if *prefix == VERSION { Ok(0) } else { Err(PacketError::UnknownVersion) }
    }

    fn mac(keys: &KatzenpostKeys, prefix: &[u8], alpha: &[u8; 32], beta: &[u8]) -> MacTag {
        hmac_sha256(&keys.mac, &[prefix, alpha, beta])
    }

    /// From α itself, which the MAC covers.
    fn replay_tag(_: &KatzenpostKeys, alpha: &[u8; 32]) -> ReplayTag {
        let mut tag = [0; ReplayTag::LEN];
        write(&mut tag, &[&Sha512_256::digest(alpha)]);
        tag.into()
    }

    fn stream(keys: &KatzenpostKeys) -> Self::Stream {
        Ctr128BE::new((&keys.stream).into(), (&keys.stream_iv).into())
    }

    fn read_block(block: &[u8]) -> Result<Block<'_, Duration, KatzenpostLast>, PacketError> {
        let mut rest = block;
        let mut next: Option<(NodeId, &[u8])> = None;
        let mut hold = Duration::ZERO;
        let mut last = KatzenpostLast::default();
        while let Some((command, body)) = rest.split_first() {
            rest = match *command {
                COMMAND_END if is_zero(body) => &[],
                COMMAND_NEXT => {
                    let (id, body) = take::<{ NodeId::LEN }>(body)?;
                    let (gamma, body) =
                        body.split_at_checked(Self::GEOMETRY.gamma_len).ok_or(PacketError::BadCommand)?;
                    next = Some((id.into(), gamma));
                    body
                }
                COMMAND_RECIPIENT => {
                    let (id, body) = take(body)?;
                    last.recipient = Some(id);
                    body
                }
                COMMAND_SURB_REPLY => {
                    let (id, body) = take(body)?;
                    last.surb_id = Some(id);
                    body
                }
                COMMAND_DELAY => {
                    let (milliseconds, body) = take(body)?;
                    hold = Duration::from_millis(u32::from_be_bytes(milliseconds).into());
                    body
                }
                _ => return Err(PacketError::BadCommand),
            };
        }
        Ok(next.map_or(Block::last(last), |(next, next_gamma)| {
            let command = RoutingCommand::Forward { next, hold };
            Block { command, next_gamma }
        }))
    }

    fn blinding(keys: &KatzenpostKeys) -> &[u8; 32] {
        &keys.blinding
    }

    /// AEZ is not implemented: δ stays as it is.
    fn decrypt_payload(_: &KatzenpostKeys, _: &mut [u8]) {}

    fn action(command: RoutingCommand<Duration, KatzenpostLast>, _: &[u8]) -> Result<KatzenpostAction, PacketError> {
        Ok(match command {
            RoutingCommand::Forward { next, .. } => KatzenpostAction::Forward { next },
            RoutingCommand::Last(last) => KatzenpostAction::Last(last),
        })
    }

    fn delay(_: &KatzenpostKeys, hold: Duration) -> Duration {
        hold
    }
}

/// The next `N` bytes of a command, and what follows.
fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), PacketError> {
    let (field, rest) = bytes.split_first_chunk().ok_or(PacketError::BadCommand)?;
    Ok((*field, rest))
}
