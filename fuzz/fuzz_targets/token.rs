//! No bytes but those that the secret made are a token.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tcpls_core::token::TokenSecret;
use tcpls_core::wire::ids::{SessionId, Token};

fuzz_target!(|input: ([u8; 12], u32, [u8; 32])| {
    let (session, sequence, bytes) = input;
    let secret = TokenSecret::new([7; 32]);
    assert_eq!(secret.open(&Token(bytes)), None);
    let token = secret.seal(SessionId(session), sequence);
    assert_eq!(secret.open(&token), Some((SessionId(session), sequence)));
});
