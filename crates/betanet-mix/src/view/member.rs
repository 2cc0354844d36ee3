//! A node as the directory lists it: what it says about itself, and what was verified about it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::node::NodeDescriptor;
use crate::text::is_short;

const MAX_OPERATOR: usize = 64;

/// A node of a consensus.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// What the node says about itself.
    pub descriptor: NodeDescriptor,
    /// Who runs it, by the admission that let it in. Nodes of one operator do not share a path unless the network says
    /// `one_operator`.
    pub operator: String,
    /// The prefix of the address at which it proved its key to the directory.
    pub prefix: Prefix,
}

impl Deref for Member {
    type Target = NodeDescriptor;

    fn deref(&self) -> &NodeDescriptor {
        &self.descriptor
    }
}

/// Whether a text may be an operator's name.
///
/// # Errors
/// The rule that does not hold.
pub(super) fn check_operator(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || !is_short(name, MAX_OPERATOR) {
        return Err("an operator is 1 to 64 printable characters");
    }
    Ok(())
}

/// The part of an address that neighbours share: /16 of IPv4, /32 of IPv6. Whoever sees or closes one of them probably
/// sees or closes the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(Network);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Network {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

const V4_BITS: u32 = 16;
const V6_BITS: u32 = 32;

/// A text is no prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a prefix is written as 192.0.0.0/16 or 2001:db8::/32")]
pub struct PrefixError;

impl Prefix {
    /// The prefix of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(Network::V4(Ipv4Addr::from_bits(ip.to_bits() & !(u32::MAX >> V4_BITS)))),
            IpAddr::V6(ip) => Self(Network::V6(Ipv6Addr::from_bits(ip.to_bits() & !(u128::MAX >> V6_BITS)))),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Network::V4(ip) => write!(f, "{ip}/{V4_BITS}"),
            Network::V6(ip) => write!(f, "{ip}/{V6_BITS}"),
        }
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (ip, _) = text.split_once('/').ok_or(PrefixError)?;
        let prefix = Self::of(ip.parse().map_err(|_| PrefixError)?);
        // One text per value.
        if prefix.to_string() == text { Ok(prefix) } else { Err(PrefixError) }
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_follow_the_address_family() {
        let prefix_of = |text: &str| Prefix::of(text.parse().unwrap());
        assert_eq!(prefix_of("10.1.2.3"), prefix_of("10.1.200.9"));
        assert_ne!(prefix_of("10.1.2.3"), prefix_of("10.2.2.3"));
        assert_eq!(prefix_of("::ffff:10.1.2.3"), prefix_of("10.1.9.9"));
        assert_eq!(prefix_of("2001:db8:1::1"), prefix_of("2001:db8:2::1"));
        assert_ne!(prefix_of("2001:db8::1"), prefix_of("2001:db9::1"));
    }

    #[test]
    fn a_prefix_is_written_in_one_way() {
        for (ip, text) in [("10.1.2.3", "10.1.0.0/16"), ("2001:db8:7::1", "2001:db8::/32"), ("::1", "::/32")] {
            let prefix = Prefix::of(ip.parse().unwrap());
            assert_eq!((text.to_owned(), Ok(prefix)), (prefix.to_string(), text.parse()));
        }
        for wrong in ["", "10.1.0.0", "10.1.2.0/16", "10.1.0.0/8", "10.1.0.0/016", "2001:DB8::/32", "x/16", "::/0"] {
            assert_eq!(Err(PrefixError), wrong.parse::<Prefix>(), "{wrong}");
        }
    }
}
