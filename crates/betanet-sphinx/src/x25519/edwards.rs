//! Points of the Edwards form of the curve, one at a time and of no secret: what tables of multiples are made from.
//!
//! −x² + y² = 1 + d·x²·y², with u = (1 + y) / (1 − y) in the Montgomery form. Its addition law has no exceptions.

use super::field51::Fe;

/// A point (x / z, y / z) with t = x·y / z.
#[derive(Clone, Copy)]
pub(super) struct Point {
    x: Fe,
    y: Fe,
    z: Fe,
    t: Fe,
}

/// A point with z = 1.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub(super) x: Fe,
    pub(super) y: Fe,
}

/// d = −121665 / 121666.
pub(super) fn d() -> Fe {
    Fe::from_words([121_666, 0, 0, 0]).invert().mul(Fe::from_words([121_665, 0, 0, 0])).negated()
}

/// One of the two points with this u-coordinate, whose multiples have the same u; `None` if it is one of the twist.
pub(super) fn lift([w0, w1, w2, w3]: [u64; 4], d: Fe) -> Option<Point> {
    let u = Fe::from_words([w0, w1, w2, w3 & (u64::MAX >> 1)]);
    let below = u.plus(Fe::ONE);
    if bool::from(below.is_zero()) {
        return None;
    }
    let y = u.minus(Fe::ONE).mul(below.invert());
    let yy = y.square();
    let xx = yy.minus(Fe::ONE).mul(yy.mul(d).plus(Fe::ONE).invert());
    let x = xx.root()?;
    Some(Point { x, y, z: Fe::ONE, t: x.mul(y) })
}

impl Point {
    /// The sum with `other`, given 2·d.
    #[allow(clippy::many_single_char_names, reason = "the names of the formulas' authors")]
    pub(super) fn add(&self, other: &Self, twice_d: Fe) -> Self {
        let a = self.y.minus(self.x).mul(other.y.minus(other.x));
        let b = self.y.plus(self.x).mul(other.y.plus(other.x));
        let c = self.t.mul(other.t).mul(twice_d);
        let d = self.z.mul(other.z.plus(other.z));
        let (e, f, g, h) = (b.minus(a), d.minus(c), d.plus(c), b.plus(a));
        Self { x: e.mul(f), y: g.mul(h), z: f.mul(g), t: e.mul(h) }
    }
}

/// The points with z = 1, for one inversion.
pub(super) fn to_affine(points: &[Point]) -> Vec<Affine> {
    let so_far = points.iter().scan(Fe::ONE, |product, point| {
        let before = *product;
        *product = before.mul(point.z);
        Some((before, *product))
    });
    let (before, products): (Vec<_>, Vec<_>) = so_far.unzip();
    let mut inverse = products.last().copied().unwrap_or_default().invert();
    let mut affine: Vec<_> = (points.iter().zip(before).rev())
        .map(|(point, before)| {
            let z = inverse.mul(before);
            inverse = inverse.mul(point.z);
            Affine { x: point.x.mul(z), y: point.y.mul(z) }
        })
        .collect();
    affine.reverse();
    affine
}
