//! Connecting: the first TCP connection and its handshake, then joining more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tcpls_core::config::Config;
use tcpls_core::connection::Connection;
use tcpls_core::crypto::rustls::RustlsClient;
use tcpls_core::wire::ids::ConnectionId;
use tokio::net::TcpStream;

use super::advice::{AddressPolicy, Advice};
use super::driver::Driver;
use super::error::{AddTcpError, ConnectError};
use super::os::{now, seed};
use super::paths::{Joining, Keep, Path};
use super::session::Session;
use super::shared::{Handle, Shared};
use super::socket::{Socket, SocketOptions, connect};

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Certificates and application protocols.
    pub tls: RustlsClient,
    /// Whom the server's certificate must name.
    pub server_name: ServerName<'static>,
    /// Bounds and timeouts of the session.
    pub config: Arc<Config>,
    /// How sockets are tuned.
    pub socket: SocketOptions,
    /// How long to wait for one TCP connection to one address.
    pub connect_timeout: Duration,
    /// The local address of the first TCP connection; `None` leaves it to the routes.
    pub local: Option<SocketAddr>,
    /// What the session does by itself when TCP connections are lost. Without any, it waits as long as
    /// [`Config::session_timeout`] says.
    pub keep: Keep,
    /// Which of the addresses that the server advertises may be connected to.
    pub addresses: AddressPolicy,
}

impl ClientOptions {
    /// Defaults for everything else; paths are kept in use.
    pub fn new(tls: RustlsClient, server_name: ServerName<'static>) -> Self {
        Self {
            tls,
            server_name,
            config: Arc::default(),
            socket: SocketOptions::default(),
            connect_timeout: Duration::from_secs(5),
            local: None,
            keep: Keep::default(),
            addresses: AddressPolicy::default(),
        }
    }
}

impl Session {
    /// Connects to the first of `addresses` that can be connected to, and starts a session there. To be called within a
    /// tokio runtime, which the session's task then runs on.
    ///
    /// A server that does not speak TCPLS gives a session all the same: see [`Session::is_tcpls`].
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(addresses: &[SocketAddr], options: ClientOptions) -> Result<Self, ConnectError> {
        let tls = options.tls.handshake(options.server_name.clone()).map_err(ConnectError::Tls)?;
        let (remote, stream) = connect_to_one(addresses, &options).await?;
        let conn = Connection::client(now(), options.config, tls, seed());
        let advice = Advice::new(options.addresses, remote);
        let joining =
            Joining { socket: options.socket, connect_timeout: options.connect_timeout, keep: options.keep, advice };
        let shared = Shared::new(conn, Some(joining));
        let session = Self::new(Handle::new(shared.clone()));
        let path = Path { remote, local: options.local };
        shared.with(|state| state.paths.set(ConnectionId::FIRST, path));
        tokio::spawn(Driver::new(shared, ConnectionId::FIRST, Socket::new(stream, BytesMut::new())));
        session.wait_established().await.map_err(ConnectError::Handshake)?;
        Ok(session)
    }

    /// Makes another TCP connection to `remote`, from `local` if that is given, and joins it to the session. Waits until it
    /// is part of it; data may use it earlier, as soon as TCP is connected.
    ///
    /// # Errors
    /// See [`AddTcpError`]. A token is spent only once TCP is connected.
    pub async fn add_tcp(&self, remote: SocketAddr, local: Option<SocketAddr>) -> Result<ConnectionId, AddTcpError> {
        let server = || AddTcpError::Session(tcpls_core::error::OpenTcpError::Server);
        let joining = self.handle().joining().ok_or_else(server)?;
        let stream = connect(remote, local, joining.connect_timeout, &joining.socket)
            .await
            .map_err(|error| AddTcpError::Tcp(remote, error))?;
        let (tcp, joined) = self.handle().with(|state| state.open_tcp(stream, Path { remote, local }))?;
        match joined.await {
            Ok(Ok(())) => Ok(tcp),
            Ok(Err(fault)) => Err(AddTcpError::Join(fault)),
            Err(_) => Err(AddTcpError::Closed),
        }
    }
}

impl Session {
    /// Like [`Session::add_tcp`], to an address that the server advertises and [`ClientOptions::addresses`] allows; 16 in a
    /// minute at the most.
    ///
    /// # Errors
    /// See [`AddTcpError`]; [`AddTcpError::NotAllowed`] if it is not advertised, or not allowed.
    pub async fn add_advertised(&self, address: SocketAddr) -> Result<ConnectionId, AddTcpError> {
        let is_advertised = self.peer_addresses().contains(&address);
        let allows = |joining: &Joining| is_advertised && joining.advice.allows(now(), address);
        if !self.handle().joining().is_some_and(allows) {
            return Err(AddTcpError::NotAllowed(address));
        }
        self.add_tcp(address, None).await
    }
}

async fn connect_to_one(
    addresses: &[SocketAddr],
    options: &ClientOptions,
) -> Result<(SocketAddr, TcpStream), ConnectError> {
    let mut failure = ConnectError::NoAddress;
    for remote in addresses {
        match connect(*remote, options.local, options.connect_timeout, &options.socket).await {
            Ok(stream) => return Ok((*remote, stream)),
            Err(error) => failure = ConnectError::Tcp(*remote, error),
        }
    }
    Err(failure)
}
