//! From a link address to a connection. Names are resolved whenever they are dialled, so a machine that moved is found
//! again by the next attempt.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use betanet_mix::view::{Host, LinkAddress};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::handshake::HandshakeError;
use crate::sync::lock;

/// Names that are looked up at once. Each holds a thread for as long as the system's resolver takes, which may be
/// longer than anybody waits.
const LOOKUPS: usize = 32;

/// Slow names that are told apart.
const SLOW: usize = 4096;

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

/// A name with its port, as others could have announced it as well.
type Named = (String, u16);

/// What comes of a look-up, for all who have asked for it meanwhile.
type Found = Result<Vec<SocketAddr>, Arc<io::Error>>;

struct Names {
    look_up: Arc<LookUp>,
    free: Arc<Semaphore>,
    /// The part of those places that slow names may have.
    free_for_slow: Arc<Semaphore>,
    under_way: Arc<Mutex<HashMap<Named, watch::Receiver<Option<Found>>>>>,
    /// Those for which whoever began their last look-up did not wait to its end.
    slow: Mutex<HashSet<Named>>,
}

/// A look-up that was begun, by whoever did.
struct Begun<'a> {
    slow: &'a Mutex<HashSet<Named>>,
    named: Named,
    is_over: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let mut slow = lock(self.slow);
        if self.is_over {
            slow.remove(&self.named);
        } else {
            // Whoever announces ever new names makes others cost one long look-up more, and no memory.
            if slow.len() >= SLOW {
                slow.clear();
            }
            slow.insert(self.named.clone());
        }
    }
}

impl Names {
    fn new(at_once: usize, look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self {
            look_up: Arc::new(look_up),
            free: Arc::new(Semaphore::new(at_once)),
            free_for_slow: Arc::new(Semaphore::new(at_once.div_ceil(2))),
            under_way: Arc::default(),
            slow: Mutex::default(),
        }
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

    /// The addresses of a name.
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = self.found((name.to_owned(), port)).await?;
        let found = found.map_err(|err| io::Error::new(err.kind(), err.to_string()))?;
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

    /// What comes of the look-up that is under way, or of a new one. Whoever gives up waiting leaves the thread to its end;
    /// it counts until then, so a name has one thread at most, and all that are slow have half of them.
    async fn found(&self, named: Named) -> io::Result<Found> {
        let running = lock(&self.under_way).get(&named).cloned();
        if let Some(running) = running {
            return outcome(running).await;
        }
        let is_slow = lock(&self.slow).contains(&named);
        let of_slow = if is_slow { Some(place(&self.free_for_slow).await?) } else { None };
        let places = (place(&self.free).await?, of_slow);
        let (done, wait) = watch::channel(None);
        // Somebody else may have begun while this one waited for a place.
        let running = lock(&self.under_way).entry(named.clone()).or_insert_with(|| wait.clone()).clone();
        if !running.same_channel(&wait) {
            drop(places);
            return outcome(running).await;
        }
        let (look_up, under_way) = (Arc::clone(&self.look_up), Arc::clone(&self.under_way));
        let thread = std::thread::Builder::new().name("resolve".into()).spawn({
            let named = named.clone();
            move || {
                let found = look_up(&named.0, named.1).map_err(Arc::new);
                lock(&under_way).remove(&named);
                drop(places);
                // Whoever asked may have given up.
                let _ = done.send(Some(found));
            }
        });
        if let Err(err) = thread {
            lock(&self.under_way).remove(&named);
            return Err(err);
        }
        let mut begun = Begun { slow: &self.slow, named, is_over: false };
        let found = outcome(wait).await;
        begun.is_over = true;
        found
    }
}

async fn place(of: &Arc<Semaphore>) -> io::Result<OwnedSemaphorePermit> {
    Arc::clone(of).acquire_owned().await.map_err(io::Error::other)
}

async fn outcome(mut running: watch::Receiver<Option<Found>>) -> io::Result<Found> {
    let found = running.wait_for(Option::is_some).await.map_err(io::Error::other)?;
    found.clone().ok_or_else(|| ErrorKind::Other.into())
}

#[cfg(test)]
mod tests;
