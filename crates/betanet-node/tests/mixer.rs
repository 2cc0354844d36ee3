//! The packet path of a node: what goes in comes out once, not before its time, and costs no allocation.
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a failed unwrap fails the test"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use betanet_mix::delay::VrfDelays;
use betanet_mix::epoch::Epoch;
use betanet_mix::view::{Beacon, DelaySeed};
use betanet_mix::vrf::VrfSecretKey;
use betanet_node::daemon::delays::Delays;
use betanet_node::daemon::metrics::Metrics;
use betanet_node::daemon::mixer::{Ingress, Mixer, MixerConfig, Released, Source};
use betanet_node::daemon::packet_keys::PacketKeys;
use betanet_node::metrics::Exporter;
use betanet_node::state::StateDir;
use betanet_sphinx::suite::{Native, Suite};
use betanet_sphinx::x25519::x25519;
use betanet_sphinx::{
    Geometry, Hop, MailboxId, NodeId, PACKET_LEN, PacketError, ReplayFilter, ReplayTag, SecretKey, build_forward,
    unwrap,
};
use chacha20::cipher::StreamCipher;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tokio::sync::mpsc;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system allocator unchanged; the counter is an atomic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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

/// One test at a time: all allocations are counted together.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const NOW: Epoch = Epoch(100);
const MEAN_MS: u64 = 5;
const NEXT: [u8; 32] = [9; 32];
const ROUND: usize = 1000;

/// A packet for the node, and what must become of it.
struct Sent {
    packet: [u8; PACKET_LEN],
    unwrapped: [u8; PACKET_LEN],
    owed: Duration,
}

/// Lets everything pass.
struct Open;

impl ReplayFilter for Open {
    fn check_and_insert(&mut self, _: &ReplayTag) -> Result<(), PacketError> {
        Ok(())
    }
}

struct Node {
    _mixer: Mixer,
    packet_keys: Arc<PacketKeys>,
    metrics: Arc<Metrics>,
    ingress: Ingress,
    source: Source,
    released: mpsc::Receiver<(Instant, Released)>,
    secret: SecretKey,
    owed: VrfDelays,
    rng: ChaCha20Rng,
    _folder: tempfile::TempDir,
}

impl Node {
    fn start() -> Self {
        Self::start_for(100_000)
    }

    /// With room for so many entries in its replay memory.
    fn start_for(capacity: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let vrf_seed = state.secret("vrf.key").unwrap();
        let seed = DelaySeed { beacon: Beacon::genesis("test"), mean_ms: MEAN_MS };
        let seeds = serde_json::json!({ "seeds": { NOW.0.to_string(): seed } });
        std::fs::write(state.join("delays.json"), seeds.to_string()).unwrap();
        let packet_keys = PacketKeys::open(&state, "boot", NOW, capacity).unwrap();
        let delays = Delays::open(&state).unwrap();
        let (_, secret) = packet_keys.accept(NOW.parity()).unwrap();
        let (owed, _) = seed.delays(&VrfSecretKey::from_seed(&vrf_seed), NOW);
        let (packet_keys, delays) = (Arc::new(packet_keys), Arc::new(Mutex::new(delays)));
        let metrics = Arc::new(Metrics::new(true));
        let (out, released) = mpsc::channel(4 * ROUND);
        let config = MixerConfig { workers: 2, batch: 128, pool: 2 * ROUND, depth: 2 * ROUND, client_rate: 10_000 };
        let hand_on = move |what| out.try_send((Instant::now(), what)).unwrap();
        let mixer = Mixer::new(config, Arc::default(), &metrics);
        mixer.start(&packet_keys, &delays, hand_on).unwrap();
        let ingress = mixer.ingress().clone();
        let source = ingress.node(NodeId::from([3; 32]));
        Self {
            _mixer: mixer,
            packet_keys,
            metrics,
            ingress,
            source,
            released,
            secret,
            owed,
            rng: ChaCha20Rng::seed_from_u64(1),
            _folder: folder,
        }
    }

    fn own(&self) -> Hop {
        Hop { node: NodeId::from([1; 32]), key: self.secret.public() }
    }

    /// A packet that ends here.
    fn last(&mut self) -> [u8; PACKET_LEN] {
        let (mut packet, path) = ([0; PACKET_LEN], [self.own()]);
        build_forward(&mut self.rng, NOW.parity(), &path, MailboxId::from([2; 16]), b"payload", &mut packet).unwrap();
        packet
    }

    /// Sends a packet that is refused, and waits until that is counted.
    async fn refuses(&self, packet: &[u8; PACKET_LEN], reason: &str) {
        let before = self.metrics.dropped(reason);
        self.ingress.node(NodeId::from([4; 32])).push([packet], Instant::now());
        let counted = async {
            while self.metrics.dropped(reason) == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), counted).await.unwrap_or_else(|_| panic!("{reason}"));
        assert_eq!(before + 1, self.metrics.dropped(reason), "{reason}");
    }

    fn packets(&mut self) -> Vec<Sent> {
        let own = self.own();
        let next = Hop { node: NodeId::from(NEXT), key: SecretKey::generate(&mut self.rng).public() };
        (0..ROUND)
            .map(|_| {
                let mut packet = [0; PACKET_LEN];
                let mailbox = MailboxId::from([2; 16]);
                let inputs =
                    build_forward(&mut self.rng, NOW.parity(), &[own, next], mailbox, b"payload", &mut packet).unwrap();
                let mut unwrapped = packet;
                unwrap(&self.secret, &mut unwrapped, &mut Open).unwrap();
                Sent { packet, unwrapped, owed: self.owed.owed(inputs.first().unwrap()) }
            })
            .collect()
    }

    /// Sends packets and takes what comes out, `into` a list that has room for all of them.
    async fn pass(&mut self, packets: &[Sent], into: &mut Vec<(Instant, Released)>) -> Instant {
        let start = Instant::now();
        for sent in packets {
            self.source.push([&sent.packet], Instant::now());
        }
        while into.len() < packets.len() {
            let released = tokio::time::timeout(Duration::from_mins(1), self.released.recv()).await;
            into.push(released.unwrap().unwrap());
        }
        start
    }
}

#[tokio::test]
async fn packets_serve_their_delay_and_cost_no_allocation() {
    let _alone = ALONE.lock().await;
    let mut node = Node::start();
    let (first, second, third) = (node.packets(), node.packets(), node.packets());
    let mut out = Vec::with_capacity(ROUND);
    for warm_up in [&first, &second] {
        out.clear();
        node.pass(warm_up, &mut out).await;
    }
    out.clear();

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let start = node.pass(&third, &mut out).await;
    let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
    // A segment of the replay cache, a block of a channel: nothing that grows with the packets.
    assert!(allocated < ROUND / 20, "{allocated} allocations for {ROUND} packets");

    // Each comes out once, as it should be, and not before it has waited for what its sender knows.
    let mut expected: HashMap<_, _> = third.iter().map(|sent| (sent.unwrapped.as_slice(), sent.owed)).collect();
    for (at, released) in &out {
        let Released::Forward { next, packet } = released else { panic!("not forwarded") };
        assert_eq!(NodeId::from(NEXT), *next);
        assert!(*at >= start + expected.remove(&**packet).unwrap());
    }
    assert!(expected.is_empty());

    let packets = u64::try_from(3 * ROUND).unwrap();
    assert_eq!((packets, 0), (node.metrics.processed.get(), node.metrics.dropped("replay")));
    let page = Exporter::new(&node.metrics).render(Instant::now());
    for histogram in ["hop_delay", "hop_late", "unwrap"] {
        assert!(page.contains(&format!("betanet_{histogram}_seconds_count {packets}\n")), "{page}");
    }

    // All of it again is replays; a packet that is new comes through.
    for sent in &third {
        node.source.push([&sent.packet], Instant::now());
    }
    let fresh = node.packets();
    out.clear();
    node.pass(&fresh[..1], &mut out).await;
    tokio::time::sleep(Duration::from_millis(10 * MEAN_MS)).await;
    assert!(node.released.try_recv().is_err());
}

#[tokio::test]
async fn each_way_in_which_a_packet_is_wrong_moves_its_counter() {
    let _alone = ALONE.lock().await;
    let mut node = Node::start_for(2);
    let geometry = Geometry::NATIVE;
    let (good, other) = (node.last(), node.last());
    let alter = |at: usize, with: &[u8]| {
        let mut packet = good;
        packet[at..at + with.len()].copy_from_slice(with);
        packet
    };
    let alpha = geometry.alpha().start;
    for (at, with, reason) in [
        (0, [9].as_slice(), "unknown_version"),
        (1, &[2], "bad_parity"),
        (1, &[1 - NOW.parity()], "no_beacon"),
        (alpha, &[0xff; 32], "bad_alpha"),
        (alpha, &[0; 32], "weak_secret"),
        (geometry.gamma().start, &[0; 16], "bad_mac"),
    ] {
        node.refuses(&alter(at, with), reason).await;
    }
    node.refuses(&with_unknown_command(&node.secret, other), "bad_command").await;
    // The header is good, as that with the unknown command was, so its tag is remembered.
    let spoilt = alter(PACKET_LEN - 9, &[0; 9]);
    node.refuses(&spoilt, "bad_payload").await;
    node.refuses(&good, "replay").await;
    assert_eq!((2, 2), node.packet_keys.replay_load());
    let one_more = node.last();
    node.refuses(&one_more, "replay_cache_full").await;
    node.packet_keys.forget(None).erase();
    node.refuses(&good, "no_key").await;
}

/// The packet as if its maker had written a command that does not exist.
fn with_unknown_command(secret: &SecretKey, mut packet: [u8; PACKET_LEN]) -> [u8; PACKET_LEN] {
    let geometry = Geometry::NATIVE;
    let alpha: [u8; 32] = packet[geometry.alpha()].try_into().unwrap();
    let keys = Native::derive(&x25519(&secret.to_bytes(), &alpha));
    // What a stream adds, it takes off: the first byte of the block, another kind in its place, and the MAC over it.
    Native::stream(&keys).apply_keystream(&mut packet[geometry.beta()]);
    packet[geometry.beta().start] = 0x80;
    Native::stream(&keys).apply_keystream(&mut packet[geometry.beta()]);
    let (header, _) = packet.split_at_mut(geometry.header_len);
    let (before, beta) = header.split_at_mut(geometry.beta().start);
    Native::mac(&keys, &before[..2], &alpha, beta).write(&mut before[geometry.gamma()]);
    packet
}

/// INV-LINK-47
#[tokio::test]
async fn a_flood_of_garbage_takes_no_place_from_others() {
    let _alone = ALONE.lock().await;
    let mut node = Node::start();
    let packets = node.packets();
    let flood = node.ingress.client([192, 0, 2, 1].into(), [1; 32]).unwrap();
    let mut out = Vec::with_capacity(ROUND);
    for few in packets.chunks(ROUND / 20) {
        // More than there is room for, before each few of another client's.
        for _ in 0..3 {
            flood.push([&[7; PACKET_LEN]; ROUND], Instant::now());
        }
        let honest = node.ingress.client([192, 0, 2, 2].into(), [2; 32]).unwrap();
        honest.push(few.iter().map(|sent| &sent.packet), Instant::now());
        let wanted = out.len() + few.len();
        while out.len() < wanted {
            let released = tokio::time::timeout(Duration::from_mins(1), node.released.recv()).await;
            out.push(released.unwrap().unwrap());
        }
    }
    // It has been shut out meanwhile, and nobody else has.
    flood.shut_out().await;
    assert!(node.ingress.client([192, 0, 2, 1].into(), [1; 32]).is_none());
    assert!(node.ingress.client([192, 0, 2, 2].into(), [1; 32]).is_some());
}
