//! The maker's side of headers: one ephemeral key each, blinded from hop to hop, and the nested routing blocks.

use ctr::cipher::StreamCipher;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::ephemeral::Ephemeral;
use crate::error::BuildError;
use crate::geometry::HeaderPieces;
use crate::keys::Hop;
use crate::suite::{Maker, RoutingCommand};
use crate::x25519::{KnownPoints, x25519_base_batch};

/// A header to be built.
pub(crate) struct HeaderDraft<'a, S: Maker> {
    pub(crate) parity: u8,
    pub(crate) path: &'a [Hop],
    /// What each hop but the last is told to wait; missing ones are zero.
    pub(crate) holds: &'a [S::Hold],
    pub(crate) last: S::Last,
    pub(crate) header: HeaderPieces<'a>,
}

/// Builds a header for each of `plans` and returns the keys of its hops in path order.
///
/// What is random is drawn packet by packet, in the order of `plans`, so that a batch equals its packets built one after
/// the other. Then all packets agree with their hops step by step, in lanes.
///
/// # Errors
/// In place of the keys: [`BuildError`] if the path is empty or too long, the parity is not a bit, or the randomness is
/// unusable.
pub(crate) fn build_headers<S: Maker>(
    rng: &mut impl CryptoRng,
    known: &mut KnownPoints,
    plans: Vec<HeaderDraft<'_, S>>,
) -> Vec<Result<Vec<S::Keys>, BuildError>> {
    let mut drafts: Vec<_> = plans.into_iter().map(|plan| PartialHeader::begin(rng, plan)).collect();
    for step in 0..S::GEOMETRY.max_hops {
        agree(known, &mut drafts, step);
    }
    // With room for all of them: what a vector outgrows is not wiped.
    let count = drafts.iter().flatten().map(|draft| draft.exponents.len()).sum();
    let mut exponents = Zeroizing::new(Vec::with_capacity(count));
    drafts.iter().flatten().for_each(|draft| exponents.extend_from_slice(&draft.exponents));
    let mut alphas = x25519_base_batch(&exponents).into_iter();
    drafts.into_iter().map(|draft| draft.map(|draft| draft.write(&mut alphas))).collect()
}

/// A header in the making.
struct PartialHeader<'a, S: Maker> {
    plan: HeaderDraft<'a, S>,
    ephemeral: Ephemeral,
    /// The exponent of α at each hop.
    exponents: Zeroizing<Vec<[u8; 32]>>,
    keys: Vec<S::Keys>,
}

/// One step of all paths: agrees on a secret with each hop at place `step`, all from one ephemeral key per packet.
fn agree<S: Maker>(known: &mut KnownPoints, drafts: &mut [Result<PartialHeader<'_, S>, BuildError>], step: usize) {
    let mut scalars = Zeroizing::new(Vec::with_capacity(drafts.len()));
    let mut points = Vec::with_capacity(drafts.len());
    for slot in drafts.iter_mut() {
        let Ok(draft) = slot else { continue };
        let Some(hop) = draft.plan.path.get(step) else { continue };
        let Some(exponent) = draft.ephemeral.clamped() else {
            *slot = Err(BuildError::BadRandomness);
            continue;
        };
        draft.exponents.push(*exponent);
        scalars.push(*exponent);
        points.push(*hop.key.as_bytes());
    }
    // Never zero: a hop's key has prime order, and a clamped exponent is no multiple of it.
    let mut secrets = Zeroizing::new(vec![[0; 32]; points.len()]);
    known.multiply(&scalars, &points, &mut secrets);
    let on_their_way = drafts.iter_mut().flatten().filter(|draft| draft.plan.path.len() > step);
    for (draft, shared) in on_their_way.zip(secrets.iter()) {
        let keys = S::derive(shared);
        draft.ephemeral.blind(S::blinding(&keys));
        draft.keys.push(keys);
    }
}

impl<'a, S: Maker> PartialHeader<'a, S> {
    /// Checks the plan and draws all that is random in its header.
    fn begin(rng: &mut impl CryptoRng, plan: HeaderDraft<'a, S>) -> Result<Self, BuildError> {
        let hops = plan.path.len();
        if hops == 0 {
            return Err(BuildError::EmptyPath);
        }
        if hops > S::GEOMETRY.max_hops {
            return Err(BuildError::PathTooLong { hops, max: S::GEOMETRY.max_hops });
        }
        if plan.parity > 1 {
            return Err(BuildError::BadParity { parity: plan.parity });
        }
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        // Between the last block and the filler stands nothing. Random bytes, not zeros: else the last hop would learn
        // the length of the path (Kuhn et al., "Breaking and (Partially) Fixing Provably Secure Onion Routing", 2020).
        let own = S::GEOMETRY.beta_len.saturating_sub(S::GEOMETRY.block_len * (hops - 1));
        rng.fill_bytes(plan.header.beta.get_mut(..own).unwrap_or_default());
        let exponents = Zeroizing::new(Vec::with_capacity(hops));
        Ok(Self { plan, ephemeral: Ephemeral::new(&seed), exponents, keys: Vec::with_capacity(hops) })
    }

    /// Writes the header from its last hop to its first. `alphas` gives the next `path.len()` values of α in path order.
    fn write(self, alphas: &mut impl Iterator<Item = [u8; 32]>) -> Vec<S::Keys> {
        let Self { plan, keys, .. } = self;
        let HeaderPieces { prefix, alpha, gamma, beta } = plan.header;
        S::write_prefix(plan.parity, prefix);
        write_innermost::<S>(&keys, &plan.last, beta);
        let alphas: Vec<_> = alphas.take(keys.len()).collect();
        let hops = plan.path.iter().zip(&keys).zip(&alphas).enumerate().rev();
        // The hop behind the one at hand, which the block must name.
        let mut behind: Option<&Hop> = None;
        for (place, ((hop, keys), hop_alpha)) in hops {
            if let Some(next) = behind {
                let hold = plan.holds.get(place).copied().unwrap_or_default();
                wrap::<S>(keys, &RoutingCommand::Forward { next: next.node, hold }, gamma, beta);
            }
            S::mac(keys, prefix, hop_alpha, beta).write(gamma);
            *alpha = *hop_alpha;
            behind = Some(hop);
        }
        keys
    }
}

/// Turns β of the next hop into that of the hop before it.
fn wrap<S: Maker>(keys: &S::Keys, command: &RoutingCommand<S::Hold, S::Last>, next_gamma: &[u8], beta: &mut [u8]) {
    let block_len = S::GEOMETRY.block_len;
    beta.copy_within(..beta.len().saturating_sub(block_len), block_len);
    if let Some(block) = beta.get_mut(..block_len) {
        S::write_block(command, next_gamma, block);
    }
    S::stream(keys).apply_keystream(beta);
}

/// Writes β as the last hop receives it, over random bytes. The blocks that the hops before it consumed leave a filler
/// at its end that the maker must foresee, as each MAC covers it.
fn write_innermost<S: Maker>(keys: &[S::Keys], last: &S::Last, beta: &mut [u8]) {
    let Some((innermost, before)) = keys.split_last() else { return };
    let filler = filler::<S>(before);
    let (own, rest) = beta.split_at_mut(beta.len().saturating_sub(filler.len()));
    if let Some(block) = own.get_mut(..S::GEOMETRY.block_len) {
        S::write_block(&RoutingCommand::Last(*last), &[], block);
    }
    S::stream(innermost).apply_keystream(own);
    rest.copy_from_slice(&filler);
}

/// What stands at the end of β after these hops: each appends a block of zeros and enciphers.
fn filler<S: Maker>(keys: &[S::Keys]) -> Vec<u8> {
    let geometry = S::GEOMETRY;
    let mut filler = Vec::with_capacity(geometry.beta_len);
    for keys in keys {
        let mut stream = S::stream(keys);
        // β fills up from its end: skip what of the stream falls on the bytes before the filler.
        let mut skipped = Zeroizing::new(vec![0; geometry.beta_len.saturating_sub(filler.len())]);
        stream.apply_keystream(&mut skipped);
        filler.resize(filler.len() + geometry.block_len, 0);
        stream.apply_keystream(&mut filler);
    }
    filler
}
