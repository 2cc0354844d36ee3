#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_sphinx::{Hop, MailboxId, NodeId, PACKET_LEN, build_forward};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

use super::*;

const LONG: Duration = Duration::from_mins(1);

fn pipeline(workers: usize, depth: usize) -> (ChaCha20Rng, SecretKey, PacketPipeline) {
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let secret = SecretKey::generate(&mut rng);
    let replay = ReplayCache::volatile(&mut rng, 100_000);
    let delays = Keyed::new(Duration::from_millis(15), &Zeroizing::new([3; 32]));
    let pipeline = PacketPipeline::new(workers, depth, &secret, replay, &delays).unwrap();
    (rng, secret, pipeline)
}

fn packet(rng: &mut ChaCha20Rng, secret: &SecretKey, number: u32) -> Vec<u8> {
    let path = [Hop { node: NodeId::from([1; 32]), key: secret.public() }];
    let mut out = [0; PACKET_LEN];
    build_forward(rng, 0, &path, MailboxId::from([2; 16]), &number.to_be_bytes(), &mut out).unwrap();
    out.to_vec()
}

fn number(outcome: &ProcessResult) -> u32 {
    let processed = outcome.as_ref().unwrap();
    let Action::Deliver { payload, .. } = &processed.action else { panic!("{processed:?}") };
    u32::from_be_bytes(processed.packet[payload.clone()].try_into().unwrap())
}

fn error(outcome: &ProcessResult) -> Option<PacketError> {
    outcome.as_ref().err().copied()
}

#[test]
fn a_batch_comes_back_in_order_with_a_reason_for_each_rejection() {
    let (mut rng, secret, pipeline) = pipeline(3, 10);
    let mut packets: Vec<_> = (0..300).map(|n| packet(&mut rng, &secret, n)).collect();
    packets[7] = vec![0; 10];
    packets[8] = vec![0; 10_000_000];
    packets[9][0] = 0xee;
    packets[10][1] = 2;
    let last = packets[299].len() - 1;
    packets[299][last] ^= 1;
    let outcomes = pipeline.process_batch(packets, || true).unwrap();
    assert_eq!(outcomes.len(), 300);
    for (index, outcome) in (0..).zip(&outcomes) {
        match index {
            7 | 8 => assert_eq!(error(outcome), Some(PacketError::WrongLength)),
            9 => assert_eq!(error(outcome), Some(PacketError::UnknownVersion)),
            10 => assert_eq!(error(outcome), Some(PacketError::BadParity)),
            299 => assert_eq!(error(outcome), Some(PacketError::BadPayload)),
            _ => assert_eq!(number(outcome), index),
        }
    }
    let stats = pipeline.stats();
    assert_eq!((stats.processed, stats.dropped, stats.replay_entries), (300, 5, 296));
    assert_eq!(stats.dropped_by_reason["wrong_length"], 2);
    assert!(pipeline.process_batch(Vec::new(), || true).unwrap().is_empty());
}

#[test]
fn of_identical_packets_one_is_accepted() {
    let (mut rng, secret, pipeline) = pipeline(4, 10);
    let one = packet(&mut rng, &secret, 5);
    let outcomes = pipeline.process_batch(vec![one; 64], || true).unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| error(outcome) == Some(PacketError::Replay)).count(), 63);
}

#[test]
fn a_flood_is_refused_at_the_door_and_nothing_taken_is_lost() {
    let (mut rng, secret, pipeline) = pipeline(2, 50);
    let mut refused = 0;
    for n in 0..200 {
        match pipeline.submit(packet(&mut rng, &secret, n)) {
            Ok(()) => {}
            Err(PipelineError::Full) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    // Results were not taken, so exactly the depth was admitted.
    assert_eq!((refused, pipeline.stats().refused), (150, 150));
    let mut seen = Vec::new();
    while seen.len() < 50 {
        let batch = pipeline.recv_batch(7, LONG);
        assert!(!batch.is_empty() && batch.len() <= 7);
        seen.extend(batch.iter().map(number));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    assert!(pipeline.recv_batch(1, LONG).is_empty(), "an empty stream has nothing to wait for");
    assert!(pipeline.submit(packet(&mut rng, &secret, 1)).is_ok());
}

#[test]
fn a_full_stream_does_not_block_batches() {
    let (mut rng, secret, pipeline) = pipeline(1, 4);
    for n in 0..4 {
        pipeline.submit(packet(&mut rng, &secret, n)).unwrap();
    }
    let batch: Vec<_> = (10..20).map(|n| packet(&mut rng, &secret, n)).collect();
    assert_eq!(pipeline.process_batch(batch, || true).unwrap().len(), 10);
    assert_eq!(pipeline.recv_batch(10, LONG).len(), 4);
}

#[test]
fn a_caller_who_wants_no_more_is_let_go_before_the_end() {
    let (_, _, pipeline) = pipeline(2, 4);
    let mut asked = 0;
    // Never all at once in the queue, so it does not matter how fast they are refused.
    let endless = vec![vec![0; 10]; 3_000_000];
    let stopped = pipeline.process_batch(endless, || {
        asked += 1;
        asked < 2
    });
    assert_eq!(stopped.unwrap_err(), PipelineError::Stopped);
    assert!(pipeline.stats().processed < 3_000_000);
    assert_eq!(pipeline.process_batch(vec![vec![]], || true).unwrap().len(), 1);
}

#[test]
fn a_close_ends_a_batch_that_is_being_unwrapped() {
    let (_, _, pipeline) = pipeline(1, 4);
    let ended = std::thread::scope(|scope| {
        let batch = scope.spawn(|| pipeline.process_batch(vec![vec![0; 10]; 3_000_000], || true));
        while pipeline.stats().processed == 0 {
            std::thread::yield_now();
        }
        pipeline.close();
        batch.join().unwrap()
    });
    assert_eq!(ended.unwrap_err(), PipelineError::Closed);
}

#[test]
fn use_after_close_is_a_clear_error() {
    let (mut rng, secret, pipeline) = pipeline(2, 10);
    pipeline.submit(packet(&mut rng, &secret, 1)).unwrap();
    pipeline.close();
    pipeline.close();
    assert_eq!(pipeline.submit(vec![]), Err(PipelineError::Closed));
    assert_eq!(pipeline.process_batch(vec![vec![]], || true).unwrap_err(), PipelineError::Closed);
    assert!(pipeline.recv_batch(5, LONG).is_empty());
}

#[test]
fn sizes_without_sense_are_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let delays = Keyed::new(Duration::ZERO, &Zeroizing::new([3; 32]));
    for (workers, depth) in [(0, 1), (1, 0), (257, 1)] {
        let cache = ReplayCache::volatile(&mut rng, 1);
        let secret = SecretKey::from_bytes([1; 32]);
        let refused = PacketPipeline::new(workers, depth, &secret, cache, &delays);
        assert_eq!(refused.unwrap_err(), PipelineError::BadSize);
    }
}
