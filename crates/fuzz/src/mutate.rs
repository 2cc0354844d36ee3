//! New inputs from old ones.

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

/// Numbers at which lengths and counts break.
const EDGES: [u64; 12] = [0, 1, 7, 8, 127, 128, 255, 256, 65_535, 65_536, 1 << 32, u64::MAX];
/// Pieces of JSON.
const WORDS: [&str; 14] = [
    "null",
    "{}",
    "[]",
    "-1",
    "1e999",
    "18446744073709551616",
    "\"\"",
    "\"\\ud800\"",
    "true",
    ",",
    ":",
    "{",
    "]",
    "\\u0000",
];

/// An input that is like one or two of `inputs`.
pub(crate) fn mutated(rng: &mut ChaCha20Rng, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut input = pick(rng, inputs).cloned().unwrap_or_default();
    for _ in 0..=below(rng, 4) {
        change(rng, &mut input, inputs);
    }
    input
}

fn change(rng: &mut ChaCha20Rng, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
    let at = below(rng, input.len() + 1);
    let until = at + below(rng, (input.len() - at + 1).min(64));
    match below(rng, 9) {
        0 => flip(input.get_mut(at), 1 << below(rng, 8)),
        1 => flip(input.get_mut(at), below(rng, 256)),
        2 => drop(input.drain(at..until)),
        3 => input.truncate(at),
        4 => {
            let again: Vec<u8> = input.get(at..until).unwrap_or_default().to_vec();
            input.splice(at..at, again);
        }
        5 => {
            let number = EDGES.get(below(rng, EDGES.len())).copied().unwrap_or(0).to_be_bytes();
            let bytes = number.len() - (1 << below(rng, 4));
            let kept: Vec<u8> = number.into_iter().skip(bytes).collect();
            let end = (at + kept.len()).min(input.len());
            input.splice(at..end, kept);
        }
        6 => {
            let word = WORDS.get(below(rng, WORDS.len())).copied().unwrap_or_default();
            input.splice(at..until, word.bytes());
        }
        7 => {
            // A number in a text becomes another one.
            let digits = |byte: &u8| byte.is_ascii_digit();
            if let Some(start) = input.iter().skip(at).position(digits).map(|ahead| at + ahead) {
                let length = input.iter().skip(start).take_while(|byte| digits(byte)).count();
                let number = EDGES.get(below(rng, EDGES.len())).copied().unwrap_or(0).to_string();
                input.splice(start..start + length, number.bytes());
            }
        }
        _ => {
            let other = pick(rng, inputs).map(Vec::as_slice).unwrap_or_default();
            let from = below(rng, other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(other.get(from..).unwrap_or_default());
        }
    }
}

fn flip(byte: Option<&mut u8>, bits: usize) {
    if let Some(byte) = byte {
        *byte ^= u8::try_from(bits).unwrap_or(1);
    }
}

fn pick<'a, T>(rng: &mut ChaCha20Rng, from: &'a [T]) -> Option<&'a T> {
    from.get(below(rng, from.len()))
}

/// A number below `count`, or 0.
fn below(rng: &mut ChaCha20Rng, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
    usize::try_from(rng.next_u64() % count).unwrap_or(0)
}
