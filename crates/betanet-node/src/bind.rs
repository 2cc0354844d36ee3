//! Listening sockets that keep their port over restarts, and what others are told of them.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use betanet_mix::view::{LinkAddress, LinkAddressError};
use thiserror::Error;
use tokio::net::TcpListener;

use crate::rarely::Rarely;

/// A port cannot be used; the message names it and what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The one that was asked for.
    #[error("cannot listen on {address} ({purpose}): {reason}")]
    Port {
        /// Address and port.
        address: SocketAddr,
        /// What it is for.
        purpose: &'static str,
        /// Why, and what to do.
        reason: String,
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
    /// Others would be told of a place that they cannot reach.
    #[error("links at {bound} are of no use to others: {reason}; say with --announce HOST:PORT where they are reached")]
    Unreachable {
        /// Where the socket is.
        bound: SocketAddr,
        /// Why not.
        reason: LinkAddressError,
    },
    /// A port that changes behind one that does not.
    #[error("{announced} leads to one port: choose it with --listen {ip}:PORT instead of port 0", ip = Literal(*.ip))]
    AnyPort {
        /// What is announced.
        announced: LinkAddress,
        /// Where the socket is.
        ip: IpAddr,
    },
    /// The machine of whoever dials it.
    #[error("{announced} leads everybody to his own machine: announce what others reach, or listen on loopback")]
    Loopback {
        /// What is announced.
        announced: LinkAddress,
    },
}

/// An address as it is written before a port.
#[derive(Debug)]
struct Literal(IpAddr);

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "[{ip}]"),
        }
    }
}

/// What a socket is for, and the option that moves it.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// For people.
    pub name: &'static str,
    /// The command line option.
    pub option: &'static str,
}

/// Binds `address`. Port 0 means: the `former` address if it is free, any free port otherwise.
///
/// # Errors
/// The port is in use or may not be used.
pub async fn bind(address: SocketAddr, former: Option<SocketAddr>, purpose: Purpose) -> Result<TcpListener, BindError> {
    if address.port() == 0
        && let Some(former) = former.filter(|former| former.ip() == address.ip())
        && let Ok(listener) = TcpListener::bind(former).await
    {
        return Ok(listener);
    }
    TcpListener::bind(address).await.map_err(|err| refusal(address, purpose, &err))
}

fn refusal(address: SocketAddr, Purpose { name: purpose, option }: Purpose, err: &io::Error) -> BindError {
    let reason = match (err.kind(), address.port()) {
        (io::ErrorKind::AddrInUse, 0) => return BindError::NoneFree { ip: address.ip(), purpose },
        (io::ErrorKind::AddrInUse, _) => {
            format!("the port is in use; free it or choose another port with {option}")
        }
        (io::ErrorKind::AddrNotAvailable, _) => {
            "this machine has no such address; name one that it has, or 0.0.0.0 or [::] for all".to_owned()
        }
        _ => format!("{err}; choose another port with {option}"),
    };
    BindError::Port { address, purpose, reason }
}

/// What others are told of a socket at `bound` that was asked for as `asked`: what is announced, or the socket's address.
///
/// # Errors
/// It would lead them nowhere.
pub fn announced(
    asked: SocketAddr,
    bound: SocketAddr,
    announce: Option<&LinkAddress>,
) -> Result<LinkAddress, BindError> {
    let Some(announced) = announce.cloned() else {
        return LinkAddress::try_from(bound).map_err(|reason| BindError::Unreachable { bound, reason });
    };
    if asked.port() == 0 {
        return Err(BindError::AnyPort { announced, ip: asked.ip() });
    }
    if announced.is_loopback() && !bound.ip().to_canonical().is_loopback() {
        return Err(BindError::Loopback { announced });
    }
    Ok(announced)
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

    const LINK: Purpose = Purpose { name: "links", option: "--listen" };

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let first = bind((ip, 0).into(), None, LINK).await.unwrap();
        let address = first.local_addr().unwrap();
        let message = bind(address, None, LINK).await.unwrap_err().to_string();
        assert!(message.contains(&address.port().to_string()), "{message}");
        assert!(message.contains("--listen"), "{message}");
    }

    #[test]
    fn a_port_that_nobody_named_is_no_port_to_free() {
        let refused = |port, kind: io::ErrorKind| {
            let address = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
            refusal(address, LINK, &kind.into()).to_string()
        };
        let said = |port| refused(port, io::ErrorKind::AddrInUse);
        assert!(said(7).contains("free it or choose another port with --listen"), "{}", said(7));
        assert!(!said(0).contains("--listen") && !said(0).contains(":0"), "{}", said(0));
        assert!(said(0).contains("net.ipv4.ip_local_port_range"), "{}", said(0));
        let elsewhere = refused(7, io::ErrorKind::AddrNotAvailable);
        assert!(elsewhere.contains("no such address") && !elsewhere.contains("free it"), "{elsewhere}");
    }

    #[tokio::test]
    async fn a_former_port_is_kept_if_it_is_free() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let first = bind((ip, 0).into(), None, LINK).await.unwrap();
        let address = first.local_addr().unwrap();
        let other = bind((ip, 0).into(), Some(address), LINK).await.unwrap();
        assert_ne!(address, other.local_addr().unwrap());
        drop(first);
        let again = bind((ip, 0).into(), Some(address), LINK).await.unwrap();
        assert_eq!(address, again.local_addr().unwrap());
    }

    /// INV-LINK-67
    #[test]
    fn others_are_told_where_they_reach_a_socket_or_why_they_cannot() {
        let tell = |asked: &str, announce: Option<&str>| {
            let asked: SocketAddr = asked.parse().unwrap();
            let bound = SocketAddr::new(asked.ip(), if asked.port() == 0 { 4000 } else { asked.port() });
            let announce = announce.map(|text| text.parse().unwrap());
            announced(asked, bound, announce.as_ref()).map(|told| told.to_string()).map_err(|err| err.to_string())
        };
        for (asked, announce, told) in [
            ("127.0.0.1:0", None, "127.0.0.1:4000"),
            ("192.0.2.1:9000", None, "192.0.2.1:9000"),
            ("0.0.0.0:9000", Some("198.51.100.1:443"), "198.51.100.1:443"),
            ("[::]:9000", Some("mix.example:9000"), "mix.example:9000"),
            // A program beside it passes connections on.
            ("127.0.0.1:9000", Some("mix.example:9000"), "mix.example:9000"),
            ("[::1]:9000", Some("[::1]:9001"), "[::1]:9001"),
        ] {
            assert_eq!(Ok(told.to_owned()), tell(asked, announce), "{asked} {announce:?}");
        }
        for (asked, announce, words) in [
            ("0.0.0.0:9000", None, "0.0.0.0:9000 are of no use to others: nobody can dial"),
            ("[::]:0", None, "--announce HOST:PORT"),
            ("169.254.1.1:9000", None, "link-local"),
            ("[::]:0", Some("mix.example:9000"), "--listen [::]:PORT instead of port 0"),
            ("0.0.0.0:9000", Some("[::1]:9000"), "leads everybody to his own machine"),
            ("192.0.2.1:9000", Some("localhost:9000"), "leads everybody to his own machine"),
        ] {
            let refused = tell(asked, announce).unwrap_err();
            assert!(refused.contains(words) && !refused.contains('\n'), "{asked} {announce:?}: {refused}");
        }
    }
}
