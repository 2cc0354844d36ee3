//! Keys of nodes: what senders encrypt to, and what nodes unwrap with.

use std::fmt;

use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::traits::IsIdentity;
use rand_core::CryptoRng;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::error::KeyError;
use crate::ids::NodeId;
use crate::x25519::x25519_base;

/// A node's X25519 key for one epoch: canonical, on the curve and of prime order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Takes bytes that came from outside.
    ///
    /// # Errors
    /// [`KeyError`] unless `bytes` are the one canonical encoding of a point of prime order.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::WrongLength { len: bytes.len() })?;
        if !is_canonical(&bytes) {
            return Err(KeyError::NotCanonical);
        }
        let point = MontgomeryPoint(bytes).to_edwards(0).ok_or(KeyError::NotOnCurve)?;
        if point.mul_by_cofactor().is_identity() {
            return Err(KeyError::LowOrder);
        }
        if !point.is_torsion_free() {
            return Err(KeyError::NotPrimeOrder);
        }
        Ok(Self(bytes))
    }

    /// The bytes as they travel.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// A node's secret for one epoch; erased when dropped, never shown.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// Draws a new key.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self(*bytes)
    }

    /// Takes 32 secret bytes. Any value will do: the bits that RFC 7748 fixes are fixed at each use.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, for the one who persists them.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0)
    }

    /// The key that senders use.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        // A clamped multiple of the base point is canonical, of prime order and not zero.
        PublicKey(x25519_base(&self.0))
    }

    pub(crate) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// One step of a path: the node and the key it holds in the epoch of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The node's name, by which the hop before it finds it.
    pub node: NodeId,
    /// The node's key for the packet's epoch.
    pub key: PublicKey,
}

/// Whether `u`, little-endian, is below p = 2^255 − 19 with its top bit clear.
pub(crate) fn is_canonical(u: &[u8; 32]) -> bool {
    // u is not secret: it stands in the clear on every link. u ≥ p needs the 30 bytes in the middle all ones.
    let [low, middle @ .., high] = u;
    let is_at_least_p = *high == 0x7f && *low >= 0xed && middle.iter().all(|byte| *byte == 0xff);
    *high < 0x80 && !is_at_least_p
}
