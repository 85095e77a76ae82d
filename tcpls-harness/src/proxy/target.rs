//! What a client asks to be connected to.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::{error, fmt};

/// Longest host name (RFC 1035), and longest label in it.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A host, by name or address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name in lower case, without a final dot.
    Name(String),
    /// An address; an IPv4 address that an IPv6 address maps is an IPv4 address.
    Address(IpAddr),
}

/// A host and a TCP port: `HOST:PORT`, the authority form of a request target (RFC 9112, 3.2.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port, not 0.
    pub port: u16,
}

impl Target {
    /// Returns the target at this address.
    pub fn at(address: IpAddr, port: u16) -> Self {
        Self { host: Host::Address(address.to_canonical()), port }
    }
}

impl Host {
    /// Parses a name, an IPv4 address, or an IPv6 address without brackets.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=MAX_LABEL).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if name.len() > MAX_NAME || !name.split('.').all(is_label) || is_number(&name) {
            return Err(TargetError::Host);
        }
        Ok(Self::Name(name))
    }
}

/// Whether the last label is a number: resolvers take `127.1`, `0x7f.1` and `2130706433` for IPv4 addresses, as the URL
/// standard does ("ends in a number").
fn is_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let digits = last.strip_prefix("0x");
    digits.map_or_else(
        || last.bytes().all(|byte| byte.is_ascii_digit()),
        |digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
    )
}

/// Splits `HOST:PORT` and `[IPV6]:PORT`; the brackets are required around colons, and around nothing else.
pub(super) fn split(text: &str) -> Option<(&str, bool, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once("]:")?;
        return Some((host, true, port));
    }
    let (host, port) = text.split_once(':')?;
    (!port.contains(':')).then_some((host, false, port))
}

/// Parses a port in decimal digits, not 0.
pub(super) fn parse_port(text: &str) -> Result<u16, TargetError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or(TargetError::Port)
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (host, in_brackets, port) = split(text).ok_or(TargetError::Form)?;
        let port = parse_port(port)?;
        let host = if in_brackets {
            Host::Address(IpAddr::V6(host.parse::<Ipv6Addr>().map_err(|_| TargetError::Host)?).to_canonical())
        } else {
            Host::parse(host)?
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why text is not a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetError {
    /// It is not `HOST:PORT`.
    Form,
    /// The host is neither a name nor an address.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "write HOST:PORT, with an IPv6 address in brackets",
            Self::Host => "the host is neither a name nor an address",
            Self::Port => "the port is not a number from 1 to 65535",
        })
    }
}

impl error::Error for TargetError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_names_and_addresses_with_ports() {
        for (text, shown) in [
            ("Example.COM:443", "example.com:443"),
            ("example.com.:443", "example.com:443"),
            ("192.0.2.1:22", "192.0.2.1:22"),
            ("[2001:DB8::1]:22", "[2001:db8::1]:22"),
            ("[::ffff:192.0.2.1]:22", "192.0.2.1:22"),
            ("_service.a-b.example:65535", "_service.a-b.example:65535"),
            ("1.2.3.0xg:1", "1.2.3.0xg:1"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), shown);
            assert_eq!(shown.parse(), Ok(target));
        }
    }

    #[test]
    fn malformed_targets_are_refused() {
        let long = format!("{}:1", "a".repeat(64));
        for text in [
            "",
            ":",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:+1",
            "a:65536",
            "a:1:2",
            "::1:22",
            "[::1]",
            "[::1]22",
            "[a]:1",
            "a b:1",
            "a..b:1",
            ".:1",
            "[fe80::1%eth0]:1",
            "user@host:1",
            "http://a:1",
            "a\u{0}:1",
            "é:1",
            "192.0.2.1.:1",
            "127.1:1",
            "127.0.0.0x1:1",
            "0x:1",
            "2130706433:1",
            &long,
        ] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }
}
