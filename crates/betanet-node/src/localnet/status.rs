//! What runs of a local network, and how its nodes are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{AUTHORITY, LocalnetError};
use crate::authority::{self, AuthorityRecord};
use crate::http;
use crate::net::{NET_FILE, NetFile};
use crate::state::read_json;

/// What runs, for `status`.
pub const STATE_FILE: &str = "localnet.json";

/// Which processes run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalnetState {
    /// The owner.
    pub pid: u32,
    /// Children by name.
    pub children: BTreeMap<String, u32>,
}

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// It does its work.
    pub healthy: bool,
    /// Epoch of its consensus.
    pub epoch: Option<u64>,
    /// Nodes in its consensus.
    pub nodes: Option<usize>,
    /// Why there is no network, as it sees it.
    pub trouble: Option<String>,
}

pub(super) async fn health(address: SocketAddr) -> Option<Health> {
    let (status, body) = http::get(address, "/health").await.ok()?;
    let body: serde_json::Value = serde_json::from_str(&body).ok()?;
    let number = |name: &str| body.get(name).and_then(serde_json::Value::as_u64);
    Some(Health {
        healthy: status == 200,
        epoch: number("epoch"),
        nodes: number("nodes").and_then(|nodes| usize::try_from(nodes).ok()),
        trouble: body.get("trouble").and_then(serde_json::Value::as_str).map(str::to_owned),
    })
}

/// What `localnet status` shows of one node.
#[derive(Debug, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// What it is: entry, middle, exit or authority.
    pub role: String,
    /// Process id.
    pub pid: Option<u32>,
    /// Where it answers.
    pub http: Option<SocketAddr>,
    /// Its own words; nothing if it does not answer.
    pub health: Option<Health>,
}

/// Where the authority answers.
fn authority_http(dir: &Path) -> Option<SocketAddr> {
    let record: Option<AuthorityRecord> =
        read_json(&dir.join(AUTHORITY).join(authority::RECORD_FILE), "authority record").ok()?;
    record?.http_address
}

/// Looks at a running network.
///
/// # Errors
/// None runs in `dir`.
pub async fn status(dir: &Path) -> Result<Vec<NodeStatus>, LocalnetError> {
    let state: LocalnetState =
        read_json(&dir.join(STATE_FILE), "net state")?.ok_or_else(|| LocalnetError::NotRunning(dir.to_owned()))?;
    let net = NetFile::read_again(&dir.join(NET_FILE))?;
    // All at once: those that stand still do not answer.
    let asked = state.children.into_iter().map(|(name, pid)| {
        let role = name.split('-').next().unwrap_or_default().to_owned();
        let http = if role == AUTHORITY { authority_http(dir) } else { net.http.get(&name).copied() };
        tokio::spawn(async move {
            let health = match http {
                Some(address) => health(address).await,
                None => None,
            };
            NodeStatus { name, role, pid: Some(pid), http, health }
        })
    });
    let asked: Vec<_> = asked.collect();
    let mut nodes = Vec::new();
    for node in asked {
        nodes.extend(node.await.ok());
    }
    Ok(nodes)
}
