//! Reads the server's EncryptedExtensions on a client, for what OpenSSL does not show: `tcpls_token` (decision D146), which
//! the ClientHello may not have, so that OpenSSL ignores it and would refuse to register it; and `early_data`.

use super::secrets::Secret;
use crate::crypto::aead::Suite;
use crate::crypto::nonce::nonce;
use crate::crypto::{OpenKeys, TAG_LEN};
use crate::wire::hello::ExtensionTypes;
use crate::wire::ids::ConnectionId;
use crate::wire::record::{ContentType, HEADER_LEN, split_inner};

/// The type of EncryptedExtensions (RFC 8446, 4).
const ENCRYPTED_EXTENSIONS: u8 = 8;
/// The extension early_data (RFC 8446, 4.2.10).
const EARLY_DATA: u16 = 42;
/// Bytes that are kept of a message that is not complete; the message has at most 64 KiB.
const MAX_MESSAGE: usize = 4 + 2 + 0xffff;

/// The token that a server has put in EncryptedExtensions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EarlyToken {
    Token([u8; 32]),
    /// It is there twice, or has another length.
    Malformed,
}

/// The beginning of the server's encrypted flight. OpenSSL reads and judges all of it; this is a second reader.
#[derive(Default)]
pub(super) struct ServerFlight {
    keys: Option<OpenKeys>,
    opened: u64,
    /// The first message, as far as it has arrived.
    message: Vec<u8>,
    is_over: bool,
    token: Option<EarlyToken>,
    accepts_early_data: bool,
}

impl ServerFlight {
    /// Takes in a record of the server, which OpenSSL gets after this. `secret` protects the flight.
    pub(super) fn take_record(&mut self, record: &[u8], secret: &Secret, suite: Option<Suite>) {
        if self.is_over || record.first() != Some(&(ContentType::ApplicationData as u8)) {
            return;
        }
        self.is_over = self.read(record, secret, suite).is_none();
    }

    /// `None` once there is no more to read.
    fn read(&mut self, record: &[u8], secret: &Secret, suite: Option<Suite>) -> Option<()> {
        if self.keys.is_none() {
            self.keys = secret.open_keys(suite?).ok();
        }
        let keys = self.keys.as_ref()?;
        let (header, sealed) = record.split_at_checked(HEADER_LEN)?;
        let mut inner = sealed.to_vec();
        keys.key.open(nonce(&keys.iv, ConnectionId::FIRST, self.opened), header, &mut inner).ok()?;
        self.opened += 1;
        inner.truncate(inner.len() - TAG_LEN);
        let (content_type, len) = split_inner(&inner)?;
        if content_type != ContentType::Handshake as u8 || self.message.len() + len > MAX_MESSAGE {
            return None;
        }
        self.message.extend_from_slice(&inner[..len]);
        let Some((head, rest)) = self.message.split_first_chunk::<4>() else { return Some(()) };
        let [kind, a, b, c] = *head;
        let Some(body) = rest.get(..u32::from_be_bytes([0, a, b, c]) as usize) else { return Some(()) };
        if kind == ENCRYPTED_EXTENSIONS {
            (self.token, self.accepts_early_data) = (find_token(body), has_early_data(body));
        }
        self.message = Vec::new();
        None
    }

    /// Whether the server has accepted early data.
    pub(super) fn accepts_early_data(&self) -> bool {
        self.accepts_early_data
    }

    /// The token, as far as the server has sent one.
    pub(super) fn token(&self) -> Option<EarlyToken> {
        self.token
    }
}

/// The extensions of EncryptedExtensions, type and content each. OpenSSL judges their form: what is malformed ends them.
fn extensions(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(2..).unwrap_or_default();
    core::iter::from_fn(move || {
        let (&[code_high, code_low, high, low], after) = rest.split_first_chunk::<4>()?;
        let (content, others) = after.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        rest = others;
        Some((u16::from_be_bytes([code_high, code_low]), content))
    })
}

// draft I33
fn find_token(body: &[u8]) -> Option<EarlyToken> {
    let code = ExtensionTypes::default().tcpls_token;
    let mut tokens = extensions(body).filter(|(ty, _)| *ty == code);
    let (_, content) = tokens.next()?;
    let token = content.try_into().map_or(EarlyToken::Malformed, EarlyToken::Token);
    Some(if tokens.next().is_none() { token } else { EarlyToken::Malformed })
}

fn has_early_data(body: &[u8]) -> bool {
    extensions(body).any(|(ty, _)| ty == EARLY_DATA)
}
