//! A client's paths: which there are, and adding TCP connections.

use std::net::SocketAddr;

use tcpls_core::wire::ids::ConnectionId;

use super::Session;
use super::error::AddTcpError;
use super::events::PathFailures;
use crate::dial::{Local, Path, PathStatus};
#[cfg(doc)]
use crate::net::ClientOptions;
#[cfg(doc)]
use tcpls_core::config::Config;

impl Session {
    /// Opens another TCP connection to `remote`, from `local`, and waits until it has joined the
    /// session. Data may use it as soon as TCP is connected.
    ///
    /// A join without an answer fails after [`Config::join_timeout`], or earlier if the session has another on the same path:
    /// [`keep`](crate::dial::DialOptions::keep).
    ///
    /// Cancel safe: before TCP is connected nothing remains, and no token is spent; later the join continues by itself.
    ///
    /// # Errors
    /// See [`AddTcpError`]. A token is spent only once TCP is connected.
    pub async fn add_tcp(&self, remote: SocketAddr, local: impl Into<Local>) -> Result<ConnectionId, AddTcpError> {
        let path = local.into().to(remote);
        let opened = self.handle().with(|state| state.order_tcp(path))?;
        let (tcp, joined) = opened.await.unwrap_or(Err(AddTcpError::Closed))?;
        match joined.await {
            Ok(Ok(())) => Ok(tcp),
            Ok(Err(fault)) => Err(AddTcpError::Join(fault)),
            Err(_) => Err(AddTcpError::Closed),
        }
    }

    /// Makes the session keep one more TCP connection, to `remote`, from `local`: an address, an interface, or `None`,
    /// for which the routes decide. Whether it is a backup, [`ClientOptions`] determine. Does not wait for it: see [`Session::paths`] and [`Session::path_failures`]. No effect on a server.
    /// While the server accepts no joins at `remote`, it is not dialed.
    pub fn add_path(&self, remote: SocketAddr, local: impl Into<Local>) {
        let path = local.into().to(remote);
        self.handle().with(|state| {
            let now = state.now();
            if let Some(dialer) = &mut state.dialer {
                dialer.add(now, path);
                state.wake_task();
            }
        });
    }

    /// Makes the session keep a TCP connection to an address that the server advertises and
    /// [`ClientOptions::addresses`] allows, from each of [`ClientOptions::locals`]; at most 16 new ones per minute. Like [`Session::add_path`], it does not
    /// wait; [`keep`] determines when the address is dialed.
    ///
    /// [`keep`]: crate::dial::DialOptions::keep
    ///
    /// # Errors
    /// [`AddTcpError::NotAllowed`] if it is not advertised, or not allowed.
    pub fn add_advertised(&self, address: SocketAddr) -> Result<(), AddTcpError> {
        let (now, is_advertised) = self
            .handle()
            .with(|state| (state.now(), state.conn.peer_addresses().any(|(_, advertised)| advertised == address)));
        // The policy is the application's, and may use the session.
        let advice = self.handle().advice().filter(|advice| is_advertised && advice.allows(now, address));
        let advice = advice.ok_or(AddTcpError::NotAllowed(address))?;
        Path::pairs(&[address], &advice.locals).iter().for_each(|path| self.add_path(path.remote, Local::of(path)));
        Ok(())
    }

    /// Client: the pairs of addresses that the session knows, and which TCP connections are in use on them.
    pub fn paths(&self) -> Vec<PathStatus> {
        self.handle().with(|state| state.dialer.iter().flat_map(|dialer| dialer.paths()).collect())
    }

    /// Client: returns the path of an active TCP connection.
    pub fn path_of(&self, tcp: ConnectionId) -> Option<Path> {
        self.paths().into_iter().find(|status| status.tcp == Some(tcp)).map(|status| status.path)
    }

    /// Client: subscribes to failures of TCP connections that the session opens by itself, and tries again. The first
    /// call also gets the last 64 earlier failures.
    pub fn path_failures(&self) -> PathFailures {
        PathFailures { subscriber: self.handle().with(|state| state.failures.subscribe()) }
    }
}
