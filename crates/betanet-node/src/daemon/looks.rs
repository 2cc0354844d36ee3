//! When the one thread that serves a node's sockets looks at them.
//!
//! [`Looks::rest`] is called whenever that thread has nothing more to do. Where packets come densely it sleeps there for
//! a moment, and what comes meanwhile is found at one look (ADR 16). The delay line is then served at each look: it needs
//! no timer of its own, and nobody has to wake the thread for it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use betanet_mix::coalesce::Coalescer;
use tokio::sync::Notify;

use crate::sync::lock;

/// The looks of one thread. Where nobody calls [`Looks::rest`], as with several threads, packets are waited for one by one.
#[derive(Debug)]
pub struct Looks {
    /// Packets that were read or released since the last look.
    packets: AtomicUsize,
    /// Whether the thread looks again within moments whatever comes.
    dense: AtomicBool,
    looked: Notify,
    coalescer: Mutex<Coalescer>,
    zero: Instant,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            packets: AtomicUsize::new(0),
            dense: AtomicBool::new(false),
            looked: Notify::new(),
            coalescer: Mutex::default(),
            zero: Instant::now(),
        }
    }
}

impl Looks {
    /// Takes note of packets that were read or released.
    pub(super) fn note(&self, packets: usize) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
    }

    /// Rests, if packets come densely. For the thread that serves the sockets, before it waits for them.
    pub fn rest(&self) {
        let packets = self.packets.swap(0, Ordering::Relaxed);
        let rest = lock(&self.coalescer).rest(self.zero.elapsed(), packets);
        let was_dense = self.dense.swap(rest.is_some(), Ordering::SeqCst);
        if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
            thread::sleep(rest);
        }
        if was_dense || rest.is_some() {
            // Once more when it ends: whoever relied on the looks has to find another way.
            self.looked.notify_waiters();
        }
    }

    /// Whether [`Looks::next`] resolves within moments.
    pub(super) fn are_dense(&self) -> bool {
        self.dense.load(Ordering::SeqCst)
    }

    /// Resolves at the next look, if looks are dense, and when they begin or end to be.
    pub(super) async fn next(&self) {
        self.looked.notified().await;
    }
}
