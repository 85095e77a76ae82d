//! What an application says about how a client is to connect.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tcpls_core::config::Config;
use tcpls_core::crypto::rustls::RustlsClient;
use tcpls_core::error::ConfigError;

use crate::dial::{Backup, DialOptions};
use crate::net::session::AddressPolicy;
use crate::net::socket::SocketOptions;

/// The shortest time that TCP may be given to connect.
const MIN_CONNECT_TIMEOUT: Duration = Duration::from_millis(100);

/// How a client connects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Certificates and application protocols. [`RustlsClient::tcpls_only`] insists on TCPLS.
    pub tls: RustlsClient,
    /// Whom the server's certificate must name.
    pub server_name: ServerName<'static>,
    /// Bounds and timeouts of the session.
    pub config: Arc<Config>,
    /// How sockets are tuned.
    pub socket: SocketOptions,
    /// Local addresses to connect from, each together with each of the server's of the same family. None leaves it to the
    /// routes.
    pub locals: Vec<IpAddr>,
    /// What is dialled when, at the start and when TCP connections are lost.
    pub dial: DialOptions,
    /// Paths whose TCP connections are used only while no other lives, whenever they are made.
    pub backups: Vec<Backup>,
    /// Which of the addresses that the server advertises may be connected to.
    pub addresses: AddressPolicy,
}

impl ClientOptions {
    /// Returns these options with a change: `ClientOptions::new(tls, name).with(|options| options.dial.wanted = 2)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl ClientOptions {
    /// Defaults for everything else; paths are kept in use.
    pub fn new(tls: RustlsClient, server_name: ServerName<'static>) -> Self {
        Self {
            tls,
            server_name,
            config: Arc::default(),
            socket: SocketOptions::default(),
            locals: Vec::new(),
            dial: DialOptions::default(),
            backups: Vec::new(),
            addresses: AddressPolicy::default(),
        }
    }

    /// Whether these options can work. [`Session::connect`] asks it.
    ///
    /// [`Session::connect`]: crate::net::Session::connect
    ///
    /// # Errors
    /// The first one that cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.config.validate()?;
        self.socket.validate()?;
        ConfigError::at_least("wanted", self.dial.wanted as u64, 1, "TCP connection")?;
        ConfigError::lasts("connect_timeout", self.dial.connect_timeout, MIN_CONNECT_TIMEOUT)
    }
}
