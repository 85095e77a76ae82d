//! The servers of a farm, and the TCP connections on their way from one to another. A server alone is a farm of one.

use std::time::Duration;

use tcpls_core::wire::ids::ServerId;
use tcpls_core::{Endpoint, EndpointConfig, Time};

use super::PendingTcp;
use crate::sim::rng::SimRng;
use crate::sim::scenario;

/// See the module's description.
pub(super) struct Farm {
    endpoints: Vec<Endpoint>,
    /// How long a server takes to connect to another.
    connect: Duration,
    rng: SimRng,
    /// They reach the server that has their session at these times, which ascend.
    on_their_way: Vec<(Time, PendingTcp)>,
    /// How many were passed on.
    pub(super) hand_overs: usize,
}

impl Farm {
    /// `secrets` has the secret of tokens, and the randomness of the first server; `rng` decides everything that only a farm
    /// has.
    pub(super) fn new(farm: &scenario::Farm, secrets: &mut SimRng, rng: SimRng) -> Self {
        let connect = farm.connect.0;
        let mut new = Self { endpoints: Vec::new(), connect, rng, on_their_way: Vec::new(), hand_overs: 0 };
        new.start(usize::from(farm.servers), secrets);
        new
    }

    fn start(&mut self, servers: usize, secrets: &mut SimRng) {
        let secret = secrets.seed().0;
        self.endpoints.clear();
        for number in 0..servers {
            let is_alone = servers == 1;
            let config = EndpointConfig::default()
                .with(|config| config.server = u16::try_from(number).ok().filter(|_| !is_alone).map(ServerId));
            let seed = if number == 0 { secrets.seed() } else { self.rng.seed() };
            self.endpoints.push(Endpoint::new(config, secret, seed));
        }
    }

    /// Other processes take the place of all, with another secret. Returns what was on its way.
    pub(super) fn restart(&mut self, secrets: &mut SimRng) -> impl Iterator<Item = PendingTcp> + use<> {
        self.start(self.endpoints.len(), secrets);
        std::mem::take(&mut self.on_their_way).into_iter().map(|(_, pending)| pending)
    }

    /// The server that the balancer selects for a TCP connection.
    pub(super) fn select(&mut self) -> usize {
        if self.endpoints.len() == 1 { 0 } else { self.rng.below(self.endpoints.len() as u64) as usize }
    }

    pub(super) fn endpoint(&mut self, server: usize) -> &mut Endpoint {
        &mut self.endpoints[server]
    }

    /// When the endpoint of this server has something to do.
    pub(super) fn timeout_of(&self, server: usize) -> Option<Time> {
        self.endpoints[server].poll_timeout()
    }

    /// Passes a TCP connection on to the server with this ID.
    pub(super) fn pass_on(&mut self, now: Time, to: ServerId, pending: PendingTcp) {
        self.hand_overs += 1;
        let pending = PendingTcp { server: usize::from(to.0), was_passed_on: true, ..pending };
        self.on_their_way.push((now + self.connect, pending));
    }

    /// When the next one arrives.
    pub(super) fn next(&self) -> Option<Time> {
        self.on_their_way.first().map(|(at, _)| *at)
    }

    /// Those that have arrived.
    pub(super) fn arrived(&mut self, now: Time) -> Vec<PendingTcp> {
        let count = self.on_their_way.partition_point(|(at, _)| *at <= now);
        self.on_their_way.drain(..count).map(|(_, pending)| pending).collect()
    }
}
