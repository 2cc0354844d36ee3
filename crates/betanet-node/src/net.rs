//! `net.json`: how to reach a network for the first time.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

use betanet_mix::view::LinkAddress;
pub use betanet_mix::view::hexes::node_id as hex_id;
use betanet_sphinx::NodeId;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::state::{StateError, read_json, read_named_json};

/// The file's name in the folder of a network or an authority.
pub const NET_FILE: &str = "net.json";

/// What the file is called in messages, and the bytes that one may have.
const WHAT: &str = "network file";
const LIMIT: usize = 1024 * 1024;

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

/// A key and where others reach its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Ed25519 public key.
    #[serde(with = "hex_id")]
    pub id: NodeId,
    /// Link address.
    pub address: LinkAddress,
}

impl NetFile {
    /// Reads the file that the user names, for the first time: a pipe will do.
    ///
    /// # Errors
    /// It does not exist, cannot be read, is too large, or is no bootstrap file.
    pub fn read(path: &Path) -> Result<Self, StateError> {
        read_named_json(path, WHAT, LIMIT)
    }

    /// As [`NetFile::read`], for whoever may be told to stop meanwhile: a pipe that nobody fills holds
    /// up a thread of its own.
    ///
    /// # Errors
    /// As [`NetFile::read`].
    pub async fn wait_for(path: &Path) -> Result<Self, StateError> {
        if path.is_file() {
            return Self::read(path);
        }
        let failed = |source| StateError::Io { action: "read", path: path.to_owned(), source };
        let (done, wait) = oneshot::channel();
        let name = path.to_owned();
        // Whoever asked may have given up.
        let read = move || drop(done.send(Self::read(&name)));
        std::thread::Builder::new().name("net-file".into()).spawn(read).map_err(failed)?;
        wait.await.map_err(|_| failed(ErrorKind::Interrupted.into()))?
    }

    /// Reads the file once more, for what has changed. What can be read only once is not waited for.
    ///
    /// # Errors
    /// It does not exist, is no regular file, cannot be read, or is no bootstrap file.
    pub fn read_again(path: &Path) -> Result<Self, StateError> {
        let missing = || StateError::Io { action: "read", path: path.to_owned(), source: ErrorKind::NotFound.into() };
        read_json(path, WHAT)?.ok_or_else(missing)
    }
}
