//! `net.json`: how to reach a network for the first time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

pub use betanet_mix::view::hexes::node_id as hex_id;
use betanet_sphinx::NodeId;
use serde::{Deserialize, Serialize};

use crate::state::{StateError, read_json};

/// The bootstrap file: everything that a newcomer has to trust or to try first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetFile {
    /// The network's name; part of every signature.
    pub network: String,
    /// Who signs the consensus.
    pub authority: Endpoint,
    /// Edges to try first.
    pub edges: Vec<Endpoint>,
    /// One operator runs every node, so paths give no anonymity.
    pub one_operator: bool,
    /// Where each node answers `/health` and `/metrics`, by its name; local nets only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub http: BTreeMap<String, SocketAddr>,
}

/// A key and where its owner listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Ed25519 public key.
    #[serde(with = "hex_id")]
    pub id: NodeId,
    /// Link address.
    pub address: SocketAddr,
}

impl NetFile {
    /// Reads the file.
    ///
    /// # Errors
    /// It does not exist, cannot be read, or is no bootstrap file.
    pub fn read(path: &Path) -> Result<Self, StateError> {
        read_json(path, "network file")?.ok_or_else(|| StateError::Io {
            action: "read",
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }
}
