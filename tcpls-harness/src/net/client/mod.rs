//! A client: connecting, and adding TCP connections.
//!
//! | file | what happens there |
//! | --- | --- |
//! | `options` | what the application wants |
//! | `start` | carries out what [`crate::dial`] decides until there is a session |
//! | `error` | why there is none |

mod error;
mod options;
mod start;

use std::net::SocketAddr;

use tcpls_core::error::OpenTcpError;
use tcpls_core::wire::ids::ConnectionId;

pub use self::error::ConnectError;
pub use self::options::ClientOptions;
use self::start::Start;
use crate::dial::Path;
use crate::net::os::now;
use crate::net::session::AddTcpError;
use crate::net::session::Session;
use crate::net::session::{Joining, Opened};
use crate::net::socket::connect;

impl Session {
    /// Starts a session with the server that has these addresses. They are dialled one after the other without waiting for
    /// long, in turns of families (RFC 8305); the first that connects gets a TLS handshake, and another one if that makes no
    /// progress. With [`Keep::Paths`] the other addresses are joined in the background, as far as the session may have so
    /// many TCP connections. An address that is given twice is connected to twice. To be called within a tokio runtime,
    /// which the session's task then runs on.
    ///
    /// A server that does not speak TCPLS gives a session all the same: see [`Session::is_tcpls`]. [`RustlsClient::tcpls_only`]
    /// insists on TCPLS. If a TCPLS server asks for a client certificate, this returns after the server has accepted it;
    /// a server without TCPLS may refuse it later, and the session ends with [`CloseReason::Handshake`] then.
    ///
    /// Cancel safe: all that is under way is given up, and no session remains.
    ///
    /// [`RustlsClient::tcpls_only`]: tcpls_core::crypto::rustls::RustlsClient::tcpls_only
    /// [`CloseReason::Handshake`]: tcpls_core::error::CloseReason::Handshake
    /// [`Keep::Paths`]: crate::dial::Keep::Paths
    ///
    /// # Errors
    /// See [`ConnectError`]: what went wrong with each of them.
    pub async fn connect(addresses: &[SocketAddr], options: ClientOptions) -> Result<Self, ConnectError> {
        options.validate().map_err(ConnectError::Config)?;
        match Path::pairs(addresses, &options.locals).as_slice() {
            [] => Err(ConnectError::NoAddress),
            paths => Start::new(paths, options).run().await,
        }
    }

    /// Makes another TCP connection to `remote`, from `local` if that is given, and joins it to the session. Waits until it
    /// is part of it; data may use it earlier, as soon as TCP is connected.
    ///
    /// Cancel safe: before TCP is connected nothing remains, and no token is spent; later the join goes on by itself.
    ///
    /// # Errors
    /// See [`AddTcpError`]. A token is spent only once TCP is connected.
    pub async fn add_tcp(&self, remote: SocketAddr, local: Option<SocketAddr>) -> Result<ConnectionId, AddTcpError> {
        let path = Path { remote, local };
        let (tcp, joined) = self.open_tcp(path).await?;
        match joined.await {
            Ok(Ok(())) => Ok(tcp),
            Ok(Err(fault)) => Err(AddTcpError::Join(fault)),
            Err(_) => Err(AddTcpError::Closed),
        }
    }

    /// Makes another TCP connection and begins to join it.
    async fn open_tcp(&self, path: Path) -> Opened {
        #[cfg(feature = "sim")]
        if let Some(opened) = self.handle().with(|state| state.order_tcp(path)) {
            return opened.await.unwrap_or(Err(AddTcpError::Closed));
        }
        let joining = self.handle().joining().ok_or(AddTcpError::Session(OpenTcpError::Server))?;
        self.handle().with(|state| state.check_room())?;
        let connected = tokio::time::timeout(joining.connect_timeout, connect(path, &joining.socket)).await;
        let stream = connected.unwrap_or_else(|elapsed| Err(elapsed.into()));
        let stream = stream.map_err(|error| AddTcpError::Tcp(path.remote, error))?;
        self.handle().with(|state| state.open_tcp(stream, path))
    }

    /// Has the session keep one more TCP connection, to `remote`, from `local` if that is given. Does not wait for it: see
    /// [`Session::paths`] and [`Session::path_failures`]. On a server, without effect.
    pub fn add_path(&self, remote: SocketAddr, local: Option<SocketAddr>) {
        self.handle().with(|state| {
            let now = state.now();
            if let Some(dialer) = &mut state.dialer {
                dialer.add(now, Path { remote, local });
                state.wake_task();
            }
        });
    }

    /// Has the session keep a TCP connection to an address that the server advertises and [`ClientOptions::addresses`] allows;
    /// at most 16 new ones in a minute. Like [`Session::add_path`], it does not wait, and it is [`keep`] that says when the
    /// address is dialled.
    ///
    /// [`keep`]: crate::dial::DialOptions::keep
    ///
    /// # Errors
    /// [`AddTcpError::NotAllowed`] if it is not advertised, or not allowed.
    pub fn add_advertised(&self, address: SocketAddr) -> Result<(), AddTcpError> {
        let is_advertised = self.peer_addresses().contains(&address);
        let allows = |joining: &Joining| is_advertised && joining.advice.allows(now(), address);
        if !self.handle().joining().is_some_and(allows) {
            return Err(AddTcpError::NotAllowed(address));
        }
        self.add_path(address, None);
        Ok(())
    }
}
