//! What the integration tests share: a network of nodes with seeded keys, and an exact replay filter.

use std::collections::HashSet;

use betanet_sphinx::{
    Action, DelayInput, Hop, MAX_HOPS, MailboxId, NodeId, PACKET_LEN, PacketError, ReplayFilter, ReplayTag, SecretKey,
    SurbId, Unwrapped, build_forward, unwrap,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub(crate) const MAILBOX: [u8; 16] = *b"mailbox of alice";
pub(crate) const SURB_ID: [u8; 16] = *b"surb number four";

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Remembers every tag.
#[derive(Default)]
pub(crate) struct Seen(HashSet<ReplayTag>);

impl ReplayFilter for Seen {
    fn check_and_insert(&mut self, tag: &ReplayTag) -> Result<(), PacketError> {
        if self.0.insert(*tag) { Ok(()) } else { Err(PacketError::Replay) }
    }
}

impl Seen {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

pub(crate) struct Node {
    pub(crate) secret: SecretKey,
    pub(crate) seen: Seen,
    pub(crate) hop: Hop,
}

/// Seven nodes in path order.
pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    pub(crate) rng: ChaCha20Rng,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = rng(seed);
        let nodes = (0..MAX_HOPS)
            .map(|_| {
                let secret = SecretKey::generate(&mut rng);
                let mut id = [0; 32];
                rng.fill_bytes(&mut id);
                let hop = Hop { node: NodeId::from(id), key: secret.public() };
                Node { secret, seen: Seen::default(), hop }
            })
            .collect();
        Self { nodes, rng }
    }

    pub(crate) fn path(&self, hops: usize) -> Vec<Hop> {
        self.nodes[..hops].iter().map(|node| node.hop).collect()
    }

    pub(crate) fn forward(&mut self, hops: usize, payload: &[u8]) -> ([u8; PACKET_LEN], Vec<DelayInput>) {
        let mut packet = [0; PACKET_LEN];
        let path = self.path(hops);
        let delays = build_forward(&mut self.rng, 1, &path, MAILBOX.into(), payload, &mut packet).unwrap();
        (packet, delays)
    }

    pub(crate) fn unwrap_at(&mut self, hop: usize, packet: &mut [u8]) -> Result<Unwrapped, PacketError> {
        let node = &mut self.nodes[hop];
        unwrap(&node.secret, packet, &mut node.seen)
    }

    /// Carries a packet over its whole path, checking each hop, and returns what the last one says.
    pub(crate) fn carry(&mut self, hops: usize, packet: &mut [u8], delays: &[DelayInput]) -> Action {
        assert_eq!(hops, delays.len());
        for (hop, delay) in delays.iter().enumerate() {
            let unwrapped = self.unwrap_at(hop, packet).unwrap();
            assert_eq!(*delay, unwrapped.delay);
            if hop + 1 == hops {
                return unwrapped.action;
            }
            assert_eq!(Action::Forward { next: self.nodes[hop + 1].hop.node }, unwrapped.action);
        }
        unreachable!("a path has at least one hop")
    }
}

pub(crate) fn mailbox() -> MailboxId {
    MAILBOX.into()
}

pub(crate) fn surb_id() -> SurbId {
    SURB_ID.into()
}

/// Calls `check` with each bit of `range` of a copy of `packet` flipped.
pub(crate) fn flip_each_bit(packet: &[u8], range: std::ops::Range<usize>, mut check: impl FnMut(usize, &mut [u8])) {
    for bit in range.start * 8..range.end * 8 {
        let mut altered = packet.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        check(bit, &mut altered);
    }
}
