//! Answers: a file is read in pieces, each when there is room to write it, and is open only while it is read.
//!
//! The client decides when there is room. While an answer waits for it, it holds no shared resources: neither an open
//! file nor a buffer of read data.

use std::fs::File;
use std::future::poll_fn;
use std::io::{Read, Seek, SeekFrom};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tcpls_core::error::{WriteError, code};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::root::{FileId, Permits, Unopened, Visitor};
use super::{CHUNK, MAX_REQUEST, Refusal, parse_request};
use crate::net::descriptors::Attempts;
use crate::net::{RecvStream, SendStream, Stream};

/// The smallest piece that is read, even with less room: a client that grants single bytes must not cause the file to
/// be opened for each.
const MIN_PIECE: usize = 4 * 1024;

/// Answers the request of a stream; returns the path, as far as it was valid, and the number of delivered bytes. In a
/// session without TCPLS, bytes that the socket took count as delivered.
pub async fn answer(stream: Stream, visitor: &Visitor) -> (String, Result<u64, Refusal>) {
    let (mut send, mut recv) = stream.split();
    let request = within(visitor.patience(), read_request(&mut recv)).await;
    let request = request.unwrap_or(Err(Refusal::BadRequest)).and_then(|line| parse_request(&line));
    let path = request.clone().unwrap_or_default();
    let outcome = match request {
        Ok(path) => {
            send.set_label(&path);
            // Further data is not needed, and is dropped.
            recv.stop(code::NO_ERROR);
            match send_file(&mut send, visitor, path).await {
                Ok(sent) => delivered(&send, visitor).await.map(|()| sent),
                Err(refusal) => Err(refusal),
            }
        }
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = outcome {
        send.reset(refusal.code());
        recv.stop(refusal.code());
    }
    (path, outcome)
}

/// Returns the result of `work`; `None` if it takes longer than the limit.
async fn within<R>(patience: Option<Duration>, work: impl Future<Output = R>) -> Option<R> {
    match patience {
        Some(patience) => timeout(patience, work).await.ok(),
        None => Some(work.await),
    }
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

async fn send_file(send: &mut SendStream, visitor: &Visitor, path: String) -> Result<u64, Refusal> {
    let mut source = Source { visitor, path, first: None, offset: 0, open: None };
    while !source.is_complete() {
        let room = patiently(send, &mut source, SendStream::poll_writable).await?;
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
                patiently(send, &mut source, |send, cx| send.poll_write_chunk(cx, &mut piece)).await?;
            }
        }
    }
    send.finish()?;
    Ok(source.offset)
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
    first: Option<FileId>,
    /// Where the next piece is.
    offset: u64,
    open: Option<Open>,
}

/// It is open, and counts as one that is.
struct Open {
    file: File,
    len: u64,
    _permits: Permits,
}

impl Read for Open {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(into)
    }
}

impl Source<'_> {
    /// Whether all of the file as it was first was read. What happens to the file afterwards does not matter.
    fn is_complete(&self) -> bool {
        self.first.is_some_and(|first| self.offset == first.len)
    }

    /// The next piece, at most `max` bytes; empty at the end of the file as it was first.
    async fn read(&mut self, max: usize) -> Result<Bytes, Refusal> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open().await?,
        };
        let want = (open.len - self.offset).min(max as u64) as usize;
        let (open, piece) = match cached(&open.file, want) {
            Some(piece) => (open, piece),
            None if want == 0 => (open, Bytes::new()),
            None => read_piece(open, want).await?,
        };
        // A file that became shorter meanwhile must not look complete.
        if piece.is_empty() && want > 0 {
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
    async fn open(&mut self) -> Result<Open, Refusal> {
        let mut permits = self.visitor.permits().await?;
        let mut attempts = Attempts::default();
        let (file, id) = loop {
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
        Ok(Open { file, len: first.len, _permits: permits })
    }
}

fn open_at(visitor: &Visitor, path: &str, offset: u64) -> Result<(File, FileId), Unopened> {
    let (mut file, id) = visitor.open(path)?;
    file.seek(SeekFrom::Start(offset)).map_err(|_| Unopened::Refused(Refusal::ReadFailed))?;
    Ok((file, id))
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
