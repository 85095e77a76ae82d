//! SOCKS version 5 (RFC 1928), the server's side: what is read, and the replies. Without credentials: the listener is local.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::{error, fmt};

use super::refusal::Refusal;
use super::target::{Host, Target};

/// The version, and the first byte of every message.
pub(super) const VERSION: u8 = 5;
/// The answer to a greeting that offers no authentication as a method; to others, [`NO_METHOD`].
pub(super) const METHOD: [u8; 2] = [VERSION, 0];
/// None of the offered methods is acceptable.
pub(super) const NO_METHOD: [u8; 2] = [VERSION, 0xff];
/// The answer to a request of SOCKS version 4: rejected.
pub(super) const REJECTED_V4: [u8; 8] = [0, 0x5b, 0, 0, 0, 0, 0, 0];

/// Reply codes (RFC 1928, 6).
const SUCCEEDED: u8 = 0;
const GENERAL_FAILURE: u8 = 1;
const NOT_ALLOWED: u8 = 2;
const NETWORK_UNREACHABLE: u8 = 3;
const HOST_UNREACHABLE: u8 = 4;
const CONNECTION_REFUSED: u8 = 5;
const COMMAND_NOT_SUPPORTED: u8 = 7;
const ADDRESS_TYPE_NOT_SUPPORTED: u8 = 8;

/// Why a message is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadSocks {
    /// It is not SOCKS version 5, or violates its format.
    Malformed,
    /// The command is BIND or UDP ASSOCIATE, or unknown.
    Command,
    /// The type of the address is unknown.
    AddressType,
    /// The address is no usable target.
    Target,
}

impl BadSocks {
    /// Returns the reply to the request; `None` if the peer may not understand one.
    pub fn reply(self) -> Option<[u8; 10]> {
        match self {
            Self::Malformed => None,
            Self::Command => Some(reply(COMMAND_NOT_SUPPORTED)),
            Self::AddressType => Some(reply(ADDRESS_TYPE_NOT_SUPPORTED)),
            Self::Target => Some(reply(GENERAL_FAILURE)),
        }
    }
}

impl fmt::Display for BadSocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed SOCKS",
            Self::Command => "a SOCKS command other than CONNECT",
            Self::AddressType => "an unknown type of address",
            Self::Target => "an unusable target",
        })
    }
}

impl error::Error for BadSocks {}

/// Returns the reply to a granted request.
pub fn granted() -> [u8; 10] {
    reply(SUCCEEDED)
}

/// Returns the reply to a refused request.
pub fn refused(refusal: Refusal) -> [u8; 10] {
    reply(match refusal {
        Refusal::Denied => NOT_ALLOWED,
        Refusal::NoSession => NETWORK_UNREACHABLE,
        Refusal::Unresolved | Refusal::Unreachable | Refusal::TimedOut => HOST_UNREACHABLE,
        Refusal::Refused => CONNECTION_REFUSED,
        _ => GENERAL_FAILURE,
    })
}

/// A reply with this code. The address that a server connects from is unknown here: it is given as 0.0.0.0:0.
fn reply(code: u8) -> [u8; 10] {
    [VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

/// Parses a greeting at the start of `bytes`: whether it offers to go without authentication, and its length. `None` if it
/// is incomplete.
///
/// # Errors
/// [`BadSocks::Malformed`].
pub fn parse_greeting(bytes: &[u8]) -> Result<Option<(bool, usize)>, BadSocks> {
    match bytes {
        [VERSION, 0, ..] => Err(BadSocks::Malformed),
        [VERSION, count, rest @ ..] => {
            let count = usize::from(*count);
            Ok(rest.get(..count).map(|methods| (methods.contains(&0), 2 + count)))
        }
        [VERSION] | [] => Ok(None),
        _ => Err(BadSocks::Malformed),
    }
}

/// Parses a request at the start of `bytes`: the target to connect to, and the length. `None` if it is incomplete.
///
/// # Errors
/// See [`BadSocks`].
pub fn parse_request(bytes: &[u8]) -> Result<Option<(Target, usize)>, BadSocks> {
    let [version, command, reserved, kind, rest @ ..] = bytes else {
        return if bytes.first().is_none_or(|version| *version == VERSION) {
            Ok(None)
        } else {
            Err(BadSocks::Malformed)
        };
    };
    if *version != VERSION || *reserved != 0 {
        return Err(BadSocks::Malformed);
    }
    let len = match kind {
        1 => 4,
        4 => 16,
        3 => match rest.first() {
            Some(len) => 1 + usize::from(*len),
            None => return Ok(None),
        },
        _ => return Err(BadSocks::AddressType),
    };
    let (Some(address), Some(port)) = (rest.get(..len), rest.get(len..len + 2)) else { return Ok(None) };
    if *command != 1 {
        return Err(BadSocks::Command);
    }
    let host = match kind {
        1 => <[u8; 4]>::try_from(address).map(|octets| Host::Address(Ipv4Addr::from(octets).into())).ok(),
        4 => <[u8; 16]>::try_from(address).map(|octets| Host::Address(Ipv6Addr::from(octets).to_canonical())).ok(),
        _ => str::from_utf8(&address[1..]).ok().and_then(|name| Host::parse(name).ok()),
    };
    let port = u16::from_be_bytes([port[0], port[1]]);
    let host = host.filter(|_| port > 0).ok_or(BadSocks::Target)?;
    Ok(Some((Target { host, port }, 4 + len + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u8, address: &[u8], port: u16) -> Vec<u8> {
        [&[5, 1, 0, kind], address, &port.to_be_bytes()].concat()
    }

    #[test]
    fn requests_have_addresses_and_names() {
        for (bytes, target) in [
            (request(1, &[192, 0, 2, 1], 22), "192.0.2.1:22"),
            (request(3, b"\x0bexample.com", 443), "example.com:443"),
            (request(3, b"\x09192.0.2.1", 443), "192.0.2.1:443"),
            (request(4, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 80), "[2001:db8::1]:80"),
        ] {
            for len in 0..bytes.len() {
                assert_eq!(parse_request(&bytes[..len]), Ok(None), "{target}");
            }
            let more = [&bytes[..], b"more"].concat();
            assert_eq!(parse_request(&more), Ok(Some((target.parse().unwrap(), bytes.len()))));
        }
    }

    #[test]
    fn unsupported_requests_get_their_replies() {
        let mut bind = request(1, &[192, 0, 2, 1], 22);
        for command in [2, 3, 9] {
            bind[1] = command;
            let error = parse_request(&bind).unwrap_err();
            assert_eq!(error.reply().map(|reply| reply[1]), Some(7), "command {command}");
        }
        let unknown = parse_request(&request(2, &[0; 4], 22)).unwrap_err();
        assert_eq!(unknown.reply().map(|reply| reply[1]), Some(8));
        for unusable in
            [request(3, b"\x00", 1), request(3, b"\x01 ", 1), request(1, &[0; 4], 0), request(3, b"\x02\xff\xff", 1)]
        {
            assert_eq!(parse_request(&unusable), Err(BadSocks::Target));
        }
        assert_eq!(parse_request(b"\x04\x01"), Err(BadSocks::Malformed));
        assert_eq!(parse_request(b"\x05\x01\x01\x01"), Err(BadSocks::Malformed));
    }

    #[test]
    fn greetings_offer_methods() {
        assert_eq!(parse_greeting(b"\x05\x01\x00rest"), Ok(Some((true, 3))));
        assert_eq!(parse_greeting(b"\x05\x02\x02\x01"), Ok(Some((false, 4))));
        assert_eq!(parse_greeting(b"\x05\x02\x02"), Ok(None));
        assert_eq!(parse_greeting(b"\x05\x00"), Err(BadSocks::Malformed));
        assert_eq!(parse_greeting(b"GET /"), Err(BadSocks::Malformed));
    }
}
