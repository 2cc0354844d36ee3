//! What makes a network: settings that all of its parties share, and those of its authority.

use serde::{Deserialize, Serialize};

use super::admission::Door;
use crate::epoch::EpochClock;
use crate::view::check_network;

/// How long the clock of others may be ahead of the authority's, in milliseconds.
pub(super) const AHEAD_MS: u64 = 60_000;

/// What a node must know to make its first keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConstants {
    /// The network's name.
    pub network: String,
    /// Epoch length in milliseconds.
    pub epoch_length_ms: u64,
    /// Clock skew that the network tolerates, in milliseconds.
    pub skew_ms: u64,
    /// Mean delay per hop in milliseconds.
    pub mean_delay_ms: u64,
}

impl NetworkConstants {
    /// Maps time to epochs.
    ///
    /// # Errors
    /// The rule that no consensus with these constants would keep.
    pub fn clock(&self) -> Result<EpochClock, &'static str> {
        check_network(&self.network, self.epoch_length_ms, self.skew_ms, self.mean_delay_ms)
    }
}

/// What an authority signs by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it tells everybody.
    pub constants: NetworkConstants,
    /// Nodes that the first consensus waits for.
    pub expect: usize,
    /// One party runs all nodes.
    pub one_operator: bool,
    /// Who may come in.
    pub door: Door,
}
