//! Listening sockets that keep their port over restarts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::net::TcpListener;

/// A port cannot be used; the message names it and what to do.
#[derive(Debug, Error)]
#[error("cannot listen on {address} ({purpose}): {reason}; free it or choose another port with {option}")]
pub struct BindError {
    address: SocketAddr,
    purpose: &'static str,
    reason: String,
    option: &'static str,
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
    TcpListener::bind(address).await.map_err(|err| BindError {
        address,
        purpose: purpose.name,
        reason: match err.kind() {
            io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
            _ => err.to_string(),
        },
        option: purpose.option,
    })
}

/// Pause after a connection could not be accepted: out of file descriptors, some must close first.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is said that connections cannot be accepted.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// Waits out what keeps connections from being accepted, and does not fill the log meanwhile.
#[derive(Debug, Default)]
pub struct AcceptTrouble {
    said: Option<Instant>,
}

impl AcceptTrouble {
    /// Waits before the next try; says why once a minute.
    pub async fn wait_out(&mut self, error: &io::Error) {
        if self.is_news(Instant::now()) {
            tracing::warn!(%error, "accept.failed");
        }
        tokio::time::sleep(PAUSE).await;
    }

    fn is_news(&mut self, now: Instant) -> bool {
        let news = self.said.is_none_or(|said| now.duration_since(said) >= SAY_EVERY);
        if news {
            self.said = Some(now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    const LINK: Purpose = Purpose { name: "links", option: "--link-port" };

    #[test]
    fn what_keeps_connections_out_is_said_once_a_minute() {
        let (start, mut trouble) = (Instant::now(), AcceptTrouble::default());
        let said = (0..1300).filter(|tenth| trouble.is_news(start + PAUSE * *tenth)).count();
        assert_eq!(3, said);
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let first = bind(ip, 0, None, LINK).await.unwrap();
        let address = first.local_addr().unwrap();
        let message = bind(ip, address.port(), None, LINK).await.unwrap_err().to_string();
        assert!(message.contains(&address.port().to_string()), "{message}");
        assert!(message.contains("--link-port"), "{message}");
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
