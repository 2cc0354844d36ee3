//! The packet keys of one node, one per epoch.

use std::collections::BTreeMap;

use betanet_sphinx::{PublicKey, SecretKey};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::Epoch;

const EXPORT_VERSION: u8 = 1;
const ENTRY_LEN: usize = 8 + 32;
const MAX_KEYS: usize = 8;

/// The secrets of the previous, the current and the next epoch.
///
/// The next epoch's key exists early because the directory publishes it before the boundary. Packets are accepted
/// under the current and the previous key only. Rotation drops older secrets, and a dropped secret is erased.
#[derive(Clone)]
pub struct KeyRing {
    current: Epoch,
    keys: BTreeMap<Epoch, SecretKey>,
}

/// Why exported key bytes cannot be imported.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// The version byte is not one this release writes.
    #[error("the key file has a version that this release does not read")]
    UnknownVersion,
    /// The bytes end early, run on, or count more keys than a ring ever holds.
    #[error("the key file is damaged: its length does not match its contents")]
    Malformed,
}

impl KeyRing {
    /// A ring at `current` without any key.
    #[must_use]
    pub fn empty(current: Epoch) -> Self {
        Self { current, keys: BTreeMap::new() }
    }

    /// A ring that starts at `current`, with fresh keys for it and for the epoch after.
    pub fn new(rng: &mut impl CryptoRng, current: Epoch) -> Self {
        let mut keys = Self::empty(current);
        keys.fill(rng);
        keys
    }

    /// The epoch that the ring was last rotated to.
    #[must_use]
    pub fn current(&self) -> Epoch {
        self.current
    }

    /// Moves to `current`: erases keys older than the one before it and makes the missing ones.
    ///
    /// Returns the erased epochs, so that the driver removes their replay logs. Where `current` goes back, because a
    /// clock was wrong, the keys of the future are erased too: they are made afresh when their time comes, and a key,
    /// once erased, never comes back.
    pub fn rotate(&mut self, rng: &mut impl CryptoRng, current: Epoch) -> Vec<Epoch> {
        let erased = self.advance(current);
        self.fill(rng);
        erased
    }

    /// The first half of [`KeyRing::rotate`]: erases what is too old and makes nothing.
    pub fn advance(&mut self, current: Epoch) -> Vec<Epoch> {
        self.current = current;
        let accepted_or_next = current.previous()..=current.next();
        let (kept, erased) =
            std::mem::take(&mut self.keys).into_iter().partition(|(epoch, _)| accepted_or_next.contains(epoch));
        self.keys = kept;
        let erased: BTreeMap<Epoch, SecretKey> = erased;
        erased.into_keys().collect()
    }

    /// Erases the key of one epoch at once, for example when its replay log may have lost entries.
    ///
    /// Until the next [`KeyRing::rotate`] makes a new one, packets of that epoch find no key. Returns whether there was one.
    pub fn erase(&mut self, epoch: Epoch) -> bool {
        self.keys.remove(&epoch).is_some()
    }

    /// The key that packets with this parity bit are tried with: the current epoch's or the previous one's.
    #[must_use]
    pub fn accept(&self, parity: u8) -> Option<(Epoch, &SecretKey)> {
        let previous = self.current.previous();
        let epoch = if self.current.parity() == parity {
            self.current
        } else if previous != self.current && previous.parity() == parity {
            previous
        } else {
            return None;
        };
        self.keys.get(&epoch).map(|key| (epoch, key))
    }

    /// The secret of exactly `epoch`, if the ring holds it.
    #[must_use]
    pub fn secret(&self, epoch: Epoch) -> Option<&SecretKey> {
        self.keys.get(&epoch)
    }

    /// The public keys to publish: those of the current and of the next epoch, and the previous one while it is accepted.
    #[must_use]
    pub fn public_keys(&self) -> BTreeMap<Epoch, PublicKey> {
        self.keys.iter().map(|(epoch, key)| (*epoch, key.public())).collect()
    }

    /// All secrets as bytes for a file of mode 0600: version ‖ current u64 ‖ count u8 ‖ (epoch u64 ‖ secret 32)*.
    #[must_use]
    pub fn export(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(10 + self.keys.len() * ENTRY_LEN));
        out.push(EXPORT_VERSION);
        out.extend_from_slice(&self.current.0.to_be_bytes());
        // `fill` and `rotate` keep three keys at most.
        out.push(u8::try_from(self.keys.len()).unwrap_or(u8::MAX));
        for (epoch, key) in &self.keys {
            out.extend_from_slice(&epoch.0.to_be_bytes());
            out.extend_from_slice(key.to_bytes().as_slice());
        }
        out
    }

    /// Reads what [`KeyRing::export`] wrote. Makes no keys: call [`KeyRing::rotate`] with the present epoch next.
    ///
    /// # Errors
    /// [`KeyRingError`] when the bytes are not exactly one export.
    pub fn import(bytes: &[u8]) -> Result<Self, KeyRingError> {
        let (version, rest) = bytes.split_first().ok_or(KeyRingError::Malformed)?;
        if *version != EXPORT_VERSION {
            return Err(KeyRingError::UnknownVersion);
        }
        let (current, rest) = rest.split_first_chunk::<8>().ok_or(KeyRingError::Malformed)?;
        let (count, rest) = rest.split_first().ok_or(KeyRingError::Malformed)?;
        let count = usize::from(*count);
        let (entries, tail) = rest.as_chunks::<ENTRY_LEN>();
        if count > MAX_KEYS || entries.len() != count || !tail.is_empty() {
            return Err(KeyRingError::Malformed);
        }
        let mut keys = BTreeMap::new();
        for entry in entries {
            let (epoch, secret) = entry.split_first_chunk::<8>().ok_or(KeyRingError::Malformed)?;
            let secret = Zeroizing::new(<[u8; 32]>::try_from(secret).map_err(|_| KeyRingError::Malformed)?);
            let epoch = Epoch(u64::from_be_bytes(*epoch));
            if keys.insert(epoch, SecretKey::from_bytes(*secret)).is_some() {
                return Err(KeyRingError::Malformed);
            }
        }
        Ok(Self { current: Epoch(u64::from_be_bytes(*current)), keys })
    }

    fn fill(&mut self, rng: &mut impl CryptoRng) {
        for epoch in [self.current, self.current.next()] {
            self.keys.entry(epoch).or_insert_with(|| SecretKey::generate(rng));
        }
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing")
            .field("current", &self.current)
            .field("epochs", &self.keys.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn ring() -> (ChaCha20Rng, KeyRing) {
        let mut seeded = ChaCha20Rng::seed_from_u64(1);
        let ring = KeyRing::new(&mut seeded, Epoch(10));
        (seeded, ring)
    }

    /// INV-MSG-19
    #[test]
    fn the_current_and_the_previous_key_are_accepted_and_no_other() {
        let (mut seeded, mut ring) = ring();
        assert_eq!(ring.accept(0).unwrap().0, Epoch(10));
        // A new ring never had a key of epoch 9, and the key of epoch 11 is published but not accepted yet.
        assert!(ring.accept(1).is_none());
        ring.rotate(&mut seeded, Epoch(11));
        assert_eq!(ring.accept(1).unwrap().0, Epoch(11));
        assert_eq!(ring.accept(0).unwrap().0, Epoch(10));
        assert!(ring.accept(2).is_none());
    }

    /// INV-MSG-19
    #[test]
    fn rotation_keeps_published_keys_and_erases_old_ones() {
        let (mut seeded, mut ring) = ring();
        let announced = ring.public_keys()[&Epoch(11)].as_bytes().to_vec();
        assert!(ring.rotate(&mut seeded, Epoch(11)).is_empty());
        assert_eq!(ring.secret(Epoch(11)).unwrap().public().as_bytes().to_vec(), announced);
        assert_eq!(ring.rotate(&mut seeded, Epoch(12)), vec![Epoch(10)]);
        assert!(ring.secret(Epoch(10)).is_none());
        assert_eq!(ring.public_keys().into_keys().collect::<Vec<_>>(), vec![Epoch(11), Epoch(12), Epoch(13)]);
        assert_eq!(ring.rotate(&mut seeded, Epoch(40)), vec![Epoch(11), Epoch(12), Epoch(13)]);
    }

    /// INV-MSG-19
    #[test]
    fn a_clock_that_is_set_back_erases_keys_of_the_future_and_brings_none_back() {
        let (mut seeded, mut ring) = ring();
        let secret = |ring: &KeyRing, epoch: u64| ring.secret(Epoch(epoch)).map(|key| key.to_bytes().to_vec());
        let (erased, kept) = (secret(&ring, 10), secret(&ring, 11));
        ring.rotate(&mut seeded, Epoch(12));
        // One epoch back: what is still held goes on, and the key after the next one goes.
        assert_eq!(vec![Epoch(13)], ring.rotate(&mut seeded, Epoch(11)));
        assert_eq!((Epoch(11), kept), (ring.current(), secret(&ring, 11)));
        assert_eq!(vec![Epoch(12)], ring.rotate(&mut seeded, Epoch(10)));
        assert_ne!(erased, secret(&ring, 10));
        // Far back, nothing stays.
        assert_eq!(vec![Epoch(10), Epoch(11)], ring.rotate(&mut seeded, Epoch(3)));
        assert_eq!(vec![Epoch(3), Epoch(4)], ring.public_keys().into_keys().collect::<Vec<_>>());
    }

    #[test]
    fn export_and_import_keep_every_key() {
        let (_, ring) = ring();
        let bytes = ring.export();
        let back = KeyRing::import(&bytes).unwrap();
        assert_eq!(back.current(), Epoch(10));
        assert_eq!(back.export().as_slice(), bytes.as_slice());
    }

    #[test]
    fn damaged_exports_are_refused() {
        let (_, ring) = ring();
        let bytes = ring.export();
        for len in 0..bytes.len() {
            assert!(KeyRing::import(&bytes[..len]).is_err(), "prefix of {len} bytes");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(KeyRing::import(&longer).unwrap_err(), KeyRingError::Malformed);
        let mut version = bytes.to_vec();
        version[0] = 9;
        assert_eq!(KeyRing::import(&version).unwrap_err(), KeyRingError::UnknownVersion);
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let (_, ring) = ring();
        let text = format!("{ring:?}");
        let secret = hex::encode(ring.secret(Epoch(10)).unwrap().to_bytes().as_slice());
        assert!(text.contains("10") && !text.contains(&secret));
    }
}
