//! The Sphinx packet format: geometry, headers, payloads, SURBs and their arithmetic. No I/O, clock or global randomness.

pub mod x25519;
