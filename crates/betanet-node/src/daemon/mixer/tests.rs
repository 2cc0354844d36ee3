#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_mix::epoch::Epoch;
use betanet_sphinx::ReplayTag;

use super::*;
use crate::metrics::Level;
use crate::state::StateDir;

const CONFIG: MixerConfig = MixerConfig { workers: 1, batch: 1, pool: 3, depth: 5, client_rate: 1 };

fn processed(source: &Source) -> Processed {
    let now = Instant::now();
    Processed {
        release_at: now,
        received: now,
        outcome: Released::Forward { next: NodeId::from([2; 32]), packet: Buffer::blank() },
        _held: source.party.hold(),
    }
}

#[test]
fn packets_that_find_no_room_are_counted_and_those_that_wait_are_shown() {
    let metrics = Arc::new(Metrics::new(true));
    let mixer = Mixer::new(CONFIG, Arc::default(), &metrics);
    let levels = || {
        mixer.ingress().update_levels();
        [&metrics.ingress_depth, &metrics.pool_taken, &metrics.pool_free].map(Level::get)
    };
    assert_eq!(([0, 0, 0], 5), (levels(), metrics.queue_capacity.get()));
    mixer.ingress().own().push([&[0; PACKET_LEN]; 7], Instant::now());
    // Each that had to go left its buffer to the next; the last one's is free.
    assert_eq!((2, [5, 5, 1]), (metrics.dropped("ingress_full"), levels()));

    let line = DelayLine::new(CONFIG.depth, Arc::default(), Arc::clone(&metrics));
    let source = mixer.ingress().own();
    line.take((0..9).map(|_| processed(&source)));
    assert_eq!(4, metrics.dropped("delay_queue_full"));
    let mut due = Vec::new();
    line.collect(&mut due);
    assert_eq!((5, 0), (due.len(), metrics.delay_depth.get()));
}

#[test]
fn packets_whose_tags_cannot_be_logged_are_given_up_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    let packet_keys = Arc::new(PacketKeys::open(&state, "boot", Epoch(7), 9).unwrap());
    let delays = Arc::new(Mutex::new(Delays::open(&state).unwrap()));
    let metrics = Arc::new(Metrics::new(true));
    let source = Mixer::new(CONFIG, Arc::default(), &metrics).ingress().own();
    let line = Arc::new(DelayLine::new(CONFIG.depth, Arc::default(), Arc::clone(&metrics)));
    packet_keys.fill_disk();
    packet_keys.check_and_insert(Epoch(7), &ReplayTag::from([1; 16])).unwrap();
    let mut unwrapper = Unwrapper::new(1, packet_keys, delays, line, Arc::clone(&metrics));
    unwrapper.done.push(processed(&source));
    unwrapper.log();
    assert!(unwrapper.done.is_empty());
    assert_eq!((1, 0), (metrics.dropped("replay_log_failed"), metrics.processed.get()));
}
