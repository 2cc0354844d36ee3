//! From a link address to a connection. Names are resolved whenever they are dialled, so a machine that moved is found
//! again by the next attempt.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use betanet_mix::view::{Host, LinkAddress};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::handshake::HandshakeError;

/// Names that are looked up at once. Each holds a thread for as long as the system's resolver takes, which may be
/// longer than anybody waits.
const LOOKUPS: usize = 32;

/// Addresses of one name that are tried.
const TRIED: usize = 4;

/// The resolver of this machine.
static SYSTEM: LazyLock<Names> =
    LazyLock::new(|| Names::new(LOOKUPS, |name, port| Ok((name, port).to_socket_addrs()?.collect())));

/// Opens a TCP connection; each address behind a name gets its part of `patience`.
///
/// # Errors
/// The name is not known, or no address of it takes the connection; the last one's reason.
pub(super) async fn connect(to: &LinkAddress, patience: Duration) -> Result<TcpStream, HandshakeError> {
    SYSTEM.connect(to, patience).await
}

type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

struct Names {
    look_up: Arc<LookUp>,
    free: Arc<Semaphore>,
}

impl Names {
    fn new(at_once: usize, look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self { look_up: Arc::new(look_up), free: Arc::new(Semaphore::new(at_once)) }
    }

    async fn connect(&self, to: &LinkAddress, patience: Duration) -> Result<TcpStream, HandshakeError> {
        let addresses = match to.host() {
            Host::Ip(ip) => vec![SocketAddr::new(*ip, to.port())],
            Host::Name(name) => self.resolve(name, to.port()).await.map_err(HandshakeError::Name)?,
        };
        let each = patience / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut last = HandshakeError::Timeout;
        for address in addresses {
            match timeout(each, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(err)) => last = HandshakeError::Connect(err),
                Err(_) => last = HandshakeError::Timeout,
            }
        }
        Err(last)
    }

    /// The addresses of a name that others could have announced as well. Whoever gives up waiting leaves the thread to
    /// its end; it counts until then.
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let free = Arc::clone(&self.free).acquire_owned().await.map_err(io::Error::other)?;
        let (done, wait) = oneshot::channel();
        let (look_up, owned) = (Arc::clone(&self.look_up), name.to_owned());
        std::thread::Builder::new().name("resolve".into()).spawn(move || {
            // Whoever asked may have given up.
            let _ = done.send(look_up(&owned, port));
            drop(free);
        })?;
        let found = wait.await.map_err(io::Error::other)??;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in found {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            if LinkAddress::try_from(address).is_ok() && !addresses.contains(&address) && addresses.len() < TRIED {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(io::Error::new(ErrorKind::NotFound, "it has no address that can be dialled"));
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests;
