//! Many connections in one tunnel: they delay each other no more than TCP connections do, and leave nothing behind.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tcpls_core::Config;
use tcpls_harness::net::Session;
use tcpls_harness::proxy::session_config;
use tcpls_harness::sim::Simulation;
use tcpls_harness::sim::scenario::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::support::{ANY, soon_or};
use crate::tunnel::World;
use crate::tunnel_simulated::{ECHO, STUCK, keystroke, program, serve, tunnel};

const MS: Duration = Duration::from_millis(1);
/// Connections that are not read.
const UNREAD: usize = 1000;

/// The server of [`unread_connections_delay_no_other`]: the data that it holds is bounded.
async fn serve_and_count(session: Session) {
    let counted = session.clone();
    let runtime = session.runtime();
    drop(session.runtime().spawn(async move {
        runtime.sleep(15_000 * MS).await;
        let unread = counted.stats().bytes_to_read as u64;
        // Each stream holds its first window. What surrounds the data counts, too.
        assert!((UNREAD as u64 * 16 * 1024..=config().max_session_window * 5 / 4).contains(&unread), "{unread} bytes");
    }));
    serve(session).await;
}

fn config() -> Config {
    session_config(Config::default(), 2048)
}

#[test]
fn unread_connections_delay_no_other() {
    let client = async |session: Session| -> io::Result<()> {
        let runtime = session.runtime();
        let tunnel = tunnel(&session);
        let mut terminal = program(&runtime, &tunnel, ECHO).await?;
        let before = keystroke(&runtime, &mut terminal, 0).await?;
        for _ in 0..UNREAD {
            let mut unread = program(&runtime, &tunnel, STUCK).await?;
            drop(runtime.spawn(async move { while unread.write_all(&[1; 16 * 1024]).await.is_ok() {} }));
        }
        runtime.sleep(10_000 * MS).await;
        for key in 0..20 {
            let took = keystroke(&runtime, &mut terminal, key).await?;
            assert!(took <= before + MS, "{took:?}, and {before:?} alone");
        }
        let mut later = program(&runtime, &tunnel, ECHO).await?;
        later.write_all(&[7; 100_000]).await?;
        later.read_exact(&mut [0; 100_000]).await?;
        runtime.sleep(10_000 * MS).await;
        let held = session.stats().bytes_to_send;
        assert!(held <= 64 * 1024, "{held} bytes");
        session.close(Default::default(), b"").await;
        Ok(())
    };
    Simulation::new(1)
        .path(Path::new("a").rate(1_000_000_000).delay(10 * MS))
        .client_config(config())
        .server_config(config())
        .server(serve_and_count)
        .client(client)
        .limit(60_000 * MS)
        .run()
        .unwrap();
}

/// How a short connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Ending {
    /// The program ends its direction, then the target.
    Program,
    /// The target ends its direction, then the program.
    Target,
    ProgramResets,
    TargetResets,
}

const ENDINGS: [Ending; 4] = [Ending::Program, Ending::Target, Ending::ProgramResets, Ending::TargetResets];

fn reset(socket: &TcpStream) {
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A target whose connections end as their first byte says.
async fn target() -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let ending = ENDINGS[usize::from(socket.read_u8().await?)];
                socket.write_all(b"hello").await?;
                match ending {
                    Ending::Program | Ending::ProgramResets => {
                        let (mut reader, mut writer) = split(socket);
                        copy(&mut reader, &mut writer).await?;
                        writer.shutdown().await?;
                    }
                    Ending::Target => {
                        socket.shutdown().await?;
                        copy(&mut socket, &mut tokio::io::sink()).await?;
                    }
                    Ending::TargetResets => {
                        assert_eq!(socket.read_u8().await?, 1);
                        reset(&socket);
                    }
                }
                io::Result::Ok(())
            });
        }
    });
    address
}

/// A connection that ends like this, once `all` are there.
async fn short(port: SocketAddr, ending: Ending, all: &Barrier) {
    let mut socket = TcpStream::connect(port).await.unwrap();
    socket.write_u8(ending as u8).await.unwrap();
    let mut hello = [0; 5];
    socket.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
    all.wait().await;
    let mut rest = Vec::new();
    match ending {
        Ending::Program => {
            socket.write_all(b"echo").await.unwrap();
            socket.shutdown().await.unwrap();
            socket.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"echo");
        }
        Ending::Target => {
            assert_eq!(socket.read_to_end(&mut rest).await.unwrap(), 0);
            socket.write_all(b"still open").await.unwrap();
            socket.shutdown().await.unwrap();
        }
        Ending::ProgramResets => reset(&socket),
        Ending::TargetResets => {
            socket.write_u8(1).await.unwrap();
            let error = socket.read_to_end(&mut rest).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }
}

#[tokio::test]
async fn connections_that_end_in_every_way_leave_neither_tasks_nor_streams() {
    // Each has four sockets of this process, which may have 1,024; more at the same time are for the benchmark.
    const AT_ONCE: usize = 100;
    const ROUNDS: usize = 10;
    let mut world = World::start(Duration::from_secs(60)).await;
    let port = world.port(Some(target().await.to_string().parse().unwrap())).await;
    let session = world.connected().await;
    let server = world.sessions.recv().await.unwrap();
    short(port, Ending::Program, &Barrier::new(1)).await;
    let is_quiet = || session.stats().streams_open == 0 && server.stats().streams_open == 0;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    while !is_quiet() {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        tokio::task::yield_now().await; // those that have just ended
    }
    let before = tasks();
    for _ in 0..ROUNDS {
        let all = std::sync::Arc::new(Barrier::new(AT_ONCE));
        let start = |number: usize| {
            let all = all.clone();
            async move { short(port, ENDINGS[number % ENDINGS.len()], &all).await }
        };
        // In the order in which they end: those that wait for one that failed never do.
        let mut connections: JoinSet<()> = (0..AT_ONCE).map(start).collect();
        let ended = async {
            while let Some(ended) = connections.join_next().await {
                ended.unwrap();
            }
            // Nor do those of two rounds have sockets at once.
            while !is_quiet() || tasks() > before {
                tokio::task::yield_now().await;
            }
        };
        let state = || format!("{} tasks, {before} before\n{:?}\n{:?}", tasks(), session.stats(), server.stats());
        soon_or(ended, state).await;
    }
    assert!(session.close_reason().is_none(), "all in one session");
}
