//! A session by the pattern XX, from its first message to its last frame.

use std::fmt;

use rand_core::CryptoRng;
use snow::HandshakeState;
use zeroize::Zeroizing;

use crate::error::NoiseError;
use crate::frames::Frames;
use crate::keys::{NoisePublic, NoiseSecret};
use crate::primitives::{KEY_LEN, MAX_MESSAGE_LEN, Opening, TAG_LEN};

const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_SHA256";
/// Bytes of the three messages beside what they carry: `e`; `e, ee, s, es`; `s, se`.
const MESSAGE_LENS: [usize; 3] = [KEY_LEN, KEY_LEN + KEY_LEN + TAG_LEN + TAG_LEN, KEY_LEN + TAG_LEN + TAG_LEN];

/// A session with somebody who proves their static key, and learns ours.
///
/// A message of the handshake that is refused leaves the session as it was, so that a forger who guesses loses nobody a
/// handshake; whoever holds the session bounds how long it may take.
pub struct Session {
    stage: Stage,
    initiator: bool,
    /// Messages of the handshake that were written or read.
    messages: usize,
}

enum Stage {
    Shaking(Box<HandshakeState>),
    Open { frames: Box<Frames>, remote: NoisePublic, hash: [u8; 32] },
}

impl Session {
    /// A session that this side opens: it writes first.
    ///
    /// # Errors
    /// None that an input could cause.
    pub fn initiator(secret: &NoiseSecret, prologue: &[u8], rng: &mut impl CryptoRng) -> Result<Self, NoiseError> {
        Self::new(true, secret, prologue, rng)
    }

    /// A session that the other side opens: this one reads first.
    ///
    /// # Errors
    /// None that an input could cause.
    pub fn responder(secret: &NoiseSecret, prologue: &[u8], rng: &mut impl CryptoRng) -> Result<Self, NoiseError> {
        Self::new(false, secret, prologue, rng)
    }

    fn new(
        initiator: bool,
        secret: &NoiseSecret,
        prologue: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Self, NoiseError> {
        let opening = Opening { pattern: PATTERN, initiator, secret, remote: None, prologue };
        Ok(Self { stage: Stage::Shaking(Box::new(opening.begin(rng)?)), initiator, messages: 0 })
    }

    /// The next message of the handshake. The first two carry `payload` in clear, or to whoever answers.
    ///
    /// # Errors
    /// [`NoiseError::OutOfTurn`] unless this side is to speak; [`NoiseError::WrongLength`] if the payload is too long.
    pub fn write_handshake(&mut self, payload: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let (state, least) = self.shaking()?;
        let most = MAX_MESSAGE_LEN - least - TAG_LEN;
        if payload.len() > most {
            return Err(NoiseError::WrongLength { len: payload.len(), least: 0, most });
        }
        // `snow` wants room for a tag even where there is none.
        let mut message = vec![0; least + payload.len() + TAG_LEN];
        let len = state.write_message(payload, &mut message)?;
        message.truncate(len);
        self.advance()?;
        Ok(message)
    }

    /// What the other side's message of the handshake carries.
    ///
    /// # Errors
    /// Any of [`NoiseError`] that a message can cause.
    pub fn read_handshake(&mut self, message: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let (state, least) = self.shaking()?;
        if !(least..=MAX_MESSAGE_LEN).contains(&message.len()) {
            return Err(NoiseError::WrongLength { len: message.len(), least, most: MAX_MESSAGE_LEN });
        }
        let mut payload = vec![0; message.len()];
        let len = state.read_message(message, &mut payload)?;
        payload.truncate(len);
        self.advance()?;
        Ok(payload)
    }

    /// The handshake that goes on, and the least bytes of its next message.
    fn shaking(&mut self) -> Result<(&mut HandshakeState, usize), NoiseError> {
        let Stage::Shaking(state) = &mut self.stage else { return Err(NoiseError::OutOfTurn) };
        let least = MESSAGE_LENS.get(self.messages).copied().ok_or(NoiseError::OutOfTurn)?;
        Ok((state, least))
    }

    fn advance(&mut self) -> Result<(), NoiseError> {
        self.messages += 1;
        let Stage::Shaking(state) = &mut self.stage else { return Ok(()) };
        if !state.is_handshake_finished() {
            return Ok(());
        }
        let (first, second) = state.dangerously_get_raw_split();
        let (first, second) = (Zeroizing::new(first), Zeroizing::new(second));
        let (sending, receiving) = if self.initiator { (first, second) } else { (second, first) };
        let remote = state.get_remote_static().and_then(<[u8]>::first_chunk).ok_or(NoiseError::OutOfTurn)?;
        let hash = state.get_handshake_hash().first_chunk().ok_or(NoiseError::OutOfTurn)?;
        let frames = Box::new(Frames::new(&sending, &receiving));
        self.stage = Stage::Open { frames, remote: NoisePublic::from(*remote), hash: *hash };
        Ok(())
    }

    /// Whether this side began.
    #[must_use]
    pub const fn is_initiator(&self) -> bool {
        self.initiator
    }

    /// Whether the handshake is over.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open { .. })
    }

    /// The key that the other side has proved to hold. Nobody, before the handshake is over.
    #[must_use]
    pub const fn remote_static(&self) -> Option<NoisePublic> {
        match &self.stage {
            Stage::Open { remote, .. } => Some(*remote),
            Stage::Shaking(_) => None,
        }
    }

    /// What both sides know of this session alone, once the handshake is over.
    #[must_use]
    pub const fn handshake_hash(&self) -> Option<[u8; 32]> {
        match &self.stage {
            Stage::Open { hash, .. } => Some(*hash),
            Stage::Shaking(_) => None,
        }
    }

    /// The next frame to the other side.
    ///
    /// # Errors
    /// [`NoiseError::OutOfTurn`] before the handshake is over, [`NoiseError::WrongLength`] for a text of more than
    /// [`crate::MAX_PLAINTEXT_LEN`], [`NoiseError::Exhausted`] after 2^32 − 1 frames.
    pub fn encrypt(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, NoiseError> {
        self.frames()?.encrypt(plaintext)
    }

    /// The text of a frame. Frames may come in any order, each once, the oldest 1,023 numbers behind the newest.
    ///
    /// # Errors
    /// Any of [`NoiseError`] that a frame can cause; then nothing has changed.
    pub fn decrypt(&mut self, frame: &[u8]) -> Result<Vec<u8>, NoiseError> {
        self.frames()?.decrypt(frame)
    }

    fn frames(&mut self) -> Result<&mut Frames, NoiseError> {
        match &mut self.stage {
            Stage::Open { frames, .. } => Ok(frames),
            Stage::Shaking(_) => Err(NoiseError::OutOfTurn),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("initiator", &self.initiator)
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}
