//! HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), as far as a message needs it: a secret that both sides
//! export.
//!
//! Its own code for the sake of the multiplications, which are most of what sealing costs: they run on the X25519 of the
//! packets, and a recipient does not compute its public key again for every message.

use betanet_sphinx::x25519::{KnownPoints, x25519_base_batch};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// "KEM" and the number of the KEM.
const KEM: &[u8] = b"KEM\x00\x20";

/// "HPKE" and the numbers of KEM, KDF and AEAD (ChaCha20-Poly1305).
const SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x03";

const VERSION: &[u8] = b"HPKE-v1";

/// The mode without a key that both sides know before.
const BASE: u8 = 0;

/// 32 bytes, as everything here has.
const LEN: [u8; 2] = 32_u16.to_be_bytes();

type Key = Zeroizing<[u8; 32]>;

/// What both sides have in common.
pub(super) struct Context {
    exporter: Key,
}

impl Context {
    /// The secret for one purpose.
    pub(super) fn export(&self, purpose: &[u8]) -> Key {
        expand(&self.exporter, SUITE, b"sec", &[purpose])
    }
}

/// What the contexts of one use have in common.
pub(super) struct Usage {
    /// The hashes of no key's id and of the use's name.
    schedule: [[u8; 32]; 2],
}

impl Usage {
    /// The use with this name, which RFC 9180 calls `info`.
    pub(super) fn of(info: &[u8]) -> Self {
        let hashes = [extract(&[], SUITE, b"psk_id_hash", &[]), extract(&[], SUITE, b"info_hash", info)];
        Self { schedule: hashes.map(|hash| *hash) }
    }
}

/// What comes of the multiplications for one message: what its recipient is sent, and what both ends have in common.
pub(super) struct Agreement {
    enc: [u8; 32],
    shared: Key,
}

impl Agreement {
    /// What the recipient is sent, and the context. Nothing if one end's key is of small order.
    pub(super) fn context(&self, recipient: &[u8; 32], usage: &Usage) -> Option<([u8; 32], Context)> {
        let Self { enc, shared } = self;
        let is_good = shared.iter().fold(0, |all, byte| all | byte) != 0;
        is_good.then(|| (*enc, context(shared, enc, recipient, usage)))
    }
}

/// The sender's half for each of several recipients, from 32 random bytes each.
pub(super) fn encapsulate(
    known: &mut KnownPoints,
    ephemerals: &Zeroizing<Vec<[u8; 32]>>,
    recipients: &[[u8; 32]],
) -> Vec<Agreement> {
    agree(known, ephemerals, recipients, x25519_base_batch(ephemerals))
}

/// The recipient's half for each of several that were sent.
pub(super) fn decapsulate(secret: &Key, sent: Vec<[u8; 32]>) -> Vec<Agreement> {
    let secrets = Zeroizing::new(vec![**secret; sent.len()]);
    // No two of them are alike.
    agree(&mut KnownPoints::default(), &secrets, &sent.clone(), sent)
}

fn agree(known: &mut KnownPoints, secrets: &[[u8; 32]], points: &[[u8; 32]], encs: Vec<[u8; 32]>) -> Vec<Agreement> {
    let mut shared = Zeroizing::new(vec![[0; 32]; encs.len()]);
    known.multiply(secrets, points, &mut shared);
    encs.into_iter()
        .zip(shared.iter())
        .map(|(enc, shared)| Agreement { enc, shared: Zeroizing::new(*shared) })
        .collect()
}

/// `ExtractAndExpand` of the KEM and `KeySchedule` in base mode.
fn context(dh: &Key, enc: &[u8; 32], recipient: &[u8; 32], usage: &Usage) -> Context {
    let shared = expand(&extract(&[], KEM, b"eae_prk", dh.as_slice()), KEM, b"shared_secret", &[enc, recipient]);
    let [id, info] = &usage.schedule;
    let secret = extract(shared.as_slice(), SUITE, b"secret", &[]);
    Context { exporter: expand(&secret, SUITE, b"exp", &[&[BASE], id.as_slice(), info.as_slice()]) }
}

/// `LabeledExtract`.
fn extract(salt: &[u8], suite: &[u8], label: &[u8], input: &[u8]) -> Key {
    hmac(salt, &[VERSION, suite, label, input])
}

/// `LabeledExpand` to 32 bytes, which are one block.
fn expand(key: &Key, suite: &[u8], label: &[u8], info: &[&[u8]]) -> Key {
    let parts = [&LEN, VERSION, suite, label];
    let mut mac = hmac_of(key.as_slice());
    for part in parts.iter().chain(info) {
        mac.update(part);
    }
    mac.update(&[1]);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = hmac_of(key);
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn hmac_of(key: &[u8]) -> Hmac<Sha256> {
    // At most as long as a block of the hash, so zeros behind it change nothing.
    let mut block = Zeroizing::new([0; 64]);
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    Hmac::new((&*block).into())
}

#[cfg(test)]
mod tests {
    use hpke::aead::ChaCha20Poly1305;
    use hpke::kdf::HkdfSha256;
    use hpke::kem::X25519HkdfSha256;
    use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use betanet_sphinx::x25519::x25519_base;

    use super::*;
    use crate::random;

    fn send(ephemeral: &Key, recipient: &[u8; 32], info: &[u8]) -> Option<([u8; 32], Context)> {
        encapsulate(&mut KnownPoints::default(), &Zeroizing::new(vec![**ephemeral]), &[*recipient])
            .pop()?
            .context(recipient, &Usage::of(info))
    }

    fn receive(secret: &Key, public: &[u8; 32], enc: [u8; 32], info: &[u8]) -> Option<Context> {
        Some(decapsulate(secret, vec![enc]).pop()?.context(public, &Usage::of(info))?.1)
    }

    #[test]
    fn many_agreements_are_those_that_are_made_one_by_one() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        for count in [0, 1, 2, 3, 11, 70] {
            let secrets: Vec<Key> = (0..count).map(|_| Zeroizing::new(random::bytes(&mut rng))).collect();
            let recipients: Vec<_> = secrets.iter().map(|secret| x25519_base(secret)).collect();
            let ephemerals: Zeroizing<Vec<_>> = Zeroizing::new((0..count).map(|_| random::bytes(&mut rng)).collect());
            let sent = encapsulate(&mut KnownPoints::default(), &ephemerals, &recipients);
            assert_eq!(count, sent.len());
            for (((agreement, ephemeral), recipient), secret) in
                sent.iter().zip(ephemerals.iter()).zip(&recipients).zip(&secrets)
            {
                let (enc, context) = agreement.context(recipient, &Usage::of(b"")).unwrap();
                let (alone, same) = send(&Zeroizing::new(*ephemeral), recipient, b"").unwrap();
                let theirs = receive(secret, recipient, enc, b"").unwrap();
                let exported = context.export(b"purpose");
                assert_eq!((alone, &exported), (enc, &same.export(b"purpose")));
                assert_eq!(exported, theirs.export(b"purpose"));
            }
            let secret = Zeroizing::new([9; 32]);
            let public = x25519_base(&secret);
            let together = decapsulate(&secret, recipients.clone());
            assert_eq!(count, together.len());
            for (agreement, enc) in together.iter().zip(recipients) {
                let (_, context) = agreement.context(&public, &Usage::of(b"")).unwrap();
                let alone = receive(&secret, &public, enc, b"").unwrap();
                assert_eq!(alone.export(b"purpose"), context.export(b"purpose"));
            }
        }
    }

    /// RFC 9180, appendix A.2.1: base setup with ChaCha20-Poly1305.
    #[test]
    fn exported_secrets_are_those_of_the_rfc() {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let key = |text: &str| Zeroizing::new(<[u8; 32]>::try_from(bytes(text)).unwrap());
        let info = bytes("4f6465206f6e2061204772656369616e2055726e");
        let ephemeral = key("f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600");
        let public = *key("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a");
        let secret = key("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb");
        let (enc, sender) = send(&ephemeral, &public, &info).unwrap();
        assert_eq!(enc.to_vec(), bytes("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"));
        let recipient = receive(&secret, &public, enc, &info).unwrap();
        for (purpose, exported) in [
            ("", "4bbd6243b8bb54cec311fac9df81841b6fd61f56538a775e7c80a9f40160606e"),
            ("00", "8c1df14732580e5501b00f82b10a1647b40713191b7c1240ac80e2b68808ba69"),
            ("54657374436f6e74657874", "5acb09211139c43b3090489a9da433e8a30ee7188ba8b0a9a1ccf0c229283e53"),
        ] {
            assert_eq!(key(exported), sender.export(&bytes(purpose)));
            assert_eq!(key(exported), recipient.export(&bytes(purpose)));
        }
    }

    #[test]
    fn it_understands_another_implementation_and_is_understood_by_it() {
        type Theirs = X25519HkdfSha256;
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for info in [&b""[..], b"betanet message v1"] {
            let secret = Zeroizing::new(random::bytes(&mut rng));
            let their_secret = <Theirs as Kem>::PrivateKey::from_bytes(secret.as_slice()).unwrap();
            let their_public = Theirs::sk_to_pk(&their_secret);
            let public: [u8; 32] = their_public.to_bytes().into();
            let mut exported = [0; 32];

            let (enc, context) = send(&Zeroizing::new(random::bytes(&mut rng)), &public, info).unwrap();
            let enc = <Theirs as Kem>::EncappedKey::from_bytes(&enc).unwrap();
            hpke::setup_receiver::<ChaCha20Poly1305, HkdfSha256, Theirs>(&OpModeR::Base, &their_secret, &enc, info)
                .unwrap()
                .export(b"purpose", &mut exported)
                .unwrap();
            assert_eq!(exported, *context.export(b"purpose"));

            let (enc, theirs) = hpke::setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, Theirs>(
                &OpModeS::Base,
                &their_public,
                info,
                &mut rng,
            )
            .unwrap();
            theirs.export(b"purpose", &mut exported).unwrap();
            let context = receive(&secret, &public, enc.to_bytes().into(), info).unwrap();
            assert_eq!(exported, *context.export(b"purpose"));
        }
    }

    #[test]
    fn points_of_small_order_give_no_secret() {
        let secret = Zeroizing::new([7; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        for point in [[0; 32], one] {
            assert!(send(&secret, &point, b"").is_none());
            assert!(receive(&secret, &x25519_base(&secret), point, b"").is_none());
        }
    }
}
