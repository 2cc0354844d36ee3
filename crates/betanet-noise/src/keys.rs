//! The static keys of people.

use std::fmt;

use betanet_sphinx::x25519::x25519_base;
use rand_core::CryptoRng;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// A person's secret X25519 key; erased when dropped, never shown.
#[derive(Clone, ZeroizeOnDrop)]
pub struct NoiseSecret([u8; 32]);

impl NoiseSecret {
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

    /// The key by which others know this person.
    #[must_use]
    pub fn public(&self) -> NoisePublic {
        NoisePublic(x25519_base(&self.0))
    }

    pub(crate) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for NoiseSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoiseSecret(..)")
    }
}

/// A person's public X25519 key. Any 32 bytes are one; with one of small order every operation fails.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NoisePublic([u8; 32]);

impl NoisePublic {
    /// The bytes as they travel.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for NoisePublic {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for NoisePublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoisePublic(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}
