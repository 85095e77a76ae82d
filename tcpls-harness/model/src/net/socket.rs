//! Sockets without a kernel, with the interface of `tcpls_harness::net::socket`: a buffer in each direction, and the peer's
//! end of the session. It answers whatever is written at once; a thread of the model can act for it, too.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tcpls_core::connection::TcpEnd;
use tcpls_core::{Connection, ConnectionId, Event, OptionOutcome, TcpInfo, Time};

use super::os::NOW;
use super::tcp_option::TcpOption;
use crate::dial::Path;
use crate::sync::{Mutex, MutexGuard};

pub(crate) const MAX_READ: usize = 256 * 1024;
const BATCH: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SocketOptions;

pub(crate) async fn dial(_: Path, _: &SocketOptions, _: bool) -> io::Result<Dialed> {
    std::future::pending().await
}

pub(crate) struct Dialed(TcpStream);

impl Dialed {
    pub(crate) fn is_deferred(&self) -> bool {
        false
    }

    pub(crate) fn reset(self) {
        reset(self.0);
    }
}

pub(crate) fn unrestricted() -> String {
    String::new()
}

pub(crate) fn reset(stream: TcpStream) {
    stream.with(|wire| wire.is_open = false);
}

/// What connects the two ends.
pub(crate) struct Wire {
    /// The peer's end, if there is one.
    pub(crate) peer: Option<Connection>,
    /// What the peer's end reported.
    pub(crate) events: Vec<Event>,
    /// What it has of an incomplete record.
    to_peer: BytesMut,
    /// Bytes for the session's task.
    to_task: BytesMut,
    /// Why there will be no more of them.
    end: Option<TcpEnd>,
    /// How many bytes the socket takes before it is full.
    pub(crate) room: usize,
    is_open: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Wire {
    /// Passes on what the peer sends.
    fn pump(&mut self) {
        let Some(peer) = &mut self.peer else { return };
        let mut out = Vec::new();
        while peer.poll_transmit(NOW, ConnectionId::FIRST, BATCH, &mut out) > 0 {}
        self.to_task.extend_from_slice(&out);
        while let Some(event) = peer.poll_event() {
            self.events.push(event);
        }
    }
}

/// The task's end of a wire, or another reference to it.
#[derive(Clone)]
pub(crate) struct TcpStream(Arc<Mutex<Wire>>);

impl TcpStream {
    /// A wire with this peer, and how much it takes before it is full.
    pub(crate) fn new(peer: Option<Connection>, room: usize) -> Self {
        let (events, to_peer, to_task) = (Vec::new(), BytesMut::new(), BytesMut::new());
        let wire = Wire { peer, events, to_peer, to_task, end: None, room, is_open: true, reader: None, writer: None };
        Self(Arc::new(Mutex::new(wire)))
    }

    fn lock(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts for the network or the peer: `f`, then what the peer sends. The task is woken if that concerns it.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Wire) -> R) -> R {
        let mut wire = self.lock();
        let result = f(&mut wire);
        wire.pump();
        let is_readable = !wire.to_task.is_empty() || wire.end.is_some();
        let reader = if is_readable { wire.reader.take() } else { None };
        let writer = if wire.room > 0 { wire.writer.take() } else { None };
        drop(wire);
        reader.into_iter().chain(writer).for_each(Waker::wake);
        result
    }

    /// Acts for the application at the peer.
    pub(crate) fn with_peer<R>(&self, f: impl FnOnce(&mut Connection) -> R) -> R {
        self.with(|wire| f(wire.peer.as_mut().expect("a wire with a peer")))
    }

    /// Bytes that arrive from a peer without a session.
    pub(crate) fn arrive(&self, bytes: &[u8]) {
        self.with(|wire| wire.to_task.extend_from_slice(bytes));
    }

    /// Whether the socket is neither closed nor reset.
    pub(crate) fn is_open(&self) -> bool {
        self.lock().is_open
    }

    /// Whether this is the only reference to the wire: the socket is closed.
    pub(crate) fn is_only_reference(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([192, 0, 2, 1], 443).into())
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

/// What the task has of it.
pub(crate) struct Socket {
    stream: TcpStream,
    input: BytesMut,
    out: Vec<u8>,
    ended: bool,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, input: BytesMut) -> Self {
        Self { stream, input, out: Vec::new(), ended: false }
    }

    pub(crate) fn dialed(dialed: Dialed) -> Self {
        Self::new(dialed.0, BytesMut::new())
    }

    pub(crate) fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        (self.stream.local_addr().ok(), self.stream.peer_addr().ok())
    }

    pub(crate) fn tcp_info(&self) -> Option<TcpInfo> {
        None
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn set_option(&self, _: &TcpOption) -> OptionOutcome {
        OptionOutcome::Unknown
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, TcpEnd>> {
        if !self.poll_readable(cx) {
            return Poll::Pending;
        }
        let mut wire = self.stream.lock();
        let bytes = wire.to_task.split();
        let end = wire.end;
        drop(wire);
        if bytes.is_empty() {
            self.ended = true;
            return Poll::Ready(Err(end.unwrap_or(TcpEnd::Fin)));
        }
        self.input.extend_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> bool {
        let mut wire = self.stream.lock();
        if !self.ended && wire.to_task.is_empty() && wire.end.is_none() {
            wire.reader = Some(cx.waker().clone());
            return false;
        }
        !self.ended
    }

    pub(crate) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    pub(crate) fn batch(&self) -> usize {
        BATCH
    }

    pub(crate) fn sure_flight(&self, _: Time, _: usize) -> Option<usize> {
        Some(BATCH)
    }

    pub(crate) fn ask_flight(&mut self, _: Time) -> usize {
        BATCH
    }

    pub(crate) fn forget_user_timeout(&self) {}

    pub(crate) fn unwritten(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    pub(crate) fn poll_flush(&mut self, _: Time, cx: &mut Context<'_>) -> Poll<Result<usize, TcpEnd>> {
        let (out, mut len) = (&mut self.out, 0);
        self.stream.with(|wire| {
            len = out.len().min(wire.room);
            wire.room -= len;
            wire.to_peer.extend(out.drain(..len));
            if let Some(peer) = &mut wire.peer {
                peer.handle_bytes(NOW, ConnectionId::FIRST, &mut wire.to_peer);
            }
            if !out.is_empty() {
                wire.writer = Some(cx.waker().clone());
            }
        });
        if self.out.is_empty() { Poll::Ready(Ok(len)) } else { Poll::Pending }
    }

    pub(crate) fn poll_writable(&mut self, cx: &mut Context<'_>) -> bool {
        let mut wire = self.stream.lock();
        if wire.room == 0 {
            wire.writer = Some(cx.waker().clone());
        }
        wire.room > 0
    }

    pub(crate) fn memory(&self) -> usize {
        self.input.capacity() + self.out.capacity()
    }

    pub(crate) fn release(&mut self) {}

    /// The peer closes its side at once.
    pub(crate) fn shut_down(&mut self, _: &mut Context<'_>) {
        self.stream.with(|wire| _ = wire.end.get_or_insert(TcpEnd::Fin));
    }

    pub(crate) fn reset(self) {
        reset(self.stream.clone());
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.stream.lock().is_open = false;
    }
}

pub(crate) mod tcp_info {
    use super::TcpStream;

    pub(crate) struct SendQueue {
        pub(crate) held: u64,
        pub(crate) acked: u64,
    }

    pub(crate) fn send_queue(_: &TcpStream) -> Option<SendQueue> {
        None
    }
}
