//! The apparent handshake of a join: TLS hellos that carry a token (`docs/protocol.md`, 5).
//!
//! `client` and `server` write and read the two hellos, `ech` has what they show of an encrypted server name; `reader` finds a hello in a sequence of records that may split
//! it anywhere. These messages affect no key and are not trusted: the session checks a hello, the endpoint finds its
//! session. Hellos of real handshakes are only inspected; the TLS library processes them.

use core::fmt;

use arrayvec::ArrayVec;
use bytes::BufMut;

use super::codec::{Head, Short};
use super::record::{ContentType, RecordError};
use crate::error::Alert;

mod client;
mod ech;
mod reader;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ClientHello, JoinHello, ZeroRtt, parse_client_hello};
pub use ech::{Cover, Ech};
#[cfg(any(test, feature = "testing"))]
pub use reader::HelloReader;
pub use reader::{peek_client_hello, split_message};
#[cfg(any(test, feature = "testing"))]
pub use server::ServerHello;
pub use server::{JoinServerHello, parse_server_hello};

/// The most that a hello may take on the wire, record headers included, in bytes.
pub const MAX_HELLO: usize = 1 << 14;

/// Usual maximum size of a hello of a join, in bytes.
const USUAL_HELLO: usize = 640;
/// Extensions that hellos usually have at most.
const USUAL_EXTENSIONS: usize = 20;

/// Handshake type of a ClientHello (RFC 8446, 4).
pub const CLIENT_HELLO: u8 = 1;

/// Handshake type of a ServerHello (RFC 8446, 4).
pub const SERVER_HELLO: u8 = 2;

/// ChangeCipherSpec, for middleboxes that expect a resumed TLS 1.2 session (RFC 8446, D.4).
pub const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];

/// `legacy_version` of both hellos: TLS 1.2.
const LEGACY_VERSION: u16 = 0x0303;
/// What `supported_versions` calls TLS 1.3.
const TLS13: u16 = 0x0304;
/// The group of the key share, which is not used.
const X25519: u16 = 0x001d;

/// Code points of the extensions that the hellos of a join use (RFC 8446, 4.2).
mod extension {
    pub(super) const SERVER_NAME: u16 = 0;
    pub(super) const SUPPORTED_GROUPS: u16 = 10;
    pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
    pub(super) const ALPN: u16 = 16;
    pub(super) const PRE_SHARED_KEY: u16 = 41;
    pub(super) const EARLY_DATA: u16 = 42;
    pub(super) const SUPPORTED_VERSIONS: u16 = 43;
    pub(super) const PSK_KEY_EXCHANGE_MODES: u16 = 45;
    pub(super) const KEY_SHARE: u16 = 51;
    pub(super) const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
}

/// Code points of TCPLS's own TLS extensions. The draft leaves them open (7); the defaults are for private use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionTypes {
    /// The sender supports TCPLS (draft, 5.1.1).
    pub tcpls: u16,
    /// The token of a join (draft, 5.1.2).
    pub tcpls_join: u16,
    /// The first token, in EncryptedExtensions (draft, 5.1.3).
    pub tcpls_token: u16,
    /// Ours: the sender's session parameters.
    pub tcpls_parameters: u16,
}

impl Default for ExtensionTypes {
    // draft I47
    fn default() -> Self {
        Self { tcpls: 0xff60, tcpls_join: 0xff61, tcpls_token: 0xff62, tcpls_parameters: 0xff63 }
    }
}

/// Why a hello is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HelloError {
    /// No TLS record begins like this.
    NotTls,
    /// A record longer than TLS allows.
    RecordOverflow,
    /// A record or a handshake message that is not allowed here: of another type, empty, or with bytes behind the
    /// hello.
    Unexpected,
    /// It takes more than [`MAX_HELLO`] bytes.
    TooLong,
    /// A field is cut short, too long or missing.
    Decode,
    /// A well-formed field has an invalid value; an extension appears twice, or where it is not allowed.
    IllegalParameter,
}

impl HelloError {
    /// The alert that answers it.
    pub const fn alert(self) -> Alert {
        match self {
            Self::NotTls | Self::Unexpected => Alert::UnexpectedMessage,
            Self::RecordOverflow => Alert::RecordOverflow,
            Self::TooLong | Self::Decode => Alert::DecodeError,
            Self::IllegalParameter => Alert::IllegalParameter,
        }
    }
}

impl From<Short> for HelloError {
    fn from(Short: Short) -> Self {
        Self::Decode
    }
}

impl From<RecordError> for HelloError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::NotTls => Self::NotTls,
            RecordError::Overflow => Self::RecordOverflow,
            RecordError::Empty => Self::Unexpected,
        }
    }
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "not a TLS record",
            Self::RecordOverflow => "record longer than TLS allows",
            Self::Unexpected => "not the hello that is due",
            Self::TooLong => "hello of more than 16 KiB",
            Self::Decode => "hello that can't be decoded",
            Self::IllegalParameter => "hello with a value that can't be",
        })
    }
}

impl core::error::Error for HelloError {}

/// Appends what `fill` writes, with its length in `N` bytes in front.
fn prefixed<const N: usize>(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.put_bytes(0, N);
    fill(out);
    let len = (out.len() - at - N) as u64;
    out[at..at + N].copy_from_slice(&len.to_be_bytes()[8 - N..]);
}

/// Appends a record in plaintext that holds one handshake message.
///
/// Room for the longest hello that is usual, a ClientHello with a ticket, is made at once.
fn handshake_record(record_version: u16, message_type: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.reserve(USUAL_HELLO);
    out.put_u8(ContentType::Handshake as u8);
    out.put_u16(record_version);
    prefixed::<2>(out, |out| {
        out.put_u8(message_type);
        prefixed::<3>(out, body);
    });
}

/// Appends one extension.
fn put_extension(ty: u16, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.put_u16(ty);
    prefixed::<2>(out, body);
}

/// Appends a key share entry (RFC 8446, 4.2.8).
fn put_key_share(share: &[u8; 32], out: &mut Vec<u8>) {
    out.put_u16(X25519);
    prefixed::<2>(out, |out| out.put_slice(share));
}

/// Reads a hello's `legacy_session_id`, which has at most 32 bytes.
fn session_id(head: &mut Head<'_>) -> Result<ArrayVec<u8, 32>, HelloError> {
    ArrayVec::try_from(head.vec8()?).map_err(|_| HelloError::Decode)
}

/// Reads the extensions that end a hello. TLS 1.2 lets them be absent.
///
/// None may come twice (RFC 8446, 4.2); `tcpls_join` is no exception (draft, 5.1.2).
fn extensions<'a>(mut head: Head<'a>) -> Result<Vec<(u16, &'a [u8])>, HelloError> {
    if head.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = Head::new(head.vec16()?);
    head.end()?;
    let mut extensions = Vec::with_capacity(USUAL_EXTENSIONS);
    while !list.is_empty() {
        extensions.push((list.u16()?, list.vec16()?));
    }
    // draft E09
    if has_duplicate(&extensions) { Err(HelloError::IllegalParameter) } else { Ok(extensions) }
}

/// Sorts, because comparing thousands of extensions with each other would be quadratic.
fn has_duplicate(extensions: &[(u16, &[u8])]) -> bool {
    let mut types: Vec<u16> = extensions.iter().map(|(ty, _)| *ty).collect();
    types.sort_unstable();
    types.windows(2).any(|pair| pair[0] == pair[1])
}
