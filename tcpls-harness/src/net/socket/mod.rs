//! One TCP connection's socket with its buffers: large reads, and batches of records per write.
//!
//! Knows nothing of sessions. Used by a session's task, which alone owns sockets once they belong to a session.
//!
//! | file | subject |
//! | --- | --- |
//! | `bind` | addresses and interfaces that sockets are bound to |
//! | `fast_open` | data in the SYN of a TCP connection |
//! | `reading` | the memory that a socket reads into |
//! | `pace` | how much is written to a socket at once |
//! | `pacing` | whether the kernel paces it over the round trip |
//! | `flight` | how much an idle socket sends at once |
//! | `options` | options that are set while a socket is in use |
//! | `tcp_info` | what the kernel knows about a TCP connection |

mod bind;
mod fast_open;
mod flight;
mod options;
pub(crate) mod pace;
mod pacing;
mod reading;
pub(crate) mod tcp_info;

pub(crate) use self::bind::is_local;
#[cfg(feature = "interfaces")]
pub(crate) use self::bind::to_device;
pub(crate) use self::fast_open::accept as accept_fast_open;
pub(crate) use self::options::unrestricted;
pub(crate) use self::reading::MAX_READ;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tcpls_core::connection::{TcpEnd, TcpInfo};
use tcpls_core::error::ConfigError;
use tcpls_core::event::OptionOutcome;
use tcpls_core::time::Time;
use tokio::io::{AsyncReadExt, AsyncWrite, Interest};
use tokio::net::TcpSocket;
pub(crate) use tokio::net::TcpStream;

use self::fast_open::Deferred;
use self::flight::Flight;
use self::pace::Pace;
use self::pacing::Pacing;
use self::reading::{MIN_READ, Reading};
use crate::dial::Path;
use crate::net::os::now;
use crate::net::proxy_protocol::Ends;
use crate::net::tcp_option::TcpOption;

/// The largest batch where the kernel does not say what it may hold unsent.
const MAX_BATCH: usize = 256 * 1024;

/// The least that [`SocketOptions::unsent_low_water`] may be: room for a record that carries something.
const MIN_UNSENT: u64 = 4096;

/// Options of a session's sockets. `TCP_NODELAY` is always on, because records are written in large batches.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SocketOptions {
    /// The most that the kernel may hold unsent before it says that a socket is full (`TCP_NOTSENT_LOWAT`, where there is
    /// one), and that is sealed for it at once. On slow paths it is less, by itself. At least 4 KiB.
    pub unsent_low_water: u32,
    /// `SO_SNDBUF` in bytes; `None` leaves it to the kernel, which grows it as needed.
    pub send_buffer: Option<usize>,
    /// `SO_RCVBUF` in bytes; `None` leaves it to the kernel, which grows it as needed.
    pub receive_buffer: Option<usize>,
    /// Time without a byte after which the kernel asks whether the peer is there (`SO_KEEPALIVE`); `None`: never. For
    /// sessions without TCPLS; those with TCPLS have Pings.
    pub keep_alive: Option<Duration>,
    /// TCP Fast Open (RFC 7413; Linux, where `net.ipv4.tcp_fastopen` allows it). A listener accepts data in SYNs. A client
    /// puts the hello and the first records of a join into the SYN, while another TCP connection answers, and those of a
    /// session that begins with early data on its only path. It does so once it has the server's cookie, which the first join
    /// without data brings, and not for an hour on a path where that has failed.
    ///
    /// Some middleboxes drop such SYNs, which costs a second and may cost a token. Off by default.
    pub fast_open: bool,
}

impl SocketOptions {
    /// Returns these options with a change: `SocketOptions::default().with(|socket| socket.send_buffer = Some(1 << 20))`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Lets the kernel ask whether the peer is there after this time without a byte, and again after each quarter of it. A
/// connection without an answer fails.
pub(crate) fn keep_alive(stream: &TcpStream, after: Duration) {
    _ = keep_alive_at(&SockRef::from(stream), after); // fails only if the connection has failed already
}

fn keep_alive_at(socket: &SockRef<'_>, after: Duration) -> io::Result<()> {
    let times = TcpKeepalive::new().with_time(after);
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple", windows))]
    let times = times.with_interval((after / 4).max(Duration::from_secs(1)));
    socket.set_tcp_keepalive(&times)
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            unsent_low_water: 256 * 1024,
            send_buffer: None,
            receive_buffer: None,
            keep_alive: None,
            fast_open: false,
        }
    }
}

impl SocketOptions {
    /// Checks that a socket with these options makes progress.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least("unsent_low_water", self.unsent_low_water.into(), MIN_UNSENT, "bytes")
    }

    /// Sets the options. They only affect speed, so an option that the kernel does not support is ignored.
    pub(crate) fn apply(&self, stream: &TcpStream) {
        _ = stream.set_nodelay(true);
        set_unsent_low_water(stream, self.unsent_low_water as usize);
        let socket = SockRef::from(stream);
        if let Some(size) = self.send_buffer {
            _ = socket.set_send_buffer_size(size);
        }
        if let Some(size) = self.receive_buffer {
            _ = socket.set_recv_buffer_size(size);
        }
        if let Some(after) = self.keep_alive {
            keep_alive(stream, after);
        }
    }
}

/// A TCP connection that a client has opened.
#[derive(Debug)]
pub(crate) struct Dialed {
    stream: TcpStream,
    remote: SocketAddr,
    deferred: Option<Deferred>,
}

impl Dialed {
    /// Whether nothing was sent yet: what is written first goes into the SYN.
    pub(crate) fn is_deferred(&self) -> bool {
        self.deferred.is_some()
    }

    /// Closes the socket so that the peer sees a reset.
    pub(crate) fn reset(self) {
        reset(self.stream);
    }
}

/// Connects, for as long as the kernel tries.
pub(crate) async fn connect(path: Path, options: &SocketOptions) -> io::Result<TcpStream> {
    dial(path, options, false).await.map(|dialed| dialed.stream)
}

/// Connects, for as long as the kernel tries; with `in_syn`, deferred if the options and the kernel allow it.
pub(crate) async fn dial(path: Path, options: &SocketOptions, in_syn: bool) -> io::Result<Dialed> {
    let socket = if path.remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    bind::bind(&socket, path)?;
    let in_syn = in_syn && options.fast_open;
    if in_syn {
        fast_open::allow(&socket, path);
    }
    let stream = socket.connect(path.remote).await?;
    options.apply(&stream);
    let deferred = if in_syn { fast_open::deferred(&stream, path) } else { None };
    Ok(Dialed { stream, remote: path.remote, deferred })
}

/// Closes the socket so that the peer sees a reset.
pub(crate) fn reset(stream: TcpStream) {
    _ = stream.set_zero_linger();
}

/// The IPv4 address that a socket for both families shows as one of IPv6 (`::ffff:192.0.2.1`).
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address, // with its zone
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// A load balancer passes the bytes of another TCP connection on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Splice {
    /// The ends of that one, if they are known.
    pub(crate) ends: Option<Ends>,
}

/// A socket, what was read and not taken, and what was sealed and not written.
pub(crate) struct Socket {
    stream: TcpStream,
    reading: Reading,
    out: Vec<u8>,
    written: usize,
    pace: Pace,
    flight: Flight,
    pacing: Pacing,
    /// The kernel had no room since the pace was looked at last.
    was_full: bool,
    /// Reading came to an end.
    ended: bool,
    /// Writing failed.
    broken: bool,
    splice: Option<Splice>,
    /// The remote address, while the kernel does not say it.
    remote: Option<SocketAddr>,
    /// Few sockets are: it takes no room in the others.
    deferred: Option<Box<Deferred>>,
}

impl Socket {
    /// `input` is what was read from `stream` before.
    pub(crate) fn new(stream: TcpStream, input: BytesMut) -> Self {
        let pace = Pace::new(unsent_low_water(&stream), now());
        set_unsent_low_water(&stream, pace.batch());
        Self {
            stream,
            reading: Reading::new(input),
            out: Vec::new(),
            written: 0,
            pace,
            flight: Flight::default(),
            pacing: Pacing::default(),
            was_full: false,
            ended: false,
            broken: false,
            splice: None,
            remote: None,
            deferred: None,
        }
    }

    /// The socket of a TCP connection that this client has opened.
    pub(crate) fn dialed(dialed: Dialed) -> Self {
        let Dialed { stream, remote, deferred } = dialed;
        let mut deferred = deferred.map(Box::new);
        deferred.iter_mut().for_each(|deferred| deferred.begin());
        Self { remote: Some(remote), deferred, ..Self::new(stream, BytesMut::new()) }
    }

    /// The session is done with it: the kernel waits for the peer's acknowledgments as long as it does by itself, whatever user
    /// timeout the peer asked for.
    pub(crate) fn forget_user_timeout(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            _ = SockRef::from(&self.stream).set_tcp_user_timeout(None);
        }
    }

    /// The same, if its other end is a load balancer's.
    pub(crate) fn spliced(mut self, splice: Option<Splice>) -> Self {
        self.splice = splice;
        self
    }

    /// The local address and the peer's, as far as they are known: those that the client has, if a load balancer names them.
    pub(crate) fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        match self.splice {
            Some(Splice { ends: Some(ends) }) => (Some(ends.server), Some(ends.client)),
            _ => {
                let remote = self.stream.peer_addr().ok().or(self.remote);
                (self.stream.local_addr().ok().map(canonical), remote.map(canonical))
            }
        }
    }

    /// The kernel's state of the TCP connection; none if it ends at a load balancer: its kernel answers for a client that may
    /// be gone.
    pub(crate) fn tcp_info(&self) -> Option<TcpInfo> {
        if self.splice.is_some() { None } else { tcp_info::tcp_info(&self.stream) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sets an option.
    pub(crate) fn set_option(&self, option: &TcpOption) -> OptionOutcome {
        options::set(&self.stream, option)
    }

    /// Reads once. Ready without bytes means that the peer will send no more, and has the cause.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, TcpEnd>> {
        if !self.poll_readable(cx) {
            return Poll::Pending;
        }
        #[cfg(test)]
        crate::net::costs::count(|costs| costs.reads += 1);
        let room = self.reading.make_room();
        // It notices by itself that a read which leaves room has emptied the socket: no second one need find that out.
        match ready!(pin!(self.stream.read_buf(&mut self.reading.input)).poll(cx)) {
            Ok(0) => self.end(TcpEnd::Fin),
            Ok(len) => {
                if let Some(deferred) = self.deferred.take() {
                    deferred.note_answer(&self.stream);
                }
                self.reading.came(len, room);
                Poll::Ready(Ok(len))
            }
            Err(error) => self.end(error.kind().into()),
        }
    }

    /// Whether there is something to read, the end perhaps. If not, the task is woken when there is.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> bool {
        !self.ended && self.stream.poll_read_ready(cx).is_ready()
    }

    fn end(&mut self, how: TcpEnd) -> Poll<Result<usize, TcpEnd>> {
        self.ended = true;
        Poll::Ready(Err(how))
    }

    /// Returns received bytes of an incomplete record.
    pub(crate) fn input(&mut self) -> &mut BytesMut {
        &mut self.reading.input
    }

    /// Whether the peer's side has ended, or the socket failed.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Where to append what is to be written next. To be used only when everything before has been written.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// How much to append there.
    pub(crate) fn batch(&self) -> usize {
        self.pace.batch()
    }

    /// What of a batch is sure to leave at once while `in_flight` bytes are under way; `None` if that is not known.
    pub(crate) fn sure_flight(&self, now: Time, in_flight: usize) -> Option<usize> {
        self.flight.sure(now, in_flight, self.batch())
    }

    /// What of a batch would leave at once. Costs a system call.
    pub(crate) fn ask_flight(&mut self, now: Time) -> usize {
        let batch = self.batch();
        self.flight.ask(now, &self.stream, batch)
    }

    /// How many bytes are still to be written.
    pub(crate) fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    /// Whether everything has been written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.written == self.out.len()
    }

    /// Writes until nothing is left; returns the number of bytes. After an error, which is returned once, bytes that
    /// arrived before can still be read.
    pub(crate) fn poll_flush(&mut self, now: Time, cx: &mut Context<'_>) -> Poll<Result<usize, TcpEnd>> {
        if self.broken {
            return Poll::Pending;
        }
        let before = self.written;
        // One that is deferred has no round-trip time yet: the decision waits for the peer's first bytes.
        if self.deferred.is_none() {
            self.pacing.before_write(&self.stream, self.unwritten());
        }
        while !self.is_flushed() {
            #[cfg(test)]
            crate::net::costs::count(|costs| costs.writes += 1);
            match Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..]) {
                Poll::Ready(Ok(len)) => self.written += len,
                // Deferred, and the cookie is gone: the SYN went out without data.
                Poll::Ready(Err(error)) if self.deferred.is_some() && is_in_progress(&error) => {
                    let blocks = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                    _ = self.stream.try_io(Interest::WRITABLE, blocks);
                }
                Poll::Ready(Err(error)) => {
                    self.broken = true;
                    return Poll::Ready(Err(error.kind().into()));
                }
                Poll::Pending => {
                    self.was_full = true;
                    return Poll::Pending;
                }
            }
        }
        self.pacing.after_batch();
        let flushed = self.written - before;
        self.out.clear();
        self.written = 0;
        if self.out.capacity() > 4 * self.batch().max(MIN_READ) {
            self.out = Vec::new();
        }
        if self.pace.wrote(now, flushed, std::mem::take(&mut self.was_full)) {
            set_unsent_low_water(&self.stream, self.pace.batch());
        }
        Poll::Ready(Ok(flushed))
    }

    /// Whether the kernel would take bytes now.
    pub(crate) fn poll_writable(&mut self, cx: &mut Context<'_>) -> bool {
        let ready = self.stream.poll_write_ready(cx).is_ready();
        self.was_full |= !ready;
        !self.broken && ready
    }

    /// Memory of the buffers, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.reading.memory() + self.out.capacity()
    }

    /// Gives back the memory that is not in use.
    pub(crate) fn release(&mut self) {
        self.reading.release();
        if self.is_flushed() {
            self.out = Vec::new();
            self.written = 0;
        }
    }

    /// Shuts down the write side.
    pub(crate) fn shut_down(&mut self, cx: &mut Context<'_>) {
        _ = Pin::new(&mut self.stream).poll_shutdown(cx);
    }

    /// Closes the socket so that the peer sees a reset.
    pub(crate) fn reset(self) {
        reset(self.stream);
    }
}

/// Whether the handshake of TCP has just begun (EINPROGRESS).
fn is_in_progress(error: &io::Error) -> bool {
    const EINPROGRESS: i32 = 115;
    cfg!(any(target_os = "linux", target_os = "android")) && error.raw_os_error() == Some(EINPROGRESS)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn unsent_low_water(stream: &TcpStream) -> usize {
    SockRef::from(stream).tcp_notsent_lowat().map_or(MAX_BATCH, |bytes| (bytes as usize).min(1 << 20))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn unsent_low_water(_stream: &TcpStream) -> usize {
    MAX_BATCH
}

/// A kernel without the option does without.
fn set_unsent_low_water(stream: &TcpStream, bytes: usize) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        _ = SockRef::from(stream).set_tcp_notsent_lowat(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (stream, bytes);
}

#[cfg(all(test, unix))]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[tokio::test]
    async fn kernel_is_not_asked_about_a_tcp_connection_that_ends_at_a_load_balancer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = || TcpStream::connect(listener.local_addr().unwrap());
        let direct = Socket::new(stream().await.unwrap(), BytesMut::new());
        let spliced = Socket::new(stream().await.unwrap(), BytesMut::new()).spliced(Some(Splice { ends: None }));
        assert!(direct.tcp_info().is_some() && spliced.tcp_info().is_none());
    }

    #[tokio::test]
    async fn a_read_that_leaves_room_has_emptied_the_socket_but_for_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut socket = Socket::new(listener.accept().await.unwrap().0, BytesMut::new());
        for _ in 0..2 {
            peer.write_all(&[1; 100]).await.unwrap();
            assert_eq!(poll_fn(|cx| socket.poll_read(cx)).await, Ok(100));
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(!socket.poll_readable(&mut cx), "it would be read once more, for nothing");
        }
        drop(peer);
        assert_eq!(poll_fn(|cx| socket.poll_read(cx)).await, Err(TcpEnd::Fin));
    }
}
