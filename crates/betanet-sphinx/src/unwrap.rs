//! A hop's side of packets, one at a time or in groups that share the lanes of the multiplication.

use ctr::cipher::StreamCipher;
use subtle::ConstantTimeEq;

use crate::error::PacketError;
use crate::geometry::{HeaderPieces, PacketPieces};
use crate::group::Group;
use crate::ids::{DelayInput, ReplayTag};
use crate::keys::{SecretKey, is_canonical};
use crate::suite::{Action, Block, Native, RoutingCommand, Suite};

/// A node's memory of the packets it has seen under one key.
///
/// Tags come from shared secrets. A filter keeps them under a random key of its own, never raw, so that nobody can
/// prepare collisions and a stolen log does not recognise packets.
pub trait ReplayFilter {
    /// Remembers `tag`, in one step with the check.
    ///
    /// # Errors
    /// [`PacketError::Replay`] if the tag is known, [`PacketError::ReplayCacheFull`] if it cannot be remembered.
    fn check_and_insert(&mut self, tag: &ReplayTag) -> Result<(), PacketError>;
}

/// The keys of a node by parity, each with its memory of the packets seen under it.
pub trait NodeKeys {
    /// The secret for packets of this parity, 0 or 1.
    ///
    /// # Errors
    /// [`PacketError::NoKey`] if there is none.
    fn secret(&self, parity: u8) -> Result<&SecretKey, PacketError>;

    /// Remembers the tag of a packet of this parity, in one step with the check, as [`ReplayFilter::check_and_insert`].
    ///
    /// # Errors
    /// As there; also [`PacketError::NoKey`] if the key went away in the meantime.
    fn check_and_insert(&mut self, parity: u8, tag: &ReplayTag) -> Result<(), PacketError>;
}

/// An unwrapped packet: what to do, and the value from which its delay follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwrapped<A = Action, D = DelayInput> {
    /// What to do.
    pub action: A,
    /// From this the hop's delay follows. Use it and forget it.
    pub delay: D,
    /// Lowest bit of the epoch whose key it was unwrapped with; 0 in suites without.
    pub parity: u8,
}

/// What became of a packet of suite `S`.
pub type UnwrapResult<S = Native> = Result<Unwrapped<<S as Suite>::Action, <S as Suite>::Delay>, PacketError>;

/// Takes one layer off `packet`, in place and without allocating.
///
/// The order of work puts cheap rejects first: shared secret, keys, MAC, replay check, β, α′, δ. An error before the
/// replay check leaves `packet` as it was; a later one leaves it partly rewritten, to be dropped.
///
/// # Errors
/// A [`PacketError`] that says why the packet must be dropped.
pub fn unwrap(secret: &SecretKey, packet: &mut [u8], replay: &mut impl ReplayFilter) -> UnwrapResult {
    unwrap_with::<Native>(secret, packet, replay)
}

/// [`unwrap`] for any suite.
///
/// # Errors
/// A [`PacketError`] that says why the packet must be dropped.
pub fn unwrap_with<S: Suite>(secret: &SecretKey, packet: &mut [u8], replay: &mut impl ReplayFilter) -> UnwrapResult<S> {
    let mut outcome = Err(PacketError::WrongLength);
    let one = |result| outcome = result;
    unwrap_group::<S, 1>(&mut OneKey { secret, replay }, std::iter::once(packet), one);
    outcome
}

/// Takes one layer off each of `packets`, as [`unwrap`] one after the other would, but with the multiplications of many
/// packets in lanes. What became of each stands at its place in `outcomes`, whose former content goes.
///
/// Allocates nothing if `outcomes` has room for all. Of several copies of a packet the first passes.
pub fn unwrap_batch<P: AsMut<[u8]>>(
    secret: &SecretKey,
    packets: &mut [P],
    replay: &mut impl ReplayFilter,
    outcomes: &mut Vec<UnwrapResult>,
) {
    unwrap_batch_with::<Native, P>(&mut OneKey { secret, replay }, packets, outcomes);
}

/// [`unwrap_batch`] for any suite, and for packets of both parities.
pub fn unwrap_batch_with<S: Suite, P: AsMut<[u8]>>(
    keys: &mut impl NodeKeys,
    packets: &mut [P],
    outcomes: &mut Vec<UnwrapResult<S>>,
) {
    outcomes.clear();
    outcomes.reserve(packets.len());
    for group in packets.chunks_mut(GROUP) {
        unwrap_group::<S, GROUP>(keys, group.iter_mut().map(AsMut::as_mut), |outcome| outcomes.push(outcome));
    }
}

/// Checks length, version and parity of a packet and returns the parity, by which the unwrapping key is chosen.
///
/// # Errors
/// [`PacketError::WrongLength`], [`PacketError::UnknownVersion`] or [`PacketError::BadParity`].
pub fn parity_of(packet: &[u8]) -> Result<u8, PacketError> {
    let geometry = Native::GEOMETRY;
    if packet.len() != geometry.packet_len {
        return Err(PacketError::WrongLength);
    }
    Native::read_prefix(packet.get(..geometry.prefix_len).unwrap_or_default())
}

/// Packets that go through the phases together: a multiple of the lanes of every path, and enough of them to share
/// the one inversion behind their multiplications, while their headers stay in the first-level cache.
const GROUP: usize = 32;

/// One key for packets of either parity.
struct OneKey<'a, R> {
    secret: &'a SecretKey,
    replay: &'a mut R,
}

impl<R: ReplayFilter> NodeKeys for OneKey<'_, R> {
    fn secret(&self, _: u8) -> Result<&SecretKey, PacketError> {
        Ok(self.secret)
    }

    fn check_and_insert(&mut self, _: u8, tag: &ReplayTag) -> Result<(), PacketError> {
        self.replay.check_and_insert(tag)
    }
}

/// Unwraps up to `N` packets: all shared secrets, then keys, MACs, replay checks and β, then α′ of those that go on,
/// then δ. Every packet, alone or in a batch, takes this way.
fn unwrap_group<'a, S: Suite, const N: usize>(
    keys: &mut impl NodeKeys,
    packets: impl Iterator<Item = &'a mut [u8]>,
    each: impl FnMut(UnwrapResult<S>),
) {
    let admitted = Group::<_, N>::admit(packets.map(|packet| admit::<S>(keys, packet)));
    let mut secrets = admitted.multiply(|packet| {
        // Every admitted packet has a key. Were it gone by now, the packet would fail its MAC.
        let secret = keys.secret(packet.parity).map_or(&[0; 32], SecretKey::expose);
        Some((secret, &*packet.pieces.header.alpha))
    });
    let opened = admitted.advance(|packet| open::<S>(keys, packet, secrets.take()));
    drop(secrets);
    let mut alphas = opened.multiply(Opened::factors);
    let finished = opened.into_iter().map(|packet| packet.and_then(|packet| finish(packet, || *alphas.take())));
    finished.for_each(each);
}

/// A packet of the right form for which there is a key.
struct Admitted<'a> {
    parity: u8,
    pieces: PacketPieces<'a>,
}

/// A packet that is whole, new and meant for this node.
struct Opened<'a, S: Suite> {
    parity: u8,
    keys: S::Keys,
    command: RoutingCommand<S::Hold, S::Last>,
    alpha: &'a mut [u8; 32],
    delta: &'a mut [u8],
}

impl<S: Suite> Opened<'_, S> {
    /// What makes the next hop's α, where there is a next hop.
    fn factors(&self) -> Option<(&[u8; 32], &[u8; 32])> {
        matches!(self.command, RoutingCommand::Forward { .. }).then(|| (S::blinding(&self.keys), &*self.alpha))
    }
}

fn admit<'a, S: Suite>(keys: &impl NodeKeys, packet: &'a mut [u8]) -> Result<Admitted<'a>, PacketError> {
    let pieces = S::GEOMETRY.split(packet).ok_or(PacketError::WrongLength)?;
    let parity = S::read_prefix(pieces.header.prefix)?;
    keys.secret(parity)?;
    if is_canonical(pieces.header.alpha) { Ok(Admitted { parity, pieces }) } else { Err(PacketError::BadAlpha) }
}

fn open<'a, S: Suite>(
    node: &mut impl NodeKeys,
    packet: Admitted<'a>,
    shared: &[u8; 32],
) -> Result<Opened<'a, S>, PacketError> {
    let Admitted { parity, pieces: PacketPieces { header, delta } } = packet;
    if bool::from(shared.ct_eq(&[0; 32])) {
        return Err(PacketError::WeakSecret);
    }
    let keys = S::derive(shared);
    let HeaderPieces { prefix, alpha, gamma, beta } = header;
    if !S::mac(&keys, prefix, alpha, beta).matches(gamma) {
        return Err(PacketError::BadMac);
    }
    node.check_and_insert(parity, &S::replay_tag(&keys, alpha))?;
    let command = open_beta::<S>(&keys, beta, gamma)?;
    Ok(Opened { parity, keys, command, alpha, delta })
}

/// Reads this hop's block off β; if the packet goes on, β and γ become those of the next hop.
fn open_beta<S: Suite>(
    keys: &S::Keys,
    beta: &mut [u8],
    gamma: &mut [u8],
) -> Result<RoutingCommand<S::Hold, S::Last>, PacketError> {
    let block_len = S::GEOMETRY.block_len;
    let mut stream = S::stream(keys);
    stream.apply_keystream(beta);
    let (block, _) = beta.split_at_checked(block_len).ok_or(PacketError::BadCommand)?;
    let Block { command, next_gamma } = S::read_block(block)?;
    if let RoutingCommand::Forward { .. } = command {
        if next_gamma.len() != gamma.len() {
            return Err(PacketError::BadCommand);
        }
        gamma.copy_from_slice(next_gamma);
        beta.copy_within(block_len.., 0);
        let freed = beta.len().saturating_sub(block_len);
        if let Some(end) = beta.get_mut(freed..) {
            end.fill(0);
            stream.apply_keystream(end);
        }
    }
    Ok(command)
}

fn finish<S: Suite>(packet: Opened<'_, S>, next_alpha: impl FnOnce() -> [u8; 32]) -> UnwrapResult<S> {
    let Opened { parity, keys, command, alpha, delta } = packet;
    let hold = match command {
        RoutingCommand::Forward { hold, .. } => {
            *alpha = next_alpha();
            hold
        }
        RoutingCommand::Last(_) => S::Hold::default(),
    };
    S::decrypt_payload(&keys, delta);
    Ok(Unwrapped { action: S::action(command, delta)?, delay: S::delay(&keys, hold), parity })
}
