//! A client: connecting.
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

pub use self::error::ConnectError;
pub use self::options::ClientOptions;
use self::start::Start;
use crate::dial::Path;
use crate::net::session::Session;

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
}
