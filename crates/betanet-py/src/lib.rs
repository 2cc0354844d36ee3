//! The native module `betanet._core`: conversions between Python and the core, and error mapping. What each name
//! promises stands in `src/betanet/_core.pyi`.

#![deny(unsafe_code)]
#![allow(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over by value")]

mod arguments;
mod bytes;
mod client;
mod consensus;
mod errors;
mod keys;
mod noise;
mod packets;
mod pipeline;
mod processor;
mod results;
mod rng;
mod runtime;
mod status;
mod suite;
mod vrf;

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

/// The native core of the mixnet.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::client::{Client, SendProgress, save_body};
    #[pymodule_export]
    use super::keys::{Geometry, Hop, PublicKey, SecretKey};
    #[pymodule_export]
    use super::noise::{NoiseSecret, NoiseSession, noise_x_open, noise_x_seal};
    #[pymodule_export]
    use super::packets::{ReplyOpener, Surb, create_packet, create_packets, create_surb};
    #[pymodule_export]
    use super::pipeline::{PacketPipeline, PipelineStats};
    #[pymodule_export]
    use super::processor::{ProcessedPacket, RejectedPacket, SphinxProcessor};
    #[pymodule_export]
    use super::results::SpooledBody;
    #[pymodule_export]
    use super::runtime::Bridge;
    #[pymodule_export]
    use super::vrf::{delay_quantile, vrf_hash, vrf_prove, vrf_public_key, vrf_verify};

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "the name that Python gives to a version")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}

/// Locks what no holder leaves half changed, so that a panic elsewhere does not spread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
