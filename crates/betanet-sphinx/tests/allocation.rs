//! INV-SPHINX-14: unwrapping allocates nothing.
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, reason = "test code")]

#[path = "common/net.rs"]
#[allow(dead_code, reason = "each test uses its own part")]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use betanet_sphinx::{PACKET_LEN, PacketError, ReplayFilter, ReplayTag, build_surb, unwrap, unwrap_batch};
use common::{Net, mailbox, surb_id};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged; the counter is a thread-local without destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Lets everything pass and stores nothing, so that what is counted is the crate's own doing.
struct Open;

impl ReplayFilter for Open {
    fn check_and_insert(&mut self, _: &ReplayTag) -> Result<(), PacketError> {
        Ok(())
    }
}

#[test]
fn unwrapping_allocates_nothing() {
    let mut net = Net::new(1);
    let (mut forward, _) = net.forward(7, b"payload");
    let path = net.path(7);
    let (surb, _) = build_surb(&mut net.rng, 0, &path, mailbox(), surb_id()).unwrap();
    let mut reply = [0; PACKET_LEN];
    surb.reply(b"payload", &mut reply).unwrap();
    let mut altered = forward;
    altered[40] ^= 1;
    // Whatever is set up once, such as the choice of the multiplication, is set up before counting.
    let mut first = forward;
    unwrap(&net.nodes[0].secret, &mut first, &mut Open).unwrap();

    let before = ALLOCATIONS.get();
    assert!(before > 0, "the allocator counts");
    let refused = unwrap(&net.nodes[0].secret, &mut altered, &mut Open);
    let mut taken = 0;
    for node in &net.nodes {
        taken += usize::from(unwrap(&node.secret, &mut forward, &mut Open).is_ok());
        taken += usize::from(unwrap(&node.secret, &mut reply, &mut Open).is_ok());
    }
    let allocated = ALLOCATIONS.get() - before;
    assert_eq!(Err(PacketError::BadMac), refused);
    assert_eq!(14, taken);
    assert_eq!(0, allocated);
}

#[test]
fn unwrapping_a_batch_allocates_nothing() {
    let mut net = Net::new(2);
    let batch: Vec<_> = (0..100).map(|number| net.forward(1 + number % 7, b"payload").0).collect();
    let mut outcomes = Vec::new();
    // Sizes the outcomes and chooses the multiplication.
    unwrap_batch(&net.nodes[0].secret, &mut batch.clone(), &mut Open, &mut outcomes);
    let mut copy = batch.clone();
    copy[50][40] ^= 1;

    let before = ALLOCATIONS.get();
    unwrap_batch(&net.nodes[0].secret, &mut copy, &mut Open, &mut outcomes);
    let allocated = ALLOCATIONS.get() - before;
    assert_eq!(99, outcomes.iter().filter(|outcome| outcome.is_ok()).count());
    assert_eq!(Err(PacketError::BadMac), outcomes[50]);
    assert_eq!(0, allocated);
}
