//! Multiplications for many packets at once, and a group of packets that goes through the same phases side by side.

use zeroize::Zeroize;

use crate::error::PacketError;
use crate::x25519::{x25519, x25519_batch};

/// [`x25519`] of each pair; the slices have one length.
pub(crate) fn multiply(scalars: &[[u8; 32]], points: &[[u8; 32]], out: &mut [[u8; 32]]) {
    if let ([scalar], [point], [out]) = (scalars, points, &mut *out) {
        *out = x25519(scalar, point);
    } else {
        x25519_batch(scalars, points, out);
    }
}

/// Up to `N` packets on their way through the phases of one operation. A packet that failed keeps its place and error.
pub(crate) struct Group<T, const N: usize>([Option<Result<T, PacketError>>; N]);

impl<T, const N: usize> Group<T, N> {
    /// Takes the first `N` of `items`.
    pub(crate) fn admit(mut items: impl Iterator<Item = Result<T, PacketError>>) -> Self {
        Self(std::array::from_fn(|_| items.next()))
    }

    /// Applies the next phase to each packet still in the race, in order.
    pub(crate) fn advance<U>(self, mut phase: impl FnMut(T) -> Result<U, PacketError>) -> Group<U, N> {
        Group(self.0.map(|lane| lane.map(|outcome| outcome.and_then(&mut phase))))
    }

    /// Multiplies what `factors` gives, scalar and point, for the packets that need it.
    pub(crate) fn multiply(&self, factors: impl Fn(&T) -> Option<(&[u8; 32], &[u8; 32])>) -> Products<N> {
        let mut scalars = [[0; 32]; N];
        let mut points = [[0; 32]; N];
        let mut out = [[0; 32]; N];
        let pairs = self.0.iter().flatten().flatten().filter_map(factors);
        let mut len = 0;
        for ((scalar, point), factors) in scalars.iter_mut().zip(&mut points).zip(pairs) {
            (*scalar, *point) = (*factors.0, *factors.1);
            len += 1;
        }
        let (scalars, _) = scalars.split_at_mut(len);
        let (points, _) = points.split_at(len);
        multiply(scalars, points, out.split_at_mut(len).0);
        scalars.iter_mut().for_each(Zeroize::zeroize);
        Products { out, next: 0 }
    }
}

impl<T, const N: usize> IntoIterator for Group<T, N> {
    type Item = Result<T, PacketError>;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<Result<T, PacketError>>, N>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

/// Products in the order of the packets that asked for one; erased in the end.
pub(crate) struct Products<const N: usize> {
    out: [[u8; 32]; N],
    next: usize,
}

impl<const N: usize> Products<N> {
    /// The product for the next packet that asked.
    pub(crate) fn take(&mut self) -> &[u8; 32] {
        const NONE: &[u8; 32] = &[0; 32];
        // All zero where nobody asked: what X25519 gives for a point of small order, which every caller refuses.
        let product = self.out.get(self.next).unwrap_or(NONE);
        self.next += 1;
        product
    }
}

impl<const N: usize> Drop for Products<N> {
    fn drop(&mut self) {
        self.out.zeroize();
    }
}
