//! Packets from many sources, in groups, on threads.

mod arrivals;
mod parties;

pub(crate) use arrivals::{Arrival, Arrivals};
pub(crate) use parties::{Parties, Party};
