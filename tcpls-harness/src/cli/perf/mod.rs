//! `tcpls perf`: how fast sessions are, between two machines or over loopback.
//!
//! The application protocol is that of draft-banks-quic-performance: a stream begins with 8 bytes, the number of bytes
//! that the server is to send; what follows is read and dropped. After the client's end the server sends that many bytes
//! and ends, too.

mod client;
mod server;

use super::Outcome;

/// The application protocol's ALPN name.
const PROTOCOL: &[u8] = b"perf";
/// Data is written in pieces of this size.
const CHUNK: usize = 256 * 1024;

/// Measure how fast sessions are
#[derive(Debug, clap::Subcommand)]
pub enum Perf {
    /// Be measured. The certificate is made on the spot: clients need --insecure
    Server(server::Args),
    /// Measure against a `perf server`: downloads, uploads, requests
    Client(client::Args),
}

/// Measures, or is measured.
///
/// # Errors
/// Something is wrong with the arguments, or the session failed.
pub async fn run(perf: Perf) -> Outcome {
    match perf {
        Perf::Server(args) => server::run(args).await,
        Perf::Client(args) => client::run(args).await,
    }
}
