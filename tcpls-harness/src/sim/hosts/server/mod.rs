//! The server's host: TCP connections that are not identified yet, claims, and sessions. A client that races handshakes begins several; the
//! applications are in the one that it chose.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use tcpls_core::budget::{self, HolderId, Resource};
use tcpls_core::{Claim, ClaimId, Connection, ConnectionId, Incoming, IncomingId, Side, State, Time};

use self::farm::Farm;
use self::index::{At, Index, Turn};
use super::account::{Account, Entry, SocketOwner};
use super::driver::Driver;
use super::env::Env;
use super::setup::Setup;
use super::tls::Identity;
use crate::net::account::reports::{self, CLAIM_MEMORY, PENDING_MEMORY};
use crate::sim::deadlines::Deadlines;
use crate::sim::network::{Network, Ready, SocketId};
use crate::sim::rng::SimRng;
use crate::sim::scenario::{Bounds, Scenario};
use crate::sim::trace::{Host, Note};

mod farm;
mod index;
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
    /// By number, in the order of admission, as are claims; `admitted` is the last number.
    unidentified: BTreeMap<u64, (PendingTcp, IncomingId)>,
    claims: BTreeMap<u64, (PendingTcp, ClaimId, usize)>,
    admitted: u64,
    index: Index,
    /// The deadlines of sessions, and of the servers' endpoints.
    deadlines: Deadlines,
    endpoint_deadlines: Deadlines,
    /// Sessions that have a client's applications only now.
    newly_served: Vec<usize>,
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
            unidentified: BTreeMap::new(),
            claims: BTreeMap::new(),
            admitted: 0,
            index: Index::default(),
            deadlines: Deadlines::default(),
            endpoint_deadlines: Deadlines::default(),
            newly_served: Vec::new(),
            bounds: scenario.bounds.clone(),
            account: Account::new(&scenario.bounds),
            evicted: 0,
            chosen: BTreeMap::new(),
            early_sessions: 0,
            complaints: Vec::new(),
        }
    }

    /// Returns the next deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        let endpoints = self.endpoint_deadlines.next();
        self.deadlines.next().into_iter().chain(endpoints).chain(self.farm.next()).min()
    }

    /// Notes when a session has something to do.
    fn note_deadline(&mut self, env: &Env, session: usize) {
        let driver = &self.sessions[session].driver;
        // Without a session, as after a restart, a server's applications wait for nothing.
        let applications = driver.serves.and_then(|client| env.transfers[client].next(SIDE));
        self.deadlines.set(session, driver.conn.poll_timeout().into_iter().chain(applications).min());
    }

    /// Notes it for all sessions: their applications have had them.
    pub(crate) fn note_deadlines(&mut self, env: &Env) {
        (0..self.sessions.len()).for_each(|session| self.note_deadline(env, session));
    }

    /// How many joins one server of the farm passed on to another.
    pub(crate) fn hand_overs(&self) -> usize {
        self.farm.hand_overs
    }

    /// The session that has a client's applications.
    pub(crate) fn driver(&self, client: usize) -> Option<&Driver> {
        self.index.serving.get(&client).map(|session| &self.sessions[*session].driver)
    }

    /// The same, to be changed.
    pub(crate) fn driver_mut(&mut self, client: usize) -> Option<&mut Driver> {
        self.index.serving.get(&client).map(|session| &mut self.sessions[*session].driver)
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
        if let Some(session) = self.index.serving.remove(&client) {
            self.sessions[session].driver.serves = None; // it was lost before its handshake was complete
            self.newly_served.push(session);
        }
        let at = first.and_then(|first| self.index.sockets.get(&first).copied());
        if let Some(At::Session(session)) = at {
            self.serve_by(client, session);
        }
    }

    fn serve_by(&mut self, client: usize, session: usize) {
        self.sessions[session].driver.serves = Some(client);
        self.index.serving.insert(client, session);
        self.newly_served.push(session);
    }

    /// Another process takes the place of this one: nothing is left of the sessions, nor of the secret that tokens are made
    /// with.
    pub(crate) fn restart(&mut self, now: Time, net: &mut dyn Network) {
        self.sessions.drain(..).for_each(|session| session.driver.kill(now, net));
        (self.index, self.deadlines, self.endpoint_deadlines) = Default::default();
        self.newly_served.clear();
        let unidentified = std::mem::take(&mut self.unidentified).into_values().map(|(pending, _)| pending);
        let claims = std::mem::take(&mut self.claims).into_values().map(|(pending, ..)| pending);
        let on_their_way = self.farm.restart(&mut self.rng);
        let all = unidentified.chain(claims).chain(on_their_way);
        all.for_each(|pending| net.reset(now, SIDE, pending.socket));
        self.account = Account::new(&self.bounds);
    }

    /// Those for whom something changed, or whose deadline has come act until nothing is left to do at this time; or `all`.
    /// Returns the clients whose sessions have acted.
    pub(crate) fn run(&mut self, env: &mut Env, all: bool, ready: &Ready) -> BTreeSet<usize> {
        env.trace.set_place(Host::Server.place());
        // An account may have anyone give way.
        let all = all || self.account.is_some();
        let mut turn = self.turn(env.now, all, ready);
        self.accept(env, &mut turn);
        let mut clients = BTreeSet::new();
        loop {
            for session in std::mem::take(&mut turn.sessions) {
                let driver = &mut self.sessions[session].driver;
                driver.run(env);
                self.early_sessions += usize::from(std::mem::take(&mut driver.has_early_data));
                driver.events.clear();
                clients.extend(driver.serves);
                // A claim can be decided by what happens elsewhere in its session.
                turn.claims.extend(self.index.claims_of(session));
                self.note_deadline(env, session);
            }
            self.run_claims(env, &mut turn);
            if self.settle(env) {
                turn.sessions.extend(0..self.sessions.len());
            }
            if turn.sessions.is_empty() {
                break;
            }
        }
        if self.account.is_some() {
            self.note_deadlines(env);
            turn.servers.extend(self.unidentified.values().map(|(pending, _)| pending.server));
        }
        for server in std::mem::take(&mut turn.servers) {
            self.endpoint_deadlines.set(server, self.farm.timeout_of(server));
        }
        clients
    }

    fn turn(&mut self, now: Time, all: bool, ready: &Ready) -> Turn {
        let mut turn = Turn::default();
        let newly_served = std::mem::take(&mut self.newly_served);
        match ready {
            Ready::Sockets(sockets) if !all => {
                let at = sockets.iter().filter_map(|socket| self.index.sockets.get(socket));
                at.for_each(|at| turn.add(*at));
                turn.sessions.extend(self.deadlines.due(now).chain(newly_served));
            }
            _ => {
                turn.sessions.extend(0..self.sessions.len());
                turn.claims.extend(self.claims.keys());
                turn.unidentified.extend(self.unidentified.keys());
            }
        }
        turn
    }

    fn accept(&mut self, env: &mut Env, turn: &mut Turn) {
        while let Some((socket, path)) = env.net.accept() {
            env.trace.note(env.now, &Note::Accepted { socket: socket.0 });
            let server = self.farm.select();
            let owner = env.owners.get(&socket).copied();
            let client = self.account.as_ref().map_or(budget::Client::ALONE, |account| account.client(owner));
            let held = [(Resource::Pending, 1), (Resource::Descriptors, 1), (Resource::Memory, PENDING_MEMORY)];
            let holder = self.account.as_mut().map(|account| account.enter(env.now, client, &held));
            let (input, was_passed_on) = (BytesMut::new(), false);
            self.meet(env.now, PendingTcp { socket, path, server, was_passed_on, input, client, holder }, turn);
            self.settle(env);
        }
        for pending in self.farm.arrived(env.now) {
            self.meet(env.now, pending, turn);
        }
        let late: Vec<usize> = self.endpoint_deadlines.due(env.now).collect();
        for server in late {
            turn.servers.insert(server);
            self.refuse_late(env, server);
        }
        for number in std::mem::take(&mut turn.unidentified) {
            let Some((mut pending, incoming)) = self.unidentified.remove(&number) else { continue };
            turn.servers.insert(pending.server);
            env.read(SIDE, pending.socket, &mut pending.input);
            let known = self.farm.endpoint(pending.server).handle_bytes(env.now, incoming, &mut pending.input);
            if known.is_none() && env.net.end(SIDE, pending.socket).is_none() {
                self.unidentified.insert(number, (pending, incoming));
                continue;
            }
            self.index.sockets.remove(&pending.socket);
            match known {
                Some(known) => self.admit(env, pending, known, turn),
                None => {
                    self.farm.endpoint(pending.server).handle_end(incoming);
                    self.leave(&pending);
                    env.net.close(env.now, SIDE, pending.socket);
                }
            }
        }
    }

    /// A TCP connection reaches a server.
    fn meet(&mut self, now: Time, pending: PendingTcp, turn: &mut Turn) {
        let incoming = self.farm.endpoint(pending.server).handle_accepted(now);
        let number = self.number();
        self.index.sockets.insert(pending.socket, At::Unidentified(number));
        turn.unidentified.insert(number);
        self.unidentified.insert(number, (pending, incoming));
    }

    fn number(&mut self) -> u64 {
        self.admitted += 1;
        self.admitted
    }

    /// Refuses TCP connections whose ClientHello is overdue at a server.
    fn refuse_late(&mut self, env: &mut Env, server: usize) {
        self.farm.endpoint(server).handle_timeout(env.now);
        while let Some((incoming, alert)) = self.farm.endpoint(server).poll_refused() {
            let is_refused = |(_, (pending, other)): &(&u64, &(PendingTcp, IncomingId))| {
                pending.server == server && *other == incoming
            };
            let number = self.unidentified.iter().find(is_refused).map(|(number, _)| *number);
            if let Some((pending, _)) = number.and_then(|number| self.unidentified.remove(&number)) {
                self.index.sockets.remove(&pending.socket);
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

    fn admit(&mut self, env: &mut Env, mut pending: PendingTcp, incoming: Incoming, turn: &mut Turn) {
        self.leave(&pending);
        let client = pending.client;
        match incoming {
            Incoming::New(session) => {
                let tls = self.identity.server();
                let (config, recorder) = (self.setup.config.clone(), self.setup.recorder());
                let conn = Connection::server_with(env.now, config, tls, session, self.rng.seed(), recorder);
                let place = Host::Server.session(pending.socket);
                let mut driver = Driver::new(env, place, conn, &self.setup).with_handles(env.handles());
                driver.attach(env, ConnectionId::FIRST, pending.socket, pending.path, pending.input);
                let entry =
                    self.account.as_mut().map(|account| account.enter_session(env.now, client, &reports::FIRST));
                let (number, socket) = (self.sessions.len(), pending.socket);
                self.index.sockets.insert(socket, At::Session(number));
                self.index.ids.extend(driver.conn.session_id().map(|id| (id, number)));
                turn.sessions.insert(number);
                self.sessions.push(Session { driver, client, entry });
                if let Some(SocketOwner::Client(owner)) = env.owners.get(&socket).copied()
                    && self.chosen.get(&owner) == Some(&socket)
                {
                    self.serve_by(owner, number);
                }
            }
            Incoming::Join(join) => {
                let bounded = self.account.is_some();
                let is_taken = |conn: &Connection| {
                    let is_forgotten = bounded && conn.state() == State::Closed; // as by a listener
                    !is_forgotten && !conn.turns_away(&join)
                };
                let known = self.index.ids.get(&join.session()).copied();
                let taken = known.filter(|session| is_taken(&self.sessions[*session].driver.conn));
                let Some(session) = taken else {
                    pending.holder = None;
                    return match self.farm.endpoint(pending.server).decline_join(join, &mut pending.input) {
                        Ok(session) => self.admit(env, pending, Incoming::New(session), turn),
                        Err(alert) => refuse(env, &pending, &alert),
                    };
                };
                let claim = self.sessions[session].driver.conn.handle_join(env.now, join);
                let held = [(Resource::Claims, 1), (Resource::Descriptors, 1), (Resource::Memory, CLAIM_MEMORY)];
                pending.holder = self.account.as_mut().map(|account| account.enter(env.now, client, &held));
                let number = self.number();
                self.index.add_claim(pending.socket, number, session);
                turn.claims.insert(number);
                self.claims.insert(number, (pending, claim, session));
            }
            Incoming::Foreign(_) if pending.was_passed_on => {
                self.complaints.push("a join was passed on to a server that does not have its session".to_owned());
                env.net.reset(env.now, SIDE, pending.socket);
            }
            Incoming::Foreign(join) => self.farm.pass_on(env.now, join.session().server(), pending),
            Incoming::Refused { alert } => refuse(env, &pending, &alert),
        }
    }

    /// Asks those claims whose turn it is; sessions that let one in have another turn.
    fn run_claims(&mut self, env: &mut Env, turn: &mut Turn) {
        for number in std::mem::take(&mut turn.claims) {
            let Some((mut pending, claim, session)) = self.claims.remove(&number) else { continue };
            let driver = &mut self.sessions[session].driver;
            env.trace.set_place(driver.place);
            if pending.input.len() < MAX_HELD {
                env.read(SIDE, pending.socket, &mut pending.input);
            }
            let outcome = driver.conn.handle_claim_bytes(env.now, claim, &mut pending.input);
            let mut out = Vec::new();
            driver.conn.poll_claim_transmit(claim, &mut out);
            env.write(SIDE, pending.socket, &out);
            let has_ended = outcome == Claim::Waiting && env.net.end(SIDE, pending.socket).is_some();
            if outcome == Claim::Waiting && !has_ended {
                if let (Some(account), Some(holder)) = (&mut self.account, pending.holder) {
                    account.set_memory(holder, CLAIM_MEMORY + pending.input.len() as u64);
                }
                self.claims.insert(number, (pending, claim, session));
                self.note_deadline(env, session);
                continue;
            }
            self.index.remove_claim(pending.socket, number, session);
            if let Claim::Authenticated(tcp) = outcome {
                driver.conn.handle_claim_end(claim);
                driver.attach(env, tcp, pending.socket, pending.path, std::mem::take(&mut pending.input));
                self.leave(&pending);
                self.index.sockets.insert(pending.socket, At::Session(session));
                turn.sessions.insert(session);
                continue;
            }
            if has_ended {
                driver.conn.handle_claim_end(claim);
            }
            self.leave(&pending);
            env.net.close(env.now, SIDE, pending.socket);
            self.note_deadline(env, session);
        }
    }
}

fn refuse(env: &mut Env, pending: &PendingTcp, alert: &[u8]) {
    env.write(SIDE, pending.socket, alert);
    env.net.close(env.now, SIDE, pending.socket);
}
