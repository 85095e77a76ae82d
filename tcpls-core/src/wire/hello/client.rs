//! ClientHello (RFC 8446, 4.1.2): written by a client that joins, read by the server's endpoint to tell a join from a
//! new session.

use arrayvec::ArrayVec;
use bytes::BufMut;

use super::*;
use crate::wire::ids::Token;

/// The TLS 1.3 cipher suites that clients usually offer, in their usual order.
const USUAL_SUITES: [u16; 3] = [0x1301, 0x1302, 0x1303];

/// x25519, secp256r1, secp384r1.
const GROUPS: [u16; 3] = [X25519, 0x0017, 0x0018];

/// ECDSA and EdDSA, then RSA with PSS, then RSA as certificates still have it.
const SIGNATURE_SCHEMES: [u16; 10] = [0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601];

/// `psk_dhe_ke` (RFC 8446, 4.2.9).
const PSK_DHE_KE: u8 = 1;

/// The version in the record of a first ClientHello: TLS 1.0, as clients do for the sake of old middleboxes.
const RECORD_VERSION: u16 = 0x0301;

/// The longest names that SNI and ALPN carry, in bytes.
const MAX_NAME: usize = 255;
/// Application protocols that a ClientHello may offer. Each is kept on its own, and would cost much more than its bytes.
const MAX_PROTOCOL_NAMES: usize = 128;

/// The longest ticket and the longest binder that are written, in bytes; the hello stays far below one record.
const MAX_IDENTITY: usize = 1024;
const MAX_BINDER: usize = 255;

/// A ClientHello that joins a session, and looks like one of a new session (draft, 4.3).
#[derive(Clone, Debug)]
pub struct JoinHello<'a> {
    /// Fresh random bytes.
    pub random: [u8; 32],
    /// Fresh random bytes; the ServerHello echoes them.
    pub session_id: [u8; 32],
    /// The cipher suite of the session, offered first.
    pub suite: u16,
    /// The server name of the session; absent if it was an IP address. Left out unless it has 1–255 bytes.
    pub server_name: Option<&'a str>,
    /// The ALPN name of the session, as it was agreed on. Left out unless it has 1–255 bytes.
    pub alpn: Option<&'a [u8]>,
    /// Fresh random bytes that pass for an x25519 key.
    pub key_share: [u8; 32],
    /// The token of the join.
    pub token: Token,
    /// Present if records of the session follow the hello at once: they look like early data.
    pub zero_rtt: Option<ZeroRtt<'a>>,
}

/// An apparent resumption, which early data needs (RFC 8446, 4.2.11).
#[derive(Clone, Copy, Debug)]
pub struct ZeroRtt<'a> {
    /// Random bytes that pass for a ticket; about 200 are usual, 1–1024 possible.
    pub identity: &'a [u8],
    /// Random bits that pass for the ticket's age.
    pub obfuscated_age: u32,
    /// Random bytes that pass for a MAC: as many as the suite's hash has, 32 or 48.
    pub binder: &'a [u8],
}

impl JoinHello<'_> {
    /// Appends the hello to `out`, as one record in plaintext.
    pub fn encode(&self, ext: &ExtensionTypes, out: &mut Vec<u8>) {
        // draft E01
        handshake_record(RECORD_VERSION, CLIENT_HELLO, out, |out| self.put_body(ext, out));
    }

    fn put_body(&self, ext: &ExtensionTypes, out: &mut Vec<u8>) {
        out.put_u16(LEGACY_VERSION);
        out.put_slice(&self.random);
        prefixed::<1>(out, |out| out.put_slice(&self.session_id));
        prefixed::<2>(out, |out| self.put_suites(out));
        prefixed::<1>(out, |out| out.put_u8(0)); // no compression
        prefixed::<2>(out, |out| self.put_extensions(ext, out));
    }

    fn put_suites(&self, out: &mut Vec<u8>) {
        out.put_u16(self.suite);
        USUAL_SUITES.into_iter().filter(|&suite| suite != self.suite).for_each(|suite| out.put_u16(suite));
    }

    // draft E09, I02, I10
    fn put_extensions(&self, ext: &ExtensionTypes, out: &mut Vec<u8>) {
        self.put_server_name(out);
        put_u16_list(extension::SUPPORTED_GROUPS, &GROUPS, out);
        put_u16_list(extension::SIGNATURE_ALGORITHMS, &SIGNATURE_SCHEMES, out);
        self.put_alpn(out);
        put_extension(extension::SUPPORTED_VERSIONS, out, |out| prefixed::<1>(out, |out| out.put_u16(TLS13)));
        put_extension(extension::PSK_KEY_EXCHANGE_MODES, out, |out| prefixed::<1>(out, |out| out.put_u8(PSK_DHE_KE)));
        put_extension(extension::KEY_SHARE, out, |out| prefixed::<2>(out, |out| put_key_share(&self.key_share, out)));
        // draft I11, I31, I32: no body; the token alone, without a length.
        put_extension(ext.tcpls, out, |_| ());
        put_extension(ext.tcpls_join, out, |out| out.put_slice(&self.token.0));
        if let Some(zero_rtt) = &self.zero_rtt {
            put_extension(extension::EARLY_DATA, out, |_| ());
            // It has to be the last one (RFC 8446, 4.2.11).
            put_extension(extension::PRE_SHARED_KEY, out, |out| zero_rtt.put_offered_psks(out));
        }
    }

    /// RFC 6066, 3.
    fn put_server_name(&self, out: &mut Vec<u8>) {
        let Some(name) = self.server_name.map(str::as_bytes).filter(|name| is_name(name)) else { return };
        put_extension(extension::SERVER_NAME, out, |out| {
            prefixed::<2>(out, |out| {
                out.put_u8(HOST_NAME);
                prefixed::<2>(out, |out| out.put_slice(name));
            });
        });
    }

    /// RFC 7301, 3.1.
    fn put_alpn(&self, out: &mut Vec<u8>) {
        let Some(name) = self.alpn.filter(|name| is_name(name)) else { return };
        put_extension(extension::ALPN, out, |out| {
            prefixed::<2>(out, |out| prefixed::<1>(out, |out| out.put_slice(name)));
        });
    }
}

impl ZeroRtt<'_> {
    fn put_offered_psks(&self, out: &mut Vec<u8>) {
        let identity = self.identity.get(..MAX_IDENTITY).unwrap_or(self.identity);
        let binder = self.binder.get(..MAX_BINDER).unwrap_or(self.binder);
        prefixed::<2>(out, |out| {
            prefixed::<2>(out, |out| out.put_slice(identity));
            out.put_u32(self.obfuscated_age);
        });
        prefixed::<2>(out, |out| prefixed::<1>(out, |out| out.put_slice(binder)));
    }
}

/// Appends an extension whose body is one list of 16-bit numbers.
fn put_u16_list(ty: u16, list: &[u16], out: &mut Vec<u8>) {
    put_extension(ty, out, |out| prefixed::<2>(out, |out| list.iter().for_each(|&item| out.put_u16(item))));
}

const fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME
}

/// The only type of server name there is (RFC 6066, 3).
const HOST_NAME: u8 = 0;

/// The fields of a ClientHello that a TCPLS server needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The client's random bytes.
    pub random: [u8; 32],
    /// For a ServerHello to echo.
    pub session_id: ArrayVec<u8, 32>,
    /// The cipher suites on offer, best first.
    pub suites: Vec<u16>,
    /// The server name.
    pub server_name: Option<String>,
    /// The application protocols on offer, best first.
    pub alpn: Vec<Vec<u8>>,
    /// The groups of the key shares.
    pub key_shares: Vec<u16>,
    /// Whether TLS 1.3 is among the versions.
    pub supports_tls13: bool,
    /// Whether it carries the `tcpls` extension.
    pub tcpls: bool,
    /// The token of `tcpls_join`: the client wants to join a session.
    pub join: Option<Token>,
    /// Whether it announces early data.
    pub early_data: bool,
    /// Whether it offers a pre-shared key. What that is like is not looked at.
    pub psk: bool,
    /// The first ticket among its pre-shared keys, if it is as long as a token: the client may want to join a session.
    pub ticket: Option<Token>,
    /// Whether it is part of Encrypted ClientHello, and which part.
    pub ech: Option<Ech>,
}

/// Reads the body of a ClientHello: what follows the 4 bytes of the handshake message's header.
///
/// # Errors
///
/// [`HelloError::Decode`] and [`HelloError::IllegalParameter`], as in RFC 8446 and the draft (5.1).
pub fn parse_client_hello(body: &[u8], ext: &ExtensionTypes) -> Result<ClientHello, HelloError> {
    let mut head = Head::new(body);
    head.u16()?; // The legacy version says nothing where there is `supported_versions`.
    let (random, session_id) = (head.array()?, session_id(&mut head)?);
    let suites = u16_list(head.vec16()?)?;
    let compression = head.vec8()?;
    let extensions = extensions(head)?;
    check_psk_is_last(&extensions)?;

    let mut hello = ClientHello { random, session_id, suites, ..ClientHello::default() };
    for (ty, body) in extensions {
        hello.take_extension(ty, Head::new(body), ext)?;
    }
    check_compression(compression, hello.supports_tls13)?;
    Ok(hello)
}

impl ClientHello {
    /// What joins of the session that this ClientHello begins may show instead of its server name; `None` if they show
    /// that.
    pub fn cover(&self) -> Option<Cover> {
        Some(match self.ech? {
            Ech::Outer => Cover::Name(self.server_name.clone().filter(|name| is_name(name.as_bytes()))),
            Ech::Inner => Cover::Unknown,
        })
    }

    fn take_extension(&mut self, ty: u16, mut body: Head<'_>, ext: &ExtensionTypes) -> Result<(), HelloError> {
        match ty {
            extension::SERVER_NAME => self.server_name = host_name(body)?,
            extension::ALPN => self.alpn = protocol_names(body)?,
            extension::KEY_SHARE => self.key_shares = key_share_groups(body)?,
            extension::SUPPORTED_VERSIONS => {
                self.supports_tls13 = u16_list(body.vec8()?)?.contains(&TLS13);
                body.end()?;
            }
            extension::EARLY_DATA => {
                self.early_data = true;
                body.end()?;
            }
            extension::PRE_SHARED_KEY => {
                self.psk = true;
                self.ticket = first_identity(body).ok();
            }
            extension::ENCRYPTED_CLIENT_HELLO => self.ech = Some(Ech::from_type(body.u8()?)),
            _ if ty == ext.tcpls => {
                // draft I31
                self.tcpls = true;
                body.end()?;
            }
            _ if ty == ext.tcpls_join => {
                // draft I32
                self.join = Some(Token(body.array()?));
                body.end()?;
            }
            // draft I30: it belongs in EncryptedExtensions alone.
            _ if ty == ext.tcpls_token => return Err(HelloError::IllegalParameter),
            _ => {}
        }
        Ok(())
    }
}

/// RFC 8446, 4.2.11.
fn check_psk_is_last(extensions: &[(u16, &[u8])]) -> Result<(), HelloError> {
    let at = extensions.iter().position(|(ty, _)| *ty == extension::PRE_SHARED_KEY);
    if at.is_some_and(|at| at + 1 != extensions.len()) { Err(HelloError::IllegalParameter) } else { Ok(()) }
}

/// RFC 8446, 4.2.11: the list of identities is in front of that of the binders. A TLS library checks the rest.
fn first_identity(mut body: Head<'_>) -> Result<Token, HelloError> {
    let mut identity = Head::new(Head::new(body.vec16()?).vec16()?);
    let token = Token(identity.array()?);
    identity.end()?;
    Ok(token)
}

/// RFC 8446, 4.1.2: "null" and nothing else, though an older client may offer more.
fn check_compression(methods: &[u8], tls13: bool) -> Result<(), HelloError> {
    match methods {
        [] => Err(HelloError::Decode),
        [0] => Ok(()),
        _ if tls13 => Err(HelloError::IllegalParameter),
        _ => Ok(()),
    }
}

/// A list of 16-bit numbers that has at least one.
fn u16_list(list: &[u8]) -> Result<Vec<u16>, HelloError> {
    let (pairs, rest) = list.as_chunks();
    if pairs.is_empty() || !rest.is_empty() {
        return Err(HelloError::Decode);
    }
    Ok(pairs.iter().map(|&pair| u16::from_be_bytes(pair)).collect())
}

/// RFC 6066, 3: at most one name of each type; types without a meaning are passed over.
fn host_name(mut body: Head<'_>) -> Result<Option<String>, HelloError> {
    let mut list = non_empty(body.vec16()?)?;
    body.end()?;
    let mut found = None;
    while !list.is_empty() {
        let (ty, name) = (list.u8()?, list.vec16()?);
        if ty != HOST_NAME {
            continue;
        }
        let name = core::str::from_utf8(name).ok().filter(|name| !name.is_empty()).ok_or(HelloError::Decode)?;
        if found.replace(name.to_owned()).is_some() {
            return Err(HelloError::IllegalParameter);
        }
    }
    Ok(found)
}

/// RFC 7301, 3.1.
fn protocol_names(mut body: Head<'_>) -> Result<Vec<Vec<u8>>, HelloError> {
    let mut list = non_empty(body.vec16()?)?;
    body.end()?;
    let mut names = Vec::new();
    while !list.is_empty() {
        if names.len() == MAX_PROTOCOL_NAMES {
            return Err(HelloError::Decode);
        }
        names.push(list.vec8()?.to_vec());
    }
    if names.iter().any(Vec::is_empty) { Err(HelloError::Decode) } else { Ok(names) }
}

/// RFC 8446, 4.2.8: the list may be empty, a key may not.
fn key_share_groups(mut body: Head<'_>) -> Result<Vec<u16>, HelloError> {
    let mut list = Head::new(body.vec16()?);
    body.end()?;
    let mut groups = Vec::new();
    while !list.is_empty() {
        groups.push(list.u16()?);
        non_empty(list.vec16()?)?;
    }
    Ok(groups)
}

fn non_empty(bytes: &[u8]) -> Result<Head<'_>, HelloError> {
    if bytes.is_empty() { Err(HelloError::Decode) } else { Ok(Head::new(bytes)) }
}
