//! The frames of an open session: their number in four bytes, big-endian, then the ciphertext and its tag.

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::KeyInit;
use zeroize::Zeroizing;

use crate::error::NoiseError;
use crate::primitives::{KEY_LEN, TAG_LEN, decrypt, encrypt};
use crate::window::ReceiveWindow;

/// Bytes of the number in front.
const NUMBER_LEN: usize = 4;
/// Bytes that a frame has beside its text.
pub const FRAME_OVERHEAD: usize = NUMBER_LEN + TAG_LEN;
/// Bytes of the longest text: a file of a private message, as long as a packet of the app carries one.
pub const MAX_PLAINTEXT_LEN: usize = 1_179_708;

/// Both directions of an open session.
pub(crate) struct Frames {
    sending: ChaCha20Poly1305,
    receiving: ChaCha20Poly1305,
    next: u32,
    window: ReceiveWindow,
}

impl Frames {
    pub(crate) fn new(sending: &Zeroizing<[u8; KEY_LEN]>, receiving: &Zeroizing<[u8; KEY_LEN]>) -> Self {
        let cipher = |key: &Zeroizing<[u8; KEY_LEN]>| ChaCha20Poly1305::new((&**key).into());
        Self { sending: cipher(sending), receiving: cipher(receiving), next: 0, window: ReceiveWindow::default() }
    }

    pub(crate) fn encrypt(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let len = plaintext.len();
        if len > MAX_PLAINTEXT_LEN {
            return Err(NoiseError::WrongLength { len, least: 0, most: MAX_PLAINTEXT_LEN });
        }
        // The app sends no frame with the highest number.
        let following = self.next.checked_add(1).ok_or(NoiseError::Exhausted)?;
        let mut frame = Vec::with_capacity(len + FRAME_OVERHEAD);
        frame.extend_from_slice(&self.next.to_be_bytes());
        frame.extend_from_slice(plaintext);
        let (_, text) = frame.split_at_mut(NUMBER_LEN);
        let tag = encrypt(&self.sending, self.next.into(), &[], text);
        frame.extend_from_slice(&tag);
        self.next = following;
        Ok(frame)
    }

    pub(crate) fn decrypt(&mut self, frame: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let most = MAX_PLAINTEXT_LEN + FRAME_OVERHEAD;
        let wrong_length = NoiseError::WrongLength { len: frame.len(), least: FRAME_OVERHEAD, most };
        let (number, rest) = frame.split_first_chunk().ok_or(wrong_length)?;
        let (sealed, tag) = rest.split_last_chunk().filter(|_| frame.len() <= most).ok_or(wrong_length)?;
        let number = u32::from_be_bytes(*number);
        self.window.check(number)?;
        let mut text = sealed.to_vec();
        decrypt(&self.receiving, number.into(), &[], &mut text, tag)?;
        self.window.insert(number);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_before_the_highest() {
        let key = Zeroizing::new([5; KEY_LEN]);
        let mut frames = Frames::new(&key, &key);
        frames.next = u32::MAX - 1;

        let last = frames.encrypt(b"last").unwrap();

        assert_eq!(b"\xff\xff\xff\xfe", last.first_chunk::<4>().unwrap());
        assert_eq!(Err(NoiseError::Exhausted), frames.encrypt(b"one more"));
        assert_eq!(Ok(b"last".to_vec()), frames.decrypt(&last));
    }
}
