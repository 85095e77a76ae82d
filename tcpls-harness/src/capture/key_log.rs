//! Secrets of TLS sessions, in the format that TLS libraries write to `SSLKEYLOGFILE` (RFC 9850).

use std::collections::BTreeMap;
use std::{error, fmt};

/// Sessions that are read; those that follow are passed over.
const MAX_SESSIONS: usize = 100_000;
/// The lengths of SHA-256 and SHA-384 in bytes.
const SECRET_LENS: [usize; 2] = [32, 48];

/// The secrets of one handshake, each as long as the hash of its cipher suite.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Secrets {
    pub(super) client_early: Option<Vec<u8>>,
    pub(super) client_handshake: Option<Vec<u8>>,
    pub(super) server_handshake: Option<Vec<u8>>,
    pub(super) client: Option<Vec<u8>>,
    pub(super) server: Option<Vec<u8>>,
}

/// The secrets of sessions, from a key log.
#[derive(Clone, Default)]
pub struct KeyLog {
    sessions: BTreeMap<[u8; 32], Secrets>,
}

impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLog").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}

/// A key log has no line with a secret of TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLogError;

impl fmt::Display for KeyLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no secret of TLS 1.3 in it; it is the file that an endpoint wrote because of SSLKEYLOGFILE")
    }
}

impl error::Error for KeyLogError {}

impl KeyLog {
    /// Reads lines of a label, a client random and a secret. Other lines are passed over.
    ///
    /// # Errors
    /// There is no such line.
    pub fn parse(text: &[u8]) -> Result<Self, KeyLogError> {
        let mut log = Self::default();
        text.split(|&byte| byte == b'\n').for_each(|line| _ = log.take(line));
        if log.sessions.is_empty() { Err(KeyLogError) } else { Ok(log) }
    }

    fn take(&mut self, line: &[u8]) -> Option<()> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (label, random, secret) = (words.next()?, words.next()?, words.next()?);
        let is_known = matches!(
            label,
            b"CLIENT_EARLY_TRAFFIC_SECRET"
                | b"CLIENT_HANDSHAKE_TRAFFIC_SECRET"
                | b"SERVER_HANDSHAKE_TRAFFIC_SECRET"
                | b"CLIENT_TRAFFIC_SECRET_0"
                | b"SERVER_TRAFFIC_SECRET_0"
        );
        let random: [u8; 32] = unhex(random)?.try_into().ok()?;
        let secret = unhex(secret).filter(|secret| SECRET_LENS.contains(&secret.len()))?;
        if !is_known || (self.sessions.len() == MAX_SESSIONS && !self.sessions.contains_key(&random)) {
            return None;
        }
        let secrets = self.sessions.entry(random).or_default();
        let place = match label {
            b"CLIENT_EARLY_TRAFFIC_SECRET" => &mut secrets.client_early,
            b"CLIENT_HANDSHAKE_TRAFFIC_SECRET" => &mut secrets.client_handshake,
            b"SERVER_HANDSHAKE_TRAFFIC_SECRET" => &mut secrets.server_handshake,
            b"CLIENT_TRAFFIC_SECRET_0" => &mut secrets.client,
            _ => &mut secrets.server,
        };
        *place = Some(secret);
        Some(())
    }

    pub(super) fn get(&self, client_random: &[u8; 32]) -> Option<&Secrets> {
        self.sessions.get(client_random)
    }

    /// How many sessions it has.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8; 32], &Secrets)> {
        self.sessions.iter()
    }
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    // Longer ones are no secret, and need not be decoded.
    if text.len() > 128 || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_secrets_are_read_and_others_passed_over() {
        let (random, secret) = ("0a".repeat(32), "Bb".repeat(48));
        let text = format!(
            "# a comment\r\nCLIENT_TRAFFIC_SECRET_0 {random} {secret}\r\n\nSERVER_TRAFFIC_SECRET_0 {random} {short}\n\
             EXPORTER_SECRET {random} {secret}\nCLIENT_RANDOM {random} {secret}\nCLIENT_EARLY_TRAFFIC_SECRET {random}\n\
             SERVER_HANDSHAKE_TRAFFIC_SECRET {random} zz",
            short = "cc".repeat(31),
        );
        let log = KeyLog::parse(text.as_bytes()).unwrap();
        let secrets = log.get(&[10; 32]).unwrap();
        assert!(*secrets == Secrets { client: Some(vec![0xbb; 48]), ..Secrets::default() });
        assert_eq!(log.iter().count(), 1);
        assert_eq!(format!("{log:?}"), "KeyLog { sessions: 1, .. }");
    }

    #[test]
    fn text_without_a_secret_is_an_error() {
        let random = "0a".repeat(32);
        for text in ["", "\n\n", &format!("EXPORTER_SECRET {random} {random}"), "CLIENT_TRAFFIC_SECRET_0 00 00"] {
            assert_eq!(KeyLog::parse(text.as_bytes()).unwrap_err(), KeyLogError, "{text}");
        }
    }

    #[test]
    fn words_that_are_too_long_are_not_decoded() {
        assert_eq!(unhex(&[b'0'; 130]), None);
        assert_eq!(unhex(&[b'0'; 128]), Some(vec![0; 64]));
        assert_eq!(unhex(b"123"), None);
    }
}
