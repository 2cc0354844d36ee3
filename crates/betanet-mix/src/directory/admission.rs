//! Who may join a network: nodes that show a token of its authority. No I/O and no clock: time is passed in.
//!
//! A token is used up by the nodes that came with it, each counted once, whatever they send afterwards. Who was let in
//! stays in; a token's date says until when it lets in somebody new.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use betanet_sphinx::NodeId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::view::{AdmissionToken, DocumentError, Role, Signed, TokenId, hexes};

/// Who may come into the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// Everybody: it is for one operator and one machine.
    Open,
    /// Who shows a token of this authority, and is reached where it says.
    Tokens {
        /// The authority.
        authority: NodeId,
        /// Whether the authority is announced at loopback: then its nodes may be.
        loopback: bool,
    },
}

/// What a node shows beside its descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'a> {
    /// Its admission token.
    pub token: Option<&'a Signed>,
    /// The address at which it proved its key when it was dialled where its descriptor says.
    pub reached: Option<IpAddr>,
}

/// Why a node may not join; each says what to do.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// It came without a token, and never had one.
    #[error("this network lets in nodes with a token: ask its authority's owner for one, and start with --token FILE")]
    NoToken,
    /// What it showed is no token of this authority.
    #[error("the token is none of this authority's ({0}): ask its owner for another, and start with --token FILE")]
    NotOurs(DocumentError),
    /// The token is of another network of the same authority's key.
    #[error("the token is for another network: ask this one's owner for another, and start with --token FILE")]
    OtherNetwork,
    /// The authority's owner took it back.
    #[error("the token was revoked: ask the authority's owner for another, and start with --token FILE")]
    Revoked,
    /// Nobody new comes in with it.
    #[error("the token expired: ask the authority's owner for another, and start with --token FILE")]
    Expired,
    /// As many nodes came with it as may.
    #[error("the token is used up by {uses} nodes: ask the authority's owner for another, and start with --token FILE")]
    UsedUp {
        /// How many that are.
        uses: u32,
    },
    /// The token is for nodes of other roles.
    #[error("the token is not for {} nodes but for {}: start with --role, or ask for another token", .asked.name(),
        names(.roles))]
    OtherRole {
        /// The role that was asked for.
        asked: Role,
        /// The roles that it is for.
        roles: Vec<Role>,
    },
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ")
}

/// A node that was let in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Admission {
    #[serde(with = "hexes::node_id")]
    node: NodeId,
    operator: String,
    roles: Vec<Role>,
    token: TokenId,
}

impl Admission {
    fn covers(&self, role: Role) -> Result<(), AdmissionError> {
        if self.roles.contains(&role) {
            return Ok(());
        }
        Err(AdmissionError::OtherRole { asked: role, roles: self.roles.clone() })
    }
}

/// What may be decided about a node without a change to anything.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "nobody is let in before it is kept"]
pub struct Admitted(Admission);

impl Admitted {
    /// Who runs the node.
    #[must_use]
    pub fn operator(&self) -> &str {
        &self.0.operator
    }
}

/// A token that a node came with. It stays one of those that came with it, whatever it shows later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Use {
    token: TokenId,
    #[serde(with = "hexes::node_id")]
    node: NodeId,
}

/// Who was let in, and by which token. Kept with the authority's documents: a node stands in no consensus before the use
/// of its token is on disk.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Admissions {
    #[serde(with = "by_node")]
    nodes: BTreeMap<NodeId, Admission>,
    uses: BTreeSet<Use>,
    /// They stand in files of their own.
    #[serde(skip)]
    revoked: BTreeSet<TokenId>,
}

mod by_node {
    use super::{Admission, BTreeMap, NodeId};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(nodes: &BTreeMap<NodeId, Admission>, out: S) -> Result<S::Ok, S::Error> {
        nodes.values().collect::<Vec<_>>().serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<NodeId, Admission>, D::Error> {
        let saved = Vec::<Admission>::deserialize(input)?;
        Ok(saved.into_iter().map(|admission| (admission.node, admission)).collect())
    }
}

impl Admissions {
    /// Decides whether `node` may serve as `role` at `now_ms` in `network`, whose authority is `authority`.
    ///
    /// # Errors
    /// [`AdmissionError`] in one line that says what to do.
    pub fn decide(
        &self,
        (network, authority): (&str, NodeId),
        node: NodeId,
        role: Role,
        token: Option<&Signed>,
        now_ms: u64,
    ) -> Result<Admitted, AdmissionError> {
        let known = self.nodes.get(&node);
        let Some(token) = token else {
            let known = known.ok_or(AdmissionError::NoToken)?;
            known.covers(role)?;
            return Ok(Admitted(known.clone()));
        };
        let token = token.verify::<AdmissionToken>(&[authority], 1).map_err(AdmissionError::NotOurs)?;
        if token.network != network || token.authority != authority {
            return Err(AdmissionError::OtherNetwork);
        }
        let AdmissionToken { id, ref operator, ref roles, uses, expires_ms, .. } = *token;
        let admission = Admission { node, operator: operator.clone(), roles: roles.clone(), token: id };
        if self.revoked.contains(&id) {
            return Err(AdmissionError::Revoked);
        }
        admission.covers(role)?;
        if self.uses.contains(&Use { token: id, node }) {
            return Ok(Admitted(admission));
        }
        if expires_ms <= now_ms {
            return Err(AdmissionError::Expired);
        }
        let used = self.uses.iter().filter(|one| one.token == id).count();
        if u32::try_from(used).is_ok_and(|used| used >= uses) {
            return Err(AdmissionError::UsedUp { uses });
        }
        Ok(Admitted(admission))
    }

    /// Whether a node was let in.
    #[must_use]
    pub fn holds(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Who came with a token, whether or not he showed another one since.
    pub fn came_with(&self, token: TokenId) -> impl Iterator<Item = NodeId> {
        self.uses.iter().filter(move |one| one.token == token).map(|one| one.node)
    }

    /// Takes tokens back, and puts out whoever showed one of them last.
    pub fn revoke(&mut self, tokens: &BTreeSet<TokenId>) {
        self.revoked.extend(tokens);
        self.nodes.retain(|_, admission| !self.revoked.contains(&admission.token));
    }

    /// Lets a node in. Between [`Self::decide`] and this, nobody else may have been.
    pub fn keep(&mut self, Admitted(admission): Admitted) {
        self.uses.insert(Use { token: admission.token, node: admission.node });
        self.nodes.insert(admission.node, admission);
    }
}

#[cfg(test)]
mod tests;
