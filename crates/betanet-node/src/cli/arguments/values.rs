//! What an argument may be.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use betanet_mix::view::{Role, TokenId};

pub(super) fn token_id(text: &str) -> Result<TokenId, String> {
    TokenId::parse(text).ok_or_else(|| "the id of a token is 32 digits and letters a to f".to_owned())
}

pub(super) fn role(text: &str) -> Result<Role, String> {
    [Role::Entry, Role::Middle, Role::Exit]
        .into_iter()
        .find(|role| role.name() == text)
        .ok_or_else(|| "a role is entry, middle or exit".to_owned())
}

/// Reads where to listen.
pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "where to listen is written as 192.0.2.1:9000 or [2001:db8::1]:9000".to_owned())
}

/// Reads an address of this machine that no other reaches.
pub(super) fn one_address(text: &str) -> Result<IpAddr, String> {
    let ip: Option<IpAddr> = text.parse().ok().filter(IpAddr::is_loopback);
    ip.ok_or_else(|| {
        "a local network is for this machine alone: 127.0.0.1 or ::1 (docs/guides/run-a-node.md: several machines)"
            .to_owned()
    })
}

/// Reads an address of this machine at which others reach it.
pub(super) fn reachable(text: &str) -> Result<IpAddr, String> {
    let refused = |ip: &IpAddr| ip.is_unspecified() || ip.is_loopback() || ip.is_multicast();
    let ip: Option<IpAddr> = text.parse().ok().filter(|ip| !refused(ip));
    ip.ok_or_else(|| "give one address of this machine that others reach, as 192.0.2.1 or 2001:db8::1".to_owned())
}

/// Reads `600s`, `15ms`, `0.5s`, `10m` or `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write 600s, 15ms, 0.5s, 10m or 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (whole, part) = number.split_once('.').map_or((number, None), |(whole, part)| (whole, Some(part)));
    let whole: u32 = whole.parse().map_err(|_| wrong())?;
    let billionths: u32 = match part {
        None => 0,
        Some(part) if (1..=9).contains(&part.len()) => format!("{part:0<9}").parse().map_err(|_| wrong())?,
        Some(_) => return Err(wrong()),
    };
    let one = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => return Err(wrong()),
    };
    // A billionth of an hour is more than a nanosecond, and what is less than that is nothing.
    let part = one.as_nanos() * u128::from(billionths) / 1_000_000_000;
    Ok(one * whole + Duration::from_nanos(u64::try_from(part).map_err(|_| wrong())?))
}

/// Checks a duration and keeps its text, to be passed on.
pub(super) fn duration_text(text: &str) -> Result<String, String> {
    duration(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    #[test]
    fn an_address_that_is_not_loopback_is_refused() {
        assert!(one_address("::1").unwrap().is_ipv6());
        for wrong in ["0.0.0.0", "::", "192.0.2.1", "localhost", "[::1]", ""] {
            assert!(one_address(wrong).unwrap_err().contains("127.0.0.1"), "{wrong}");
        }
    }

    #[test]
    fn links_listen_for_others_at_an_address_that_others_reach() {
        assert_eq!("10.1.0.1", reachable("10.1.0.1").unwrap().to_string());
        for wrong in ["0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.1", "10.1.0.1:7000", ""] {
            assert!(reachable(wrong).unwrap_err().contains("192.0.2.1"), "{wrong}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(Duration::from_millis(15), duration("15ms").unwrap());
        assert_eq!(Duration::from_mins(10), duration("600s").unwrap());
        assert_eq!(Duration::from_hours(1), duration("60m").unwrap());
        assert_eq!(Duration::from_millis(500), duration("0.5s").unwrap());
        assert_eq!(Duration::from_mins(90), duration("1.5h").unwrap());
        assert_eq!(Duration::from_micros(1250), duration("1.250ms").unwrap());
        let wrong = ["", "5", "s", "-1s", "5 s", "1d", "99999999999s", ".5s", "1.s", "1.2.3s", "1.0000000001s", "."];
        for wrong in wrong {
            assert!(duration(wrong).unwrap_err().contains("600s"), "{wrong}");
        }
    }
}
