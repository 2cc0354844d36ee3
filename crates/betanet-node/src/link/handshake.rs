//! How a link can fail to come up.

use std::io;

use thiserror::Error;

/// Why a link did not come up. Carries no detail of the cryptographic failure.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The own key could not be given to the TLS library.
    #[error("own link key is not usable")]
    OwnKey(#[source] rustls::Error),
    /// No TCP connection.
    #[error("no connection to the peer: {0}")]
    Connect(#[source] io::Error),
    /// The peer's name leads nowhere.
    #[error("the peer's name leads nowhere: {0}")]
    Name(#[source] io::Error),
    /// TLS failed: another key than the pinned one, another protocol, or a broken stream.
    #[error("the peer did not prove the expected key")]
    Tls(#[source] io::Error),
    /// The peer presented something that is no Ed25519 raw public key.
    #[error("the peer presented no Ed25519 raw public key")]
    PeerKey,
    /// The peer speaks no or another application protocol.
    #[error("the peer speaks another protocol")]
    Protocol,
    /// The handshake took too long.
    #[error("the handshake timed out")]
    Timeout,
}
