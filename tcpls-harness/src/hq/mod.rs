//! The application protocol `hq-interop`: a request is one stream that carries `GET /path\r\n`, the answer is the file's
//! bytes and the end of the stream. What can't be answered is reset with an [error code](codes). A request is for a whole
//! file: the protocol has no ranges, so that a client can't resume a download in another session.
//!
//! This file has the format of requests and answers. `root` decides which files may be served and how many are open,
//! `fair` which client may open the next one, and `answer` sends them. The commands listen and connect.

mod answer;
mod fair;
mod root;

use std::{error, fmt};

use tcpls_core::error::{ReadError, WriteError};
use tcpls_core::wire::ids::ErrorCode;

pub use self::answer::{answer, send_all};
pub use self::root::{Limits, Root, Visitor};
use crate::net::{RecvStream, SendStream, Stream};

/// The protocol's ALPN name; over TCPLS it is `tcpls+hq-interop`.
pub const PROTOCOL: &[u8] = b"hq-interop";
/// The longest request, line end included.
pub const MAX_REQUEST: usize = 4096;
/// Files are read in pieces of at most this size.
pub const CHUNK: usize = 256 * 1024;

/// Error codes that streams are reset with.
pub mod codes {
    use tcpls_core::wire::ids::ErrorCode;

    /// The request is not `GET /path\r\n`, or too long.
    pub const BAD_REQUEST: ErrorCode = ErrorCode(0x100);
    /// The path leads out of the served directory.
    pub const FORBIDDEN: ErrorCode = ErrorCode(0x101);
    /// There is no such file.
    pub const NOT_FOUND: ErrorCode = ErrorCode(0x102);
    /// The file could not be read.
    pub const READ_FAILED: ErrorCode = ErrorCode(0x103);
    /// The server stops: the session is closed with this, not a stream.
    pub const STOPPING: ErrorCode = ErrorCode(0x104);
    /// The client read nothing of the answer for too long.
    pub const STALLED: ErrorCode = ErrorCode(0x105);
}

/// Why a request was not answered in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// See [`codes::BAD_REQUEST`].
    BadRequest,
    /// See [`codes::FORBIDDEN`].
    Forbidden,
    /// See [`codes::NOT_FOUND`].
    NotFound,
    /// See [`codes::READ_FAILED`].
    ReadFailed,
    /// See [`codes::STALLED`].
    Stalled,
    /// The client stopped the request, or the session ended.
    Gone,
}

impl Refusal {
    /// The code that the stream is reset with.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::BadRequest => codes::BAD_REQUEST,
            Self::Forbidden => codes::FORBIDDEN,
            Self::NotFound => codes::NOT_FOUND,
            Self::ReadFailed | Self::Gone => codes::READ_FAILED,
            Self::Stalled => codes::STALLED,
        }
    }

    /// Returns the meaning of a server's reset with `code`.
    pub fn from_code(code: ErrorCode) -> Option<Self> {
        [Self::BadRequest, Self::Forbidden, Self::NotFound, Self::ReadFailed, Self::Stalled]
            .into_iter()
            .find(|refusal| refusal.code() == code)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest => "the server does not understand the request",
            Self::Forbidden => "the path leads out of the served directory",
            Self::NotFound => "there is no such file",
            Self::ReadFailed => "the server could not read the file",
            Self::Stalled => "the client read nothing of the file for too long",
            Self::Gone => "the client stopped the request",
        })
    }
}

impl error::Error for Refusal {}

impl From<WriteError> for Refusal {
    fn from(_: WriteError) -> Self {
        Self::Gone
    }
}

/// Returns the path of a request, percent-decoded. It never contains a NUL.
///
/// # Errors
/// [`Refusal::BadRequest`].
pub fn parse_request(line: &[u8]) -> Result<String, Refusal> {
    let path = line.strip_prefix(b"GET ").and_then(|line| line.strip_suffix(b"\r\n")).ok_or(Refusal::BadRequest)?;
    if path.first() != Some(&b'/') || path.iter().any(|byte| byte.is_ascii_control() || *byte == b' ') {
        return Err(Refusal::BadRequest);
    }
    percent_decode(path).ok_or(Refusal::BadRequest)
}

/// Undoes percent-encoding (RFC 3986, 2.1); `None` if it is broken, or if the result is not UTF-8 or holds a NUL.
pub fn percent_decode(encoded: &[u8]) -> Option<String> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
        decoded.push(match byte {
            b'%' => u8::try_from(digit(rest.next())? << 4 | digit(rest.next())?).ok()?,
            byte => *byte,
        });
    }
    String::from_utf8(decoded).ok().filter(|path| !path.contains('\0'))
}

/// Requests `path` on a new stream, and returns its receiving half for the answer. The client's half is finished,
/// unless `keep_open`: in a session without TCPLS its end would be that of the session.
///
/// # Errors
/// See [`WriteError`].
pub async fn ask(stream: Stream, path: &str, keep_open: bool) -> Result<(Option<SendStream>, RecvStream), WriteError> {
    let (mut send, recv) = stream.split();
    send.write_chunk(format!("GET {path}\r\n").into()).await?;
    if keep_open {
        return Ok((Some(send), recv));
    }
    send.finish()?;
    Ok((None, recv))
}

/// Returns the meaning of the end of an answer, for people.
pub fn explain(error: ReadError) -> String {
    match error {
        ReadError::Reset(code) => match Refusal::from_code(code) {
            Some(refusal) => refusal.to_string(),
            None => format!("the server reset the answer with error {code}"),
        },
        ReadError::Truncated => "the session ended before the file was complete".to_owned(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(request: &str) -> Result<String, Refusal> {
        parse_request(request.as_bytes())
    }

    #[test]
    fn a_request_names_a_path() {
        assert_eq!(path("GET /a/b.txt\r\n"), Ok("/a/b.txt".to_owned()));
        assert_eq!(path("GET /a%20b%C3%A9\r\n"), Ok("/a bé".to_owned()));
    }

    #[test]
    fn anything_else_is_a_bad_request() {
        let bad = [
            "",
            "GET",
            "GET \r\n",
            "GET a\r\n",
            "POST /a\r\n",
            "GET /a\n",
            "GET /a",
            "GET /a b\r\n",
            "GET /\0\r\n",
            "GET /%00\r\n",
            "GET /%f\r\n",
            "GET /%\r\n",
            "GET /%zz\r\n",
            "GET /%ff\r\n",
            "GET /a\r\nGET /b\r\n",
        ];
        for request in bad {
            assert_eq!(path(request), Err(Refusal::BadRequest), "{request:?}");
        }
    }
}
