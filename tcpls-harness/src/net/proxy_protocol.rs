//! The PROXY protocol, versions 1 and 2: with which addresses a load balancer accepted a TCP connection that it forwards.
//!
//! [The specification](https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt) is HAProxy's. Without sockets:
//! [`ServerOptions::proxy_protocol`](crate::net::ServerOptions::proxy_protocol) has a listener use it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::{error, fmt};

/// What version 1 begins with.
const TEXT: &[u8] = b"PROXY ";
/// The longest header of version 1, with its line end.
const MAX_TEXT: usize = 107;
/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before the addresses.
const FIXED: usize = 16;
/// The longest header that is accepted. Addresses take 216 bytes at most, the rest is for fields that are ignored.
pub const MAX_HEADER: usize = 4096;

/// The ends of the TCP connection that a client opened to a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ends {
    /// The client's address.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub server: SocketAddr,
}

/// A header, at the start of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The addresses. `None` if the load balancer connects for itself (LOCAL), or names none that this protocol can use
    /// (UNKNOWN, AF_UNSPEC, AF_UNIX).
    pub ends: Option<Ends>,
    /// Bytes of the header. What is behind them is the client's.
    pub len: usize,
}

impl Header {
    /// Parses the header that `bytes` begin with; `None` if more bytes are needed. The fields behind the addresses (TLV) are
    /// skipped.
    ///
    /// # Errors
    /// See [`HeaderError`]. More bytes do not help then.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HeaderError> {
        let begins = |mark: &[u8]| bytes.iter().zip(mark).all(|(byte, wanted)| byte == wanted);
        if begins(TEXT) {
            parse_text(bytes)
        } else if begins(SIGNATURE) {
            parse_binary(bytes)
        } else {
            Err(HeaderError::Missing)
        }
    }
}

/// Returns a header of version 2 for a TCP connection with these ends, with a field (TLV) of type `kind` behind them.
/// Without ends it says that they are unknown.
pub(crate) fn encode(ends: Option<Ends>, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    let family = match ends.map(|Ends { client, server }| (client.ip(), server.ip(), client.port(), server.port())) {
        None => 0x00,
        Some((IpAddr::V4(client), IpAddr::V4(server), from, to)) => {
            block.extend([client.octets(), server.octets()].concat());
            block.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
            0x11
        }
        Some((client, server, from, to)) => {
            block.extend([octets(client), octets(server)].concat());
            block.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
            0x21
        }
    };
    block.push(kind);
    block.extend((value.len() as u16).to_be_bytes());
    block.extend(value);
    [SIGNATURE, &[0x21, family], &(block.len() as u16).to_be_bytes(), &block].concat()
}

/// The 16 bytes of an address, of an IPv4 address as `::ffff:192.0.2.1`.
pub(crate) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Returns the value of the first field (TLV) of type `kind` in a complete header of version 2.
pub(crate) fn field(header: &[u8], kind: u8) -> Option<&[u8]> {
    let (fixed, block) = header.split_at_checked(FIXED)?;
    let mut rest = match (fixed.starts_with(SIGNATURE), fixed[13]) {
        (true, 0x00) => block,
        (true, 0x11) => block.get(12..)?,
        (true, 0x21) => block.get(36..)?,
        _ => return None,
    };
    while let [this, high, low, behind @ ..] = rest {
        let (value, next) = behind.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        if *this == kind {
            return Some(value);
        }
        rest = next;
    }
    None
}

/// Why bytes do not begin with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// They are something else, such as a ClientHello.
    Missing,
    /// The header is invalid, or not about TCP.
    Malformed,
    /// It has more than 107 bytes (version 1) or [`MAX_HEADER`].
    TooLong,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "sent no PROXY protocol header, which is required from its network",
            Self::Malformed => "sent an invalid PROXY protocol header",
            Self::TooLong => "sent a PROXY protocol header that is too long",
        })
    }
}

impl error::Error for HeaderError {}

/// Version 1: a line of text.
fn parse_text(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let line = &bytes[..bytes.len().min(MAX_TEXT)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if line.len() == MAX_TEXT { Err(HeaderError::TooLong) } else { Ok(None) };
    };
    let text = std::str::from_utf8(&line[TEXT.len()..end]).map_err(|_| HeaderError::Malformed)?;
    let ends = if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        None
    } else {
        Some(ends_of(text).ok_or(HeaderError::Malformed)?)
    };
    Ok(Some(Header { ends, len: end + 2 }))
}

/// The ends in a line such as `TCP4 192.0.2.1 198.51.100.1 56324 443`.
fn ends_of(text: &str) -> Option<Ends> {
    let mut fields = text.split(' ');
    let family = fields.next()?;
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (client, server) = (address(fields.next()?)?, address(fields.next()?)?);
    let (from, to) = (port(fields.next()?)?, port(fields.next()?)?);
    let ends = Ends { client: SocketAddr::new(client, from), server: SocketAddr::new(server, to) };
    fields.next().is_none().then_some(ends)
}

/// A port in decimal digits, without leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

/// Version 2: binary.
fn parse_binary(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if FIXED + len > MAX_HEADER {
        return Err(HeaderError::TooLong);
    }
    let Some(block) = rest.get(..len) else { return Ok(None) };
    let ends = match (fixed[12], fixed[13]) {
        // LOCAL: the block has no meaning.
        (0x20, _) => None,
        // PROXY: unspecified, TCP over IPv4, TCP over IPv6, a Unix domain socket.
        (0x21, 0x00) => None,
        (0x21, 0x11) => Some(ends_in(block, 4).ok_or(HeaderError::Malformed)?),
        (0x21, 0x21) => Some(ends_in(block, 16).ok_or(HeaderError::Malformed)?),
        (0x21, 0x31) => None,
        _ => return Err(HeaderError::Malformed),
    };
    Ok(Some(Header { ends, len: FIXED + len }))
}

/// The ends in a block with two addresses of that many bytes, and two ports.
fn ends_in(block: &[u8], width: usize) -> Option<Ends> {
    let (addresses, ports) = block.get(..2 * width + 4)?.split_at(2 * width);
    let (client, server) = addresses.split_at(width);
    let end = |address: &[u8], port: [u8; 2]| Some(SocketAddr::new(address_in(address)?, u16::from_be_bytes(port)));
    Some(Ends { client: end(client, [ports[0], ports[1]])?, server: end(server, [ports[2], ports[3]])? })
}

fn address_in(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        [SIGNATURE, &[command, family], &(block.len() as u16).to_be_bytes(), block].concat()
    }

    fn ends(client: &str, server: &str) -> Option<Ends> {
        Some(Ends { client: client.parse().unwrap(), server: server.parse().unwrap() })
    }

    /// Two addresses of IPv4, and ports.
    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 1, 0xbb];

    #[test]
    fn headers_of_both_versions_have_the_ends() {
        let v4 = ends("192.0.2.1:56324", "198.51.100.1:443");
        let v6 = ends("[2001:db8::1]:1", "[2001:db8::2]:65535");
        let addresses = |last: u8| [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat();
        let block = [&addresses(1)[..], &addresses(2), &[0, 1, 0xff, 0xff]].concat();
        for (bytes, expected) in [
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(), v4),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n".to_vec(), v6),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 anything 0 x\r\n".to_vec(), None),
            (binary(0x21, 0x11, &V4), v4),
            (binary(0x21, 0x11, &[&V4[..], &[4, 0, 1, 0]].concat()), v4),
            (binary(0x21, 0x21, &block), v6),
            (binary(0x20, 0x11, &V4), None),
            (binary(0x20, 0xff, b"any"), None),
            (binary(0x21, 0x00, b""), None),
            (binary(0x21, 0x31, &[0; 216]), None),
        ] {
            let header = Some(Header { ends: expected, len: bytes.len() });
            assert_eq!(Header::parse(&bytes), Ok(header), "{bytes:?}");
            assert_eq!(Header::parse(&[&bytes[..], b"\x16\x03\x01"].concat()), Ok(header), "{bytes:?}");
            for cut in 0..bytes.len() {
                assert_eq!(Header::parse(&bytes[..cut]), Ok(None), "{cut} bytes of {bytes:?}");
            }
        }
    }

    #[test]
    fn written_headers_are_read_again_with_their_field() {
        let mapped = ends("[::ffff:192.0.2.1]:1", "[2001:db8::2]:2");
        for (written, read) in [
            (ends("192.0.2.1:56324", "198.51.100.1:443"), ends("192.0.2.1:56324", "198.51.100.1:443")),
            (ends("[2001:db8::1]:1", "[2001:db8::2]:2"), ends("[2001:db8::1]:1", "[2001:db8::2]:2")),
            (ends("192.0.2.1:1", "[2001:db8::2]:2"), mapped),
            (None, None),
        ] {
            let header = encode(written, 0xe5, b"tag");
            assert_eq!(Header::parse(&header), Ok(Some(Header { ends: read, len: header.len() })));
            assert_eq!((field(&header, 0xe5), field(&header, 0xe6)), (Some(&b"tag"[..]), None));
            (0..header.len()).for_each(|cut| assert_eq!(field(&header[..cut], 0xe5), None, "{cut}"));
        }
        let others = [&V4[..], &[4, 0, 1, 9], &[5, 0, 0], &[6, 0, 2, 1, 2, 7, 0, 9]].concat();
        let header = binary(0x21, 0x11, &others);
        let found = [4, 5, 6, 7, 9].map(|kind| field(&header, kind));
        assert_eq!(found, [Some(&[9][..]), Some(&[]), Some(&[1, 2]), None, None]);
        assert_eq!(field(b"PROXY UNKNOWN\r\n", 4), None);
    }

    #[test]
    fn malformed_headers_are_refused() {
        for text in [
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n",
            "PROXY TCP4 192.0.2.1  198.51.100.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 056324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1  443\r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.1 1 443\r\n",
            "PROXY TCP4 ::1 ::1 1 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 1 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 443\r\n",
            "PROXY UNKNOWN-\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(Header::parse(text.as_bytes()), Err(HeaderError::Malformed), "{text}");
        }
        for (command, family, block) in
            [(0x11, 0x11, &V4[..]), (0x22, 0x11, &V4), (0x21, 0x12, &V4), (0x21, 0x11, &V4[..11]), (0x21, 0x21, &V4)]
        {
            let bytes = binary(command, family, block);
            assert_eq!(Header::parse(&bytes), Err(HeaderError::Malformed), "{bytes:?}");
        }
        for bytes in [&b"\x16\x03\x01"[..], b"GET /", b"PROXZ", b"\r\n\r\n\0\r\nQUIT\r", b"\r\nPROXY"] {
            assert_eq!(Header::parse(bytes), Err(HeaderError::Missing), "{bytes:?}");
        }
    }

    #[test]
    fn length_of_a_header_is_bounded() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
        assert_eq!(Header::parse(&long.as_bytes()[..MAX_TEXT - 1]), Ok(None));
        assert_eq!(Header::parse(&long.as_bytes()[..MAX_TEXT]), Err(HeaderError::TooLong));
        let longest = binary(0x21, 0x00, &[0; MAX_HEADER - FIXED]);
        assert_eq!(Header::parse(&longest), Ok(Some(Header { ends: None, len: MAX_HEADER })));
        let longer = binary(0x21, 0x00, &[0; MAX_HEADER - FIXED + 1]);
        assert_eq!(Header::parse(&longer[..FIXED]), Err(HeaderError::TooLong));
    }
}
