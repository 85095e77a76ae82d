//! Tokens: 32 bytes with which a client joins a TCP connection, and from which the server learns the session.
//!
//! A token is the session's ID and a sequence number, encrypted and authenticated under the endpoint's secret. So it
//! looks random and needs no table, and every process with the secret can decrypt it. The session ensures that each
//! token works once. `endpoint` opens tokens, `connection` seals them.

use core::fmt;
use std::sync::Arc;

use crate::crypto::aead::{Prf, equal_in_constant_time};
use crate::wire::ids::{SessionId, Token};

/// The secret that seals tokens; the processes of a server farm share it.
///
/// The construction is SIV (RFC 5297) with HMAC-SHA-256: the first half of a token is a tag over the plaintext, the
/// second half is the plaintext, masked with a function of that tag. Only equal plaintexts give equal tokens, and a
/// sequence number is used once per session.
pub struct TokenSecret {
    tag: Prf,
    mask: Prf,
    message: Prf,
}

impl TokenSecret {
    /// Takes 32 bytes of the operating system's CSPRNG: the same for all endpoints that accept each other's tokens.
    pub fn new(secret: [u8; 32]) -> Self {
        let root = Prf::new(&secret);
        let derive = |label: &[u8]| Prf::new(&root.sign(&[label]));
        Self {
            tag: derive(b"tcpls token tag"),
            mask: derive(b"tcpls token mask"),
            message: derive(b"tcpls farm message"),
        }
    }

    /// Returns the token with number `sequence` of a session.
    ///
    /// Tokens look random, and do not show whether two belong to one session (draft, 6).
    // draft E20
    pub fn seal(&self, session: SessionId, sequence: u32) -> Token {
        let plaintext = encode(session, sequence);
        let tag = half(self.tag.sign(&[&plaintext]));
        join(tag, self.masked(tag, plaintext))
    }

    /// Returns the session and the number of a token; `None` if this secret did not seal it.
    pub fn open(&self, token: &Token) -> Option<(SessionId, u32)> {
        let (tag, masked) = split(token);
        let plaintext = self.masked(tag, masked);
        let expected = half(self.tag.sign(&[&plaintext]));
        equal_in_constant_time(&expected, &tag).then(|| decode(plaintext))
    }

    /// Returns a tag (HMAC-SHA-256) that only a process with this secret can make: it authenticates what servers of a farm
    /// send to each other.
    pub fn sign(&self, message: &[&[u8]]) -> [u8; 32] {
        self.message.sign(message)
    }

    /// Returns whether `tag` is that of `message`.
    pub fn verify(&self, message: &[&[u8]], tag: &[u8]) -> bool {
        equal_in_constant_time(&self.sign(message), tag)
    }

    /// Masks and unmasks.
    fn masked(&self, tag: [u8; 16], mut text: [u8; 16]) -> [u8; 16] {
        for (byte, mask) in text.iter_mut().zip(self.mask.sign(&[&tag])) {
            *byte ^= mask;
        }
        text
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(..)")
    }
}

/// The secrets in force at an endpoint: one that seals tokens of new sessions, and perhaps another that opens tokens, too.
///
/// Two are needed while a farm replaces its secret (`docs/farms.md`): the servers change one after the other, and each
/// must open what the others seal.
#[derive(Clone, Debug)]
pub struct TokenSecrets {
    sealing: Arc<TokenSecret>,
    other: Option<Arc<TokenSecret>>,
}

impl TokenSecrets {
    /// Seals with, and accepts, `secret`: 32 bytes as for [`TokenSecret::new`].
    pub fn new(secret: [u8; 32]) -> Self {
        Self { sealing: Arc::new(TokenSecret::new(secret)), other: None }
    }

    /// Returns these secrets with another one that is accepted, too.
    #[must_use]
    pub fn accepting(self, other: [u8; 32]) -> Self {
        Self { other: Some(Arc::new(TokenSecret::new(other))), ..self }
    }

    /// Returns the secret for new sessions.
    pub fn sealing(&self) -> &Arc<TokenSecret> {
        &self.sealing
    }

    /// Returns the session and the number of a token; `None` if no secret in force sealed it.
    pub fn open(&self, token: &Token) -> Option<(SessionId, u32)> {
        self.all().find_map(|secret| secret.open(token))
    }

    /// Returns whether `tag` is that of `message` with a secret in force ([`TokenSecret::sign`]).
    pub fn verify(&self, message: &[&[u8]], tag: &[u8]) -> bool {
        self.all().any(|secret| secret.verify(message, tag))
    }

    fn all(&self) -> impl Iterator<Item = &TokenSecret> {
        [Some(&self.sealing), self.other.as_ref()].into_iter().flatten().map(Arc::as_ref)
    }
}

fn encode(session: SessionId, sequence: u32) -> [u8; 16] {
    let mut plaintext = [0; 16];
    plaintext[..12].copy_from_slice(&session.0);
    plaintext[12..].copy_from_slice(&sequence.to_be_bytes());
    plaintext
}

fn decode([session @ .., a, b, c, d]: [u8; 16]) -> (SessionId, u32) {
    (SessionId(session), u32::from_be_bytes([a, b, c, d]))
}

fn half(value: [u8; 32]) -> [u8; 16] {
    split(&Token(value)).0
}

fn split(token: &Token) -> ([u8; 16], [u8; 16]) {
    let (mut first, mut second) = ([0; 16], [0; 16]);
    first.copy_from_slice(&token.0[..16]);
    second.copy_from_slice(&token.0[16..]);
    (first, second)
}

fn join(tag: [u8; 16], masked: [u8; 16]) -> Token {
    let mut token = [0; 32];
    token[..16].copy_from_slice(&tag);
    token[16..].copy_from_slice(&masked);
    Token(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId(*b"twelve bytes");

    fn secret() -> TokenSecret {
        TokenSecret::new([0x42; 32])
    }

    // draft I14
    #[test]
    fn token_contains_session_and_number() {
        for sequence in [0, 1, 255, 256, u32::MAX] {
            assert_eq!(secret().open(&secret().seal(SESSION, sequence)), Some((SESSION, sequence)));
        }
    }

    #[test]
    fn a_token_with_any_bit_flipped_is_none() {
        let token = secret().seal(SESSION, 1);
        for bit in 0..256 {
            let mut flipped = token;
            flipped.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(secret().open(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_token_of_another_secret_is_none() {
        assert_eq!(TokenSecret::new([0x43; 32]).open(&secret().seal(SESSION, 1)), None);
        assert_eq!(secret().open(&Token([0; 32])), None);
    }

    // draft E20
    #[test]
    fn tokens_of_one_session_share_nothing_that_can_be_seen() {
        let tokens: Vec<_> = (1..=64).map(|sequence| secret().seal(SESSION, sequence).0).collect();
        let (mut equal_bytes, mut different_bits, mut pairs) = (0, 0, 0);
        for (i, a) in tokens.iter().enumerate() {
            for b in &tokens[i + 1..] {
                pairs += 1;
                equal_bytes += a.iter().zip(b).filter(|(x, y)| x == y).count();
                different_bits += a.iter().zip(b).map(|(x, y)| (x ^ y).count_ones()).sum::<u32>();
            }
        }
        // By chance one byte in 256 is equal, an eighth of a byte per pair, and half of the 256 bits differ.
        assert!((pairs / 12..pairs / 6).contains(&equal_bytes), "{equal_bytes} equal bytes in {pairs} pairs");
        let mean = different_bits as usize / pairs;
        assert!((124..=132).contains(&mean), "{mean} of 256 bits differ");
    }

    #[test]
    fn the_sequence_number_is_not_in_the_token() {
        let token = secret().seal(SESSION, 0x0102_0304).0;
        assert!(!token.windows(4).any(|bytes| bytes == [1, 2, 3, 4]));
        assert!(!token.windows(6).any(|bytes| SESSION.0.windows(6).any(|part| part == bytes)));
    }

    #[test]
    fn tokens_of_both_secrets_in_force_are_opened_and_the_first_one_seals() {
        let (old, new) = ([0x42; 32], [0x43; 32]);
        let during = TokenSecrets::new(new).accepting(old);
        for secret in [old, new] {
            assert_eq!(during.open(&TokenSecret::new(secret).seal(SESSION, 5)), Some((SESSION, 5)));
        }
        let sealed = during.sealing().seal(SESSION, 6);
        assert_eq!(
            (TokenSecrets::new(new).open(&sealed), TokenSecrets::new(old).open(&sealed)),
            (Some((SESSION, 6)), None)
        );
        assert_eq!(during.open(&TokenSecret::new([0x44; 32]).seal(SESSION, 5)), None);
    }

    #[test]
    fn tag_of_a_message_is_valid_for_that_message_and_secret_alone() {
        let tag = secret().sign(&[b"hand", b"over"]);
        let secrets = TokenSecrets::new([0x43; 32]).accepting([0x42; 32]);
        assert!(secrets.verify(&[b"handover"], &tag));
        assert!(!secrets.verify(&[b"handovex"], &tag) && !secrets.verify(&[b"handover"], &tag[..31]));
        assert!(!TokenSecrets::new([0x43; 32]).verify(&[b"handover"], &tag));
        let token = secret().seal(SESSION, 1);
        assert!(!secrets.verify(&[&token.0[16..]], &token.0[..16]), "a token is no tag of a message");
    }

    #[test]
    fn debug_shows_no_secret() {
        let both = TokenSecrets::new([0x42; 32]).accepting([0x43; 32]);
        assert_eq!(format!("{both:?}"), "TokenSecrets { sealing: TokenSecret(..), other: Some(TokenSecret(..)) }");
        assert_eq!(format!("{:?}", secret()), "TokenSecret(..)");
    }
}
