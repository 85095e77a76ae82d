//! Two ends of a session and the bytes between them, in memory and in virtual time. What is sent is copied once from the
//! sender's buffer to the receiver's, as a kernel would.
//!
//! The pair of the core's test kit does not serve here: it keeps a log of all bytes and checks its oracles at each step,
//! which costs memory and time of its own, and it does not measure the server's CPU time alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tcpls_core::connection::Claim;
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_core::{
    Config, Connection, ConnectionId, Endpoint, EndpointConfig, Event, Incoming, Join, NewSession, Seed, Side, State,
    Time,
};

use crate::Outcome;
use crate::tls::{Tls, server_name};

/// What a socket takes at once.
const ROOM: usize = 256 * 1024;
/// What is due within this time is waited for.
const PATIENCE: Duration = Duration::from_millis(100);
/// Turns after which a pair that should have come to rest has not.
const MAX_TURNS: usize = 1000;

/// What a kernel holds for one TCP connection, each way.
struct Pipe {
    tcp: ConnectionId,
    up: BytesMut,
    down: BytesMut,
}

impl Pipe {
    fn new(tcp: ConnectionId) -> Self {
        Self { tcp, up: BytesMut::new(), down: BytesMut::new() }
    }
}

/// See the module's description.
pub struct Pair {
    /// The end that opens TCP connections.
    pub client: Connection,
    /// The other.
    pub server: Connection,
    endpoint: Endpoint,
    now: Time,
    pipes: Vec<Pipe>,
    out: Vec<u8>,
}

/// What a server takes part in with its CPU.
#[derive(Default)]
struct Stopwatch(Duration);

impl Stopwatch {
    fn time<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = f();
        self.0 += start.elapsed();
        result
    }
}

impl Pair {
    /// A session with one TCP connection, and the time that its handshake took at the server.
    pub fn handshake(tls: &Tls, config: &Arc<Config>) -> Outcome<(Self, Duration)> {
        Self::handshake_between(&tls.tcpls_client()?, &tls.tcpls_server()?, config)
    }

    /// The same between these two.
    pub fn handshake_between(
        client: &RustlsClient,
        server: &RustlsServer,
        config: &Arc<Config>,
    ) -> Outcome<(Self, Duration)> {
        let mut watch = Stopwatch::default();
        let now = Time::from_millis(1000);
        let client_tls = client.handshake(server_name())?;
        let mut client = Connection::client(now, config.clone(), client_tls, Seed([1; 32]));
        let mut endpoint = Endpoint::new(EndpointConfig::default(), [2; 32], Seed([3; 32]));
        let (mut out, mut pipe) = (Vec::new(), Pipe::new(ConnectionId::FIRST));
        client.poll_transmit(now, ConnectionId::FIRST, ROOM, &mut out);
        pipe.up.extend_from_slice(&out);
        out.clear();
        let server = watch.time(|| {
            let incoming = endpoint.handle_accepted(now);
            match endpoint.handle_bytes(now, incoming, &mut pipe.up) {
                Some(Incoming::New(session)) => new_server(now, config, server, session),
                _ => Err("no new session".into()),
            }
        })?;
        let pipes = vec![pipe];
        let mut pair = Self { client, server, endpoint, now, pipes, out };
        pair.settle(&mut watch)?;
        match (pair.client.state(), pair.server.state()) {
            (State::Established, State::Established) => Ok((pair, watch.0)),
            states => Err(format!("no session: {states:?}").into()),
        }
    }

    /// A session with `tcps` TCP connections.
    pub fn established(config: Config, tcps: usize) -> Self {
        let tls = Tls::new().expect("a certificate can be made");
        let (mut pair, _) = Self::handshake(&tls, &Arc::new(config)).expect("a handshake between two ends of our own");
        for _ in 1..tcps {
            pair.join().expect("the server gives tokens for eight TCP connections");
        }
        pair
    }

    /// One more TCP connection; the time that it took at the server.
    pub fn join(&mut self) -> Outcome<(ConnectionId, Duration)> {
        self.join_as(|_| true)
    }

    /// The same, and an error if the join is not as expected.
    pub fn join_as(&mut self, is_expected: impl Fn(&Join) -> bool) -> Outcome<(ConnectionId, Duration)> {
        let mut watch = Stopwatch::default();
        let now = self.tick();
        let tcp = self.client.open_tcp(now)?;
        let mut pipe = Pipe::new(tcp);
        self.client.poll_transmit(now, tcp, ROOM, &mut self.out);
        pipe.up.extend_from_slice(&self.out);
        let claim = watch.time(|| {
            let incoming = self.endpoint.handle_accepted(now);
            let Some(Incoming::Join(join)) = self.endpoint.handle_bytes(now, incoming, &mut pipe.up) else {
                return Err("not a join");
            };
            if !is_expected(&join) {
                return Err("a join in another form");
            }
            Ok(self.server.handle_join(now, join))
        })?;
        for _ in 0..MAX_TURNS {
            self.out.clear();
            let outcome = watch.time(|| {
                let outcome = self.server.handle_claim_bytes(now, claim, &mut pipe.up);
                self.server.poll_claim_transmit(claim, &mut self.out);
                outcome
            });
            pipe.down.extend_from_slice(&self.out);
            if outcome != Claim::Waiting {
                break;
            }
            self.client.handle_bytes(now, tcp, &mut pipe.down);
            self.out.clear();
            self.client.poll_transmit(now, tcp, ROOM, &mut self.out);
            pipe.up.extend_from_slice(&self.out);
        }
        self.out.clear();
        self.pipes.push(pipe);
        self.settle(&mut watch)?;
        if self.server.tcp_connections().any(|live| live == tcp) {
            return Ok((tcp, watch.0));
        }
        Err("the join was refused".into())
    }

    /// Leaves a TCP connection.
    pub fn retire(&mut self, tcp: ConnectionId) -> Outcome {
        let now = self.tick();
        self.client.retire_tcp(now, tcp)?;
        self.rest()?;
        if self.client.tcp_connections().chain(self.server.tcp_connections()).any(|live| live == tcp) {
            return Err("it is still there".into());
        }
        self.pipes.retain(|pipe| pipe.tcp != tcp);
        Ok(())
    }

    /// A millisecond passes.
    pub fn tick(&mut self) -> Time {
        self.now += Duration::from_millis(1);
        self.now
    }

    /// The TCP connections, first come first.
    pub fn tcps(&self) -> Vec<ConnectionId> {
        self.pipes.iter().map(|pipe| pipe.tcp).collect()
    }

    /// `from` fills one TCP connection once with pending data; returns the number of bytes.
    pub fn transmit(&mut self, from: Side, tcp: ConnectionId, room: usize) -> usize {
        let Some(pipe) = self.pipes.iter_mut().find(|pipe| pipe.tcp == tcp) else { return 0 };
        let (conn, buffer) = match from {
            Side::Client => (&mut self.client, &mut pipe.up),
            Side::Server => (&mut self.server, &mut pipe.down),
        };
        self.out.clear();
        let len = conn.poll_transmit(self.now, tcp, room, &mut self.out);
        buffer.extend_from_slice(&self.out);
        len
    }

    /// What is under way to `to` on one TCP connection arrives.
    pub fn deliver(&mut self, to: Side, tcp: ConnectionId) {
        let Some(pipe) = self.pipes.iter_mut().find(|pipe| pipe.tcp == tcp) else { return };
        let (conn, buffer) = match to {
            Side::Client => (&mut self.client, &mut pipe.down),
            Side::Server => (&mut self.server, &mut pipe.up),
        };
        if !buffer.is_empty() {
            conn.handle_bytes(self.now, tcp, buffer);
        }
        while let Some(event) = conn.poll_event() {
            debug_assert!(!matches!(event, Event::Closed { .. }), "{event:?}");
        }
    }

    /// One turn of both ends on all TCP connections; whether anything was said.
    pub fn turn(&mut self) -> bool {
        self.tick();
        let mut said = 0;
        for index in 0..self.pipes.len() {
            let tcp = self.pipes[index].tcp;
            said += self.transmit(Side::Client, tcp, ROOM);
            self.deliver(Side::Server, tcp);
            said += self.transmit(Side::Server, tcp, ROOM);
            self.deliver(Side::Client, tcp);
        }
        said > 0
    }

    /// Until both endpoints are at rest.
    pub fn rest(&mut self) -> Outcome {
        self.settle(&mut Stopwatch::default())
    }

    fn settle(&mut self, watch: &mut Stopwatch) -> Outcome {
        for _ in 0..MAX_TURNS {
            self.tick();
            let mut said = 0;
            for index in 0..self.pipes.len() {
                let tcp = self.pipes[index].tcp;
                said += self.transmit(Side::Client, tcp, ROOM);
                said += watch.time(|| {
                    self.deliver(Side::Server, tcp);
                    self.transmit(Side::Server, tcp, ROOM)
                });
                self.deliver(Side::Client, tcp);
            }
            if said == 0 && !self.wait(watch) {
                return Ok(());
            }
        }
        Err("it does not come to rest".into())
    }

    /// Time passes until something is due; false if nothing is for a while.
    fn wait(&mut self, watch: &mut Stopwatch) -> bool {
        let next = due(&self.client).min(due(&self.server));
        if next > self.now + PATIENCE {
            return false;
        }
        self.now = self.now.max(next);
        self.client.handle_timeout(self.now);
        watch.time(|| self.server.handle_timeout(self.now));
        true
    }
}

fn due(conn: &Connection) -> Time {
    conn.poll_timeout().unwrap_or(Time::MAX)
}

fn new_server(now: Time, config: &Arc<Config>, tls: &RustlsServer, session: NewSession) -> Outcome<Connection> {
    Ok(Connection::server(now, config.clone(), tls.handshake()?, session, Seed([4; 32])))
}
