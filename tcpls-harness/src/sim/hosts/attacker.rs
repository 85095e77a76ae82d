//! An attacker's host: it opens TCP connections one after the other, and sessions in which nothing happens.

use std::rc::Rc;

use bytes::BytesMut;
use tcpls_core::{Connection, ConnectionId, Side, State, Time};

use super::account::SocketOwner;
use super::driver::Driver;
use super::env::Env;
use super::setup::Setup;
use super::tls::Identity;
use crate::sim::network::{Opening, SocketId};
use crate::sim::rng::SimRng;
use crate::sim::scenario::{self, FloodKind, Scenario};
use crate::sim::trace::Host;

const SIDE: Side = Side::Client;

/// See the module's description.
pub(crate) struct Attacker {
    plan: scenario::Flood,
    path: usize,
    setup: Setup,
    identity: Rc<Identity>,
    rng: SimRng,
    opened: u32,
    /// When the next is opened.
    next: Time,
    /// No session, or none yet.
    sockets: Vec<SocketId>,
    sessions: Vec<Driver>,
    /// What was sent is a copy; the answer is not read.
    copies: Vec<SocketId>,
}

impl Attacker {
    pub(crate) fn new(scenario: &Scenario, number: usize, identity: Rc<Identity>, rng: SimRng) -> Self {
        let plan = scenario.flood[number].clone();
        let path = plan.path.as_deref().and_then(|name| scenario.path_number(name)).unwrap_or_default();
        let next = Time::ZERO + plan.at.0;
        let setup = Setup::default();
        Self {
            plan,
            path,
            setup,
            identity,
            rng,
            opened: 0,
            next,
            sockets: Vec::new(),
            sessions: Vec::new(),
            copies: Vec::new(),
        }
    }

    /// When something is to be done, if nothing happens before.
    pub(crate) fn next(&self) -> Option<Time> {
        let opens = (self.opened < self.plan.count).then_some(self.next);
        self.sessions.iter().filter_map(|driver| driver.conn.poll_timeout()).chain(opens).min()
    }

    /// Acts as long as there is anything to do at this moment.
    pub(crate) fn run(&mut self, env: &mut Env) {
        while self.opened < self.plan.count && self.next <= env.now {
            let socket = env.connect(self.path, SocketOwner::Attacker);
            self.sockets.push(socket);
            self.opened += 1;
            self.next += self.plan.every.0;
        }
        for socket in std::mem::take(&mut self.sockets) {
            match env.net.opening(socket) {
                Opening::Failed => env.net.reset(env.now, SIDE, socket),
                Opening::Connected if self.plan.kind == FloodKind::Session => self.start_handshake(env, socket),
                Opening::Connected if self.plan.kind == FloodKind::Replay && env.has_copy() => {
                    env.write_copy(SIDE, socket);
                    self.copies.push(socket);
                }
                Opening::Connected if env.net.end(SIDE, socket).is_some() => env.net.close(env.now, SIDE, socket),
                _ => self.sockets.push(socket),
            }
        }
        self.copies.retain(|socket| {
            let has_ended = env.net.end(SIDE, *socket).is_some();
            if has_ended {
                env.net.close(env.now, SIDE, *socket);
            }
            !has_ended
        });
        for driver in &mut self.sessions {
            driver.run(env);
            driver.events.clear();
        }
        self.sessions.retain(|driver| driver.conn.state() != State::Closed);
    }

    fn start_handshake(&mut self, env: &mut Env, socket: SocketId) {
        let tls = self.identity.client(&mut self.rng, false);
        let conn = Connection::client(env.now, self.setup.config.clone(), tls, self.rng.seed());
        let mut driver = Driver::new(env, Host::Attacker.session(socket), conn, &self.setup);
        driver.attach(env, ConnectionId::FIRST, socket, self.path, BytesMut::new());
        self.sessions.push(driver);
    }
}
