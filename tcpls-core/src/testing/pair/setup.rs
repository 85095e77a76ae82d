//! How a pair is made: configurations, cryptography, sockets.

use super::super::Recordings;
use super::super::null::NullHandshake;
use super::super::seed;
use super::super::tls::Tls;
use super::Pair;
use crate::config::Config;
use crate::connection::State;
use crate::crypto::Handshake;
use crate::wire::ids::Side;

/// How a pair is made.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Decides everything that is random.
    pub seed: u64,
    /// The configuration of the client's end.
    pub client: Config,
    /// The configuration of the server's end.
    pub server: Config,
    /// The TLS configuration of both ends; `None` stands for null crypto, which is several times as fast.
    pub tls: Option<Tls>,
    /// The bytes that a socket takes before it is full; 64 KiB at the start.
    pub socket_buffer: usize,
    /// The file that both ends are recorded in, if they are.
    pub recordings: Option<Recordings>,
}

impl Default for Setup {
    fn default() -> Self {
        let (client, server) = (Config::default(), Config::default());
        Self { seed: 1, client, server, tls: Some(Tls::default()), socket_buffer: 64 << 10, recordings: None }
    }
}

impl Setup {
    /// Changes the configuration of both ends.
    pub fn both(mut self, change: impl Fn(&mut Config)) -> Self {
        change(&mut self.client);
        change(&mut self.server);
        self
    }

    /// Returns a pair with one TCP connection that has carried nothing yet.
    pub fn start(self) -> Pair {
        let (client, server): (Box<dyn Handshake>, Box<dyn Handshake>) = match &self.tls {
            Some(tls) => (tls.start_client(self.seed), tls.start_server(self.seed)),
            None => {
                let end = |side| Box::new(NullHandshake::new(side, seed(self.seed).0));
                (end(Side::Client), end(Side::Server))
            }
        };
        Pair::new(self, client, server)
    }

    /// Returns a pair whose handshake is complete.
    pub fn established(self) -> Pair {
        let mut pair = self.start();
        pair.drive();
        assert_eq!(pair.client().state(), State::Established);
        assert_eq!(pair.server().state(), State::Established);
        pair
    }
}
