//! Prints a packet of the crate `sphinx-packet` and what its hops find, as JSON: tests/unit/betanet/nym.json.

use std::io::Write;
use std::time::Duration;

use betanet_bench::Failure;
use serde_json::{Value, json};
use sphinx_packet::header::delays::Delay;
use sphinx_packet::packet::builder::SphinxPacketBuilder;
use sphinx_packet::payload::PAYLOAD_OVERHEAD_SIZE;
use sphinx_packet::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};
use x25519_dalek::{PublicKey, StaticSecret};

fn main() -> Result<(), Failure> {
    let hops = [(1, 11), (2, 12), (3, 13)];
    let node = |(id, seed)| {
        let key = PublicKey::from(&StaticSecret::from([seed; 32]));
        Node::new(NodeAddressBytes::from_bytes([id; 32]), key)
    };
    let delays = hops.map(|(id, _)| Delay::new_from_millis(u64::from(id) * 10));
    let destination = Destination::new(DestinationAddressBytes::from_bytes([4; 32]), [5; 16]);
    let builder = SphinxPacketBuilder::new().with_payload_size(2048 + PAYLOAD_OVERHEAD_SIZE);
    let packet = builder.build_packet(b"hello", &hops.map(node), &destination, &delays)?;
    let path: Vec<Value> = hops
        .iter()
        .zip(&delays)
        .map(|((id, seed), delay)| {
            let delay = u64::try_from(Duration::from_nanos(delay.to_nanos()).as_millis()).unwrap_or(u64::MAX);
            json!({ "node": hex::encode([*id; 32]), "secret": hex::encode([*seed; 32]), "delay_ms": delay })
        })
        .collect();
    let vector = json!({
        "made_by": "sphinx-packet 0.6: cargo run -p betanet-bench --example nym_vector",
        "path": path,
        "destination": hex::encode([4; 32]),
        "identifier": hex::encode([5; 16]),
        "payload": hex::encode(b"hello"),
        "packet": hex::encode(packet.to_bytes()),
    });
    writeln!(std::io::stdout(), "{vector:#}")?;
    Ok(())
}
