//! Why the client could not do what it was asked, and what of that is its own trouble.

use std::path::PathBuf;

use betanet_mix::courier::{FailReason, SendError};
use betanet_mix::message::MessageId;
use betanet_mix::path::PathError;
use thiserror::Error;

use super::Client;
use super::driver::SendFailure;
use super::offline::Offline;
use crate::control::ControlError;
use crate::link::HandshakeError;
use crate::state::StateError;

/// Why the client could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The state folder or the bootstrap file.
    #[error(transparent)]
    State(#[from] StateError),
    /// The link keys.
    #[error(transparent)]
    Link(#[from] HandshakeError),
    /// The bootstrap file names no edge.
    #[error("the network file names no edge: get a newer one from the authority's owner")]
    NoEdges,
    /// There is no bootstrap file.
    #[error("there is no network file {path}; is the network up?")]
    NoBootstrap {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A new client cannot have that many mailboxes.
    #[error("edges must be 1 to {most} in this network, not {asked}")]
    BadEdges {
        /// What was asked for.
        asked: usize,
        /// Edges of the network, or mailboxes that an address holds.
        most: usize,
    },
    /// The id of a send stands for another message.
    #[error("id {id} was used for another message; take a new one")]
    IdUsed {
        /// The id.
        id: MessageId,
    },
    /// The client itself cannot reach the network.
    #[error(transparent)]
    Offline(Offline),
    /// The network, or the client's part of it, is too small for the path.
    #[error("{0}")]
    NotEnoughNodes(PathError),
    /// The message, request or reply cannot be sent as it is.
    #[error("{0}")]
    Invalid(String),
    /// So much is under way that another message would have to wait.
    #[error("too many messages are under way; wait until some are done")]
    Busy,
    /// The message may or may not have arrived.
    #[error("the message failed: {0}")]
    Failed(FailReason),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// No answer in time to a request of which all was acknowledged.
    #[error("no answer in time, though the request has arrived")]
    Unanswered,
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// An edge or the authority refused, or could not be reached.
    #[error("the directory did not answer as it should: {0}")]
    Directory(#[from] ControlError),
    /// The operating system.
    #[error("cannot start the client: {0}")]
    System(#[from] std::io::Error),
    /// A file that is to be sent, or to become what was received.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was to be done with it.
        action: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What must not be forgotten cannot be written down.
    #[error("cannot write to the client's folder: {0}")]
    Storage(std::io::Error),
}

impl Client {
    /// Whether a send is refused for what keeps this client, or the recipient's edges, from the network at this moment.
    pub(super) fn is_own_trouble(&self, refusal: &SendError) -> bool {
        match refusal {
            SendError::NoConsensus => true,
            SendError::Path(path) => path.lacks_recipients_edge() || self.shared.lacks_edges(),
            _ => false,
        }
    }

    /// What keeps the client from the network at this moment.
    pub(super) fn cut_off(&self) -> Option<Offline> {
        let edges = || self.links.failures();
        if self.shared.status().edges_attached == 0 {
            return Some(Offline::Edges { all: true, edges: edges() });
        }
        self.links.consensus_trouble(self.links.now_ms()).map(Offline::Consensus)
    }

    /// What keeps, or has just kept, the client from the network.
    pub(super) fn offline(&self) -> Offline {
        self.cut_off().unwrap_or_else(|| {
            let edges = self.links.failures();
            if edges.is_empty() { Offline::Passed } else { Offline::Edges { all: false, edges } }
        })
    }

    /// What is wrong when nothing came in time.
    pub(super) fn too_late(&self) -> ClientError {
        self.cut_off().map_or(ClientError::Timeout, ClientError::Offline)
    }

    pub(super) fn error_of(&self, failure: SendFailure) -> ClientError {
        let own_edge = |error: &PathError| error.lacks_own_edge() && self.shared.lacks_edges();
        match failure {
            SendFailure::Refused(SendError::NoConsensus) | SendFailure::Failed(FailReason::NoConsensus { .. }) => {
                ClientError::Offline(self.offline())
            }
            SendFailure::Refused(SendError::Path(error)) | SendFailure::Failed(FailReason::NoPath { error, .. })
                if own_edge(&error) =>
            {
                ClientError::Offline(self.offline())
            }
            SendFailure::Refused(SendError::Path(error @ PathError::NotEnoughNodes { .. }))
            | SendFailure::Failed(FailReason::NoPath { error, .. }) => ClientError::NotEnoughNodes(error),
            SendFailure::Refused(err) => ClientError::Invalid(err.to_string()),
            SendFailure::Failed(FailReason::ReplyTimeout { stored: true, .. }) => {
                self.cut_off().map_or(ClientError::Unanswered, ClientError::Offline)
            }
            SendFailure::Failed(FailReason::ReplyTimeout { .. }) => self.too_late(),
            SendFailure::IdUsed(id) => ClientError::IdUsed { id },
            SendFailure::Failed(FailReason::Cancelled) => ClientError::Closed,
            SendFailure::Failed(reason) => self.cut_off().map_or(ClientError::Failed(reason), ClientError::Offline),
        }
    }
}
