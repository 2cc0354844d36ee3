//! Small helpers over a random generator that the caller passes in.

use rand_core::CryptoRng;

/// A uniform index below `len`; `None` for an empty range.
pub(crate) fn index_below(rng: &mut impl CryptoRng, len: usize) -> Option<usize> {
    let len = u64::try_from(len).ok().filter(|len| *len > 0)?;
    // Values above the last whole multiple would favour small indices.
    let zone = u64::MAX - u64::MAX % len;
    loop {
        let value = rng.next_u64();
        if value < zone {
            return usize::try_from(value % len).ok();
        }
    }
}

/// A uniform element of a slice.
pub(crate) fn choose<'a, T>(rng: &mut impl CryptoRng, items: &'a [T]) -> Option<&'a T> {
    index_below(rng, items.len()).and_then(|index| items.get(index))
}

/// Random bytes.
pub(crate) fn bytes<const N: usize>(rng: &mut impl CryptoRng) -> [u8; N] {
    let mut out = [0; N];
    rng.fill_bytes(&mut out);
    out
}
