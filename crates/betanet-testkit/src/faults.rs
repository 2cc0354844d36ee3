//! What goes wrong on the links.

use rand_core::Rng;

/// Faults of a network. Probabilities lie between 0 and 1; times are milliseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Faults {
    /// Loss of a packet on its whole way; acks and replies are packets of their own.
    pub packet_loss: f64,
    /// Loss on each single link.
    pub link_loss: f64,
    /// That a link delivers a packet twice.
    pub duplication: f64,
    /// That an edge hands a mailbox item over twice.
    pub redelivery: f64,
    /// Shortest and longest latency of a link. A wide range reorders packets.
    pub latency_ms: (u32, u32),
}

impl Default for Faults {
    fn default() -> Self {
        Self { packet_loss: 0.0, link_loss: 0.0, duplication: 0.0, redelivery: 0.0, latency_ms: (1, 5) }
    }
}

impl Faults {
    /// A latency in microseconds.
    pub(crate) fn latency_us(&self, rng: &mut impl Rng) -> u64 {
        let (low, high) = self.latency_ms;
        let span = u64::from(high.saturating_sub(low)) * 1000;
        u64::from(low) * 1000 + if span == 0 { 0 } else { rng.next_u64() % (span + 1) }
    }
}

/// Whether an event of this probability happens.
pub(crate) fn happens(rng: &mut impl Rng, probability: f64) -> bool {
    f64::from(rng.next_u32()) < probability * 4_294_967_296.0
}
