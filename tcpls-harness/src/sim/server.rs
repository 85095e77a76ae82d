//! The server's host: an endpoint at the door, claims, and the session.

use std::sync::Arc;

use bytes::BytesMut;
use tcpls_core::crypto::Handshake;
use tcpls_core::{
    Claim, ClaimId, Config, Connection, ConnectionId, Endpoint, EndpointConfig, Incoming, IncomingId, Seed, Side, Time,
};

use super::driver::{Driver, Env};
use super::net::SocketId;
use super::oracle::Oracle;
use super::scenario::{Scenario, Scheduler};
use super::trace::Note;

const SIDE: Side = Side::Server;
/// What a claim may send before it has proven itself, as `net::claims` has it.
const MAX_HELD: usize = 64 << 10;

/// See the module's description.
pub(crate) struct Server {
    config: Arc<Config>,
    endpoint: Endpoint,
    scheduler: Option<Scheduler>,
    tls: Option<(Box<dyn Handshake>, Seed)>,
    pub(crate) driver: Option<Driver>,
    doors: Vec<(Visitor, IncomingId)>,
    claims: Vec<(Visitor, ClaimId)>,
}

/// A TCP connection that is not part of a session yet.
struct Visitor {
    socket: SocketId,
    path: usize,
    input: BytesMut,
}

impl Server {
    pub(crate) fn new(scenario: &Scenario, tls: Box<dyn Handshake>, seed: Seed, endpoint: Seed) -> Self {
        Self {
            config: Arc::new(scenario.server.config()),
            endpoint: Endpoint::new(EndpointConfig::default(), endpoint.0, endpoint),
            scheduler: scenario.server.scheduler,
            tls: Some((tls, seed)),
            driver: None,
            doors: Vec::new(),
            claims: Vec::new(),
        }
    }

    /// When something is to be done, if nothing happens before.
    pub(crate) fn next(&self, env_next: Option<Time>) -> Option<Time> {
        let session = self.driver.as_ref().and_then(|driver| driver.conn.poll_timeout());
        [session, self.endpoint.poll_timeout(), env_next].into_iter().flatten().min()
    }

    /// Acts as long as there is anything to do at this moment.
    pub(crate) fn run(&mut self, env: &mut Env<'_>) {
        self.open_door(env);
        loop {
            self.run_claims(env);
            let Some(driver) = &mut self.driver else { return };
            driver.run(env);
            driver.heard.clear();
            if !self.run_claims(env) {
                return;
            }
        }
    }

    fn open_door(&mut self, env: &mut Env<'_>) {
        while let Some((socket, path)) = env.net.accept() {
            env.trace.note(env.now, Some(SIDE), &Note::Accepted { socket: socket.0 });
            let incoming = self.endpoint.handle_accepted(env.now);
            self.doors.push((Visitor { socket, path, input: BytesMut::new() }, incoming));
        }
        self.endpoint.handle_timeout(env.now);
        while let Some((incoming, alert)) = self.endpoint.poll_refused() {
            if let Some(at) = self.doors.iter().position(|(_, other)| *other == incoming) {
                refuse(env, &self.doors.remove(at).0, &alert);
            }
        }
        for (mut visitor, incoming) in std::mem::take(&mut self.doors) {
            env.net.read(env.now, SIDE, visitor.socket, &mut visitor.input);
            match self.endpoint.handle_bytes(env.now, incoming, &mut visitor.input) {
                Some(known) => self.let_in(env, visitor, known),
                None if env.net.end(SIDE, visitor.socket).is_some() => {
                    self.endpoint.handle_end(incoming);
                    env.net.close(env.now, SIDE, visitor.socket);
                }
                None => self.doors.push((visitor, incoming)),
            }
        }
    }

    fn let_in(&mut self, env: &mut Env<'_>, visitor: Visitor, incoming: Incoming) {
        match incoming {
            Incoming::New(session) => {
                // A run has one session; a hello that a middlebox repeats starts no second one.
                let Some((tls, seed)) = self.tls.take() else { return refuse(env, &visitor, &[]) };
                let conn = Connection::server(env.now, self.config.clone(), tls, session, seed);
                let mut driver = Driver::new(conn, Oracle::new(&self.config), self.scheduler);
                driver.attach(env, ConnectionId::FIRST, visitor.socket, visitor.path, visitor.input);
                self.driver = Some(driver);
            }
            Incoming::Join(join) => {
                let ours = self.driver.as_mut().filter(|driver| driver.conn.session_id() == Some(join.session()));
                let Some(driver) = ours else { return refuse(env, &visitor, &Endpoint::refuse_join(&join)) };
                let claim = driver.conn.handle_join(env.now, join);
                self.claims.push((visitor, claim));
            }
            Incoming::Refused { alert } => refuse(env, &visitor, &alert),
        }
    }

    /// A claim can be decided by what happens elsewhere in the session: all are asked each time. Whether one was let in.
    fn run_claims(&mut self, env: &mut Env<'_>) -> bool {
        let Some(driver) = &mut self.driver else { return false };
        let mut progress = false;
        for (mut visitor, claim) in std::mem::take(&mut self.claims) {
            if visitor.input.len() < MAX_HELD {
                env.net.read(env.now, SIDE, visitor.socket, &mut visitor.input);
            }
            let outcome = driver.conn.handle_claim_bytes(env.now, claim, &mut visitor.input);
            let mut out = Vec::new();
            driver.conn.poll_claim_transmit(claim, &mut out);
            env.net.write(env.now, SIDE, visitor.socket, &out);
            match outcome {
                Claim::Proven(tcp) => {
                    driver.conn.handle_claim_end(claim);
                    driver.attach(env, tcp, visitor.socket, visitor.path, visitor.input);
                    progress = true;
                }
                Claim::Refused => env.net.close(env.now, SIDE, visitor.socket),
                Claim::Waiting if env.net.end(SIDE, visitor.socket).is_some() => {
                    driver.conn.handle_claim_end(claim);
                    env.net.close(env.now, SIDE, visitor.socket);
                }
                Claim::Waiting => self.claims.push((visitor, claim)),
            }
        }
        progress
    }
}

fn refuse(env: &mut Env<'_>, visitor: &Visitor, alert: &[u8]) {
    env.net.write(env.now, SIDE, visitor.socket, alert);
    env.net.close(env.now, SIDE, visitor.socket);
}
