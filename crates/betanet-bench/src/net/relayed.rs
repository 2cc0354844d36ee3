//! A node that announces the address of somebody who holds its key: who dials it comes there instead.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use betanet_mix::view::node_id_of;
use betanet_node::link::{LinkTimeouts, Listener};
use betanet_node::net::Endpoint;
use betanet_node::state::StateDir;
use ed25519_dalek::SigningKey;
use tokio::net::TcpListener;

use crate::Failure;
use crate::child::Child;

/// The node, and what has to be done in its place.
#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) key: SigningKey,
    /// As others know it.
    pub(super) endpoint: Endpoint,
    /// Where their links come.
    pub(super) listener: Listener,
    pub(super) child: Child,
}

impl Relayed {
    /// Starts it in a folder of its own.
    pub(super) async fn start(betanet: &Path, dir: PathBuf, role: &str, bootstrap: &Path) -> Result<Self, Failure> {
        // The lock is given back before the node wants it.
        let key = StateDir::open(&dir)?.signing_key("identity.key")?;
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = tcp.local_addr()?;
        let announce = address.to_string();
        // Who announces another address than its own is not given port 0: that port would lead nowhere.
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.to_string();
        let arguments = ["node", "--http-port", "0", "--workers", "1", "--die-with-parent", "--listen", &listen]
            .into_iter()
            .chain(["--role", role, "--announce", &announce, "--dir"])
            .map(OsStr::new)
            .chain([dir.as_os_str(), OsStr::new("--bootstrap"), bootstrap.as_os_str()]);
        let child = Child::start(betanet, None, &arguments.collect::<Vec<_>>(), &[])?;
        let endpoint = Endpoint { id: node_id_of(&key), address: address.try_into()? };
        Ok(Self { listener: Listener::new(tcp, &key, LinkTimeouts::default())?, key, endpoint, child })
    }
}
