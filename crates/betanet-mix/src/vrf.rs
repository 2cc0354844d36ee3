//! ECVRF-EDWARDS25519-SHA512-ELL2 (RFC 9381, suite 0x04): a keyed hash whose result anyone can check with the public key.
//!
//! For one key and one input there is one output, and only the holder of the secret key can compute it. The proof shows
//! that an output is that one. Inputs are public; only what touches the secret key takes constant time.
//!
//! ```text
//! proof  = Γ 32 ‖ c 16 ‖ s 32
//! output = SHA-512(0x04 ‖ 0x03 ‖ 8Γ ‖ 0x00)
//! ```

use std::fmt;

use curve25519_dalek::constants::ED25519_BASEPOINT_TABLE;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use curve25519_dalek::traits::VartimeMultiscalarMul as _;
use rand_core::CryptoRng;
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a proof.
pub const PROOF_LEN: usize = 80;

/// Bytes of an output.
pub const OUTPUT_LEN: usize = 64;

const SUITE: u8 = 0x04;
const CHALLENGE: u8 = 0x02;
const PROOF_TO_HASH: u8 = 0x03;
const END: u8 = 0x00;
const CHALLENGE_LEN: usize = 16;
/// `ECVRF_ ‖ h2c_suite_ID_string ‖ suite_string` of RFC 9381 §5.4.1.2.
const ENCODE_DOMAIN: &[u8] = b"ECVRF_edwards25519_XMD:SHA-512_ELL2_NU_\x04";

/// Why a key or a proof is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VrfError {
    /// The bytes are no point in canonical form, or one of small order (RFC 9381 §5.4.5).
    #[error("the VRF public key is not a valid point of large order")]
    BadKey,
    /// The bytes do not decode to a proof.
    #[error("the VRF proof is malformed")]
    BadProof,
    /// The proof decodes and does not hold for this key and input.
    #[error("the VRF proof does not hold for this key and input")]
    NotProved,
}

/// The secret half: what follows from a 32-byte seed, as in Ed25519. Erased on drop.
#[derive(Clone, ZeroizeOnDrop)]
pub struct VrfSecretKey {
    scalar: Scalar,
    nonce_key: [u8; 32],
    #[zeroize(skip)]
    public: VrfPublicKey,
}

/// The public half: a point in canonical form whose order is not small.
#[derive(Clone, Copy)]
pub struct VrfPublicKey {
    bytes: CompressedEdwardsY,
    point: EdwardsPoint,
}

/// A proof as it travels. **Unverified**.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proof([u8; PROOF_LEN]);

/// The output for one key and one input. May be secret for a while: erased on drop and not printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Output([u8; OUTPUT_LEN]);

impl VrfSecretKey {
    /// A fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self::from_seed(&seed)
    }

    /// The key that belongs to a seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let mut expanded = Zeroizing::new([0; 64]);
        expanded.copy_from_slice(&Sha512::digest(seed));
        let (low, high) = expanded.split_at(32);
        let (mut clamped, mut nonce_key) = (Zeroizing::new([0; 32]), [0; 32]);
        clamped.copy_from_slice(low);
        nonce_key.copy_from_slice(high);
        *clamped = clamp_integer(*clamped);
        let scalar = Scalar::from_bytes_mod_order(*clamped);
        let point = &scalar * ED25519_BASEPOINT_TABLE;
        let public = VrfPublicKey { bytes: point.compress(), point };
        Self { scalar, nonce_key, public }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> VrfPublicKey {
        self.public
    }

    /// The output for `input`, and the proof that it is the one (RFC 9381 §5.1).
    #[must_use]
    #[allow(clippy::many_single_char_names, reason = "the names of RFC 9381")]
    pub fn prove(&self, input: &[u8]) -> (Output, Proof) {
        let h = self.public.encode(input);
        let h_bytes = h.compress();
        let gamma = self.scalar * h;
        let gamma_bytes = gamma.compress();
        let mut wide = Zeroizing::new([0; 64]);
        wide.copy_from_slice(&Sha512::new().chain_update(self.nonce_key).chain_update(h_bytes.0).finalize());
        let nonce = Zeroizing::new(Scalar::from_bytes_mod_order_wide(&wide));
        let u = &*nonce * ED25519_BASEPOINT_TABLE;
        let v = *nonce * h;
        let c = challenge([self.public.bytes, h_bytes, gamma_bytes, u.compress(), v.compress()]);
        let s = *nonce + challenge_scalar(&c) * self.scalar;
        (output(&gamma), Proof::from_parts(&gamma_bytes, &c, &s))
    }
}

impl VrfPublicKey {
    /// Reads a key and validates it (RFC 9381 §5.4.5).
    ///
    /// # Errors
    /// [`VrfError::BadKey`] for non-canonical bytes, bytes that are no point, and points of small order.
    pub fn parse(bytes: &[u8]) -> Result<Self, VrfError> {
        let bytes = CompressedEdwardsY::from_slice(bytes).map_err(|_| VrfError::BadKey)?;
        let point = decode_point(bytes).filter(|point| !point.is_small_order()).ok_or(VrfError::BadKey)?;
        Ok(Self { bytes, point })
    }

    /// The key as it travels.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.bytes.as_bytes()
    }

    /// The output for `input` if `proof` proves it (RFC 9381 §5.3).
    ///
    /// # Errors
    /// [`VrfError`] when the proof is malformed or does not hold.
    #[allow(clippy::many_single_char_names, reason = "the names of RFC 9381")]
    pub fn verify(&self, input: &[u8], proof: &Proof) -> Result<Output, VrfError> {
        let (gamma, c, s) = proof.decode()?;
        let h = self.encode(input);
        let minus_c = -challenge_scalar(&c);
        let u = EdwardsPoint::vartime_double_scalar_mul_basepoint(&minus_c, &self.point, &s);
        let v = EdwardsPoint::vartime_multiscalar_mul([s, minus_c], [h, gamma]);
        let expected = challenge([self.bytes, h.compress(), gamma.compress(), u.compress(), v.compress()]);
        if expected == c { Ok(output(&gamma)) } else { Err(VrfError::NotProved) }
    }

    /// The point that stands for an input under this key (RFC 9381 §5.4.1.2, RFC 9380 `edwards25519_XMD:SHA-512_ELL2_NU_`).
    fn encode(&self, input: &[u8]) -> EdwardsPoint {
        EdwardsPoint::encode_to_curve::<Sha512>(&[self.bytes.as_bytes(), input], &[ENCODE_DOMAIN])
    }
}

impl Proof {
    /// The proof as it travels.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PROOF_LEN] {
        &self.0
    }

    /// The output that this proof would prove. Says nothing about whether it does: see [`VrfPublicKey::verify`].
    ///
    /// # Errors
    /// [`VrfError::BadProof`] when the bytes decode to no proof.
    pub fn to_output_unverified(&self) -> Result<Output, VrfError> {
        self.decode().map(|(gamma, _, _)| output(&gamma))
    }

    fn from_parts(gamma: &CompressedEdwardsY, c: &[u8; CHALLENGE_LEN], s: &Scalar) -> Self {
        let mut bytes = [0; PROOF_LEN];
        let parts = gamma.as_bytes().iter().chain(c).chain(s.as_bytes());
        bytes.iter_mut().zip(parts).for_each(|(byte, part)| *byte = *part);
        Self(bytes)
    }

    fn decode(&self) -> Result<(EdwardsPoint, [u8; CHALLENGE_LEN], Scalar), VrfError> {
        let (gamma, rest) = self.0.split_first_chunk::<32>().ok_or(VrfError::BadProof)?;
        let (c, s) = rest.split_first_chunk::<CHALLENGE_LEN>().ok_or(VrfError::BadProof)?;
        let gamma = decode_point(CompressedEdwardsY(*gamma)).ok_or(VrfError::BadProof)?;
        let s = <[u8; 32]>::try_from(s).map_err(|_| VrfError::BadProof)?;
        let s = Option::from(Scalar::from_canonical_bytes(s)).ok_or(VrfError::BadProof)?;
        Ok((gamma, *c, s))
    }
}

impl From<[u8; PROOF_LEN]> for Proof {
    fn from(bytes: [u8; PROOF_LEN]) -> Self {
        Self(bytes)
    }
}

impl Output {
    /// The output's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; OUTPUT_LEN] {
        &self.0
    }
}

impl From<[u8; OUTPUT_LEN]> for Output {
    fn from(bytes: [u8; OUTPUT_LEN]) -> Self {
        Self(bytes)
    }
}

impl PartialEq for VrfPublicKey {
    fn eq(&self, other: &Self) -> bool {
        // Only canonical encodings exist, so equal points have equal bytes.
        self.bytes == other.bytes
    }
}

impl Eq for VrfPublicKey {}

impl fmt::Debug for VrfPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VrfPublicKey({})", hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for VrfSecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VrfSecretKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output(..)")
    }
}

/// RFC 8032 §5.1.3, which takes one encoding per point; the curve library alone would take a second one for some.
fn decode_point(bytes: CompressedEdwardsY) -> Option<EdwardsPoint> {
    bytes.decompress().filter(|point| point.compress() == bytes)
}

/// RFC 9381 §5.4.3.
fn challenge(points: [CompressedEdwardsY; 5]) -> [u8; CHALLENGE_LEN] {
    let hash = Sha512::new().chain_update([SUITE, CHALLENGE]);
    let hash = points.iter().fold(hash, |hash, point| hash.chain_update(point.0));
    let digest: [u8; 64] = hash.chain_update([END]).finalize().into();
    let (c, _) = digest.split_first_chunk().unwrap_or((&[0; CHALLENGE_LEN], &[]));
    *c
}

fn challenge_scalar(c: &[u8; CHALLENGE_LEN]) -> Scalar {
    Scalar::from(u128::from_le_bytes(*c))
}

/// RFC 9381 §5.2.
fn output(gamma: &EdwardsPoint) -> Output {
    let gamma = gamma.mul_by_cofactor().compress();
    let hash = Sha512::new().chain_update([SUITE, PROOF_TO_HASH]).chain_update(gamma.0).chain_update([END]);
    Output(hash.finalize().into())
}

#[cfg(test)]
mod tests;
