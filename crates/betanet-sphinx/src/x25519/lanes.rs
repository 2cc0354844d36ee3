//! Transposition: one number per lane in, one row of lanes per limb out, and back.

/// One 64-bit word of each of `L` lanes.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Words<const L: usize>(pub(super) [u64; L]);

impl<const L: usize> Words<L> {
    pub(super) const ZERO: Self = Self([0; L]);
}

/// Puts the words of one number into its lane.
pub(super) fn scatter<const L: usize, const N: usize>(rows: &mut [Words<L>; N], lane: usize, number: [u64; N]) {
    for (row, word) in rows.iter_mut().zip(number) {
        if let Some(slot) = row.0.get_mut(lane) {
            *slot = word;
        }
    }
}

/// The words of the number in a lane.
pub(super) fn gather<const L: usize, const N: usize>(rows: &[Words<L>; N], lane: usize) -> [u64; N] {
    let mut number = [0; N];
    for (word, row) in number.iter_mut().zip(rows) {
        *word = row.0.get(lane).copied().unwrap_or_default();
    }
    number
}

/// For a ladder that does not swap: bit t is bit t xor bit t + 1 of the scalar without its bit 255.
pub(super) fn swaps([w0, w1, w2, w3]: &[u64; 4]) -> [u64; 4] {
    let w3 = w3 & (u64::MAX >> 1);
    [w0 ^ ((w0 >> 1) | (w1 << 63)), w1 ^ ((w1 >> 1) | (w2 << 63)), w2 ^ ((w2 >> 1) | (w3 << 63)), w3 ^ (w3 >> 1)]
}
