//! Where others reach somebody's links.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes of the longest name, and of the longest part between two dots.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// An address or a name, and a port, that mean the same to everybody who reads them.
///
/// It is what somebody announces, which is not always what he listens on: a port may be mapped, and a name outlives an
/// address. Written as `192.0.2.1:9000`, `[2001:db8::1]:9000` or `mix.example:9000`, and in no other way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkAddress {
    host: Host,
    port: u16,
}

/// The part of a [`LinkAddress`] before its port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name, to be resolved whenever it is dialled.
    Name(String),
}

/// Why a text or a socket's address is nothing that others can dial.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkAddressError {
    /// The text has another form.
    #[error("a link address is HOST:PORT or [IPV6]:PORT, with a lower-case name of the DNS as HOST or without one")]
    Form,
    /// The port is 0.
    #[error("nobody can dial port 0: name the port that others reach")]
    Port,
    /// `0.0.0.0`, `::`, a group or everybody.
    #[error("nobody can dial an address that stands for any or for many: name the one that others reach")]
    NotOne,
    /// An IPv4 address in the clothes of IPv6.
    #[error("an IPv4 address is written as such, not as ::ffff:…")]
    Mapped,
    /// An address that means something else on every machine.
    #[error("a link-local address means nothing beyond its own cable: name one that others reach")]
    LinkLocal,
}

impl LinkAddress {
    /// The address or the name.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The address, unless it is a name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ip(ip) => Some(ip),
            Host::Name(_) => None,
        }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it leads everybody who dials it to his own machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.is_loopback(),
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        }
    }
}

impl TryFrom<SocketAddr> for LinkAddress {
    type Error = LinkAddressError;

    fn try_from(address: SocketAddr) -> Result<Self, LinkAddressError> {
        if address.port() == 0 {
            return Err(LinkAddressError::Port);
        }
        let (ip, scoped) = match address {
            SocketAddr::V4(v4) => (IpAddr::V4(*v4.ip()), false),
            SocketAddr::V6(v6) => (IpAddr::V6(*v6.ip()), v6.scope_id() != 0),
        };
        match ip {
            _ if ip.is_unspecified() || ip.is_multicast() => Err(LinkAddressError::NotOne),
            IpAddr::V4(v4) if v4.is_broadcast() => Err(LinkAddressError::NotOne),
            IpAddr::V4(v4) if v4.is_link_local() => Err(LinkAddressError::LinkLocal),
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(LinkAddressError::Mapped),
            IpAddr::V6(v6) if scoped || v6.is_unicast_link_local() => Err(LinkAddressError::LinkLocal),
            ip => Ok(Self { host: Host::Ip(ip), port: address.port() }),
        }
    }
}

impl FromStr for LinkAddress {
    type Err = LinkAddressError;

    fn from_str(text: &str) -> Result<Self, LinkAddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(LinkAddressError::Form)?;
        let number: u16 = port.parse().map_err(|_| LinkAddressError::Form)?;
        if number.to_string() != port {
            return Err(LinkAddressError::Form);
        }
        if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let scope = inner.split_once('%');
            let ip: Ipv6Addr = scope.map_or(inner, |(ip, _)| ip).parse().map_err(|_| LinkAddressError::Form)?;
            if scope.is_some() {
                return Err(LinkAddressError::LinkLocal);
            }
            return Self::try_from(SocketAddr::from((ip, number)));
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            // An IPv6 address without brackets has a port that may as well be its last part.
            let v4 = Some(ip).filter(IpAddr::is_ipv4).ok_or(LinkAddressError::Form)?;
            return Self::try_from(SocketAddr::from((v4, number)));
        }
        if !is_name(host) {
            return Err(LinkAddressError::Form);
        }
        if number == 0 {
            return Err(LinkAddressError::Port);
        }
        Ok(Self { host: Host::Name(host.to_owned()), port: number })
    }
}

/// Whether a text is a name of the DNS and can be nothing else: resolvers take `127.1` and `0x7f000001` for addresses.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let plain = label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        (1..=MAX_LABEL).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or(text);
    text.len() <= MAX_NAME && text.split('.').all(label) && last.starts_with(|c: char| c.is_ascii_lowercase())
}

impl fmt::Display for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl TryFrom<String> for LinkAddress {
    type Error = LinkAddressError;

    fn try_from(text: String) -> Result<Self, LinkAddressError> {
        text.parse()
    }
}

impl From<LinkAddress> for String {
    fn from(address: LinkAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests;
