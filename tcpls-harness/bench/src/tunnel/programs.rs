//! The programs at both ends of a forwarded connection. The first byte of a connection says what it is for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::SIZE;
use super::listen::listen;
use crate::Outcome;
use crate::loopback::DATA;
use crate::many::resident;

/// Exchanges ahead of those that count.
const WARM_UP: usize = 500;
/// What a program writes and the target reads at once.
const PIECE: usize = 256 * 1024;
/// How long a forwarder may take to close what has ended.
const CLOSING: Duration = Duration::from_secs(10);
/// The target sends back what it receives.
const ECHO: u8 = b'e';
/// The target counts what it receives, and sends the number at the end.
const COUNT: u8 = b'c';

/// The target of all connections.
pub(super) async fn target(address_is: Sender<SocketAddr>) -> Outcome {
    let listener = listen(&address_is)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(answer(socket));
    }
}

async fn answer(mut socket: TcpStream) -> Outcome {
    if socket.read_u8().await? == COUNT {
        let (mut buffer, mut count) = (vec![0; PIECE], 0);
        loop {
            match socket.read(&mut buffer).await? {
                0 => break,
                len => count += len as u64,
            }
        }
        socket.write_u64(count).await?;
        return Ok(());
    }
    let mut buffer = [0; SIZE];
    loop {
        match socket.read(&mut buffer).await? {
            0 => return Ok(()),
            len => socket.write_all(&buffer[..len]).await?,
        }
    }
}

async fn connect(address: SocketAddr, purpose: u8) -> Outcome<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    socket.write_u8(purpose).await?;
    Ok(socket)
}

async fn exchange(socket: &mut TcpStream) -> Outcome {
    socket.write_all(&DATA[..SIZE]).await?;
    socket.read_exact(&mut [0; SIZE]).await?;
    Ok(())
}

/// How long each of `count` exchanges on one connection takes.
pub(super) async fn exchanges(address: SocketAddr, count: usize) -> Outcome<Vec<Duration>> {
    let mut socket = connect(address, ECHO).await?;
    let mut times = Vec::with_capacity(count);
    for index in 0..WARM_UP + count {
        let start = Instant::now();
        exchange(&mut socket).await?;
        if index >= WARM_UP {
            times.push(start.elapsed());
        }
    }
    Ok(times)
}

/// The rate in Gbit/s at which `bytes` arrive at the target, on this many connections together.
pub(super) async fn transfer(address: SocketAddr, bytes: usize, connections: usize) -> Outcome<f64> {
    let mut sockets = Vec::new();
    for _ in 0..connections {
        sockets.push(connect(address, COUNT).await?);
    }
    let (share, start) = (bytes / connections, Instant::now());
    let mut tasks = JoinSet::new();
    for socket in sockets {
        tasks.spawn(upload(socket, share));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok((share * connections) as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9)
}

async fn upload(mut socket: TcpStream, bytes: usize) -> Outcome {
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(PIECE);
        socket.write_all(&DATA[..piece]).await?;
        left -= piece;
    }
    socket.shutdown().await?;
    if socket.read_u64().await? != bytes as u64 {
        return Err("the target has not received everything".into());
    }
    Ok(())
}

/// How many connections with one exchange each there are in a second, of `count`, with `at_once` at a time.
pub(super) async fn short_connections(address: SocketAddr, count: usize, at_once: usize) -> Outcome<f64> {
    let (places, start) = (Arc::new(Semaphore::new(at_once)), Instant::now());
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let place = places.clone().acquire_owned().await?;
        tasks.spawn(async move {
            let mut socket = connect(address, ECHO).await?;
            exchange(&mut socket).await?;
            socket.shutdown().await?;
            if socket.read(&mut [0]).await? != 0 {
                return Err("the target sent too much".into());
            }
            drop(place);
            Outcome::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Waits until the process has no more descriptors than `before`. It fails if a forwarder keeps those of connections that
/// have ended.
pub(super) async fn all_closed(before: usize) -> Outcome {
    let deadline = Instant::now() + CLOSING;
    while open_files()? > before {
        if Instant::now() > deadline {
            return Err(
                format!("{} descriptors are left of connections that have ended", open_files()? - before).into()
            );
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Descriptors of this process.
pub(super) fn open_files() -> Outcome<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

/// Memory of the process in KiB for each of `count` connections that are open, and had an exchange.
pub(super) async fn resident_for_each(address: SocketAddr, count: usize) -> Outcome<f64> {
    let mut sockets = Vec::with_capacity(count);
    sockets.push(opened(address).await?);
    let before = resident()?;
    while sockets.len() < count {
        sockets.push(opened(address).await?);
    }
    Ok((resident()? as f64 - before as f64) / 1024.0 / count as f64)
}

async fn opened(address: SocketAddr) -> Outcome<TcpStream> {
    let mut socket = connect(address, ECHO).await?;
    exchange(&mut socket).await?;
    Ok(socket)
}
