//! One message to somebody who is not there, by the pattern X: it proves who sent it.
//!
//! What was sealed to a static key can be read by whoever gets that key later.

use rand_core::CryptoRng;

use crate::error::NoiseError;
use crate::keys::{NoisePublic, NoiseSecret};
use crate::primitives::{KEY_LEN, MAX_MESSAGE_LEN, Opening, TAG_LEN};

const PATTERN: &str = "Noise_X_25519_ChaChaPoly_SHA256";
/// Bytes that a seal has beside its text: `e, es, s, ss` and the text's tag.
pub const SEAL_OVERHEAD: usize = KEY_LEN + KEY_LEN + TAG_LEN + TAG_LEN;
/// Bytes of the longest text.
pub const MAX_SEALED_PLAINTEXT_LEN: usize = MAX_MESSAGE_LEN - SEAL_OVERHEAD;

/// Seals `plaintext` for `recipient`, whom it tells the sender. `prologue` says what it is for: opening takes the same.
///
/// # Errors
/// [`NoiseError::WeakKey`] for a recipient's key of small order, [`NoiseError::WrongLength`] for a text of more than
/// [`MAX_SEALED_PLAINTEXT_LEN`].
pub fn seal(
    recipient: &NoisePublic,
    prologue: &[u8],
    plaintext: &[u8],
    sender: &NoiseSecret,
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, NoiseError> {
    let len = plaintext.len();
    if len > MAX_SEALED_PLAINTEXT_LEN {
        return Err(NoiseError::WrongLength { len, least: 0, most: MAX_SEALED_PLAINTEXT_LEN });
    }
    let opening = Opening { pattern: PATTERN, initiator: true, secret: sender, remote: Some(recipient), prologue };
    let mut sealed = vec![0; len + SEAL_OVERHEAD];
    let written = opening.begin(rng)?.write_message(plaintext, &mut sealed)?;
    sealed.truncate(written);
    Ok(sealed)
}

/// The sender, who has proved to be that, and the text.
///
/// # Errors
/// [`NoiseError::BadTag`] unless it was sealed for `recipient` with this prologue; [`NoiseError::WrongLength`],
/// [`NoiseError::WeakKey`].
pub fn open(recipient: &NoiseSecret, prologue: &[u8], sealed: &[u8]) -> Result<(NoisePublic, Vec<u8>), NoiseError> {
    if !(SEAL_OVERHEAD..=MAX_MESSAGE_LEN).contains(&sealed.len()) {
        return Err(NoiseError::WrongLength { len: sealed.len(), least: SEAL_OVERHEAD, most: MAX_MESSAGE_LEN });
    }
    let opening = Opening { pattern: PATTERN, initiator: false, secret: recipient, remote: None, prologue };
    let mut state = opening.listen()?;
    let mut plaintext = vec![0; sealed.len()];
    let len = state.read_message(sealed, &mut plaintext)?;
    plaintext.truncate(len);
    let sender = state.get_remote_static().and_then(<[u8]>::first_chunk).ok_or(NoiseError::OutOfTurn)?;
    Ok((NoisePublic::from(*sender), plaintext))
}
