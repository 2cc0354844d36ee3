//! Signed documents of the directory and the view of the network that follows from them.
//!
//! A document travels as the JSON text its issuer signed, next to the signatures ([`Signed`]). Nothing inside is used
//! before it was verified: verification gives a [`Verified`] value, and only that is accepted further on. Parsing is
//! strict: unknown or repeated fields, over-long lists and unusual numbers are refused, and the text has a size limit
//! that is checked before any parsing.

mod address;
mod consensus;
mod delay_proof;
mod hash;
pub mod hexes;
mod link_address;
mod member;
mod network;
mod node;
mod seed;
mod signed;
mod token;
mod worker;

pub use address::{Address, AddressError, MAX_MAILBOXES, Mailbox};
pub use consensus::Consensus;
pub(crate) use consensus::check_network;
pub use delay_proof::{Beacon, DelayProof, DelaySection, Fault, LeftOut, Waiting};
pub use hash::ConsensusHash;
pub use link_address::{Host, LinkAddress, LinkAddressError};
pub use member::{Member, Prefix, PrefixError};
pub use network::{NetworkView, NodeView};
pub use node::{NodeDescriptor, Role};
pub use seed::{DelaySeed, proof_due};
pub use signed::{Document, DocumentError, Encoded, Signature, Signed, Verified, node_id_of};
pub use token::{AdmissionToken, TokenId};
pub use worker::{WorkerDescriptor, WorkerId, WorkerLimits, WorkerList};

#[cfg(test)]
mod tests;
