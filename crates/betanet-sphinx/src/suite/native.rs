//! The native suite: HKDF-SHA256, AES-256-CTR, HMAC-SHA256 cut to 16 bytes, HCTR2-AES-256.

use aes::Aes256Enc;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use rand_core::Rng;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::hctr2::Hctr2;
use super::{Command, HopKeys, KeyStream, MacTag, Suite};
use crate::error::PacketError;
use crate::geometry::Geometry;
use crate::ids::{DelayInput, MailboxId, NodeId, ReplayTag, SurbId};

/// First byte of every native packet.
const VERSION: u8 = 0x01;

/// HKDF salt: separates this suite from every other use of the same key.
const SALT: &[u8] = b"betanet-sphinx/native/1";
/// HKDF labels, one for each derived value.
const LABEL_MAC: &[u8] = b"header-mac";
const LABEL_STREAM: &[u8] = b"header-stream";
const LABEL_PAYLOAD: &[u8] = b"payload";
const LABEL_BLINDING: &[u8] = b"blinding";
const LABEL_REPLAY: &[u8] = b"replay-tag";
const LABEL_DELAY: &[u8] = b"delay";

/// Kinds of routing block.
const KIND_FORWARD: u8 = 0x00;
const KIND_DELIVER: u8 = 0x01;
const KIND_REPLY: u8 = 0x02;

/// The suite of this network; `docs/spec/packet.md` describes it byte for byte.
#[derive(Clone, Copy, Debug)]
pub struct Native;

/// Key of one layer of δ.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PayloadKey([u8; 32]);

impl PayloadKey {
    /// Takes 32 secret bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What one hop derives.
#[derive(ZeroizeOnDrop)]
pub struct NativeKeys {
    mac: [u8; 32],
    stream: [u8; 32],
    payload: PayloadKey,
    blinding: [u8; 32],
    replay_tag: [u8; 16],
    delay: [u8; 16],
}

impl HopKeys for NativeKeys {
    type PayloadKey = PayloadKey;

    fn payload(&self) -> &PayloadKey {
        &self.payload
    }

    fn into_payload(mut self) -> PayloadKey {
        std::mem::replace(&mut self.payload, PayloadKey([0; 32]))
    }

    fn blinding(&self) -> &[u8; 32] {
        &self.blinding
    }

    fn replay_tag(&self) -> ReplayTag {
        self.replay_tag.into()
    }

    fn delay(&self) -> DelayInput {
        self.delay.into()
    }
}

/// AES-256-CTR with a zero initial counter: each key enciphers one header once.
pub struct NativeStream(Ctr128BE<Aes256Enc>);

impl KeyStream for NativeStream {
    fn apply(&mut self, data: &mut [u8]) {
        self.0.apply_keystream(data);
    }
}

impl Suite for Native {
    const GEOMETRY: Geometry = Geometry::NATIVE;

    type Keys = NativeKeys;
    type PayloadKey = PayloadKey;
    type Stream = NativeStream;

    fn derive(shared: &[u8; 32]) -> NativeKeys {
        let hkdf = Hkdf::<Sha256>::new(Some(SALT), shared);
        NativeKeys {
            mac: expand(&hkdf, LABEL_MAC),
            stream: expand(&hkdf, LABEL_STREAM),
            payload: PayloadKey(expand(&hkdf, LABEL_PAYLOAD)),
            blinding: expand(&hkdf, LABEL_BLINDING),
            replay_tag: expand(&hkdf, LABEL_REPLAY),
            delay: expand(&hkdf, LABEL_DELAY),
        }
    }

    fn write_prefix(parity: u8, prefix: &mut [u8]) {
        if let [version, key_parity] = prefix {
            *version = VERSION;
            *key_parity = parity;
        }
    }

    fn read_prefix(prefix: &[u8]) -> Result<u8, PacketError> {
        match prefix {
            [VERSION, parity @ (0 | 1)] => Ok(*parity),
            [VERSION, _] => Err(PacketError::BadParity),
            [_, _] => Err(PacketError::UnknownVersion),
            _ => Err(PacketError::WrongLength),
        }
    }

    fn mac(keys: &NativeKeys, prefix: &[u8], alpha: &[u8; 32], beta: &[u8]) -> MacTag {
        // HMAC pads a short key with zeros to the hash's block; done here, it cannot fail.
        let mut key = Zeroizing::new([0; 64]);
        key.iter_mut().zip(keys.mac).for_each(|(to, from)| *to = from);
        let mut mac = Hmac::<Sha256>::new((&*key).into());
        mac.update(prefix);
        mac.update(alpha);
        mac.update(beta);
        MacTag::new(mac.finalize().into_bytes().into())
    }

    fn stream(keys: &NativeKeys) -> NativeStream {
        NativeStream(Ctr128BE::new((&keys.stream).into(), (&[0; 16]).into()))
    }

    fn encrypt_payload(key: &PayloadKey, delta: &mut [u8]) {
        Hctr2::new(&key.0).encrypt(&[], delta);
    }

    fn decrypt_payload(key: &PayloadKey, delta: &mut [u8]) {
        Hctr2::new(&key.0).decrypt(&[], delta);
    }

    fn write_block(command: &Command, gamma: &[u8], rng: &mut impl Rng, block: &mut [u8]) {
        let Some((kind, body)) = block.split_first_mut() else { return };
        match command {
            Command::Forward { next } => {
                *kind = KIND_FORWARD;
                write(body, &[next.as_ref(), gamma]);
            }
            Command::Deliver => {
                *kind = KIND_DELIVER;
                rng.fill_bytes(body);
            }
            Command::Reply { mailbox, surb_id } => {
                *kind = KIND_REPLY;
                rng.fill_bytes(body);
                write(body, &[mailbox.as_ref(), surb_id.as_ref()]);
            }
        }
    }

    fn read_block(block: &[u8]) -> Result<(Command, &[u8]), PacketError> {
        let (kind, body) = block.split_first().ok_or(PacketError::BadCommand)?;
        match *kind {
            KIND_FORWARD => {
                let (next, gamma) = body.split_first_chunk::<{ NodeId::LEN }>().ok_or(PacketError::BadCommand)?;
                Ok((Command::Forward { next: (*next).into() }, gamma))
            }
            KIND_DELIVER => Ok((Command::Deliver, &[])),
            KIND_REPLY => {
                let (mailbox, rest) = body.split_first_chunk::<{ MailboxId::LEN }>().ok_or(PacketError::BadCommand)?;
                let (surb_id, _) = rest.split_first_chunk::<{ SurbId::LEN }>().ok_or(PacketError::BadCommand)?;
                Ok((Command::Reply { mailbox: (*mailbox).into(), surb_id: (*surb_id).into() }, &[]))
            }
            _ => Err(PacketError::BadCommand),
        }
    }
}

fn expand<const N: usize>(hkdf: &Hkdf<Sha256>, label: &[u8]) -> [u8; N] {
    const { assert!(N <= 255 * 32, "HKDF-SHA256 yields no more") };
    let mut out = [0; N];
    // Fails only beyond 255 blocks, which the assertion above rules out when the code is built.
    let done = hkdf.expand(label, &mut out);
    debug_assert!(done.is_ok());
    out
}

/// Writes `parts` one after another to the start of `to`.
fn write(to: &mut [u8], parts: &[&[u8]]) {
    let bytes = parts.iter().flat_map(|part| part.iter());
    to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}
