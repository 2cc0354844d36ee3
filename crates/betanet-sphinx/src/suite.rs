//! What a packet format is made of: the seam between the Sphinx construction and its primitives.
//!
//! Header building and unwrapping are written once, over [`Suite`]. [`Native`] is the suite of this network.

pub mod hctr2;
mod native;

use rand_core::Rng;
use zeroize::ZeroizeOnDrop;

use crate::error::PacketError;
use crate::geometry::Geometry;
use crate::ids::{DelayInput, MailboxId, NodeId, ReplayTag, SurbId};

pub use native::{Native, NativeKeys, NativeStream, PayloadKey};

/// A set of primitives and layouts for one kind of packet.
pub trait Suite {
    /// Every length of this suite's packets.
    const GEOMETRY: Geometry;

    /// What one hop derives from its shared secret.
    type Keys: HopKeys<PayloadKey = Self::PayloadKey>;
    /// Key of the wide-block cipher over δ.
    type PayloadKey: ZeroizeOnDrop;
    /// Key stream over β.
    type Stream: KeyStream;

    /// Derives the keys of one hop from the shared secret.
    fn derive(shared: &[u8; 32]) -> Self::Keys;

    /// Writes what stands before α. `parity` is 0 or 1.
    fn write_prefix(parity: u8, prefix: &mut [u8]);

    /// Reads the parity out of what stands before α.
    ///
    /// # Errors
    /// [`PacketError::UnknownVersion`] or [`PacketError::BadParity`].
    fn read_prefix(prefix: &[u8]) -> Result<u8, PacketError>;

    /// The header MAC over everything before δ but itself.
    fn mac(keys: &Self::Keys, prefix: &[u8], alpha: &[u8; 32], beta: &[u8]) -> MacTag;

    /// The key stream over β, from its start.
    fn stream(keys: &Self::Keys) -> Self::Stream;

    /// Applies one layer to δ, as the maker of a packet does.
    fn encrypt_payload(key: &Self::PayloadKey, delta: &mut [u8]);

    /// Takes one layer off δ, as a hop does.
    fn decrypt_payload(key: &Self::PayloadKey, delta: &mut [u8]);

    /// Writes a routing block; bytes that the command leaves free become random.
    fn write_block(command: &Command, gamma: &[u8], rng: &mut impl Rng, block: &mut [u8]);

    /// Reads a routing block. With [`Command::Forward`] comes the MAC for the next hop, elsewhere an empty slice.
    ///
    /// # Errors
    /// [`PacketError::BadCommand`] if the block holds no known command.
    fn read_block(block: &[u8]) -> Result<(Command, &[u8]), PacketError>;
}

/// What one hop and the packet's maker share.
pub trait HopKeys: ZeroizeOnDrop {
    /// Key of the wide-block cipher over δ.
    type PayloadKey;

    /// Key of this hop's layer of δ.
    fn payload(&self) -> &Self::PayloadKey;

    /// Gives up everything but the key of δ.
    fn into_payload(self) -> Self::PayloadKey;

    /// The factor that turns α into the next hop's; clamped where it is used.
    fn blinding(&self) -> &[u8; 32];

    /// What the hop remembers to refuse copies.
    fn replay_tag(&self) -> ReplayTag;

    /// What the hop's delay follows from.
    fn delay(&self) -> DelayInput;
}

/// A key stream that can be applied piece by piece.
pub trait KeyStream {
    /// XORs the next `data.len()` bytes of the stream onto `data`.
    fn apply(&mut self, data: &mut [u8]);
}

/// What the routing block tells a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Pass the packet on.
    Forward {
        /// To whom.
        next: NodeId,
    },
    /// Forward packet, last hop: the mailbox is inside δ.
    Deliver,
    /// SURB reply, last hop: δ is for the SURB's maker to open.
    Reply {
        /// The maker's mailbox.
        mailbox: MailboxId,
        /// Which SURB was used.
        surb_id: SurbId,
    },
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
        use subtle::ConstantTimeEq;
        self.0.get(..gamma.len()).is_some_and(|tag| !gamma.is_empty() && bool::from(tag.ct_eq(gamma)))
    }

    /// Writes the first `gamma.len()` bytes.
    pub fn write(&self, gamma: &mut [u8]) {
        gamma.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
    }
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
