//! Options for connecting as a client.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tcpls_core::config::Config;
use tcpls_core::crypto::TlsClient;
use tcpls_core::error::ConfigError;

use crate::dial::{Backup, DialOptions, Local, MakeDialPolicy};
use crate::net::record::Record;
use crate::net::session::AddressPolicy;
use crate::net::socket::SocketOptions;
use crate::net::tcp_option::OptionPolicy;
#[cfg(feature = "json")]
use crate::trace::qlog::Qlog;
#[cfg(feature = "json")]
use crate::trace::ring::Ring;

/// The shortest time limit for TCP to connect.
const MIN_CONNECT_TIMEOUT: Duration = Duration::from_millis(100);

/// Options for connecting as a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The TLS library with trust, certificates and application protocols. Each handshake of a start is one of it. Whether
    /// a server without TCPLS is accepted is for it to decide: with rustls, [`RustlsClient::tcpls_only`] requires TCPLS.
    ///
    /// [`RustlsClient::tcpls_only`]: tcpls_core::crypto::rustls::RustlsClient::tcpls_only
    pub tls: Arc<dyn TlsClient>,
    /// The name that the server's certificate must contain. The TLS library gets it as text.
    pub server_name: ServerName<'static>,
    /// Limits and timeouts of the session.
    pub config: Arc<Config>,
    /// Socket options.
    pub socket: SocketOptions,
    /// Local ends to connect from, each an address, an interface or both, combined with each server address of the same
    /// family. Each gets an equal share of [`DialOptions::wanted`]. If empty, the operating system's routes decide.
    pub locals: Vec<Local>,
    /// Options for dialing, at the start and after the loss of TCP connections.
    pub dial: DialOptions,
    /// Paths whose TCP connections are backups.
    pub backups: Vec<Backup>,
    /// The policy that decides which TCP connections the client opens when; [`Dialer`](crate::dial::Dialer) if not set.
    pub dial_policy: Option<MakeDialPolicy>,
    /// The policy for addresses that the server advertises.
    pub addresses: AddressPolicy,
    /// Whether [`Session::connect`] returns as soon as a TCP connection is there, if early data can be sent on it: what is
    /// written on streams then goes out with the ClientHello, and the answer takes one round trip. If the server rejects
    /// early data, the session sends it again after the handshake.
    ///
    /// Write only requests that may be repeated: an attacker can copy early data. The TLS configuration must have
    /// early data ([`RustlsClient::with_early_data`]) and a ticket of an earlier session; otherwise this has no effect. No
    /// other path is tried once such a session was returned, because that would send the request twice: if its TCP
    /// connection is lost before the handshake is complete, the session ends, and the application may connect again.
    /// [`Session::handshake_confirmed`] waits for the handshake.
    ///
    /// ```no_run
    /// # async fn example(mut options: tcpls_harness::net::ClientOptions, tls: tcpls_core::crypto::rustls::RustlsClient)
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use tcpls_core::crypto::rustls::EarlyTickets;
    /// use tcpls_harness::net::Session;
    ///
    /// let tickets = Arc::new(EarlyTickets::default()); // one for all sessions of the process
    /// options.tls = Arc::new(tls.with_early_data(tickets));
    /// options.early_data = true;
    /// let session = Session::connect(&["192.0.2.1:443".parse()?], options).await?;
    /// let mut stream = session.open_stream().await?;
    /// stream.write_chunk("GET /".into()).await?; // with the ClientHello, from the second session on
    /// stream.finish()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`RustlsClient::with_early_data`]: tcpls_core::crypto::rustls::RustlsClient::with_early_data
    /// [`Session::connect`]: crate::net::Session::connect
    /// [`Session::handshake_confirmed`]: crate::net::Session::handshake_confirmed
    pub early_data: bool,
    /// Options of this endpoint's sockets that the server may set.
    pub peer_options: Arc<OptionPolicy>,
    /// The file that sessions are recorded in, for a replay. Each attempt to connect that begins a TLS handshake is a
    /// session in it.
    pub record: Option<Record>,
    /// Writes a qlog file for each session (`docs/qlog.md`).
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub qlog: Option<Qlog>,
    /// Keeps the last part of each session's trace in memory, and writes it if something goes wrong (`docs/trace.md`).
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub trace_ring: Option<Ring>,
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
    /// Defaults for everything else; paths are kept in use. `tls` is a [`RustlsClient`], from [`Trust`] or a configuration
    /// of your own, or a provider for another TLS library.
    ///
    /// [`RustlsClient`]: tcpls_core::crypto::rustls::RustlsClient
    /// [`Trust`]: crate::tls::Trust
    pub fn new(tls: impl TlsClient + 'static, server_name: ServerName<'static>) -> Self {
        Self {
            tls: Arc::new(tls),
            server_name,
            config: Arc::default(),
            socket: SocketOptions::default(),
            locals: Vec::new(),
            dial: DialOptions::default(),
            backups: Vec::new(),
            dial_policy: None,
            addresses: AddressPolicy::default(),
            early_data: false,
            peer_options: Arc::default(),
            record: None,
            #[cfg(feature = "json")]
            qlog: None,
            #[cfg(feature = "json")]
            trace_ring: None,
        }
    }

    /// Checks that these options are valid. [`Session::connect`] calls it.
    ///
    /// [`Session::connect`]: crate::net::Session::connect
    ///
    /// # Errors
    /// Returns the first invalid option.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.config.validate()?;
        self.socket.validate()?;
        ConfigError::at_least("wanted", self.dial.wanted as u64, 1, "TCP connection")?;
        ConfigError::lasts("connect_timeout", self.dial.connect_timeout, MIN_CONNECT_TIMEOUT)
    }
}
