//! Mixing delays: where a packet's delay comes from, and the queue that holds packets until it has passed.
//!
//! Times are [`Duration`]s since an origin that the driver chooses; the owed delay counts from the socket read.

mod quantile;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use betanet_sphinx::DelayInput;
use hmac::{Hmac, Mac};
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

pub use quantile::quantile;

use crate::vrf::Output;

/// How many means a delay lasts at most.
pub const CAP_IN_MEANS: u32 = 10;

/// Decides how long a packet waits at this node.
pub trait DelaySource {
    /// The delay owed to the packet whose delay input is `input`.
    fn delay(&mut self, input: &DelayInput) -> Duration;
}

/// Exponential delays from a random generator, capped at [`CAP_IN_MEANS`] means. The delay input plays no part.
#[derive(Debug)]
pub struct Exponential<R> {
    mean: Duration,
    rng: R,
}

impl<R: CryptoRng> Exponential<R> {
    /// Delays with the given mean, drawn from `rng`.
    pub fn new(mean: Duration, rng: R) -> Self {
        Self { mean, rng }
    }
}

impl<R: CryptoRng> DelaySource for Exponential<R> {
    fn delay(&mut self, _input: &DelayInput) -> Duration {
        quantile(self.mean, self.rng.next_u64())
    }
}

/// Exponential delays as a function of a key and the packet's delay input (AES-256 of the input), capped at [`CAP_IN_MEANS`] means.
///
/// Two parties with the same key compute the same delay, and threads need no shared generator.
#[derive(Clone)]
pub struct Keyed {
    mean: Duration,
    cipher: Aes256,
}

impl Keyed {
    /// Delays with the given mean under `key`.
    #[must_use]
    pub fn new(mean: Duration, key: &Zeroizing<[u8; 32]>) -> Self {
        Self { mean, cipher: Aes256::new((&**key).into()) }
    }
}

impl DelaySource for Keyed {
    fn delay(&mut self, input: &DelayInput) -> Duration {
        let mut block = (*input.as_bytes()).into();
        self.cipher.encrypt_block(&mut block);
        let block: [u8; 16] = block.into();
        quantile(self.mean, head(&block))
    }
}

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyed").field("mean", &self.mean).finish_non_exhaustive()
    }
}

/// Exponential delays that the node cannot choose: a function of its VRF output for the key epoch and of the packet's delay input.
///
/// ```text
/// delay = quantile(mean, first 8 bytes of HMAC-SHA256(β, "betanet delay v1" ‖ d))
/// ```
///
/// Once β is published, whoever knows a packet's delay input computes what the packet was owed, to the nanosecond.
#[derive(Clone)]
pub struct VrfDelays {
    mean: Duration,
    prf: Hmac<Sha256>,
}

impl VrfDelays {
    /// Delays with the given mean under a VRF output.
    #[must_use]
    pub fn new(mean: Duration, beta: &Output) -> Self {
        // β is as long as a block of SHA-256, so it is the HMAC key as it stands.
        Self { mean, prf: Hmac::new(beta.as_bytes().into()).chain_update(DELAY_LABEL) }
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> Duration {
        self.mean
    }

    /// The delay owed to the packet whose delay input is `input`.
    #[must_use]
    pub fn owed(&self, input: &DelayInput) -> Duration {
        let tag: [u8; 32] = self.prf.clone().chain_update(input.as_bytes()).finalize().into_bytes().into();
        quantile(self.mean, head(&tag))
    }
}

const DELAY_LABEL: &[u8; 16] = b"betanet delay v1";

impl DelaySource for VrfDelays {
    fn delay(&mut self, input: &DelayInput) -> Duration {
        self.owed(input)
    }
}

impl std::fmt::Debug for VrfDelays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VrfDelays").field("mean", &self.mean).finish_non_exhaustive()
    }
}

/// The first eight bytes as a number.
fn head(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
}

/// Items that wait for their release time. Holds at most `depth` of them.
#[derive(Debug)]
pub struct DelayQueue<T> {
    heap: BinaryHeap<Reverse<Waiting<T>>>,
    depth: usize,
    pushed: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    release_at: Duration,
    order: u64,
    item: T,
}

impl<T> DelayQueue<T> {
    /// A queue for at most `depth` items.
    #[must_use]
    pub fn new(depth: usize) -> Self {
        Self { heap: BinaryHeap::new(), depth, pushed: 0 }
    }

    /// Adds an item that is due at `release_at`.
    ///
    /// # Errors
    /// Hands the item back when the queue is full.
    pub fn push(&mut self, release_at: Duration, item: T) -> Result<(), T> {
        if self.heap.len() >= self.depth {
            return Err(item);
        }
        self.pushed = self.pushed.wrapping_add(1);
        self.heap.push(Reverse(Waiting { release_at, order: self.pushed, item }));
        Ok(())
    }

    /// The earliest item whose time has come, if there is one. Items due at the same time leave in the order they came.
    pub fn pop_due(&mut self, now: Duration) -> Option<T> {
        if self.next_release()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(waiting)| waiting.item)
    }

    /// When the next item is due.
    #[must_use]
    pub fn next_release(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(waiting)| waiting.release_at)
    }

    /// Items that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.release_at, self.order) == (other.release_at, other.order)
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.release_at, self.order).cmp(&(other.release_at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    const MEAN: Duration = Duration::from_millis(15);

    fn beta(byte: u8) -> Output {
        Output::from([byte; 64])
    }

    /// Kolmogorov–Smirnov distance to the exponential law, for samples below the cap.
    fn distance(mut samples: Vec<f64>) -> f64 {
        samples.sort_by(f64::total_cmp);
        let count = f64::from(u32::try_from(samples.len()).unwrap());
        let mut worst: f64 = 0.0;
        for (index, sample) in (0_u32..).zip(&samples) {
            let law = 1.0 - (-sample / MEAN.as_secs_f64()).exp();
            worst = worst.max((law - f64::from(index) / count).abs()).max((law - f64::from(index + 1) / count).abs());
        }
        worst
    }

    /// INV-DELAY-06
    #[test]
    fn every_source_is_exponential_with_the_given_mean() {
        let mut rng = Exponential::new(MEAN, ChaCha20Rng::seed_from_u64(7));
        let mut keyed = Keyed::new(MEAN, &Zeroizing::new([5; 32]));
        let mut vrf = VrfDelays::new(MEAN, &beta(5));
        let input = |n: u32| DelayInput::from(u128::from(n).to_be_bytes());
        // 1.95 / √n is the distance that one honest sample in a thousand exceeds; the seeds are fixed.
        let bound = 1.95 / 20_000_f64.sqrt();
        assert!(distance((0..20_000).map(|n| rng.delay(&input(n)).as_secs_f64()).collect()) < bound);
        assert!(distance((0..20_000).map(|n| keyed.delay(&input(n)).as_secs_f64()).collect()) < bound);
        assert!(distance((0..20_000).map(|n| vrf.delay(&input(n)).as_secs_f64()).collect()) < bound);
    }

    /// INV-DELAY-07: the number is from Python's hmac and `crates/vectors/delay_quantile.py`.
    #[test]
    fn a_delay_is_recomputed_from_beta_and_the_delay_input() {
        let delays = VrfDelays::new(MEAN, &beta(1));
        assert_eq!(delays.owed(&DelayInput::from([9; 16])), Duration::from_nanos(5_314_022));
        assert_eq!(
            delays.owed(&DelayInput::from([9; 16])),
            VrfDelays::new(MEAN, &beta(1)).owed(&DelayInput::from([9; 16]))
        );
        assert_ne!(delays.owed(&DelayInput::from([8; 16])), delays.owed(&DelayInput::from([9; 16])));
        assert_ne!(
            delays.owed(&DelayInput::from([9; 16])),
            VrfDelays::new(MEAN, &beta(2)).owed(&DelayInput::from([9; 16]))
        );
        assert!(!format!("{delays:?}").contains("prf"));
    }

    #[test]
    fn keyed_delays_depend_on_key_and_input_alone() {
        let mut one = Keyed::new(MEAN, &Zeroizing::new([1; 32]));
        let mut same = Keyed::new(MEAN, &Zeroizing::new([1; 32]));
        let mut other = Keyed::new(MEAN, &Zeroizing::new([2; 32]));
        let input = DelayInput::from([9; 16]);
        assert_eq!(one.delay(&input), same.delay(&input));
        assert_ne!(one.delay(&input), other.delay(&input));
        assert_ne!(one.delay(&input), one.delay(&DelayInput::from([8; 16])));
        assert!(!format!("{one:?}").contains("key"));
    }

    #[test]
    fn items_leave_in_order_of_release_and_never_early() {
        let mut queue = DelayQueue::new(8);
        for (at, item) in [(30, 'c'), (10, 'a'), (20, 'b'), (10, 'A')] {
            queue.push(Duration::from_millis(at), item).unwrap();
        }
        assert_eq!(queue.next_release(), Some(Duration::from_millis(10)));
        assert_eq!(queue.pop_due(Duration::from_millis(9)), None);
        assert_eq!(queue.pop_due(Duration::from_millis(10)), Some('a'));
        assert_eq!(queue.pop_due(Duration::from_millis(25)), Some('A'));
        assert_eq!(queue.pop_due(Duration::from_millis(25)), Some('b'));
        assert_eq!(queue.pop_due(Duration::from_millis(25)), None);
        assert_eq!((queue.len(), queue.is_empty()), (1, false));
    }

    #[test]
    fn a_full_queue_hands_the_item_back() {
        let mut queue = DelayQueue::new(1);
        queue.push(Duration::ZERO, 1).unwrap();
        assert_eq!(queue.push(Duration::ZERO, 2), Err(2));
        assert_eq!(queue.pop_due(Duration::ZERO), Some(1));
        assert_eq!(queue.push(Duration::ZERO, 3), Ok(()));
    }
}
