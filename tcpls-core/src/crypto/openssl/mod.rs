//! The TLS handshake by OpenSSL 1.1.1 or later: the only place that uses it.
//!
//! OpenSSL runs the handshake over memory, and a key log shows its traffic secrets. From the moment at which this
//! endpoint's application keys exist, nothing that OpenSSL writes is sent: its session tickets and alerts would take
//! record numbers that 0.5-RTT data has taken, too (`docs/decisions/0027-openssl.md`). `records` seals their content
//! again, and holds the only count.
//!
//! `client` and `server` complete the user's configurations, `driver` runs the handshake over a `pipe`, `secrets` reads
//! the key log and derives keys. ALPN negotiates TCPLS ([`alpn`](super::alpn)), or TLS extensions do (`extensions`); `flight`
//! reads what OpenSSL ignores. `tickets` keeps a client's, `resumption` offers one and takes in those that arrive, `early`
//! has early data of both ends; a server decides on it in `gate`, and `shared` has the sessions of several servers. `verify`
//! has what applications add to OpenSSL's verification of certificates.

mod client;
mod driver;
mod early;
mod errors;
mod extensions;
mod flight;
mod gate;
mod pipe;
mod records;
mod resumption;
mod schedule;
mod secrets;
mod server;
mod shared;
#[cfg(test)]
mod tests;
mod tickets;
mod verify;

use std::error::Error;
use std::sync::{Arc, Mutex, OnceLock};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslContextBuilder, SslVersion};

pub use self::client::OpensslClient;
use self::extensions::Agreement;
use self::secrets::Log;
pub use self::server::OpensslServer;
use self::shared::Passage;
pub use self::shared::SharedSessions;
pub use self::tickets::{OpensslTickets, StoredTicket};
pub use self::verify::{refuse_certificate, trust_by_key};

/// What OpenSSL's callbacks find out about one handshake.
#[derive(Default)]
struct Notes {
    log: Log,
    agreement: Agreement,
    passage: Passage,
    /// Why the application refuses the peer's certificate.
    refusal: Mutex<Option<Box<dyn Error + Send + Sync>>>,
}

/// Where a handshake of OpenSSL's keeps its notes.
fn notes_index() -> Result<Index<Ssl, Arc<Notes>>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Arc<Notes>>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let made = Ssl::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| made))
}

/// What both ends' configurations need: TLS 1.3 alone, the extensions, and secrets for the handshake that they belong to.
fn complete(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    let index = notes_index()?;
    context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_max_proto_version(None)?;
    context.set_keylog_callback(move |tls, line| {
        if let Some(notes) = tls.ex_data(index) {
            notes.log.take_line(line);
        }
    });
    extensions::register(context, index)
}
