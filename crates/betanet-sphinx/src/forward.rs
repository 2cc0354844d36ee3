//! Forward packets: from a sender who knows the path to a mailbox at its last hop.

use rand_core::CryptoRng;

use crate::error::BuildError;
use crate::geometry::{PACKET_LEN, PacketPieces};
use crate::header::{HeaderDraft, build_headers};
use crate::ids::{DelayInput, MailboxId};
use crate::keys::Hop;
use crate::suite::{Maker, Native};
use crate::x25519::KnownPoints;

/// A forward packet to be built.
pub struct Draft<'a, S: Maker = Native> {
    /// Lowest bit of the epoch whose keys `path` holds.
    pub parity: u8,
    /// Where the packet goes, hop by hop.
    pub path: &'a [Hop],
    /// What each hop but the last is told to wait, in suites whose makers say; missing ones are zero.
    pub holds: &'a [S::Hold],
    /// For whom the payload is.
    pub to: S::Recipient,
    /// The user payload.
    pub payload: &'a [u8],
}

// Not derived: that would ask for a suite that can be copied.
impl<S: Maker> Clone for Draft<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Maker> Copy for Draft<'_, S> {}

impl<'a> Draft<'a> {
    /// A native packet that leaves `payload` in `mailbox` at the last hop of `path`.
    #[must_use]
    pub const fn new(parity: u8, path: &'a [Hop], mailbox: MailboxId, payload: &'a [u8]) -> Self {
        Self { parity, path, holds: &[], to: mailbox, payload }
    }
}

/// Builds a packet that travels along `path` and leaves `payload` in `mailbox` at its last hop.
///
/// `parity` is the lowest bit of the epoch whose keys `path` holds. The delay inputs of all hops come back in path
/// order, for senders that check how long their packets ought to have waited.
///
/// # Errors
/// [`BuildError`] if the path has no or too many hops, the payload is too long, or the parity is not a bit. What `out`
/// holds then is no packet.
pub fn build_forward(
    rng: &mut impl CryptoRng,
    parity: u8,
    path: &[Hop],
    mailbox: MailboxId,
    payload: &[u8],
    out: &mut [u8; PACKET_LEN],
) -> Result<Vec<DelayInput>, BuildError> {
    build_forward_with(rng, &Draft::new(parity, path, mailbox, payload), out)
}

/// [`build_forward`] for any suite.
///
/// # Errors
/// As [`build_forward`]; also if `out` is not as long as a packet of the suite.
pub fn build_forward_with<S: Maker>(
    rng: &mut impl CryptoRng,
    draft: &Draft<'_, S>,
    out: &mut [u8],
) -> Result<Vec<S::Delay>, BuildError> {
    build_forward_batch(rng, std::slice::from_ref(draft), &mut [out]).pop().unwrap_or(Err(BuildError::EmptyPath))
}

/// Builds each of `drafts` into the buffer at its place, as [`build_forward`] one after the other would with the same
/// randomness, but with the multiplications of all packets in lanes.
///
/// As many outcomes come back as the shorter of the two slices has places: the delay inputs, or a [`BuildError`] if that
/// packet could not be built.
pub fn build_forward_batch<S: Maker, P: AsMut<[u8]>>(
    rng: &mut impl CryptoRng,
    drafts: &[Draft<'_, S>],
    out: &mut [P],
) -> Vec<Result<Vec<S::Delay>, BuildError>> {
    build_forward_batch_knowing(rng, &mut KnownPoints::default(), drafts, out)
}

/// As [`build_forward_batch`], for a maker of many batches: the keys that it uses often have tables.
pub fn build_forward_batch_knowing<S: Maker, P: AsMut<[u8]>>(
    rng: &mut impl CryptoRng,
    known: &mut KnownPoints,
    drafts: &[Draft<'_, S>],
    out: &mut [P],
) -> Vec<Result<Vec<S::Delay>, BuildError>> {
    let mut plans: Vec<HeaderDraft<'_, S>> = Vec::with_capacity(drafts.len());
    let mut deltas = Vec::with_capacity(drafts.len());
    for (draft, out) in drafts.iter().zip(out) {
        let out = out.as_mut();
        let len = out.len();
        deltas.push(S::GEOMETRY.split(out).map_or(
            Err(BuildError::WrongBuffer { len }),
            |PacketPieces { header, delta }| {
                let Draft { parity, path, holds, to, .. } = *draft;
                plans.push(HeaderDraft { parity, path, holds, last: S::last(to), header });
                Ok(delta)
            },
        ));
    }
    let mut keys = build_headers(rng, known, plans).into_iter();
    let finish = |(draft, delta): (&Draft<'_, S>, Result<&mut [u8], BuildError>)| {
        let delta = delta?;
        let keys = keys.next().unwrap_or(Err(BuildError::EmptyPath))?;
        S::write_payload(draft.to, draft.payload, delta)?;
        keys.iter().rev().for_each(|keys| S::encrypt_payload(keys, delta));
        let holds = draft.holds.iter().copied().chain(std::iter::repeat(S::Hold::default()));
        Ok(keys.iter().zip(holds).map(|(keys, hold)| S::delay(keys, hold)).collect())
    };
    drafts.iter().zip(deltas).map(finish).collect()
}
