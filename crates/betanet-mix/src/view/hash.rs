//! What documents call a consensus.

use serde::{Deserialize, Serialize};

use super::hexes;

/// SHA-256 over a consensus' content, signatures left out. Consensuses form a chain by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConsensusHash(#[serde(with = "hexes::array")] pub [u8; 32]);
