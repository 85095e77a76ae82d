//! Any bytes in place of a ClientHello or ServerHello are parsed without a panic, with the same result for any
//! fragmentation.

use bytes::BytesMut;
use tcpls_core::testing::hello::{
    ExtensionTypes, HelloReader, parse_client_hello, parse_server_hello, peek_client_hello,
};

/// The target `hello`: the input is what a TCP connection begins with.
pub fn hello(bytes: &[u8]) {
    let types = ExtensionTypes::default();
    let _ = parse_client_hello(bytes, &types);
    let _ = parse_server_hello(bytes, &types);
    let whole = peek_client_hello(bytes, &types);
    if let Ok(Some((_, len))) = &whole {
        assert!(*len <= bytes.len());
        assert!(matches!(peek_client_hello(&bytes[..len - 1], &types), Ok(None)));
    }
    let mut reader = HelloReader::default();
    let mut buffer = BytesMut::new();
    for byte in bytes.iter().take(2048) {
        buffer.extend_from_slice(&[*byte]);
        if !matches!(reader.push(&mut buffer), Ok(None)) {
            break;
        }
    }
}
