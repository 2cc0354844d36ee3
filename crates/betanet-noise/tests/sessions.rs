//! What strangers can send to a session and to a seal.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

use betanet_noise::{
    FRAME_OVERHEAD, MAX_PLAINTEXT_LEN, MAX_SEALED_PLAINTEXT_LEN, NoiseError, NoisePublic, NoiseSecret, SEAL_OVERHEAD,
    Session, open, seal,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn secret(number: u8) -> NoiseSecret {
    NoiseSecret::from_bytes([number; 32])
}

fn shaking(seed: u64) -> (Session, Session) {
    let mut rng = rng(seed);
    (Session::initiator(&secret(1), b"", &mut rng).unwrap(), Session::responder(&secret(2), b"", &mut rng).unwrap())
}

fn opened(seed: u64) -> (Session, Session) {
    let (mut here, mut there) = shaking(seed);
    there.read_handshake(&here.write_handshake(b"").unwrap()).unwrap();
    here.read_handshake(&there.write_handshake(b"").unwrap()).unwrap();
    there.read_handshake(&here.write_handshake(b"").unwrap()).unwrap();
    (here, there)
}

/// All that is like `message` but for one bit.
fn flipped(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..message.len() * 8).map(|bit| {
        let mut changed = message.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}

#[test]
fn messages_of_a_handshake_have_the_lengths_of_the_app() {
    let (mut here, mut there) = shaking(1);

    let first = here.write_handshake(b"").unwrap();
    there.read_handshake(&first).unwrap();
    let second = there.write_handshake(b"").unwrap();
    here.read_handshake(&second).unwrap();
    let third = here.write_handshake(b"").unwrap();

    assert_eq!((32, 96, 64), (first.len(), second.len(), third.len()));
    assert!(here.is_open() && !there.is_open());
    assert_eq!(Some(secret(2).public()), here.remote_static());
    assert_eq!(None, there.remote_static());
}

/// INV-BITCHAT-16.
#[test]
fn shortened_and_altered_messages_are_refused_and_the_genuine_one_still_counts() {
    let (mut here, mut there) = shaking(2);
    let first = here.write_handshake(b"").unwrap();
    for end in 0..first.len() {
        assert!(matches!(there.read_handshake(&first[..end]), Err(NoiseError::WrongLength { .. })), "{end}");
    }
    there.read_handshake(&first).unwrap();
    let second = there.write_handshake(b"").unwrap();
    for end in 0..second.len() {
        assert!(here.read_handshake(&second[..end]).is_err(), "{end}");
    }
    for (index, changed) in flipped(&second).enumerate() {
        // X25519 ignores the top bit of a point; the hash does not.
        assert!(here.read_handshake(&changed).is_err(), "bit {index}");
    }
    here.read_handshake(&second).unwrap();
    let third = here.write_handshake(b"").unwrap();
    for changed in flipped(&third[..48]) {
        assert_eq!(Err(NoiseError::BadTag), there.read_handshake(&[&changed, &third[48..]].concat()));
    }
    there.read_handshake(&third).unwrap();
    assert_eq!(b"hello".to_vec(), there.decrypt(&here.encrypt(b"hello").unwrap()).unwrap());
}

#[test]
fn a_session_waits_for_what_is_next_and_nothing_else() {
    let (mut here, mut there) = shaking(3);
    assert_eq!(Err(NoiseError::OutOfTurn), here.read_handshake(&[9; 32]));
    assert_eq!(Err(NoiseError::OutOfTurn), there.write_handshake(b""));
    assert_eq!(Err(NoiseError::OutOfTurn), here.encrypt(b"early"));
    assert_eq!(Err(NoiseError::OutOfTurn), here.decrypt(&[0; 40]));

    let (mut here, _) = opened(3);
    assert_eq!(Err(NoiseError::OutOfTurn), here.write_handshake(b""));
    assert_eq!(Err(NoiseError::OutOfTurn), here.read_handshake(&[9; 96]));
}

#[test]
fn a_point_of_small_order_is_refused() {
    let (_, mut there) = shaking(4);
    there.read_handshake(&[0; 32]).unwrap();
    assert_eq!(Err(NoiseError::WeakKey), there.write_handshake(b""));
    let weak = NoisePublic::from([0; 32]);
    assert_eq!(Err(NoiseError::WeakKey), seal(&weak, b"", b"text", &secret(1), &mut rng(4)));
}

#[test]
fn other_prologues_do_not_meet() {
    let mut rng = rng(5);
    let mut here = Session::initiator(&secret(1), b"one", &mut rng).unwrap();
    let mut there = Session::responder(&secret(2), b"another", &mut rng).unwrap();
    there.read_handshake(&here.write_handshake(b"").unwrap()).unwrap();
    assert_eq!(Err(NoiseError::BadTag), here.read_handshake(&there.write_handshake(b"").unwrap()));
}

#[test]
fn frames_come_in_any_order_and_each_once() {
    let (mut here, mut there) = opened(6);
    let frames: Vec<_> = (0..40u8).map(|number| here.encrypt(&[number]).unwrap()).collect();
    for number in [5usize, 0, 39, 6, 1] {
        assert_eq!(vec![u8::try_from(number).unwrap()], there.decrypt(&frames[number]).unwrap());
        assert_eq!(Err(NoiseError::Replayed), there.decrypt(&frames[number]));
    }
    for frame in &frames[7..39] {
        there.decrypt(frame).unwrap();
    }
}

#[test]
fn a_frame_behind_the_window_is_refused() {
    let (mut here, mut there) = opened(7);
    let frames: Vec<_> = (0..1026).map(|_| here.encrypt(b"").unwrap()).collect();
    there.decrypt(&frames[1025]).unwrap();
    assert_eq!(Err(NoiseError::TooOld), there.decrypt(&frames[1]));
    there.decrypt(&frames[2]).unwrap();
}

/// INV-BITCHAT-16.
#[test]
fn shortened_and_altered_frames_are_refused_and_change_nothing() {
    let (mut here, mut there) = opened(8);
    let frame = here.encrypt(b"some text").unwrap();
    for end in 0..frame.len() {
        assert!(there.decrypt(&frame[..end]).is_err(), "{end}");
    }
    for changed in flipped(&frame) {
        assert_eq!(Err(NoiseError::BadTag), there.decrypt(&changed));
    }
    assert_eq!(Err(NoiseError::BadTag), here.decrypt(&frame), "a frame sent back");
    let (_, mut other) = opened(9);
    assert_eq!(Err(NoiseError::BadTag), other.decrypt(&frame), "another session");
    assert_eq!(b"some text".to_vec(), there.decrypt(&frame).unwrap());
}

#[test]
fn the_longest_text_fits_and_no_longer_one() {
    let (mut here, mut there) = opened(10);
    let text = vec![7; MAX_PLAINTEXT_LEN];
    let frame = here.encrypt(&text).unwrap();
    assert_eq!(MAX_PLAINTEXT_LEN + FRAME_OVERHEAD, frame.len());
    assert_eq!(text, there.decrypt(&frame).unwrap());
    assert!(matches!(here.encrypt(&[&text[..], b"x"].concat()), Err(NoiseError::WrongLength { .. })));
    assert!(matches!(there.decrypt(&[&frame[..], b"x"].concat()), Err(NoiseError::WrongLength { .. })));
}

/// INV-BITCHAT-18.
#[test]
fn a_seal_opens_for_its_recipient_and_its_purpose_alone() {
    let sealed = seal(&secret(2).public(), b"letter", b"text", &secret(1), &mut rng(11)).unwrap();
    assert_eq!(SEAL_OVERHEAD + 4, sealed.len());
    assert_eq!(Ok((secret(1).public(), b"text".to_vec())), open(&secret(2), b"letter", &sealed));
    assert_eq!(Err(NoiseError::BadTag), open(&secret(3), b"letter", &sealed));
    assert_eq!(Err(NoiseError::BadTag), open(&secret(2), b"parcel", &sealed));
    for end in 0..sealed.len() {
        assert!(open(&secret(2), b"letter", &sealed[..end]).is_err(), "{end}");
    }
    for (index, changed) in flipped(&sealed).enumerate() {
        assert!(open(&secret(2), b"letter", &changed).is_err(), "bit {index}");
    }
    let long = vec![0; MAX_SEALED_PLAINTEXT_LEN + 1];
    assert!(seal(&secret(2).public(), b"", &long[1..], &secret(1), &mut rng(11)).is_ok());
    assert!(matches!(
        seal(&secret(2).public(), b"", &long, &secret(1), &mut rng(11)),
        Err(NoiseError::WrongLength { .. })
    ));
}

#[test]
fn nothing_secret_is_shown() {
    let (here, _) = opened(12);
    assert_eq!("NoiseSecret(..)", format!("{:?}", secret(1)));
    assert_eq!("Session { initiator: true, open: true, .. }", format!("{here:?}"));
}
