use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::fixtures::rng;

fn key(number: u8) -> VrfSecretKey {
    VrfSecretKey::from_seed(&[number; 32])
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

/// INV-DELAY-01: the vectors of RFC 9381, appendix B.4: keys, intermediate values, proofs, outputs.
#[test]
#[allow(clippy::explicit_write, reason = "the harness hides what a passing test prints through `eprintln!`")]
fn the_vectors_of_the_rfc_hold() {
    const NAME: &str = "rfc9381_ecvrf_edwards25519.json";
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let folder = std::env::var_os("FOG_VECTORS").map_or(beside, Into::into);
    let Ok(text) = std::fs::read_to_string(folder.join(NAME)) else {
        // Written past the harness, which swallows the output of a test that passes.
        writeln!(std::io::stderr(), "SKIPPED: {NAME} is not in the folder of outside vectors (set FOG_VECTORS)")
            .unwrap();
        return;
    };
    let file: Value = serde_json::from_str(&text).unwrap();
    let cases = file["suites"]["ECVRF-EDWARDS25519-SHA512-ELL2"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let secret = VrfSecretKey::from_seed(&bytes(&case["sk"]));
        let public = VrfPublicKey::parse(&bytes::<32>(&case["pk"])).unwrap();
        assert_eq!(secret.public(), public);
        let input = hex::decode(case["alpha"].as_str().unwrap()).unwrap();
        assert_eq!(public.encode(&input).compress().0, bytes(&case["h"]));
        let proof = Proof::from(bytes(&case["pi"]));
        let output = Output::from(bytes(&case["beta"]));
        assert_eq!(secret.prove(&input), (output.clone(), proof));
        assert_eq!(public.verify(&input, &proof), Ok(output.clone()));
        assert_eq!(proof.to_output_unverified(), Ok(output));
    }
}

/// INV-DELAY-02: a proof with any bit changed proves nothing.
#[test]
fn every_flipped_bit_of_a_proof_is_noticed() {
    let (output, proof) = key(1).prove(b"input");
    let public = key(1).public();
    assert_eq!(public.verify(b"input", &proof), Ok(output));
    for bit in 0..8 * PROOF_LEN {
        let mut flipped = proof;
        flipped.0[bit / 8] ^= 1 << (bit % 8);
        assert!(public.verify(b"input", &flipped).is_err(), "bit {bit}");
    }
}

/// INV-DELAY-02: nor does one for another key or another input.
#[test]
fn a_proof_holds_for_its_key_and_its_input_alone() {
    let (output, proof) = key(1).prove(b"input");
    assert_eq!(key(2).public().verify(b"input", &proof), Err(VrfError::NotProved));
    for other in [&b"inpuu"[..], b"input ", b"", b"Input"] {
        assert_eq!(key(1).public().verify(other, &proof), Err(VrfError::NotProved));
        assert_ne!(key(1).prove(other).0, output);
    }
    assert_ne!(key(2).prove(b"input").0, output);
}

/// INV-DELAY-02: with a Γ of somebody's choice there is no proof, also not one of small order or in a second encoding.
#[test]
fn chosen_points_are_refused() {
    let (_, proof) = key(1).prove(b"input");
    let (_, foreign) = key(2).prove(b"input");
    let public = key(1).public();
    let with_gamma = |gamma: [u8; 32]| {
        let mut changed = proof;
        changed.0[..32].copy_from_slice(&gamma);
        public.verify(b"input", &changed).unwrap_err()
    };
    assert_eq!(with_gamma(foreign.0[..32].try_into().unwrap()), VrfError::NotProved);
    let mut one = [0; 32];
    one[0] = 1;
    assert_eq!(with_gamma(one), VrfError::NotProved);
    // y = 1 with a sign for x = 0, y = p + 1, and a y that is on no point.
    let signed = {
        let mut point = one;
        point[31] = 0x80;
        point
    };
    let mut above = [0xff; 32];
    (above[0], above[31]) = (0xee, 0x7f);
    let mut nowhere = [0; 32];
    nowhere[0] = 2;
    for malformed in [signed, above, nowhere] {
        assert_eq!(with_gamma(malformed), VrfError::BadProof);
    }
    // s at or above the group order.
    let mut large = proof;
    large.0[48..].fill(0xff);
    assert_eq!(public.verify(b"input", &large), Err(VrfError::BadProof));
    assert_eq!(large.to_output_unverified(), Err(VrfError::BadProof));
}

/// INV-DELAY-02: Γ plus a point of small order has the same output, and still no second proof.
#[test]
fn a_shifted_gamma_is_refused() {
    use curve25519_dalek::constants::EIGHT_TORSION;
    let (_, proof) = key(1).prove(b"input");
    let (gamma, ..) = proof.decode().unwrap();
    for torsion in &EIGHT_TORSION[1..] {
        let mut shifted = proof;
        shifted.0[..32].copy_from_slice(&(gamma + torsion).compress().0);
        assert_eq!(shifted.to_output_unverified(), proof.to_output_unverified());
        assert!(key(1).public().verify(b"input", &shifted).is_err());
    }
}

/// INV-DELAY-03: keys of small order and keys in a second encoding are refused.
#[test]
fn unusable_keys_are_refused() {
    use curve25519_dalek::constants::EIGHT_TORSION;
    for point in EIGHT_TORSION {
        assert_eq!(VrfPublicKey::parse(&point.compress().0), Err(VrfError::BadKey));
    }
    let mut above = [0xff; 32];
    above[31] = 0x7f;
    for low in 0xed..=0xff {
        above[0] = low;
        assert_eq!(VrfPublicKey::parse(&above), Err(VrfError::BadKey), "{low:#x}");
    }
    assert_eq!(VrfPublicKey::parse(&[7; 31]), Err(VrfError::BadKey));
    assert_eq!(VrfPublicKey::parse(&[]), Err(VrfError::BadKey));
    let public = key(3).public();
    assert_eq!(VrfPublicKey::parse(public.as_bytes()), Ok(public));
}

#[test]
fn secrets_are_not_printed() {
    let secret = VrfSecretKey::generate(&mut rng(1));
    let (output, _) = secret.prove(b"input");
    let text = format!("{secret:?} {output:?}");
    assert!(text.contains(&hex::encode(secret.public().as_bytes())));
    for hidden in [secret.nonce_key.as_slice(), secret.scalar.as_bytes(), output.as_bytes()] {
        assert!(!text.contains(&hex::encode(hidden)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_proved_verifies(seed: [u8; 32], input: Vec<u8>) {
        let secret = VrfSecretKey::from_seed(&seed);
        let (output, proof) = secret.prove(&input);
        prop_assert_eq!(secret.public().verify(&input, &proof), Ok(output));
    }

    /// INV-DELAY-02
    #[test]
    fn no_bytes_make_the_parser_panic(low: [u8; 32], middle: [u8; 16], high: [u8; 32]) {
        let mut bytes = [0; PROOF_LEN];
        bytes[..32].copy_from_slice(&low);
        bytes[32..48].copy_from_slice(&middle);
        bytes[48..].copy_from_slice(&high);
        prop_assert!(key(1).public().verify(b"input", &Proof::from(bytes)).is_err());
        let _ = VrfPublicKey::parse(&low);
    }
}
