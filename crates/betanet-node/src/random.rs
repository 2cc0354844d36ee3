//! The one place that asks the operating system for randomness.

use getrandom::SysRng;
use rand_core::UnwrapErr;

/// The operating system's randomness.
///
/// It panics if the operating system has none, which Linux rules out once it has booted.
#[must_use]
pub(crate) const fn os_rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}
