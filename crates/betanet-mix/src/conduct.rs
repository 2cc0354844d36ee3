//! What a party may send, and what garbage costs it.
//!
//! Who is charged for a packet that is refused is the question here: a sender knows the packet as each hop of its path
//! will see it, so it can give a later hop a header that fails there, or show that hop the packet first, so that it
//! comes as a replay. A node is therefore charged only for what it looks at itself before it passes a packet on. A client
//! is the first to send a packet, but what it sends over a SURB was made by whoever gave it the SURB: good packets make
//! up for as many bad ones, so that who answers over SURBs of many is not shut out for those of one.

use std::time::Duration;

use betanet_sphinx::PacketError;

use crate::allowance::Allowance;
use crate::fair::Side;
use crate::pace::Pace;

/// Turns that a packet which is refused costs, beside its own.
pub const TURNS: u32 = 8;

/// What a client that breaks the protocol of links is charged, in packets: it has to shake hands again for each time.
pub const BROKEN_LINK: u32 = 50;

/// Garbage that shuts a client out, in packets.
const SHUT_OUT: f64 = 1000.0;

/// Time in which half of the garbage is forgotten, and for which a client is shut out.
const HALF_LIFE: Duration = Duration::from_secs(30);

/// What a client may send in one go, in seconds of what it may send at the moment.
const ONE_GO: f64 = 0.1;

/// Items that a client may acknowledge in one go, and per second.
const ACKS: (f64, f64) = (100_000.0, 50_000.0);

/// Requests that a client may make in one go, and per second. One that lives asks for the time every 15 s.
const REQUESTS: (f64, f64) = (2000.0, 200.0);

/// A frame of acknowledgements counts as at least so many items.
const LEAST_ACKS: u32 = 8;

/// Whether whoever sent the packet over a link pays for it.
#[must_use]
pub const fn is_charged(from: Side, error: PacketError) -> bool {
    match error {
        PacketError::WrongLength
        | PacketError::UnknownVersion
        | PacketError::BadParity
        // The blinded element is the neighbour's own work.
        | PacketError::BadAlpha => true,
        // Our own limit.
        PacketError::ReplayCacheFull => false,
        _ => matches!(from, Side::Clients),
    }
}

/// The account of a client, by all links that it has. Time is counted from any moment, the same for all calls.
#[derive(Clone, Debug)]
pub struct Conduct {
    packets: Allowance,
    /// Packets in the round of this number.
    in_round: (u64, u32),
    acks: Allowance,
    requests: Allowance,
    garbage: f64,
    /// When `garbage` was what it is.
    weighed: Duration,
    shut_until: Duration,
}

impl Conduct {
    /// Of somebody who has sent nothing yet, and may send so many packets a second.
    #[must_use]
    pub fn new(now: Duration, ceiling: f64) -> Self {
        let [packets, acks, requests] =
            [(ceiling * ONE_GO, ceiling), ACKS, REQUESTS].map(|terms| Allowance::new(terms, now));
        Self { packets, in_round: (0, 0), acks, requests, garbage: 0.0, weighed: now, shut_until: Duration::ZERO }
    }

    /// Takes note of packets and says how long to wait before more are read.
    pub fn spend(&mut self, now: Duration, packets: u32, pace: &mut Pace) -> Duration {
        let round = pace.round_at(now);
        let before = if self.in_round.0 == round { self.in_round.1 } else { 0 };
        self.in_round = (round, before.saturating_add(packets));
        pace.sent(self.in_round.1);
        let ceiling = pace.ceiling(now);
        self.packets.change(now, (ceiling * ONE_GO, ceiling));
        self.packets.spend(now, packets)
    }

    /// Takes note of a frame that acknowledges so many items, and says how long to wait before more is read.
    pub fn acknowledge(&mut self, now: Duration, items: u32) -> Duration {
        self.acks.spend(now, items.max(LEAST_ACKS))
    }

    /// Takes note of a request and says how long to wait before it is answered.
    pub fn ask(&mut self, now: Duration) -> Duration {
        self.requests.spend(now, 1)
    }

    /// Takes note of garbage, and of what was good since the last time. Says whether it is enough to shut the party out.
    pub fn charge(&mut self, now: Duration, garbage: u32, good: u64) -> bool {
        // More than is ever held against somebody is not needed.
        let good = u32::try_from(good).map_or(f64::INFINITY, f64::from);
        self.garbage = (self.garbage_at(now) - good).max(0.0) + f64::from(garbage);
        self.weighed = self.weighed.max(now);
        if self.garbage < SHUT_OUT || self.is_shut_out(now) {
            return false;
        }
        self.garbage = SHUT_OUT;
        self.shut_until = now + HALF_LIFE;
        true
    }

    /// Whether the party has to wait before it may come again.
    #[must_use]
    pub fn is_shut_out(&self, now: Duration) -> bool {
        now < self.shut_until
    }

    /// Whether the account is like that of somebody new.
    #[must_use]
    pub fn is_clean(&self, now: Duration) -> bool {
        self.garbage_at(now) < 1.0 && self.allowances().iter().all(|allowance| allowance.is_full(now))
    }

    const fn allowances(&self) -> [&Allowance; 3] {
        [&self.packets, &self.acks, &self.requests]
    }

    /// What is held against the party, in packets.
    #[must_use]
    pub fn garbage_at(&self, now: Duration) -> f64 {
        let half_lives = now.saturating_sub(self.weighed).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.garbage * (-half_lives).exp2()
    }
}

#[cfg(test)]
mod tests;
