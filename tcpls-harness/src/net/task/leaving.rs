//! Discarded sockets: their final bytes are written, then they are closed so that the peer can read them.
//!
//! A socket that is closed with unread bytes in its receive buffer sends a reset, which may destroy data sent just
//! before. So it is read for a while, until the peer has closed its side.
//!
//! The final bytes report the end of the session, behind all data written before. A slow peer gets time to receive
//! them; without them it would wait for a session that has ended.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tcpls_core::connection::TcpEnd;
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

use crate::net::session::Shared;
use crate::net::socket::MAX_READ;
use crate::net::socket::Socket;
use crate::net::socket::tcp_info::send_queue;

/// How long the peer may take to close its side once the socket has taken everything.
const LINGER: Duration = Duration::from_secs(1);
/// How long the socket may take no bytes before that.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time limit for all of this.
const MAX_LINGER: Duration = Duration::from_secs(60);
/// How much is read and dropped meanwhile.
const MAX_DRAINED: usize = 16 * MAX_READ;

/// A discarded socket that is being closed.
pub(crate) struct Leaving {
    /// `None`: it was never part of the session.
    tcp: Option<ConnectionId>,
    socket: Socket,
    deadline: Time,
    /// The latest value of the deadline.
    at_last: Time,
    /// The bytes left to write at the last check.
    unwritten: usize,
    /// The bytes that the peer's kernel had acknowledged at the last query.
    acked: Option<u64>,
    /// The bytes that it had not acknowledged then.
    held_by_kernel: u64,
    drained: usize,
    shut_down: bool,
}

impl Leaving {
    pub(crate) fn new(now: Time, tcp: Option<ConnectionId>, socket: Socket) -> Self {
        socket.forget_user_timeout();
        let deadline = now + LINGER;
        Self {
            tcp,
            socket,
            deadline,
            at_last: deadline,
            unwritten: 0,
            acked: None,
            held_by_kernel: 0,
            drained: 0,
            shut_down: false,
        }
    }

    /// Its bytes report the end of the session: it gets the time that the peer needs to receive them.
    pub(crate) fn with_final_bytes(mut self, now: Time) -> Self {
        self.at_last = now + MAX_LINGER;
        self
    }

    pub(crate) fn deadline(&self) -> Time {
        self.deadline
    }

    /// `tcp` names another TCP connection from now on.
    pub(crate) fn forget(&mut self, tcp: ConnectionId) {
        self.tcp = self.tcp.filter(|left| *left != tcp);
    }

    /// Continues to write the final bytes from `shared`; returns true once the socket may be closed.
    pub(crate) fn poll(&mut self, shared: &Shared, now: Time, cx: &mut Context<'_>) -> bool {
        let flushed = self.flush(shared, now, cx);
        let has_left = self.leave(flushed, now, cx);
        if has_left && self.tcp.is_some() {
            let held = self.socket.unwritten() as u64 + self.held_by_kernel;
            shared.drive(|state| state.note_unsent(held));
        }
        has_left
    }

    /// Writes the bytes that the socket still holds, and the final bytes from `shared` behind them.
    fn flush(&mut self, shared: &Shared, now: Time, cx: &mut Context<'_>) -> Poll<Result<(), TcpEnd>> {
        loop {
            ready!(self.socket.poll_flush(now, cx))?;
            let Some(tcp) = self.tcp else { return Poll::Ready(Ok(())) };
            let batch = self.socket.batch();
            if shared.drive(|state| state.conn.poll_transmit(now, tcp, batch, self.socket.out())) == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn leave(&mut self, flushed: Poll<Result<(), TcpEnd>>, now: Time, cx: &mut Context<'_>) -> bool {
        match flushed {
            Poll::Ready(Ok(())) if !self.shut_down => {
                self.socket.shut_down(cx);
                self.shut_down = true;
                self.wait(now, LINGER);
            }
            Poll::Ready(Err(_)) => return true,
            Poll::Ready(Ok(())) => {}
            Poll::Pending => self.wait_for_room(now),
        }
        if self.deadline <= now {
            self.ask_kernel(now);
        }
        if self.deadline <= now || self.drained > MAX_DRAINED {
            return true;
        }
        while !self.socket.has_ended() && self.drained <= MAX_DRAINED {
            match self.socket.poll_read(cx) {
                Poll::Ready(Ok(len)) => self.drained += len,
                Poll::Ready(Err(_)) => {}
                Poll::Pending => return false,
            }
            self.socket.input().clear();
        }
        self.drained > MAX_DRAINED || self.socket.is_flushed()
    }

    /// The socket is full. The deadline moves if it has taken bytes since.
    fn wait_for_room(&mut self, now: Time) {
        let unwritten = self.socket.unwritten();
        if unwritten != self.unwritten {
            self.unwritten = unwritten;
            self.wait(now, PATIENCE);
        }
    }

    /// The deadline has passed. It moves again if the peer's kernel acknowledges bytes that this kernel holds: on a
    /// slow path this happens long before there is room again, and in a plain session it is the only sign of progress.
    fn ask_kernel(&mut self, now: Time) {
        let Some(queue) = send_queue(self.socket.stream()) else { return };
        self.held_by_kernel = queue.held;
        match self.acked.replace(queue.acked) {
            _ if queue.held == 0 => {}
            None => self.wait(now, LINGER),
            Some(before) if queue.acked > before => self.wait(now, PATIENCE),
            Some(_) => {}
        }
    }

    fn wait(&mut self, now: Time, patience: Duration) {
        self.deadline = self.deadline.max((now + patience).min(self.at_last));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use bytes::BytesMut;
    use socket2::SockRef;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// More bytes than the kernel's buffers hold, several times.
    const MUCH: usize = 64 << 20;

    /// A discarded socket since time 0 with many bytes to write, and the other end.
    async fn leaving() -> (Leaving, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepted = listener.accept().await.unwrap().0;
        SockRef::from(&accepted).set_send_buffer_size(64 << 10).unwrap();
        SockRef::from(&peer).set_recv_buffer_size(64 << 10).unwrap();
        let mut socket = Socket::new(accepted, BytesMut::new());
        socket.out().resize(MUCH, 7);
        (Leaving::new(Time::ZERO, None, socket).with_final_bytes(Time::ZERO), peer)
    }

    fn leave(leaving: &mut Leaving, seconds: u64) -> bool {
        let (now, mut cx) = (Time::from_millis(seconds * 1000), Context::from_waker(Waker::noop()));
        let flushed = leaving.socket.poll_flush(now, &mut cx).map_ok(drop);
        leaving.leave(flushed, now, &mut cx)
    }

    /// Reads until the socket has room again.
    async fn read_on(leaving: &mut Leaving, peer: &mut TcpStream) {
        let mut buffer = vec![0; 16 << 10];
        loop {
            tokio::select! {
                biased;
                () = poll_fn(|cx| if leaving.socket.poll_writable(cx) { Poll::Ready(()) } else { Poll::Pending }) => return,
                read = peer.read(&mut buffer) => assert!(read.unwrap() > 0),
            }
        }
    }

    #[tokio::test]
    async fn final_bytes_are_waited_for_as_long_as_the_peer_takes_something() {
        let (mut leaving, mut peer) = leaving().await;
        assert!(!leave(&mut leaving, 0));
        for turn in 1..10 {
            read_on(&mut leaving, &mut peer).await;
            assert!(!leave(&mut leaving, turn * 4), "turn {turn}");
        }
        assert!(!leave(&mut leaving, 40));
        assert!(!leave(&mut leaving, 50), "its kernel is asked twice, a second apart");
        assert!(leave(&mut leaving, 52), "it took nothing for long enough");
        if cfg!(target_os = "linux") {
            assert!(leaving.held_by_kernel > 0 && leaving.socket.unwritten() > 0, "and this is what it did not take");
        }
    }

    #[tokio::test]
    async fn socket_of_a_lost_tcp_connection_closes_within_a_second() {
        let (mut leaving, mut peer) = leaving().await;
        leaving.at_last = Time::ZERO + LINGER;
        assert!(!leave(&mut leaving, 0));
        read_on(&mut leaving, &mut peer).await;
        assert!(leave(&mut leaving, 1));
    }

    #[tokio::test]
    async fn leaving_takes_no_longer_than_a_minute() {
        let (mut leaving, mut peer) = leaving().await;
        for turn in 0..15 {
            assert!(!leave(&mut leaving, turn * 4));
            read_on(&mut leaving, &mut peer).await;
        }
        assert!(leave(&mut leaving, 60));
    }
}
