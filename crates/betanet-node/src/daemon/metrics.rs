//! What a node tells its operator, and how coarsely.
//!
//! Exact counters of many nodes in one hand are an oracle for correlating traffic, and an exact
//! drop counter tells a tagging attacker where his packet died. So by default counters step in
//! thousands and are refreshed once a minute. No metric carries a peer, a client or a mailbox.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use betanet_sphinx::PacketError;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Step of exported counters unless the operator asks for exact ones.
const COARSE_STEP: u64 = 1000;

/// How long an exported snapshot lasts unless the operator asks for exact ones.
const COARSE_PERIOD: Duration = Duration::from_mins(1);

/// Why a packet is dropped or a peer refused, beside the reasons of [`PacketError`].
const REASONS: [&str; 39] = [
    "accept_failed",
    "bad_envelope",
    "bad_item",
    "bad_surb",
    "delay_queue_full",
    "edge_full",
    "egress_full",
    "equivocation",
    "handshake_failed",
    "handshake_timeout",
    "http_crowded",
    "idle_client",
    "ingress_full",
    "item_evicted",
    "item_expired",
    "link_closed",
    "link_down",
    "mailbox_evicted",
    "mailbox_full",
    "mailbox_taken",
    "malformed_frame",
    "no_beacon",
    "not_an_edge",
    "owner_away",
    "replay_log_failed",
    "shut_out",
    "slow_reader",
    "store_busy",
    "store_failed",
    "too_many_clients",
    "too_many_connections",
    "too_many_mailboxes",
    "too_many_newcomers",
    "too_many_node_links",
    "too_many_publications",
    "too_much_garbage",
    "unknown_mailbox",
    "unknown_next",
    "unknown_peer",
];

/// Upper bounds of the hop delay buckets, in seconds.
const DELAY_BOUNDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// Upper bounds of the lateness buckets, in seconds.
const LATE_BOUNDS: [f64; 12] = [0.000_1, 0.000_2, 0.000_5, 0.001, 0.001_5, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1];

/// Upper bounds of the unwrap time buckets, in seconds.
const UNWRAP_BOUNDS: [f64; 12] =
    [0.000_005, 0.000_01, 0.000_02, 0.000_04, 0.000_06, 0.000_08, 0.000_1, 0.000_15, 0.000_2, 0.000_5, 0.001, 0.01];

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A level that rises and falls.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// Sets the level.
    pub fn set(&self, value: usize) {
        self.0.store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The level.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram of times.
#[derive(Debug)]
pub struct Times {
    bounds: &'static [f64; 12],
    /// One more than the bounds: the last counts what exceeds them all.
    buckets: [AtomicU64; 13],
    sum_ns: AtomicU64,
}

impl Times {
    fn new(bounds: &'static [f64; 12]) -> Self {
        Self { bounds, buckets: Default::default(), sum_ns: AtomicU64::new(0) }
    }

    /// Notes one time.
    pub fn observe(&self, time: Duration) {
        self.observe_shared(time, 1);
    }

    /// Notes the equal shares that `count` things had of one time.
    pub fn observe_shared(&self, time: Duration, count: u32) {
        let Some(share) = time.checked_div(count) else {
            return;
        };
        let seconds = share.as_secs_f64();
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(u64::from(count), Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

/// The node's figures.
#[derive(Debug)]
pub struct Metrics {
    /// Packets unwrapped and accepted.
    pub processed: Count,
    /// Accepted packets that went on to another node.
    pub forwarded: Count,
    /// Accepted packets that ended in a mailbox of this edge.
    pub delivered: Count,
    /// Cover packets that ended here.
    pub cover: Count,
    /// Bytes read from links, as frames.
    pub bytes_in: Count,
    /// Bytes written to links, as frames.
    pub bytes_out: Count,
    /// Time between socket read and release.
    pub hop_delay: Times,
    /// Time by which packets are released after they are due.
    pub hop_late: Times,
    /// Time to unwrap one packet.
    pub unwrap: Times,
    /// Packets that wait to be unwrapped.
    pub ingress_depth: Level,
    /// Packets that wait for their delay.
    pub delay_depth: Level,
    /// Entries of the replay caches.
    pub replay_entries: Level,
    /// Entries that fit into the replay caches.
    pub replay_capacity: Level,
    /// Items in mailboxes.
    pub mailbox_items: Level,
    /// Mailboxes.
    pub mailboxes: Level,
    /// The epoch whose key is current.
    pub epoch: AtomicU64,
    /// Whether the node does its work.
    pub healthy: AtomicBool,
    /// Every reason from the start: one that appeared with its first packet would tell of that packet.
    dropped: BTreeMap<&'static str, Count>,
    exact: bool,
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new(exact: bool) -> Self {
        Self {
            processed: Count::default(),
            forwarded: Count::default(),
            delivered: Count::default(),
            cover: Count::default(),
            bytes_in: Count::default(),
            bytes_out: Count::default(),
            hop_delay: Times::new(&DELAY_BOUNDS),
            hop_late: Times::new(&LATE_BOUNDS),
            unwrap: Times::new(&UNWRAP_BOUNDS),
            ingress_depth: Level::default(),
            delay_depth: Level::default(),
            replay_entries: Level::default(),
            replay_capacity: Level::default(),
            mailbox_items: Level::default(),
            mailboxes: Level::default(),
            epoch: AtomicU64::new(0),
            healthy: AtomicBool::new(false),
            dropped: reasons().map(|reason| (reason, Count::default())).collect(),
            exact,
        }
    }

    /// Counts one dropped packet, or one refused peer.
    pub fn drop_one(&self, reason: &'static str) {
        self.drop_many(reason, 1);
    }

    /// Counts dropped packets.
    pub fn drop_many(&self, reason: &'static str, count: usize) {
        let counted = self.dropped.get(reason);
        debug_assert!(counted.is_some(), "{reason} is missing in the list of reasons");
        if let Some(counted) = counted {
            counted.add(u64::try_from(count).unwrap_or(0));
        }
    }

    fn step(&self, value: u64) -> u64 {
        if self.exact { value } else { value - value % COARSE_STEP }
    }
}

fn reasons() -> impl Iterator<Item = &'static str> {
    PacketError::ALL.iter().map(PacketError::reason).chain(REASONS)
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counters = [
            ("betanet_packets_processed", "Packets unwrapped and accepted", &self.processed),
            ("betanet_packets_forwarded", "Accepted packets sent on to another node", &self.forwarded),
            ("betanet_packets_delivered", "Accepted packets that ended in a mailbox here", &self.delivered),
            ("betanet_cover_packets", "Cover packets that ended here", &self.cover),
        ];
        for (name, help, count) in counters {
            let metric = ConstCounter::new(self.step(count.get()));
            let descriptor = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(descriptor)?;
        }
        let help = "Packets dropped and peers refused, by reason";
        let mut descriptor = encoder.encode_descriptor("betanet_packets_dropped", help, None, MetricType::Counter)?;
        for (reason, count) in &self.dropped {
            let labels = [("reason", *reason)];
            ConstCounter::new(self.step(count.get())).encode(descriptor.encode_family(&labels)?)?;
        }
        let help = "Bytes on links, as frames";
        let mut descriptor = encoder.encode_descriptor("betanet_link_bytes", help, None, MetricType::Counter)?;
        for (direction, count) in [("in", &self.bytes_in), ("out", &self.bytes_out)] {
            let labels = [("direction", direction)];
            ConstCounter::new(self.step(count.get())).encode(descriptor.encode_family(&labels)?)?;
        }
        let help = "Packets that wait in the node";
        let mut descriptor = encoder.encode_descriptor("betanet_queue_depth", help, None, MetricType::Gauge)?;
        for (queue, level) in [("ingress", &self.ingress_depth), ("delay", &self.delay_depth)] {
            let labels = [("queue", queue)];
            gauge(self.step(level.get())).encode(descriptor.encode_family(&labels)?)?;
        }
        self.encode_levels(&mut encoder)?;
        let help = "Time between socket read and release of a packet";
        let descriptor = encoder.encode_descriptor("betanet_hop_delay_seconds", help, None, MetricType::Histogram)?;
        self.encode_times(&self.hop_delay, descriptor)?;
        let help = "Time by which a packet is released after it is due";
        let descriptor = encoder.encode_descriptor("betanet_hop_late_seconds", help, None, MetricType::Histogram)?;
        self.encode_times(&self.hop_late, descriptor)?;
        let help = "Time to unwrap one packet";
        let descriptor = encoder.encode_descriptor("betanet_unwrap_seconds", help, None, MetricType::Histogram)?;
        self.encode_times(&self.unwrap, descriptor)
    }
}

impl Metrics {
    fn encode_levels(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let health = u64::from(self.healthy.load(Ordering::Relaxed));
        let levels = [
            ("betanet_health_status", "1 while the node does its work", health),
            (
                "betanet_exact_metrics",
                "1 if counters are exact: for debugging only, they help whoever watches traffic",
                u64::from(self.exact),
            ),
            ("betanet_epoch", "Epoch whose key is current", self.epoch.load(Ordering::Relaxed)),
            ("betanet_replay_entries", "Entries of the replay caches", self.step(self.replay_entries.get())),
            ("betanet_replay_capacity", "Entries that fit into the replay caches", self.replay_capacity.get()),
            ("betanet_mailbox_items", "Items in mailboxes", self.step(self.mailbox_items.get())),
            ("betanet_mailboxes", "Mailboxes", self.step(self.mailboxes.get())),
        ];
        for (name, help, value) in levels {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge(value).encode(descriptor)?;
        }
        Ok(())
    }

    fn encode_times(&self, times: &Times, mut descriptor: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let exact: u64 = times.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum();
        let mut total = 0;
        let bounds = times.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds
            .zip(&times.buckets)
            .map(|(bound, bucket)| {
                let count = self.step(bucket.load(Ordering::Relaxed));
                total += count;
                (bound, count)
            })
            .collect();
        // A coarse sum keeps the mean and steps with the count.
        let seconds = Duration::from_nanos(times.sum_ns.load(Ordering::Relaxed)).as_secs_f64();
        let share = if exact == 0 { 0.0 } else { ratio(total, exact) };
        descriptor.encode_histogram::<NoLabelSet>(seconds * share, total, &buckets, None)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    // The detour over durations converts without a cast; both have the same unit.
    Duration::from_nanos(part).as_secs_f64() / Duration::from_nanos(whole).as_secs_f64()
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Renders the metrics; holds a snapshot for a minute unless they are exact.
#[derive(Debug)]
pub struct Exporter {
    registry: Registry,
    exact: bool,
    snapshot: Mutex<Option<(Instant, String)>>,
}

impl Exporter {
    /// An exporter for `metrics`.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(metrics)));
        Self { registry, exact: metrics.exact, snapshot: Mutex::new(None) }
    }

    /// The exposition text.
    #[must_use]
    pub fn render(&self, now: Instant) -> String {
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((taken, text)) = snapshot.as_ref()
            && !self.exact
            && now.saturating_duration_since(*taken) < COARSE_PERIOD
        {
            return text.clone();
        }
        let mut text = String::new();
        // Writing into a string cannot fail; an encoder's own error would show as a short page.
        let _ = text::encode(&mut text, &self.registry);
        *snapshot = Some((now, text.clone()));
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

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

    /// INV-LINK-15
    #[test]
    fn a_dropped_packet_does_not_change_the_page() {
        let metrics = Arc::new(Metrics::new(false));
        let before = Exporter::new(&metrics).render(Instant::now());
        for reason in reasons() {
            assert!(before.contains(&format!("betanet_packets_dropped_total{{reason=\"{reason}\"}} 0\n")), "{before}");
            metrics.drop_one(reason);
        }
        assert_eq!(before, Exporter::new(&metrics).render(Instant::now()));
    }

    #[test]
    fn the_specification_lists_every_reason_of_the_node() {
        let spec = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/spec/link.md")).unwrap();
        let (_, listed) = spec.split_once("\nReasons: those of [packet errors](packet.md), and `").unwrap();
        let (listed, _) = listed.split_once('`').unwrap();
        let mut listed: Vec<&str> = listed.split(',').map(str::trim).collect();
        listed.sort_unstable();
        assert_eq!(REASONS.as_slice(), listed);
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
}
