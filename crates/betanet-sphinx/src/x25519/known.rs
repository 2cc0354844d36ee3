//! Points that are multiplied again and again: keys of nodes and of recipients.

use std::collections::HashMap;

use zeroize::Zeroizing;

use super::dispatch::{self, Table};
use super::{x25519, x25519_batch};

/// Uses after which a point gets a table: what one costs is what it has then spared about twice.
const WORTH_A_TABLE: u32 = 48;

/// Tables of the points that come up often, where the path of [`active_path`](super::active_path) multiplies faster by
/// tables. They change no result. The points are public, the scalars are not.
///
/// It remembers a number of points, those that were used last, and takes 32 KiB for each of them at most.
#[derive(Default)]
pub struct KnownPoints {
    points: HashMap<[u8; 32], Known>,
    capacity: usize,
    batches: u64,
}

struct Known {
    uses: u32,
    /// The last batch that it was in.
    last: u64,
    table: Option<Table>,
}

impl KnownPoints {
    /// Room for `capacity` points; with none it multiplies as [`x25519_batch`] does.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// [`x25519`] of `scalars[i]` and `points[i]` into `out[i]`, for any number of them; the shortest slice decides.
    pub fn multiply(&mut self, scalars: &[[u8; 32]], points: &[[u8; 32]], out: &mut [[u8; 32]]) {
        if self.capacity > 0 && dispatch::has_tables() {
            self.batches += 1;
            for point in points {
                self.note(point);
            }
        }
        let len = scalars.len().min(points.len());
        let (mut tables, mut rest) = (Part::with_room(len), Part::with_room(len));
        for (place, (scalar, point)) in scalars.iter().zip(points).enumerate().take(out.len()) {
            match self.points.get(point).and_then(|known| known.table.as_ref()) {
                Some(table) => tables.add(place, scalar, table),
                None => rest.add(place, scalar, *point),
            }
        }
        tables.finish(out, dispatch::multiply_by_tables);
        rest.finish(out, |scalars, points, products| {
            if let ([scalar], [point], [product]) = (scalars, points, &mut *products) {
                *product = x25519(scalar, point);
            } else {
                x25519_batch(scalars, points, products);
            }
        });
    }

    /// Takes note of a use, and makes the point's table once it is worth it.
    fn note(&mut self, point: &[u8; 32]) {
        if !self.points.contains_key(point) && self.points.len() >= self.capacity {
            let oldest = self.points.iter().min_by_key(|(_, known)| known.last).map(|(point, _)| *point);
            oldest.map(|oldest| self.points.remove(&oldest));
        }
        let known = self.points.entry(*point).or_insert(Known { uses: 0, last: 0, table: None });
        known.last = self.batches;
        known.uses = known.uses.saturating_add(1);
        if known.uses == WORTH_A_TABLE {
            known.table = dispatch::table_of(point);
        }
    }
}

impl std::fmt::Debug for KnownPoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownPoints").field("points", &self.points.len()).finish_non_exhaustive()
    }
}

/// The scalars of a batch that are multiplied in one way, what with, and where the products go.
struct Part<T> {
    places: Vec<usize>,
    scalars: Zeroizing<Vec<[u8; 32]>>,
    factors: Vec<T>,
}

impl<T> Part<T> {
    /// With room for all of it, so that no copy of a scalar is left behind.
    fn with_room(len: usize) -> Self {
        Self { places: Vec::new(), scalars: Zeroizing::new(Vec::with_capacity(len)), factors: Vec::new() }
    }

    fn add(&mut self, place: usize, scalar: &[u8; 32], factor: T) {
        self.places.push(place);
        self.scalars.push(*scalar);
        self.factors.push(factor);
    }

    fn finish(self, out: &mut [[u8; 32]], multiply: impl Fn(&[[u8; 32]], &[T], &mut [[u8; 32]])) {
        let Self { places, scalars, factors } = self;
        let mut products = Zeroizing::new(vec![[0; 32]; places.len()]);
        multiply(&scalars, &factors, &mut products);
        for (place, product) in places.into_iter().zip(products.iter()) {
            if let Some(out) = out.get_mut(place) {
                *out = *product;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::x25519::x25519_base;

    fn random(rng: &mut ChaCha20Rng) -> [u8; 32] {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        bytes
    }

    /// The products of batches in which each of the points comes up in turn, checked.
    fn use_all(known: &mut KnownPoints, rng: &mut ChaCha20Rng, points: &[[u8; 32]], batches: usize) {
        for batch in 0..batches {
            let points: Vec<_> = points.iter().cycle().skip(batch).take(11).copied().collect();
            let scalars: Vec<_> = points.iter().map(|_| random(rng)).collect();
            let mut products = vec![[0; 32]; scalars.len()];
            known.multiply(&scalars, &points, &mut products);
            let expected: Vec<_> = scalars.iter().zip(&points).map(|(scalar, point)| x25519(scalar, point)).collect();
            assert_eq!(expected, products, "batch {batch}");
        }
    }

    fn tables(known: &KnownPoints) -> usize {
        known.points.values().filter(|known| known.table.is_some()).count()
    }

    #[test]
    fn products_are_the_same_before_and_after_a_point_has_its_table() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut points: Vec<_> = (0..5).map(|_| x25519_base(&random(&mut rng))).collect();
        // Of small order, and of the twist, which has no table.
        points.extend([[0; 32], [2; 32]]);
        let mut known = KnownPoints::new(16);
        use_all(&mut known, &mut rng, &points, 200);
        assert!([0, 5, 6, 7].contains(&tables(&known)), "{}", tables(&known));
        assert_eq!(dispatch::has_tables(), tables(&known) > 0);
    }

    #[test]
    fn what_is_used_seldom_makes_room_and_what_is_used_often_stays() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let often: Vec<_> = (0..3).map(|_| x25519_base(&random(&mut rng))).collect();
        let mut known = KnownPoints::new(5);
        use_all(&mut known, &mut rng, &often, 50);
        let made = tables(&known);
        for _ in 0..20 {
            let mut points = often.clone();
            points.push(x25519_base(&random(&mut rng)));
            use_all(&mut known, &mut rng, &points, 1);
            assert!(known.points.len() <= 5);
        }
        assert_eq!(made, tables(&known));
        assert!(often.iter().all(|point| !dispatch::has_tables() || known.points.contains_key(point)));
    }

    #[test]
    fn without_room_nothing_is_remembered() {
        let mut known = KnownPoints::new(0);
        use_all(&mut known, &mut ChaCha20Rng::seed_from_u64(3), &[[9; 32]], 60);
        assert!(known.points.is_empty());
    }

    #[test]
    fn the_shortest_of_its_slices_says_how_much_a_batch_multiplies() {
        let [one, two] = [[1; 32], [2; 32]];
        let mut products = [[0; 32]; 3];
        KnownPoints::new(4).multiply(&[one, two, one], &[[9; 32], [8; 32]], &mut products);
        assert_eq!([x25519(&one, &[9; 32]), x25519(&two, &[8; 32]), [0; 32]], products);
    }
}
