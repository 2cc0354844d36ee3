//! X25519 scalar multiplication (RFC 7748), one at a time and in batches.
//!
//! Every function is constant time in the scalars and the points. A point of small order yields thirty-two zero bytes;
//! refusing that output is the caller's duty.
//!
//! A batch runs in the lanes of vectors: eight at a time with AVX-512 IFMA, four with AVX2, found at run time. The
//! environment variable `BETANET_X25519` (`ifma`, `avx2` or `scalar`) forces a path; see [`active_path`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no lanes elsewhere"))]
mod batch;
mod dispatch;
#[cfg(target_arch = "x86_64")]
mod edwards;
#[cfg(target_arch = "x86_64")]
mod ifma;

#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no lanes elsewhere"))]
mod field51;
mod known;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod scalar;

use self::batch::Scalars;
pub use self::dispatch::{
    PATH_VARIABLE, PathUnavailable, X25519Path, X25519PathError, active_path, x25519_batch_on,
    x25519_batch_unclamped_on,
};
pub use self::known::KnownPoints;

/// The base point.
const BASE: [u8; 32] = {
    let mut base = [0; 32];
    base[0] = 9;
    base
};

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

/// [`x25519`] of `scalars[i]` and `points[i]` into `out[i]`, for any number of them; the shortest slice decides.
///
/// Allocates nothing. Lanes are filled from the front: multiples of eight are the most efficient, and up to two left
/// over are computed one by one.
pub fn x25519_batch(scalars: &[[u8; 32]], points: &[[u8; 32]], out: &mut [[u8; 32]]) {
    dispatch::multiply(Scalars::Clamped, scalars, points, out);
}

/// [`x25519_base`] of each scalar.
#[must_use]
pub fn x25519_base_batch(scalars: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let mut out = vec![[0; 32]; scalars.len()];
    dispatch::multiply_base(scalars, &mut out);
    out
}

/// As [`x25519_batch`], but the scalars are little-endian numbers used as they are, without clamping.
///
/// For products of clamped scalars modulo the group order ℓ: in the prime-order subgroup, multiplying once by such a
/// product equals multiplying by its factors in turn. Always 255 ladder steps; bit 255 of a scalar is ignored.
pub fn x25519_batch_unclamped(scalars: &[[u8; 32]], points: &[[u8; 32]], out: &mut [[u8; 32]]) {
    dispatch::multiply(Scalars::Plain, scalars, points, out);
}
