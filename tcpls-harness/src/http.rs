//! Heads of HTTP/1.1 messages (RFC 9112): start line and fields, of requests and responses. Tunnels and the file server use
//! this one parser.

use std::{error, fmt};

use bytes::{Buf, Bytes, BytesMut};

/// The application protocol (ALPN); over TCPLS it is `tcpls+http/1.1`.
pub const PROTOCOL: &[u8] = b"http/1.1";
/// The longest head, in bytes.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
/// The most fields in a head.
const MAX_FIELDS: usize = 100;
/// What ends a head.
const END: &[u8] = b"\r\n\r\n";

/// The first line of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartLine {
    /// `METHOD TARGET HTTP/1.MINOR`.
    Request {
        /// The method.
        method: String,
        /// The request target, in any form.
        target: String,
        /// The minor version of HTTP.
        minor: u8,
    },
    /// `HTTP/1.MINOR STATUS REASON`.
    Response {
        /// The status code.
        status: u16,
    },
}

/// The head of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The first line.
    pub start: StartLine,
    /// Names in lower case, and values without surrounding whitespace.
    fields: Vec<(String, String)>,
}

impl Head {
    /// Returns the values of all fields with this name, which is in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |field| field.0 == name).map(|field| field.1.as_str())
    }

    /// Returns the value of the first field with this name, which is in lower case.
    pub fn field<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Returns the status code of a response.
    pub fn status(&self) -> Option<u16> {
        match self.start {
            StartLine::Response { status } => Some(status),
            StartLine::Request { .. } => None,
        }
    }

    /// Parses a head without its final empty line.
    fn parse(bytes: &[u8]) -> Result<Self, BadHead> {
        // Bytes above 127 may be in values only (obs-text, RFC 9110, 5.5), where nothing here reads them.
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let start = parse_start(lines.next().unwrap_or_default())?;
        let mut fields = Vec::new();
        for line in lines {
            if fields.len() == MAX_FIELDS {
                return Err(BadHead::TooLong);
            }
            let (name, value) = line.split_once(':').ok_or(BadHead::Malformed)?;
            let is_value = |c: char| c == '\t' || !c.is_control();
            if !is_token(name) || !value.chars().all(is_value) {
                return Err(BadHead::Malformed); // a folded line, too: it begins with a space
            }
            fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
        Ok(Self { start, fields })
    }
}

fn parse_start(line: &str) -> Result<StartLine, BadHead> {
    let mut parts = line.splitn(3, ' ');
    let [first, second, third] = [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default);
    if let Some(minor) = minor_version(first) {
        let is_status = second.len() == 3 && second.bytes().all(|byte| byte.is_ascii_digit());
        let is_reason = third.chars().all(|c| c == '\t' || !c.is_control());
        let status = second.parse().ok().filter(|status| is_status && is_reason && *status >= 100);
        return match (minor?, status) {
            (_, Some(status)) => Ok(StartLine::Response { status }),
            _ => Err(BadHead::Malformed),
        };
    }
    let is_target = !second.is_empty() && second.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token(first) || !is_target {
        return Err(BadHead::Malformed);
    }
    let minor = minor_version(third).ok_or(BadHead::Malformed)??;
    Ok(StartLine::Request { method: first.to_owned(), target: second.to_owned(), minor })
}

/// The minor version if `text` is a version of HTTP; an error for another major one than 1.
fn minor_version(text: &str) -> Option<Result<u8, BadHead>> {
    let version = text.strip_prefix("HTTP/")?.as_bytes();
    match version {
        [b'1', b'.', minor @ b'0'..=b'9'] => Some(Ok(minor - b'0')),
        [b'0'..=b'9', b'.', b'0'..=b'9'] => Some(Err(BadHead::Version)),
        _ => Some(Err(BadHead::Malformed)),
    }
}

/// Whether `text` is a token (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// Why bytes are not the head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadHead {
    /// It is no HTTP.
    Malformed,
    /// Its version of HTTP is not 1.
    Version,
    /// It has more than 16 KiB or 100 fields.
    TooLong,
}

impl fmt::Display for BadHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed HTTP",
            Self::Version => "a version of HTTP that is not 1",
            Self::TooLong => "a head that is too long",
        })
    }
}

impl error::Error for BadHead {}

/// Collects the bytes of a head; what follows it is content, the next head, or for a tunnel.
#[derive(Debug, Default)]
pub struct HeadReader {
    buffer: BytesMut,
    /// Bytes in which there is no end.
    searched: usize,
}

impl HeadReader {
    /// Adds received bytes; returns the head once it is complete.
    ///
    /// # Errors
    /// See [`BadHead`]. What was received so far is of no use then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Head>, BadHead> {
        self.buffer.extend_from_slice(bytes);
        let from = self.searched.saturating_sub(END.len() - 1);
        let Some(at) = self.buffer[from..].windows(END.len()).position(|window| window == END) else {
            self.searched = self.buffer.len();
            return if self.buffer.len() > MAX_HEAD { Err(BadHead::TooLong) } else { Ok(None) };
        };
        let end = from + at;
        if end + END.len() > MAX_HEAD {
            return Err(BadHead::TooLong);
        }
        let head = Head::parse(&self.buffer[..end])?;
        self.buffer.advance(end + END.len());
        self.searched = 0;
        Ok(Some(head))
    }

    /// Whether there are no bytes of a head.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Returns the bytes that were received after the head.
    pub fn into_rest(self) -> Bytes {
        self.buffer.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<(Head, Bytes)>, BadHead> {
        let mut reader = HeadReader::default();
        Ok(reader.push(bytes)?.map(|head| (head, reader.into_rest())))
    }

    #[test]
    fn a_connect_request_is_read_and_the_rest_is_kept() {
        let bytes = b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nX-A:\t b \r\nx-a: c\r\n\r\nrest";
        let (head, rest) = read(bytes).unwrap().unwrap();
        let start = StartLine::Request { method: "CONNECT".into(), target: "example.com:443".into(), minor: 1 };
        assert_eq!(head.start, start);
        assert_eq!(head.field("host"), Some("example.com:443"));
        assert_eq!(head.all("x-a").collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(&rest[..], b"rest");
        let response = read(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap().unwrap().0;
        assert_eq!(response.start, StartLine::Response { status: 200 });
    }

    #[test]
    fn malformed_heads_are_refused() {
        for text in [
            "\r\n\r\n",
            "GET\r\n\r\n",
            "GET /\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1 \r\n\r\n",
            "G\u{0}T / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nA\r\n\r\n",
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
            "GET / HTTP/1.x\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 no\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\n: a\r\n\r\n",
        ] {
            assert_eq!(read(text.as_bytes()), Err(BadHead::Malformed), "{text:?}");
        }
        assert_eq!(read(b"GET / HTTP/2.0\r\n\r\n"), Err(BadHead::Version));
        assert_eq!(read(&[b'a'; MAX_HEAD + 1]), Err(BadHead::TooLong));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        assert_eq!(read(many.as_bytes()), Err(BadHead::TooLong));
    }

    proptest! {
        #[test]
        fn fragmentation_does_not_change_what_is_read(
            bytes in proptest::collection::vec(prop_oneof![
                8 => any::<u8>(), 3 => Just(b'\r'), 3 => Just(b'\n'), 2 => Just(b':'), 2 => Just(b' ')], 0..200),
            known in any::<bool>(),
        ) {
            let mut all = if known { b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".to_vec() } else { Vec::new() };
            all.extend_from_slice(&bytes);
            let whole = read(&all);
            let mut reader = HeadReader::default();
            let mut fed = 0;
            let outcome = all.iter().find_map(|byte| {
                fed += 1;
                reader.push(&[*byte]).transpose()
            });
            match (whole, outcome) {
                (Ok(Some((head, rest))), Some(Ok(other))) => {
                    prop_assert_eq!(head, other);
                    prop_assert_eq!(&rest[..], &all[fed..]);
                }
                (Err(error), Some(Err(other))) => prop_assert_eq!(error, other),
                (Ok(None), None) => {}
                (whole, other) => prop_assert!(false, "{:?} {:?}", whole, other),
            }
        }
    }
}
