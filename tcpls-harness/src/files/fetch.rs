//! The client: requests a file, or the rest of one that it has a part of.

use std::{error, fmt};

use bytes::Bytes;
use tcpls_core::error::ReadError;

use super::{CHUNK, Refusal};
use crate::http::{Head, HeadReader, MAX_HEAD};
use crate::net::{RecvStream, SendStream, Stream};

/// The longest text of a refusal that is read, in bytes.
const MAX_TEXT: usize = 512;

/// The begin of a file that the client has already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Have {
    /// Its bytes, at least one.
    pub len: u64,
    /// The strong entity tag of the file that it is from.
    pub etag: String,
}

/// Requests the file at `path`, or what is missing behind `have`. The stream carries no other request.
///
/// # Errors
/// See [`FetchError`].
pub async fn fetch(stream: Stream, host: &str, path: &str, have: Option<&Have>) -> Result<Content, FetchError> {
    let (mut send, mut recv) = stream.split();
    let rest = have.map(|have| format!("Range: bytes={}-\r\nIf-Range: {}\r\n", have.len, have.etag));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tcpls\r\nAccept-Encoding: identity\r\nConnection: close\r\n{}\r\n",
        rest.unwrap_or_default()
    );
    send.write_chunk(request.into()).await.map_err(|_| FetchError::Cut)?;
    let mut reader = HeadReader::default();
    let head = loop {
        let chunk = recv.read_chunk(MAX_HEAD).await?.ok_or(FetchError::Cut)?;
        let mut head = reader.push(&chunk).map_err(|_| FetchError::Malformed)?;
        // An interim response precedes the final one.
        while head.as_ref().and_then(Head::status).is_some_and(|status| status < 200) {
            head = reader.push(b"").map_err(|_| FetchError::Malformed)?;
        }
        if let Some(head) = head {
            break head;
        }
    };
    let is_text = head.field("content-type").is_some_and(|kind| kind.starts_with("text/plain"));
    let described = Described::read(&head, have);
    let left = content_length(&head)?;
    let mut content = Content { send, recv, early: reader.into_rest(), described: Described::default(), left };
    match described {
        Ok(described) => content.described = described,
        Err(FetchError::Refused(status, _)) if is_text => {
            return Err(FetchError::Refused(status, content.text().await));
        }
        Err(error) => return Err(error),
    }
    Ok(content)
}

/// What the head of a response says of its content.
#[derive(Debug, Default)]
struct Described {
    etag: Option<String>,
    start: u64,
    total: Option<u64>,
}

impl Described {
    fn read(head: &Head, have: Option<&Have>) -> Result<Self, FetchError> {
        let status = head.status().ok_or(FetchError::Malformed)?;
        let etag = head.field("etag").filter(|etag| etag.starts_with('"')).map(str::to_owned);
        let len = content_length(head)?;
        // What is encoded is not the file, and this client has asked for nothing else.
        let is_coded = |name| head.all(name).any(|coding| !coding.eq_ignore_ascii_case("identity"));
        if (200..300).contains(&status) && (is_coded("content-encoding") || is_coded("transfer-encoding")) {
            return Err(FetchError::Coded);
        }
        match (status, have) {
            (200, _) => Ok(Self { etag, start: 0, total: len }),
            (206, Some(have)) => {
                let (start, end, total) = head.field("content-range").and_then(range).ok_or(FetchError::Malformed)?;
                let is_rest =
                    start == have.len && total.is_none_or(|total| end == total) && etag.as_ref() == Some(&have.etag);
                let is_consistent = len.is_none_or(|len| Some(len) == end.checked_sub(start));
                if !is_rest || !is_consistent {
                    return Err(FetchError::Malformed);
                }
                Ok(Self { etag, start, total: Some(end) })
            }
            (416, Some(_)) => Err(FetchError::NoRest),
            _ => Err(FetchError::Refused(status, String::new())),
        }
    }
}

/// The value of Content-Length, of which there is at most one.
fn content_length(head: &Head) -> Result<Option<u64>, FetchError> {
    let mut values = head.all("content-length");
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => digits(value).map(Some).ok_or(FetchError::Malformed),
        _ => Err(FetchError::Malformed),
    }
}

/// The begin and end of `bytes FIRST-LAST/TOTAL`, and the total, which may be unknown.
fn range(field: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = field.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(digits(total)?) };
    Some((digits(first)?, digits(last)?.checked_add(1)?, total))
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The content of a response: a file, or the rest of one.
#[derive(Debug)]
pub struct Content {
    send: SendStream,
    recv: RecvStream,
    /// What arrived with the head.
    early: Bytes,
    described: Described,
    /// Bytes that are still to come; `None`: up to the end of the stream.
    left: Option<u64>,
}

impl Content {
    /// The strong entity tag of the file, if the server gave it one.
    pub fn etag(&self) -> Option<&str> {
        self.described.etag.as_deref()
    }

    /// Where in the file the content begins: 0, or behind what the client has.
    pub fn start(&self) -> u64 {
        self.described.start
    }

    /// The length of the file, if the server says it.
    pub fn total(&self) -> Option<u64> {
        self.described.total
    }

    /// Waits for the next bytes; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let max = self.left.map_or(CHUNK, |left| usize::try_from(left).unwrap_or(CHUNK).min(CHUNK));
        if max == 0 {
            // The end of the request: a stream that is dropped without it is an error to a plain server.
            _ = self.send.finish();
            return Ok(None);
        }
        let piece = match self.early.len().min(max) {
            0 => self.recv.read_chunk(max).await?,
            len => Some(self.early.split_to(len)),
        };
        match (&piece, &mut self.left) {
            (Some(piece), Some(left)) => *left -= piece.len() as u64,
            (None, Some(_)) => return Err(FetchError::Cut),
            (None, None) => _ = self.send.finish(),
            (Some(_), None) => {}
        }
        Ok(piece)
    }

    /// The first line of a refusal's text.
    async fn text(&mut self) -> String {
        let mut text = Vec::new();
        while let (true, Ok(Some(piece))) = (text.len() < MAX_TEXT, self.next().await) {
            text.extend_from_slice(&piece[..piece.len().min(MAX_TEXT)]);
        }
        String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
    }
}

/// Why a file was not received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchError {
    /// The server refused the request with this status, and this text for people, which may be empty.
    Refused(u16, String),
    /// The server can't send the rest of the file: what the client has is not from it.
    NoRest,
    /// The server reset the response.
    Reset(ReadError),
    /// The response is malformed, or not one to the request.
    Malformed,
    /// The content is encoded.
    Coded,
    /// The response, or the session, ended before the content was complete.
    Cut,
}

impl FetchError {
    /// Whether the server gave up because the client read nothing for too long.
    pub fn is_stalled(&self) -> bool {
        matches!(self, Self::Reset(ReadError::Reset(code)) if Refusal::from_code(*code) == Some(Refusal::Stalled))
    }

    /// Whether the session may be the cause, so that another one may deliver the file.
    pub fn is_of_session(&self) -> bool {
        matches!(self, Self::Cut | Self::Reset(_))
    }
}

impl From<ReadError> for FetchError {
    fn from(error: ReadError) -> Self {
        if error == ReadError::Truncated { Self::Cut } else { Self::Reset(error) }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status, text) if text.is_empty() => write!(f, "the server answered with status {status}"),
            Self::Refused(status, text) => write!(f, "{text} (status {status})"),
            Self::NoRest => f.write_str("the server has no rest of the file: it has changed"),
            Self::Reset(ReadError::Reset(code)) => match Refusal::from_code(*code) {
                Some(refusal) => refusal.fmt(f),
                None => write!(f, "the server reset the response with error {code}"),
            },
            Self::Reset(error) => error.fmt(f),
            Self::Malformed => f.write_str("the server's response is not one to the request, or not HTTP/1.1"),
            Self::Coded => {
                f.write_str("the server sends the file with a content or transfer coding, which was not requested")
            }
            Self::Cut => f.write_str("the session ended before the file was complete"),
        }
    }
}

impl error::Error for FetchError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(head: &str) -> Result<(u64, Option<u64>), FetchError> {
        let head = HeadReader::default().push(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes()).unwrap().unwrap();
        let have = Have { len: 10, etag: "\"a\"".to_owned() };
        Described::read(&head, Some(&have)).map(|described| (described.start, described.total))
    }

    #[test]
    fn rest_must_be_that_of_the_part() {
        let tag = "\r\nETag: \"a\"";
        assert_eq!(described(&format!("206 x\r\nContent-Range: bytes 10-19/20{tag}")), Ok((10, Some(20))));
        assert_eq!(
            described(&format!("206 x\r\nContent-Range: bytes 10-19/*\r\nContent-Length: 10{tag}")),
            Ok((10, Some(20)))
        );
        for range in
            ["bytes 9-19/20", "bytes 10-18/20", "bytes 10-/20", "bytes */20", "lines 10-19/20", "bytes 10-9/10", ""]
        {
            let head = format!("206 x\r\nContent-Range: {range}\r\nContent-Length: 10{tag}");
            assert_eq!(described(&head), Err(FetchError::Malformed), "{range}");
        }
        for tag in ["", "\r\nETag: \"b\"", "\r\nETag: W/\"a\""] {
            assert_eq!(described(&format!("206 x\r\nContent-Range: bytes 10-19/20{tag}")), Err(FetchError::Malformed));
        }
        assert_eq!(described("200 OK\r\nContent-Length: 7"), Ok((0, Some(7))));
        assert_eq!(described("200 OK"), Ok((0, None)));
        assert_eq!(described("416 x"), Err(FetchError::NoRest));
        assert_eq!(described("404 x"), Err(FetchError::Refused(404, String::new())));
    }

    #[test]
    fn lengths_and_codings_that_are_not_understood_are_errors() {
        for length in ["-1", "+1", "1,1", "0x1", "99999999999999999999999"] {
            assert_eq!(
                described(&format!("200 OK\r\nContent-Length: {length}")),
                Err(FetchError::Malformed),
                "{length}"
            );
        }
        assert_eq!(described("200 OK\r\nContent-Length: 1\r\nContent-Length: 2"), Err(FetchError::Malformed));
        assert_eq!(described("200 OK\r\nTransfer-Encoding: chunked"), Err(FetchError::Coded));
        assert_eq!(described("200 OK\r\nContent-Encoding: gzip"), Err(FetchError::Coded));
    }
}
