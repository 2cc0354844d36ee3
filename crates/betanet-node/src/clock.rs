//! The one place that asks the operating system for time and randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use getrandom::SysRng;
use rand_core::UnwrapErr;

/// Milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The operating system's randomness.
///
/// It panics if the operating system has none, which Linux rules out once it has booted.
#[must_use]
pub const fn os_rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// The identity of this boot of the machine: what was written to files before a restart of a
/// process in the same boot is still there, synced or not.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
