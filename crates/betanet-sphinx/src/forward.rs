//! Forward packets: from a sender who knows the path to a mailbox at its last hop.

use rand_core::CryptoRng;

use crate::error::BuildError;
use crate::geometry::{PACKET_LEN, Pieces};
use crate::ids::{DelayInput, MailboxId};
use crate::keys::Hop;
use crate::path::build_header;
use crate::payload;
use crate::suite::{Command, HopKeys, Native, Suite};

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
    build_forward_with::<Native>(rng, parity, path, mailbox, payload, out)
}

/// [`build_forward`] for any suite.
///
/// # Errors
/// As [`build_forward`]; also if `out` is not as long as a packet of the suite.
pub fn build_forward_with<S: Suite>(
    rng: &mut impl CryptoRng,
    parity: u8,
    path: &[Hop],
    mailbox: MailboxId,
    payload: &[u8],
    out: &mut [u8],
) -> Result<Vec<DelayInput>, BuildError> {
    let geometry = S::GEOMETRY;
    let wrong_buffer = BuildError::WrongBuffer { len: out.len() };
    let Pieces { header, delta } = geometry.split(out).ok_or(wrong_buffer)?;
    let keys = build_header::<S>(rng, parity, path, &Command::Deliver, header)?;
    payload::write(&geometry, Some(mailbox), payload, delta)?;
    for key in keys.iter().rev() {
        S::encrypt_payload(key.payload(), delta);
    }
    Ok(keys.iter().map(HopKeys::delay).collect())
}
