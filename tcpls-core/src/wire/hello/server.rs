//! ServerHello (RFC 8446, 4.1.3): the server's answer to a join, and what the joining client reads of it.

use arrayvec::ArrayVec;
use bytes::BufMut;

use super::*;

/// The random bytes that make a ServerHello a HelloRetryRequest (RFC 8446, 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, //
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// A ServerHello that answers a join, and looks like one of a TLS handshake (draft, 4.3).
#[derive(Clone, Debug)]
pub struct JoinServerHello<'a> {
    /// Fresh random bytes.
    pub random: [u8; 32],
    /// The ClientHello's, at most 32 bytes; what is beyond is left out.
    pub session_id: &'a [u8],
    /// The cipher suite of the session.
    pub suite: u16,
    /// Fresh random bytes that pass for an x25519 key.
    pub key_share: [u8; 32],
    /// Whether to select the pre-shared key that the ClientHello offered.
    pub psk: bool,
}

impl JoinServerHello<'_> {
    /// Appends the hello to `out`, as one record in plaintext.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // draft E01
        handshake_record(LEGACY_VERSION, SERVER_HELLO, out, |out| self.put_body(out));
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        let session_id = self.session_id.get(..32).unwrap_or(self.session_id);
        out.put_u16(LEGACY_VERSION);
        out.put_slice(&self.random);
        prefixed::<1>(out, |out| out.put_slice(session_id));
        out.put_u16(self.suite);
        out.put_u8(0); // no compression
        prefixed::<2>(out, |out| self.put_extensions(out));
    }

    // draft E11
    fn put_extensions(&self, out: &mut Vec<u8>) {
        put_extension(extension::SUPPORTED_VERSIONS, out, |out| out.put_u16(TLS13));
        put_extension(extension::KEY_SHARE, out, |out| put_key_share(&self.key_share, out));
        if self.psk {
            put_extension(extension::PRE_SHARED_KEY, out, |out| out.put_u16(0)); // the first and only one
        }
    }
}

/// The fields of a ServerHello that a joining client needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The server's random bytes.
    pub random: [u8; 32],
    /// The ClientHello's, if the server echoed it.
    pub session_id: ArrayVec<u8, 32>,
    /// The cipher suite that the server chose.
    pub suite: u16,
    /// Whether the server chose TLS 1.3.
    pub tls13: bool,
    /// Whether it is a HelloRetryRequest, which never answers a join.
    pub is_retry_request: bool,
}

/// Reads the body of a ServerHello: what follows the 4 bytes of the handshake message's header.
///
/// # Errors
///
/// [`HelloError::Decode`] and [`HelloError::IllegalParameter`], as in RFC 8446 and the draft (5.1).
pub fn parse_server_hello(body: &[u8], ext: &ExtensionTypes) -> Result<ServerHello, HelloError> {
    let mut head = Head::new(body);
    let legacy_version = head.u16()?;
    let random = head.array()?;
    let session_id = session_id(&mut head)?;
    let (suite, compression) = (head.u16()?, head.u8()?);
    let extensions = extensions(head)?;
    if legacy_version != LEGACY_VERSION || compression != 0 || has_tcpls_extension(&extensions, ext) {
        return Err(HelloError::IllegalParameter);
    }
    let tls13 = selects_tls13(&extensions)?;
    Ok(ServerHello { random, session_id, suite, tls13, is_retry_request: random == RETRY_RANDOM })
}

/// RFC 8446, 4.2.1.
fn selects_tls13(extensions: &[(u16, &[u8])]) -> Result<bool, HelloError> {
    let Some((_, body)) = extensions.iter().find(|(ty, _)| *ty == extension::SUPPORTED_VERSIONS) else {
        return Ok(false);
    };
    let mut body = Head::new(body);
    let version = body.u16()?;
    body.end()?;
    Ok(version == TLS13)
}

/// A server answers TCPLS's extensions under encryption or not at all.
// draft E11
fn has_tcpls_extension(extensions: &[(u16, &[u8])], ext: &ExtensionTypes) -> bool {
    // draft I30
    let tcpls = [ext.tcpls, ext.tcpls_join, ext.tcpls_token, ext.tcpls_parameters];
    extensions.iter().any(|(ty, _)| tcpls.contains(ty))
}
