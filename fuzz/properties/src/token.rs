//! Only bytes that the secret sealed are a token.

use tcpls_core::token::TokenSecret;
use tcpls_core::wire::ids::{SessionId, Token};

/// The target `token`: the input is a session's ID, a sequence number and 32 bytes shown as a token. What is missing is 0.
pub fn token(input: &[u8]) {
    let mut fields = [0; 12 + 4 + 32];
    let len = input.len().min(fields.len());
    fields[..len].copy_from_slice(&input[..len]);
    let (session, rest) = fields.split_first_chunk::<12>().expect("it is longer");
    let (sequence, rest) = rest.split_first_chunk::<4>().expect("it is longer");
    let bytes: [u8; 32] = rest.try_into().expect("32 bytes are left");
    let (session, sequence) = (SessionId(*session), u32::from_be_bytes(*sequence));
    let secret = TokenSecret::new([7; 32]);
    assert_eq!(secret.open(&Token(bytes)), None);
    let token = secret.seal(session, sequence);
    assert_eq!(secret.open(&token), Some((session, sequence)));
}
