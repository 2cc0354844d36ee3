//! Which numbers a session has received.

use crate::error::NoiseError;

/// Numbers behind the newest that are still told apart: as many as the app remembers.
pub(crate) const WINDOW: u32 = 1024;
const WORD: u32 = u64::BITS;
#[expect(clippy::as_conversions, reason = "16 fits")]
const WORDS: usize = (WINDOW / WORD) as usize;

/// The newest number, and a bit for each of the last [`WINDOW`], at its number modulo that.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReceiveWindow {
    newest: u32,
    seen: [u64; WORDS],
}

impl ReceiveWindow {
    /// Whether a frame with this number may still come. Changes nothing: its tag is not checked yet.
    pub(crate) fn check(&self, number: u32) -> Result<(), NoiseError> {
        if number > self.newest {
            return Ok(());
        }
        if self.newest - number >= WINDOW {
            return Err(NoiseError::TooOld);
        }
        let (word, bit) = place(number);
        if self.seen.get(word).is_some_and(|word| word & bit != 0) { Err(NoiseError::Replayed) } else { Ok(()) }
    }

    /// Remembers a number whose frame was genuine.
    pub(crate) fn insert(&mut self, number: u32) {
        if number > self.newest {
            if number - self.newest >= WINDOW {
                self.seen = Default::default();
            } else {
                // The places of the numbers between were those of numbers that now are too old.
                for between in self.newest + 1..number {
                    let (word, bit) = place(between);
                    self.seen.iter_mut().skip(word).take(1).for_each(|word| *word &= !bit);
                }
            }
            self.newest = number;
        }
        let (word, bit) = place(number);
        self.seen.iter_mut().skip(word).take(1).for_each(|word| *word |= bit);
    }
}

fn place(number: u32) -> (usize, u64) {
    let index = number % WINDOW;
    (usize::try_from(index / WORD).unwrap_or(0), 1 << (index % WORD))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// INV-BITCHAT-17: the window is a set of all numbers, cut off behind the newest.
        #[test]
        fn the_window_is_a_set_with_an_end(steps in prop::collection::vec((0u32..3000, 0u32..2), 1..200), start in 0u32..u32::MAX - 4000) {
            let (mut window, mut seen) = (ReceiveWindow::default(), BTreeSet::new());
            for (step, far) in steps {
                let number = if far == 0 { step } else { start + step };
                let newest = seen.last().copied().unwrap_or(0);
                let expected = if number + WINDOW <= newest { Err(NoiseError::TooOld) }
                    else if seen.contains(&number) { Err(NoiseError::Replayed) } else { Ok(()) };
                prop_assert_eq!(expected, window.check(number));
                if expected.is_ok() {
                    window.insert(number);
                    seen.insert(number);
                }
            }
        }
    }

    #[test]
    fn the_highest_number_is_one_like_others() {
        let mut window = ReceiveWindow::default();
        window.insert(u32::MAX);
        assert_eq!(Err(NoiseError::Replayed), window.check(u32::MAX));
        assert_eq!(Ok(()), window.check(u32::MAX - 1023));
        assert_eq!(Err(NoiseError::TooOld), window.check(u32::MAX - 1024));
    }
}
