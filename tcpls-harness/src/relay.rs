//! A path that misbehaves on demand: relays TCP connections from a loopback port to a target, limits their rate, delays
//! them, resets them, or swallows what they carry.
//!
//! For demonstrations and tests, in the same process; no part of the protocol. Rate and delay are those of the path: all
//! TCP connections through one relay share the rate, each direction for itself.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Kernel buffers on both sides: a path holds what is under way, not megabytes.
const SOCKET_BUFFER: u32 = 128 * 1024;
/// The most that is read at once.
const CHUNK: usize = 16 * 1024;
/// Chunks that wait for their time in one direction, beyond what rate and delay need.
const SPARE_CHUNKS: usize = 16;
/// What a path may carry in one burst, as time at its rate.
const BURST: Duration = Duration::from_millis(4);

/// What a path is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathOptions {
    /// Bytes per second in each direction; `None` is without limit.
    pub rate: Option<u64>,
    /// How long each byte takes, one way.
    pub delay: Duration,
}

/// What happens to TCP connections on the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Fair,
    /// Nothing gets through, and nobody is told.
    Stalled,
    /// TCP connections are reset, new ones refused.
    Down,
}

/// A running relay. Dropping it closes its TCP connections.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    /// Counts the resets that were asked for; each TCP connection watches it.
    resets: watch::Sender<u64>,
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
        let (weather, _) = watch::channel(Weather::Fair);
        let (resets, _) = watch::channel(0);
        let path = Path {
            target,
            options,
            weather: weather.clone(),
            resets: resets.clone(),
            buckets: [Bucket::new(options.rate), Bucket::new(options.rate)],
        };
        let mut task = JoinSet::new();
        task.spawn(accept(listener, Arc::new(path)));
        Ok(Self { address, weather, resets, _task: task })
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets all TCP connections that are on the path now, on both sides.
    pub fn reset(&self) {
        self.resets.send_modify(|count| *count += 1);
    }

    /// From now on nothing gets through, until [`Relay::resume`]: TCP connections stay up, and TCP itself notices nothing.
    pub fn stall(&self) {
        self.weather.send_replace(Weather::Stalled);
    }

    /// Resets all TCP connections and refuses new ones, until [`Relay::resume`].
    pub fn take_down(&self) {
        self.weather.send_replace(Weather::Down);
        self.reset();
    }

    /// Ends [`Relay::stall`] and [`Relay::take_down`]; what was held up gets through.
    pub fn resume(&self) {
        self.weather.send_replace(Weather::Fair);
    }
}

/// What the relay's tasks share.
struct Path {
    target: SocketAddr,
    options: PathOptions,
    weather: watch::Sender<Weather>,
    resets: watch::Sender<u64>,
    /// To the target, and back.
    buckets: [Bucket; 2],
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Buffers must be small before the TCP connection is made, or the window that was offered stays.
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

/// Accepts TCP connections as long as the path is up; while it is down nobody listens.
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
                if *weather.borrow() == Weather::Down {
                    drop(listener);
                    _ = weather.wait_for(|weather| *weather != Weather::Down).await;
                    let Ok(again) = listen_on(address) else { return };
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
    let mut resets = path.resets.subscribe();
    let Ok(mut far) = connect(path.target).await else { return reset(&near) };
    _ = near.set_nodelay(true);
    let carried = {
        let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
        let there = one_way(&path, 0, near_read, far_write);
        let back = one_way(&path, 1, far_read, near_write);
        tokio::select! {
            carried = async { tokio::try_join!(there, back) } => carried.is_ok(),
            _ = resets.changed() => false,
        }
    };
    if !carried {
        reset(&near);
        reset(&far);
    }
}

async fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Has the socket closed with a reset.
fn reset(stream: &TcpStream) {
    _ = stream.set_zero_linger();
}

/// Takes bytes at the path's rate and gives them back when the path's delay is over. The end of the bytes is passed on, a
/// failure ends the TCP connection.
async fn one_way(path: &Path, way: usize, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
    let under_way = path.options.rate.map_or(0.0, |rate| rate as f64 * path.options.delay.as_secs_f64());
    let (sender, receiver) = mpsc::channel(under_way as usize / 1024 + SPARE_CHUNKS);
    tokio::try_join!(take(path, way, from, sender), give(path, receiver, to)).map(|_| ())
}

type Chunk = (Instant, Vec<u8>);

async fn take(path: &Path, way: usize, mut from: ReadHalf<'_>, to: mpsc::Sender<Chunk>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        path.buckets[way].take(len).await;
        if to.send((Instant::now() + path.options.delay, buffer[..len].to_vec())).await.is_err() {
            return Ok(());
        }
    }
}

async fn give(path: &Path, mut from: mpsc::Receiver<Chunk>, mut to: WriteHalf<'_>) -> io::Result<()> {
    let mut weather = path.weather.subscribe();
    while let Some((due, bytes)) = from.recv().await {
        tokio::time::sleep_until(due).await;
        _ = weather.wait_for(|weather| *weather == Weather::Fair).await;
        to.write_all(&bytes).await?;
    }
    to.shutdown().await
}

/// A token bucket.
struct Bucket {
    rate: Option<u64>,
    /// When everything that was let through so far has passed at `rate`.
    paid_until: Mutex<Instant>,
}

impl Bucket {
    fn new(rate: Option<u64>) -> Self {
        Self { rate, paid_until: Mutex::new(Instant::now()) }
    }

    fn paid_until(&self) -> MutexGuard<'_, Instant> {
        self.paid_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `len` bytes may pass.
    async fn take(&self, len: usize) {
        let Some(rate) = self.rate else { return };
        let cost = Duration::from_secs_f64(len as f64 / rate.max(1) as f64);
        let until = {
            let mut paid_until = self.paid_until();
            *paid_until = (*paid_until).max(Instant::now()) + cost;
            *paid_until
        };
        tokio::time::sleep_until(until.checked_sub(BURST).unwrap_or(until)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    async fn relayed(options: PathOptions) -> (Relay, TcpStream, TcpStream) {
        let target = TcpListener::bind(ANY).await.unwrap();
        let relay = Relay::start(ANY, target.local_addr().unwrap(), options).unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(relay.address()), target.accept());
        (relay, near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_and_their_end_take_as_long_as_the_path_says() {
        let delay = Duration::from_millis(20);
        let (_relay, mut near, mut far) = relayed(PathOptions { rate: Some(1_000_000), delay }).await;
        let start = Instant::now();
        let writer = async {
            near.write_all(&[7; 50_000]).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (_, read) = tokio::join!(writer, far.read_to_end(&mut received));
        assert_eq!((read.unwrap(), received), (50_000, vec![7; 50_000]));
        assert!(start.elapsed() >= delay + Duration::from_millis(50) - BURST);
    }

    #[tokio::test]
    async fn a_reset_is_seen_on_both_sides() {
        let (relay, mut near, mut far) = relayed(PathOptions { rate: None, delay: Duration::ZERO }).await;
        near.write_all(b"up").await.unwrap();
        far.read_exact(&mut [0; 2]).await.unwrap();
        relay.reset();
        let kind = |result: io::Result<usize>| result.unwrap_err().kind();
        assert_eq!(kind(near.read(&mut [0]).await), io::ErrorKind::ConnectionReset);
        assert_eq!(kind(far.read(&mut [0]).await), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn what_a_stalled_path_held_up_comes_after_it_resumes() {
        let (relay, mut near, mut far) = relayed(PathOptions { rate: None, delay: Duration::ZERO }).await;
        relay.stall();
        near.write_all(b"late").await.unwrap();
        let mut received = [0; 4];
        let early = tokio::time::timeout(Duration::from_millis(20), far.read_exact(&mut received)).await;
        assert!(early.is_err());
        relay.resume();
        far.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"late");
    }
}
