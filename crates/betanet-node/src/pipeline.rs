//! Packets from many sources, in groups, on threads.
//!
//! A node's packet path and [`PacketPipeline`] are two stages over the same queue and the same threads: one brings what
//! it unwraps into a delay line, the other gives it back to its caller.

mod arrivals;
mod packet_pipeline;
mod parties;
mod threads;

pub use packet_pipeline::{PacketPipeline, PipelineError, PipelineStats, ProcessResult, Processed};

pub(crate) use arrivals::{Arrival, Arrivals};
pub(crate) use parties::{Held, Parties, Party};
pub(crate) use threads::{Stage, start};
