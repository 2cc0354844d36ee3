//! The maker's side of a header: one ephemeral key, blinded from hop to hop, and the nested routing blocks.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::ephemeral::Ephemeral;
use crate::error::BuildError;
use crate::geometry::{Geometry, HeaderPieces};
use crate::keys::Hop;
use crate::suite::{Command, HopKeys, KeyStream, Suite};
use crate::x25519::{x25519, x25519_base};

/// What the maker knows of one hop.
struct Step<K> {
    alpha: [u8; 32],
    keys: K,
}

/// Builds a header over `path` that ends in `last`, and returns the keys of its hops in path order.
///
/// # Errors
/// [`BuildError`] if the path is empty or too long, the parity is not a bit, or the randomness is unusable.
pub(crate) fn build_header<S: Suite>(
    rng: &mut impl CryptoRng,
    parity: u8,
    path: &[Hop],
    last: &Command,
    header: HeaderPieces<'_>,
) -> Result<Vec<S::Keys>, BuildError> {
    let geometry = S::GEOMETRY;
    check(&geometry, parity, path)?;
    let steps = agree::<S>(rng, path)?;
    let HeaderPieces { prefix, alpha, gamma, beta } = header;
    S::write_prefix(parity, prefix);

    let mut hops = steps.iter().zip(path).rev();
    let Some((step, mut outer)) = hops.next() else { return Err(BuildError::EmptyPath) };
    write_innermost::<S>(rng, &geometry, &steps, last, beta);
    S::mac(&step.keys, prefix, &step.alpha, beta).write(gamma);
    *alpha = step.alpha;
    for (step, hop) in hops {
        beta.copy_within(..geometry.beta_len - geometry.block_len, geometry.block_len);
        if let Some(block) = beta.get_mut(..geometry.block_len) {
            S::write_block(&Command::Forward { next: outer.node }, gamma, rng, block);
        }
        S::stream(&step.keys).apply(beta);
        S::mac(&step.keys, prefix, &step.alpha, beta).write(gamma);
        *alpha = step.alpha;
        outer = hop;
    }
    Ok(steps.into_iter().map(|step| step.keys).collect())
}

fn check(geometry: &Geometry, parity: u8, path: &[Hop]) -> Result<(), BuildError> {
    if path.is_empty() {
        return Err(BuildError::EmptyPath);
    }
    if path.len() > geometry.max_hops {
        return Err(BuildError::PathTooLong { hops: path.len() });
    }
    if parity > 1 {
        return Err(BuildError::BadParity { parity });
    }
    Ok(())
}

/// Agrees on a secret with each hop, all from one ephemeral key.
fn agree<S: Suite>(rng: &mut impl CryptoRng, path: &[Hop]) -> Result<Vec<Step<S::Keys>>, BuildError> {
    let mut seed = Zeroizing::new([0; 32]);
    rng.fill_bytes(seed.as_mut_slice());
    let mut ephemeral = Ephemeral::new(&seed);
    let mut steps = Vec::with_capacity(path.len());
    for hop in path {
        let exponent = ephemeral.clamped().ok_or(BuildError::BadRandomness)?;
        // Never zero: the key has prime order, and a clamped exponent is no multiple of it.
        let shared = Zeroizing::new(x25519(&exponent, hop.key.as_bytes()));
        let keys = S::derive(&shared);
        ephemeral.blind(keys.blinding());
        steps.push(Step { alpha: x25519_base(&exponent), keys });
    }
    Ok(steps)
}

/// Writes β as the last hop receives it.
///
/// The blocks that the hops before it consumed leave a filler at its end that the maker must foresee, as each MAC
/// covers it. What lies between the last block and the filler is random and not zero: else the last hop would learn
/// the length of the path (Kuhn et al., "Breaking and (Partially) Fixing Provably Secure Onion Routing", 2020).
fn write_innermost<S: Suite>(
    rng: &mut impl CryptoRng,
    geometry: &Geometry,
    steps: &[Step<S::Keys>],
    last: &Command,
    beta: &mut [u8],
) {
    let Some((innermost, before)) = steps.split_last() else { return };
    let filler = filler::<S>(geometry, before);
    let own_len = geometry.beta_len.saturating_sub(filler.len());
    let (own, rest) = beta.split_at_mut(own_len);
    rng.fill_bytes(own);
    if let Some(block) = own.get_mut(..geometry.block_len) {
        S::write_block(last, &[], rng, block);
    }
    S::stream(&innermost.keys).apply(own);
    rest.copy_from_slice(&filler);
}

/// What stands at the end of β after the hops of `steps`: each appends a block of zeros and enciphers.
fn filler<S: Suite>(geometry: &Geometry, steps: &[Step<S::Keys>]) -> Vec<u8> {
    let mut filler = Vec::with_capacity(geometry.beta_len);
    for step in steps {
        let mut stream = S::stream(&step.keys);
        // β fills up from its end: skip what of the stream falls on the bytes before the filler.
        let mut skipped = Zeroizing::new(vec![0; geometry.beta_len.saturating_sub(filler.len())]);
        stream.apply(&mut skipped);
        filler.resize(filler.len() + geometry.block_len, 0);
        stream.apply(&mut filler);
    }
    filler
}
