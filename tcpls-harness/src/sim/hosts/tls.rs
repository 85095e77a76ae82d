//! The ends' handshakes: null crypto or deterministic TLS. The same seed and calls give the same handshake, to the byte.

use tcpls_core::Side;
use tcpls_core::crypto::Handshake;
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_core::testing::tls::start_client;
use tcpls_core::testing::{Ledger, NullHandshake, Tls};

use crate::sim::rng::SimRng;
use crate::sim::scenario::Crypto;

/// Makes the handshakes of one end.
pub(crate) struct Identity {
    kind: Kind,
    ledger: Ledger,
}

enum Kind {
    Null,
    Client(RustlsClient),
    Server(RustlsServer),
}

/// What both ends of a run make their handshakes with.
pub(crate) fn identities(crypto: Crypto, seed: u64, ledger: &Ledger) -> (Identity, Identity) {
    let tls = Tls::default();
    let (client, server) = match crypto {
        Crypto::Null => (Kind::Null, Kind::Null),
        Crypto::Tls => (Kind::Client(tls.client(seed)), Kind::Server(tls.server(seed))),
    };
    let identity = |kind| Identity { kind, ledger: ledger.clone() };
    (identity(client), identity(server))
}

impl Identity {
    /// A client's handshake.
    pub(crate) fn client(&self, rng: &mut SimRng) -> Box<dyn Handshake> {
        self.ledger.watch(match &self.kind {
            Kind::Client(client) => start_client(client),
            _ => Box::new(NullHandshake::new(Side::Client, rng.seed().0)),
        })
    }

    /// A server's handshake.
    pub(crate) fn server(&self) -> Box<dyn Handshake> {
        self.ledger.watch(match &self.kind {
            Kind::Server(server) => server.handshake().expect("the configuration is complete"),
            _ => Box::new(NullHandshake::new(Side::Server, [0; 32])),
        })
    }
}
