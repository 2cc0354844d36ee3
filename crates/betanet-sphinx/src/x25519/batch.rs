//! From byte strings to ladders in lanes and back, with one field inversion for many results.

use zeroize::Zeroize;

use super::field51::Fe;
use super::scalar;

/// A way to run [`Engine::LANES`] ladders at once.
pub(super) trait Engine: Copy {
    /// How many; a divisor of [`CHUNK`].
    const LANES: usize;

    /// Fewer filled lanes than this cost more in a vector than one by one.
    const WORTH: usize;

    /// Runs 255 ladder steps, over bits 254 to 0 of each scalar taken as it is. All slices have `LANES` entries; words
    /// are lowest first; bit 255 of scalar and point is ignored.
    fn ladders(self, scalars: &[[u64; 4]], points: &[[u64; 4]], out: &mut [Fraction]);
}

/// What a ladder ends with: the u-coordinate x / z, or zero where z is zero.
#[derive(Clone, Copy, Default)]
pub(super) struct Fraction {
    x: Fe,
    z: Fe,
}

impl Fraction {
    pub(super) fn new(x: Fe, z: Fe) -> Self {
        Self { x, z }
    }
}

/// How a scalar is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalars {
    /// Clamped first, as RFC 7748 says.
    Clamped,
    /// As it is, below 2^255.
    Plain,
}

impl Scalars {
    fn words(self, bytes: &[u8; 32]) -> [u64; 4] {
        let words = words(bytes);
        match self {
            Self::Plain => words,
            Self::Clamped => {
                let [w0, w1, w2, w3] = words;
                [w0 & !7, w1, w2, (w3 & (u64::MAX >> 1)) | (1 << 62)]
            }
        }
    }

    fn multiply(self, scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
        match self {
            Self::Clamped => scalar::mul(scalar, point),
            Self::Plain => scalar::mul_unclamped(scalar, point),
        }
    }
}

/// Results that share one inversion. It costs about as much as eighty products, so 64 make it cheap; more would only
/// take more stack.
const CHUNK: usize = 64;

/// One multiplication after the other.
pub(super) fn one_by_one(kind: Scalars, scalars: &[[u8; 32]], points: &[[u8; 32]], out: &mut [[u8; 32]]) {
    for ((scalar, point), product) in scalars.iter().zip(points).zip(out) {
        *product = kind.multiply(scalar, point);
    }
}

/// Multiplications in lanes; the shortest of the slices says how many.
pub(super) fn in_lanes<E: Engine>(
    engine: E,
    kind: Scalars,
    scalars: &[[u8; 32]],
    points: &[[u8; 32]],
    out: &mut [[u8; 32]],
) {
    let mut work = Chunk::new();
    let chunks = scalars.chunks(CHUNK).zip(points.chunks(CHUNK)).zip(out.chunks_mut(CHUNK));
    for ((scalars, points), out) in chunks {
        let len = scalars.len().min(points.len()).min(out.len());
        let ragged = len % E::LANES;
        let in_lanes = if ragged < E::WORTH { len - ragged } else { len };
        let (lane_scalars, rest_scalars) = scalars.split_at(in_lanes);
        let (lane_points, rest_points) = points.split_at(in_lanes);
        let (lane_out, rest_out) = out.split_at_mut(in_lanes);
        work.multiply(engine, kind, lane_scalars, lane_points, lane_out);
        one_by_one(kind, rest_scalars, rest_points, rest_out);
    }
    // What is left over from the first chunk, the longest, covers all of them.
    work.erase(scalars.len());
}

/// Multiplications of points with tables, in lanes that `multiply` fills: of scalars, the tables at their places, and
/// where the results go. The shortest of the slices says how many.
pub(super) fn by_tables<T>(
    lanes: usize,
    scalars: &[[u8; 32]],
    tables: &[T],
    out: &mut [[u8; 32]],
    multiply: impl Fn(&[[u64; 4]], &[T], &mut [Fraction]),
) {
    let mut work = Chunk::new();
    for ((scalars, tables), out) in scalars.chunks(CHUNK).zip(tables.chunks(CHUNK)).zip(out.chunks_mut(CHUNK)) {
        for (slot, scalar) in work.scalars.iter_mut().zip(scalars) {
            *slot = Scalars::Clamped.words(scalar);
        }
        let len = scalars.len().min(tables.len()).min(out.len());
        let groups = work.scalars.chunks(lanes).zip(tables.chunks(lanes)).zip(work.fractions.chunks_mut(lanes));
        for ((scalars, tables), fractions) in groups.take(len.div_ceil(lanes)) {
            multiply(scalars, tables, fractions);
        }
        work.divide(out.split_at_mut(len).0);
    }
    work.erase(scalars.len());
}

/// The working memory of up to [`CHUNK`] multiplications.
struct Chunk {
    scalars: [[u64; 4]; CHUNK],
    points: [[u64; 4]; CHUNK],
    fractions: [Fraction; CHUNK],
    /// The product of all denominators before this one.
    before: [Fe; CHUNK],
}

impl Chunk {
    fn new() -> Self {
        Self {
            scalars: [[0; 4]; CHUNK],
            points: [[0; 4]; CHUNK],
            fractions: [Fraction::default(); CHUNK],
            before: [Fe::ONE; CHUNK],
        }
    }

    /// Three slices of one length, at most [`CHUNK`].
    fn multiply<E: Engine>(
        &mut self,
        engine: E,
        kind: Scalars,
        scalars: &[[u8; 32]],
        points: &[[u8; 32]],
        out: &mut [[u8; 32]],
    ) {
        for (slot, scalar) in self.scalars.iter_mut().zip(scalars) {
            *slot = kind.words(scalar);
        }
        for (slot, point) in self.points.iter_mut().zip(points) {
            *slot = words(point);
        }
        let groups = (self.scalars.chunks_exact(E::LANES))
            .zip(self.points.chunks_exact(E::LANES))
            .zip(self.fractions.chunks_exact_mut(E::LANES))
            .take(out.len().div_ceil(E::LANES));
        for ((scalars, points), fractions) in groups {
            engine.ladders(scalars, points, fractions);
        }
        self.divide(out);
    }

    /// Montgomery's trick: the inverse of the product of all denominators gives each one's inverse for three products.
    /// A zero denominator becomes 1 and its numerator 0, by selection, so it spoils nothing and shows in no timing.
    fn divide(&mut self, out: &mut [[u8; 32]]) {
        let mut product = Fe::ONE;
        for (fraction, before) in self.fractions.iter_mut().zip(&mut self.before).take(out.len()) {
            let at_infinity = fraction.z.is_zero();
            fraction.x = Fe::select(fraction.x, Fe::default(), at_infinity);
            fraction.z = Fe::select(fraction.z, Fe::ONE, at_infinity);
            *before = product;
            product = product.mul(fraction.z);
        }
        let mut inverse = product.invert();
        let results = self.fractions.iter().zip(&self.before).zip(out).rev();
        for ((fraction, before), out) in results {
            *out = fraction.x.mul(inverse.mul(*before)).to_bytes();
            inverse = inverse.mul(fraction.z);
        }
        product.zeroize();
        inverse.zeroize();
    }

    /// Wipes the first `len` places, or all.
    fn erase(&mut self, len: usize) {
        let fractions = self.fractions.iter_mut().zip(&mut self.before);
        for (scalar, (fraction, before)) in self.scalars.iter_mut().zip(fractions).take(len) {
            scalar.zeroize();
            fraction.x.zeroize();
            fraction.z.zeroize();
            before.zeroize();
        }
    }
}

pub(super) fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}
