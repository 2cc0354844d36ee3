//! Prints what other ways of remembering replay tags cost beside the one in use, for ADR 15.
//!
//! Each holds up to so many tags, given as the argument, and grows to that from nothing, at one false drop in a million
//! at most. `bits` is the memory for each tag, at its least and at its most in the last three quarters of the way.
#![allow(clippy::indexing_slicing, clippy::as_conversions, reason = "a measurement, on numbers of its own making")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are rounded anyway"
)]

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use betanet_bench::Failure;
use betanet_mix::replay::ReplayCache;
use betanet_sphinx::{PacketError, ReplayFilter, ReplayTag};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rustix::time::{ClockId, clock_gettime};

/// A way to remember entries.
trait Candidate {
    /// Adds an entry; `false` if it seems to be there already.
    fn insert(&mut self, entry: u64) -> bool;
    /// Whether an entry seems to be there.
    fn contains(&mut self, entry: u64) -> bool;
    /// Memory in bits.
    fn bits(&self) -> usize;
}

/// The one in use; pays for its cipher too.
struct Ours(ReplayCache);

fn tag(entry: u64) -> ReplayTag {
    ReplayTag::from(u128::from(entry).to_be_bytes())
}

impl Candidate for Ours {
    fn insert(&mut self, entry: u64) -> bool {
        self.0.check_and_insert(&tag(entry)).is_ok()
    }

    /// Asked when it is full only: it refuses what is new and what is old for different reasons.
    fn contains(&mut self, entry: u64) -> bool {
        self.0.check_and_insert(&tag(entry)) == Err(PacketError::Replay)
    }

    fn bits(&self) -> usize {
        self.0.memory_bytes() * 8
    }
}

/// A filter that cannot grow: others of it, each twice as large as the one before, take over.
trait Fixed {
    fn with_room(tags: usize) -> Self;
    fn add(&mut self, entry: u64) -> bool;
    fn has(&self, entry: u64) -> bool;
    fn bits(&self) -> usize;
}

struct Chain<F>(Vec<(F, usize, usize)>);

impl<F: Fixed> Candidate for Chain<F> {
    fn insert(&mut self, entry: u64) -> bool {
        if self.contains(entry) {
            return false;
        }
        let mut room = 1 << 16;
        if let Some((filter, held, most)) = self.0.last_mut() {
            if held < most && filter.add(entry) {
                *held += 1;
                return true;
            }
            room = *most * 2;
        }
        let mut filter = F::with_room(room);
        filter.add(entry);
        self.0.push((filter, 1, room));
        true
    }

    fn contains(&mut self, entry: u64) -> bool {
        self.0.iter().rev().any(|(filter, ..)| filter.has(entry))
    }

    fn bits(&self) -> usize {
        self.0.iter().map(|(filter, ..)| filter.bits()).sum()
    }
}

/// Blocks of 512 bits, one for each entry, and 17 bits of the block.
struct BlockedBloom(Vec<[u64; 8]>);

impl BlockedBloom {
    /// Bits for each tag, so that eight filters together are wrong once in a million times.
    const BITS: usize = 48;
    const HASHES: usize = 17;

    fn bits_of(&self, entry: u64) -> (usize, impl Iterator<Item = u64> + use<>) {
        let block = below(mix(entry), self.0.len());
        (block, (0..Self::HASHES as u64).map(move |number| mix(entry ^ (number + 1).wrapping_mul(0x9e37_79b9)) & 511))
    }
}

impl Fixed for BlockedBloom {
    fn with_room(tags: usize) -> Self {
        Self(vec![[0; 8]; tags * Self::BITS / 512])
    }

    fn add(&mut self, entry: u64) -> bool {
        let (block, bits) = self.bits_of(entry);
        for bit in bits {
            self.0[block][bit as usize / 64] |= 1 << (bit % 64);
        }
        true
    }

    fn has(&self, entry: u64) -> bool {
        let (block, mut bits) = self.bits_of(entry);
        bits.all(|bit| self.0[block][bit as usize / 64] >> (bit % 64) & 1 == 1)
    }

    fn bits(&self) -> usize {
        self.0.len() * 512
    }
}

/// Buckets of four fingerprints, two buckets for each entry. Kept in 32 bits, counted as 26: eight places in eight
/// filters are wrong once in a million times.
struct Cuckoo {
    buckets: Vec<[u32; 4]>,
    moved: u64,
}

impl Cuckoo {
    const BITS: usize = 26;

    fn place(&self, entry: u64) -> (usize, u32) {
        let mixed = mix(entry);
        let print = (mixed as u32 & ((1 << Self::BITS) - 1)).max(1);
        ((mixed >> 32) as usize & (self.buckets.len() - 1), print)
    }

    fn other(&self, bucket: usize, print: u32) -> usize {
        (bucket ^ mix(u64::from(print)) as usize) & (self.buckets.len() - 1)
    }
}

impl Fixed for Cuckoo {
    fn with_room(tags: usize) -> Self {
        // A sixteenth more than are put in.
        Self { buckets: vec![[0; 4]; tags / 4], moved: 0 }
    }

    fn add(&mut self, entry: u64) -> bool {
        let (mut bucket, mut print) = self.place(entry);
        for _ in 0..500 {
            for bucket in [bucket, self.other(bucket, print)] {
                if let Some(place) = self.buckets[bucket].iter_mut().find(|place| **place == 0) {
                    *place = print;
                    return true;
                }
            }
            self.moved += 1;
            bucket = self.other(bucket, print);
            std::mem::swap(&mut print, &mut self.buckets[bucket][self.moved as usize % 4]);
        }
        // The last print is lost: a filter that is used for replays must stop before that.
        false
    }

    fn has(&self, entry: u64) -> bool {
        let (bucket, print) = self.place(entry);
        self.buckets[bucket].contains(&print) || self.buckets[self.other(bucket, print)].contains(&print)
    }

    fn bits(&self) -> usize {
        self.buckets.len() * 4 * Self::BITS
    }
}

/// Remainders in the order of their quotients. Kept with the quotient, counted as what is left of 44 bits and three
/// more; grows by doubling, which gives one bit of the remainder to the quotient.
struct Quotient {
    places: Vec<u64>,
    held: usize,
}

impl Quotient {
    const KEPT: u32 = 44;

    /// The entry's place, or the first one behind which it would stand.
    fn find(&self, kept: u64) -> Result<usize, usize> {
        let mask = self.places.len() - 1;
        let home = (kept >> (Self::KEPT - self.places.len().ilog2())) as usize;
        for way in 0.. {
            let at = (home + way) & mask;
            let held = self.places[at];
            let theirs = (held >> (Self::KEPT - self.places.len().ilog2())) as usize;
            if held == kept {
                return Ok(at);
            }
            if held == 0 || at.wrapping_sub(theirs) & mask < way {
                return Err(at);
            }
        }
        Err(home)
    }

    fn put(&mut self, mut at: usize, mut kept: u64) {
        while kept != 0 {
            std::mem::swap(&mut self.places[at], &mut kept);
            at = (at + 1) & (self.places.len() - 1);
        }
        self.held += 1;
    }

    fn kept(entry: u64) -> u64 {
        (mix(entry) >> (64 - Self::KEPT)).max(1)
    }
}

impl Candidate for Quotient {
    fn insert(&mut self, entry: u64) -> bool {
        let kept = Self::kept(entry);
        let Err(mut at) = self.find(kept) else { return false };
        if self.held * 10 >= self.places.len() * 9 {
            let longer = vec![0; self.places.len() * 2];
            let former = std::mem::replace(&mut self.places, longer);
            self.held = 0;
            for held in former.into_iter().filter(|held| *held != 0) {
                if let Err(at) = self.find(held) {
                    self.put(at, held);
                }
            }
            at = self.find(kept).err().unwrap_or(0);
        }
        self.put(at, kept);
        true
    }

    fn contains(&mut self, entry: u64) -> bool {
        self.find(Self::kept(entry)).is_ok()
    }

    fn bits(&self) -> usize {
        let quotient = self.places.len().ilog2();
        self.places.len() * (Self::KEPT - quotient + 3) as usize
    }
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn below(number: u64, count: usize) -> usize {
    ((u128::from(number) * count as u128) >> 64) as usize
}

/// Of this thread: what else runs takes none of it.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn measure(name: &str, mut candidate: impl Candidate, tags: usize) -> Result<(), Failure> {
    const ASKED: u64 = 20_000_000;
    let (mut least, mut most, mut worst, mut refused) = (f64::MAX, 0_f64, Duration::ZERO, 0);
    let mut late_half = Duration::ZERO;
    for group in 0..tags / 64 {
        let start = processor_time();
        for entry in group * 64..group * 64 + 64 {
            refused += u32::from(!candidate.insert(entry as u64));
        }
        let took = processor_time().saturating_sub(start);
        worst = worst.max(took);
        if group >= tags / 128 {
            late_half += took;
        }
        if group >= tags / 256 {
            let bits = candidate.bits() as f64 / (group * 64 + 64) as f64;
            (least, most) = (least.min(bits), most.max(bits));
        }
    }
    let known = (0..ASKED).filter(|number| black_box(candidate.contains(number + (1 << 40)))).count();
    writeln!(
        std::io::stdout(),
        "{name:<16} bits {least:.1} to {most:.1}   insert {:.0} ns   longest pause {:.2} ms   refused {refused}   false {known} of {ASKED}",
        late_half.as_nanos() as f64 / (tags / 2) as f64,
        worst.as_secs_f64() * 1e3,
    )?;
    Ok(())
}

fn main() -> Result<(), Failure> {
    let tags = std::env::args().nth(1).map_or(Ok(15_000_000), |tags| tags.parse())? / 64 * 64;
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    measure("in use", Ours(ReplayCache::volatile(&mut rng, tags)), tags)?;
    measure("quotient filter", Quotient { places: vec![0; 1 << 16], held: 0 }, tags)?;
    measure("cuckoo filters", Chain::<Cuckoo>(Vec::new()), tags)?;
    measure("blocked Bloom", Chain::<BlockedBloom>(Vec::new()), tags)
}
