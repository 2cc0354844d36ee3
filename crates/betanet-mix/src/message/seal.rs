//! Sealing: one HPKE context (RFC 9180, X25519 / HKDF-SHA256 / ChaCha20-Poly1305) per message, one AEAD nonce per packet.
//!
//! The context's sequence numbers do not fit a network that loses and reorders, so its exporter secret keys a
//! ChaCha20-Poly1305 of its own, with a fresh random nonce for every packet. The additional data binds the suite, the
//! number of hops and the recipient. The recipient is not told the number of hops: it tries the few there are, so that
//! the edge cannot read it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::LazyLock;

use betanet_sphinx::x25519::{KnownPoints, x25519_base};
use betanet_sphinx::{MAX_HOPS, USER_PAYLOAD_LEN};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::bulk::BULK_LEN;
use super::envelope::KIND_BULK;
use super::hpke::{self, Agreement, Usage};
use super::{BULK_SEALED_LEN, ENC_LEN, FRAGMENT_LEN, NONCE_LEN, SEALED_LEN, TAG_LEN};
use crate::random;

const SUITE: u8 = 1;
/// The same for all messages, so its hashes are taken once.
static USAGE: LazyLock<Usage> = LazyLock::new(|| Usage::of(b"betanet message v1"));
const EXPORT_LABEL: &[u8] = b"betanet fragment key";
const ACK_LABEL: &[u8] = b"betanet window ack key";
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

/// Agreements with the recipients of messages that are about to be sealed, made together because that is cheaper.
#[derive(Default)]
pub struct Agreements(VecDeque<([u8; 32], Agreement)>);

impl Agreements {
    /// Makes one for each of `recipients`, in place of those that nobody took.
    pub fn prepare(&mut self, rng: &mut impl CryptoRng, known: &mut KnownPoints, recipients: &[[u8; 32]]) {
        self.0.clear();
        // In their places from the start, so that no copy of a secret is left behind.
        let mut ephemerals = Zeroizing::new(vec![[0; 32]; recipients.len()]);
        ephemerals.iter_mut().for_each(|ephemeral| rng.fill_bytes(ephemeral));
        self.0.extend(recipients.iter().copied().zip(hpke::encapsulate(known, &ephemerals, recipients)));
    }

    /// Takes the one for `recipient`, or makes it now. Each is used once.
    fn take(&mut self, rng: &mut impl CryptoRng, recipient: &[u8; 32]) -> Option<Agreement> {
        let place = self.0.iter().position(|(prepared, _)| prepared == recipient);
        let prepared = place.and_then(|place| self.0.remove(place)).map(|(_, agreement)| agreement);
        prepared.or_else(|| {
            let ephemeral = Zeroizing::new(vec![random::bytes(rng)]);
            hpke::encapsulate(&mut KnownPoints::default(), &ephemeral, &[*recipient]).pop()
        })
    }
}

impl std::fmt::Debug for Agreements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Agreements").field(&self.0.len()).finish()
    }
}

/// Seals the fragments of one message.
pub struct Sealer {
    enc: [u8; ENC_LEN],
    cipher: ChaCha20Poly1305,
    ack_key: AckKey,
    aad: Aad,
}

type Aad = [u8; 1 + 1 + 32];

impl Sealer {
    /// A new context to `recipient` for packets of `hops` hops.
    ///
    /// # Errors
    /// [`SealError::BadKey`] when nothing can be sealed to the key.
    pub fn new(rng: &mut impl CryptoRng, recipient: &[u8; 32], hops: u8) -> Result<Self, SealError> {
        Self::by(&mut Agreements::default(), rng, recipient, hops)
    }

    /// As [`Sealer::new`], by an agreement that was made before if there is one.
    ///
    /// # Errors
    /// As [`Sealer::new`].
    pub fn by(
        agreements: &mut Agreements,
        rng: &mut impl CryptoRng,
        recipient: &[u8; 32],
        hops: u8,
    ) -> Result<Self, SealError> {
        let agreement = agreements.take(rng, recipient).ok_or(SealError::BadKey)?;
        let (enc, context) = agreement.context(recipient, &USAGE).ok_or(SealError::BadKey)?;
        let cipher = ChaCha20Poly1305::new((&*context.export(EXPORT_LABEL)).into());
        let ack_key = AckKey(ChaCha20Poly1305::new((&*context.export(ACK_LABEL)).into()));
        Ok(Self { enc, cipher, ack_key, aad: aad(recipient, hops) })
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
        let mut sealed = Vec::with_capacity(SEALED_LEN);
        self.append(rng, fragment, &mut sealed)?;
        sealed.into_boxed_slice().try_into().map_err(|_| SealError::Open)
    }

    /// Seals a bulk packet into a whole payload.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal_bulk(&self, rng: &mut impl CryptoRng, content: &[u8; BULK_LEN]) -> Result<Vec<u8>, SealError> {
        let mut payload = Vec::with_capacity(USER_PAYLOAD_LEN);
        payload.push(KIND_BULK);
        self.append(rng, content, &mut payload)?;
        Ok(payload)
    }

    /// What opens the recipient's window acks.
    #[must_use]
    pub fn ack_key(&self) -> &AckKey {
        &self.ack_key
    }

    fn append(&self, rng: &mut impl CryptoRng, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let nonce: [u8; NONCE_LEN] = random::bytes(rng);
        out.extend_from_slice(&self.enc);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let body = out.get_mut(start..).unwrap_or_default();
        let tag = self
            .cipher
            .encrypt_inout_detached(&Nonce::from(nonce), &self.aad, body.into())
            .map_err(|_| SealError::Open)?;
        out.extend_from_slice(&tag);
        Ok(())
    }
}

/// Seals a recipient's window acks for the sender of a message, and opens them: only these two have it.
#[derive(Clone)]
pub struct AckKey(ChaCha20Poly1305);

impl AckKey {
    /// Seals the payload of a reply.
    #[must_use]
    pub fn seal(&self, rng: &mut impl CryptoRng, plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random::bytes(rng);
        let mut body = plain.to_vec();
        let Ok(tag) = self.0.encrypt_inout_detached(&Nonce::from(nonce), &[], body.as_mut_slice().into()) else {
            // Only for lengths of many gigabytes.
            return Vec::new();
        };
        [&nonce[..], &body, &tag].concat()
    }

    /// Opens the payload of a reply; `None` if it was not sealed with this key or was changed.
    #[must_use]
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let (body, tag) = rest.split_last_chunk::<TAG_LEN>()?;
        let mut body = body.to_vec();
        let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
        self.0.decrypt_inout_detached(&nonce, &[], body.as_mut_slice().into(), &tag).ok()?;
        Some(body)
    }
}

impl std::fmt::Debug for AckKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AckKey(..)")
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// An opened fragment, still unparsed.
#[derive(Debug)]
pub struct OpenedFragment {
    /// The context it was sealed under, which is one per message and sending.
    pub context: [u8; ENC_LEN],
    /// The number of hops it was sealed for.
    pub hops: u8,
    /// The fragment's bytes.
    pub fragment: Box<[u8; FRAGMENT_LEN]>,
}

/// An opened bulk packet, still unparsed.
#[derive(Debug)]
pub struct OpenedBulk {
    /// The context it was sealed under.
    pub context: [u8; ENC_LEN],
    /// The number of hops it was sealed for.
    pub hops: u8,
    /// Its bytes.
    pub content: Box<[u8; BULK_LEN]>,
    /// What seals acks to its sender.
    pub ack_key: AckKey,
}

/// Opens fragments and remembers the keys of recent contexts, because decapsulation costs far more than the rest.
pub struct ContextCache {
    key: SealingKey,
    capacity: usize,
    contexts: HashMap<[u8; ENC_LEN], Context>,
    order: VecDeque<[u8; ENC_LEN]>,
    /// For what is about to be opened.
    agreements: HashMap<[u8; ENC_LEN], Agreement>,
}

struct Context {
    cipher: ChaCha20Poly1305,
    ack_key: AckKey,
    hops: u8,
}

impl ContextCache {
    /// A cache for `capacity` contexts; the oldest makes room.
    #[must_use]
    pub fn new(key: SealingKey, capacity: usize) -> Self {
        Self {
            key,
            capacity: capacity.max(1),
            contexts: HashMap::new(),
            order: VecDeque::new(),
            agreements: HashMap::new(),
        }
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

    /// Agrees on the new contexts of what is about to be opened together, because that is cheaper; in place of those that
    /// were made before. What is sealed begins with its context.
    pub fn prepare<'a>(&mut self, sealed: impl Iterator<Item = &'a [u8]>) {
        self.agreements.clear();
        let encs = sealed.filter_map(|sealed| sealed.first_chunk::<ENC_LEN>());
        let new: HashSet<_> = encs.filter(|enc| !self.contexts.contains_key(*enc)).copied().collect();
        let new: Vec<_> = new.into_iter().collect();
        self.agreements.extend(new.clone().into_iter().zip(hpke::decapsulate(&self.key.secret, new)));
    }

    /// Opens a sealed fragment. Only contexts that opened something are remembered, so garbage displaces nothing.
    ///
    /// # Errors
    /// [`SealError::Open`] when it was not sealed to this key or was changed.
    pub fn open(&mut self, sealed: &[u8; SEALED_LEN]) -> Result<OpenedFragment, SealError> {
        let (context, plain) = self.open_any(sealed)?;
        let hops = self.contexts.get(&context).map_or(0, |context| context.hops);
        let fragment = plain.into_boxed_slice().try_into().map_err(|_| SealError::Open)?;
        Ok(OpenedFragment { context, hops, fragment })
    }

    /// Opens a sealed bulk packet, as [`ContextCache::open`].
    ///
    /// # Errors
    /// As [`ContextCache::open`].
    pub fn open_bulk(&mut self, sealed: &[u8; BULK_SEALED_LEN]) -> Result<OpenedBulk, SealError> {
        let (context, plain) = self.open_any(sealed)?;
        let Context { hops, ack_key, .. } = self.contexts.get(&context).ok_or(SealError::Open)?;
        let plain = plain.into_boxed_slice().try_into().map_err(|_| SealError::Open)?;
        Ok(OpenedBulk { context, hops: *hops, content: plain, ack_key: ack_key.clone() })
    }

    fn open_any(&mut self, sealed: &[u8]) -> Result<([u8; ENC_LEN], Vec<u8>), SealError> {
        let (enc, rest) = sealed.split_first_chunk::<ENC_LEN>().ok_or(SealError::Open)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Open)?;
        let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(SealError::Open)?;
        let public = self.key.public;
        let open = |cipher: &ChaCha20Poly1305, hops: u8| {
            let mut plain = body.to_vec();
            let aad = aad(&public, hops);
            let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
            cipher.decrypt_inout_detached(&nonce, &aad, plain.as_mut_slice().into(), &tag).ok()?;
            Some(plain)
        };
        if let Some(context) = self.contexts.get(enc) {
            return open(&context.cipher, context.hops).map(|plain| (*enc, plain)).ok_or(SealError::Open);
        }
        let (cipher, ack_key) = self.decapsulate(*enc)?;
        let opened = LEVELS.iter().find_map(|hops| Some((*hops, open(&cipher, *hops)?)));
        let (hops, plain) = opened.ok_or(SealError::Open)?;
        if self.order.len() >= self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.contexts.remove(&oldest);
        }
        self.order.push_back(*enc);
        self.contexts.insert(*enc, Context { cipher, ack_key, hops });
        Ok((*enc, plain))
    }

    fn decapsulate(&mut self, enc: [u8; ENC_LEN]) -> Result<(ChaCha20Poly1305, AckKey), SealError> {
        let SealingKey { secret, public } = &self.key;
        let prepared = self.agreements.remove(&enc);
        let agreement = prepared.or_else(|| hpke::decapsulate(secret, vec![enc]).pop()).ok_or(SealError::Open)?;
        let (_, context) = agreement.context(public, &USAGE).ok_or(SealError::Open)?;
        let cipher = ChaCha20Poly1305::new((&*context.export(EXPORT_LABEL)).into());
        Ok((cipher, AckKey(ChaCha20Poly1305::new((&*context.export(ACK_LABEL)).into()))))
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
