//! Which targets a server permits: a list of patterns, nothing without one.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::{error, fmt};

use super::target::{Host, Target, parse_port, split};
use crate::net::Network;

/// Blocks of IPv4 addresses that are not public (RFC 6890 and its registry).
const SPECIAL_V4: [(u32, u8); 16] = [
    (v4(0, 0, 0, 0), 8),
    (v4(10, 0, 0, 0), 8),
    (v4(100, 64, 0, 0), 10),
    (v4(127, 0, 0, 0), 8),
    (v4(168, 63, 129, 16), 32), // public, but the host's own on Azure: it serves secrets of the machine
    (v4(169, 254, 0, 0), 16),
    (v4(172, 16, 0, 0), 12),
    (v4(192, 0, 0, 0), 24),
    (v4(192, 0, 2, 0), 24),
    (v4(192, 88, 99, 0), 24),
    (v4(192, 168, 0, 0), 16),
    (v4(198, 18, 0, 0), 15),
    (v4(198, 51, 100, 0), 24),
    (v4(203, 0, 113, 0), 24),
    (v4(224, 0, 0, 0), 4),
    (v4(240, 0, 0, 0), 4),
];

/// The same of IPv6. Blocks whose addresses contain IPv4 addresses (NAT64, 6to4, Teredo) are among them: they could lead
/// to private ones.
const SPECIAL_V6: [(u128, u8); 14] = [
    (0, 96),
    (0xffff << 48, 96),
    (v6(0x64, 0xff9b, 0, 0), 96),
    (v6(0x64, 0xff9b, 1, 0), 48),
    (v6(0x100, 0, 0, 0), 64),
    (v6(0x2001, 0, 0, 0), 23),
    (v6(0x2001, 0xdb8, 0, 0), 32),
    (v6(0x2002, 0, 0, 0), 16),
    (v6(0x3fff, 0, 0, 0), 20),
    (v6(0x5f00, 0, 0, 0), 16),
    (v6(0xfc00, 0, 0, 0), 7),
    (v6(0xfe80, 0, 0, 0), 10),
    (v6(0xfec0, 0, 0, 0), 10),
    (v6(0xff00, 0, 0, 0), 8),
];

const fn v4(a: u32, b: u32, c: u32, d: u32) -> u32 {
    a << 24 | b << 16 | c << 8 | d
}

const fn v6(a: u128, b: u128, c: u128, d: u128) -> u128 {
    a << 112 | b << 96 | c << 80 | d << 64
}

/// The targets that a server permits: those that at least one pattern matches. The default permits nothing.
///
/// It is applied to the address that is connected to, whatever name led to it: [`Allow::permits`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow(Vec<Pattern>);

impl Allow {
    /// Permits what these patterns match.
    pub fn new(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }

    /// Whether a connection to `address`, to which `target`'s host was resolved, is permitted.
    ///
    /// An address that is not public (loopback, private, link-local and all others of special use) must be matched by a
    /// pattern with an address or network of that kind; `localhost` in a pattern stands for loopback addresses. Names and
    /// wildcards never permit one: a name's zone may be in hands that let it lead to the server itself.
    pub fn permits(&self, target: &Target, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.permits_in(target, address, special_block(address))
    }

    /// The same for an address of this host. Even if it is public, a pattern must have that address: services that a firewall
    /// hides from everyone else may listen there.
    pub fn permits_own(&self, target: &Target, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let whole = if address.is_ipv4() { 32 } else { 128 };
        self.permits_in(target, address, special_block(address).or(Some(whole)))
    }

    fn permits_in(&self, target: &Target, address: IpAddr, special: Option<u8>) -> bool {
        self.0.iter().filter(|pattern| pattern.ports.contains(target.port)).any(|pattern| match special {
            None => pattern.host.matches(&target.host, address),
            Some(prefix) => pattern.host.names_special(&target.host, address, prefix),
        })
    }

    /// Whether `target` could be permitted, depending on its address: if not, its name need not be resolved.
    pub fn might_permit(&self, target: &Target) -> bool {
        match &target.host {
            Host::Address(address) => self.permits(target, *address),
            Host::Name(_) => {
                let mut patterns = self.0.iter().filter(|pattern| pattern.ports.contains(target.port));
                patterns.any(|pattern| pattern.host.may_match_name(&target.host))
            }
        }
    }
}

/// Returns the length of the prefix of the special block that `address` is in; `None` if it is public.
fn special_block(address: IpAddr) -> Option<u8> {
    match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits();
            SPECIAL_V4.iter().find(|(block, prefix)| (bits ^ block) >> (32 - prefix) == 0).map(|(_, prefix)| *prefix)
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let listed = SPECIAL_V6.iter().find(|(block, prefix)| (bits ^ block) >> (128 - prefix) == 0);
            // Only 2000::/3 is given out as public addresses.
            listed.map(|(_, prefix)| *prefix).or((bits >> 125 != 1).then_some(3))
        }
    }
}

/// Targets that a server permits, as `HOST:PORT`: the host is a name, `*.` and a domain, `*`, an address, or a network
/// (`10.0.0.0/8`); the port is a number, a range (`8000-8099`), or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    host: HostPattern,
    ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Any,
    /// This name.
    Name(String),
    /// All names below this one.
    Below(String),
    /// These addresses, whatever name leads there.
    Network(Network),
}

impl Pattern {
    /// Whether it matches an address to listen on.
    pub(super) fn matches_address(&self, address: SocketAddr) -> bool {
        let host = Host::Address(address.ip());
        self.ports.contains(address.port()) && self.host.matches(&host, address.ip())
    }

    /// Whether it is about names.
    pub(super) fn is_of_names(&self) -> bool {
        matches!(self.host, HostPattern::Name(_) | HostPattern::Below(_))
    }
}

impl HostPattern {
    /// Whether it matches a host with a public address.
    fn matches(&self, host: &Host, address: IpAddr) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Network(network), _) => network.contains(address),
            (Self::Name(name), Host::Name(host)) => name == host,
            (Self::Below(domain), Host::Name(host)) => is_below(host, domain),
            (Self::Name(_) | Self::Below(_), Host::Address(_)) => false,
        }
    }

    /// Whether it matches an address in a special block with this prefix, and names that block or a part of it.
    fn names_special(&self, host: &Host, address: IpAddr, block: u8) -> bool {
        match self {
            Self::Network(network) => network.prefix() >= block && network.contains(address),
            Self::Name(name) => name == "localhost" && address.is_loopback() && *host == Host::Name(name.clone()),
            Self::Any | Self::Below(_) => false,
        }
    }

    /// Whether it could match a host of that name.
    fn may_match_name(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Name(name), Host::Name(host)) => name == host,
            (Self::Below(domain), Host::Name(host)) => is_below(host, domain),
            (Self::Any | Self::Network(..), _) | (_, Host::Address(_)) => true,
        }
    }
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// A range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Why text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternError {
    /// It is not `HOST:PORT`.
    Form,
    /// The host is none of those that a pattern may have.
    Host,
    /// A network has bits behind its prefix, or a prefix that is too long.
    Network,
    /// The port is none of those that a pattern may have.
    Port,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "write HOST:PORT, with an IPv6 address or network in brackets",
            Self::Host => "the host must be a name, *.DOMAIN, *, an address, or a network",
            Self::Network => "the network must be an address, without bits after the prefix, and the prefix's length",
            Self::Port => "the port must be a number from 1 to 65535, a range such as 8000-8099, or *",
        })
    }
}

impl error::Error for PatternError {}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (host, in_brackets, ports) = split(text).ok_or(PatternError::Form)?;
        Ok(Self { host: parse_host(host, in_brackets)?, ports: parse_ports(ports)? })
    }
}

fn parse_host(text: &str, in_brackets: bool) -> Result<HostPattern, PatternError> {
    if text == "*" && !in_brackets {
        return Ok(HostPattern::Any);
    }
    if text.contains('/') {
        let network: Network = text.parse().map_err(|_| PatternError::Network)?;
        let is_written_right = network.is_ipv6() == in_brackets;
        return if is_written_right { Ok(HostPattern::Network(network)) } else { Err(PatternError::Network) };
    }
    if let Some(domain) = text.strip_prefix("*.") {
        return match Host::parse(domain) {
            Ok(Host::Name(domain)) if !in_brackets => Ok(HostPattern::Below(domain)),
            _ => Err(PatternError::Host),
        };
    }
    match Host::parse(text).map_err(|_| PatternError::Host)? {
        Host::Address(address) if in_brackets == text.contains(':') => {
            Ok(HostPattern::Network(Network::single(address)))
        }
        Host::Name(name) if !in_brackets => Ok(HostPattern::Name(name)),
        _ => Err(PatternError::Host),
    }
}

fn parse_ports(text: &str) -> Result<Ports, PatternError> {
    if text == "*" {
        return Ok(Ports { first: 1, last: u16::MAX });
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text| parse_port(text).map_err(|_| PatternError::Port);
    let ports = Ports { first: port(first)?, last: port(last)? };
    if ports.first <= ports.last { Ok(ports) } else { Err(PatternError::Port) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(patterns: &[&str]) -> Allow {
        Allow::new(patterns.iter().map(|pattern| pattern.parse().unwrap()).collect())
    }

    fn permits(patterns: &[&str], target: &str, address: &str) -> bool {
        let (allow, target) = (allow(patterns), target.parse().unwrap());
        let permits = allow.permits(&target, address.parse().unwrap());
        assert!(allow.might_permit(&target) || !permits, "{target}");
        permits
    }

    #[test]
    fn nothing_is_permitted_without_a_pattern() {
        assert!(!permits(&[], "example.com:443", "8.8.8.8"));
        assert!(!Allow::default().might_permit(&"example.com:443".parse().unwrap()));
    }

    #[test]
    fn patterns_match_names_domains_networks_and_ports() {
        for (pattern, target, address, expected) in [
            ("*:443", "example.com:443", "8.8.8.8", true),
            ("*:443", "example.com:80", "8.8.8.8", false),
            ("*:*", "8.8.8.8:80", "8.8.8.8", true),
            ("*:8000-8099", "example.com:8099", "8.8.8.8", true),
            ("*:8000-8099", "example.com:8100", "8.8.8.8", false),
            ("Example.com:443", "example.com:443", "8.8.8.8", true),
            ("example.com:443", "www.example.com:443", "8.8.8.8", false),
            ("*.example.com:443", "www.example.com:443", "8.8.8.8", true),
            ("*.example.com:443", "example.com:443", "8.8.8.8", false),
            ("*.example.com:443", "badexample.com:443", "8.8.8.8", false),
            ("*.example.com:443", "8.8.8.8:443", "8.8.8.8", false),
            ("8.8.8.0/24:53", "dns.google:53", "8.8.8.8", true),
            ("8.8.8.0/24:53", "dns.google:53", "8.8.4.4", false),
            ("0.0.0.0/0:53", "dns.google:53", "8.8.4.4", true),
            ("0.0.0.0/0:53", "dns.google:53", "2001:4860::8888", false),
            ("[::/0]:53", "dns.google:53", "2001:4860::8888", true),
            ("[2001:4860::/32]:53", "[2001:4860::8888]:53", "2001:4860::8888", true),
        ] {
            assert_eq!(permits(&[pattern], target, address), expected, "{pattern} {target} {address}");
        }
    }

    #[test]
    fn addresses_of_special_use_must_be_named() {
        let special = [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "4000::1",
            "168.63.129.16",
        ];
        for address in special {
            for pattern in ["*:*", "0.0.0.0/0:*", "[::/0]:*", "rebound.example:*", "*.example:*"] {
                assert!(!permits(&[pattern], "rebound.example:80", address), "{pattern} {address}");
            }
            assert!(!permits(&["*:*", "rebound.example:*"], "localhost:80", address), "{address}");
        }
        assert!(permits(&["127.0.0.1:22"], "127.0.0.1:22", "127.0.0.1"));
        assert!(permits(&["127.0.0.0/8:22"], "anything.example:22", "127.0.0.1"), "the address decides");
        assert!(permits(&["localhost:22"], "localhost:22", "::1"));
        assert!(!permits(&["localhost:22"], "localhost:22", "10.0.0.1"));
        assert!(!permits(&["localhost:22"], "other.example:22", "127.0.0.1"));
        assert!(permits(&["192.168.0.0/16:*"], "router.example:80", "192.168.1.1"));
        assert!(permits(&["192.168.1.1:80"], "[::ffff:192.168.1.1]:80", "::ffff:192.168.1.1"));
        assert!(permits(&["[fd00::/8]:80"], "db.example:80", "fd00::1"), "a part of fc00::/7");
    }

    #[test]
    fn public_address_of_the_host_itself_must_be_named() {
        for (patterns, expected) in
            [(&["*:*", "8.8.0.0/16:*", "own.example:*"][..], false), (&["8.8.8.8:443"], true), (&["8.8.8.8:80"], false)]
        {
            let target = "own.example:443".parse().unwrap();
            assert_eq!(allow(patterns).permits_own(&target, "8.8.8.8".parse().unwrap()), expected, "{patterns:?}");
        }
        let own = |pattern: &str, address: &str| {
            allow(&[pattern]).permits_own(&"own.example:443".parse().unwrap(), address.parse().unwrap())
        };
        assert!(own("127.0.0.0/8:*", "127.0.0.1"), "as before");
        assert!(own("[2a00::1]:*", "2a00::1") && !own("[2a00::/16]:*", "2a00::1"));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for text in [
            "",
            "a",
            "a:",
            ":1",
            "*",
            "*.:1",
            "a.*:1",
            "*a:1",
            "10.0.0.1/8:1",
            "10.0.0.0/33:1",
            "::1:1",
            "[10.0.0.1]:1",
            "[a]:1",
            "a:0",
            "a:5-1",
            "a:1-",
            "a:-",
            "10.0.0.0/:1",
            "[*]:1",
        ] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
    }
}
