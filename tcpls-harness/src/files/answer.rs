//! Answers: a file is read in pieces, each when there is room to write it, and is open only while it is read.
//!
//! The client decides when there is room. While an answer waits for it, it holds no shared resources: neither an open
//! file nor a buffer of read data.

use std::fs::File;
use std::future::poll_fn;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes, BytesMut};
use httpdate::fmt_http_date;
use tcpls_core::error::{WriteError, code};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::condition::{Selected, Validators, select};
use super::kind::media_type;
use super::request::{self, refusal_of};
use super::root::{Opened, Permits, Unopened, Visitor};
use super::{CHUNK, Refusal, Status};
use crate::http::{Head, HeadReader, MAX_HEAD, StartLine};
use crate::net::descriptors::Attempts;
use crate::net::{RecvStream, SendStream, Stream};

/// The smallest piece that is read, even with less room: a client that grants single bytes must not cause the file to
/// be opened for each.
const MIN_PIECE: usize = 4 * 1024;

/// How a request was answered, for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered {
    /// The method; empty if the request was malformed.
    pub method: String,
    /// The path, percent-decoded; empty if the request was malformed.
    pub path: String,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// The bytes of the file that were delivered. In a session without TCPLS, bytes that the session took count as
    /// delivered.
    pub outcome: Result<u64, Refusal>,
}

/// Answers the requests of a stream: one over TCPLS, any number in a session without it. `report` gets each.
pub async fn answer(stream: Stream, visitor: &Visitor, mut report: impl FnMut(Answered)) {
    let (mut send, mut recv) = stream.split();
    let mut reader = HeadReader::default();
    loop {
        let head = read_head(&mut recv, &mut reader, visitor).await;
        if visitor.is_tcpls() {
            recv.stop(code::NO_ERROR); // further data is not needed, and is dropped
            reader = HeadReader::default(); // what arrived behind the head, and room for another
        } else if reader.is_empty() && matches!(head, Ok(None) | Err(Refusal::RequestTimeout)) {
            _ = send.finish(); // the client has what it wants
            return;
        }
        let head = head.and_then(|head| head.ok_or(Refusal::BadRequest));
        let is_last = visitor.is_tcpls() || head.as_ref().map_or(true, request::is_last);
        let mut answering = Answering { send: &mut send, visitor, is_last, status: None };
        let (mut method, mut path) = (String::new(), String::new());
        let mut outcome = match head {
            Ok(head) => {
                if let StartLine::Request { method: named, .. } = &head.start {
                    method.clone_from(named);
                }
                answering.answer(head, &mut path).await
            }
            Err(refusal) => answering.refuse(refusal, "", true).await,
        };
        let (is_last, status) = (answering.is_last, answering.status);
        let is_broken = outcome.is_err_and(|refusal| status != Some(refusal.status().0));
        if let (Err(refusal), true) = (outcome, is_broken) {
            send.reset(refusal.code());
            recv.stop(refusal.code());
        } else if is_last {
            let finished = finish(&mut send, visitor).await;
            outcome = outcome.and_then(|sent| finished.map(|()| sent));
        }
        report(Answered { method, path, status, outcome });
        if is_last || is_broken {
            return;
        }
    }
}

/// Ends the stream, and waits until the client has all, or leaves.
async fn finish(send: &mut SendStream, visitor: &Visitor) -> Result<(), Refusal> {
    send.finish()?;
    if visitor.is_tcpls() {
        let outcome = delivered(send, visitor).await;
        outcome.inspect_err(|refusal| send.reset(refusal.code()))?;
    }
    Ok(())
}

/// Returns the result of `work`; `None` if it takes longer than the limit.
async fn within<R>(patience: Option<Duration>, work: impl Future<Output = R>) -> Option<R> {
    match patience {
        Some(patience) => timeout(patience, work).await.ok(),
        None => Some(work.await),
    }
}

/// Reads until the end of the head: a client need not end its half of the stream. `None` if it did, before any byte.
async fn read_head(recv: &mut RecvStream, reader: &mut HeadReader, visitor: &Visitor) -> Result<Option<Head>, Refusal> {
    let reading = async {
        let _permit = visitor.head_permit().await;
        let mut read = reader.push(b"").map_err(refusal_of)?; // it may have arrived behind the one before
        while read.is_none() {
            match recv.read_chunk(MAX_HEAD).await {
                Ok(Some(chunk)) => read = reader.push(&chunk).map_err(refusal_of)?,
                Ok(None) if reader.is_empty() => break,
                Ok(None) => return Err(Refusal::BadRequest),
                Err(_) => return Err(Refusal::Gone),
            }
        }
        Ok(read)
    };
    timeout(visitor.request_timeout(), reading).await.unwrap_or(Err(Refusal::RequestTimeout))
}

/// The response to one request.
struct Answering<'a> {
    send: &'a mut SendStream,
    visitor: &'a Visitor,
    /// Whether no other request follows.
    is_last: bool,
    /// Once the head of the response is being written.
    status: Option<u16>,
}

impl Answering<'_> {
    /// Answers what a head requests; `path` gets it as soon as it is known. Returns the bytes of the file that were written.
    ///
    /// The head is dropped before anything is written: what waits for its client is in no account.
    async fn answer(&mut self, head: Head, path: &mut String) -> Result<u64, Refusal> {
        let request = match request::parse(&head) {
            Ok(request) => request,
            Err(refusal) => {
                drop(head);
                return self.refuse(refusal, "", true).await;
            }
        };
        path.clone_from(&request.path);
        self.send.set_label(path);
        let mut source = Source::new(self.visitor, request.path);
        let (validators, len) = match source.begin().await {
            Ok(begun) => begun,
            Err(refusal) => {
                drop(head);
                return self.refuse(refusal, "", request.is_get).await;
            }
        };
        let selected = select(&head, request.is_get, &validators, len);
        drop(head);
        let (status, range) = match selected {
            Selected::All => (Status(200, "OK"), 0..len),
            Selected::Part(range) => (Status(206, "Partial Content"), range),
            Selected::NotModified => (Status(304, "Not Modified"), 0..0),
            Selected::Changed => return self.refuse(Refusal::Changed, "", request.is_get).await,
            Selected::OutOfRange => {
                let whole = format!("Content-Range: bytes */{len}\r\n");
                return self.refuse(Refusal::OutOfRange, &whole, request.is_get).await;
            }
        };
        let mut bytes = self.head(status, &fields(status, &validators, path, &range, len));
        source.select(if request.is_get { range.clone() } else { 0..0 });
        if source.left() <= MIN_PIECE as u64 {
            // One record for both.
            match source.read(MIN_PIECE).await {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(refusal) => return self.refuse(refusal, "", request.is_get).await,
            }
        }
        self.status = Some(status.0);
        self.write(bytes.freeze(), &mut source).await?;
        send_file(self.send, &mut source).await?;
        Ok(source.sent())
    }

    /// Answers with a refusal, and a line of text for people if it may have content.
    async fn refuse(&mut self, refusal: Refusal, fields: &str, has_content: bool) -> Result<u64, Refusal> {
        if refusal == Refusal::Gone {
            return Err(refusal);
        }
        self.is_last |= !refusal.leaves_order();
        let text = format!("{refusal}\n");
        let allow = if refusal == Refusal::Method { "Allow: GET, HEAD\r\n" } else { "" };
        let len = text.len();
        let fields = format!("Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len}\r\n{allow}{fields}");
        let mut bytes = self.head(refusal.status(), &fields);
        if has_content {
            bytes.extend_from_slice(text.as_bytes());
        }
        self.status = Some(refusal.status().0);
        self.write(bytes.freeze(), &mut Source::new(self.visitor, String::new())).await?;
        Err(refusal)
    }

    /// The head of a response.
    fn head(&self, Status(code, reason): Status, fields: &str) -> BytesMut {
        let date = fmt_http_date(SystemTime::now().max(UNIX_EPOCH));
        // Over TCPLS, the end of the stream says that.
        let close = if self.is_last && !self.visitor.is_tcpls() { "Connection: close\r\n" } else { "" };
        BytesMut::from(format!("HTTP/1.1 {code} {reason}\r\nDate: {date}\r\n{fields}{close}\r\n").as_bytes())
    }

    async fn write(&mut self, mut bytes: Bytes, source: &mut Source<'_>) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            patiently(self.send, source, |send, cx| send.poll_write_chunk(cx, &mut bytes)).await?;
        }
        Ok(())
    }
}

/// The fields of a response with a file, or with a part of it.
fn fields(status: Status, validators: &Validators, path: &str, range: &Range<u64>, len: u64) -> String {
    let modified = validators.modified.map(|time| format!("Last-Modified: {}\r\n", fmt_http_date(time)));
    let validators = format!("ETag: {}\r\n{}", validators.etag, modified.unwrap_or_default());
    if status.0 == 304 {
        return validators;
    }
    let part = match status.0 {
        206 => format!("Content-Range: bytes {}-{}/{len}\r\n", range.start, range.end - 1),
        _ => String::new(),
    };
    let path = if path.ends_with('/') { ".html" } else { path };
    let (kind, len) = (media_type(path), range.end - range.start);
    format!("Content-Type: {kind}\r\nContent-Length: {len}\r\nAccept-Ranges: bytes\r\n{part}{validators}")
}

async fn send_file(send: &mut SendStream, source: &mut Source<'_>) -> Result<(), Refusal> {
    while source.left() > 0 {
        let room = patiently(send, source, SendStream::poll_writable).await?;
        let mut piece = source.read(room.clamp(MIN_PIECE, CHUNK)).await?;
        while !piece.is_empty() {
            let written = poll_fn(|cx| Poll::Ready(write_some(send, cx, &mut piece))).await;
            if let Poll::Ready(written) = written {
                written?;
            } else if piece.len() > MIN_PIECE {
                // Another stream took the room. A piece for each stream would be much memory; it is read again.
                source.put_back(piece.len());
                break;
            } else {
                patiently(send, source, |send, cx| send.poll_write_chunk(cx, &mut piece)).await?;
            }
        }
    }
    Ok(())
}

/// Writes as much as there is room for. A part of a piece is copied, because the session would keep the whole piece in
/// memory.
fn write_some(send: &mut SendStream, cx: &mut Context<'_>, piece: &mut Bytes) -> Poll<Result<(), WriteError>> {
    let room = ready!(send.poll_writable(cx))?;
    if room >= piece.len() {
        return send.poll_write_chunk(cx, piece).map_ok(|_| ());
    }
    let mut part = Bytes::copy_from_slice(&piece[..room]);
    ready!(send.poll_write_chunk(cx, &mut part))?;
    piece.advance(room - part.len());
    Poll::Ready(Ok(()))
}

/// Runs an operation that needs room to write. While there is none, the file is not open. If the client reads nothing
/// on any stream for too long, the answer ends.
async fn patiently<R>(
    send: &mut SendStream,
    source: &mut Source<'_>,
    mut operation: impl FnMut(&mut SendStream, &mut Context<'_>) -> Poll<Result<R, WriteError>>,
) -> Result<R, Refusal> {
    if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(operation(send, cx))).await {
        return Ok(result?);
    }
    source.open = None;
    loop {
        let before = source.visitor.delivered();
        match within(source.visitor.patience(), poll_fn(|cx| operation(send, cx))).await {
            Some(result) => return Ok(result?),
            None if source.visitor.delivered() > before => {} // others have their turns
            None => return Err(Refusal::Stalled),
        }
    }
}

/// Waits until the client has all written data, or leaves.
async fn delivered(send: &SendStream, visitor: &Visitor) -> Result<(), Refusal> {
    loop {
        let before = visitor.delivered();
        match within(visitor.patience(), send.delivered()).await {
            Some(result) => return Ok(result?),
            None if visitor.delivered() > before => {} // others have their turns
            None => return Err(Refusal::Stalled),
        }
    }
}

/// A file that is being sent.
struct Source<'a> {
    visitor: &'a Visitor,
    path: String,
    /// What it was when it was opened first.
    first: Option<Opened>,
    /// The bytes to send.
    range: Range<u64>,
    /// Where the next piece is.
    offset: u64,
    open: Option<Open>,
}

/// It is open, and counts as one that is.
struct Open {
    file: File,
    _permits: Permits,
}

impl Read for Open {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(into)
    }
}

impl<'a> Source<'a> {
    fn new(visitor: &'a Visitor, path: String) -> Self {
        Self { visitor, path, first: None, range: 0..0, offset: 0, open: None }
    }

    /// Opens the file; returns its validators and its length.
    async fn begin(&mut self) -> Result<(Validators, u64), Refusal> {
        let (open, validators) = self.open().await?;
        self.open = Some(open);
        let len = self.first.map_or(0, |first| first.len);
        Ok((validators, len))
    }

    /// Sends these bytes.
    fn select(&mut self, range: Range<u64>) {
        self.offset = range.start;
        self.range = range;
        // The file is at its begin.
        self.open.take_if(|open| {
            self.offset == self.range.end || (self.offset > 0 && open.file.seek(SeekFrom::Start(self.offset)).is_err())
        });
    }

    /// Bytes that are still to be read. What happens to the file after that does not matter.
    fn left(&self) -> u64 {
        self.range.end - self.offset
    }

    /// Bytes that were read.
    fn sent(&self) -> u64 {
        self.offset - self.range.start
    }

    /// The next piece, at most `max` bytes; empty at the end.
    async fn read(&mut self, max: usize) -> Result<Bytes, Refusal> {
        let want = self.left().min(max as u64) as usize;
        if want == 0 {
            return Ok(Bytes::new());
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open().await?.0,
        };
        let (open, piece) = match cached(&open.file, want) {
            Some(piece) => (open, piece),
            None => read_piece(open, want).await?,
        };
        // A file that became shorter meanwhile must not look complete.
        if piece.is_empty() {
            return Err(Refusal::ReadFailed);
        }
        self.open = Some(open);
        self.offset += piece.len() as u64;
        Ok(piece)
    }

    /// The last `len` bytes that were read come again with the next piece.
    fn put_back(&mut self, len: usize) {
        self.offset -= len as u64;
        self.open = None;
    }

    /// Opens the file, or opens it again where it was left off, if it is still the same.
    async fn open(&mut self) -> Result<(Open, Validators), Refusal> {
        let mut permits = self.visitor.permits().await?;
        let mut attempts = Attempts::default();
        let (file, id, validators) = loop {
            let (visitor, path, offset) = (self.visitor.clone(), self.path.clone(), self.offset);
            // The permits go along: a file that is still being opened counts, even if the answer is dropped meanwhile.
            let opening = spawn_blocking(move || (open_at(&visitor, &path, offset), permits));
            let (outcome, back) = opening.await.map_err(|_| Refusal::ReadFailed)?;
            permits = back;
            match outcome {
                Ok(opened) => break opened,
                Err(Unopened::NoDescriptor) => {
                    self.visitor.free_descriptor();
                    if !attempts.pause().await {
                        return Err(Refusal::ReadFailed);
                    }
                }
                Err(Unopened::Refused(refusal)) => return Err(refusal),
            }
        };
        let first = *self.first.get_or_insert(id);
        if !id.continues(&first) {
            return Err(Refusal::ReadFailed);
        }
        Ok((Open { file, _permits: permits }, validators))
    }
}

fn open_at(visitor: &Visitor, path: &str, offset: u64) -> Result<(File, Opened, Validators), Unopened> {
    let (mut file, id, validators) = visitor.open(path)?;
    file.seek(SeekFrom::Start(offset)).map_err(|_| Unopened::Refused(Refusal::ReadFailed))?;
    Ok((file, id, validators))
}

/// Sends what `source` holds, piece by piece: each is read when there is room for it. `see` is shown each piece first.
/// Does not finish the stream.
///
/// # Errors
/// [`Refusal::ReadFailed`] or [`Refusal::Gone`].
pub async fn send_all<R>(send: &mut SendStream, mut source: R, mut see: impl FnMut(&[u8])) -> Result<u64, Refusal>
where
    R: Read + Send + 'static,
{
    let mut sent = 0;
    loop {
        let room = send.writable().await?.clamp(MIN_PIECE, CHUNK);
        let (back, piece) = read_piece(source, room).await?;
        if piece.is_empty() {
            return Ok(sent);
        }
        see(&piece);
        sent += piece.len() as u64;
        send.write_chunk(piece).await?;
        source = back;
    }
}

async fn read_piece<R: Read + Send + 'static>(mut source: R, max: usize) -> Result<(R, Bytes), Refusal> {
    let read = spawn_blocking(move || {
        let mut piece = vec![0; max];
        let len = read_full(&mut source, &mut piece)?;
        std::io::Result::Ok((source, shortened(piece, len)))
    });
    read.await.ok().and_then(Result::ok).ok_or(Refusal::ReadFailed)
}

/// The first `len` bytes of `piece`, in as much memory: it counts as long as it is.
fn shortened(mut piece: Vec<u8>, len: usize) -> Bytes {
    piece.truncate(len);
    piece.shrink_to_fit();
    piece.into()
}

/// Fills `piece`, or as much of it as there is. `read_to_end` would begin with small reads.
fn read_full(source: &mut impl Read, piece: &mut [u8]) -> std::io::Result<usize> {
    let mut len = 0;
    while len < piece.len() {
        match source.read(&mut piece[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Reads the next bytes, at most `max`, if the kernel has them in memory; `None` if it may have to wait for a disk, or
/// can't say. To have another thread read a piece costs several system calls and two switches of threads, which limits
/// the rate of a fast path.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn cached(file: &File, max: usize) -> Option<Bytes> {
    use std::io::IoSliceMut;

    use rustix::io::{ReadWriteFlags, preadv2};

    /// Reads where the last read ended, and moves on.
    const HERE: u64 = u64::MAX;

    let mut piece = vec![0; max];
    let read = preadv2(file, &mut [IoSliceMut::new(&mut piece)], HERE, ReadWriteFlags::NOWAIT).ok()?;
    (read > 0).then(|| shortened(piece, read))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn cached(_file: &File, _max: usize) -> Option<Bytes> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_from_memory_and_from_the_disk_follow_one_another() {
        let path = std::env::temp_dir().join(format!("tcpls-answer-{}", std::process::id()));
        let content: Vec<u8> = (0..100_000u32).map(|number| (number / 7) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let mut file = File::open(&path).unwrap();
        let mut read = Vec::new();
        for len in (1..).map(|step| step * 300).take_while(|len| *len < 9000) {
            // What the kernel does not have in memory is read with the next piece.
            read.extend(cached(&file, len).unwrap_or_default());
            let mut piece = vec![0; len];
            let len = read_full(&mut file, &mut piece).unwrap();
            read.extend(&piece[..len]);
        }
        assert!(read == content);
        let short = shortened(vec![7; 100_000], 10).try_into_mut().unwrap();
        assert!(short.len() == 10 && short.capacity() < 100, "{} bytes of memory", short.capacity());
        assert_eq!((cached(&file, 1), read_full(&mut file, &mut [0]).unwrap()), (None, 0), "the end");
        std::fs::remove_file(path).unwrap();
    }
}
