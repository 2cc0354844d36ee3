//! One client sends faster than its edge works: it is held back, nothing of it is lost, and others are served.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use betanet_mix::directory::Consensuses;
use betanet_mix::message::{EnvelopeKind, SEALED_LEN, encode_envelope};
use betanet_mix::view::{NetworkView, Signed};
use betanet_node::clock::wall_ms;
use betanet_node::daemon::NodeRecord;
use betanet_node::link::{Dialer, Frame, LinkTimeouts};
use betanet_node::state::read_json;
use betanet_sphinx::{MailboxId, NodeId, PACKET_LEN, build_forward};
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::harness::{Net, betanet, client, dropped, eventually, take};

/// Packets that may wait at a node, and as many for their delay.
const DEPTH: &str = "96";

/// Packets of the flood that are sent in one go: more than an edge has room for.
const AT_ONCE: usize = 400;

/// Messages of the honest client.
const MESSAGES: u8 = 8;

/// Good packets that end at `node`, in a mailbox that nobody has.
fn packets(view: &NetworkView, node: NodeId, rng: &mut ChaCha20Rng) -> Vec<[u8; PACKET_LEN]> {
    let epoch = view.sending_epoch(wall_ms());
    let path = [view.hop(node, epoch).unwrap()];
    let payload = encode_envelope(rng, EnvelopeKind::Plain, None, &[0; SEALED_LEN]);
    let mut all = vec![[0; PACKET_LEN]; AT_ONCE];
    for packet in &mut all {
        build_forward(rng, epoch.parity(), &path, MailboxId::from([7; MailboxId::LEN]), &payload, packet).unwrap();
    }
    all
}

/// INV-LINK-83
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_floods_its_edge_is_held_back_and_others_get_through() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("net");
    let mut command = betanet();
    command.env("MAX_QUEUE_DEPTH", DEPTH);
    let small = ["--entry", "1", "--middle", "1", "--exit", "1", "--epoch", "1h", "--mean-delay", "5ms"];
    let net = Net::start_as(command, &folder, &small, Stdio::null());
    let file = net.file();
    let mut held = Consensuses::new(file.network.clone(), file.authority.id);
    for document in read_json::<Vec<Signed>>(&folder.join("entry-0/consensus.json"), "cache").unwrap().unwrap() {
        held.accept(&document, wall_ms()).unwrap();
    }
    let view = Arc::clone(held.at(wall_ms()).unwrap());
    let edge: NodeRecord = read_json(&folder.join("entry-0/node.json"), "record").unwrap().unwrap();

    let key = SigningKey::from_bytes(&[41; 32]);
    let dialer = Dialer::new(&key, LinkTimeouts::default()).unwrap();
    let (link, _reader) = dialer.dial(&edge.link_address, *edge.id.as_bytes(), AT_ONCE).await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let flood = tokio::spawn({
        let (view, id, is_over) = (Arc::clone(&view), edge.id, Arc::clone(&is_over));
        async move {
            let (mut rng, mut sent) = (ChaCha20Rng::seed_from_u64(3), 0);
            while sent == 0 || !is_over.load(Ordering::Relaxed) {
                for packet in packets(&view, id, &mut rng) {
                    link.send(Frame::packet(packet.to_vec())).await.unwrap();
                    sent += 1;
                }
            }
            link.finish().await;
            sent
        }
    });

    let (bob, alice) = (client(&net, &dir, "bob").await, client(&net, &dir, "alice").await);
    for number in 0..MESSAGES {
        alice.send(&bob.address(), vec![number], 3).await.unwrap();
        assert_eq!(vec![number], take(&bob).await);
    }
    is_over.store(true, Ordering::Relaxed);
    let sent = flood.await.unwrap();
    eventually("all of the flood has come to its end", async || {
        dropped(edge.http_address, "unknown_mailbox").await == sent
    })
    .await;
    for reason in ["ingress_full", "delay_queue_full"] {
        assert_eq!(0, dropped(edge.http_address, reason).await, "{reason}");
    }
    alice.close().await;
    bob.close().await;
    assert_eq!(Some(0), net.terminate());
}
