#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod ephemeral;
mod error;
mod forward;
mod geometry;
mod group;
mod header;
mod ids;
mod keys;
mod payload;
pub mod suite;
mod surb;
mod unwrap;
pub mod x25519;

pub use error::{BuildError, KeyError, OpenerError, PacketError, SurbError};
pub use forward::{Draft, build_forward, build_forward_batch, build_forward_batch_knowing, build_forward_with};
pub use geometry::{Geometry, MAX_HOPS, PACKET_LEN, SURB_LEN, USER_PAYLOAD_LEN};
pub use ids::{DelayInput, MailboxId, NodeId, ReplayTag, SurbId};
pub use keys::{Hop, PublicKey, SecretKey};
pub use suite::{Action, Katzenpost, Maker, Native, Nym, Suite};
pub use surb::{ReplyOpener, Surb, SurbDraft, build_surb, build_surb_batch, build_surb_batch_knowing};
pub use unwrap::{
    NodeKeys, ReplayFilter, UnwrapResult, Unwrapped, parity_of, unwrap, unwrap_batch, unwrap_batch_with, unwrap_with,
};
