//! A path that fails on demand: relays TCP connections from a loopback port to a target, limits their rate, delays
//! them, ends them at one side or both, drops their bytes, or corrupts them.
//!
//! For demonstrations and tests, in the same process; not part of the protocol. Rate and delay are those of the path:
//! in each direction, all TCP connections through one relay share the rate.

mod link;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::link::Link;
use crate::net::descriptors::{Attempts, are_used_up};

/// Kernel buffers on both sides: a path holds what is under way, not megabytes.
const SOCKET_BUFFER: u32 = 128 * 1024;
/// The most that is read at once.
const CHUNK: usize = 16 * 1024;
/// Chunks that wait for their time in one direction, beyond what rate and delay need.
const SPARE_CHUNKS: usize = 16;
/// The sizes of pieces where bytes are shredded, one after the other.
const SHREDS: [usize; 5] = [1, 4, 90, 2, 1500];

/// The properties of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathOptions {
    /// Bytes per second in each direction; `None` is without limit.
    pub rate: Option<u64>,
    /// How long each byte takes, one way.
    pub delay: Duration,
}

impl PathOptions {
    /// Returns these options with a change: `PathOptions::default().with(|path| path.rate = Some(1_000_000))`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// A direction of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the target.
    Up,
    /// From the target.
    Down,
}

/// How TCP connections on the path end, and at which end that is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Both ends see a reset.
    Reset,
    /// Only the connecting end sees a reset; no more bytes pass, and the target's end hangs.
    ResetNear,
    /// The other way round.
    ResetFar,
    /// Both ends see a FIN, and no data in flight.
    Fin,
    /// No more bytes pass, without a sign to the ends.
    Forget,
}

/// The state of the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weather {
    /// Directions in which no bytes pass, without a sign to the ends.
    stalled: [bool; 2],
    /// Whether TCP connections are reset and new ones refused.
    down: bool,
    /// Whether bytes are written in small pieces.
    shreds: bool,
}

/// A running relay. Dropping it closes its TCP connections.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    path: Arc<Path>,
    _task: JoinSet<()>,
}

impl Relay {
    /// Listens on a free port of `listen`'s address (its port is used if it is not 0), and relays to `target`. To be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// The address can't be listened on.
    pub fn start(listen: SocketAddr, target: SocketAddr, options: PathOptions) -> io::Result<Self> {
        let listener = listen_on(listen)?;
        let address = listener.local_addr()?;
        let path = Arc::new(Path {
            target,
            weather: watch::Sender::new(Weather::default()),
            breaks: watch::Sender::new(Break::Reset),
            links: [Link::new(options), Link::new(options)],
        });
        let mut task = JoinSet::new();
        task.spawn(accept(listener, path.clone()));
        Ok(Self { address, path, _task: task })
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets all TCP connections that are on the path now, on both sides.
    pub fn reset(&self) {
        self.end(Break::Reset);
    }

    /// Ends all TCP connections that are on the path now.
    pub fn end(&self, how: Break) {
        self.path.breaks.send_replace(how);
    }

    /// From now on nothing gets through, until [`Relay::resume`]: TCP connections stay up, and TCP itself notices nothing.
    pub fn stall(&self) {
        [Way::Up, Way::Down].into_iter().for_each(|way| self.set_stalled(way, true));
    }

    /// From now on nothing gets through in this direction, or all does again.
    pub fn set_stalled(&self, way: Way, stalled: bool) {
        self.path.weather.send_modify(|weather| weather.stalled[way as usize] = stalled);
    }

    /// Resets all TCP connections and refuses new ones, until [`Relay::resume`].
    pub fn take_down(&self) {
        self.path.weather.send_modify(|weather| weather.down = true);
        self.reset();
    }

    /// Ends [`Relay::stall`] and [`Relay::take_down`]; delayed bytes pass.
    pub fn resume(&self) {
        self.path.weather.send_modify(|weather| (weather.stalled, weather.down) = ([false; 2], false));
    }

    /// Sets whether bytes are written in pieces of a few bytes.
    pub fn set_shreds(&self, shreds: bool) {
        self.path.weather.send_modify(|weather| weather.shreds = shreds);
    }

    /// Sets the rate of the path, in bytes per second; `None` is without limit.
    pub fn set_rate(&self, way: Way, rate: Option<u64>) {
        self.path.links[way as usize].state().rate = rate;
    }

    /// Sets the delay of bytes that arrive from now on.
    pub fn set_delay(&self, way: Way, delay: Duration) {
        self.path.links[way as usize].state().delay = delay;
    }

    /// Flips a bit of the next bytes.
    pub fn corrupt(&self, way: Way) {
        self.path.links[way as usize].state().corrupts += 1;
    }
}

/// The shared state of the relay's tasks.
#[derive(Debug)]
struct Path {
    target: SocketAddr,
    weather: watch::Sender<Weather>,
    /// How TCP connections end; each watches it for changes.
    breaks: watch::Sender<Break>,
    /// To the target, and back.
    links: [Link; 2],
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Buffers must be small before the TCP connection is made, or the window that was offered stays.
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

/// Accepts TCP connections as long as the path is up, and does not listen while it is down.
async fn accept(mut listener: TcpListener, path: Arc<Path>) {
    let Ok(address) = listener.local_addr() else { return };
    let mut weather = path.weather.subscribe();
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            changed = weather.changed() => {
                if changed.is_err() {
                    return;
                }
                if weather.borrow().down {
                    drop(listener);
                    _ = weather.wait_for(|weather| !weather.down).await;
                    let Ok(again) = patiently(|| listen_on(address)).await else { return };
                    listener = again;
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => _ = tasks.spawn(carry(path.clone(), near)),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// One TCP connection on the path.
async fn carry(path: Arc<Path>, mut near: TcpStream) {
    let mut breaks = path.breaks.subscribe();
    let Ok(mut far) = connect(path.target).await else { return reset(&near) };
    _ = near.set_nodelay(true);
    let end = {
        let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
        let there = one_way(&path, Way::Up, near_read, far_write);
        let back = one_way(&path, Way::Down, far_read, near_write);
        tokio::select! {
            carried = async { tokio::try_join!(there, back) } => carried.err().map(|_| Break::Reset),
            _ = breaks.changed() => Some(*breaks.borrow()),
        }
    };
    match end {
        None => {}
        Some(Break::Reset) => [near, far].iter().for_each(reset),
        Some(Break::ResetNear) => hang(Some(near), [far]).await,
        Some(Break::ResetFar) => hang(Some(far), [near]).await,
        Some(Break::Forget) => hang(None, [near, far]).await,
        Some(Break::Fin) => _ = tokio::join!(finish(near), finish(far)),
    }
}

/// One end is reset; others stay as they are, and are neither read nor written, for as long as the relay lives.
async fn hang<const N: usize>(ends: Option<TcpStream>, _stay: [TcpStream; N]) {
    ends.iter().for_each(reset);
    drop(ends);
    std::future::pending().await
}

/// Ends one side with a FIN. What it still sends is read: else its end would be a reset.
async fn finish(mut stream: TcpStream) {
    _ = stream.shutdown().await;
    _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

async fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = patiently(|| if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }).await?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Tries again for a while if there is no file descriptor for what `open` opens.
async fn patiently<R>(mut open: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    let mut attempts = Attempts::default();
    loop {
        match open() {
            Err(error) if are_used_up(&error) && attempts.pause().await => {}
            outcome => return outcome,
        }
    }
}

/// Has the socket closed with a reset.
fn reset(stream: &TcpStream) {
    _ = stream.set_zero_linger();
}

/// Takes bytes at the path's rate and gives them back when the path's delay is over. The end of the bytes is passed on, a
/// failure ends the TCP connection.
async fn one_way(path: &Path, way: Way, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(path.links[way as usize].chunks_under_way() + SPARE_CHUNKS);
    tokio::try_join!(take(path, way, from, sender), give(path, way, receiver, to)).map(|_| ())
}

type Chunk = (Instant, Vec<u8>);

async fn take(path: &Path, way: Way, mut from: ReadHalf<'_>, to: mpsc::Sender<Chunk>) -> io::Result<()> {
    let (mut buffer, link) = (vec![0; CHUNK], &path.links[way as usize]);
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        link.take(len).await;
        let (bytes, delay) = link.carry(&buffer[..len]);
        if to.send((Instant::now() + delay, bytes)).await.is_err() {
            return Ok(());
        }
    }
}

async fn give(path: &Path, way: Way, mut from: mpsc::Receiver<Chunk>, mut to: WriteHalf<'_>) -> io::Result<()> {
    let mut weather = path.weather.subscribe();
    let mut sizes = SHREDS.iter().cycle();
    while let Some((due, bytes)) = from.recv().await {
        tokio::time::sleep_until(due).await;
        let shreds = weather.wait_for(|weather| !weather.stalled[way as usize]).await.is_ok_and(|w| w.shreds);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let size = if shreds { *sizes.next().unwrap_or(&CHUNK) } else { CHUNK };
            let (piece, others) = rest.split_at(size.min(rest.len()));
            to.write_all(piece).await?;
            rest = others;
        }
    }
    to.shutdown().await
}
