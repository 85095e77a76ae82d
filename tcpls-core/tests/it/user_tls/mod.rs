//! What the application's configuration of rustls enables works in sessions: their joins, key updates and limits are the same.

#![cfg_attr(not(feature = "aws-lc-rs"), allow(dead_code, reason = "ring has neither HPKE nor ML-KEM"))]

#[cfg(any(feature = "brotli", feature = "zlib"))]
mod compression;
#[cfg(feature = "aws-lc-rs")]
mod ech;
#[cfg(feature = "aws-lc-rs")]
mod ech_server;
#[cfg(feature = "aws-lc-rs")]
mod groups;
mod raw_keys;

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs::default_provider;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring::default_provider;
use rustls::server::WantsServerCert;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig};
use tcpls_core::connection::State;
use tcpls_core::crypto::Handshake;
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_core::error::{CloseReason, HandshakeError};
use tcpls_core::wire::ids::ConnectionId;

use crate::support::provider::{SERVER_CERTIFICATE, key, roots};
use crate::support::tls::start_client;
use crate::support::{Client, Pair, Server, Setup, Side};

const FIRST: ConnectionId = ConnectionId::FIRST;

fn client_with(provider: CryptoProvider) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(SERVER_CERTIFICATE.to_vec()))
}

fn server_with(provider: CryptoProvider) -> ConfigBuilder<ServerConfig, WantsServerCert> {
    ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
}

/// A server with `certificates` certificates in its chain; those behind the first serve only to make it long.
fn server_of(provider: CryptoProvider, certificates: usize) -> ServerConfig {
    server_with(provider).with_single_cert(vec![SERVER_CERTIFICATE.into(); certificates], key(1)).unwrap()
}

fn handshake_of(client: ClientConfig) -> Box<dyn Handshake> {
    start_client(&RustlsClient::new(Arc::new(client), &[]).unwrap())
}

fn pair_with(client: ClientConfig, server: Box<dyn Handshake>) -> Pair {
    Pair::new(Setup::default(), handshake_of(client), server)
}

fn pair(client: ClientConfig, server: ServerConfig) -> Pair {
    pair_with(client, RustlsServer::new(Arc::new(server), &[]).unwrap().handshake().unwrap())
}

/// Runs the handshake, joins, moves to the joined TCP connection, and renews the keys.
fn assert_works(pair: &mut Pair) {
    pair.drive();
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).state(), State::Established, "{:?}", pair.close_reason(side));
    }
    pair.transfer(Client, b"over the first TCP connection");
    let joined = pair.join();
    pair.cut(FIRST);
    pair.drive();
    [Client, Server].into_iter().for_each(|side| pair.update_keys(side));
    pair.transfer(Server, b"over the second");
    assert_eq!(pair.live(Client), [joined]);
}

/// Why the handshake failed at `side`.
fn failure(pair: &mut Pair, side: Side) -> HandshakeError {
    match pair.close_reason(side) {
        Some(CloseReason::Handshake(error)) => error,
        other => panic!("{side:?}: {other:?}"),
    }
}

/// Extensions of the TLS hello at the start of `bytes`, which is whole in one record: types and bodies.
fn extensions(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let at16 = |bytes: &[u8], at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let body = &bytes[5 + 4..5 + at16(bytes, 3)];
    let is_client_hello = bytes[5] == 1;
    let mut at = 34 + 1 + usize::from(body[34]);
    // Suites and compression methods, or the chosen ones.
    at += if is_client_hello { 2 + at16(body, at) } else { 2 };
    at += if is_client_hello { 1 + usize::from(body[at]) } else { 1 };
    let mut rest = &body[at + 2..];
    let mut extensions = Vec::new();
    while !rest.is_empty() {
        let len = at16(rest, 2);
        extensions.push((at16(rest, 0) as u16, rest[4..4 + len].to_vec()));
        rest = &rest[4 + len..];
    }
    extensions
}

/// The name in the server_name extension of the ClientHello at the start of `bytes`.
#[cfg(feature = "aws-lc-rs")]
fn shown_name(bytes: &[u8]) -> Option<String> {
    let (_, body) = extensions(bytes).into_iter().find(|(ty, _)| *ty == 0)?;
    Some(String::from_utf8(body[5..].to_vec()).unwrap())
}

/// The body of the handshake's records: what goes to `to` on the TCP connection of this number.
fn sent(pair: &Pair, tcp: usize, to: Side) -> Vec<u8> {
    let (up, down) = pair.wire()[tcp];
    if to == Server { up.to_vec() } else { down.to_vec() }
}
