//! Networks: addresses that begin with the same bits.

use std::net::IpAddr;
use std::str::FromStr;
use std::{error, fmt};

/// The addresses that begin with the same bits: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

impl Network {
    /// Returns the network of the addresses that begin with the first `prefix` bits of `first`; `None` if an address has
    /// fewer bits, or `first` has others behind them.
    pub fn new(first: IpAddr, prefix: u8) -> Option<Self> {
        let behind = match first {
            IpAddr::V4(first) => first.to_bits().checked_shl(prefix.into()).unwrap_or(0) == 0,
            IpAddr::V6(first) => first.to_bits().checked_shl(prefix.into()).unwrap_or(0) == 0,
        };
        (behind && prefix <= bits(first)).then_some(Self { first, prefix })
    }

    /// Returns the network of this address alone.
    pub const fn single(address: IpAddr) -> Self {
        Self { first: address, prefix: bits(address) }
    }

    /// Returns how many bits the addresses have in common.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the addresses are of IPv6.
    pub const fn is_ipv6(&self) -> bool {
        self.first.is_ipv6()
    }

    /// Whether the address is in the network. An IPv4 address inside of an IPv6 one (`::ffff:192.0.2.1`) is another.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => u128::from(first.to_bits() ^ address.to_bits()),
            (IpAddr::V6(first), IpAddr::V6(address)) => first.to_bits() ^ address.to_bits(),
            _ => return false,
        };
        differ.checked_shr(u32::from(bits(address) - self.prefix)).unwrap_or(0) == 0
    }
}

/// Bits of an address of that family.
const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// Text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkError;

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write an address, or its first bits and their number, for example 10.0.0.0/8 or fd00::/8")
    }
}

impl error::Error for NetworkError {}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let Some((first, prefix)) = text.split_once('/') else {
            return text.parse().map(Self::single).map_err(|_| NetworkError);
        };
        let (first, prefix) = (first.parse().map_err(|_| NetworkError)?, prefix.parse().map_err(|_| NetworkError)?);
        Self::new(first, prefix).ok_or(NetworkError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_contains_the_addresses_that_begin_alike() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "::", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.0", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("::1", "::1", true),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{address} in {network}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
        for bad in ["", "10.0.0.1/8", "10.0.0.0/33", "::/129", "10.0.0.0/", "/8", "a", "10.0.0.0/-1", "[::1]"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
