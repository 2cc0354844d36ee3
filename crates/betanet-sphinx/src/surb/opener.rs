//! The secret side of a SURB.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::{OpenerError, PacketError};
use crate::ids::{DelayInput, MailboxId, SurbId};
use crate::payload;
use crate::suite::{Native, PayloadKey, Suite};

/// First byte of an encoded opener.
const FORMAT: u8 = 0x01;

/// What the maker of a SURB keeps to open the one reply that it brings.
pub struct ReplyOpener {
    surb_id: SurbId,
    reply_key: PayloadKey,
    hop_keys: Vec<PayloadKey>,
    delays: Vec<DelayInput>,
}

impl ReplyOpener {
    pub(super) const fn new(
        surb_id: SurbId,
        reply_key: PayloadKey,
        hop_keys: Vec<PayloadKey>,
        delays: Vec<DelayInput>,
    ) -> Self {
        Self { surb_id, reply_key, hop_keys, delays }
    }

    /// Which SURB's reply this opens.
    #[must_use]
    pub const fn surb_id(&self) -> SurbId {
        self.surb_id
    }

    /// The delay inputs of the hops that the reply passes, in path order.
    #[must_use]
    pub fn delays(&self) -> &[DelayInput] {
        &self.delays
    }

    /// Opens δ in place, as the last hop left it, and returns the user payload.
    ///
    /// # Errors
    /// [`PacketError::WrongLength`] if `delta` is not as long as δ, [`PacketError::BadPayload`] if it is no answer to
    /// this SURB or was altered on its way.
    pub fn open(self, delta: &mut [u8]) -> Result<Vec<u8>, PacketError> {
        let geometry = Native::GEOMETRY;
        if delta.len() != geometry.delta_len {
            return Err(PacketError::WrongLength);
        }
        // Each hop took a layer off that was never there: put them back, the last one first.
        for key in self.hop_keys.iter().rev() {
            key.encrypt(delta);
        }
        self.reply_key.decrypt(delta);
        let (mailbox, len) = payload::read(&geometry, delta)?;
        if mailbox != MailboxId::from([0; MailboxId::LEN]) {
            return Err(PacketError::BadPayload);
        }
        let payload = delta.iter().skip(geometry.user_payload_start()).take(len);
        Ok(payload.copied().collect())
    }

    /// The opener as bytes, for the one who persists it.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let hops = self.hop_keys.iter().zip(&self.delays);
        let mut bytes = Zeroizing::new(Vec::with_capacity(encoded_len(self.hop_keys.len())));
        bytes.push(FORMAT);
        bytes.extend_from_slice(self.surb_id.as_ref());
        bytes.extend_from_slice(self.reply_key.expose());
        for (key, delay) in hops {
            bytes.extend_from_slice(key.expose());
            bytes.extend_from_slice(delay.as_ref());
        }
        bytes
    }

    /// Takes the bytes of [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`OpenerError`] if they are anything else.
    pub fn parse(bytes: &[u8]) -> Result<Self, OpenerError> {
        let rest = bytes.strip_prefix(&[FORMAT]).ok_or(OpenerError)?;
        let (surb_id, rest) = rest.split_first_chunk::<{ SurbId::LEN }>().ok_or(OpenerError)?;
        let (reply_key, rest) = rest.split_first_chunk::<32>().ok_or(OpenerError)?;
        let (hops, []) = rest.as_chunks::<HOP_LEN>() else { return Err(OpenerError) };
        if hops.is_empty() || hops.len() > Native::GEOMETRY.max_hops {
            return Err(OpenerError);
        }
        let mut opener = Self::new((*surb_id).into(), PayloadKey::from_bytes(*reply_key), Vec::new(), Vec::new());
        for hop in hops {
            let (key, delay) = hop.split_first_chunk::<32>().ok_or(OpenerError)?;
            let (delay, _) = delay.split_first_chunk::<{ DelayInput::LEN }>().ok_or(OpenerError)?;
            opener.hop_keys.push(PayloadKey::from_bytes(*key));
            opener.delays.push((*delay).into());
        }
        Ok(opener)
    }
}

impl fmt::Debug for ReplyOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyOpener").field("surb_id", &self.surb_id).finish_non_exhaustive()
    }
}

/// Payload key and delay input of one hop.
const HOP_LEN: usize = 32 + DelayInput::LEN;

const fn encoded_len(hops: usize) -> usize {
    1 + SurbId::LEN + 32 + hops * HOP_LEN
}
