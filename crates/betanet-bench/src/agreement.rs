//! X25519 as others compute it: one scalar multiplication of a point that is not known beforehand.

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use betanet_sphinx::x25519::{PathUnavailable, X25519Path, x25519, x25519_batch_on};
use curve25519_dalek::MontgomeryPoint;

use crate::{BATCH, Failure};

/// A secret that is not special.
const SECRET: [u8; 32] = [0x42; 32];
/// A point that is not special: the public key of another secret.
const SEED: [u8; 32] = [0x17; 32];

/// Ours, in the lanes of one path.
pub struct Lanes {
    path: X25519Path,
    scalars: [[u8; 32]; BATCH],
    points: [[u8; 32]; BATCH],
    out: [[u8; 32]; BATCH],
}

impl Lanes {
    /// A batch on `path`.
    #[must_use]
    pub fn new(path: X25519Path) -> Self {
        let point = betanet_sphinx::x25519::x25519_base(&SEED);
        Self { path, scalars: [SECRET; BATCH], points: [point; BATCH], out: [[0; 32]; BATCH] }
    }

    /// Multiplies a batch, the points being the results of the last, and says how many multiplications that were.
    ///
    /// # Errors
    /// This machine lacks the path.
    pub fn run(&mut self) -> Result<usize, PathUnavailable> {
        x25519_batch_on(self.path, &self.scalars, &self.points, &mut self.out)?;
        std::mem::swap(&mut self.points, &mut self.out);
        Ok(BATCH)
    }
}

/// Ours, one by one.
pub fn ours(point: &mut [u8; 32]) {
    *point = x25519(&SECRET, point);
}

/// curve25519-dalek.
pub fn dalek(point: &mut [u8; 32]) {
    *point = MontgomeryPoint(*point).mul_clamped(SECRET).to_bytes();
}

/// A point to begin with.
#[must_use]
pub fn point() -> [u8; 32] {
    betanet_sphinx::x25519::x25519_base(&SEED)
}

/// AWS-LC.
pub struct AwsLc(PrivateKey);

impl AwsLc {
    /// Takes the secret up.
    ///
    /// # Errors
    /// The library refuses it.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self(PrivateKey::from_private_key(&X25519, &SECRET)?))
    }

    /// One multiplication.
    ///
    /// # Errors
    /// The library refuses the point.
    pub fn run(&self, point: &mut [u8; 32]) -> Result<(), Failure> {
        let theirs = UnparsedPublicKey::new(&X25519, *point);
        *point = agree(&self.0, theirs, aws_lc_rs::error::Unspecified, |shared| {
            shared.try_into().map_err(|_| aws_lc_rs::error::Unspecified)
        })?;
        Ok(())
    }
}

/// OpenSSL, through its interface for any kind of key.
#[cfg(feature = "openssl")]
pub struct OpenSsl(openssl::pkey::PKey<openssl::pkey::Private>);

#[cfg(feature = "openssl")]
impl OpenSsl {
    /// Takes the secret up.
    ///
    /// # Errors
    /// The library refuses it.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self(openssl::pkey::PKey::private_key_from_raw_bytes(&SECRET, openssl::pkey::Id::X25519)?))
    }

    /// One multiplication.
    ///
    /// # Errors
    /// The library refuses the point.
    pub fn run(&self, point: &mut [u8; 32]) -> Result<(), Failure> {
        let theirs = openssl::pkey::PKey::public_key_from_raw_bytes(point, openssl::pkey::Id::X25519)?;
        let mut deriver = openssl::derive::Deriver::new(&self.0)?;
        deriver.set_peer(&theirs)?;
        deriver.derive(point)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_computes_the_same() {
        let mut expected = point();
        dalek(&mut expected);
        let mut found = point();
        ours(&mut found);
        assert_eq!(expected, found);
        let mut found = point();
        AwsLc::new().unwrap().run(&mut found).unwrap();
        assert_eq!(expected, found);
        #[cfg(feature = "openssl")]
        {
            let mut found = point();
            OpenSsl::new().unwrap().run(&mut found).unwrap();
            assert_eq!(expected, found);
        }
        let mut lanes = Lanes::new(X25519Path::Scalar);
        lanes.run().unwrap();
        assert_eq!([expected; BATCH], lanes.points);
    }
}
