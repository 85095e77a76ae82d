//! The application protocol `hq-interop`: a request is one stream that carries `GET /path\r\n`, the answer is the file's
//! bytes and the end of the stream. What can't be answered is reset with an [error code](codes).
//!
//! Here: requests, answers, and which files may be given away. Who listens and who asks is up to the commands.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::{error, fmt, io};

use bytes::{Bytes, BytesMut};
use tcpls_core::error::{ReadError, WriteError};
use tcpls_core::wire::ids::ErrorCode;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::net::{RecvStream, SendStream, Stream};

/// The protocol's ALPN name; over TCPLS it is `tcpls+hq-interop`.
pub const PROTOCOL: &[u8] = b"hq-interop";
/// The longest request, line end included.
pub const MAX_REQUEST: usize = 4096;
/// Files are read and written in pieces of this size.
pub const CHUNK: usize = 256 * 1024;
/// Files that a server has open at the same time; further requests wait.
const MAX_OPEN_FILES: usize = 512;

/// Error codes that streams are reset with.
pub mod codes {
    use tcpls_core::wire::ids::ErrorCode;

    /// The request is not `GET /path\r\n`, or too long.
    pub const BAD_REQUEST: ErrorCode = ErrorCode(0x100);
    /// The path leads out of the directory that is served.
    pub const FORBIDDEN: ErrorCode = ErrorCode(0x101);
    /// There is no such file.
    pub const NOT_FOUND: ErrorCode = ErrorCode(0x102);
    /// The file could not be read.
    pub const READ_FAILED: ErrorCode = ErrorCode(0x103);
    /// The server stops: the session is closed with this, not a stream.
    pub const STOPPING: ErrorCode = ErrorCode(0x104);
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
    /// The client gave the request up, or the session ended.
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
        }
    }

    /// What a server means that resets with `code`.
    pub fn from_code(code: ErrorCode) -> Option<Self> {
        [Self::BadRequest, Self::Forbidden, Self::NotFound, Self::ReadFailed]
            .into_iter()
            .find(|refusal| refusal.code() == code)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest => "the server does not understand the request",
            Self::Forbidden => "the path leads out of the directory that is served",
            Self::NotFound => "there is no such file",
            Self::ReadFailed => "the server could not read the file",
            Self::Gone => "the client gave up",
        })
    }
}

impl error::Error for Refusal {}

impl From<WriteError> for Refusal {
    fn from(_: WriteError) -> Self {
        Self::Gone
    }
}

/// The path that a request asks for, percent-encoding undone. Never holds a NUL.
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

/// The directory that is served.
#[derive(Clone, Debug)]
pub struct Root {
    directory: PathBuf,
    open_files: Arc<Semaphore>,
}

impl Root {
    /// Serves what is in `directory` and below.
    ///
    /// # Errors
    /// It does not exist or is no directory.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let directory = directory.canonicalize()?;
        if !directory.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { directory, open_files: Arc::new(Semaphore::new(MAX_OPEN_FILES)) })
    }

    /// The same bounds, for another directory.
    ///
    /// # Errors
    /// It does not exist or is no directory.
    pub fn at(&self, directory: &Path) -> io::Result<Self> {
        Ok(Self { open_files: self.open_files.clone(), ..Self::new(directory)? })
    }

    /// The file at `path`, which begins with a slash, and its length. Symbolic links may lead anywhere within the
    /// directory, and nowhere else.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn open(&self, path: &str) -> Result<(File, u64), Refusal> {
        let relative = Path::new(path.trim_start_matches('/'));
        if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(Refusal::Forbidden);
        }
        let found = self.directory.join(relative).canonicalize().map_err(|_| Refusal::NotFound)?;
        if !found.starts_with(&self.directory) {
            return Err(Refusal::Forbidden);
        }
        // Asked before opening: to open a pipe would wait for its other end.
        if !found.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(Refusal::NotFound);
        }
        let file = File::open(&found).map_err(|_| Refusal::ReadFailed)?;
        let len = file.metadata().map_err(|_| Refusal::ReadFailed)?.len();
        Ok((file, len))
    }
}

/// Answers the one request of a stream; the path, as far as it was understood, and how many bytes were sent.
pub async fn answer(stream: Stream, root: &Root) -> (String, Result<u64, Refusal>) {
    let (mut send, mut recv) = stream.split();
    let request = read_request(&mut recv).await.and_then(|line| parse_request(&line));
    let path = request.clone().unwrap_or_default();
    let outcome = match request {
        Ok(path) => send_file(&mut send, root, path).await,
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = outcome {
        send.reset(refusal.code());
        recv.stop(refusal.code());
    }
    (path, outcome)
}

/// Reads until the end of the line: a client need not end its half of the stream.
async fn read_request(recv: &mut RecvStream) -> Result<Bytes, Refusal> {
    let mut line = BytesMut::new();
    while !line.ends_with(b"\r\n") {
        match recv.read_chunk(MAX_REQUEST + 1 - line.len()).await {
            Ok(Some(chunk)) => line.extend_from_slice(&chunk),
            Ok(None) => return Err(Refusal::BadRequest),
            Err(_) => return Err(Refusal::Gone),
        }
        if line.len() > MAX_REQUEST {
            return Err(Refusal::BadRequest);
        }
    }
    Ok(line.freeze())
}

async fn send_file(send: &mut SendStream, root: &Root, path: String) -> Result<u64, Refusal> {
    let _permit = root.open_files.acquire().await.map_err(|_| Refusal::ReadFailed)?;
    let directory = root.clone();
    let (file, len) = spawn_blocking(move || directory.open(&path)).await.map_err(|_| Refusal::ReadFailed)??;
    let sent = send_all(send, file, |_| {}).await?;
    // A file that became shorter meanwhile must not look complete.
    if sent < len {
        return Err(Refusal::ReadFailed);
    }
    send.finish()?;
    Ok(sent)
}

/// Sends what `source` holds, piece by piece: while one is being sent the next is read. `see` is shown each piece first.
/// Does not finish the stream.
///
/// # Errors
/// [`Refusal::ReadFailed`] or [`Refusal::Gone`].
pub async fn send_all<R>(send: &mut SendStream, source: R, mut see: impl FnMut(&[u8])) -> Result<u64, Refusal>
where
    R: Read + Send + 'static,
{
    let mut sent = 0;
    let (mut source, mut chunk) = read_piece(source).await?;
    while !chunk.is_empty() {
        see(&chunk);
        sent += chunk.len() as u64;
        let (next, written) = tokio::join!(read_piece(source), send.write_chunk(chunk));
        written?;
        (source, chunk) = next?;
    }
    Ok(sent)
}

async fn read_piece<R: Read + Send + 'static>(mut source: R) -> Result<(R, Bytes), Refusal> {
    let read = spawn_blocking(move || {
        let mut piece = Vec::with_capacity(CHUNK);
        source.by_ref().take(CHUNK as u64).read_to_end(&mut piece)?;
        io::Result::Ok((source, Bytes::from(piece)))
    });
    read.await.ok().and_then(Result::ok).ok_or(Refusal::ReadFailed)
}

/// Asks for `path` on a new stream, whose answer is to be read from what is returned. The client's half is ended, unless
/// `keep_open`: in a session without TCPLS that end would be the end of the session.
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

/// What the end of an answer means, in words for people.
pub fn explain(error: ReadError) -> String {
    match error {
        ReadError::Reset(code) => match Refusal::from_code(code) {
            Some(refusal) => refusal.to_string(),
            None => format!("the server gave up with error {code}"),
        },
        ReadError::Truncated => "the session ended before the file did: what came is not all".to_owned(),
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

    fn tree(name: &str) -> (PathBuf, Root) {
        let base = std::env::temp_dir().join(format!("tcpls-hq-{}-{name}", std::process::id()));
        std::fs::create_dir_all(base.join("root/sub")).unwrap();
        std::fs::write(base.join("secret"), "secret").unwrap();
        std::fs::write(base.join("root/sub/file"), "inside").unwrap();
        let root = Root::new(&base.join("root")).unwrap();
        (base, root)
    }

    #[test]
    fn files_below_the_root_are_found() {
        let (base, root) = tree("found");
        for path in ["/sub/file", "//sub//file", "/./sub/file"] {
            assert_eq!(root.open(path).unwrap().1, 6, "{path}");
        }
        for path in ["/", "/sub", "/nothing", "/sub/file/x"] {
            assert_eq!(root.open(path).unwrap_err(), Refusal::NotFound, "{path}");
        }
        std::fs::remove_dir_all(base).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn nothing_leads_out_of_the_root() {
        let (base, root) = tree("outside");
        std::os::unix::fs::symlink(base.join("secret"), base.join("root/link")).unwrap();
        std::os::unix::fs::symlink("..", base.join("root/up")).unwrap();
        std::os::unix::fs::symlink("sub/file", base.join("root/inner")).unwrap();
        for path in ["/../secret", "/sub/../../secret", "/link", "/up/secret", "/up", ".."] {
            assert_eq!(root.open(path).unwrap_err(), Refusal::Forbidden, "{path}");
        }
        assert_eq!(root.open("/inner").unwrap().1, 6);
        std::fs::remove_dir_all(base).unwrap();
    }
}
