//! A forwarder between programs and their target: an end that accepts connections of programs, and an end that connects
//! to the target. Each end, the program and the target is a thread with a runtime of its own, on one core for each side.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tcpls_core::Config;
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_harness::dial::{DialOptions, Keep};
use tcpls_harness::net::{ClientOptions, ConnectError, Listener, Runtime, ServerOptions, Session};
use tcpls_harness::proxy::{
    self, Allow, Limits, Server, Target, TcpOutbound, TcpPeer, Tunnel, TunnelOptions, TunnelReport, Users,
    serve_forward, session_config,
};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::listen::listen;
use super::{Way, programs};
use crate::Outcome;
use crate::cores::pin;
use crate::loopback::block_on;
use crate::tls::{PROTOCOL, Tls, server_name};

/// Streams that a session may have open: as many as the commands allow.
const MAX_STREAMS: u32 = 2048;
/// Buffers of tokio's copy, and larger ones.
const BUFFER: usize = 8 * 1024;
const TUNED_BUFFER: usize = 64 * 1024;
/// The cores of the two sides.
const NEAR: usize = 0;
const FAR: usize = 1;

/// Changes when the program has ended.
type Stop = watch::Receiver<()>;

/// Runs `program` beside a target and a forwarder to it, and returns what it returned. It gets the address to connect to.
pub(super) fn with_forwarder<T: Send>(
    tls: &Tls,
    way: Way,
    program: impl FnOnce(SocketAddr) -> Outcome<T> + Send,
) -> Outcome<T> {
    let (running, stop) = watch::channel(());
    let (target, mut address) = start("target", FAR, &stop, programs::target)?;
    let mut ends = vec![target];
    match way {
        Way::Direct => {}
        Way::Rustls | Way::RustlsTuned => {
            let (client, server) = (tls.client(PROTOCOL)?, tls.server(PROTOCOL)?);
            let size = if way == Way::Rustls { BUFFER } else { TUNED_BUFFER };
            let to = address;
            let (end, address_of_server) =
                start("server", FAR, &stop, move |is| rustls_server(is, server.into(), to, size))?;
            ends.push(end);
            let (end, address_of_client) =
                start("client", NEAR, &stop, move |is| rustls_client(is, client.into(), address_of_server, size))?;
            ends.push(end);
            address = address_of_client;
        }
        Way::Tcpls => {
            let client = RustlsClient::new(tls.client(proxy::PROTOCOL)?, &[proxy::PROTOCOL])?;
            let server = RustlsServer::new(tls.server(proxy::PROTOCOL)?, &[proxy::PROTOCOL])?;
            let target = Target::at(address.ip(), address.port());
            let (end, address_of_server) = start("server", FAR, &stop, move |is| tcpls_server(is, server))?;
            ends.push(end);
            let (end, address_of_client) =
                start("client", NEAR, &stop, move |is| tcpls_client(is, client, address_of_server, target))?;
            ends.push(end);
            address = address_of_client;
        }
    }
    let result = thread::scope(|scope| {
        let thread = thread::Builder::new().name("program".to_owned());
        let program = thread.spawn_scoped(scope, move || {
            pin(NEAR);
            program(address)
        })?;
        program.join().map_err(|_| "the program panicked")?
    });
    drop(running);
    for end in ends {
        end.join().map_err(|_| "an end panicked")??;
    }
    result
}

/// Starts an end, and waits until it listens.
fn start<F: Future<Output = Outcome> + Send + 'static>(
    name: &str,
    core: usize,
    stop: &Stop,
    make: impl FnOnce(Sender<SocketAddr>) -> F + Send + 'static,
) -> Outcome<(JoinHandle<Outcome>, SocketAddr)> {
    let (address_is, where_to) = channel();
    let mut stop = stop.clone();
    let end = thread::Builder::new().name(name.to_owned()).spawn(move || {
        pin(core);
        let end = make(address_is);
        block_on(async move {
            tokio::select! {
                ended = end => ended,
                _ = stop.changed() => Ok(()),
            }
        })
    })?;
    match where_to.recv() {
        Ok(address) => Ok((end, address)),
        Err(_) => Err(end.join().map_err(|_| "an end panicked")?.err().unwrap_or_else(|| "an end ended".into())),
    }
}

/// Accepts connections, each with TCP_NODELAY, and gives each to a task.
async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) -> Outcome {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(serve(socket));
    }
}

async fn rustls_server(is: Sender<SocketAddr>, tls: TlsAcceptor, target: SocketAddr, size: usize) -> Outcome {
    let serve = |socket| {
        let tls = tls.clone();
        async move {
            let (Ok(near), Ok(far)) = (tls.accept(socket).await, connect(target).await) else { return };
            copy(near, far, size).await;
        }
    };
    accept(listen(&is)?, serve).await
}

async fn rustls_client(is: Sender<SocketAddr>, tls: TlsConnector, server: SocketAddr, size: usize) -> Outcome {
    let serve = |near| {
        let tls = tls.clone();
        async move {
            let Ok(socket) = connect(server).await else { return };
            let Ok(far) = tls.connect(server_name(), socket).await else { return };
            copy(near, far, size).await;
        }
    };
    accept(listen(&is)?, serve).await
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A connection that fails is dropped; the program notices.
async fn copy(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    mut far: impl AsyncRead + AsyncWrite + Unpin,
    size: usize,
) {
    _ = copy_bidirectional_with_sizes(&mut near, &mut far, size, size).await;
}

/// The configuration of both commands.
fn config() -> Arc<Config> {
    Arc::new(session_config(Config::default(), MAX_STREAMS))
}

async fn tcpls_server(is: Sender<SocketAddr>, tls: RustlsServer) -> Outcome {
    let options = ServerOptions::new(tls).with(|options| options.config = config());
    let mut listener = Listener::bind(&[(Ipv4Addr::LOCALHOST, 0).into()], options)?;
    is.send(listener.local_addresses()[0])?;
    let outbound = TcpOutbound::new(Allow::new(vec!["127.0.0.0/8:*".parse()?]), Duration::from_secs(10));
    let server = Server::new(outbound, Users::default(), Limits::default());
    loop {
        let (session, server) = (listener.accept().await, server.clone());
        tokio::spawn(async move { server.serve(&session, |_| {}).await });
    }
}

async fn tcpls_client(is: Sender<SocketAddr>, tls: RustlsClient, server: SocketAddr, target: Target) -> Outcome {
    let options = ClientOptions::new(tls, server_name()).with(|options| {
        options.config = config();
        options.dial = DialOptions::default().with(|dial| dial.keep = Keep::Session);
    });
    let first = Session::connect(&[server], options.clone()).await?;
    let dial = move || {
        let options = options.clone();
        async move { Session::connect(&[server], options).await }
    };
    let runtime = Runtime::tokio();
    let report = |_: TunnelReport<ConnectError>| {};
    let tunnel = Tunnel::start(&runtime, TunnelOptions::default(), Some(first), dial, report);
    let serve = |socket| {
        let (runtime, tunnel, target) = (runtime.clone(), tunnel.clone(), target.clone());
        async move { drop(serve_forward(&runtime, &tunnel, TcpPeer::new(socket), &target).await) }
    };
    accept(listen(&is)?, serve).await
}
