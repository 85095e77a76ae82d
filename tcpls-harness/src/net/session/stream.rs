//! Streams, as tokio's `AsyncRead` and `AsyncWrite` or chunk by chunk without copying.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tcpls_core::connection::{SendProgress, StreamClass};
use tcpls_core::error::{ReadError, TcpError, WriteError, code};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, StreamId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handle::Handle;
use super::shared::State;
use super::waiters::Wait;
use super::{Session, coop};

/// A bidirectional stream; dropped before [`Stream::finish`] or `shutdown`, it is reset and **loses data**.
///
/// Unlike tokio's `TcpStream`, it then drops written data that is not delivered: the peer gets a reset, so that it
/// cannot take the data for complete. After `finish` all data is delivered in the background. See [`SendStream`] and
/// [`RecvStream`], its halves.
///
/// Reads, writes, and opening and accepting streams take part in tokio's cooperative scheduling, so that they do not
/// starve timers and other tasks.
#[derive(Debug)]
pub struct Stream {
    send: SendStream,
    recv: RecvStream,
}

impl Stream {
    pub(crate) fn new(handle: Handle, id: StreamId) -> Self {
        let send = SendStream { handle: handle.clone(), id, over: false, finished: false };
        Self { send, recv: RecvStream { handle, id, ended: false, stopped: false } }
    }

    /// The stream's ID.
    pub fn id(&self) -> StreamId {
        self.send.id
    }

    /// Returns a handle of the stream's session.
    pub fn session(&self) -> Session {
        Session::new(self.send.handle.clone())
    }

    /// Names the stream in reports of a [`Monitor`](super::Monitor), by its target for example. At most 256 bytes are kept.
    pub fn set_label(&self, label: &str) {
        self.send.set_label(label);
    }

    /// See [`RecvStream::is_early`].
    pub fn is_early(&self) -> bool {
        self.recv.is_early()
    }

    /// Splits the stream into its halves, for two tasks.
    pub fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }

    /// Returns the writing half.
    pub fn send(&mut self) -> &mut SendStream {
        &mut self.send
    }

    /// Returns the reading half.
    pub fn recv(&mut self) -> &mut RecvStream {
        &mut self.recv
    }

    /// See [`SendStream::write_chunk`]: not cancel safe.
    ///
    /// # Errors
    /// As there.
    pub async fn write_chunk(&mut self, data: Bytes) -> Result<(), WriteError> {
        self.send.write_chunk(data).await
    }

    /// See [`SendStream::finish`].
    ///
    /// # Errors
    /// As there.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.send.finish()
    }

    /// See [`SendStream::reset`].
    pub fn reset(&mut self, error: ErrorCode) {
        self.send.reset(error);
    }

    /// See [`RecvStream::read_chunk`]: cancel safe.
    ///
    /// # Errors
    /// As there.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        self.recv.read_chunk(max).await
    }

    /// See [`RecvStream::stop`].
    pub fn stop(&mut self, error: ErrorCode) {
        self.recv.stop(error);
    }
}

/// The writing half of a stream; dropped before [`SendStream::finish`] or `shutdown`, it resets it and **loses data**.
///
/// The reset has error 0. After `finish` what was written is delivered in the background, also if the session is dropped;
/// [`SendStream::delivered`] waits for that.
pub struct SendStream {
    handle: Handle,
    id: StreamId,
    /// Whether it was finished, reset, or stopped by the peer: dropping it does nothing.
    over: bool,
    /// Whether its end was written, and it was not reset since.
    finished: bool,
}

impl SendStream {
    /// The stream's ID.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Names the stream; see [`Stream::set_label`].
    pub fn set_label(&self, label: &str) {
        self.handle.with(|state| {
            state.notes.get_or_insert_default().labels.set(&state.conn, self.id, label);
        });
    }

    /// Writes all of `data` without copying it; waits for room as long as necessary.
    ///
    /// Not cancel safe: any part of `data` may have been written. [`SendStream::poll_write_chunk`] takes what it wrote off
    /// the front of `data`, so that a caller can go on.
    ///
    /// If `data` has an owner of yours ([`Bytes::from_owner`]), its destructor must not call the session: it may run with
    /// the session's lock ([`net`](crate::net)).
    ///
    /// # Errors
    /// See [`WriteError`]; never [`WriteError::Blocked`].
    pub async fn write_chunk(&mut self, mut data: Bytes) -> Result<(), WriteError> {
        while !data.is_empty() {
            poll_fn(|cx| self.poll_write_chunk(cx, &mut data)).await?;
        }
        Ok(())
    }

    /// Takes as much off the front of `data` as there is room for, without copying, and returns the number of bytes.
    ///
    /// # Errors
    /// See [`WriteError`]; never [`WriteError::Blocked`].
    pub fn poll_write_chunk(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, WriteError>> {
        self.poll_send(cx, |stream| stream.write_chunk(data))
    }

    /// Waits until there is room to write, and returns the number of bytes, at least one. An application that reads its
    /// data from a file or socket should call this first, and read at most that much.
    ///
    /// Cancel safe: nothing is written.
    ///
    /// # Errors
    /// See [`WriteError`]; never [`WriteError::Blocked`].
    pub async fn writable(&mut self) -> Result<usize, WriteError> {
        poll_fn(|cx| self.poll_writable(cx)).await
    }

    /// See [`SendStream::writable`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, WriteError>> {
        self.poll_send(cx, |stream| stream.writable())
    }

    /// Ends writing: the peer gets the end of the stream after all written data. It is no error if the peer has stopped
    /// reading with code 0.
    ///
    /// # Errors
    /// See [`WriteError`]; never [`WriteError::Blocked`].
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.over = true;
        let outcome = match self.handle.with(|state| state.conn.stream(self.id).finish()) {
            Err(WriteError::Stopped(code::NO_ERROR)) => Ok(()),
            outcome => outcome,
        };
        self.finished |= outcome.is_ok();
        outcome
    }

    /// Waits until the peer has acknowledged everything that was written, and the end: call [`SendStream::finish`] before. On
    /// a session without TCPLS, until the socket has taken it.
    ///
    /// Cancel safe; several tasks may wait.
    ///
    /// # Errors
    /// [`WriteError::Stopped`] if the peer stopped reading first, [`WriteError::Finished`] if the stream was reset by this endpoint,
    /// [`WriteError::Closed`] if the session ended first.
    pub async fn delivered(&self) -> Result<(), WriteError> {
        self.ended(|progress| match progress {
            SendProgress::UnderWay => None,
            SendProgress::Over if self.finished => Some(Ok(())),
            SendProgress::Over => Some(Err(WriteError::Finished)),
            SendProgress::Stopped(error) => Some(Err(WriteError::Stopped(error))),
            SendProgress::Lost => Some(Err(WriteError::Closed)),
            _ => Some(Err(WriteError::Unknown)),
        })
        .await
        .unwrap_or(Err(WriteError::Closed))
    }

    /// Waits until the peer stops reading this stream, and returns its code. `None` once that cannot happen any more,
    /// because everything was delivered, the stream was reset, or the session ended.
    ///
    /// Cancel safe; several tasks may wait.
    pub async fn stopped(&self) -> Option<ErrorCode> {
        self.ended(|progress| match progress {
            SendProgress::UnderWay => None,
            SendProgress::Stopped(error) => Some(Some(error)),
            _ => Some(None),
        })
        .await
        .flatten()
    }

    /// Waits until `judge` returns a value, or the session ends.
    async fn ended<R>(&self, judge: impl Fn(SendProgress) -> Option<R>) -> Option<R> {
        let poll = |state: &mut State| match judge(state.conn.stream(self.id).sending()) {
            Some(result) => Poll::Ready(Some(result)),
            None if state.is_closed() => Poll::Ready(None),
            None => Poll::Pending,
        };
        poll_fn(|cx| self.handle.poll(Wait::End(self.id), cx, poll)).await
    }

    /// Resets the stream: drops written data that is not delivered. The peer gets `error`. No effect on an ended
    /// stream.
    pub fn reset(&mut self, error: ErrorCode) {
        self.over = true;
        let reset = self.handle.with(|state| state.conn.stream(self.id).reset(error));
        self.finished &= reset.is_err();
    }

    /// Sets the priority, initially 0. Streams with a higher priority are sent first; equal ones take turns.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn set_priority(&mut self, priority: i8) -> Result<(), WriteError> {
        self.handle.with(|state| state.conn.stream(self.id).set_priority(priority))
    }

    /// Sets whether this stream is interactive, which keeps it off TCP connections with bulk data: see
    /// [`Config::lanes`](tcpls_core::Config::lanes). Initially its priority decides.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn set_class(&mut self, class: StreamClass) -> Result<(), WriteError> {
        self.handle.with(|state| state.conn.stream(self.id).set_class(class))
    }

    /// Attaches this stream to TCP connection `tcp`. A stream that is attached to none may use all.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn attach(&mut self, tcp: ConnectionId) -> Result<(), TcpError> {
        self.handle.with(|state| state.conn.stream(self.id).attach(tcp))
    }

    /// Detaches this stream from `tcp`.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn detach(&mut self, tcp: ConnectionId) -> Result<(), TcpError> {
        self.handle.with(|state| state.conn.stream(self.id).detach(tcp))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut tcpls_core::connection::Stream<'_>) -> Result<usize, WriteError>,
    ) -> Poll<Result<usize, WriteError>> {
        coop::poll(cx, |cx| {
            self.handle.poll(Wait::Writable(self.id), cx, |state| match write(&mut state.conn.stream(self.id)) {
                Err(WriteError::Blocked) if state.is_closed() => Poll::Ready(Err(WriteError::Closed)),
                Err(WriteError::Blocked) => Poll::Pending,
                result => Poll::Ready(result),
            })
        })
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, |stream| stream.write(data)).map_err(write_error)
    }

    /// Returns at once: written data is sent as soon as a TCP connection takes it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Finishes the stream; further calls have no effect.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        match self.get_mut().finish() {
            Ok(()) | Err(WriteError::Finished) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(write_error(error))),
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.handle.with(|state| {
            state.waiters.forget_writer(self.id);
            if !self.over {
                _ = state.conn.stream(self.id).reset(code::NO_ERROR);
            }
        });
    }
}

/// The reading half of a stream; dropped before its end was read, it asks the peer to send no more, with error 0.
///
/// Received data that was not read is lost.
pub struct RecvStream {
    handle: Handle,
    id: StreamId,
    /// Whether the end was read.
    ended: bool,
    /// Whether it was stopped before that.
    stopped: bool,
}

impl RecvStream {
    /// The stream's ID.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Whether data of the peer came as early data, which an attacker may have copied from another session. Until
    /// [`Session::handshake_confirmed`](super::Session::handshake_confirmed) returns, that holds for everything that a
    /// server reads. False once both directions have ended, so ask before the answer is finished.
    ///
    /// Only a server that has set [`ServerOptions::early_data`](crate::net::ServerOptions::early_data) gets streams before
    /// that.
    pub fn is_early(&self) -> bool {
        self.handle.with(|state| state.conn.stream(self.id).is_early())
    }

    /// Waits for the next bytes in order, at most `max`; `None` is the end. The bytes share the buffer that they
    /// arrived in.
    ///
    /// Cancel safe: no bytes are lost.
    ///
    /// # Errors
    /// See [`ReadError`]; never [`ReadError::Blocked`]. [`ReadError::Truncated`] means that what was read is not all. A read
    /// after the end, or after an error, returns the same again.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        poll_fn(|cx| self.poll_read_chunk(cx, max)).await
    }

    /// See [`RecvStream::read_chunk`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, ReadError>> {
        let result = ready!(coop::poll(cx, |cx| {
            if self.ended || self.stopped {
                // What was stopped is not complete.
                return Poll::Ready(if self.ended { Ok(None) } else { Err(ReadError::Stopped) });
            }
            self.handle.poll(Wait::Readable(self.id), cx, |state| match state.conn.stream(self.id).read(max) {
                Err(ReadError::Blocked) if state.is_closed() => Poll::Ready(Err(ReadError::Truncated)),
                Err(ReadError::Blocked) => Poll::Pending,
                result => Poll::Ready(result),
            })
        }));
        self.ended = matches!(result, Ok(None));
        Poll::Ready(result)
    }

    /// Waits until the peer's data cannot become complete, without reading it: the peer reset the stream, or the session
    /// ended before it. For a reader whose output takes nothing now; the last task that waits to read or for this is
    /// woken.
    pub fn poll_failed(&self, cx: &mut Context<'_>) -> Poll<ReadError> {
        if self.ended || self.stopped {
            return Poll::Pending;
        }
        let failure = |state: &mut State| state.conn.stream(self.id).read_failure();
        self.handle.poll(Wait::Readable(self.id), cx, |state| failure(state).map_or(Poll::Pending, Poll::Ready))
    }

    /// Stops reading: asks the peer to send no more data, with `error`. No effect on an ended stream.
    pub fn stop(&mut self, error: ErrorCode) {
        self.stopped = true;
        _ = self.handle.with(|state| state.conn.stream(self.id).stop(error));
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let chunk = ready!(self.get_mut().poll_read_chunk(cx, buf.remaining())).map_err(read_error)?;
        buf.put_slice(&chunk.unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.handle.with(|state| {
            state.waiters.forget_reader(self.id);
            if !self.ended && !self.stopped {
                _ = state.conn.stream(self.id).stop(code::NO_ERROR);
            }
        });
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().recv).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().send).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().send).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().send).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for SendStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SendStream").field(&self.id.0).finish()
    }
}

impl std::fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RecvStream").field(&self.id.0).finish()
    }
}

fn write_error(error: WriteError) -> io::Error {
    let kind = match error {
        WriteError::Stopped(_) | WriteError::Finished => io::ErrorKind::BrokenPipe,
        _ => io::ErrorKind::NotConnected,
    };
    io::Error::new(kind, error)
}

fn read_error(error: ReadError) -> io::Error {
    let kind = match error {
        ReadError::Reset(_) => io::ErrorKind::ConnectionReset,
        ReadError::Truncated => io::ErrorKind::UnexpectedEof,
        _ => io::ErrorKind::NotConnected,
    };
    io::Error::new(kind, error)
}
