//! What is measured does what it says.
#![allow(clippy::unwrap_used, reason = "test code")]

use betanet_bench::bulk::Tags;
use betanet_bench::{BATCH, Resized, ours, peer};
use betanet_sphinx::suite::hctr2::Hctr2;
use betanet_sphinx::{Geometry, MailboxId, Maker, Native, Suite};

fn every_packet_passes_again_and_again<S: Maker>()
where
    S::Recipient: From<MailboxId>,
{
    let mut mine = ours::Unwrap::<S>::new().unwrap();
    let theirs = peer::Unwrap::new(S::GEOMETRY.user_payload_len).unwrap();
    for _ in 0..2 {
        assert_eq!([BATCH; 3], [mine.run(), mine.run_one_by_one(), theirs.run()]);
    }
    assert_eq!(BATCH, ours::Create::<S>::new().run().unwrap());
    assert_eq!(BATCH, peer::Create::new(S::GEOMETRY.user_payload_len).run().unwrap());
}

#[test]
fn every_packet_of_both_sizes_passes() {
    every_packet_passes_again_and_again::<Native>();
    every_packet_passes_again_and_again::<Resized<Native, 1024>>();
}

#[test]
fn the_peer_decrypts_payloads_of_our_length() {
    assert!(peer::lioness(&[9; 192], &[7; Geometry::NATIVE.delta_len]));
    let mut delta = [7; Geometry::NATIVE.delta_len];
    Hctr2::new(&[9; 32]).decrypt(&[], &mut delta);
    assert_ne!([7; Geometry::NATIVE.delta_len], delta);
}

#[test]
fn a_resized_suite_differs_in_its_payload_alone() {
    type Small = Resized<Native, 1024>;
    assert_eq!(Native::GEOMETRY.header_len, Small::GEOMETRY.header_len);
    assert_eq!(Native::GEOMETRY.packet_len - 1024, Small::GEOMETRY.packet_len);
}

#[test]
fn a_growing_replay_memory_is_measured_although_it_takes_some_new_tags_for_old_ones() {
    let bits = Tags::bits().unwrap();
    assert!(bits > 32.0, "{bits} bits a tag are fewer than are kept of one");
}
