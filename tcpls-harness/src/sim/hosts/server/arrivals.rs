//! TCP connections that reach the server, until it is known what they are: a new session, a claim of one, or nothing.

use bytes::BytesMut;
use tcpls_core::budget::{self, Resource};
use tcpls_core::{Connection, ConnectionId, Incoming, IncomingId, State, Time};

use super::index::{At, Turn};
use super::{PendingTcp, SIDE, Server, Session};
use crate::net::account::reports::{self, CLAIM_MEMORY, PENDING_MEMORY};
use crate::sim::hosts::account::SocketOwner;
use crate::sim::hosts::driver::Driver;
use crate::sim::hosts::env::Env;
use crate::sim::trace::{Host, Note};

impl Server {
    pub(super) fn accept(&mut self, env: &mut Env, turn: &mut Turn) {
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
    pub(super) fn leave(&mut self, pending: &PendingTcp) {
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
}

pub(super) fn refuse(env: &mut Env, pending: &PendingTcp, alert: &[u8]) {
    env.write(SIDE, pending.socket, alert);
    env.net.close(env.now, SIDE, pending.socket);
}
