//! Options for accepting sessions as a server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tcpls_core::budget::{Limits, Resource};
use tcpls_core::config::Config;
use tcpls_core::crypto::TlsServer;
use tcpls_core::endpoint::EndpointConfig;
use tcpls_core::error::{Bound, ConfigError};
use tcpls_core::token::TokenSecrets;

use super::farm::Farm;
use crate::net::network::Network;
use crate::net::record::Record;
use crate::net::socket::SocketOptions;
use crate::net::tcp_option::OptionPolicy;
use crate::rate_limit::RateLimit;
#[cfg(feature = "json")]
use crate::trace::qlog::Qlog;
#[cfg(feature = "json")]
use crate::trace::ring::Ring;

/// Default number of refused TCP connections that linger.
const MAX_REFUSALS: usize = 256;

/// The smallest [`ServerOptions::max_memory`]: with less, a session with its buffers would be evicted at once.
const MIN_MEMORY: u64 = 1 << 20;

/// Default rates of joins that are passed on: each costs both servers a TCP handshake and four HMACs, about 0.2 ms of CPU.
const CLIENT_HAND_OVER_RATE: RateLimit = RateLimit::new(1024, Duration::from_nanos(7_812_500));
const HAND_OVER_RATE: RateLimit = RateLimit::new(8192, Duration::from_micros(500));

/// Options for accepting sessions as a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The TLS library with certificates and application protocols, over TCPLS and over plain TLS.
    pub tls: Arc<dyn TlsServer>,
    /// Limits and timeouts of each session.
    pub config: Arc<Config>,
    /// Limits on TCP connections without a complete ClientHello.
    pub endpoint: EndpointConfig,
    /// Socket options.
    pub socket: SocketOptions,
    /// Sessions that may exist at the same time, stranded ones included. Beyond that, the
    /// rules of [`tcpls_core::budget`] choose one to close. At least 1.
    pub max_sessions: usize,
    /// Sessions whose handshake is not over; they count as sessions, too. Beyond that, one of them is reset. At least 1.
    pub max_handshakes: usize,
    /// Joins that are not authenticated yet, of all sessions. Beyond that, one of them is reset. At least 1.
    pub max_claims: usize,
    /// Bytes of memory that all sessions may hold together, as they estimate it themselves
    /// ([`Connection::memory`](tcpls_core::connection::Connection::memory)); memory of the kernel and of applications is not in it. Beyond that, sessions are
    /// closed by the same rules.
    pub max_memory: u64,
    /// Maximum of open sockets. It should be well below the operating system's limit of file descriptors, because
    /// refused TCP connections that linger and files of the application need some, too.
    pub max_descriptors: usize,
    /// Addresses of proxies that do not name the client: sessions from there do not count as one client.
    pub trusted_proxies: Vec<IpAddr>,
    /// Networks of load balancers that send a PROXY protocol header ([`proxy_protocol`](crate::net::proxy_protocol)) in front of
    /// a client's bytes. A TCP connection from there needs one, and its ClientHello, within
    /// [`EndpointConfig::hello_timeout`]; from elsewhere none is accepted. The client's address in it counts for limits, reports and [`Session::peer_address`]: every host in these
    /// networks can claim any address.
    ///
    /// The kernel's state of such TCP connections says nothing about the client, and is not used to find stalled ones.
    ///
    /// [`Session::peer_address`]: crate::net::Session::peer_address
    pub proxy_protocol: Vec<Network>,
    /// The secrets of tokens, the same at all servers of a farm. `None`: one that this listener makes and does not show.
    pub token_secrets: Option<TokenSecrets>,
    /// The farm that this server is part of (`docs/farms.md`); needs `token_secrets`.
    pub farm: Option<Farm>,
    /// Joins of other servers' sessions that may be passed on to them at the same time. Beyond that, the rules of
    /// [`tcpls_core::budget`] choose one to reset. At least 1.
    pub max_hand_overs: usize,
    /// Joins of other servers' sessions that are passed on to them in a time, of all clients. Beyond that, a join is reset,
    /// so that its client may keep the token.
    pub hand_over_rate: RateLimit,
    /// The same, of each client address (IPv4) or /64 (IPv6).
    pub client_hand_over_rate: RateLimit,
    /// Addresses at which clients reach this server besides those that it listens on, such as public ones in front of a NAT,
    /// for [`Listener::advertise`](crate::net::Listener::advertise). Port 0 stands for the port at which the session's first
    /// TCP connection arrived.
    pub advertise: Vec<SocketAddr>,
    /// Whether [`Listener::accept`](crate::net::Listener::accept) returns a session as soon as early data of it has arrived,
    /// before the client's Finished shows that the early data is no copy of another session's. The application must then
    /// ask [`RecvStream::is_early`](crate::net::RecvStream::is_early), and wait for
    /// [`Session::handshake_confirmed`](crate::net::Session::handshake_confirmed) before it executes what must not be
    /// repeated, or trusts [`Session::peer_certificates`](crate::net::Session::peer_certificates).
    ///
    /// If false, the default, such a session is returned once it is confirmed. Either way, early data arrives only if
    /// [`ServerOptions::tls`] accepts it ([`RustlsServer::with_early_data`]).
    ///
    /// [`RustlsServer::with_early_data`]: tcpls_core::crypto::rustls::RustlsServer::with_early_data
    pub early_data: bool,
    /// Addresses of this server alone, behind a load balancer: clients join there, and nowhere else
    /// ([`Config::joins_at_advertised_only`]), so that no join reaches another server. [`Listener::advertise`] advertises
    /// them, and no address that the server listens on. Clients must reach them. Port 0 stands for each port at
    /// which the listener listens. If empty, clients join at any address.
    ///
    /// [`Listener::advertise`]: crate::net::Listener::advertise
    pub direct: Vec<SocketAddr>,
    /// Options of this endpoint's sockets that clients may set.
    pub peer_options: Arc<OptionPolicy>,
    /// Refused TCP connections that have 1 s to read the reason; others are reset at once.
    pub max_refusals: usize,
    /// The file that sessions are recorded in, for a replay.
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

impl ServerOptions {
    /// Returns these options with a change: `ServerOptions::new(tls).with(|options| options.max_sessions = 100)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl ServerOptions {
    /// Defaults for everything else; at most 10,000 sessions, 1024 of them in their handshake, 1 GiB of memory.
    /// `tls` is a [`RustlsServer`], from [`Identity`] or a configuration of your own, or a provider for another TLS library.
    ///
    /// [`RustlsServer`]: tcpls_core::crypto::rustls::RustlsServer
    /// [`Identity`]: crate::tls::Identity
    pub fn new(tls: impl TlsServer + 'static) -> Self {
        Self {
            tls: Arc::new(tls),
            config: Arc::default(),
            endpoint: EndpointConfig::default(),
            socket: SocketOptions::default(),
            max_sessions: 10_000,
            max_handshakes: 1024,
            max_claims: 1024,
            max_memory: 1 << 30,
            max_descriptors: usize::MAX,
            trusted_proxies: Vec::new(),
            proxy_protocol: Vec::new(),
            token_secrets: None,
            farm: None,
            max_hand_overs: 4096,
            hand_over_rate: HAND_OVER_RATE,
            client_hand_over_rate: CLIENT_HAND_OVER_RATE,
            advertise: Vec::new(),
            early_data: false,
            direct: Vec::new(),
            peer_options: Arc::default(),
            max_refusals: MAX_REFUSALS,
            record: None,
            #[cfg(feature = "json")]
            qlog: None,
            #[cfg(feature = "json")]
            trace_ring: None,
        }
    }

    /// Checks that these options are valid. [`Listener::bind`](crate::net::Listener::bind) calls it.
    ///
    /// # Errors
    /// Returns the first invalid option.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.config.validate()?;
        self.endpoint.validate()?;
        self.socket.validate()?;
        ConfigError::at_least("max_sessions", self.max_sessions as u64, 1, "session")?;
        ConfigError::at_least("max_handshakes", self.max_handshakes as u64, 1, "session")?;
        ConfigError::at_least("max_claims", self.max_claims as u64, 1, "TCP connection")?;
        ConfigError::at_least("max_hand_overs", self.max_hand_overs as u64, 1, "TCP connection")?;
        ConfigError::at_least("hand_over_rate", self.hand_over_rate.burst.into(), 1, "join")?;
        ConfigError::at_least("client_hand_over_rate", self.client_hand_over_rate.burst.into(), 1, "join")?;
        if self.farm.is_some() && self.token_secrets.is_none() {
            return Err(ConfigError::new("farm", Bound::Needs("token_secrets")));
        }
        ConfigError::at_least("max_memory", self.max_memory, MIN_MEMORY, "bytes")?;
        ConfigError::at_least("max_descriptors", self.max_descriptors as u64, 1, "socket")
    }

    /// The limits of the account. None is 0: a new holder needs a place before one is selected to give way.
    pub(super) fn limits(&self) -> Limits {
        let limit = |count: usize| count.max(1) as u64;
        Limits::UNLIMITED
            .with(Resource::Memory, self.max_memory)
            .with(Resource::Descriptors, limit(self.max_descriptors))
            .with(Resource::Pending, limit(self.endpoint.max_pending))
            .with(Resource::Handshakes, limit(self.max_handshakes))
            .with(Resource::Sessions, limit(self.max_sessions))
            .with(Resource::Claims, limit(self.max_claims))
            .with(Resource::HandOvers, limit(self.max_hand_overs))
    }
}
