//! How TCP connections join the sessions of a client: `--resumed-joins`.

use super::Outcome;
use super::library::Client;

/// The form of a client's joins.
#[derive(Clone, Debug, clap::Args)]
pub struct JoinArgs {
    /// Join TCP connections by TLS resumptions, if the server accepts them (--resumed-joins there). Without keys, they look
    /// like those of any TLS client, except for the application protocol in the ClientHello. Joins before the first
    /// ticket of the session, and with other servers, have the form of the draft
    #[arg(long)]
    pub resumed_joins: bool,
}

impl JoinArgs {
    pub(crate) fn apply(&self, tls: Client) -> Outcome<Client> {
        if self.resumed_joins { tls.with_resumed_joins() } else { Ok(tls) }
    }
}
