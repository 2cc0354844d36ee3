//! The primitives that `snow` works with: this workspace's, whose keys are erased when dropped.

use betanet_sphinx::x25519::{x25519, x25519_base};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::NoiseError;
use crate::keys::{NoisePublic, NoiseSecret};

/// Bytes of an authentication tag.
pub(crate) const TAG_LEN: usize = 16;
/// Bytes of a public key.
pub(crate) const KEY_LEN: usize = 32;
/// Bytes of the longest message of a handshake.
pub(crate) const MAX_MESSAGE_LEN: usize = 65_535;

/// What a handshake begins with.
pub(crate) struct Opening<'a> {
    pub(crate) pattern: &'static str,
    pub(crate) initiator: bool,
    pub(crate) secret: &'a NoiseSecret,
    pub(crate) remote: Option<&'a NoisePublic>,
    pub(crate) prologue: &'a [u8],
}

impl Opening<'_> {
    /// The handshake, with an ephemeral key that is drawn now.
    pub(crate) fn begin(&self, rng: &mut impl CryptoRng) -> Result<HandshakeState, NoiseError> {
        let mut ephemeral = Zeroizing::new([0; KEY_LEN]);
        rng.fill_bytes(ephemeral.as_mut_slice());
        self.build(Some(ephemeral))
    }

    /// A handshake in which this side only reads.
    pub(crate) fn listen(&self) -> Result<HandshakeState, NoiseError> {
        self.build(None)
    }

    fn build(&self, ephemeral: Option<Zeroizing<[u8; KEY_LEN]>>) -> Result<HandshakeState, NoiseError> {
        let params: NoiseParams = self.pattern.parse()?;
        let mut builder = Builder::with_resolver(params, Box::new(Primitives { ephemeral }))
            .local_private_key(self.secret.expose())?
            .prologue(self.prologue)?;
        if let Some(remote) = self.remote {
            builder = builder.remote_public_key(remote.as_bytes())?;
        }
        Ok(if self.initiator { builder.build_initiator() } else { builder.build_responder() }?)
    }
}

/// Encrypts `text` in place and gives its tag.
pub(crate) fn encrypt(cipher: &ChaCha20Poly1305, nonce: u64, associated: &[u8], text: &mut [u8]) -> Tag {
    cipher
        .encrypt_inout_detached(&wide(nonce), associated, text.into())
        .expect("a text of less than 256 GiB can be encrypted")
}

/// Decrypts `text` in place, if the tag is its own; else leaves it as it was.
pub(crate) fn decrypt(
    cipher: &ChaCha20Poly1305,
    nonce: u64,
    associated: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), NoiseError> {
    let opened = cipher.decrypt_inout_detached(&wide(nonce), associated, text.into(), &Tag::from(*tag));
    opened.map_err(|_| NoiseError::BadTag)
}

/// Four zero bytes and the number, little-endian.
fn wide(nonce: u64) -> Nonce {
    let mut bytes = [0; 12];
    let (_, number) = bytes.split_at_mut(4);
    number.copy_from_slice(&nonce.to_le_bytes());
    bytes.into()
}

/// One handshake's primitives. Its only randomness is the ephemeral key, which was drawn before.
struct Primitives {
    ephemeral: Option<Zeroizing<[u8; KEY_LEN]>>,
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn(self.ephemeral.clone())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let agreement: Box<dyn Dh> = Box::<Agreement>::default();
        matches!(choice, DHChoice::Curve25519).then_some(agreement)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        let hash: Box<dyn Hash> = Box::<Sha>::default();
        matches!(choice, HashChoice::SHA256).then_some(hash)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        let cipher: Box<dyn Cipher> = Box::new(ChaChaPoly::new());
        matches!(choice, CipherChoice::ChaChaPoly).then_some(cipher)
    }
}

/// Gives its bytes once.
struct Drawn(Option<Zeroizing<[u8; KEY_LEN]>>);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        let bytes = self.0.take().filter(|bytes| bytes.len() == dest.len()).ok_or(Error::Rng)?;
        dest.copy_from_slice(bytes.as_slice());
        Ok(())
    }
}

#[derive(Default)]
struct Agreement {
    secret: Zeroizing<[u8; KEY_LEN]>,
    public: [u8; KEY_LEN],
}

impl Dh for Agreement {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, privkey: &[u8]) {
        self.secret.copy_from_slice(privkey);
        self.public = x25519_base(&self.secret);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        rng.try_fill_bytes(self.secret.as_mut_slice())?;
        self.public = x25519_base(&self.secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_slice()
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let point = pubkey.first_chunk().ok_or(Error::Dh)?;
        let shared = Zeroizing::new(x25519(&self.secret, point));
        // The app refuses such keys too; the Noise specification leaves it open.
        if bool::from(shared.ct_eq(&[0; KEY_LEN])) {
            return Err(Error::Dh);
        }
        *out.first_chunk_mut().ok_or(Error::Dh)? = *shared;
        Ok(())
    }
}

struct ChaChaPoly(ChaCha20Poly1305);

impl ChaChaPoly {
    fn new() -> Self {
        Self(ChaCha20Poly1305::new(&[0; KEY_LEN].into()))
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY_LEN]) {
        self.0 = ChaCha20Poly1305::new(key.into());
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        let tag = encrypt(&self.0, nonce, authtext, text);
        let (place, _) = rest.split_at_mut(TAG_LEN);
        place.copy_from_slice(&tag);
        plaintext.len() + TAG_LEN
    }

    fn decrypt(&self, nonce: u64, authtext: &[u8], ciphertext: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let (sealed, tag) = ciphertext.split_last_chunk().ok_or(Error::Decrypt)?;
        let text = out.get_mut(..sealed.len()).ok_or(Error::Decrypt)?;
        text.copy_from_slice(sealed);
        decrypt(&self.0, nonce, authtext, text, tag).map_err(|_| Error::Decrypt)?;
        Ok(sealed.len())
    }
}

#[derive(Default)]
struct Sha(Sha256);

impl Hash for Sha {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Sha256::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash: [u8; 32] = self.0.finalize_reset().into();
        if let Some(place) = out.first_chunk_mut() {
            *place = hash;
        }
    }
}
