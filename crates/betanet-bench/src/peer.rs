//! The packets of the crate `sphinx-packet`, as its own benchmarks use it.

use std::hint::black_box;

use sphinx_packet::constants::IDENTIFIER_LENGTH;
use sphinx_packet::header::delays::Delay;
use sphinx_packet::packet::builder::SphinxPacketBuilder;
use sphinx_packet::payload::PAYLOAD_OVERHEAD_SIZE;
use sphinx_packet::payload::Payload;
use sphinx_packet::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};
use sphinx_packet::{Error, SphinxPacket};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::{BATCH, HOPS};

/// Building packets one after the other.
pub struct Create {
    secrets: Vec<StaticSecret>,
    route: Vec<Node>,
    delays: Vec<Delay>,
    destination: Destination,
    message: Vec<u8>,
}

impl Create {
    /// Packets full of `user_payload_len` bytes of payload.
    #[must_use]
    pub fn new(user_payload_len: usize) -> Self {
        let secrets: Vec<_> = (1..).take(HOPS).map(|seed| StaticSecret::from([seed; 32])).collect();
        let node = |secret| Node::new(NodeAddressBytes::from_bytes([5; 32]), PublicKey::from(secret));
        Self {
            route: secrets.iter().map(node).collect(),
            secrets,
            delays: vec![Delay::new_from_millis(10); HOPS],
            destination: Destination::new(DestinationAddressBytes::from_bytes([3; 32]), [4; IDENTIFIER_LENGTH]),
            message: vec![13; user_payload_len],
        }
    }

    fn one(&self) -> Result<SphinxPacket, Error> {
        let builder = SphinxPacketBuilder::new().with_payload_size(self.message.len() + PAYLOAD_OVERHEAD_SIZE);
        builder.build_packet(&self.message, &self.route, &self.destination, &self.delays)
    }

    /// Builds as many packets as one of our batches and says how many.
    ///
    /// # Errors
    /// A packet that could not be built.
    pub fn run(&self) -> Result<usize, Error> {
        (0..BATCH).try_fold(0, |count, _| self.one().map(black_box).map(|_| count + 1))
    }
}

/// Processing packets one after the other at the first hop of their path.
pub struct Unwrap {
    secret: StaticSecret,
    received: Vec<Vec<u8>>,
}

impl Unwrap {
    /// Packets full of `user_payload_len` bytes of payload.
    ///
    /// # Errors
    /// The packets could not be built.
    pub fn new(user_payload_len: usize) -> Result<Self, crate::Failure> {
        let create = Create::new(user_payload_len);
        let received = (0..BATCH).map(|_| create.one().map(|packet| packet.to_bytes())).collect::<Result<_, _>>()?;
        let secret = create.secrets.into_iter().next().ok_or("the path has no hops")?;
        Ok(Self { secret, received })
    }

    /// Processes all packets and says how many passed.
    #[must_use]
    pub fn run(&self) -> usize {
        let process = |bytes: &Vec<u8>| SphinxPacket::from_bytes(bytes)?.process(&self.secret).map(black_box);
        self.received.iter().filter_map(|bytes| process(bytes).ok()).count()
    }
}

/// Takes one layer off a payload, with the peer's LIONESS, and says whether that worked.
#[must_use]
pub fn lioness(key: &[u8; 192], delta: &[u8]) -> bool {
    Payload::from_bytes(delta).and_then(|payload| payload.unwrap(key)).map(black_box).is_ok()
}
