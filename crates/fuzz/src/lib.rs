#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod mutate;
mod targets;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::{fs, io};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

pub use targets::{TARGETS, Target};

/// Inputs that one run keeps beside its seeds.
const KEPT: usize = 4096;
/// Bytes of the longest input.
const LONGEST: usize = 32 * 1024;

/// An input that made a target panic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding(pub Vec<u8>);

/// A run over one target.
#[derive(Debug)]
pub struct Run {
    target: &'static Target,
    rng: ChaCha20Rng,
    inputs: Vec<Vec<u8>>,
    seen: BTreeSet<u64>,
    tried: u64,
}

impl Run {
    /// A run that begins with the seeds in the repository, each of which it tries.
    ///
    /// # Errors
    /// The seeds cannot be read.
    pub fn new(target: &'static Target, number: u64) -> io::Result<Result<Self, Finding>> {
        let rng = ChaCha20Rng::seed_from_u64(number);
        let mut run = Self { target, rng, inputs: Vec::new(), seen: BTreeSet::new(), tried: 0 };
        let mut files: Vec<PathBuf> =
            fs::read_dir(seeds(target.name))?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        files.sort();
        for file in files {
            let seed = fs::read(file)?;
            if let Err(finding) = run.once(&seed) {
                return Ok(Err(finding));
            }
            run.inputs.push(seed);
        }
        Ok(Ok(run))
    }

    /// Tries mutated inputs while `goes_on` says so, asked every hundred of them.
    ///
    /// # Errors
    /// The first input that makes the target panic.
    pub fn go(&mut self, mut goes_on: impl FnMut(u64) -> bool) -> Result<(), Finding> {
        while goes_on(self.tried) {
            for _ in 0..100 {
                let mut input = mutate::mutated(&mut self.rng, &self.inputs);
                input.truncate(LONGEST);
                if self.once(&input)? && self.inputs.len() < KEPT {
                    self.inputs.push(input);
                }
            }
        }
        Ok(())
    }

    /// Inputs tried, and different ends that they came to.
    #[must_use]
    pub fn count(&self) -> (u64, usize) {
        (self.tried, self.seen.len())
    }

    /// Tries one input; says whether it came to a new end.
    ///
    /// # Errors
    /// It made the target panic.
    pub fn once(&mut self, input: &[u8]) -> Result<bool, Finding> {
        self.tried += 1;
        let end = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input))).map_err(|_| Finding(input.to_owned()))?;
        let mut hasher = DefaultHasher::new();
        end.hash(&mut hasher);
        Ok(self.seen.insert(hasher.finish()))
    }
}

/// Where the seeds of a target are.
#[must_use]
pub fn seeds(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target)
}
