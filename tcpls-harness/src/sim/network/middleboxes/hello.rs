//! Hellos as a middlebox reads them, which knows TLS 1.3 (RFC 8446, 4.1) and nothing of TCPLS. A parser of its own: that of
//! the core could not judge what the core writes.

/// Extensions that boxes look for (RFC 8446, 4.2, and RFC 7301).
pub(super) const ALPN: u16 = 16;
pub(super) const PRE_SHARED_KEY: u16 = 41;
pub(super) const EARLY_DATA: u16 = 42;
pub(super) const SUPPORTED_VERSIONS: u16 = 43;
pub(super) const KEY_SHARE: u16 = 51;

const TLS_1_3: [u8; 2] = [3, 4];
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

type Extensions<'a> = Vec<(u16, &'a [u8])>;

/// A ClientHello.
#[derive(Debug)]
pub(super) struct ClientHello<'a> {
    pub(super) session_id: &'a [u8],
    pub(super) suites: &'a [u8],
    /// How much of the message is before the extensions.
    pub(super) head: usize,
    pub(super) extensions: Extensions<'a>,
}

/// A ServerHello.
#[derive(Debug)]
pub(super) struct ServerHello<'a> {
    pub(super) session_id: &'a [u8],
    pub(super) suite: &'a [u8],
    pub(super) extensions: Extensions<'a>,
}

impl<'a> ClientHello<'a> {
    /// Reads a handshake message that has to be a ClientHello, whole and nothing else.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(message);
        let mut body = reader.message(CLIENT_HELLO)?;
        body.take(2 + 32)?; // version, random
        let session_id = body.vector(1).filter(|id| id.len() <= 32)?;
        let suites = body.vector(2).filter(|suites| !suites.is_empty() && suites.len() % 2 == 0)?;
        body.vector(1).filter(|methods| *methods == [0])?;
        let head = message.len() - body.0.len();
        let extensions = body.extensions()?;
        Some(Self { session_id, suites, head, extensions })
    }

    /// Whether it offers TLS 1.3, and all that goes with it.
    pub(super) fn is_tls_1_3(&self) -> bool {
        let versions = |body: &[u8]| Reader(body).vector(1).is_some_and(|list| list.chunks(2).any(|v| v == TLS_1_3));
        let position = self.extensions.iter().position(|(kind, _)| *kind == PRE_SHARED_KEY);
        find(&self.extensions, SUPPORTED_VERSIONS).is_some_and(versions)
            && find(&self.extensions, KEY_SHARE).is_some()
            && position.is_none_or(|at| at == self.extensions.len() - 1)
    }

    pub(super) fn offers(&self, kind: u16) -> bool {
        find(&self.extensions, kind).is_some()
    }
}

impl<'a> ServerHello<'a> {
    /// Reads a handshake message that has to be a ServerHello, whole and nothing else.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(message);
        let mut body = reader.message(SERVER_HELLO)?;
        body.take(2 + 32)?;
        let session_id = body.vector(1)?;
        let suite = body.take(2)?;
        body.take(1).filter(|method| *method == [0])?;
        Some(Self { session_id, suite, extensions: body.extensions()? })
    }

    pub(super) fn is_tls_1_3(&self) -> bool {
        find(&self.extensions, SUPPORTED_VERSIONS) == Some(&TLS_1_3[..]) && self.has(KEY_SHARE)
    }

    pub(super) fn has(&self, kind: u16) -> bool {
        find(&self.extensions, kind).is_some()
    }
}

fn find<'a>(extensions: &Extensions<'a>, kind: u16) -> Option<&'a [u8]> {
    extensions.iter().find(|(other, _)| *other == kind).map(|(_, body)| *body)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, width: usize) -> Option<usize> {
        Some(self.take(width)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes behind their number, which has `width` bytes.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let len = self.number(width)?;
        self.take(len)
    }

    fn message(&mut self, kind: u8) -> Option<Self> {
        self.take(1).filter(|first| *first == [kind])?;
        let body = self.vector(3)?;
        self.0.is_empty().then_some(Self(body))
    }

    /// All that is left: extensions, each kind once.
    fn extensions(mut self) -> Option<Extensions<'a>> {
        let mut list = Self(self.vector(2)?);
        let mut extensions = Extensions::new();
        while !list.0.is_empty() {
            let kind = list.number(2)? as u16;
            let body = list.vector(2)?;
            if find(&extensions, kind).is_some() {
                return None;
            }
            extensions.push((kind, body));
        }
        self.0.is_empty().then_some(extensions)
    }
}
