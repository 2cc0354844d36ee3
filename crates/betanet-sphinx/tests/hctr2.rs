//! HCTR2-AES-256 against the vectors of its authors (google/hctr2, MIT).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, reason = "test code")]

#[path = "common/outside.rs"]
mod outside;

use betanet_sphinx::suite::hctr2::Hctr2;
use outside::{bytes, cases};
use proptest::prelude::*;

/// INV-SPHINX-13
#[test]
fn hctr2_agrees_with_the_vectors_of_its_authors() {
    let Some(cases) = cases("hctr2_aes256.json") else { return };
    assert!(cases.len() > 300);
    for case in &cases {
        let key: [u8; 32] = bytes(&case["input"]["key_hex"]).try_into().unwrap();
        let tweak = bytes(&case["input"]["tweak_hex"]);
        let (plain, cipher) = (bytes(&case["plaintext_hex"]), bytes(&case["ciphertext_hex"]));
        let hctr2 = Hctr2::new(&key);
        let mut data = plain.clone();
        hctr2.encrypt(&tweak, &mut data);
        assert_eq!(cipher, data, "{}", case["description"]);
        hctr2.decrypt(&tweak, &mut data);
        assert_eq!(plain, data, "{}", case["description"]);
    }
}

proptest! {
    #[test]
    fn hctr2_opens_what_it_sealed(
        key: [u8; 32],
        tweak in proptest::collection::vec(any::<u8>(), 0..50),
        plain in proptest::collection::vec(any::<u8>(), 0..1500),
    ) {
        let hctr2 = Hctr2::new(&key);
        let mut data = plain.clone();
        hctr2.encrypt(&tweak, &mut data);
        prop_assert!(plain.len() < 16 || data != plain);
        hctr2.decrypt(&tweak, &mut data);
        prop_assert_eq!(plain, data);
    }
}
