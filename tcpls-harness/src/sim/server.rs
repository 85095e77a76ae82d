//! The server's host: an endpoint at the door, claims, and sessions. A client that races handshakes begins several; the
//! applications are in the one that it chose.

use std::sync::Arc;

use bytes::BytesMut;
use tcpls_core::budget::{self, HolderId, Resource};
use tcpls_core::{
    Claim, ClaimId, Config, Connection, ConnectionId, Endpoint, EndpointConfig, Incoming, IncomingId, Side, State, Time,
};

use super::account::{Account, Place};
use super::chance::Chance;
use super::driver::{Driver, Env};
use super::net::{Network, SocketId};
use super::scenario::{Bounds, Scenario, Scheduler};
use super::tls::Identity;
use super::trace::Note;
use crate::net::reports::{self, CLAIM_MEMORY, PENDING_MEMORY};

mod settle;

const SIDE: Side = Side::Server;
/// What a claim may send before it is authenticated, as `net::claims` has it.
const MAX_HELD: usize = 64 << 10;

/// See the module's description.
pub(crate) struct Server {
    config: Arc<Config>,
    endpoint: Endpoint,
    scheduler: Option<Scheduler>,
    identity: Identity,
    chance: Chance,
    sessions: Vec<Session>,
    doors: Vec<(Visitor, IncomingId)>,
    claims: Vec<(Visitor, ClaimId, usize)>,
    bounds: Bounds,
    account: Option<Account>,
    /// Sessions that gave way to others.
    pub(crate) evicted: usize,
    /// What is wrong with who gave way.
    pub(crate) complaints: Vec<String>,
}

struct Session {
    driver: Driver,
    /// The socket that carried its handshake.
    first: SocketId,
    client: budget::Client,
    place: Option<Place>,
}

/// A TCP connection that is not part of a session yet.
struct Visitor {
    socket: SocketId,
    path: usize,
    input: BytesMut,
    client: budget::Client,
    holder: Option<HolderId>,
}

impl Server {
    pub(crate) fn new(scenario: &Scenario, identity: Identity, mut chance: Chance) -> Self {
        Self {
            config: Arc::new(scenario.server.config()),
            endpoint: Endpoint::new(EndpointConfig::default(), chance.seed().0, chance.seed()),
            scheduler: scenario.server.scheduler,
            identity,
            chance,
            sessions: Vec::new(),
            doors: Vec::new(),
            claims: Vec::new(),
            bounds: scenario.bounds.clone(),
            account: Account::new(&scenario.bounds),
            evicted: 0,
            complaints: Vec::new(),
        }
    }

    /// When something is to be done, if nothing happens before.
    pub(crate) fn next(&self, env_next: Option<Time>) -> Option<Time> {
        let sessions = self.sessions.iter().filter_map(|session| session.driver.conn.poll_timeout());
        sessions.chain(self.endpoint.poll_timeout()).chain(env_next).min()
    }

    /// The session that has a client's applications.
    pub(crate) fn driver(&self, client: usize) -> Option<&Driver> {
        self.sessions.iter().map(|session| &session.driver).find(|driver| driver.serves == Some(client))
    }

    /// The same, to be changed.
    pub(crate) fn driver_mut(&mut self, client: usize) -> Option<&mut Driver> {
        self.sessions.iter_mut().map(|session| &mut session.driver).find(|driver| driver.serves == Some(client))
    }

    /// Whether the handshake of any session was over.
    pub(crate) fn has_established(&self) -> bool {
        self.sessions.iter().any(|session| session.driver.established)
    }

    /// A client chose the session whose handshake was on this socket.
    pub(crate) fn serve(&mut self, client: usize, first: SocketId) {
        let session = self.sessions.iter_mut().find(|session| session.first == first);
        session.into_iter().for_each(|session| session.driver.serves = Some(client));
    }

    /// Another process takes the place of this one: nothing is left of the sessions, nor of the secret that tokens are made
    /// with.
    pub(crate) fn restart(&mut self, now: Time, net: &mut dyn Network) {
        self.sessions.drain(..).for_each(|session| session.driver.die(now, net));
        let doors = self.doors.drain(..).map(|(visitor, _)| visitor);
        let claims = self.claims.drain(..).map(|(visitor, ..)| visitor);
        doors.chain(claims).for_each(|visitor| net.reset(now, SIDE, visitor.socket));
        self.endpoint = Endpoint::new(EndpointConfig::default(), self.chance.seed().0, self.chance.seed());
        self.account = Account::new(&self.bounds);
    }

    /// Acts as long as there is anything to do at this moment.
    pub(crate) fn run(&mut self, env: &mut Env<'_>) {
        env.trace.of_client(0);
        self.open_door(env);
        loop {
            for Session { driver, .. } in &mut self.sessions {
                env.trace.of_client(driver.serves.unwrap_or_default());
                driver.run(env);
                driver.heard.clear();
            }
            let joined = self.run_claims(env);
            if !(self.settle(env) || joined) {
                return;
            }
        }
    }

    fn open_door(&mut self, env: &mut Env<'_>) {
        while let Some((socket, path)) = env.net.accept() {
            env.trace.note(env.now, Some(SIDE), &Note::Accepted { socket: socket.0 });
            let incoming = self.endpoint.handle_accepted(env.now);
            let origin = env.origins.get(&socket).copied();
            let client = self.account.as_ref().map_or(budget::Client::ALONE, |account| account.client(origin));
            let held = [(Resource::Pending, 1), (Resource::Descriptors, 1), (Resource::Memory, PENDING_MEMORY)];
            let holder = self.account.as_mut().map(|account| account.enter(env.now, client, &held));
            self.doors.push((Visitor { socket, path, input: BytesMut::new(), client, holder }, incoming));
            self.settle(env);
        }
        self.endpoint.handle_timeout(env.now);
        while let Some((incoming, alert)) = self.endpoint.poll_refused() {
            if let Some(at) = self.doors.iter().position(|(_, other)| *other == incoming) {
                let visitor = self.doors.remove(at).0;
                self.leave(&visitor);
                refuse(env, &visitor, &alert);
            }
        }
        for (mut visitor, incoming) in std::mem::take(&mut self.doors) {
            env.net.read(env.now, SIDE, visitor.socket, &mut visitor.input);
            match self.endpoint.handle_bytes(env.now, incoming, &mut visitor.input) {
                Some(known) => self.let_in(env, visitor, known),
                None if env.net.end(SIDE, visitor.socket).is_some() => {
                    self.endpoint.handle_end(incoming);
                    self.leave(&visitor);
                    env.net.close(env.now, SIDE, visitor.socket);
                }
                None => self.doors.push((visitor, incoming)),
            }
        }
    }

    /// A TCP connection is no longer what it was in the account.
    fn leave(&mut self, visitor: &Visitor) {
        if let (Some(account), Some(holder)) = (&mut self.account, visitor.holder) {
            account.leave(holder);
        }
    }

    fn let_in(&mut self, env: &mut Env<'_>, mut visitor: Visitor, incoming: Incoming) {
        self.leave(&visitor);
        let client = visitor.client;
        match incoming {
            Incoming::New(session) => {
                let tls = self.identity.server();
                let conn = Connection::server(env.now, self.config.clone(), tls, session, self.chance.seed());
                let mut driver = Driver::new(conn, &self.config, self.scheduler);
                driver.attach(env, ConnectionId::FIRST, visitor.socket, visitor.path, visitor.input);
                let place = self.account.as_mut().map(|account| account.place(env.now, client, &reports::FIRST));
                self.sessions.push(Session { driver, first: visitor.socket, client, place });
            }
            Incoming::Join(join) => {
                let id = Some(join.session());
                let bounded = self.account.is_some();
                let is_ours = |conn: &Connection| {
                    // A listener forgets sessions that are over.
                    conn.session_id() == id && !(bounded && conn.state() == State::Closed)
                };
                let ours = self.sessions.iter().position(|session| is_ours(&session.driver.conn));
                let Some(session) = ours else { return refuse(env, &visitor, &Endpoint::refuse_join(&join)) };
                let claim = self.sessions[session].driver.conn.handle_join(env.now, join);
                let held = [(Resource::Claims, 1), (Resource::Descriptors, 1), (Resource::Memory, CLAIM_MEMORY)];
                visitor.holder = self.account.as_mut().map(|account| account.enter(env.now, client, &held));
                self.claims.push((visitor, claim, session));
            }
            Incoming::Refused { alert } => refuse(env, &visitor, &alert),
        }
    }

    /// A claim can be decided by what happens elsewhere in its session: all are asked each time. Whether one was let in.
    fn run_claims(&mut self, env: &mut Env<'_>) -> bool {
        let mut progress = false;
        for (mut visitor, claim, session) in std::mem::take(&mut self.claims) {
            let driver = &mut self.sessions[session].driver;
            env.trace.of_client(driver.serves.unwrap_or_default());
            if visitor.input.len() < MAX_HELD {
                env.net.read(env.now, SIDE, visitor.socket, &mut visitor.input);
            }
            let outcome = driver.conn.handle_claim_bytes(env.now, claim, &mut visitor.input);
            let mut out = Vec::new();
            driver.conn.poll_claim_transmit(claim, &mut out);
            env.net.write(env.now, SIDE, visitor.socket, &out);
            match outcome {
                Claim::Authenticated(tcp) => {
                    driver.conn.handle_claim_end(claim);
                    driver.attach(env, tcp, visitor.socket, visitor.path, std::mem::take(&mut visitor.input));
                    self.leave(&visitor);
                    progress = true;
                }
                Claim::Refused => {
                    self.leave(&visitor);
                    env.net.close(env.now, SIDE, visitor.socket);
                }
                Claim::Waiting if env.net.end(SIDE, visitor.socket).is_some() => {
                    driver.conn.handle_claim_end(claim);
                    self.leave(&visitor);
                    env.net.close(env.now, SIDE, visitor.socket);
                }
                Claim::Waiting => {
                    if let (Some(account), Some(holder)) = (&mut self.account, visitor.holder) {
                        account.set_memory(holder, CLAIM_MEMORY + visitor.input.len() as u64);
                    }
                    self.claims.push((visitor, claim, session));
                }
            }
        }
        progress
    }
}

fn refuse(env: &mut Env<'_>, visitor: &Visitor, alert: &[u8]) {
    env.net.write(env.now, SIDE, visitor.socket, alert);
    env.net.close(env.now, SIDE, visitor.socket);
}
