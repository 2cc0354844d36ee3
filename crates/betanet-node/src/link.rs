//! Links: TLS 1.3 connections between raw Ed25519 keys that carry frames of one length.
//!
//! The specification is `docs/spec/link.md`. In short: both sides always present a raw public key
//! (RFC 7250), the dialling side pins the key it expects, there are no certificates, no session
//! resumption and no early data, and everything on the wire after the handshake is a frame of
//! [`frame::FRAME_LEN`] bytes.

mod control_message;
pub mod frame;
mod handshake;
mod io;
mod names;
mod tls;

pub use control_message::{ControlMessage, Stock};
pub use frame::{FRAME_LEN, Frame, FrameKind};
pub use handshake::HandshakeError;
pub use io::{
    LinkError, LinkReader, LinkSender, LinkTimeouts, LinkWriter, MESSAGE_LIMIT, MOST_IDLE, Packets, REQUEST_LIMIT,
    Received,
};
pub use tls::{Accepted, Dialer, Listener};
