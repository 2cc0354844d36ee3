//! INV-SPHINX-14 and INV-SPHINX-17: unwrapping allocates nothing, and building leaves no secret in memory that it gives back.
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, reason = "test code")]

#[path = "common/net.rs"]
#[allow(dead_code, reason = "each test uses its own part")]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use betanet_sphinx::{
    Draft, PACKET_LEN, PacketError, ReplayFilter, ReplayTag, build_forward_batch, build_surb, unwrap, unwrap_batch,
};
use common::{Net, mailbox, surb_id};
use rand_chacha::rand_core::Rng;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// What to look for in memory that is given back, and how often it was found.
    static SECRET: Cell<Option<[u8; 32]>> = const { Cell::new(None) };
    static FOUND: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator, for memory of zeros; the cells are thread-locals without destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(secret) = SECRET.get() {
            // SAFETY: the block is the caller's until the next line, and began as zeros.
            let block = unsafe { std::slice::from_raw_parts(ptr, layout.size()) };
            FOUND.set(FOUND.get() + usize::from(block.windows(secret.len()).any(|part| *part == secret)));
        }
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

/// INV-SPHINX-17
#[test]
fn building_a_batch_leaves_no_ephemeral_secret_in_memory_that_is_free() {
    let mut net = Net::new(3);
    let path = net.path(5);
    let drafts: Vec<Draft> = (0..16).map(|_| Draft::new(0, &path, mailbox(), b"payload")).collect();
    let mut packets = vec![[0; PACKET_LEN]; drafts.len()];
    // The first that is drawn is the exponent of the first packet's α, as X25519 clamps it.
    let mut secret = [0; 32];
    net.rng.clone().fill_bytes(&mut secret);
    secret[0] &= 0xf8;
    secret[31] = (secret[31] & 0x7f) | 0x40;
    let looked_for = |work: &mut dyn FnMut()| {
        FOUND.set(0);
        SECRET.set(Some(secret));
        work();
        SECRET.set(None);
        FOUND.get()
    };
    assert_eq!(1, looked_for(&mut || drop(vec![secret])), "what is not wiped is found");
    let built = &mut Vec::new();
    assert_eq!(0, looked_for(&mut || *built = build_forward_batch(&mut net.rng, &drafts, &mut packets)));
    assert_eq!(16, built.iter().filter(|outcome| outcome.is_ok()).count());
}
