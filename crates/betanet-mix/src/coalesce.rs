//! When a thread that serves many sockets lets packets gather before it looks at them again.
//!
//! Where packets come densely, most of what one costs is waking up for it. A thread that rests for a moment between two
//! looks wakes once for all that has come meanwhile, as network cards do that hold back their interrupts. A thread with
//! little to do never rests, and one with much to do has no need: what it finds at one look is enough.

use std::time::Duration;

/// How long packets are counted before it is decided anew how densely they come.
const WINDOW: Duration = Duration::from_millis(10);

/// From so many packets in a [`WINDOW`] on, in or out, a look is at least so long after the one before. Where very many come,
/// a short rest gathers enough.
const RESTS: [(usize, Duration); 3] =
    [(200, Duration::from_micros(500)), (20, Duration::from_millis(2)), (5, Duration::from_millis(1))];

/// A look that finds so many packets is worth its cost.
const ENOUGH: usize = 32;

/// Decides how long to rest. Times are those of one monotonic clock with any zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coalescer {
    /// When the window began.
    since: Duration,
    /// Packets in it.
    count: usize,
    /// As many as came in the window before, if it ended just when this one began.
    before: usize,
    /// When the look before this one was over.
    looked: Duration,
}

impl Coalescer {
    /// Takes note of a look that ended now and found so many packets. Says how long to rest before the next, or `None`
    /// where packets come so rarely that each is to be waited for.
    pub fn rest(&mut self, now: Duration, packets: usize) -> Option<Duration> {
        self.count += packets;
        let passed = now.saturating_sub(self.since);
        if passed >= WINDOW {
            // A thread that waited for a packet has been at rest.
            self.before = if passed < 2 * WINDOW { self.count } else { 0 };
            self.count = 0;
            self.since = now;
        }
        let dense = self.before.max(self.count);
        let rest = RESTS.iter().find(|(least, _)| dense >= *least).map(|(_, rest)| *rest)?;
        let early = if packets >= ENOUGH { Duration::ZERO } else { (self.looked + rest).saturating_sub(now) };
        self.looked = now + early;
        Some(early)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    /// Packets come every `gap`; as many as came meanwhile are found at each look. How many were found in a second, in how
    /// many looks, and the longest rest.
    fn looks(gap: Duration) -> (usize, usize, Option<Duration>) {
        let (mut coalescer, mut now, mut longest) = (Coalescer::default(), us(500_000), None);
        let (mut packets, mut count) = (0, 0);
        let mut next = now;
        while now < us(1_500_000) {
            // Without a rest it wakes for the next packet.
            now = now.max(next);
            let mut found = 0;
            while next <= now {
                next += gap;
                found += 1;
            }
            packets += found;
            count += 1;
            let rest = coalescer.rest(now, found);
            longest = longest.max(rest);
            now += rest.unwrap_or_default();
        }
        (packets, count, longest)
    }

    #[test]
    fn rare_packets_are_waited_for_one_by_one() {
        let (packets, count, longest) = looks(us(3_300));
        assert_eq!((packets, None), (count, longest));
    }

    #[test]
    fn dense_packets_share_looks_and_wait_for_them_no_longer_than_said() {
        // How dense very dense ones are is known after a while.
        for (gap, rest, most) in
            [(us(700), us(1_000), us(1_000)), (us(190), us(2_000), us(2_000)), (us(40), us(500), us(2_000))]
        {
            let (_, count, longest) = looks(gap);
            let least = 1_000_000 / usize::try_from(rest.as_micros()).unwrap_or(1);
            assert!((least * 99 / 100..least * 11 / 10).contains(&count), "{count} looks for packets every {gap:?}");
            assert!(longest.is_some_and(|longest| longest <= most), "{longest:?}");
        }
    }

    #[test]
    fn a_thread_that_finds_enough_at_each_look_does_not_rest() {
        let mut coalescer = Coalescer::default();
        let rests = (1..400).map(|look| coalescer.rest(us(look * 100), 33));
        assert!(rests.flatten().all(|rest| rest.is_zero()));
    }

    #[test]
    fn after_a_pause_each_packet_is_waited_for_again() {
        let mut coalescer = Coalescer::default();
        let dense = (1..40).map(|look| coalescer.rest(us(look * 1_000), 3)).last().flatten();
        assert!(dense.is_some());
        // Nothing for a while: the thread rests on until it is noticed, and then no more.
        let pause: Vec<_> = (40..80).map(|look| coalescer.rest(us(look * 1_000), 0)).collect();
        assert!(pause.iter().take_while(|rest| rest.is_some()).count() <= 20);
        assert_eq!(Some(&None), pause.last());
        assert_eq!(None, coalescer.rest(us(900_000), 1));
    }
}
