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

/// Measure throughput and latency of sessions
#[derive(Debug, clap::Subcommand)]
pub enum Perf {
    /// Run the server of a measurement
    ///
    /// Its certificate is self-signed: clients need --insecure. It sends zeros.
    Server(server::Args),
    /// Measure a `perf server`: downloads, uploads, requests
    ///
    /// First come the downloads, then the uploads, then small requests, one after the other on each stream. A size or
    /// number of 0 leaves a part out.
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
