//! Single-use reply blocks: a header made in advance by the one who wants the answer.

mod opener;

use std::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::error::{BuildError, PacketError, SurbError};
use crate::geometry::{Geometry, PACKET_LEN, PacketPieces, SURB_LEN};
use crate::header::{HeaderDraft, build_headers};
use crate::ids::{MailboxId, NodeId, SurbId};
use crate::keys::{Hop, is_canonical};
use crate::payload;
use crate::suite::{Native, NativeKeys, NativeLast, PayloadKey, Suite};
use crate::x25519::KnownPoints;

pub use opener::ReplyOpener;

const HEADER_LEN: usize = Geometry::NATIVE.header_len;

/// A single-use reply block: lets its holder send one packet to its maker without learning who that is.
///
/// It lives as long as the keys on its path. It cannot be copied, because using it twice sends a replay.
pub struct Surb {
    first: NodeId,
    header: [u8; HEADER_LEN],
    key: PayloadKey,
}

/// A SURB to be built.
#[derive(Clone, Copy, Debug)]
pub struct SurbDraft<'a> {
    /// Lowest bit of the epoch whose keys `path` holds.
    pub parity: u8,
    /// Where the reply goes, hop by hop.
    pub path: &'a [Hop],
    /// The mailbox at the last hop.
    pub mailbox: MailboxId,
    /// What the reply is recognised by.
    pub surb_id: SurbId,
}

/// Builds a SURB whose reply travels along `path` to `mailbox` at its last hop, and what opens that reply.
///
/// `parity` is the lowest bit of the epoch whose keys `path` holds.
///
/// # Errors
/// [`BuildError`] if the path has no or too many hops, or the parity is not a bit.
pub fn build_surb(
    rng: &mut impl CryptoRng,
    parity: u8,
    path: &[Hop],
    mailbox: MailboxId,
    surb_id: SurbId,
) -> Result<(Surb, ReplyOpener), BuildError> {
    let draft = SurbDraft { parity, path, mailbox, surb_id };
    build_surb_batch(rng, &[draft]).pop().unwrap_or(Err(BuildError::EmptyPath))
}

/// Builds each of `drafts` as [`build_surb`] would, but with the multiplications of all of them in lanes.
///
/// As many outcomes come back as there are drafts, in their order.
pub fn build_surb_batch(
    rng: &mut impl CryptoRng,
    drafts: &[SurbDraft<'_>],
) -> Vec<Result<(Surb, ReplyOpener), BuildError>> {
    build_surb_batch_knowing(rng, &mut KnownPoints::default(), drafts)
}

/// As [`build_surb_batch`], for a maker of many batches: the keys that it uses often have tables.
pub fn build_surb_batch_knowing(
    rng: &mut impl CryptoRng,
    known: &mut KnownPoints,
    drafts: &[SurbDraft<'_>],
) -> Vec<Result<(Surb, ReplyOpener), BuildError>> {
    let mut headers = vec![[0; HEADER_LEN]; drafts.len()];
    let plans: Vec<_> = drafts
        .iter()
        .zip(&mut headers)
        .filter_map(|(draft, header)| {
            let last = NativeLast::Reply { mailbox: draft.mailbox, surb_id: draft.surb_id };
            let header = Native::GEOMETRY.split_header(header)?;
            Some(HeaderDraft::<Native> { parity: draft.parity, path: draft.path, holds: &[], last, header })
        })
        .collect();
    let keys = build_headers(rng, known, plans);
    let made = drafts.iter().zip(headers).zip(keys).map(|((draft, header), keys)| {
        let keys = keys?;
        let first = draft.path.first().ok_or(BuildError::EmptyPath)?.node;
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(key.as_mut_slice());
        let delays = keys.iter().map(|keys| Native::delay(keys, ())).collect();
        let hop_keys = keys.into_iter().map(NativeKeys::into_payload).collect();
        let opener = ReplyOpener::new(draft.surb_id, PayloadKey::from_bytes(*key), hop_keys, delays);
        Ok((Surb { first, header, key: PayloadKey::from_bytes(*key) }, opener))
    });
    made.collect()
}

impl Surb {
    /// Takes bytes that came from outside.
    ///
    /// # Errors
    /// [`SurbError`] unless length, version, parity and α are in order. Only the nodes on its path can tell more.
    pub fn parse(bytes: &[u8]) -> Result<Self, SurbError> {
        let wrong_length = SurbError::WrongLength { len: bytes.len() };
        let (first, rest) = bytes.split_first_chunk::<{ NodeId::LEN }>().ok_or(wrong_length)?;
        let (header, key) = rest.split_first_chunk::<HEADER_LEN>().ok_or(wrong_length)?;
        let key: [u8; 32] = key.try_into().map_err(|_| wrong_length)?;
        let surb = Self { first: (*first).into(), header: *header, key: PayloadKey::from_bytes(key) };
        surb.check_header().map_err(SurbError::BadHeader)?;
        Ok(surb)
    }

    fn check_header(&self) -> Result<(), PacketError> {
        let geometry = Native::GEOMETRY;
        Native::read_prefix(self.header.get(..geometry.prefix_len).unwrap_or_default())?;
        let alpha = self.header.get(geometry.alpha()).unwrap_or_default();
        let is_canonical = alpha.try_into().is_ok_and(is_canonical);
        if is_canonical { Ok(()) } else { Err(PacketError::BadAlpha) }
    }

    /// The SURB as it travels inside a payload. The key in it is secret.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SURB_LEN] {
        let mut bytes = [0; SURB_LEN];
        let fields = self.first.as_bytes().iter().chain(&self.header).chain(self.key.expose());
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// The node to which the reply must be sent.
    #[must_use]
    pub const fn first(&self) -> NodeId {
        self.first
    }

    /// Makes the one reply packet of this SURB; send it to [`Self::first`].
    ///
    /// # Errors
    /// [`BuildError::PayloadTooLong`]. The SURB is gone then, but was not used; check the length before.
    pub fn reply(self, payload: &[u8], out: &mut [u8; PACKET_LEN]) -> Result<(), BuildError> {
        let geometry = Native::GEOMETRY;
        let (header, _) = out.split_at_mut(geometry.header_len);
        header.copy_from_slice(&self.header);
        let PacketPieces { delta, .. } = geometry.split(out).ok_or(BuildError::WrongBuffer { len: PACKET_LEN })?;
        payload::write(&geometry, None, payload, delta)?;
        self.key.encrypt(delta);
        Ok(())
    }
}

impl fmt::Debug for Surb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Surb(..)")
    }
}
