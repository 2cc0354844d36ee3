//! What lets a node into a network that is not local.

use std::fmt;

use betanet_sphinx::NodeId;
use serde::{Deserialize, Serialize};

use super::hexes;
use super::member::check_operator;
use super::node::Role;
use super::signed::Document;
use crate::text::is_short;

/// Nodes that one token may let in at most: as many as a network may list.
const MAX_USES: u32 = 1024;

/// Names one token among all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(#[serde(with = "hexes::array")] pub [u8; 16]);

impl TokenId {
    /// The id that its text, 32 lower-case hex digits, stands for.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        let id = Self(bytes);
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// An authority's word that nodes of one operator may join. Whoever holds it may use it, so it is kept like a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmissionToken {
    /// The network's name.
    pub network: String,
    /// The authority that signed it and will be shown it.
    #[serde(with = "hexes::node_id")]
    pub authority: NodeId,
    /// Drawn at random.
    pub id: TokenId,
    /// Who runs the nodes that come with it.
    pub operator: String,
    /// The parts of a path that they may serve, in order and once each.
    pub roles: Vec<Role>,
    /// How many nodes may come with it.
    pub uses: u32,
    /// Until when a node may come with it for the first time, Unix milliseconds.
    pub expires_ms: u64,
}

impl Document for AdmissionToken {
    const DOMAIN: &'static str = "betanet admission token v1";
    const MAX_BYTES: usize = 1024;

    fn check(&self) -> Result<(), &'static str> {
        if self.network.is_empty() || !is_short(&self.network, 64) {
            return Err("a network name is 1 to 64 printable characters");
        }
        check_operator(&self.operator)?;
        if self.roles.is_empty() || !self.roles.is_sorted_by(|one, next| one < next) {
            return Err("a token names one to three roles, in order and once each");
        }
        if self.uses == 0 || self.uses > MAX_USES {
            return Err("a token lets in 1 to 1024 nodes");
        }
        Ok(())
    }
}
