//! TCPLS (draft-piraux-tcpls) without I/O: TCP and TLS 1.3 combined into one transport. An encrypted session carries
//! many streams over several TCP connections, and acknowledges records, so that a failed TCP connection loses no data.
//!
//! A [`Connection`] is one endpoint of a *session*: a state machine without sockets, clock or randomness of its own.
//! `handle_*` report to it what happened, `poll_*` return what to do next. A value called `tcp` identifies one of its
//! TCP connections. On a server, an [`Endpoint`] reads the first bytes of each accepted TCP connection and decides
//! whether they begin a session or join one. [`Sessions`] holds many sessions for one event loop, and maps sockets to
//! them.
//!
//! # The whole driver
//!
//! The same loop drives both endpoints here, over pipes in memory. A driver for real sockets has the same three steps:
//! report what happened, handle the events, fill every socket that has room.
//!
//! ```
//! use std::sync::Arc;
//! use bytes::BytesMut;
//! use tcpls_core::{Config, Connection, ConnectionId, Endpoint, EndpointConfig, Event, Incoming, Seed, Time};
//! use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
//!
//! # fn tls() -> (RustlsClient, RustlsServer) {
//! #     let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
//! #     let mut roots = rustls::RootCertStore::empty();
//! #     roots.add(made.cert.der().clone()).unwrap();
//! #     let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
//! #     let provider = Arc::new(rustls::crypto::ring::default_provider());
//! #     let client = rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
//! #     let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
//! #     let chain = vec![made.cert.der().clone()];
//! #     let server = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
//! #     let server = server.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
//! #     let names: &[&[u8]] = &[b"echo"];
//! #     (RustlsClient::new(client.into(), names).unwrap(), RustlsServer::new(server.into(), names).unwrap())
//! # }
//! let (client_tls, server_tls) = tls(); // your rustls configurations, completed for TCPLS
//! let (now, config) = (Time::ZERO, Arc::new(Config::default()));
//! let tcp = ConnectionId::FIRST;
//!
//! let name = "localhost".try_into().unwrap();
//! let mut client = Connection::client(now, config.clone(), client_tls.handshake(name).unwrap(), Seed([1; 32]));
//! let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
//!
//! // The server recognizes the TCP connection: a new session or a join.
//! let mut endpoint = Endpoint::new(EndpointConfig::default(), [2; 32], Seed([3; 32]));
//! let incoming = endpoint.handle_accepted(now);
//! let mut out = Vec::new();
//! client.poll_transmit(now, tcp, 64 * 1024, &mut out);
//! to_server.extend_from_slice(&out);
//! let Some(Incoming::New(session)) = endpoint.handle_bytes(now, incoming, &mut to_server) else { panic!() };
//! let mut server = Connection::server(now, config, server_tls.handshake().unwrap(), session, Seed([4; 32]));
//!
//! let (mut request, mut answer) = (None, Vec::new());
//! for _ in 0..8 {
//!     // 1. Report what happened.
//!     server.handle_bytes(now, tcp, &mut to_server);
//!     client.handle_bytes(now, tcp, &mut to_client);
//!     // 2. Handle the events.
//!     while let Some(event) = client.poll_event() {
//!         // The limits of the peer are known, so streams can be opened. If it allows none, this call fails with
//!         // `OpenStreamError::Limit`; `StreamEvent::Available` reports when to try again.
//!         if let Event::Established(_) = event {
//!             let id = client.open_stream().unwrap();
//!             client.stream(id).write(b"hello").unwrap();
//!             client.stream(id).finish().unwrap();
//!             request = Some(id);
//!         }
//!     }
//!     while let Some(id) = server.accept_stream() {
//!         while let Ok(Some(data)) = server.stream(id).read(usize::MAX) {
//!             server.stream(id).write_chunk(&mut data.clone()).unwrap();
//!         }
//!         server.stream(id).finish().unwrap();
//!     }
//!     while let Some(Ok(Some(data))) = request.map(|id| client.stream(id).read(usize::MAX)) {
//!         answer.extend_from_slice(&data);
//!     }
//!     // 3. Fill every socket that has room.
//!     for (conn, pipe) in [(&mut client, &mut to_server), (&mut server, &mut to_client)] {
//!         out.clear();
//!         while conn.poll_transmit(now, tcp, 64 * 1024, &mut out) > 0 {}
//!         pipe.extend_from_slice(&out);
//!     }
//! }
//! assert_eq!(answer, b"hello");
//! ```
// Two calls of OpenSSL's are unsafe: `crypto/openssl/resumption.rs` and `shared.rs` have them, and the proofs that they are sound.
#![cfg_attr(not(feature = "openssl"), forbid(unsafe_code))]
#![cfg_attr(feature = "openssl", deny(unsafe_code))]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod budget;
pub mod config;
pub mod connection;
pub mod crypto;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod sessions;
pub mod stats;
mod stream;
mod tcp;
#[cfg(feature = "testing")]
#[cfg_attr(
    not(feature = "testing-proptest"),
    allow(rustdoc::broken_intra_doc_links, reason = "its page names the strategies")
)]
pub mod testing;
pub mod time;
pub mod token;
pub mod wire;

pub use budget::Budget;
pub use config::{Config, Lanes};
pub use connection::record;
pub use connection::schedule::{self, Scheduler};
pub use connection::trace;
pub use connection::{
    Claim, ClaimId, Connection, JoinOptions, SendProgress, State, Stream, StreamClass, TcpEnd, TcpInfo, TimeoutReason,
};
pub use crypto::rng::Seed;
pub use endpoint::{Endpoint, EndpointConfig, ForeignJoin, Incoming, IncomingId, Join, NewSession};
pub use error::{
    AddressError, AlertDescription, AskOptionError, CloseReason, ConfigError, HandshakeError, HandshakeErrorKind,
    JoinRefusal, OpenStreamError, OpenTcpError, ReadError, TcpError, TcpFault, Violation, WriteError,
};
pub use event::{Established, Event, OptionOutcome, StreamEvent, TcpEvent};
pub use sessions::{SessionKey, Sessions, SocketId};
pub use stats::{Stats, StreamStats, TcpCounters, TcpPhase, TcpStats};
pub use time::Time;
pub use token::{TokenSecret, TokenSecrets};
pub use wire::ids::{AddressId, ConnectionId, ErrorCode, OptionRequestId, ServerId, SessionId, Side, StreamId};

/// The README's example, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
