//! Files over HTTP/1.1: the server of `serve` and the requests of `get`. Over TCPLS, each stream carries one request; over
//! plain TLS, one request follows the other, so that curl and browsers can fetch files, too.
//!
//! | file | subject |
//! | --- | --- |
//! | `mod` | why requests are refused, in the words of HTTP |
//! | `request` | what a request is for, sans-IO |
//! | `condition` | its conditions, and the part of a file that it selects, sans-IO |
//! | `kind` | media types |
//! | `answer` | answers requests: files are read in pieces |
//! | `root`, `fair` | which files may be served, how many are open, and which client may open the next one |
//! | `fetch` | the client: requests a file, or the rest of one |
//! | `chunked` | the chunked transfer coding, which other servers send, sans-IO |

mod answer;
mod chunked;
mod condition;
mod fair;
mod fetch;
mod kind;
mod request;
mod root;

use std::{error, fmt};

use tcpls_core::error::WriteError;
use tcpls_core::wire::ids::ErrorCode;

pub use self::answer::{Answered, answer, send_all};
pub use self::chunked::{BadChunk, Chunked};
pub use self::condition::{Selected, Validators, select};
pub use self::fetch::{Content, Described, FetchError, Have, describe, fetch};
#[cfg(feature = "cli")]
pub(crate) use self::request::percent_decode;
pub use self::request::{Request, parse};
pub use self::root::{Limits, Root, Visitor};
pub use crate::http::PROTOCOL;

/// Files are read in pieces of at most this size.
pub const CHUNK: usize = 256 * 1024;

/// Error codes that streams are reset with once a response has begun; before, a refusal is a response.
pub mod codes {
    use tcpls_core::wire::ids::ErrorCode;

    /// The file could not be read to its end, or was replaced.
    pub const READ_FAILED: ErrorCode = ErrorCode(0x103);
    /// The server stops: the session is closed with this, not a stream.
    pub const STOPPING: ErrorCode = ErrorCode(0x104);
    /// The client read nothing of the response for too long.
    pub const STALLED: ErrorCode = ErrorCode(0x105);
}

/// Why a request was not answered with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The request is malformed, or has content.
    BadRequest,
    /// Its head is too long.
    HeadTooLarge,
    /// It did not arrive in time.
    RequestTimeout,
    /// Its version of HTTP is not 1.
    Version,
    /// Its method is neither GET nor HEAD.
    Method,
    /// The path leads out of the served directory.
    Forbidden,
    /// There is no such file.
    NotFound,
    /// The file is not in the state that the request expects.
    Changed,
    /// The file has no such bytes.
    OutOfRange,
    /// The file could not be read. After the response has begun: see [`codes::READ_FAILED`].
    ReadFailed,
    /// See [`codes::STALLED`].
    Stalled,
    /// The client stopped the request, or the session ended.
    Gone,
}

impl Refusal {
    /// The status of a response, if it can still be one.
    fn status(self) -> Status {
        match self {
            Self::BadRequest => Status(400, "Bad Request"),
            Self::Forbidden => Status(403, "Forbidden"),
            Self::NotFound => Status(404, "Not Found"),
            Self::Method => Status(405, "Method Not Allowed"),
            Self::RequestTimeout => Status(408, "Request Timeout"),
            Self::Changed => Status(412, "Precondition Failed"),
            Self::OutOfRange => Status(416, "Range Not Satisfiable"),
            Self::HeadTooLarge => Status(431, "Request Header Fields Too Large"),
            Self::ReadFailed | Self::Stalled | Self::Gone => Status(500, "Internal Server Error"),
            Self::Version => Status(505, "HTTP Version Not Supported"),
        }
    }

    /// Whether the bytes behind the request can be told from it, so that another request may follow.
    fn leaves_order(self) -> bool {
        !matches!(self, Self::BadRequest | Self::HeadTooLarge | Self::RequestTimeout | Self::Version | Self::Gone)
    }

    /// The code that the stream is reset with.
    fn code(self) -> ErrorCode {
        if self == Self::Stalled { codes::STALLED } else { codes::READ_FAILED }
    }

    /// The meaning of a server's reset with `code`.
    fn from_code(code: ErrorCode) -> Option<Self> {
        [Self::ReadFailed, Self::Stalled].into_iter().find(|refusal| refusal.code() == code)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest => "the server does not understand the request",
            Self::HeadTooLarge => "the head of the request is too long",
            Self::RequestTimeout => "the request did not arrive in time",
            Self::Version => "the server speaks HTTP/1.1 only",
            Self::Method => "the server answers GET and HEAD only",
            Self::Forbidden => "the path leads out of the served directory",
            Self::NotFound => "there is no such file",
            Self::Changed => "the file is not in the state that the request expects",
            Self::OutOfRange => "the file has no such bytes",
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

/// A status code and its reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status(u16, &'static str);
