#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::Duration;

use betanet_mix::view::ConsensusHash;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::authority::tests::config;
use crate::authority::{Authority, AuthorityConfig, pages};
use crate::fixtures::{EPOCH_MS, consensus, key, sign};
use crate::{daemon, http};

/// INV-LINK-95
#[tokio::test]
async fn an_authority_signs_as_long_as_its_last_consensus_is_not_to_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let http = Some(([127, 0, 0, 1], 0).into());
    let config = AuthorityConfig { http, ..config(folder.path().to_owned()) };
    let authority = Authority::open(config).await.unwrap();
    let shared = Arc::clone(&authority.shared);
    let http = authority.http.unwrap();
    let address = http.local_addr().unwrap();
    pages::serve(http, &shared);
    let ask = async |lines: [&str; 4], trouble: &str| {
        let (answered, page) = http::get(address, "/metrics").await.unwrap();
        assert_eq!(200, answered);
        for line in lines {
            assert!(page.contains(&format!("\nbetanet_authority_{line}\n")), "{line}: {page}");
        }
        let (answered, health) = http::get(address, "/health").await.unwrap();
        assert!(answered == 200 && health.contains(trouble), "{answered}: {health}");
    };
    ask(["up 0", "epoch 0", "nodes{kind=\"middle\"} 0", "workers_listed 0"], "waits for nodes").await;

    let nodes = [key(), key()];
    let signed = consensus(&[&nodes[0], &nodes[1]], 0, ConsensusHash::default());
    let (epoch, fresh_ms, valid_ms) = (signed.epoch.0, signed.fresh_until_ms, signed.valid_until_ms);
    shared.consensuses.send_modify(|held| {
        assert!(Arc::make_mut(held).accept(&sign(signed, &shared.key), shared.time.now_ms()).unwrap());
    });
    let epoch = format!("epoch {epoch}");
    let dates = [("fresh", fresh_ms), ("valid", valid_ms)]
        .map(|(name, ms)| format!("consensus_{name}_until_timestamp_seconds {}", ms / 1000));
    ask(["up 1", &epoch, &dates[0], &dates[1]], "\"trouble\":null").await;
    ask(["nodes{kind=\"entry\"} 0", "nodes{kind=\"middle\"} 2", "nodes{kind=\"exit\"} 0", "up 1"], "ok").await;
    shared.time.set(shared.time.now_ms() + EPOCH_MS);
    ask(["up 0", &epoch, &dates[0], &dates[1]], "signed no consensus").await;
}

/// INV-LINK-36
#[tokio::test]
async fn connections_that_ask_for_nothing_give_way_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(config(folder.path().to_owned())).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    pages::serve(listener, &authority.shared);
    let mut silent = Vec::new();
    let counted = async {
        while authority.shared.counts.refused(Refused::HttpCrowded) == 0 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
    };
    tokio::time::timeout(Duration::from_mins(1), counted).await.unwrap();
}

/// INV-LINK-94
#[test]
fn no_metric_has_a_label_of_whoever_scrapes_it() {
    let node = blank(&daemon::metrics::Metrics::new(false));
    for page in [blank_page(), node] {
        let labels: Vec<_> =
            page.lines().filter_map(|line| line.split_once('{')?.1.split_once('=')).map(|(label, _)| label).collect();
        assert!(labels.contains(&"reason") && labels.contains(&"version"), "{labels:?}");
        for taken in ["service", "network", "instance", "job", "role"] {
            assert!(!labels.contains(&taken), "{taken}");
        }
    }
}

/// Where a test sees each reason counted.
const PROVOKED: [(Refused, &str); Refused::ALL.len()] = [
    (Refused::Descriptor, include_str!("../tests.rs")),
    (Refused::Unreachable, include_str!("../tests.rs")),
    (Refused::Worker, include_str!("../links/tests.rs")),
    (Refused::NotAnEdge, include_str!("../links/tests.rs")),
    (Refused::TooManyDescriptors, include_str!("../links/tests.rs")),
    (Refused::Unexpected, include_str!("../links/tests.rs")),
    (Refused::NoPlace, include_str!("../links/tests.rs")),
    (Refused::TooManyConnections, include_str!("../links/tests.rs")),
    (Refused::Handshake, include_str!("../links/tests.rs")),
    (Refused::Idle, include_str!("../links/tests.rs")),
    (Refused::Malformed, include_str!("../links/tests.rs")),
    (Refused::SlowReader, include_str!("../links/tests.rs")),
    (Refused::HttpCrowded, include_str!("tests.rs")),
];

/// Where a test sees another figure move, and by which words.
const MOVED: [(&str, &str, &str); 8] = [
    ("betanet_authority_up", include_str!("tests.rs"), "\"up 1\""),
    ("betanet_authority_epoch", include_str!("tests.rs"), "format!(\"epoch"),
    ("betanet_authority_consensus_fresh_until_timestamp_seconds", include_str!("tests.rs"), "(\"fresh\", fresh_ms)"),
    ("betanet_authority_consensus_valid_until_timestamp_seconds", include_str!("tests.rs"), "(\"valid\", valid_ms)"),
    ("betanet_authority_nodes", include_str!("tests.rs"), "nodes{kind=\\\"middle\\\"} 2"),
    (
        "betanet_authority_workers_listed",
        include_str!("../../../../betanet-mix/src/directory/workers/tests.rs"),
        "workers.live(",
    ),
    ("betanet_authority_descriptors_total", include_str!("../tests.rs"), "counts.descriptors.get()"),
    ("betanet_authority_refused_total", include_str!("tests.rs"), "format!(\"Refused::"),
];

#[test]
fn a_test_sees_each_figure_move() {
    let page = blank_page();
    let exported = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let own: Vec<_> = exported.filter(|name| name.starts_with("betanet_authority_")).collect();
    assert_eq!(MOVED.map(|(name, ..)| name).as_slice(), own);
    for (name, tests, words) in MOVED {
        assert!(tests.contains(words), "{name}");
    }
}

#[test]
fn a_test_sees_each_reason_counted() {
    assert_eq!(Refused::ALL, PROVOKED.map(|(why, _)| why));
    for (why, tests) in PROVOKED {
        assert!(tests.contains(&format!("Refused::{why:?}")), "{why:?}");
    }
}
