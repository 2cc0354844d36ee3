//! Virtual clock, seeded randomness and an in-memory network with loss and latency, for tests.
