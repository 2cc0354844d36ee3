//! Listening sockets that keep their port over restarts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::net::TcpListener;

use crate::rarely::Rarely;

/// A port cannot be used; the message names it and what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The one that was asked for.
    #[error("cannot listen on {address} ({purpose}): {reason}; free it or choose another port with {option}")]
    Port {
        /// Address and port.
        address: SocketAddr,
        /// What it is for.
        purpose: &'static str,
        /// Why.
        reason: String,
        /// The option that chooses another one.
        option: &'static str,
    },
    /// Any would have done.
    #[error(
        "no port of {ip} is free ({purpose}): stop programs that hold many, \
         or widen the range with sysctl net.ipv4.ip_local_port_range"
    )]
    NoneFree {
        /// The address.
        ip: IpAddr,
        /// What it is for.
        purpose: &'static str,
    },
}

/// What a socket is for, and the option that moves it.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// For people.
    pub name: &'static str,
    /// The command line option.
    pub option: &'static str,
}

/// Binds `port` on `ip`. Port 0 means: the `former` address if it is free, any free port otherwise.
///
/// # Errors
/// The port is in use or may not be used.
pub async fn bind(
    ip: IpAddr,
    port: u16,
    former: Option<SocketAddr>,
    purpose: Purpose,
) -> Result<TcpListener, BindError> {
    if port == 0
        && let Some(former) = former.filter(|former| former.ip() == ip)
        && let Ok(listener) = TcpListener::bind(former).await
    {
        return Ok(listener);
    }
    let address = SocketAddr::new(ip, port);
    TcpListener::bind(address).await.map_err(|err| refusal(address, purpose, &err))
}

fn refusal(address: SocketAddr, Purpose { name: purpose, option }: Purpose, err: &io::Error) -> BindError {
    let reason = match (err.kind(), address.port()) {
        (io::ErrorKind::AddrInUse, 0) => return BindError::NoneFree { ip: address.ip(), purpose },
        (io::ErrorKind::AddrInUse, _) => "the port is in use".to_owned(),
        _ => err.to_string(),
    };
    BindError::Port { address, purpose, reason, option }
}

/// Pause after a connection could not be accepted: out of file descriptors, some must close first.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits out what keeps connections from being accepted, and does not fill the log meanwhile.
#[derive(Debug, Default)]
pub struct AcceptTrouble(Rarely);

impl AcceptTrouble {
    /// Waits before the next try; says why once a minute.
    pub async fn wait_out(&mut self, error: &io::Error) {
        if self.0.is_due(Instant::now()) {
            tracing::warn!(%error, "accept.failed");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    const LINK: Purpose = Purpose { name: "links", option: "--link-port" };

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let first = bind(ip, 0, None, LINK).await.unwrap();
        let address = first.local_addr().unwrap();
        let message = bind(ip, address.port(), None, LINK).await.unwrap_err().to_string();
        assert!(message.contains(&address.port().to_string()), "{message}");
        assert!(message.contains("--link-port"), "{message}");
    }

    #[test]
    fn a_port_that_nobody_named_is_no_port_to_free() {
        let said = |port| {
            let address = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
            refusal(address, LINK, &io::Error::from(io::ErrorKind::AddrInUse)).to_string()
        };
        assert!(said(7).contains("free it or choose another port with --link-port"), "{}", said(7));
        assert!(!said(0).contains("--link-port") && !said(0).contains(":0"), "{}", said(0));
        assert!(said(0).contains("net.ipv4.ip_local_port_range"), "{}", said(0));
    }

    #[tokio::test]
    async fn a_former_port_is_kept_if_it_is_free() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let first = bind(ip, 0, None, LINK).await.unwrap();
        let address = first.local_addr().unwrap();
        let other = bind(ip, 0, Some(address), LINK).await.unwrap();
        assert_ne!(address, other.local_addr().unwrap());
        drop(first);
        let again = bind(ip, 0, Some(address), LINK).await.unwrap();
        assert_eq!(address, again.local_addr().unwrap());
    }
}
