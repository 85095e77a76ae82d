//! What hellos say about TCPLS. Nothing is checked that endpoints check: a capture has what they sent.

use tcpls_core::wire::ExtensionTypes;

/// The longest flight of plaintext handshake messages that is collected, in bytes.
pub(super) const MAX_HELLO: usize = 1 << 16;

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
const ENCRYPTED_EXTENSIONS: u8 = 8;

const ALPN: u16 = 16;
const PRE_SHARED_KEY: u16 = 41;

/// The random bytes that make a ServerHello a HelloRetryRequest (RFC 8446, 4.1.3) begin like this.
const RETRY: [u8; 8] = [0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11];

/// A ClientHello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientHello {
    pub(super) random: [u8; 32],
    /// In `tcpls_join`.
    pub(super) token: Option<[u8; 32]>,
    /// The first ticket, if it can be a token.
    pub(super) ticket: Option<[u8; 32]>,
}

/// A ServerHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerHello {
    pub(super) suite: u16,
    pub(super) is_retry: bool,
}

/// What EncryptedExtensions say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) tcpls: bool,
    /// In `tcpls_token`: token 1.
    pub(super) token: Option<[u8; 32]>,
}

/// Splits a handshake message off the front: its type and body.
pub(super) fn split_message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[ty, a, b, c], rest) = bytes.split_first_chunk::<4>()?;
    let (body, rest) = rest.split_at_checked(u32::from_be_bytes([0, a, b, c]) as usize)?;
    Some((ty, body, rest))
}

impl ClientHello {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        reader.take(2)?;
        let mut hello = Self { random: reader.array()?, ..Self::default() };
        reader.vec8()?;
        reader.vec16()?;
        reader.vec8()?;
        let join = ExtensionTypes::default().tcpls_join;
        for (ty, body) in extensions(reader)? {
            match ty {
                _ if ty == join => hello.token = body.try_into().ok(),
                PRE_SHARED_KEY => hello.ticket = first_identity(body),
                _ => {}
            }
        }
        Some(hello)
    }
}

impl ServerHello {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        reader.take(2)?;
        let random: [u8; 32] = reader.array()?;
        reader.vec8()?;
        Some(Self { suite: reader.u16()?, is_retry: random.starts_with(&RETRY) })
    }
}

impl Agreed {
    /// Reads the first message of the server's encrypted flight, if it is EncryptedExtensions.
    pub(super) fn parse(flight: &[u8]) -> Option<Self> {
        let (ENCRYPTED_EXTENSIONS, body, _) = split_message(flight)? else { return None };
        let types = ExtensionTypes::default();
        let mut agreed = Self::default();
        for (ty, body) in extensions(Reader(body))? {
            if ty == ALPN {
                agreed.tcpls |= Reader(Reader(body).vec16()?).vec8().is_some_and(tcpls_core::crypto::alpn::is_tcpls);
            } else if ty == types.tcpls {
                agreed.tcpls = true;
            } else if ty == types.tcpls_token {
                agreed.token = body.try_into().ok();
            }
        }
        Some(agreed)
    }
}

fn first_identity(body: &[u8]) -> Option<[u8; 32]> {
    Reader(Reader(body).vec16()?).vec16()?.try_into().ok()
}

fn extensions<'a>(mut reader: Reader<'a>) -> Option<Vec<(u16, &'a [u8])>> {
    let mut list = Reader(reader.vec16()?);
    let mut extensions = Vec::new();
    while !list.0.is_empty() {
        extensions.push((list.u16()?, list.vec16()?));
    }
    Some(extensions)
}

/// Reads fields from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn vec8(&mut self) -> Option<&'a [u8]> {
        let [len] = self.array()?;
        self.take(len.into())
    }

    fn vec16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }
}
