//! The end of a tunnel that is not a stream: a TCP connection, standard input and output, or a pipe in memory.

use std::future::Future;
use std::io::{self, IoSlice};
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

    /// The socket, to read from it: then nothing waits for its failure any more.
    fn reader(&mut self) -> &mut TcpStream {
        self.failure = None;
        Arc::get_mut(&mut self.socket).expect("what waited for a failure had the only other reference")
    }
}

impl Peer for TcpPeer {
    fn poll_read_bytes(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<BytesMut>> {
        ready!(self.socket.poll_read_ready(cx))?;
        let mut buffer = BytesMut::with_capacity(max);
        // It notices by itself that a read which leaves room has emptied the socket: no second one need find that out.
        ready!(pin!(self.reader().read_buf(&mut (&mut buffer).limit(max))).poll(cx))?;
        Poll::Ready(Ok(buffer))
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
        Pin::new(self.get_mut().reader()).poll_read(cx, buf)
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

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write_vectored(data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
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

#[cfg(all(test, unix))]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_read_that_leaves_room_is_not_followed_by_one_for_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut program = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut peer = TcpPeer::new(listener.accept().await.unwrap().0);
        for _ in 0..2 {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(peer.poll_failed(&mut cx).is_pending(), "it is watched while it is not read");
            program.write_all(&[1; 100]).await.unwrap();
            assert_eq!(poll_fn(|cx| peer.poll_read_bytes(cx, 1000)).await.unwrap().len(), 100);
            assert!(peer.socket.poll_read_ready(&mut cx).is_pending());
        }
        drop(program);
        assert!(poll_fn(|cx| peer.poll_read_bytes(cx, 1000)).await.unwrap().is_empty());
    }
}
