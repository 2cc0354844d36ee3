#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_mix::view::{Signed, node_id_of};
use tokio::net::TcpListener;

use super::*;
use crate::control::{Answer, Request};
use crate::fixtures::{NETWORK, key};
use crate::link::{LinkTimeouts, Listener};
use crate::net::Endpoint;
use crate::state::write_json;

/// INV-LINK-19
#[tokio::test]
async fn what_the_authority_refuses_costs_no_link() {
    let folder = tempfile::tempdir().unwrap();
    let (own, authority) = (key(), key());
    let id = node_id_of(&authority);
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = Listener::new(tcp, &authority, LinkTimeouts::default()).unwrap();
    let address = listener.local_addr().unwrap().try_into().unwrap();
    let net = NetFile {
        network: NETWORK.into(),
        authority: Endpoint { id, address },
        edges: Vec::new(),
        one_operator: true,
        http: [].into(),
    };
    let bootstrap = folder.path().join("net.json");
    write_json(&bootstrap, &net).unwrap();
    let described = |content: &str| Described {
        signed: Some(Signed { content: content.into(), signatures: Vec::new() }),
        moves: 0,
    };
    let descriptor = watch::Sender::new(described("first"));
    let consensuses = watch::Sender::new(Arc::new(Consensuses::new(NETWORK.into(), id)));
    let _wanted = consensuses.subscribe();
    let refusal = watch::Sender::default();
    let mut refused = refusal.subscribe();
    let directory = Uplink {
        refusal,
        token: None,
        owed: watch::Sender::default(),
        time: NetworkClock::from_wall(),
        bootstrap,
        authority: net.authority,
        dialer: Dialer::new(&own, LinkTimeouts::default()).unwrap(),
        descriptor: descriptor.subscribe(),
        consensuses,
        cache: folder.path().join("consensus.json"),
        metrics: Arc::new(Metrics::new(true)),
    }
    .start();

    // One link for everything; the authority gives consensuses and refuses all the rest.
    let (_, sender, mut reader) = listener.accept().await.unwrap().handshake(8).await.unwrap();
    let mut refuse = async |wanted: &str| {
        loop {
            let Received::Message(message) = reader.next().await.unwrap() else {
                panic!("no request");
            };
            let Request { id, op } = Received::message(&message).unwrap();
            let name = match &op {
                Op::PutDescriptor { descriptor, .. } => descriptor.content.clone(),
                other => format!("{other:?}"),
            };
            let outcome = match op {
                Op::GetConsensus { .. } => Outcome::Consensus { documents: Vec::new() },
                _ => Outcome::Refused { reason: "because".into() },
            };
            sender.send_message(&Answer::Reply { id, outcome }).await.unwrap();
            if name.contains(wanted) {
                return;
            }
        }
    };
    refuse("first").await;
    for _ in 0..2 {
        let (outcome, ()) = tokio::join!(directory.relay(Op::GetWorkers { have: None }), refuse("GetWorkers"));
        assert!(matches!(outcome, Given::Outcome(Outcome::Refused { reason }) if reason == "because"));
    }
    // The refused descriptor comes again, and so does a newer one.
    refuse("first").await;
    descriptor.send_replace(described("second"));
    refuse("second").await;
    // `/health` shows why the node is not listed.
    refused.wait_for(|reason| reason.as_deref() == Some("because")).await.unwrap();
}
