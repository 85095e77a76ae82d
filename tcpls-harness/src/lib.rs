//! TCPLS over real sockets with tokio, and the `tcpls` command.
//!
//! The protocol is in [`tcpls_core`], which does no I/O. Here is what it needs to run: sockets, a clock, random numbers.
//!
//! | module | feature | contents |
//! | --- | --- | --- |
//! | [`net`] | | sessions, streams and listeners for applications |
//! | [`dial`] | | which pair of addresses a client dials when, without sockets |
//! | [`tls`] | | certificates and keys, as configurations for sessions |
//! | `links` | `interfaces` | which interfaces of a host lead to a server, without sockets |
//! | `proxy` | `proxy` | tunnels: TCP connections of other programs, a stream of a session for each |
//! | `programs` | `programs` | congestion controls as BPF programs, and the process that registers them |
//! | `sim` | `sim` | whole networks in virtual time, and the same applications on them, for tests and experiments |
//! | `trace` | `json` | traces of sessions as JSON lines and as qlog |
//! | `capture` | `capture` | sessions in captures of packets, decrypted with a key log |
//! | `view` | `view` | a page that shows a trace in a browser |
//! | `relay` | `sim` | a path over real sockets that fails on demand |
//! | `http` | `proxy` | heads of HTTP/1.1 messages |
//! | `files` | `files` | a file server and its client |
//! | `cli` | `cli` | the `tcpls` command |
//!
//! Applications need neither `sim` nor `cli`: they switch the default features off and choose a crypto library, `ring` or
//! `aws-lc-rs`. `self-signed` makes certificates on the spot, `system-trust` trusts what the operating system trusts,
//! `openssl` adds OpenSSL as a second TLS library, `interfaces` watches the host's network, `tracing` reports what sessions
//! do to the subscriber of the `tracing` crate, `json` writes it as JSON lines and as qlog.
//!
//! A session over two TCP connections:
//!
#![cfg_attr(feature = "self-signed", doc = "```")]
#![cfg_attr(not(feature = "self-signed"), doc = "```ignore")]
//! use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
//! use tcpls_harness::tls::{Identity, Trust};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let identity = Identity::self_signed(&["localhost".to_owned()])?;
//! let addresses = ["127.0.0.1:0".parse()?, "127.0.0.1:0".parse()?];
//! let mut listener = Listener::bind(&addresses, ServerOptions::new(identity.server(&[b"echo"])?))?;
//! let addresses = listener.local_addresses().to_vec();
//!
//! let server = tokio::spawn(async move {
//!     let session = listener.accept().await;
//!     while let Some(stream) = session.accept_stream().await {
//!         let (mut writer, mut reader) = stream.split();
//!         tokio::io::copy(&mut reader, &mut writer).await?;
//!         writer.shutdown().await?;
//!     }
//!     std::io::Result::Ok(session.closed().await)
//! });
//!
//! let tls = Trust::Pem(identity.certificate_pem().to_owned()).client(&[b"echo"])?;
//! let session = Session::connect(&addresses[..1], ClientOptions::new(tls, "localhost".try_into()?)).await?;
//! session.add_tcp(addresses[1], None).await?;
//!
//! let mut stream = session.open_stream().await?;
//! stream.write_all(b"over whichever has room").await?;
//! stream.shutdown().await?;
//! let mut echo = String::new();
//! stream.read_to_string(&mut echo).await?;
//! assert_eq!(echo, "over whichever has room");
//!
//! session.close(Default::default(), b"done").await;
//! server.await??;
//! # Ok(())
//! # }
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "capture")]
pub mod capture;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "proxy")]
mod der;
pub mod dial;
#[cfg(any(feature = "cli", feature = "files", feature = "json"))]
mod file_id;
#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "proxy")]
pub mod http;
#[cfg(feature = "interfaces")]
pub mod links;
pub mod net;
#[cfg(any(test, feature = "proxy", feature = "self-signed"))]
mod private;
#[cfg(feature = "programs")]
pub mod programs;
#[cfg(feature = "proxy")]
pub mod proxy;
mod rate_limit;
#[cfg(feature = "sim")]
pub mod relay;
#[cfg(feature = "sim")]
pub mod sim;
mod sync;
pub mod tls;
#[cfg(feature = "json")]
pub mod trace;
#[cfg(any(feature = "cli", feature = "view"))]
mod units;
#[cfg(feature = "view")]
pub mod view;

pub use rustls;
pub use tcpls_core as core;

/// The example of this crate's README, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct CrateReadme;

/// The guide to the simulator's examples, compiled with the tests.
#[cfg(all(doctest, feature = "sim"))]
#[doc = include_str!("../../docs/simulation.md")]
struct SimulationGuide;

/// The project's README's examples, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
