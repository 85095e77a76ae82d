//! An attacker's host: TCP connections that it opens one after the other, and sessions in which nothing happens.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use tcpls_core::{Config, Connection, ConnectionId, Side, State, Time};

use super::account::Origin;
use super::chance::Chance;
use super::driver::{Driver, Env};
use super::net::{Opening, SocketId};
use super::scenario::{self, FloodKind, Scenario};
use super::tls::Identity;
use super::trace::Note;

const SIDE: Side = Side::Client;

/// See the module's description.
pub(super) struct Flood {
    plan: scenario::Flood,
    path: usize,
    config: Arc<Config>,
    identity: Rc<Identity>,
    chance: Chance,
    opened: u32,
    /// When the next is opened.
    next: Time,
    /// No session, or none yet.
    sockets: Vec<SocketId>,
    sessions: Vec<Driver>,
}

impl Flood {
    pub(super) fn new(scenario: &Scenario, number: usize, identity: Rc<Identity>, chance: Chance) -> Self {
        let plan = scenario.flood[number].clone();
        let path = plan.path.as_deref().and_then(|name| scenario.path_number(name)).unwrap_or_default();
        let next = Time::ZERO + plan.at.0;
        let config = Arc::new(Config::default());
        Self { plan, path, config, identity, chance, opened: 0, next, sockets: Vec::new(), sessions: Vec::new() }
    }

    /// When something is to be done, if nothing happens before.
    pub(super) fn next(&self) -> Option<Time> {
        let opens = (self.opened < self.plan.count).then_some(self.next);
        self.sessions.iter().filter_map(|driver| driver.conn.poll_timeout()).chain(opens).min()
    }

    /// Acts as long as there is anything to do at this moment.
    pub(super) fn run(&mut self, env: &mut Env<'_>) {
        while self.opened < self.plan.count && self.next <= env.now {
            let socket = env.connect(self.path, Origin::Attacker);
            self.sockets.push(socket);
            self.opened += 1;
            self.next += self.plan.every.0;
        }
        for socket in std::mem::take(&mut self.sockets) {
            match env.net.opening(socket) {
                Opening::Failed => env.net.reset(env.now, SIDE, socket),
                Opening::Connected if self.plan.kind == FloodKind::Session => self.shake_hands(env, socket),
                Opening::Connected if env.net.end(SIDE, socket).is_some() => env.net.close(env.now, SIDE, socket),
                _ => self.sockets.push(socket),
            }
        }
        for driver in &mut self.sessions {
            driver.run(env);
            driver.heard.clear();
        }
        self.sessions.retain(|driver| driver.conn.state() != State::Closed);
    }

    fn shake_hands(&mut self, env: &mut Env<'_>, socket: SocketId) {
        let tls = self.identity.client(&mut self.chance);
        let conn = Connection::client(env.now, self.config.clone(), tls, self.chance.seed());
        let mut driver = Driver::new(conn, &self.config, None);
        driver.attach(env, ConnectionId::FIRST, socket, self.path, BytesMut::new());
        self.sessions.push(driver);
    }
}

impl Env<'_> {
    /// A client or an attacker opens a TCP connection.
    pub(super) fn connect(&mut self, path: usize, origin: Origin) -> SocketId {
        let socket = self.net.connect(self.now, path);
        self.origins.insert(socket, origin);
        self.trace.note(self.now, Some(SIDE), &Note::Connect { socket: socket.0, path });
        socket
    }
}
