//! The one place that asks the operating system for randomness.

use std::convert::Infallible;

use chacha20::ChaCha20Rng;
use getrandom::SysRng;
use rand_core::{Rng as _, SeedableRng as _, TryCryptoRng, TryRng, UnwrapErr};
use zeroize::Zeroizing;

/// Bytes from one seed.
const PER_SEED: usize = 64 * 1024;

/// The operating system's randomness.
///
/// It panics if the operating system has none, which Linux rules out once it has booted.
#[must_use]
pub(crate) const fn os_rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// Randomness for whoever needs much of it: a stream that the operating system seeds again and again.
#[derive(Debug)]
pub(crate) struct SeededStream {
    stream: ChaCha20Rng,
    left: usize,
}

impl SeededStream {
    pub(crate) fn new() -> Self {
        Self { stream: seeded(), left: PER_SEED }
    }

    /// Goes on from a new seed, so that a copy of this process or machine that was made before does not draw the same.
    pub(crate) fn renew(&mut self) {
        *self = Self::new();
    }

    fn spend(&mut self, bytes: usize) -> &mut ChaCha20Rng {
        if self.left < bytes {
            self.renew();
        }
        self.left = self.left.saturating_sub(bytes);
        &mut self.stream
    }
}

fn seeded() -> ChaCha20Rng {
    let mut seed = Zeroizing::new([0; 32]);
    os_rng().fill_bytes(seed.as_mut_slice());
    ChaCha20Rng::from_seed(*seed)
}

impl TryRng for SeededStream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.spend(size_of::<u32>()).try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.spend(size_of::<u64>()).try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.spend(bytes.len()).try_fill_bytes(bytes)
    }
}

impl TryCryptoRng for SeededStream {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn draw(stream: &mut SeededStream) -> [u8; 16] {
        let mut bytes = [0; 16];
        stream.fill_bytes(&mut bytes);
        bytes
    }

    fn stream(left: usize) -> SeededStream {
        SeededStream { stream: ChaCha20Rng::from_seed([1; 32]), left }
    }

    #[test]
    fn a_stream_goes_on_from_a_new_seed_when_it_is_told_to_and_when_one_is_used_up() {
        let (mut renewed, mut used_up, mut same) = (stream(32), stream(20), stream(32));
        let first = draw(&mut same);
        assert_eq!([first; 2], [draw(&mut renewed), draw(&mut used_up)]);
        renewed.renew();
        let second = draw(&mut same);
        assert_ne!(second, draw(&mut renewed));
        assert_ne!(second, draw(&mut used_up));
    }

    #[test]
    fn what_a_stream_gives_does_not_repeat_itself() {
        let mut stream = SeededStream::new();
        let drawn: HashSet<_> = (0..3 * PER_SEED / 16).map(|_| draw(&mut stream)).collect();
        assert_eq!(3 * PER_SEED / 16, drawn.len());
    }
}
