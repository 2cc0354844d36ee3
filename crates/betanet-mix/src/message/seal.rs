//! Sealing: one HPKE context (RFC 9180, X25519 / HKDF-SHA256 / ChaCha20-Poly1305) per message, one AEAD nonce per packet.
//!
//! The context's sequence numbers do not fit a network that loses and reorders, so its exporter secret keys a
//! ChaCha20-Poly1305 of its own, with a fresh random nonce for every packet. The additional data binds the suite, the
//! number of hops and the recipient. The recipient is not told the number of hops: it tries the few there are, so that
//! the edge cannot read it.

use std::collections::{HashMap, VecDeque};

use betanet_sphinx::MAX_HOPS;
use betanet_sphinx::x25519::x25519_base;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::hpke;
use super::{ENC_LEN, FRAGMENT_LEN, NONCE_LEN, SEALED_LEN};
use crate::random;

const SUITE: u8 = 1;
const INFO: &[u8] = b"betanet message v1";
const EXPORT_LABEL: &[u8] = b"betanet fragment key";
/// The privacy levels' hop counts first, then the others.
const LEVELS: [u8; MAX_HOPS] = [3, 1, 5, 7, 2, 4, 6];

/// The recipient's secret X25519 key. Erased when dropped.
pub struct SealingKey {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

/// Why a fragment could not be sealed or opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The recipient's key is not usable.
    #[error("the recipient's sealing key is not a valid X25519 key")]
    BadKey,
    /// The bytes were not sealed to this key, or were changed.
    #[error("the fragment was not sealed to this key, or was changed on the way")]
    Open,
}

impl SealingKey {
    /// A new key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self::from_bytes(Zeroizing::new(random::bytes(rng)))
    }

    /// The key with these 32 secret bytes.
    #[must_use]
    pub fn from_bytes(secret: Zeroizing<[u8; 32]>) -> Self {
        let public = x25519_base(&secret);
        Self { secret, public }
    }

    /// The secret bytes, for a file of mode 0600.
    #[must_use]
    pub fn to_bytes(&self) -> &Zeroizing<[u8; 32]> {
        &self.secret
    }

    /// The public key, as it stands in an address.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealingKey").field("public", &hex::encode(self.public)).finish_non_exhaustive()
    }
}

/// Seals the fragments of one message.
pub struct Sealer {
    enc: [u8; ENC_LEN],
    cipher: ChaCha20Poly1305,
    aad: Aad,
}

type Aad = [u8; 1 + 1 + 32];

impl Sealer {
    /// A new context to `recipient` for packets of `hops` hops.
    ///
    /// # Errors
    /// [`SealError::BadKey`] when nothing can be sealed to the key.
    pub fn new(rng: &mut impl CryptoRng, recipient: &[u8; 32], hops: u8) -> Result<Self, SealError> {
        let ephemeral = Zeroizing::new(random::bytes(rng));
        let (enc, context) = hpke::encapsulate(&ephemeral, recipient, INFO).ok_or(SealError::BadKey)?;
        let cipher = ChaCha20Poly1305::new((&*context.export(EXPORT_LABEL)).into());
        Ok(Self { enc, cipher, aad: aad(recipient, hops) })
    }

    /// Seals one fragment; each call draws a fresh nonce, so no two packets look alike.
    ///
    /// # Errors
    /// [`SealError::Open`] only if the cipher refuses the fixed length, which it does not.
    pub fn seal(
        &self,
        rng: &mut impl CryptoRng,
        fragment: &[u8; FRAGMENT_LEN],
    ) -> Result<Box<[u8; SEALED_LEN]>, SealError> {
        let nonce: [u8; NONCE_LEN] = random::bytes(rng);
        let mut body = *fragment;
        let tag = self
            .cipher
            .encrypt_inout_detached(&Nonce::from(nonce), &self.aad, body.as_mut_slice().into())
            .map_err(|_| SealError::Open)?;
        let mut sealed = Box::new([0; SEALED_LEN]);
        for (target, source) in sealed.iter_mut().zip(self.enc.iter().chain(&nonce).chain(&body).chain(tag.iter())) {
            *target = *source;
        }
        Ok(sealed)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// An opened fragment, still unparsed.
#[derive(Debug)]
pub struct Opened {
    /// The context it was sealed under, which is one per message and sending.
    pub context: [u8; ENC_LEN],
    /// The number of hops it was sealed for.
    pub hops: u8,
    /// The fragment's bytes.
    pub fragment: Box<[u8; FRAGMENT_LEN]>,
}

/// Opens fragments and remembers the keys of recent contexts, because decapsulation costs far more than the rest.
pub struct ContextCache {
    key: SealingKey,
    capacity: usize,
    contexts: HashMap<[u8; ENC_LEN], Context>,
    order: VecDeque<[u8; ENC_LEN]>,
}

struct Context {
    cipher: ChaCha20Poly1305,
    hops: u8,
}

impl ContextCache {
    /// A cache for `capacity` contexts; the oldest makes room.
    #[must_use]
    pub fn new(key: SealingKey, capacity: usize) -> Self {
        Self { key, capacity: capacity.max(1), contexts: HashMap::new(), order: VecDeque::new() }
    }

    /// The recipient's key.
    #[must_use]
    pub fn key(&self) -> &SealingKey {
        &self.key
    }

    /// Contexts remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contexts.len()
    }

    /// Whether no context is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contexts.is_empty()
    }

    /// Opens a sealed fragment. Only contexts that opened something are remembered, so garbage displaces nothing.
    ///
    /// # Errors
    /// [`SealError::Open`] when it was not sealed to this key or was changed.
    pub fn open(&mut self, sealed: &[u8; SEALED_LEN]) -> Result<Opened, SealError> {
        let (enc, rest) = sealed.split_first_chunk::<ENC_LEN>().ok_or(SealError::Open)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Open)?;
        let (body, tag) = rest.split_last_chunk::<{ super::TAG_LEN }>().ok_or(SealError::Open)?;
        let body: &[u8; FRAGMENT_LEN] = body.try_into().map_err(|_| SealError::Open)?;
        let open = |cipher: &ChaCha20Poly1305, hops: u8| {
            let mut fragment = Box::new(*body);
            let aad = aad(&self.key.public, hops);
            let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
            cipher.decrypt_inout_detached(&nonce, &aad, fragment.as_mut_slice().into(), &tag).ok()?;
            Some(Opened { context: *enc, hops, fragment })
        };
        if let Some(context) = self.contexts.get(enc) {
            return open(&context.cipher, context.hops).ok_or(SealError::Open);
        }
        let cipher = self.decapsulate(enc)?;
        let opened = LEVELS.iter().find_map(|hops| open(&cipher, *hops)).ok_or(SealError::Open)?;
        if self.order.len() >= self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.contexts.remove(&oldest);
        }
        self.order.push_back(*enc);
        self.contexts.insert(*enc, Context { cipher, hops: opened.hops });
        Ok(opened)
    }

    fn decapsulate(&self, enc: &[u8; ENC_LEN]) -> Result<ChaCha20Poly1305, SealError> {
        let SealingKey { secret, public } = &self.key;
        let context = hpke::decapsulate(secret, public, enc, INFO).ok_or(SealError::Open)?;
        Ok(ChaCha20Poly1305::new((&*context.export(EXPORT_LABEL)).into()))
    }
}

impl std::fmt::Debug for ContextCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContextCache").field("contexts", &self.contexts.len()).finish_non_exhaustive()
    }
}

/// suite ‖ level ‖ recipient.
fn aad(recipient: &[u8; 32], hops: u8) -> Aad {
    let mut aad = [0; 34];
    for (target, source) in aad.iter_mut().zip([SUITE, hops].iter().chain(recipient)) {
        *target = *source;
    }
    aad
}
