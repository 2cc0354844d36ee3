//! What a packet format is made of: the seam between the Sphinx construction and its primitives.
//!
//! Unwrapping is written once, over [`Suite`], and building once, over [`Maker`]. [`Native`] is the suite of this network;
//! [`Nym`] and [`Katzenpost`] are those of two others, so that their packets check the same code.

pub mod hctr2;
mod katzenpost;
pub mod lioness;
mod native;
mod nym;

use ctr::cipher::StreamCipher;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::error::{BuildError, PacketError};
use crate::geometry::Geometry;
use crate::ids::{NodeId, ReplayTag};

pub use katzenpost::{Katzenpost, KatzenpostAction, KatzenpostKeys, KatzenpostLast};
pub use native::{Action, Native, NativeKeys, NativeLast, PayloadKey};
pub use nym::{Nym, NymAction, NymKeys, NymLast};

/// A set of primitives and layouts for one kind of packet, as far as a hop needs them.
pub trait Suite {
    /// Every length of this suite's packets.
    const GEOMETRY: Geometry;

    /// What one hop derives from its shared secret.
    type Keys: ZeroizeOnDrop;
    /// Key stream over β.
    type Stream: StreamCipher;
    /// What the maker orders a hop to wait before it passes the packet on; `()` where hops choose.
    type Hold: Copy + Default;
    /// What the last hop's routing block holds.
    type Last: Copy;
    /// What a hop is to do with an unwrapped packet.
    type Action;
    /// What a hop's delay follows from.
    type Delay;

    /// Derives the keys of one hop from the shared secret.
    fn derive(shared: &[u8; 32]) -> Self::Keys;

    /// Reads the parity out of what stands before α; zero in formats that have none.
    ///
    /// # Errors
    /// [`PacketError::UnknownVersion`] or [`PacketError::BadParity`].
    fn read_prefix(prefix: &[u8]) -> Result<u8, PacketError>;

    /// The header MAC.
    fn mac(keys: &Self::Keys, prefix: &[u8], alpha: &[u8; 32], beta: &[u8]) -> MacTag;

    /// What a hop remembers to refuse copies.
    fn replay_tag(keys: &Self::Keys, alpha: &[u8; 32]) -> ReplayTag;

    /// The key stream over β, from its start.
    fn stream(keys: &Self::Keys) -> Self::Stream;

    /// Reads a routing block.
    ///
    /// # Errors
    /// [`PacketError::BadCommand`] if the block holds no known command.
    fn read_block(block: &[u8]) -> Result<Block<'_, Self::Hold, Self::Last>, PacketError>;

    /// The factor that turns α into the next hop's; clamped where it is used.
    fn blinding(keys: &Self::Keys) -> &[u8; 32];

    /// Takes one layer off δ, as a hop does.
    fn decrypt_payload(keys: &Self::Keys, delta: &mut [u8]);

    /// Says what is to be done, once all layers of this hop are off.
    ///
    /// # Errors
    /// [`PacketError::BadPayload`] if this is the last hop and δ was altered on its way.
    fn action(command: RoutingCommand<Self::Hold, Self::Last>, delta: &[u8]) -> Result<Self::Action, PacketError>;

    /// What the delay of this hop follows from.
    fn delay(keys: &Self::Keys, hold: Self::Hold) -> Self::Delay;
}

/// What the maker of a suite's packets needs beside.
pub trait Maker: Suite {
    /// To whom a forward packet goes.
    type Recipient: Copy;

    /// Writes what stands before α. `parity` is 0 or 1.
    fn write_prefix(parity: u8, prefix: &mut [u8]);

    /// What the last hop of a forward packet is told.
    fn last(to: Self::Recipient) -> Self::Last;

    /// Writes a routing block. Bytes that the command leaves free keep the random value they come with.
    fn write_block(command: &RoutingCommand<Self::Hold, Self::Last>, gamma: &[u8], block: &mut [u8]);

    /// Writes the plaintext of a forward packet's δ.
    ///
    /// # Errors
    /// [`BuildError::PayloadTooLong`].
    fn write_payload(to: Self::Recipient, payload: &[u8], delta: &mut [u8]) -> Result<(), BuildError>;

    /// Applies a hop's layer to δ.
    fn encrypt_payload(keys: &Self::Keys, delta: &mut [u8]);
}

/// What the routing block tells a hop: `H` with a packet that goes on, `L` at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingCommand<H, L> {
    /// Pass the packet on.
    Forward {
        /// To whom.
        next: NodeId,
        /// How long the maker wants it held.
        hold: H,
    },
    /// The path ends here.
    Last(L),
}

/// A routing block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a, H, L> {
    /// What it tells the hop.
    pub command: RoutingCommand<H, L>,
    /// γ of the next hop with [`RoutingCommand::Forward`], elsewhere nothing.
    pub next_gamma: &'a [u8],
}

impl<H, L> Block<'_, H, L> {
    /// The block of a last hop.
    const fn last(last: L) -> Self {
        Self { command: RoutingCommand::Last(last), next_gamma: &[] }
    }
}

/// A header MAC, truncated by the suite to its geometry's length.
#[derive(Clone, Copy)]
pub struct MacTag([u8; 32]);

impl MacTag {
    /// Takes the full output of a MAC.
    #[must_use]
    pub const fn new(full: [u8; 32]) -> Self {
        Self(full)
    }

    /// Compares the first `gamma.len()` bytes in constant time; an empty or overlong `gamma` never matches.
    #[must_use]
    pub fn matches(&self, gamma: &[u8]) -> bool {
        self.0.get(..gamma.len()).is_some_and(|tag| !gamma.is_empty() && bool::from(tag.ct_eq(gamma)))
    }

    /// Writes the first `gamma.len()` bytes.
    pub fn write(&self, gamma: &mut [u8]) {
        gamma.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
    }
}

/// HMAC-SHA256 over `parts`, one after another.
fn hmac_sha256<const N: usize>(key: &[u8; N], parts: &[&[u8]]) -> MacTag {
    const { assert!(N <= 64, "HMAC hashes longer keys first") };
    // HMAC pads a short key with zeros to the hash's block; done here, it cannot fail.
    let mut padded = Zeroizing::new([0; 64]);
    padded.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = Hmac::<Sha256>::new((&*padded).into());
    for part in parts {
        mac.update(part);
    }
    MacTag::new(mac.finalize().into_bytes().into())
}

/// HKDF's second step, which fails only beyond 255 blocks.
fn hkdf_expand<const N: usize>(hkdf: &Hkdf<Sha256>, label: &[u8]) -> [u8; N] {
    const { assert!(N <= 255 * 32, "HKDF-SHA256 yields no more") };
    let mut out = [0; N];
    let done = hkdf.expand(label, &mut out);
    debug_assert!(done.is_ok());
    out
}

/// Writes `parts` one after another to the start of `to`.
fn write(to: &mut [u8], parts: &[&[u8]]) {
    let bytes = parts.iter().flat_map(|part| part.iter());
    to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_matches_its_own_start_and_nothing_else() {
        let tag = MacTag::new([5; 32]);
        assert!(tag.matches(&[5; 16]) && tag.matches(&[5; 32]));
        assert!(!tag.matches(&[]) && !tag.matches(&[5; 33]) && !tag.matches(&[6; 16]));
    }
}
