//! The end of a tunnel that is not a stream: a TCP connection, standard input and output, or a pipe in memory.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::net::socket::keep_alive;

/// Time without a byte after which the kernel asks whether the other side is there.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// The end of a tunnel that is not a stream.
pub trait Peer: AsyncRead + AsyncWrite + Send + Unpin {
    /// Ends both directions so that the other side notices that data is lost: TCP sends a reset.
    fn abort(&mut self) {}

    /// Reads up to `max` bytes into a new buffer, which exists only if there is something to read; empty at the end.
    fn poll_read_bytes(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<BytesMut>> {
        let mut buffer = BytesMut::with_capacity(max);
        ready!(pin!(self.read_buf(&mut (&mut buffer).limit(max))).poll(cx))?;
        Poll::Ready(Ok(buffer))
    }

    /// Waits for a failure while nothing is read. The default reports none: the next write does.
    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        _ = cx;
        Poll::Pending
    }
}

impl Peer for DuplexStream {}

/// A TCP connection.
pub struct TcpPeer {
    socket: Arc<TcpStream>,
    failure: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl TcpPeer {
    /// Takes a connected socket. It sends its data without delay (`TCP_NODELAY`), and fails if the other side does not
    /// answer the kernel's keep-alives for minutes (`SO_KEEPALIVE`).
    pub fn new(socket: TcpStream) -> Self {
        _ = socket.set_nodelay(true); // fails only if the connection has failed already
        keep_alive(&socket, KEEP_ALIVE);
        Self { socket: Arc::new(socket), failure: None }
    }
}

impl Peer for TcpPeer {
    fn poll_read_bytes(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<BytesMut>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            let mut buffer = BytesMut::with_capacity(max);
            match self.socket.try_read_buf(&mut (&mut buffer).limit(max)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome.map(|_| buffer)),
            }
        }
    }

    fn abort(&mut self) {
        // If it fails, the socket has no connection to reset.
        _ = SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let socket = &self.socket;
        let failure = self.failure.get_or_insert_with(|| {
            let socket = socket.clone();
            Box::pin(async move { _ = socket.ready(Interest::ERROR).await })
        });
        ready!(failure.as_mut().poll(cx));
        self.failure = None;
        Poll::Ready(())
    }
}

impl AsyncRead for TcpPeer {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            // `try_read_buf` would fill the buffer without initializing it, but tokio's `ReadBuf` is no `BufMut`.
            match self.socket.try_read(buf.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome.map(|read| buf.advance(read))),
            }
        }
    }
}

impl AsyncWrite for TcpPeer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write(data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.socket).shutdown(std::net::Shutdown::Write))
    }
}

impl std::fmt::Debug for TcpPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TcpPeer").field(&self.socket).finish()
    }
}
