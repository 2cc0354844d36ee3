//! What keeps a client from its network, in one line with the cause first.

use std::fmt;
use std::io::ErrorKind;

use betanet_mix::view::{LinkAddress, NetworkView};
use thiserror::Error;

use crate::link::HandshakeError;

/// An edge of the client's that is away, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeFailure {
    /// Where it was looked for.
    pub address: LinkAddress,
    /// What became of it, as the end of a sentence.
    pub reason: String,
}

/// The client itself cannot reach the network: nobody else is to blame, and nothing has to be
/// decided because of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Offline {
    /// None of the client's edges is attached, or one is missing that is needed.
    #[error("{} of the network {}: {}; is the network up?", if *.all { "no edge" } else { "an edge" },
        if *.all { "answers" } else { "does not answer" }, Listed(.edges))]
    Edges {
        /// Whether all of them are away.
        all: bool,
        /// Those that are away and why.
        edges: Vec<EdgeFailure>,
    },
    /// Edges are attached, and no consensus that they gave is in force.
    #[error("there is no valid consensus: {0}")]
    Consensus(ConsensusTrouble),
    /// It was so when the operation failed, and is over.
    #[error("the network was out of reach until a moment ago; try again")]
    Passed,
}

/// Why no consensus is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConsensusTrouble {
    /// The edges gave none.
    #[error("the edges have none yet; is the directory authority up?")]
    None,
    /// The edges gave some, and none of them is of this network.
    #[error("the edges have one of another network or authority; is the network file right?")]
    Foreign,
    /// The newest has run out.
    #[error("the newest ran out {0} s ago; is the directory authority up, and this machine's clock right?")]
    RanOut(u64),
    /// The newest begins later.
    #[error("the newest begins in {0} s; is this machine's clock right?")]
    NotYet(u64),
}

impl ConsensusTrouble {
    /// Why `newest`, the newest one that is known, is not in force at `now_ms`.
    pub(super) fn of(newest: Option<&NetworkView>, now_ms: u64) -> Self {
        let Some(consensus) = newest.map(NetworkView::consensus) else { return Self::None };
        if now_ms < consensus.valid_after_ms {
            Self::NotYet((consensus.valid_after_ms - now_ms).div_ceil(1000))
        } else {
            Self::RanOut(now_ms.saturating_sub(consensus.valid_until_ms) / 1000)
        }
    }
}

struct Listed<'a>(&'a [EdgeFailure]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none was reached yet");
        }
        for (position, failure) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", failure.address, failure.reason)?;
        }
        Ok(())
    }
}

/// Why there is no link, in a few words.
pub(super) fn reason_of(error: &HandshakeError) -> String {
    match error {
        HandshakeError::Connect(cause) => match cause.kind() {
            ErrorKind::ConnectionRefused => "refuses the connection".into(),
            ErrorKind::ConnectionReset => "resets the connection".into(),
            ErrorKind::NetworkUnreachable => "cannot be reached: this machine's network is down".into(),
            ErrorKind::HostUnreachable => "cannot be reached".into(),
            ErrorKind::TimedOut => "does not answer".into(),
            _ => format!("cannot be reached: {cause}"),
        },
        HandshakeError::Name(cause) => format!("cannot be found: {cause}"),
        HandshakeError::Timeout => "does not answer".into(),
        other => format!("is no edge of this network: {other}"),
    }
}
