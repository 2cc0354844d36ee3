//! Randomness for one call, seeded by the operating system: nothing that a forked child could repeat.

use getrandom::SysRng;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// A generator with a fresh seed.
///
/// # Errors
/// If the operating system gives no randomness.
pub(crate) fn fresh() -> Result<ChaCha20Rng, getrandom::Error> {
    ChaCha20Rng::try_from_rng(&mut SysRng)
}
