//! HCTR2-AES-256 (Crowley, Huckleberry, Biggers: "Length-preserving encryption with HCTR2", eprint 2021/1441).
//!
//! A wide-block cipher: each bit of the output depends on each bit of the input, so that a payload altered anywhere
//! comes out as noise everywhere. Names follow the paper: M and N are the first block and the rest of the plaintext,
//! U and V those of the ciphertext, `h` the POLYVAL key, `L` the whitening block.

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes256Dec, Aes256Enc, Block};
use polyval::Polyval;
use polyval::universal_hash::UniversalHash;
use zeroize::{Zeroize, ZeroizeOnDrop};

const BLOCK: usize = 16;
/// Counter blocks enciphered at once: a multiple of what any backend of `aes` takes in one step.
const LANES: usize = 32;

/// HCTR2 under one AES-256 key.
pub struct Hctr2 {
    aes: Aes256Enc,
    polyval: Polyval,
    whitening: u128,
}

impl ZeroizeOnDrop for Hctr2 {}

impl Drop for Hctr2 {
    fn drop(&mut self) {
        // The other two fields erase themselves.
        self.whitening.zeroize();
    }
}

impl Hctr2 {
    /// Expands the key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        let aes = Aes256Enc::new(key.into());
        let mut derived = [Block::from([0; BLOCK]), Block::from(1_u128.to_le_bytes())];
        aes.encrypt_blocks(&mut derived);
        let [hash_key, whitening] = &derived;
        let this = Self { aes, polyval: Polyval::new(hash_key), whitening: load(whitening) };
        Block::slice_as_flattened_mut(&mut derived).zeroize();
        this
    }

    /// Enciphers `data` in place. Shorter than one block has no HCTR2 ciphertext: such data stays as it is.
    pub fn encrypt(&self, tweak: &[u8], data: &mut [u8]) {
        let Some((first, rest)) = data.split_first_chunk_mut::<BLOCK>() else { return };
        let hash = self.hash_tweak(tweak, rest.len());
        let mm = u128::from_le_bytes(*first) ^ finish(hash.clone(), rest);
        let mut uu = Block::from(mm.to_le_bytes());
        self.aes.encrypt_block(&mut uu);
        let uu = load(&uu);
        self.xctr(mm ^ uu ^ self.whitening, rest);
        *first = (uu ^ finish(hash, rest)).to_le_bytes();
    }

    /// Deciphers `data` in place; the inverse of [`Self::encrypt`].
    pub fn decrypt(&self, tweak: &[u8], data: &mut [u8]) {
        let Some((first, rest)) = data.split_first_chunk_mut::<BLOCK>() else { return };
        let hash = self.hash_tweak(tweak, rest.len());
        let uu = u128::from_le_bytes(*first) ^ finish(hash.clone(), rest);
        let mut mm = Block::from(uu.to_le_bytes());
        Aes256Dec::from(&self.aes).decrypt_block(&mut mm);
        let mm = load(&mm);
        self.xctr(mm ^ uu ^ self.whitening, rest);
        *first = (mm ^ finish(hash, rest)).to_le_bytes();
    }

    /// The hash over the length block and the padded tweak, the same for both passes of one call.
    fn hash_tweak(&self, tweak: &[u8], rest_len: usize) -> Polyval {
        let mut hash = self.polyval.clone();
        // Twice the tweak's length in bits, plus two, plus one if the message ends within a block. A slice holds at
        // most isize::MAX bytes, so that the conversion never fails and the sum never overflows.
        let tweak_len = u128::try_from(tweak.len()).unwrap_or_default();
        let length_block = tweak_len * 16 + if rest_len.is_multiple_of(BLOCK) { 2 } else { 3 };
        hash.update(&[Block::from(length_block.to_le_bytes())]);
        hash.update_padded(tweak);
        hash
    }

    /// XCTR: XORs AES(start ⊕ 1), AES(start ⊕ 2) … onto `data`.
    fn xctr(&self, start: u128, data: &mut [u8]) {
        let mut stream = [Block::default(); LANES];
        let mut counter = 0_u128;
        for chunk in data.chunks_mut(LANES * BLOCK) {
            let blocks = chunk.len().div_ceil(BLOCK);
            let lanes = stream.get_mut(..blocks).unwrap_or_default();
            for lane in lanes.iter_mut() {
                counter += 1;
                *lane = Block::from((start ^ counter).to_le_bytes());
            }
            self.aes.encrypt_blocks(lanes);
            xor(chunk, Block::slice_as_flattened(lanes));
        }
        Block::slice_as_flattened_mut(&mut stream).zeroize();
    }
}

/// Takes the last part of the hashed message in: padded with 10* when it ends within a block.
fn finish(mut hash: Polyval, message: &[u8]) -> u128 {
    let (blocks, tail) = Block::slice_as_chunks(message);
    hash.update(blocks);
    if !tail.is_empty() {
        let mut last = Block::default();
        last.iter_mut().zip(tail.iter().chain(&[1])).for_each(|(to, from)| *to = *from);
        hash.update(&[last]);
    }
    load(&hash.finalize())
}

fn load(block: &Block) -> u128 {
    u128::from_le_bytes((*block).into())
}

fn xor(data: &mut [u8], stream: &[u8]) {
    data.iter_mut().zip(stream).for_each(|(byte, mask)| *byte ^= mask);
}
