//! One multiplication at a time: s2n-bignum's assembly (through graviola) where the processor can run it,
//! curve25519-dalek everywhere else.

use curve25519_dalek::MontgomeryPoint;

/// Clamped multiplication of any point.
pub(super) fn mul(scalar: &[u8; 32], u: &[u8; 32]) -> [u8; 32] {
    if let Some(out) = assembly::mul(scalar, u) {
        return out;
    }
    MontgomeryPoint(*u).mul_clamped(*scalar).to_bytes()
}

/// Clamped multiplication of the base point.
pub(super) fn mul_base(scalar: &[u8; 32]) -> [u8; 32] {
    if let Some(out) = assembly::mul_base(scalar) {
        return out;
    }
    MontgomeryPoint::mul_base_clamped(*scalar).to_bytes()
}

/// Multiplication of any point by bits 254 to 0 of the scalar.
pub(super) fn mul_unclamped(scalar: &[u8; 32], u: &[u8; 32]) -> [u8; 32] {
    let bits = (scalar.iter().rev()).flat_map(|byte| (0..8).rev().map(move |bit| (byte >> bit) & 1 == 1)).skip(1);
    MontgomeryPoint(*u).mul_bits_be(bits).to_bytes()
}

/// graviola asserts its processor features at every entry, so they are looked at before it is called: it must never
/// panic under us. bmi2 is not in that assertion although the code uses `mulx`.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod assembly {
    use graviola::key_agreement::x25519::{PublicKey, StaticPrivateKey};

    #[cfg(target_arch = "x86_64")]
    fn supported() -> bool {
        std::arch::is_x86_feature_detected!("adx")
            && std::arch::is_x86_feature_detected!("aes")
            && std::arch::is_x86_feature_detected!("avx")
            && std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("pclmulqdq")
    }

    #[cfg(target_arch = "aarch64")]
    fn supported() -> bool {
        std::arch::is_aarch64_feature_detected!("neon")
            && std::arch::is_aarch64_feature_detected!("aes")
            && std::arch::is_aarch64_feature_detected!("pmull")
            && std::arch::is_aarch64_feature_detected!("sha2")
    }

    pub(super) fn mul(scalar: &[u8; 32], u: &[u8; 32]) -> Option<[u8; 32]> {
        if !supported() {
            return None;
        }
        // Its one error is the all-zero output, which is an output here.
        let shared = StaticPrivateKey::from_array(scalar).diffie_hellman(&PublicKey::from_array(u));
        Some(shared.map_or([0; 32], |secret| secret.0))
    }

    pub(super) fn mul_base(scalar: &[u8; 32]) -> Option<[u8; 32]> {
        supported().then(|| StaticPrivateKey::from_array(scalar).public_key().as_bytes())
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod assembly {
    pub(super) fn mul(_scalar: &[u8; 32], _u: &[u8; 32]) -> Option<[u8; 32]> {
        None
    }

    pub(super) fn mul_base(_scalar: &[u8; 32]) -> Option<[u8; 32]> {
        None
    }
}
