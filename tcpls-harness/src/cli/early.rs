//! Early data of `get`: `--early-data`, and the file with sessions that lets a later run send it.

use super::Outcome;
use super::library::Client;
#[cfg(feature = "openssl")]
use super::session_cache::SessionCache;
use crate::net::ClientOptions;

/// How a client begins sessions with a server that it knows.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct EarlyArgs {
    /// Send requests as TLS early data, with the ClientHello, in a session that resumes an earlier one: the first byte arrives
    /// one round trip sooner. An attacker can send copies of such requests, which the server answers to the client alone.
    /// The earlier session is one of this run, which a new one replaces; with OpenSSL, also of an earlier run
    /// (--session-cache). If the server rejects early data, it is sent again
    #[arg(long)]
    pub early_data: bool,
    /// Keep sessions in FILE, and resume them: later runs verify no certificate again until a session is at most 7 days old.
    /// Only with --tls openssl. FILE contains secrets, so it must be readable by this user alone; it is created if it does
    /// not exist
    #[cfg(feature = "openssl")]
    #[arg(long, value_name = "FILE")]
    pub session_cache: Option<std::path::PathBuf>,
}

impl EarlyArgs {
    /// Adds what was asked for to a client's TLS configuration.
    ///
    /// # Errors
    /// The TLS library cannot do it.
    pub(crate) fn apply(
        &self,
        tls: Client,
        #[cfg(feature = "openssl")] cache: Option<&SessionCache>,
    ) -> Outcome<Client> {
        #[cfg(feature = "openssl")]
        if let Some(cache) = cache {
            return tls.with_tickets(cache.tickets().clone(), self.early_data);
        }
        Ok(if self.early_data { tls.with_early_data() } else { tls })
    }

    pub(crate) fn apply_to_options(&self, options: &mut ClientOptions) {
        options.early_data = self.early_data;
    }
}
