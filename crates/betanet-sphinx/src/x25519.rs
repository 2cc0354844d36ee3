//! X25519 scalar multiplication (RFC 7748).
//!
//! Every function is constant time in the scalar and the point. A point of small order yields thirty-two zero bytes;
//! refusing that output is the caller's duty.

mod scalar;

/// Multiplies the point with u-coordinate `u` by the clamped `scalar`, as `X25519(k, u)` of RFC 7748 §5.
///
/// The top bit of `u` is ignored and values from p to 2^255 − 1 are accepted and reduced, as the RFC demands.
#[must_use]
pub fn x25519(scalar: &[u8; 32], u: &[u8; 32]) -> [u8; 32] {
    scalar::mul(scalar, u)
}

/// Multiplies the base point (u = 9) by the clamped `scalar`: the public key of a secret key.
#[must_use]
pub fn x25519_base(scalar: &[u8; 32]) -> [u8; 32] {
    scalar::mul_base(scalar)
}
