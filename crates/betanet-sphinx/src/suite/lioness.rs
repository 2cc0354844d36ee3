//! LIONESS (Anderson, Biham: "Two practical and provably secure block ciphers: BEAR and LION", 1996) over ChaCha20 and
//! BLAKE2b, as Nym's packets use it.
//!
//! A wide-block cipher of four rounds: the left half L is the first 32 bytes, the right half R the rest. The stream S is
//! ChaCha20 with a zero nonce, the hash H is BLAKE2b with a 64-byte key and 32 bytes of output.

use blake2::Blake2bMac;
use blake2::digest::consts::U32;
use chacha20::ChaCha20;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{KeyInit, Mac};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of L.
const LEFT: usize = 32;

/// LIONESS under one key of 192 bytes.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Lioness {
    k1: [u8; 32],
    k2: [u8; 64],
    k3: [u8; 32],
    k4: [u8; 64],
}

impl Lioness {
    /// Length of the key.
    pub const KEY_LEN: usize = 192;

    /// Cuts the key into those of the four rounds.
    #[must_use]
    pub fn new(key: &[u8; Self::KEY_LEN]) -> Self {
        let mut this = Self { k1: [0; 32], k2: [0; 64], k3: [0; 32], k4: [0; 64] };
        let rounds = this.k1.iter_mut().chain(&mut this.k2).chain(&mut this.k3).chain(&mut this.k4);
        rounds.zip(key).for_each(|(to, from)| *to = *from);
        this
    }

    /// Enciphers `data` in place. Shorter than 32 bytes has no LIONESS ciphertext: such data stays as it is.
    pub fn encrypt(&self, data: &mut [u8]) {
        let Some((left, right)) = data.split_first_chunk_mut::<LEFT>() else { return };
        stream(left, &self.k1, right);
        hash(&self.k2, left, right);
        stream(left, &self.k3, right);
        hash(&self.k4, left, right);
    }

    /// Deciphers `data` in place; the inverse of [`Self::encrypt`].
    pub fn decrypt(&self, data: &mut [u8]) {
        let Some((left, right)) = data.split_first_chunk_mut::<LEFT>() else { return };
        hash(&self.k4, left, right);
        stream(left, &self.k3, right);
        hash(&self.k2, left, right);
        stream(left, &self.k1, right);
    }
}

/// R ← R ⊕ S(L ⊕ K).
fn stream(left: &[u8; LEFT], key: &[u8; LEFT], right: &mut [u8]) {
    let mut key = Zeroizing::new(*key);
    key.iter_mut().zip(left).for_each(|(key, left)| *key ^= left);
    ChaCha20::new((&*key).into(), &[0; 12].into()).apply_keystream(right);
}

/// L ← L ⊕ H(K, R).
fn hash(key: &[u8; 64], left: &mut [u8; LEFT], right: &[u8]) {
    let mut mac = Blake2bMac::<U32>::new(key.into());
    mac.update(right);
    let digest = mac.finalize().into_bytes();
    left.iter_mut().zip(digest).for_each(|(left, digest)| *left ^= digest);
}
