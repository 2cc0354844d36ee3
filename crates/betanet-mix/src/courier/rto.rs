//! How long to wait for an ack, and how many to wait for at a time.

use std::time::Duration;

/// The probability that the mixing delays alone keep an ack past this quantile is one in 10,000.
const QUANTILE: f64 = 0.9999;

/// Round trips of one hop count, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrips {
    mixing: u64,
    smoothed: Option<u64>,
    deviation: u64,
}

impl RoundTrips {
    /// Takes the number of mixing delays on a round trip and their mean from the consensus.
    pub(super) fn set_network(&mut self, stages: u32, mean: Duration) {
        self.mixing = millis(erlang_quantile(stages, mean));
    }

    /// Takes a measured round trip. Each sending has its own SURB, so it is clear which sending an ack belongs to.
    pub(super) fn measure(&mut self, rtt_ms: u64) {
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt_ms);
                self.deviation = rtt_ms / 2;
            }
            Some(smoothed) => {
                self.deviation = (3 * self.deviation + smoothed.abs_diff(rtt_ms)) / 4;
                self.smoothed = Some((7 * smoothed + rtt_ms) / 8);
            }
        }
    }

    /// The typical one.
    pub(super) fn typical_ms(&self) -> Option<u64> {
        self.smoothed
    }

    /// The first wait that the network's delays alone ask for.
    pub(super) fn unmeasured_ms(&self, slack_ms: u64) -> u64 {
        self.mixing + slack_ms
    }

    /// How much longer than another one a packet may take on its way, one in 10,000 excepted.
    pub(super) fn mixing_ms(&self) -> u64 {
        self.mixing
    }

    /// How long the `tries`-th sending waits for its ack.
    pub(super) fn timeout_ms(&self, tries: u32, slack_ms: u64, max_ms: u64) -> u64 {
        let measured = self.smoothed.map_or(0, |smoothed| smoothed + 4 * self.deviation);
        let first = self.unmeasured_ms(slack_ms).max(measured);
        let doublings = tries.saturating_sub(1).min(16);
        first.saturating_mul(1 << doublings).min(max_ms.max(first))
    }
}

/// How many fragments may wait for their acks: grows with acks, shrinks when several of them stay away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    min: usize,
    max: usize,
    size: usize,
    in_flight: usize,
    acks: usize,
    hold_until_ms: u64,
}

impl Window {
    pub(super) fn new(min: usize, max: usize) -> Self {
        let max = max.max(1);
        let min = min.clamp(1, max);
        Self { min, max, size: (max / 2).max(min), in_flight: 0, acks: 0, hold_until_ms: 0 }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.size
    }

    pub(super) fn sent(&mut self) {
        self.in_flight += 1;
    }

    /// A fragment is not waited for any more, without a verdict on the network.
    pub(super) fn gone(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// One more fragment per quarter of a window that was acknowledged.
    pub(super) fn acked(&mut self) {
        self.acks += 1;
        if self.acks * 4 >= self.size {
            self.acks = 0;
            self.size = (self.size + 1 + self.size / 16).min(self.max);
        }
    }

    /// A fragment was not acknowledged in time. Shrinks by a quarter, once per timeout: losses come in bursts.
    pub(super) fn lost(&mut self, now_ms: u64, timeout_ms: u64) {
        self.gone();
        if now_ms >= self.hold_until_ms {
            self.hold_until_ms = now_ms.saturating_add(timeout_ms);
            self.size = (self.size - self.size / 4).max(self.min);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The 99.99 % quantile of a sum of `stages` exponential delays with the given mean.
fn erlang_quantile(stages: u32, mean: Duration) -> Duration {
    // In units of the mean: the law has mean n and deviation √n, so the quantile lies below n + 10·√n + 20.
    let n = f64::from(stages);
    let (mut low, mut high) = (0.0, n + 10.0 * n.sqrt() + 20.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if erlang_cdf(stages, middle) < QUANTILE { low = middle } else { high = middle }
    }
    mean.mul_f64(high)
}

/// 1 − e^(−x) · Σ x^k / k! for k below `stages`.
fn erlang_cdf(stages: u32, x: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 0.0);
    for k in 0..stages {
        if k > 0 {
            term *= x / f64::from(k);
        }
        sum += term;
    }
    1.0 - (-x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// INV-MSG-09
    #[test]
    fn the_quantile_matches_tables() {
        // Computed with 40 digits by bisection; one stage is −ln(0.0001).
        for (stages, expected) in [(1, 9.210_340_372), (6, 19.567_201_941), (14, 32.331_222_914)] {
            let found = erlang_quantile(stages, Duration::from_secs(1)).as_secs_f64();
            assert!((found - expected).abs() < 1e-6, "{stages} stages: {found}, expected {expected}");
        }
    }

    /// INV-MSG-09
    #[test]
    fn waiting_times_double_up_to_their_end() {
        let mut trips = RoundTrips::default();
        trips.set_network(6, Duration::from_millis(15));
        let first = trips.timeout_ms(1, 300, 16_000);
        assert!(first > 300 + 6 * 15);
        assert_eq!(trips.timeout_ms(2, 300, 16_000), 2 * first);
        assert_eq!(trips.timeout_ms(30, 300, 16_000), 16_000);
        // A network whose delays alone exceed the end still waits for them.
        trips.set_network(14, Duration::from_secs(2));
        assert!(trips.timeout_ms(5, 300, 16_000) > 2 * 14_000);
    }

    #[test]
    fn measured_round_trips_lengthen_the_wait() {
        let mut trips = RoundTrips::default();
        trips.set_network(2, Duration::from_millis(1));
        let before = trips.timeout_ms(1, 10, 16_000);
        for _ in 0..50 {
            trips.measure(2_000);
        }
        let after = trips.timeout_ms(1, 10, 16_000);
        assert!(before < 100 && (2_000..2_100).contains(&after), "{before} {after}");
    }

    #[test]
    fn the_window_stays_between_its_bounds() {
        let mut window = Window::new(32, 256);
        for _ in 0..5_000 {
            window.sent();
            window.acked();
            window.gone();
        }
        assert_eq!((window.size(), window.in_flight()), (256, 0));
        window.sent();
        window.lost(1_000, 500);
        assert_eq!(window.size(), 192);
        window.lost(1_100, 500);
        assert_eq!(window.size(), 192, "a burst counts once");
        for round in 0..100 {
            window.lost(2_000 + round * 500, 500);
        }
        assert_eq!(window.size(), 32);
        assert!(window.has_room());
    }
}
