//! What threads share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock. A poisoned one only means that a thread died; the value behind it is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
