//! The client: requests a file, or the rest of one that it has a part of.

use std::{error, fmt};

use bytes::Bytes;
use tcpls_core::error::ReadError;

use super::chunked::{BadChunk, Chunked};
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
    let chunked = is_chunked(&head)?.then(Chunked::default);
    let described = describe(&head, have);
    // The part of a file is as long as its range, however its end is marked.
    let part = described.as_ref().ok().and_then(|described| Some(described.total? - described.start));
    let left = content_length(&head)?.or(part);
    let mut content = Content { send, recv, early: reader.into_rest(), described: Described::default(), chunked, left };
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Described {
    /// The strong entity tag of the file.
    pub etag: Option<String>,
    /// Where in the file the content begins.
    pub start: u64,
    /// The length of the file, where the content ends.
    pub total: Option<u64>,
}

/// Reads what the head of a response to a request for what is missing behind `have` says of its content.
///
/// # Errors
/// See [`FetchError`].
pub fn describe(head: &Head, have: Option<&Have>) -> Result<Described, FetchError> {
    let status = head.status().ok_or(FetchError::Malformed)?;
    let etag = head.field("etag").filter(|etag| etag.starts_with('"')).map(str::to_owned);
    let len = content_length(head)?;
    // What is encoded is not the file, and this client has asked for nothing else.
    let is_coded = head.all("content-encoding").any(|coding| !coding.eq_ignore_ascii_case("identity"));
    if (200..300).contains(&status) && is_coded {
        return Err(FetchError::Coded);
    }
    match (status, have) {
        (200, _) => Ok(Described { etag, start: 0, total: len }),
        (206, Some(have)) => {
            let (start, end, total) = head.field("content-range").and_then(range).ok_or(FetchError::Malformed)?;
            let is_rest =
                start == have.len && total.is_none_or(|total| end == total) && etag.as_ref() == Some(&have.etag);
            let is_consistent = end > start && len.is_none_or(|len| len == end - start);
            if !is_rest || !is_consistent {
                return Err(FetchError::Malformed);
            }
            Ok(Described { etag, start, total: Some(end) })
        }
        (416, Some(_)) => Err(FetchError::NoRest),
        _ => Err(FetchError::Refused(status, String::new())),
    }
}

/// Whether the content is sent in chunks, the only transfer coding that this client understands.
fn is_chunked(head: &Head) -> Result<bool, FetchError> {
    let mut codings = head.all("transfer-encoding");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        // With both, a proxy on the way could see another end than this client.
        (Some(_), _) if head.field("content-length").is_some() => Err(FetchError::Malformed),
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(true),
        _ => Err(FetchError::Coded),
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
    chunked: Option<Chunked>,
    /// Bytes that are still to come; `None`: up to the last chunk, or to the end of the stream.
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
        let piece = match &mut self.chunked {
            Some(_) => self.next_in_chunks().await?,
            None => self.next_in_stream().await?,
        };
        match (&piece, &mut self.left) {
            (Some(piece), Some(left)) => {
                *left = left.checked_sub(piece.len() as u64).ok_or(FetchError::Malformed)?;
            }
            (None, Some(1..)) => return Err(FetchError::Cut),
            // The end of the request: a stream that is dropped without it is an error to a plain server.
            (None, _) => _ = self.send.finish(),
            (Some(_), None) => {}
        }
        Ok(piece)
    }

    async fn next_in_stream(&mut self) -> Result<Option<Bytes>, FetchError> {
        let max = self.left.map_or(CHUNK, |left| usize::try_from(left).unwrap_or(CHUNK).min(CHUNK));
        match self.early.len().min(max) {
            0 if max == 0 => Ok(None),
            0 => Ok(self.recv.read_chunk(max).await?),
            len => Ok(Some(self.early.split_to(len))),
        }
    }

    async fn next_in_chunks(&mut self) -> Result<Option<Bytes>, FetchError> {
        let Some(chunked) = &mut self.chunked else { return Ok(None) };
        loop {
            if let Some(piece) = chunked.next(&mut self.early)? {
                return Ok(Some(piece));
            }
            if chunked.is_done() {
                return Ok(None);
            }
            self.early = self.recv.read_chunk(CHUNK).await?.ok_or(FetchError::Cut)?;
        }
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

impl From<BadChunk> for FetchError {
    fn from(_: BadChunk) -> Self {
        Self::Malformed
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
        describe(&head, Some(&have)).map(|described| (described.start, described.total))
    }

    #[test]
    fn rest_must_be_that_of_the_part() {
        let tag = "\r\nETag: \"a\"";
        assert_eq!(described(&format!("206 x\r\nContent-Range: bytes 10-19/20{tag}")), Ok((10, Some(20))));
        assert_eq!(
            described(&format!("206 x\r\nContent-Range: bytes 10-19/*\r\nContent-Length: 10{tag}")),
            Ok((10, Some(20)))
        );
        for range in [
            "bytes 9-19/20",
            "bytes 10-18/20",
            "bytes 10-/20",
            "bytes */20",
            "lines 10-19/20",
            "bytes 10-9/10",
            "bytes 10-8/9",
            "",
        ] {
            // With a length, that alone could be the fault.
            for length in ["", "\r\nContent-Length: 10"] {
                let head = format!("206 x\r\nContent-Range: {range}{length}{tag}");
                assert_eq!(described(&head), Err(FetchError::Malformed), "{head}");
            }
        }
        let shorter = format!("206 x\r\nContent-Range: bytes 10-19/20\r\nContent-Length: 9{tag}");
        assert_eq!(described(&shorter), Err(FetchError::Malformed));
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
        let coding = |fields: &str| {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            is_chunked(&HeadReader::default().push(text.as_bytes()).unwrap().unwrap())
        };
        assert_eq!((coding("A: b"), coding("Transfer-Encoding: Chunked")), (Ok(false), Ok(true)));
        assert_eq!(coding("Transfer-Encoding: gzip, chunked"), Err(FetchError::Coded));
        assert_eq!(coding("Transfer-Encoding: chunked\r\nContent-Length: 1"), Err(FetchError::Malformed));
        assert_eq!(described("200 OK\r\nContent-Encoding: gzip"), Err(FetchError::Coded));
    }
}
