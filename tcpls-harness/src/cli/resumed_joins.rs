//! How TCP connections join the sessions of a client: `--no-resumed-joins`.

use super::library::Client;

/// The form of a client's joins.
#[derive(Clone, Debug, clap::Args)]
pub struct JoinArgs {
    /// Join TCP connections in the form of the draft, which can be told from TLS. Without this, joins are TLS resumptions if
    /// the server accepts them: without keys, they look like those of any TLS client, except for the application protocol in
    /// the ClientHello
    #[arg(long)]
    pub no_resumed_joins: bool,
}

impl JoinArgs {
    pub(crate) fn apply(&self, tls: Client) -> Client {
        if self.no_resumed_joins { tls.without_resumed_joins() } else { tls }
    }
}
