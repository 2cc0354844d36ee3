//! Small networks for the tests of this crate.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use betanet_sphinx::{MailboxId, NodeId, SecretKey};
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::epoch::Epoch;
use crate::random;
use crate::view::{
    Consensus, ConsensusHash, DelaySection, Mailbox, Member, NetworkView, NodeDescriptor, Prefix, Role, Verified,
    node_id_of,
};
use crate::vrf;

pub(crate) const EPOCH: Epoch = Epoch(100);
pub(crate) const EPOCH_MS: u64 = 600_000;
pub(crate) const NOW_MS: u64 = EPOCH.0 * EPOCH_MS + 60_000;

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Another generator at every call, for what has to be new and nothing else.
pub(crate) fn fresh_rng() -> ChaCha20Rng {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
    rng(NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn signing_key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&random::bytes(&mut rng(1000 + u64::from(number))))
}

/// Node number `number`; its operator and its /16 follow from `party`.
pub(crate) fn node(number: u8, role: Role, party: u8) -> NodeDescriptor {
    let key = SecretKey::generate(&mut rng(u64::from(number))).public();
    NodeDescriptor {
        id: node_id_of(&signing_key(number)),
        role,
        link_address: SocketAddr::from((Ipv4Addr::new(10, party, 0, number), 9000)).try_into().unwrap(),
        keys: [EPOCH.previous(), EPOCH, EPOCH.next()].map(|epoch| (epoch, key)).into(),
        vrf_key: vrf::VrfSecretKey::from_seed(&[number; 32]).public(),
        delay_proofs: Vec::new(),
        issued_ms: NOW_MS - 1,
        expires_ms: NOW_MS + EPOCH_MS,
    }
}

/// The same node as a consensus lists it.
pub(crate) fn member(number: u8, role: Role, party: u8) -> Member {
    let prefix = Prefix::of(Ipv4Addr::new(10, party, 0, number).into());
    Member { descriptor: node(number, role, party), operator: format!("party {party}"), prefix }
}

pub(crate) fn id(number: u8) -> NodeId {
    node_id_of(&signing_key(number))
}

pub(crate) fn mailbox(number: u8) -> Mailbox {
    Mailbox { edge: id(number), mailbox: MailboxId::from([number; 16]) }
}

/// Two entries (0, 1), two exits (2, 3), and middles from 10 on, each of its own party.
pub(crate) fn nodes(middles: u8) -> Vec<Member> {
    let edges = [(0, Role::Entry), (1, Role::Entry), (2, Role::Exit), (3, Role::Exit)];
    let edges = edges.map(|(number, role)| member(number, role, number));
    edges.into_iter().chain((10..10 + middles).map(|number| member(number, Role::Middle, number))).collect()
}

pub(crate) fn consensus(nodes: Vec<Member>) -> Consensus {
    Consensus {
        network: "fixture".to_owned(),
        epoch: EPOCH,
        revision: 0,
        epoch_length_ms: EPOCH_MS,
        skew_ms: 30_000,
        mean_delay_ms: 15,
        valid_after_ms: EPOCH.0 * EPOCH_MS,
        fresh_until_ms: EPOCH.next().0 * EPOCH_MS,
        valid_until_ms: (EPOCH.0 + 2) * EPOCH_MS,
        previous_hash: ConsensusHash::default(),
        one_operator: false,
        delays: DelaySection::default(),
        nodes,
    }
}

pub(crate) fn view_of(consensus: Consensus) -> NetworkView {
    NetworkView::new(Verified::sign(consensus, &signing_key(200)).unwrap()).unwrap()
}

pub(crate) fn view(middles: u8) -> NetworkView {
    view_of(consensus(nodes(middles)))
}
