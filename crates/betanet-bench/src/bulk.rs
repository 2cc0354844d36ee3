//! Packets in bulk: the pipeline's workers, and the replay cache.
#![allow(clippy::disallowed_methods, reason = "workers run in real time, which is what is measured")]

use std::time::{Duration, Instant};

use betanet_mix::delay::Keyed;
use betanet_mix::replay::ReplayCache;
use betanet_node::pipeline::PacketPipeline;
use betanet_sphinx::{
    Draft, Hop, MailboxId, NodeId, PACKET_LEN, PacketError, ReplayFilter, ReplayTag, SecretKey, USER_PAYLOAD_LEN,
    build_forward_batch,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Failure;
use crate::window::process_time;

/// Packets of a batch: a few milliseconds of work, so that some turn meets idle processors on a machine that is shared.
pub const PACKETS: usize = 1024;

/// One batch for one key, again and again.
pub struct Bulk {
    rng: ChaCha20Rng,
    secret: SecretKey,
    packets: Vec<Vec<u8>>,
}

/// How long a batch took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// On the wall.
    pub wall: Duration,
    /// On all processors.
    pub processor: Duration,
}

impl Took {
    /// Packets per second of real time.
    #[must_use]
    pub fn rate(&self) -> f64 {
        batch() / self.wall.as_secs_f64()
    }

    /// Microseconds of processor time for a packet.
    #[must_use]
    pub fn microseconds(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / batch()
    }
}

impl Bulk {
    /// Native packets full of payload, on the way to a next hop.
    ///
    /// # Errors
    /// The packets could not be built.
    pub fn new() -> Result<Self, Failure> {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let secret = SecretKey::generate(&mut rng);
        let keys = [secret.public(), SecretKey::generate(&mut rng).public()];
        let path = keys.map(|key| Hop { node: NodeId::from([7; NodeId::LEN]), key });
        let payload = vec![13; USER_PAYLOAD_LEN];
        let draft = Draft::new(0, &path, MailboxId::from([3; MailboxId::LEN]), &payload);
        let mut packets = vec![vec![0; PACKET_LEN]; PACKETS];
        for outcome in build_forward_batch(&mut rng, &vec![draft; PACKETS], &mut packets) {
            outcome?;
        }
        Ok(Self { rng, secret, packets })
    }

    /// Unwraps the batch on so many workers, with an empty replay cache.
    ///
    /// # Errors
    /// A packet was refused, or there are no threads.
    pub fn run(&mut self, workers: usize) -> Result<Took, Failure> {
        let replay = ReplayCache::volatile(&mut self.rng, PACKETS);
        let delays = Keyed::new(Duration::from_millis(15), &[5; 32].into());
        let pipeline = PacketPipeline::new(workers, 1, &self.secret, replay, &delays)?;
        let packets = self.packets.clone();
        let (start, busy) = (Instant::now(), process_time());
        let outcomes = pipeline.process_batch(packets, || true)?;
        let took = Took { wall: start.elapsed(), processor: process_time().saturating_sub(busy) };
        // One new packet in some millions is taken for an old one.
        let is_sound = |outcome: &Result<_, PacketError>| matches!(outcome, Ok(_) | Err(PacketError::Replay));
        if outcomes.iter().all(is_sound) { Ok(took) } else { Err("packets were refused".into()) }
    }
}

/// A replay cache that grows.
pub struct Tags {
    rng: ChaCha20Rng,
    cache: ReplayCache,
}

impl Tags {
    const CAPACITY: usize = 1 << 22;
    /// Tags that one run inserts.
    pub const INSERTS: usize = 1024;

    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let cache = ReplayCache::volatile(&mut rng, Self::CAPACITY);
        Self { rng, cache }
    }

    /// Bits of memory for each tag, at the worst moment of a cache that grows from a quarter of what it may hold to the
    /// whole.
    ///
    /// # Errors
    /// A tag found no room.
    pub fn bits() -> Result<f64, Failure> {
        let mut tags = Self::new();
        let mut worst: f64 = 0.0;
        while tags.cache.len() + Self::INSERTS <= Self::CAPACITY {
            tags.run()?;
            if tags.cache.len() >= Self::CAPACITY / 4 {
                let [memory, len] = [tags.cache.memory_bytes(), tags.cache.len()].map(float);
                worst = worst.max(8.0 * memory / len);
            }
        }
        Ok(worst)
    }

    /// Inserts new tags, a full cache making way for an empty one, and says how many.
    ///
    /// # Errors
    /// A tag found no room.
    pub fn run(&mut self) -> Result<usize, Failure> {
        if self.cache.len() + Self::INSERTS > Self::CAPACITY {
            self.cache = ReplayCache::volatile(&mut self.rng, Self::CAPACITY);
        }
        for _ in 0..Self::INSERTS {
            let mut tag = [0; 16];
            self.rng.fill_bytes(&mut tag);
            // A new tag is taken for an old one now and then; it was looked up all the same.
            match self.cache.check_and_insert(&ReplayTag::from(tag)) {
                Ok(()) | Err(PacketError::Replay) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok(Self::INSERTS)
    }
}

impl Default for Tags {
    fn default() -> Self {
        Self::new()
    }
}

fn batch() -> f64 {
    float(PACKETS)
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
