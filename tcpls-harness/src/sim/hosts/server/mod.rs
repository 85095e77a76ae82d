//! The server's host: TCP connections that are not identified yet, claims, and sessions. A client that races handshakes begins several; the
//! applications are in the one that it chose.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use tcpls_core::budget::{self, HolderId, Resource};
use tcpls_core::{Claim, ClaimId, Connection, ConnectionId, Incoming, IncomingId, Side, State, Time};

use self::farm::Farm;
use super::account::{Account, Entry};
use super::driver::Driver;
use super::env::Env;
use super::setup::Setup;
use super::tls::Identity;
use crate::net::account::reports::{self, CLAIM_MEMORY, PENDING_MEMORY};
use crate::sim::network::{Network, SocketId};
use crate::sim::rng::SimRng;
use crate::sim::scenario::{Bounds, Scenario};
use crate::sim::trace::{Host, Note};

mod farm;
mod settle;

const SIDE: Side = Side::Server;
/// What a claim may send before it is authenticated, as `net::task` has it.
const MAX_HELD: usize = 64 << 10;

/// See the module's description.
pub(crate) struct Server {
    setup: Setup,
    farm: Farm,
    identity: Identity,
    rng: SimRng,
    sessions: Vec<Session>,
    unidentified: Vec<(PendingTcp, IncomingId)>,
    claims: Vec<(PendingTcp, ClaimId, usize)>,
    bounds: Bounds,
    account: Option<Account>,
    /// Sessions that gave way to others.
    pub(crate) evicted: usize,
    /// The sockets whose sessions clients have chosen, with early data before these begin here.
    chosen: BTreeMap<usize, SocketId>,
    /// Sessions whose early data was accepted.
    pub(crate) early_sessions: usize,
    /// Errors in the choice of sessions that gave way.
    pub(crate) complaints: Vec<String>,
}

struct Session {
    driver: Driver,
    /// The socket that carried its handshake.
    first: SocketId,
    client: budget::Client,
    entry: Option<Entry>,
}

/// A TCP connection that is not part of a session yet.
struct PendingTcp {
    socket: SocketId,
    path: usize,
    /// At which server of the farm it is.
    server: usize,
    was_passed_on: bool,
    input: BytesMut,
    client: budget::Client,
    holder: Option<HolderId>,
}

impl Server {
    pub(crate) fn new(scenario: &Scenario, setup: Setup, identity: Identity, [mut rng, farm]: [SimRng; 2]) -> Self {
        Self {
            setup,
            farm: Farm::new(&scenario.farm, &mut rng, farm),
            identity,
            rng,
            sessions: Vec::new(),
            unidentified: Vec::new(),
            claims: Vec::new(),
            bounds: scenario.bounds.clone(),
            account: Account::new(&scenario.bounds),
            evicted: 0,
            chosen: BTreeMap::new(),
            early_sessions: 0,
            complaints: Vec::new(),
        }
    }

    /// Returns the next deadline.
    pub(crate) fn next(&self, env_next: Option<Time>) -> Option<Time> {
        let sessions = self.sessions.iter().filter_map(|session| session.driver.conn.poll_timeout());
        let unidentified = self.unidentified.iter().filter_map(|(pending, _)| self.farm.timeout_of(pending.server));
        sessions.chain(unidentified).chain(self.farm.next()).chain(env_next).min()
    }

    /// How many joins one server of the farm passed on to another.
    pub(crate) fn hand_overs(&self) -> usize {
        self.farm.hand_overs
    }

    /// The session that has a client's applications.
    pub(crate) fn driver(&self, client: usize) -> Option<&Driver> {
        self.sessions.iter().map(|session| &session.driver).find(|driver| driver.serves == Some(client))
    }

    /// The clients whose applications have a session.
    pub(crate) fn served(&self) -> impl Iterator<Item = usize> {
        self.sessions.iter().filter_map(|session| session.driver.serves)
    }

    /// The same, to be changed.
    pub(crate) fn driver_mut(&mut self, client: usize) -> Option<&mut Driver> {
        self.sessions.iter_mut().map(|session| &mut session.driver).find(|driver| driver.serves == Some(client))
    }

    /// Whether the handshake of any session was over.
    pub(crate) fn has_established(&self) -> bool {
        self.sessions.iter().any(|session| session.driver.established)
    }

    /// The sessions.
    pub(crate) fn drivers(&mut self) -> impl Iterator<Item = &mut Driver> {
        self.sessions.iter_mut().map(|session| &mut session.driver)
    }

    /// A client chose the session whose handshake was on this socket, or has none.
    pub(crate) fn serve(&mut self, client: usize, first: Option<SocketId>) {
        let before = match first {
            Some(first) => self.chosen.insert(client, first),
            None => self.chosen.remove(&client),
        };
        if before == first {
            return;
        }
        for session in &mut self.sessions {
            if Some(session.first) == first {
                session.driver.serves = Some(client);
            } else if session.driver.serves == Some(client) {
                session.driver.serves = None; // it was lost before its handshake was complete
            }
        }
    }

    /// Another process takes the place of this one: nothing is left of the sessions, nor of the secret that tokens are made
    /// with.
    pub(crate) fn restart(&mut self, now: Time, net: &mut dyn Network) {
        self.sessions.drain(..).for_each(|session| session.driver.kill(now, net));
        let unidentified = self.unidentified.drain(..).map(|(pending, _)| pending);
        let claims = self.claims.drain(..).map(|(pending, ..)| pending);
        let on_their_way = self.farm.restart(&mut self.rng);
        let all = unidentified.chain(claims).chain(on_their_way);
        all.for_each(|pending| net.reset(now, SIDE, pending.socket));
        self.account = Account::new(&self.bounds);
    }

    /// Acts until nothing is left to do at this time.
    pub(crate) fn run(&mut self, env: &mut Env) {
        env.trace.set_place(Host::Server.place());
        self.accept(env);
        loop {
            for Session { driver, .. } in &mut self.sessions {
                driver.run(env);
                self.early_sessions += usize::from(std::mem::take(&mut driver.has_early_data));
                driver.events.clear();
            }
            let joined = self.run_claims(env);
            if !(self.settle(env) || joined) {
                return;
            }
        }
    }

    fn accept(&mut self, env: &mut Env) {
        while let Some((socket, path)) = env.net.accept() {
            env.trace.note(env.now, &Note::Accepted { socket: socket.0 });
            let server = self.farm.select();
            let incoming = self.farm.endpoint(server).handle_accepted(env.now);
            let owner = env.owners.get(&socket).copied();
            let client = self.account.as_ref().map_or(budget::Client::ALONE, |account| account.client(owner));
            let held = [(Resource::Pending, 1), (Resource::Descriptors, 1), (Resource::Memory, PENDING_MEMORY)];
            let holder = self.account.as_mut().map(|account| account.enter(env.now, client, &held));
            let (input, was_passed_on) = (BytesMut::new(), false);
            let pending = PendingTcp { socket, path, server, was_passed_on, input, client, holder };
            self.unidentified.push((pending, incoming));
            self.settle(env);
        }
        for pending in self.farm.arrived(env.now) {
            let incoming = self.farm.endpoint(pending.server).handle_accepted(env.now);
            self.unidentified.push((pending, incoming));
        }
        let servers: BTreeSet<usize> = self.unidentified.iter().map(|(pending, _)| pending.server).collect();
        servers.into_iter().for_each(|server| self.refuse_late(env, server));
        for (mut pending, incoming) in std::mem::take(&mut self.unidentified) {
            env.read(SIDE, pending.socket, &mut pending.input);
            match self.farm.endpoint(pending.server).handle_bytes(env.now, incoming, &mut pending.input) {
                Some(known) => self.admit(env, pending, known),
                None if env.net.end(SIDE, pending.socket).is_some() => {
                    self.farm.endpoint(pending.server).handle_end(incoming);
                    self.leave(&pending);
                    env.net.close(env.now, SIDE, pending.socket);
                }
                None => self.unidentified.push((pending, incoming)),
            }
        }
    }

    /// Refuses TCP connections whose ClientHello is overdue at a server.
    fn refuse_late(&mut self, env: &mut Env, server: usize) {
        self.farm.endpoint(server).handle_timeout(env.now);
        while let Some((incoming, alert)) = self.farm.endpoint(server).poll_refused() {
            let is_refused =
                |(pending, other): &(PendingTcp, IncomingId)| pending.server == server && *other == incoming;
            if let Some(at) = self.unidentified.iter().position(is_refused) {
                let pending = self.unidentified.remove(at).0;
                self.leave(&pending);
                refuse(env, &pending, &alert);
            }
        }
    }

    /// A TCP connection changes its kind in the account.
    fn leave(&mut self, pending: &PendingTcp) {
        if let (Some(account), Some(holder)) = (&mut self.account, pending.holder) {
            account.leave(holder);
        }
    }

    fn admit(&mut self, env: &mut Env, mut pending: PendingTcp, incoming: Incoming) {
        self.leave(&pending);
        let client = pending.client;
        match incoming {
            Incoming::New(session) => {
                let tls = self.identity.server();
                let (config, recorder) = (self.setup.config.clone(), self.setup.recorder());
                let conn = Connection::server_with(env.now, config, tls, session, self.rng.seed(), recorder);
                let place = Host::Server.session(pending.socket);
                let mut driver = Driver::new(env, place, conn, &self.setup).with_handles(env.handles());
                let choice = self.chosen.iter().find(|(_, first)| **first == pending.socket);
                driver.serves = choice.map(|(client, _)| *client);
                driver.attach(env, ConnectionId::FIRST, pending.socket, pending.path, pending.input);
                let entry =
                    self.account.as_mut().map(|account| account.enter_session(env.now, client, &reports::FIRST));
                self.sessions.push(Session { driver, first: pending.socket, client, entry });
            }
            Incoming::Join(join) => {
                let id = Some(join.session());
                let bounded = self.account.is_some();
                let is_ours = |conn: &Connection| {
                    // A listener forgets sessions that are over.
                    conn.session_id() == id && !(bounded && conn.state() == State::Closed)
                };
                let is_taken = |conn: &Connection| is_ours(conn) && !conn.turns_away(&join);
                let taken = self.sessions.iter().position(|session| is_taken(&session.driver.conn));
                let Some(session) = taken else {
                    pending.holder = None;
                    return match self.farm.endpoint(pending.server).decline_join(join, &mut pending.input) {
                        Ok(session) => self.admit(env, pending, Incoming::New(session)),
                        Err(alert) => refuse(env, &pending, &alert),
                    };
                };
                let claim = self.sessions[session].driver.conn.handle_join(env.now, join);
                let held = [(Resource::Claims, 1), (Resource::Descriptors, 1), (Resource::Memory, CLAIM_MEMORY)];
                pending.holder = self.account.as_mut().map(|account| account.enter(env.now, client, &held));
                self.claims.push((pending, claim, session));
            }
            Incoming::Foreign(_) if pending.was_passed_on => {
                self.complaints.push("a join was passed on to a server that does not have its session".to_owned());
                env.net.reset(env.now, SIDE, pending.socket);
            }
            Incoming::Foreign(join) => self.farm.pass_on(env.now, join.session().server(), pending),
            Incoming::Refused { alert } => refuse(env, &pending, &alert),
        }
    }

    /// A claim can be decided by what happens elsewhere in its session: all are asked each time. Whether one was let in.
    fn run_claims(&mut self, env: &mut Env) -> bool {
        let mut progress = false;
        for (mut pending, claim, session) in std::mem::take(&mut self.claims) {
            let driver = &mut self.sessions[session].driver;
            env.trace.set_place(driver.place);
            if pending.input.len() < MAX_HELD {
                env.read(SIDE, pending.socket, &mut pending.input);
            }
            let outcome = driver.conn.handle_claim_bytes(env.now, claim, &mut pending.input);
            let mut out = Vec::new();
            driver.conn.poll_claim_transmit(claim, &mut out);
            env.write(SIDE, pending.socket, &out);
            match outcome {
                Claim::Authenticated(tcp) => {
                    driver.conn.handle_claim_end(claim);
                    driver.attach(env, tcp, pending.socket, pending.path, std::mem::take(&mut pending.input));
                    self.leave(&pending);
                    progress = true;
                }
                Claim::Refused => {
                    self.leave(&pending);
                    env.net.close(env.now, SIDE, pending.socket);
                }
                Claim::Waiting if env.net.end(SIDE, pending.socket).is_some() => {
                    driver.conn.handle_claim_end(claim);
                    self.leave(&pending);
                    env.net.close(env.now, SIDE, pending.socket);
                }
                Claim::Waiting => {
                    if let (Some(account), Some(holder)) = (&mut self.account, pending.holder) {
                        account.set_memory(holder, CLAIM_MEMORY + pending.input.len() as u64);
                    }
                    self.claims.push((pending, claim, session));
                }
            }
        }
        progress
    }
}

fn refuse(env: &mut Env, pending: &PendingTcp, alert: &[u8]) {
    env.write(SIDE, pending.socket, alert);
    env.net.close(env.now, SIDE, pending.socket);
}
