//! Our packets: pools of work that can be done again and again.

use betanet_sphinx::{
    BuildError, Draft, Hop, MailboxId, Maker, NodeId, NodeKeys, PacketError, ReplayFilter, ReplayTag, SecretKey,
    UnwrapResult, build_forward_batch, unwrap_batch_with, unwrap_with,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{BATCH, HOPS};

/// Lets every packet pass: what a memory of tags costs is not the packet code's affair.
struct Open;

impl ReplayFilter for Open {
    fn check_and_insert(&mut self, _: &ReplayTag) -> Result<(), PacketError> {
        Ok(())
    }
}

/// One key and no memory.
struct OpenNode(SecretKey);

impl NodeKeys for OpenNode {
    fn secret(&self, _: u8) -> Result<&SecretKey, PacketError> {
        Ok(&self.0)
    }

    fn check_and_insert(&mut self, _: u8, _: &ReplayTag) -> Result<(), PacketError> {
        Ok(())
    }
}

/// A path of nodes whose secrets are known.
struct Route {
    secrets: Vec<SecretKey>,
    hops: Vec<Hop>,
}

impl Route {
    fn new(rng: &mut ChaCha20Rng) -> Self {
        let secrets: Vec<_> = (0..HOPS).map(|_| SecretKey::generate(rng)).collect();
        let hop = |secret: &SecretKey| {
            let mut id = [0; NodeId::LEN];
            rng.fill_bytes(&mut id);
            Hop { node: id.into(), key: secret.public() }
        };
        let hops = secrets.iter().map(hop).collect();
        Self { secrets, hops }
    }
}

/// Building a batch of packets.
pub struct Create<S: Maker> {
    rng: ChaCha20Rng,
    route: Route,
    to: S::Recipient,
    payload: Vec<u8>,
    out: Vec<Vec<u8>>,
}

impl<S: Maker> Create<S>
where
    S::Recipient: From<MailboxId>,
{
    /// Packets of suite `S`, full of payload.
    #[must_use]
    pub fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let route = Route::new(&mut rng);
        let out = vec![vec![0; S::GEOMETRY.packet_len]; BATCH];
        let payload = vec![13; S::GEOMETRY.user_payload_len];
        Self { rng, route, to: MailboxId::from([3; MailboxId::LEN]).into(), payload, out }
    }

    /// Builds a batch and says how many packets it has.
    ///
    /// # Errors
    /// A packet that could not be built.
    pub fn run(&mut self) -> Result<usize, BuildError> {
        let draft = Draft::<S> { parity: 0, path: &self.route.hops, holds: &[], to: self.to, payload: &self.payload };
        let outcomes = build_forward_batch(&mut self.rng, &[draft; BATCH], &mut self.out);
        outcomes.into_iter().try_fold(0, |count, outcome| outcome.map(|_| count + 1))
    }
}

impl<S: Maker> Default for Create<S>
where
    S::Recipient: From<MailboxId>,
{
    fn default() -> Self {
        Self::new()
    }
}

/// Unwrapping a batch of packets at the first hop of their path.
pub struct Unwrap<S: Maker> {
    node: OpenNode,
    received: Vec<Vec<u8>>,
    work: Vec<Vec<u8>>,
    outcomes: Vec<UnwrapResult<S>>,
}

impl<S: Maker> Unwrap<S>
where
    S::Recipient: From<MailboxId>,
{
    /// Packets of suite `S`, full of payload.
    ///
    /// # Errors
    /// The packets could not be built.
    pub fn new() -> Result<Self, crate::Failure> {
        let mut create = Create::<S>::new();
        create.run()?;
        let secret = create.route.secrets.into_iter().next().ok_or("the path has no hops")?;
        let work = create.out.clone();
        Ok(Self { node: OpenNode(secret), received: create.out, work, outcomes: Vec::new() })
    }

    /// Copies what was received, unwraps it as a batch and says how many packets passed.
    pub fn run(&mut self) -> usize {
        self.copy();
        unwrap_batch_with::<S, _>(&mut self.node, &mut self.work, &mut self.outcomes);
        self.outcomes.iter().flatten().count()
    }

    /// As [`Self::run`], one packet after the other.
    pub fn run_one_by_one(&mut self) -> usize {
        self.copy();
        let secret = &self.node.0;
        self.work.iter_mut().filter_map(|packet| unwrap_with::<S>(secret, packet, &mut Open).ok()).count()
    }

    fn copy(&mut self) {
        for (work, received) in self.work.iter_mut().zip(&self.received) {
            work.copy_from_slice(received);
        }
    }
}
