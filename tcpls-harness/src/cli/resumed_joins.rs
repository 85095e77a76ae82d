//! How TCP connections join the sessions of a client.

use super::Outcome;
use super::library::Client;

/// The form of a client's joins.
#[derive(Clone, Debug, clap::Args)]
pub struct JoinArgs {
    /// Join TCP connections by TLS resumptions, if the server accepts them (--resumed-joins there): without keys, they look
    /// like those of any TLS client, except for the application protocol in the ClientHello
    #[arg(long)]
    pub resumed_joins: bool,
}

impl JoinArgs {
    pub(crate) fn apply(&self, tls: Client) -> Outcome<Client> {
        if self.resumed_joins { tls.with_resumed_joins() } else { Ok(tls) }
    }
}
