//! A network of one consensus, for the tests of this crate.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::net::SocketAddr;

use betanet_mix::epoch::Epoch;
use betanet_mix::view::{
    Consensus, ConsensusHash, DelaySection, Member, NodeDescriptor, Prefix, Role, Signed, Verified, node_id_of,
};
use betanet_mix::vrf;
use betanet_sphinx::SecretKey;
use ed25519_dalek::SigningKey;
use tokio::net::TcpListener;

use crate::clock::wall_ms;
use crate::link::{Dialer, LinkSender, LinkTimeouts, Listener};
use crate::random::os_rng;

pub(crate) const EPOCH_MS: u64 = 3_600_000;
pub(crate) const NETWORK: &str = "test";
/// Where the nodes of the consensus say that they take links.
pub(crate) const ANNOUNCED: [u8; 4] = [127, 0, 0, 3];

pub(crate) fn key() -> SigningKey {
    SigningKey::generate(&mut os_rng())
}

/// A link with a queue of so many frames, and a peer that reads nothing.
pub(crate) async fn link(queue: usize) -> (LinkSender, impl Sized) {
    let server = key();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = Listener::new(tcp, &server, LinkTimeouts::default()).unwrap();
    let address = listener.local_addr().unwrap().try_into().unwrap();
    let accept = async { listener.accept().await.unwrap().handshake(1).await.unwrap() };
    let dialer = Dialer::new(&key(), LinkTimeouts::default()).unwrap();
    let dial = dialer.dial(&address, server.verifying_key().to_bytes(), queue);
    let (accepted, dialled) = tokio::join!(accept, dial);
    (dialled.unwrap().0, accepted)
}

/// A consensus in force now that lists the owners of `nodes`.
pub(crate) fn consensus(nodes: &[&SigningKey], revision: u32, previous_hash: ConsensusHash) -> Consensus {
    let epoch = Epoch(wall_ms() / EPOCH_MS);
    // Right for the first revision after the opening one, and as good as any for later ones.
    let opening_hash = if revision == 0 { ConsensusHash::default() } else { previous_hash };
    let start = epoch.0 * EPOCH_MS;
    let describe = |key: &&SigningKey| NodeDescriptor {
        id: node_id_of(key),
        role: Role::Middle,
        link_address: SocketAddr::from((ANNOUNCED, 1)).try_into().unwrap(),
        keys: [(epoch, SecretKey::generate(&mut os_rng()).public())].into(),
        vrf_key: vrf::VrfSecretKey::from_seed(key.as_bytes()).public(),
        delay_proofs: Vec::new(),
        issued_ms: start,
        expires_ms: start + EPOCH_MS,
    };
    let prefix = Prefix::of(ANNOUNCED.into());
    let member = |key| Member { descriptor: describe(key), operator: "test".into(), prefix };
    Consensus {
        network: NETWORK.into(),
        epoch,
        revision,
        epoch_length_ms: EPOCH_MS,
        skew_ms: 30_000,
        mean_delay_ms: 15,
        valid_after_ms: start,
        fresh_until_ms: start + EPOCH_MS,
        valid_until_ms: start + 2 * EPOCH_MS + 30_000,
        previous_hash,
        one_operator: true,
        delays: DelaySection { opening_hash, ..DelaySection::default() },
        nodes: nodes.iter().map(member).collect(),
    }
}

pub(crate) fn sign(consensus: Consensus, key: &SigningKey) -> Signed {
    Verified::sign(consensus, key).unwrap().signed().clone()
}
