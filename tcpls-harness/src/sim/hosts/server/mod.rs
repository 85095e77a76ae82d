//! The server's host: TCP connections that are not identified yet, claims, and sessions. A client that races handshakes
//! begins several; the applications are in the one that it chose.
//!
//! | file | subject |
//! | --- | --- |
//! | `mod` | the host, whose turn it is |
//! | `arrivals` | TCP connections from their arrival to a session, a claim, or a refusal |
//! | `claims` | claims, until their session lets them in or refuses them |
//! | `farm` | servers behind a balancer, which pass joins on to each other |
//! | `index` | what a socket belongs to, and those whose turn it is |
//! | `settle` | sessions that give way to others |

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use tcpls_core::budget::{self, HolderId};
use tcpls_core::{ClaimId, IncomingId, Side, Time};

use self::farm::Farm;
use self::index::{At, Index, Turn};
use super::account::{Account, Entry};
use super::driver::Driver;
use super::env::Env;
use super::setup::Setup;
use super::tls::Identity;
use crate::sim::deadlines::Deadlines;
use crate::sim::network::{Network, Ready, SocketId};
use crate::sim::rng::SimRng;
use crate::sim::scenario::{Bounds, Scenario};
use crate::sim::trace::Host;

mod arrivals;
mod claims;
mod farm;
mod index;
mod settle;

const SIDE: Side = Side::Server;

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
}
