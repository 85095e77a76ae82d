//! The ends' handshakes: null crypto or deterministic TLS. The same seed and calls give the same handshake, to the byte.

use std::sync::Arc;

use tcpls_core::crypto::Handshake;
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_core::testing::tls::start_client;
use tcpls_core::testing::{Ledger, NullHandshake, NullTickets, Pair, Setup, Tls};
use tcpls_core::{Config, Side};

use crate::sim::rng::SimRng;
use crate::sim::scenario::{Crypto, EarlyData, Scenario};

/// The most tickets that a client keeps of a server.
const TICKETS: usize = 4;

/// Makes the handshakes of one end.
pub(crate) struct Identity {
    kind: Kind,
    ledger: Ledger,
}

enum Kind {
    /// With the tickets for early data, if there is any, and the server's configuration; and whether joins are resumptions.
    Null(Option<NullTickets>, Arc<Config>, bool),
    /// One without tickets, and one that has some, if there is early data.
    Client(RustlsClient, Option<RustlsClient>),
    Server(RustlsServer),
}

/// What both ends of a run make their handshakes with.
pub(crate) fn identities(
    scenario: &Scenario,
    seed: u64,
    ledger: &Ledger,
    server: &Arc<Config>,
) -> (Identity, Identity) {
    let early = scenario.early_data;
    let kinds = match scenario.crypto {
        Crypto::Null => {
            let tickets = (early != EarlyData::None).then(NullTickets::default);
            let accepted = tickets.clone().filter(|_| early == EarlyData::Accepted);
            let resumed = scenario.resumed_joins;
            (Kind::Null(tickets, server.clone(), resumed), Kind::Null(accepted, server.clone(), resumed))
        }
        Crypto::Tls => {
            let tls = Tls { resumed_joins: scenario.resumed_joins, ..Tls::default() };
            let (plain, tls_server) = (tls.client(seed), tls.server(seed));
            match early {
                EarlyData::None => (Kind::Client(plain, None), Kind::Server(tls_server)),
                _ => {
                    let tls = Tls { early_client: true, early_server: true, tickets: TICKETS, ..tls };
                    let (client, accepting) = (tls.client(seed), tls.server(seed));
                    fetch_tickets(&client, &accepting, server);
                    let tls_server = if early == EarlyData::Accepted { accepting } else { tls_server };
                    (Kind::Client(plain, Some(client)), Kind::Server(tls_server))
                }
            }
        }
    };
    let identity = |kind| Identity { kind, ledger: ledger.clone() };
    (identity(kinds.0), identity(kinds.1))
}

/// A session before the run, which leaves tickets.
fn fetch_tickets(client: &RustlsClient, server: &RustlsServer, config: &Config) {
    let setup = Setup { server: config.clone(), ..Setup::default() };
    let server = server.handshake().expect("the configuration is complete");
    let mut pair = Pair::new(setup, start_client(client), server);
    pair.drive();
    pair.close(Side::Client, 0, b"");
    pair.drive();
}

impl Identity {
    /// A client's handshake; with `resumes`, one with a ticket, if there is early data in this run.
    pub(crate) fn client(&self, rng: &mut SimRng, resumes: bool) -> Box<dyn Handshake> {
        self.ledger.watch(match &self.kind {
            Kind::Client(_, Some(client)) if resumes => start_client(client),
            Kind::Client(client, _) => start_client(client),
            Kind::Null(Some(tickets), server, resumed) if resumes => {
                null(NullHandshake::resuming(rng.seed().0, tickets.issue(server)), *resumed)
            }
            Kind::Null(.., resumed) => null(NullHandshake::new(Side::Client, rng.seed().0), *resumed),
            Kind::Server(_) => null(NullHandshake::new(Side::Client, rng.seed().0), false),
        })
    }

    /// A server's handshake.
    pub(crate) fn server(&self) -> Box<dyn Handshake> {
        self.ledger.watch(match &self.kind {
            Kind::Server(server) => server.handshake().expect("the configuration is complete"),
            Kind::Null(Some(tickets), _, resumed) => null(NullHandshake::accepting(tickets.clone()), *resumed),
            Kind::Null(.., resumed) => null(NullHandshake::new(Side::Server, [0; 32]), *resumed),
            Kind::Client(..) => null(NullHandshake::new(Side::Server, [0; 32]), false),
        })
    }
}

fn null(tls: NullHandshake, resumes_joins: bool) -> Box<dyn Handshake> {
    Box::new(if resumes_joins { tls.resuming_joins() } else { tls })
}
