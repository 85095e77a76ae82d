//! Post-quantum key exchange: key shares of more than 1 KiB in both hellos.

use rustls::NamedGroup;
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group::{X25519, X25519MLKEM768};
use tcpls_core::testing::tls::SUITES;

use super::*;

/// The key_share extension.
const KEY_SHARE: u16 = 51;
/// Bytes of a share of ML-KEM-768 and X25519: the client's key, and what the server encapsulates to it.
const SHARES: [usize; 2] = [1184 + 32, 1088 + 32];

fn provider(groups: &[&'static dyn SupportedKxGroup]) -> CryptoProvider {
    CryptoProvider { kx_groups: groups.to_vec(), ..default_provider() }
}

fn client(groups: &[&'static dyn SupportedKxGroup]) -> ClientConfig {
    client_with(provider(groups)).with_no_client_auth()
}

/// The length of the key_share extension in the hello at the start of `bytes`.
fn key_share_len(bytes: &[u8]) -> usize {
    extensions(bytes).into_iter().find(|(ty, _)| *ty == KEY_SHARE).unwrap().1.len()
}

#[test]
fn post_quantum_key_exchange_carries_sessions_with_every_suite() {
    for suite in SUITES {
        let mut provider = provider(&[X25519MLKEM768]);
        provider.cipher_suites.retain(|known| known.suite() == suite);
        let mut pair = pair(client_with(provider.clone()).with_no_client_auth(), server_of(provider, 1));
        assert_works(&mut pair);
        assert!(key_share_len(&sent(&pair, 0, Server)) > SHARES[0]);
        assert!(key_share_len(&sent(&pair, 0, Client)) > SHARES[1]);
    }
}

#[test]
fn server_gets_post_quantum_key_exchange_by_a_hello_retry_request() {
    let mut pair = pair(client(&[X25519, X25519MLKEM768]), server_of(provider(&[X25519MLKEM768]), 1));
    assert_works(&mut pair);
    let to_client = sent(&pair, 0, Client);
    // The group alone: a HelloRetryRequest.
    let retry = extensions(&to_client).into_iter().find(|(ty, _)| *ty == KEY_SHARE).unwrap().1;
    assert_eq!(retry, u16::from(NamedGroup::X25519MLKEM768).to_be_bytes());
}

#[test]
fn client_with_post_quantum_key_exchange_reaches_a_server_without() {
    let mut pair = pair(client(&[X25519MLKEM768, X25519]), server_of(provider(&[X25519]), 1));
    assert_works(&mut pair);
}

#[test]
fn client_hello_with_a_post_quantum_share_may_be_split_anywhere() {
    let configs = || (client(&[X25519MLKEM768]), server_of(provider(&[X25519MLKEM768]), 1));
    let len = {
        let (client, server) = configs();
        let mut pair = pair(client, server);
        pair.step(Client);
        pair.flow(FIRST, Server).in_flight.len()
    };
    assert!((1400..2000).contains(&len), "{len} bytes: more than one segment of TCP");
    for split in (1..len).step_by(97) {
        let (client, server) = configs();
        let mut pair = pair(client, server);
        pair.step(Client);
        pair.deliver(FIRST, Server, split);
        pair.drive();
        assert_eq!(pair.server().state(), State::Established, "split at {split}");
    }
}
