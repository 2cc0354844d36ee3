#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

use betanet_mix::epoch::Epoch;
use betanet_mix::view::{Consensus, ConsensusHash, Signed, node_id_of};
use tokio::net::TcpListener;

use super::*;
use crate::control::{Answer, Request};
use crate::fixtures::{EPOCH_MS, NETWORK, consensus, key, sign};
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
        cache: ConsensusFile::new(folder.path().join("consensus.json")),
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

/// INV-LINK-88
#[tokio::test]
async fn consensuses_that_come_while_others_are_written_are_all_held_and_what_went_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let authority = key();
    let id = node_id_of(&authority);
    let consensuses = watch::Sender::new(Arc::new(Consensuses::new(NETWORK.into(), id)));
    let cache = ConsensusFile::new(folder.path().join("consensus.json"));
    let documents = Documents {
        consensuses: &consensuses,
        cache: &cache,
        metrics: &Metrics::new(true),
        time: &NetworkClock::from_wall(),
        said: &Said::default(),
    };
    let present = consensus(&[], 0, ConsensusHash::default());
    // None of them follows another at once, so that each may have any beacon.
    let epochs = [-1, 1, 7].map(|ahead| present.epoch.0.saturating_add_signed(ahead));
    let [former, next, far] = epochs.map(|epoch| {
        let mut consensus = Consensus { epoch: Epoch(epoch), ..present.clone() };
        for date in [&mut consensus.valid_after_ms, &mut consensus.fresh_until_ms, &mut consensus.valid_until_ms] {
            *date = *date + epoch * EPOCH_MS - present.epoch.0 * EPOCH_MS;
        }
        [sign(consensus, &authority)]
    });
    let held = |consensuses: &Consensuses| {
        let epochs = consensuses.live(present.valid_after_ms).map(|view| view.consensus().epoch.0);
        epochs.collect::<Vec<_>>()
    };
    // The authority announces one, and answers with the other, before either is on the disk.
    tokio::join!(documents.accept(&former), documents.accept(&next));
    assert_eq!(epochs[..2], held(&consensuses.borrow()));
    let mut kept = Consensuses::new(NETWORK.into(), id);
    read_cache(&folder.path().join("consensus.json"), &mut kept, present.valid_after_ms).unwrap();
    assert_eq!(epochs[..2], held(&kept));

    // The clock is set back while one from its future is written.
    let set_back = async {
        consensuses.send_modify(|consensuses| {
            assert!(Arc::make_mut(consensuses).forget_after(present.valid_after_ms));
        });
    };
    tokio::join!(documents.accept(&far), set_back);
    assert_eq!(epochs[..2], held(&consensuses.borrow()));
}

#[tokio::test]
async fn a_second_consensus_in_the_place_of_the_first_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let authority = key();
    let consensuses = watch::Sender::new(Arc::new(Consensuses::new(NETWORK.into(), node_id_of(&authority))));
    let metrics = Metrics::new(true);
    let documents = Documents {
        consensuses: &consensuses,
        cache: &ConsensusFile::new(folder.path().join("consensus.json")),
        metrics: &metrics,
        time: &NetworkClock::from_wall(),
        said: &Said::default(),
    };
    let member = key();
    for nodes in [&[][..], &[&member]] {
        documents.accept(&[sign(consensus(nodes, 0, ConsensusHash::default()), &authority)]).await;
    }
    assert_eq!(1, metrics.dropped("equivocation"));
}
