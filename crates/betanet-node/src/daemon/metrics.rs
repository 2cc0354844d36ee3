//! What a node tells its operator, and how coarsely.
//!
//! Exact counters of many nodes in one hand are an oracle for correlating traffic, and an exact
//! drop counter tells a tagging attacker where his packet died. So by default whatever packets or
//! clients move steps in thousands and is refreshed once a minute. No metric carries a peer, a
//! client or a mailbox.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use betanet_sphinx::PacketError;

use crate::link::FRAME_LEN;
use crate::metrics::{Bounds, Count, Figures, Grain, Level, MetricKind, Page, Times};

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
const DELAY_BOUNDS: Bounds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// Upper bounds of the lateness buckets, in seconds.
const LATE_BOUNDS: Bounds = [0.000_1, 0.000_2, 0.000_5, 0.001, 0.001_5, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1];

/// Upper bounds of the unwrap time buckets, in seconds.
const UNWRAP_BOUNDS: Bounds =
    [0.000_005, 0.000_01, 0.000_02, 0.000_04, 0.000_06, 0.000_08, 0.000_1, 0.000_15, 0.000_2, 0.000_5, 0.001, 0.01];

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
    /// Packets that may wait to be unwrapped, and as many for their delay.
    pub queue_capacity: Level,
    /// Packet buffers that wait for their next use.
    pub pool_free: Level,
    /// Packet buffers with packets in them.
    pub pool_taken: Level,
    /// Links that other nodes have opened.
    pub node_links: Level,
    /// Links that clients have opened.
    pub client_links: Level,
    /// Entries of the replay caches.
    pub replay_entries: Level,
    /// Entries that fit into the replay caches.
    pub replay_capacity: Level,
    /// Bytes of memory that the replay caches take.
    pub replay_memory: Level,
    /// Items in mailboxes.
    pub mailbox_items: Level,
    /// Mailboxes.
    pub mailboxes: Level,
    /// The epoch whose key is current.
    pub epoch: Level,
    /// Until when the newest consensus is to be replaced, in Unix milliseconds; 0 without one.
    pub fresh_until_ms: Level,
    /// Until when the newest consensus may be used, in Unix milliseconds; 0 without one.
    pub valid_until_ms: Level,
    /// Until when the newest packet key is accepted, in Unix milliseconds; 0 without one.
    pub key_not_after_ms: Level,
    /// Whether the node does its work.
    pub healthy: AtomicBool,
    /// Every reason from the start: one that appeared with its first packet would tell of that packet.
    dropped: BTreeMap<&'static str, Count>,
    grain: Grain,
}

impl Metrics {
    /// All at zero; coarse unless `exact`.
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
            queue_capacity: Level::default(),
            pool_free: Level::default(),
            pool_taken: Level::default(),
            node_links: Level::default(),
            client_links: Level::default(),
            replay_entries: Level::default(),
            replay_capacity: Level::default(),
            replay_memory: Level::default(),
            mailbox_items: Level::default(),
            mailboxes: Level::default(),
            epoch: Level::default(),
            fresh_until_ms: Level::default(),
            valid_until_ms: Level::default(),
            key_not_after_ms: Level::default(),
            healthy: AtomicBool::new(false),
            dropped: reasons().map(|reason| (reason, Count::default())).collect(),
            grain: if exact { Grain::Exact } else { Grain::Coarse },
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

    /// How many were dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: &str) -> u64 {
        self.dropped.get(reason).map_or(0, Count::get)
    }

    fn write_packets(&self, page: &mut Page) {
        for (name, help, count) in [
            ("betanet_packets_processed_total", "Packets unwrapped and accepted", &self.processed),
            ("betanet_packets_forwarded_total", "Accepted packets sent on to another node", &self.forwarded),
            ("betanet_packets_delivered_total", "Accepted packets that ended in a mailbox here", &self.delivered),
            ("betanet_cover_packets_total", "Cover packets that ended here", &self.cover),
        ] {
            page.one(MetricKind::Counter, name, help, self.grain.number(count.get()));
        }
        let number = |count: &Count| self.grain.number(count.get());
        let dropped = self.dropped.iter().map(|(reason, count)| (*reason, number(count)));
        let help = "Packets dropped and peers refused, by reason";
        page.each(MetricKind::Counter, "betanet_packets_dropped_total", help, "reason", dropped);
        let bytes = [("in", self.frames(&self.bytes_in)), ("out", self.frames(&self.bytes_out))];
        page.each(MetricKind::Counter, "betanet_link_bytes_total", "Bytes on links, as frames", "direction", bytes);
    }

    /// Bytes of whole frames: each is a packet's, so they step with their number.
    fn frames(&self, bytes: &Count) -> u64 {
        let frame = u64::try_from(FRAME_LEN).unwrap_or(u64::MAX);
        self.grain.number(bytes.get() / frame).saturating_mul(frame)
    }

    fn write_levels(&self, page: &mut Page) {
        let number = |level: &Level| self.grain.number(level.get());
        let depth = [("ingress", number(&self.ingress_depth)), ("delay", number(&self.delay_depth))];
        page.each(MetricKind::Gauge, "betanet_queue_depth", "Packets that wait in the node", "queue", depth);
        let buffers = [("free", number(&self.pool_free)), ("taken", number(&self.pool_taken))];
        page.each(MetricKind::Gauge, "betanet_pool_buffers", "Packet buffers, by what they do", "state", buffers);
        // Whoever sees the network sees which nodes have links.
        let links = [("node", self.node_links.get()), ("client", number(&self.client_links))];
        page.each(MetricKind::Gauge, "betanet_links", "Links that others have opened", "kind", links);
        for (name, help, level) in [
            ("betanet_replay_entries", "Entries of the replay caches", &self.replay_entries),
            ("betanet_mailbox_items", "Items in mailboxes", &self.mailbox_items),
            ("betanet_mailboxes", "Mailboxes", &self.mailboxes),
        ] {
            page.one(MetricKind::Gauge, name, help, number(level));
        }
        let memory = self.grain.memory(self.replay_memory.get());
        page.one(MetricKind::Gauge, "betanet_replay_memory_bytes", "Memory of the replay caches in bytes", memory);
    }
}

/// Frames have one length, so no packet comes in with another.
fn reasons() -> impl Iterator<Item = &'static str> {
    let of_packets = PacketError::ALL.iter().filter(|error| **error != PacketError::WrongLength);
    of_packets.map(PacketError::reason).chain(REASONS)
}

impl Figures for Metrics {
    fn grain(&self) -> Grain {
        self.grain
    }

    fn write_state(&self, page: &mut Page) {
        let exact = "1 if counters are exact: for debugging only, they help whoever watches traffic";
        for (name, help, value) in [
            (
                "betanet_health_status",
                "1 while the node does its work",
                u64::from(self.healthy.load(Ordering::Relaxed)),
            ),
            ("betanet_exact_metrics", exact, u64::from(self.grain == Grain::Exact)),
            ("betanet_epoch", "Epoch whose key is current", self.epoch.get()),
            ("betanet_replay_capacity", "Entries that fit into the replay caches", self.replay_capacity.get()),
        ] {
            page.one(MetricKind::Gauge, name, help, value);
        }
        let capacity = ["ingress", "delay"].map(|queue| (queue, self.queue_capacity.get()));
        page.each(MetricKind::Gauge, "betanet_queue_capacity", "Packets that may wait in the node", "queue", capacity);
        for (name, help, date) in [
            (
                "betanet_consensus_fresh_until_timestamp_seconds",
                "When the newest consensus is to be replaced, in Unix seconds; 0 without one",
                &self.fresh_until_ms,
            ),
            (
                "betanet_consensus_valid_until_timestamp_seconds",
                "Until when the newest consensus may be used, in Unix seconds; 0 without one",
                &self.valid_until_ms,
            ),
            (
                "betanet_packet_key_not_after_timestamp_seconds",
                "Until when the newest packet key is accepted, in Unix seconds; 0 without one",
                &self.key_not_after_ms,
            ),
        ] {
            page.date(name, help, date.get());
        }
    }

    fn write_traffic(&self, page: &mut Page) {
        self.write_packets(page);
        self.write_levels(page);
        for (name, help, times) in [
            ("betanet_hop_delay_seconds", "Time between socket read and release of a packet", &self.hop_delay),
            ("betanet_hop_late_seconds", "Time by which a packet is released after it is due", &self.hop_late),
            ("betanet_unwrap_seconds", "Time to unwrap one packet", &self.unwrap),
        ] {
            page.times(name, help, times, self.grain);
        }
    }
}

#[cfg(test)]
mod tests;
