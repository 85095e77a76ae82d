//! Headers of load balancers: any bytes, and headers that are written from the input.

use std::net::{IpAddr, SocketAddr};

use tcpls_harness::net::proxy_protocol::{Header, MAX_HEADER};

/// The target `proxy_header`: the input is read as the start of a TCP connection, and as addresses to write headers of.
pub fn proxy_header(input: &[u8]) {
    judge(input);
    // The header of version 2 that an input without its first 12 bytes would be.
    judge(&[SIGNATURE, input].concat());
    judge(&[b"PROXY ", input].concat());
    if let Some((bytes, behind)) = input.split_at_checked(36) {
        round_trip(bytes, behind);
    }
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What bytes are does not depend on how they are cut, and what was judged once stays so.
fn judge(bytes: &[u8]) {
    let whole = Header::parse(bytes);
    let len = match &whole {
        Ok(Some(header)) => header.len,
        _ => bytes.len(),
    };
    assert!(len <= bytes.len());
    assert!(whole.is_err() || len <= MAX_HEADER || whole == Ok(None));
    assert!(bytes.len() < MAX_HEADER || whole != Ok(None), "a header without end");
    for cut in (0..len).step_by(1 + len / 64) {
        let part = Header::parse(&bytes[..cut]);
        assert!(part == Ok(None) || (whole.is_err() && part == whole), "{cut} of {bytes:?}: {part:?}, {whole:?}");
    }
}

/// Both versions say the same of the ends, whatever is behind them.
fn round_trip(bytes: &[u8], behind: &[u8]) {
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).expect("16 bytes"));
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).expect("4 bytes"));
    let (block_v6, block_v4) = (bytes.to_vec(), [&bytes[..8], &bytes[32..36]].concat());
    for (client, server, family, code, block) in
        [(v4(0), v4(4), "TCP4", 0x11, block_v4), (v6(0), v6(16), "TCP6", 0x21, block_v6)]
    {
        let (client, server) = (SocketAddr::new(client, port(32)), SocketAddr::new(server, port(34)));
        let text = format!("PROXY {family} {} {} {} {}\r\n", client.ip(), server.ip(), client.port(), server.port());
        let extra = &behind[..behind.len().min(1000)];
        let len = (block.len() + extra.len()) as u16;
        let binary = [SIGNATURE, &[0x21, code], &len.to_be_bytes(), &block, extra].concat();
        for header in [text.into_bytes(), binary] {
            let found = Header::parse(&[&header, behind].concat()).expect("a header").expect("all of it");
            let ends = found.ends.expect("addresses");
            assert_eq!((found.len, ends.client, ends.server), (header.len(), client, server));
        }
    }
}
