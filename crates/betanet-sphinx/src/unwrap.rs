//! A hop's side of a packet.

use std::ops::Range;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::PacketError;
use crate::geometry::Pieces;
use crate::ids::{DelayInput, MailboxId, NodeId, ReplayTag, SurbId};
use crate::keys::{SecretKey, is_canonical};
use crate::payload;
use crate::suite::{Command, HopKeys, KeyStream, Native, Suite};
use crate::x25519::x25519;

/// A node's memory of the packets it has seen under one key.
///
/// Tags come from shared secrets. A filter keeps them under a random key of its own, never raw, so that nobody can
/// prepare collisions and a stolen log does not recognise packets.
pub trait ReplayFilter {
    /// Remembers `tag`, in one step with the check.
    ///
    /// # Errors
    /// [`PacketError::Replay`] if the tag is known, [`PacketError::ReplayCacheFull`] if it cannot be remembered.
    fn check_and_insert(&mut self, tag: &ReplayTag) -> Result<(), PacketError>;
}

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

/// An unwrapped packet: what to do, and the value from which its delay follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwrapped {
    /// What to do.
    pub action: Action,
    /// From this the hop's delay follows. Use it and forget it.
    pub delay: DelayInput,
}

/// Takes one layer off `packet`, in place and without allocating.
///
/// The order of work puts cheap rejects first: shared secret, keys, MAC, replay check, β, α′, δ. An error before the
/// replay check leaves `packet` as it was; a later one leaves it partly rewritten, to be dropped.
///
/// # Errors
/// A [`PacketError`] that says why the packet must be dropped.
pub fn unwrap(secret: &SecretKey, packet: &mut [u8], replay: &mut impl ReplayFilter) -> Result<Unwrapped, PacketError> {
    unwrap_with::<Native>(secret, packet, replay)
}

/// [`unwrap`] for any suite.
///
/// # Errors
/// A [`PacketError`] that says why the packet must be dropped.
pub fn unwrap_with<S: Suite>(
    secret: &SecretKey,
    packet: &mut [u8],
    replay: &mut impl ReplayFilter,
) -> Result<Unwrapped, PacketError> {
    let geometry = S::GEOMETRY;
    let Pieces { header, delta } = geometry.split(packet).ok_or(PacketError::WrongLength)?;
    S::read_prefix(header.prefix)?;
    if !is_canonical(header.alpha) {
        return Err(PacketError::BadAlpha);
    }
    let shared = Zeroizing::new(x25519(secret.expose(), header.alpha));
    if bool::from(shared.ct_eq(&[0; 32])) {
        return Err(PacketError::WeakSecret);
    }
    let keys = S::derive(&shared);
    if !S::mac(&keys, header.prefix, header.alpha, header.beta).matches(header.gamma) {
        return Err(PacketError::BadMac);
    }
    replay.check_and_insert(&keys.replay_tag())?;

    let command = open_beta::<S>(&keys, header.beta, header.gamma)?;
    if let Command::Forward { .. } = command {
        *header.alpha = x25519(keys.blinding(), header.alpha);
    }
    S::decrypt_payload(keys.payload(), delta);
    let action = match command {
        Command::Forward { next } => Action::Forward { next },
        Command::Deliver => {
            let (mailbox, len) = payload::read(&geometry, delta)?;
            let start = geometry.header_len + geometry.user_payload_start();
            Action::Deliver { mailbox, payload: start..start + len }
        }
        Command::Reply { mailbox, surb_id } => Action::Reply { mailbox, surb_id, delta: geometry.delta() },
    };
    Ok(Unwrapped { action, delay: keys.delay() })
}

/// Checks length, version and parity of a packet and returns the parity, by which the unwrapping key is chosen.
///
/// # Errors
/// [`PacketError::WrongLength`], [`PacketError::UnknownVersion`] or [`PacketError::BadParity`].
pub fn parity_of(packet: &[u8]) -> Result<u8, PacketError> {
    let geometry = Native::GEOMETRY;
    if packet.len() != geometry.packet_len {
        return Err(PacketError::WrongLength);
    }
    Native::read_prefix(packet.get(..geometry.prefix_len).unwrap_or_default())
}

/// Reads this hop's block off β; if the packet goes on, β and γ become those of the next hop.
fn open_beta<S: Suite>(keys: &S::Keys, beta: &mut [u8], gamma: &mut [u8]) -> Result<Command, PacketError> {
    let block_len = S::GEOMETRY.block_len;
    let mut stream = S::stream(keys);
    stream.apply(beta);
    let (block, _) = beta.split_at_checked(block_len).ok_or(PacketError::BadCommand)?;
    let (command, next_gamma) = S::read_block(block)?;
    if let Command::Forward { .. } = command {
        if next_gamma.len() != gamma.len() {
            return Err(PacketError::BadCommand);
        }
        gamma.copy_from_slice(next_gamma);
        beta.copy_within(block_len.., 0);
        let freed = beta.len().saturating_sub(block_len);
        if let Some(end) = beta.get_mut(freed..) {
            end.fill(0);
            stream.apply(end);
        }
    }
    Ok(command)
}
