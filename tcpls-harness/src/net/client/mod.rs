//! A client: connecting.
//!
//! | file | subject |
//! | --- | --- |
//! | `options` | options of the application |
//! | `start` | executes the actions of [`crate::dial`] until there is a session |
//! | `error` | errors of the start |

mod error;
mod options;
mod start;

use std::net::SocketAddr;

pub use self::error::ConnectError;
pub use self::options::ClientOptions;
use self::start::Start;
use crate::dial::Path;
use crate::net::session::Session;

impl Session {
    /// Starts a session with the server at these addresses, and waits until it is established, or, with
    /// [`ClientOptions::early_data`], until early data can be sent.
    ///
    /// The addresses are dialed one after the other with short delays, with alternating families (RFC 8305). The first
    /// that connects gets a TLS handshake, and another one does if that makes no progress. With [`Keep::Paths`] the
    /// other addresses join in the background, up to the session's limit of TCP connections. An address that is given
    /// twice is connected to twice. Call it within a tokio runtime, on which the session's task then runs.
    ///
    /// A server without TCPLS gives a plain session, unless [`ClientOptions::tls`] requires TCPLS: see
    /// [`Session::is_tcpls`]. If a TCPLS server requests a client certificate, this returns after the server has accepted it. A server
    /// without TCPLS may refuse it later; the session then ends with [`CloseReason::Handshake`].
    ///
    /// Cancel safe: dropping the future cancels all attempts, and no session remains.
    ///
    /// [`CloseReason::Handshake`]: tcpls_core::error::CloseReason::Handshake
    /// [`Keep::Paths`]: crate::dial::Keep::Paths
    ///
    /// # Errors
    /// See [`ConnectError`], which has the fault of each path.
    pub async fn connect(addresses: &[SocketAddr], options: ClientOptions) -> Result<Self, ConnectError> {
        Self::connect_over(&Path::pairs(addresses, &options.locals), options).await
    }

    /// Starts a session over these paths, in this order; otherwise like [`Session::connect`]. The feature `interfaces` has
    /// a function that chooses paths. [`ClientOptions::locals`] has the marks of the local ends at which they begin.
    ///
    /// # Errors
    /// See [`ConnectError`], which has the fault of each path.
    pub async fn connect_over(paths: &[Path], options: ClientOptions) -> Result<Self, ConnectError> {
        options.validate().map_err(ConnectError::Config)?;
        match paths {
            [] => Err(ConnectError::NoAddress),
            paths => Start::new(paths, options).run().await,
        }
    }
}
