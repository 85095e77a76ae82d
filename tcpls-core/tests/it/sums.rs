//! A server's account over many sessions, as an embedder keeps it: sessions report, and those that it selects are
//! evicted.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tcpls_core::budget::{Budget, Client as Holder, HolderId, Limits, Resource};
use tcpls_core::connection::State;
use tcpls_core::error::CloseReason;
use tcpls_core::time::Time;

use crate::support::{Client, Pair, Server, Setup, bytes};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 4 * MIB;

/// The sessions of a server, each with its client, and what they hold together.
struct World {
    budget: Budget,
    now: Time,
    sessions: Vec<(Option<HolderId>, Pair, u64)>,
}

impl World {
    fn new(limits: Limits) -> Self {
        Self { budget: Budget::new(limits), now: Time::from_millis(1000), sessions: Vec::new() }
    }

    /// A session of a client at 192.0.2.`host`.
    fn connect(&mut self, host: u8) -> usize {
        let mut setup = Setup { seed: self.sessions.len() as u64 + 1, ..Setup::default() };
        setup.server.idle_timeout = None;
        setup.client.idle_timeout = None;
        let pair = setup.established();
        let id = self.budget.enter(self.now, Holder::at(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host))));
        self.budget.set_held(id, Resource::Sessions, 1);
        self.sessions.push((Some(id), pair, 0));
        self.report(self.sessions.len() - 1);
        self.sessions.len() - 1
    }

    /// Reports one session to the account, and evicts the sessions that it selects.
    fn report(&mut self, at: usize) {
        let (id, pair, told) = &mut self.sessions[at];
        let Some(id) = *id else { return };
        let server = pair.server();
        self.budget.set_held(id, Resource::Memory, server.memory() as u64);
        self.budget.set_stranded(self.now, id, matches!(server.state(), State::Stranded { .. }));
        let delivered = server.delivered();
        self.budget.add_delivered(self.now, id, delivered - *told);
        *told = delivered;
        while let Some(eviction) = self.budget.poll_eviction(self.now) {
            let named = self.sessions.iter_mut().find(|(id, _, _)| *id == Some(eviction.holder));
            let (id, pair, _) = named.expect("a session that never was is named");
            let now = pair.now;
            pair.server().evict(now);
            *id = None;
        }
        let held: usize =
            self.sessions.iter_mut().filter(|(id, _, _)| id.is_some()).map(|s| s.1.server().memory()).sum();
        assert!(held as u64 <= self.budget.limits().get(Resource::Memory), "{held}");
    }

    fn sleep(&mut self, time: Duration) {
        self.now += time;
    }

    fn lives(&self, at: usize) -> bool {
        self.sessions[at].0.is_some()
    }
}

#[test]
fn stalled_sessions_of_one_client_cost_no_other_its_session() {
    let mut world = World::new(Limits::UNLIMITED.with(Resource::Memory, LIMIT));
    let honest = world.connect(1);
    for _ in 0..30 {
        let stalled = world.connect(2);
        let pair = &mut world.sessions[stalled].1;
        let stream = pair.open_stream(Server);
        pair.stall(tcpls_core::ConnectionId::FIRST);
        while pair.server().stream(stream).write(&[7; 64 << 10]).is_ok() {
            pair.step(Server);
        }
        world.report(stalled);
        world.sleep(Duration::from_secs(1));
        world.sessions[honest].1.transfer(Server, &bytes(20_000));
        world.report(honest);
        assert!(world.lives(honest));
    }
    let evicted = world.sessions.iter_mut().filter(|(id, _, _)| id.is_none());
    let reasons: Vec<_> = evicted.map(|(_, pair, _)| pair.close_reason(Server)).collect();
    assert!(reasons.len() >= 24, "{}", reasons.len());
    assert!(reasons.iter().all(|reason| *reason == Some(CloseReason::Evicted)));
}

#[test]
fn stranded_client_rejoins_after_a_flood_of_sessions_from_its_address() {
    let mut world = World::new(Limits::UNLIMITED.with(Resource::Sessions, 8));
    let honest = world.connect(1);
    world.sessions[honest].1.transfer(Server, &bytes(50_000));
    world.report(honest);
    world.sessions[honest].1.cut(tcpls_core::ConnectionId::FIRST);
    world.report(honest);
    world.sleep(Duration::from_secs(31));
    for _ in 0..30 {
        let fresh = world.connect(1);
        world.report(fresh);
        world.sleep(Duration::from_millis(500));
    }
    assert!(world.lives(honest));
    let pair = &mut world.sessions[honest].1;
    pair.join();
    pair.transfer(Client, b"and goes on");
}
