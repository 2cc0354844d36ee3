//! The native suite: HKDF-SHA256, AES-256-CTR, HMAC-SHA256 cut to 16 bytes, HCTR2-AES-256.

use std::ops::Range;
use std::sync::LazyLock;

use aes::Aes256Enc;
use ctr::Ctr128BE;
use ctr::cipher::KeyIvInit;
use hkdf::HkdfExtract;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::hctr2::Hctr2;
use super::{Block, MacTag, Maker, RoutingCommand, Suite, hkdf_expand, hmac_sha256, write};
use crate::error::{BuildError, PacketError};
use crate::geometry::Geometry;
use crate::ids::{DelayInput, MailboxId, NodeId, ReplayTag, SurbId};
use crate::payload;

/// What to do with an unwrapped packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the packet, which has been rewritten in place, to the next node.
    Forward {
        /// To whom.
        next: NodeId,
    },
    /// Put the payload into a mailbox.
    Deliver {
        /// Whose.
        mailbox: MailboxId,
        /// Where in the packet the user payload stands.
        payload: Range<usize>,
    },
    /// Put δ into a mailbox, together with the SURB's id; only the SURB's maker can open it.
    Reply {
        /// Whose.
        mailbox: MailboxId,
        /// Which SURB was used.
        surb_id: SurbId,
        /// Where in the packet δ stands.
        delta: Range<usize>,
    },
}

/// First byte of every native packet.
const VERSION: u8 = 0x01;

/// HKDF salt: separates this suite from every other use of the same key.
const SALT: &[u8] = b"betanet-sphinx/native/1";
/// HKDF's first step up to the input key: HMAC under the salt, which is the same for every packet.
static EXTRACT: LazyLock<HkdfExtract<Sha256>> = LazyLock::new(|| HkdfExtract::new(Some(SALT)));
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

/// What the last hop of a native packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeLast {
    /// Forward packet: the mailbox is inside δ.
    Deliver,
    /// SURB reply: δ is for the SURB's maker to open.
    Reply {
        /// The maker's mailbox.
        mailbox: MailboxId,
        /// Which SURB was used.
        surb_id: SurbId,
    },
}

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

    /// Applies this layer.
    pub fn encrypt(&self, delta: &mut [u8]) {
        Hctr2::new(&self.0).encrypt(&[], delta);
    }

    /// Takes this layer off.
    pub fn decrypt(&self, delta: &mut [u8]) {
        Hctr2::new(&self.0).decrypt(&[], delta);
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

impl NativeKeys {
    /// The key of this hop's layer; the rest is erased.
    pub(crate) fn into_payload(mut self) -> PayloadKey {
        std::mem::replace(&mut self.payload, PayloadKey([0; 32]))
    }
}

impl Suite for Native {
    const GEOMETRY: Geometry = Geometry::NATIVE;

    type Keys = NativeKeys;
    /// With a zero initial counter: each key enciphers one header once.
    type Stream = Ctr128BE<Aes256Enc>;
    type Hold = ();
    type Last = NativeLast;
    type Action = Action;
    type Delay = DelayInput;

    fn derive(shared: &[u8; 32]) -> NativeKeys {
        let mut extract = EXTRACT.clone();
        extract.input_ikm(shared);
        let (mut pseudorandom, hkdf) = extract.finalize();
        pseudorandom.zeroize();
        NativeKeys {
            mac: hkdf_expand(&hkdf, LABEL_MAC),
            stream: hkdf_expand(&hkdf, LABEL_STREAM),
            payload: PayloadKey(hkdf_expand(&hkdf, LABEL_PAYLOAD)),
            blinding: hkdf_expand(&hkdf, LABEL_BLINDING),
            replay_tag: hkdf_expand(&hkdf, LABEL_REPLAY),
            delay: hkdf_expand(&hkdf, LABEL_DELAY),
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
        hmac_sha256(&keys.mac, &[prefix, alpha, beta])
    }

    fn replay_tag(keys: &NativeKeys, _: &[u8; 32]) -> ReplayTag {
        keys.replay_tag.into()
    }

    fn stream(keys: &NativeKeys) -> Self::Stream {
        Ctr128BE::new((&keys.stream).into(), (&[0; 16]).into())
    }

    fn read_block(block: &[u8]) -> Result<Block<'_, (), NativeLast>, PacketError> {
        let (kind, body) = block.split_first().ok_or(PacketError::BadCommand)?;
        match *kind {
            KIND_FORWARD => {
                let (next, next_gamma) = body.split_first_chunk::<{ NodeId::LEN }>().ok_or(PacketError::BadCommand)?;
                Ok(Block { command: RoutingCommand::Forward { next: (*next).into(), hold: () }, next_gamma })
            }
            KIND_DELIVER => Ok(Block::last(NativeLast::Deliver)),
            KIND_REPLY => {
                let (mailbox, rest) = body.split_first_chunk::<{ MailboxId::LEN }>().ok_or(PacketError::BadCommand)?;
                let (surb_id, _) = rest.split_first_chunk::<{ SurbId::LEN }>().ok_or(PacketError::BadCommand)?;
                Ok(Block::last(NativeLast::Reply { mailbox: (*mailbox).into(), surb_id: (*surb_id).into() }))
            }
            _ => Err(PacketError::BadCommand),
        }
    }

    fn blinding(keys: &NativeKeys) -> &[u8; 32] {
        &keys.blinding
    }

    fn decrypt_payload(keys: &NativeKeys, delta: &mut [u8]) {
        keys.payload.decrypt(delta);
    }

    fn action(command: RoutingCommand<(), NativeLast>, delta: &[u8]) -> Result<Action, PacketError> {
        let geometry = Self::GEOMETRY;
        match command {
            RoutingCommand::Forward { next, .. } => Ok(Action::Forward { next }),
            RoutingCommand::Last(NativeLast::Deliver) => {
                let (mailbox, len) = payload::read(&geometry, delta)?;
                let start = geometry.header_len + geometry.user_payload_start();
                Ok(Action::Deliver { mailbox, payload: start..start + len })
            }
            RoutingCommand::Last(NativeLast::Reply { mailbox, surb_id }) => {
                let start = geometry.header_len;
                Ok(Action::Reply { mailbox, surb_id, delta: start..start + delta.len() })
            }
        }
    }

    fn delay(keys: &NativeKeys, (): ()) -> DelayInput {
        keys.delay.into()
    }
}

impl Maker for Native {
    type Recipient = MailboxId;

    fn write_prefix(parity: u8, prefix: &mut [u8]) {
        if let [version, key_parity] = prefix {
            *version = VERSION;
            *key_parity = parity;
        }
    }

    fn last(_: MailboxId) -> NativeLast {
        NativeLast::Deliver
    }

    fn write_block(command: &RoutingCommand<(), NativeLast>, gamma: &[u8], block: &mut [u8]) {
        match command {
            RoutingCommand::Forward { next, .. } => write(block, &[&[KIND_FORWARD], next.as_ref(), gamma]),
            RoutingCommand::Last(NativeLast::Deliver) => write(block, &[&[KIND_DELIVER]]),
            RoutingCommand::Last(NativeLast::Reply { mailbox, surb_id }) => {
                write(block, &[&[KIND_REPLY], mailbox.as_ref(), surb_id.as_ref()]);
            }
        }
    }

    fn write_payload(to: MailboxId, payload: &[u8], delta: &mut [u8]) -> Result<(), BuildError> {
        payload::write(&Self::GEOMETRY, Some(to), payload, delta)
    }

    fn encrypt_payload(keys: &NativeKeys, delta: &mut [u8]) {
        keys.payload.encrypt(delta);
    }
}
