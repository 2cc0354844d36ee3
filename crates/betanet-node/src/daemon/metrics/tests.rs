#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::metrics::{Exporter, blank};

/// INV-LINK-09
#[test]
fn coarse_counters_step_in_thousands_and_hold_for_a_minute() {
    let metrics = Arc::new(Metrics::new(false));
    let exporter = Exporter::new(&metrics);
    let start = Instant::now();
    metrics.processed.add(1999);
    metrics.drop_one("bad_mac");
    let text = exporter.render(start);
    assert!(text.contains("betanet_packets_processed_total 1000\n"), "{text}");
    assert!(text.contains("betanet_packets_dropped_total{reason=\"bad_mac\"} 0\n"), "{text}");
    metrics.processed.add(5000);
    assert_eq!(text, exporter.render(start + Duration::from_secs(59)));
    let text = exporter.render(start + Duration::from_mins(1));
    assert!(text.contains("betanet_packets_processed_total 6000\n"), "{text}");
}

/// INV-LINK-09
#[test]
fn bytes_on_links_step_with_the_number_of_frames() {
    let frame = u64::try_from(FRAME_LEN).unwrap();
    let metrics = Metrics::new(false);
    let before = blank(&metrics);
    for _ in 0..999 {
        metrics.bytes_in.add(frame);
        metrics.bytes_out.add(frame);
        assert_eq!(before, blank(&metrics));
    }
    metrics.bytes_in.add(frame);
    let text = blank(&metrics);
    assert!(text.contains(&format!("betanet_link_bytes_total{{direction=\"in\"}} {}\n", 1000 * frame)), "{text}");
    assert!(text.contains("betanet_link_bytes_total{direction=\"out\"} 0\n"), "{text}");
    let exact = Metrics::new(true);
    exact.bytes_in.add(7 * frame);
    assert!(blank(&exact).contains(&format!("betanet_link_bytes_total{{direction=\"in\"}} {}\n", 7 * frame)));
}

/// INV-LINK-15
#[test]
fn a_dropped_packet_does_not_change_the_page() {
    let metrics = Metrics::new(false);
    let before = blank(&metrics);
    for reason in reasons() {
        assert!(before.contains(&format!("betanet_packets_dropped_total{{reason=\"{reason}\"}} 0\n")), "{before}");
        metrics.drop_one(reason);
    }
    assert_eq!(before, blank(&metrics));
}

/// INV-LINK-09, INV-LINK-15
#[test]
fn one_packet_and_one_client_more_do_not_change_what_is_shown_of_traffic() {
    let metrics = Metrics::new(false);
    let shown = || {
        let mut page = Page::default();
        metrics.write_traffic(&mut page);
        page.into_text()
    };
    let before = shown();
    for count in [
        &metrics.processed,
        &metrics.forwarded,
        &metrics.delivered,
        &metrics.cover,
        &metrics.bytes_in,
        &metrics.bytes_out,
    ] {
        count.add(999);
    }
    for level in [
        &metrics.ingress_depth,
        &metrics.delay_depth,
        &metrics.pool_free,
        &metrics.pool_taken,
        &metrics.client_links,
        &metrics.replay_entries,
        &metrics.replay_memory,
        &metrics.mailbox_items,
        &metrics.mailboxes,
    ] {
        level.set(999);
    }
    for times in [&metrics.hop_delay, &metrics.hop_late, &metrics.unwrap] {
        times.observe_shared(Duration::from_secs(9), 999);
    }
    assert_eq!(before, shown());
    // What else there is to be seen of it, every node of the network knows.
    metrics.node_links.set(7);
    let others: Vec<_> =
        before.lines().zip(shown().lines()).filter(|(one, other)| one != other).map(|(_, it)| it.to_owned()).collect();
    assert_eq!(["betanet_links{kind=\"node\"} 7"].as_slice(), others);
    metrics.processed.add(1);
    assert!(shown().contains("\nbetanet_packets_processed_total 1000\n"));
}

#[test]
fn the_specification_lists_every_reason_of_the_node() {
    let spec = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/spec/link.md")).unwrap();
    let (_, listed) = spec
        .split_once(
            "\nReasons: those of [packet errors](packet.md) but for the wrong length, which no frame has, and `",
        )
        .unwrap();
    let (listed, _) = listed.split_once('`').unwrap();
    let mut listed: Vec<&str> = listed.split(',').map(str::trim).collect();
    listed.sort_unstable();
    assert_eq!(REASONS.as_slice(), listed);
}

/// The tests that provoke what a reason counts, and see it counted.
const PROVOKED: [(&str, &[&str]); 10] = [
    (
        "tests/mixer.rs",
        &[
            "unknown_version",
            "bad_parity",
            "no_beacon",
            "bad_alpha",
            "weak_secret",
            "bad_mac",
            "bad_command",
            "bad_payload",
            "replay",
            "replay_cache_full",
            "no_key",
        ],
    ),
    ("tests/localnet/crowds.rs", &["http_crowded"]),
    ("tests/localnet/delivery.rs", &["handshake_failed"]),
    ("src/daemon/mixer/tests.rs", &["ingress_full", "delay_queue_full", "replay_log_failed"]),
    ("src/daemon/egress.rs", &["egress_full", "link_closed", "link_down", "unknown_next"]),
    (
        "src/daemon/edge/tests.rs",
        &[
            "bad_envelope",
            "bad_item",
            "bad_surb",
            "edge_full",
            "mailbox_full",
            "not_an_edge",
            "owner_away",
            "unknown_mailbox",
        ],
    ),
    ("src/daemon/mailboxes/tests.rs", &["item_expired", "mailbox_evicted"]),
    ("src/daemon/mailboxes/tests/faults.rs", &["item_evicted", "store_busy", "store_failed"]),
    ("src/daemon/authority_link/tests.rs", &["equivocation"]),
    (
        "src/daemon/inbound/tests.rs",
        &[
            "accept_failed",
            "handshake_timeout",
            "idle_client",
            "mailbox_taken",
            "malformed_frame",
            "shut_out",
            "slow_reader",
            "too_many_clients",
            "too_many_connections",
            "too_many_mailboxes",
            "too_many_newcomers",
            "too_many_node_links",
            "too_many_publications",
            "too_much_garbage",
            "unknown_peer",
        ],
    ),
];

/// The tests that see another figure move, and the words by which they do.
const MOVED: [(&str, &str, &str); 26] = [
    ("betanet_packets_processed_total", "tests/mixer.rs", "metrics.processed.get()"),
    ("betanet_packets_forwarded_total", "src/daemon/egress.rs", "metrics.forwarded.get()"),
    ("betanet_packets_delivered_total", "src/daemon/edge/tests.rs", "metrics.delivered.get()"),
    ("betanet_cover_packets_total", "src/daemon/edge/tests.rs", "metrics.cover.get()"),
    ("betanet_packets_dropped_total", "src/daemon/metrics/tests.rs", "PROVOKED"),
    ("betanet_link_bytes_total", "src/daemon/egress.rs", "metrics.bytes_out.get()"),
    ("betanet_link_bytes_total", "src/daemon/inbound/tests.rs", "metrics.bytes_in.get()"),
    ("betanet_queue_depth", "src/daemon/mixer/tests.rs", "metrics.ingress_depth"),
    ("betanet_queue_depth", "src/daemon/mixer/tests.rs", "metrics.delay_depth"),
    ("betanet_queue_capacity", "src/daemon/mixer/tests.rs", "metrics.queue_capacity"),
    ("betanet_pool_buffers", "src/daemon/mixer/tests.rs", "metrics.pool_taken"),
    ("betanet_pool_buffers", "src/daemon/mixer/tests.rs", "metrics.pool_free"),
    ("betanet_links", "src/daemon/inbound/tests.rs", "metrics.client_links.get(), metrics.node_links.get()"),
    ("betanet_replay_entries", "src/daemon/rounds.rs", "metrics.replay_entries"),
    ("betanet_replay_capacity", "src/daemon/rounds.rs", "metrics.replay_capacity"),
    ("betanet_replay_memory_bytes", "src/daemon/rounds.rs", "metrics.replay_memory"),
    ("betanet_mailbox_items", "src/daemon/edge/tests.rs", "metrics.mailbox_items.get()"),
    ("betanet_mailboxes", "src/daemon/edge/tests.rs", "metrics.mailboxes.get()"),
    ("betanet_hop_delay_seconds", "tests/mixer.rs", "hop_delay"),
    ("betanet_hop_late_seconds", "tests/mixer.rs", "hop_late"),
    ("betanet_unwrap_seconds", "tests/mixer.rs", "\"unwrap\""),
    ("betanet_epoch", "src/daemon/rounds.rs", "metrics.epoch"),
    ("betanet_health_status", "tests/localnet/command_line.rs", "betanet_health_status"),
    ("betanet_exact_metrics", "src/daemon/metrics/tests.rs", "betanet_exact_metrics 1\\n\","),
    ("betanet_consensus_", "src/daemon/rounds.rs", "metrics.valid_until_ms"),
    ("betanet_packet_key_not_after_timestamp_seconds", "src/daemon/rounds.rs", "metrics.key_not_after_ms"),
];

fn tests_of(file: &str) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    text.split_once("#[cfg(test)]\nmod tests {").map_or(text.clone(), |(_, tests)| tests.to_owned())
}

#[test]
fn a_test_sees_each_reason_counted() {
    let mut provoked = Vec::new();
    for (file, reasons) in PROVOKED {
        let tests = tests_of(file);
        for reason in reasons {
            assert!(tests.contains(&format!("\"{reason}\"")), "{reason} in {file}");
            provoked.push(*reason);
        }
    }
    let mut listed: Vec<_> = reasons().collect();
    provoked.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, provoked);
}

#[test]
fn a_test_sees_each_figure_move() {
    for (name, file, words) in MOVED {
        assert!(tests_of(file).contains(words), "{name} in {file}");
    }
    // What all processes export has tests of its own.
    let of_processes = ["process_", "betanet_build_info"];
    let page = blank(&Metrics::new(false));
    for name in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        let is_moved = MOVED.iter().any(|(moved, ..)| name.starts_with(moved));
        assert!(is_moved || of_processes.iter().any(|prefix| name.starts_with(prefix)), "{name}");
    }
}

#[test]
fn every_reason_that_a_node_counts_is_listed() {
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut counted = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            let calls = ["drop_one(\"", "drop_many(\""].into_iter().flat_map(|call| source.split(call).skip(1));
            for reason in calls.filter_map(|call| call.split('"').next()) {
                assert!(reasons().any(|listed| listed == reason), "{reason} of {}", path.display());
                counted += 1;
            }
        }
    }
    assert!(counted > 20, "{counted}");
}

#[test]
fn exact_counters_are_exact_at_once() {
    let metrics = Arc::new(Metrics::new(true));
    let exporter = Exporter::new(&metrics);
    let now = Instant::now();
    assert!(exporter.render(now).contains("betanet_packets_processed_total 0\n"));
    metrics.processed.add(3);
    metrics.hop_delay.observe(Duration::from_millis(15));
    let text = exporter.render(now);
    for line in [
        "betanet_packets_processed_total 3\n",
        "betanet_exact_metrics 1\n",
        "betanet_hop_delay_seconds_bucket{le=\"0.01\"} 0\n",
        "betanet_hop_delay_seconds_bucket{le=\"0.02\"} 1\n",
        "betanet_hop_delay_seconds_bucket{le=\"+Inf\"} 1\n",
        "betanet_hop_delay_seconds_count 1\n",
        "betanet_hop_delay_seconds_sum 0.015\n",
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
}
