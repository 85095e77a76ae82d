//! Two endpoints, and any calls on both in any order, over pipes that deliver, stall, corrupt and break as the input
//! determines. Properties: received data is the written data; when the faults have ended, everything arrives, or the
//! session was ended intentionally; an ended session holds nothing.
//!
//! The input is a configuration, then operations. Ends and pipes are those of [`Pair`], `app` has the
//! applications.

mod app;

use core::net::SocketAddr;
use core::time::Duration;

use tcpls_core::connection::schedule::{
    ActiveStandby, Aggregate, EarliestDelivery, LowestRtt, Redundant, RoundRobin, Scheduler,
};
use tcpls_core::connection::{JoinOptions, TcpInfo};
use tcpls_core::error::CloseReason;
use tcpls_core::testing::{Pair, Setup};
use tcpls_core::{Config, Connection, ConnectionId, ErrorCode, Event, Side, State};

use self::app::{App, is_closed};
use crate::choices::{Choices, pick};

/// TCP connections in a run, including lost ones.
const MAX_TCPS: usize = 24;
/// Bytes that a socket and the network behind it hold.
const CAPACITY: usize = 50_000;
/// Rounds after which all that was written must have arrived. A round delivers everything, or lets time pass.
const MAX_ROUNDS: usize = 3000;
const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// The target `ops`: see above.
pub fn ops(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut run = Run::new(&mut choices);
    while let Some(op) = choices.next() {
        run.step(op, &mut choices);
        run.settle();
    }
    run.pair.heal();
    if run.must_arrive() {
        run.drive(|run| run.has_arrived());
        assert!(run.has_arrived(), "after {MAX_ROUNDS} rounds: {}", run.describe());
        for side in SIDES {
            let (app, conn) = run.end(side);
            app.check_thrift(conn);
        }
    }
    run.close();
}

struct Run {
    pair: Pair,
    client: App,
    server: App,
    /// Every TCP connection that the client has opened.
    tcps: Vec<ConnectionId>,
    /// One endpoint has closed the session.
    closed: bool,
}

impl Run {
    /// Windows and buffers small enough to matter.
    fn new(choices: &mut Choices<'_>) -> Self {
        let (stream, session, growth) = (choices.pair(), choices.pair(), choices.byte());
        let window = |base: u16| 1024 + u64::from(base % 20_000);
        let config = Config::default().with(|config| {
            config.initial_stream_window = window(stream);
            config.max_stream_window = window(stream) << (growth & 3);
            config.initial_session_window = window(session);
            config.max_session_window = window(session) << (growth >> 2 & 3);
            config.stream_send_buffer = 1 << (10 + (growth >> 4 & 3));
            config.send_buffer = 1 << (12 + (growth >> 6));
            config.max_streams = 4;
            config.idle_timeout = None;
            config.session_timeout = Duration::from_secs(1 << 20);
            config.max_tcp_connections = 6;
            config.spare_tokens = 3;
        });
        let setup = Setup {
            client: config.clone(),
            server: config.clone(),
            tls: None,
            socket_buffer: CAPACITY,
            seed: 1,
            recordings: None,
        };
        let mut pair = setup.start();
        // The ClientHello arrives; the handshake is not complete.
        pair.step(Side::Client);
        pair.deliver(ConnectionId::FIRST, Side::Server, usize::MAX);
        for side in SIDES {
            let end = pair.end(side);
            (end.reads, end.accepts) = (false, false);
        }
        let (client, server) = (App::new(&config), App::new(&config));
        Self { pair, client, server, tcps: vec![ConnectionId::FIRST], closed: false }
    }

    /// The application of an end, and its session.
    fn end(&mut self, side: Side) -> (&mut App, &mut Connection) {
        let app = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        (app, self.pair.conn(side))
    }

    /// Ends an operation: the pair checks what it knows, the applications what they know.
    fn settle(&mut self) {
        self.pair.settle();
        for side in SIDES {
            let (app, conn) = self.end(side);
            app.check(conn);
        }
    }

    fn step(&mut self, op: u8, choices: &mut Choices<'_>) {
        let (kind, side) = (op & 31, if op & 32 == 0 { Side::Client } else { Side::Server });
        let argument = choices.byte();
        let tcp = self.tcp(argument);
        match kind {
            0..=2 => _ = self.pair.deliver(tcp, side, choices.pair().into()),
            3 | 4 => _ = self.pair.step(side),
            5 | 6 => _ = self.exchange(),
            7 if op & 64 == 0 => self.join(argument & 1 == 0),
            7 | 8 => self.pair.sever(tcp),
            9 if op & 64 == 0 => self.pair.stall(tcp),
            9 => self.pair.unstall(tcp),
            10 => self.spoil(tcp, side, choices.pair().into()),
            11 => self.pass(Duration::from_millis(1 << (argument % 12))),
            12 => {
                let wait = self.next_timeout().unwrap_or_default();
                self.pass(wait.min(Duration::from_secs(20)));
            }
            13 if argument == 0xfe => self.drain(side),
            13 if argument == 0xff => self.end_session(side, ErrorCode(u32::from(op >> 6))),
            13..=16 => self.use_tcp(kind, side, op, argument),
            17..=19 => self.use_session(kind, side, op, argument),
            _ => self.use_stream(kind, side, op, argument, choices),
        }
    }

    /// One of the TCP connections that ever were.
    fn tcp(&self, choice: u8) -> ConnectionId {
        pick(&self.tcps, choice)
    }

    /// A bit of a byte that is under way towards `side` flips.
    fn spoil(&mut self, tcp: ConnectionId, side: Side, which: usize) {
        let coming = &mut self.pair.flow(tcp, side).in_flight;
        let len = coming.len().max(1);
        if let Some(byte) = coming.get_mut(which % len) {
            *byte ^= 1 << (which % 8);
        }
    }

    /// Time passes. Both ends are called for it, whether a timeout of theirs is due or not.
    fn pass(&mut self, time: Duration) {
        self.pair.advance(time);
        let now = self.pair.now;
        for side in SIDES {
            let conn = self.pair.conn(side);
            conn.handle_timeout(now);
            assert!(conn.poll_timeout().is_none_or(|at| at > now), "{side:?} waits for the past");
        }
    }

    /// How long until the first deadline.
    fn next_timeout(&mut self) -> Option<Duration> {
        let ends = SIDES.map(|side| self.pair.conn(side).poll_timeout());
        let first = ends.into_iter().chain([self.pair.endpoint.poll_timeout()]).flatten().min();
        first.map(|at| at - self.pair.now)
    }

    /// Calls about one TCP connection, which may have ended or not joined yet.
    fn use_tcp(&mut self, kind: u8, side: Side, op: u8, argument: u8) {
        let (now, tcp) = (self.pair.now, self.tcp(argument));
        let conn = self.pair.conn(side);
        match kind {
            13 => _ = conn.retire_tcp(now, tcp),
            14 => _ = conn.set_backup(tcp, op & 64 == 0),
            15 if op & 64 == 0 => _ = conn.ping(tcp),
            15 => {
                let end = Some(address(argument / 64));
                let (local, remote) = if side == Side::Server { (end, None) } else { (None, end) };
                conn.set_tcp_addresses(tcp, local, remote);
            }
            _ => {
                let rtt = Duration::from_millis(argument.into());
                let (unacked, acked) = (u32::from(op >> 6), u64::from(op >> 4));
                let info = TcpInfo::default().with(|info| {
                    info.heard = now;
                    info.unacked = unacked;
                    info.rtt = rtt;
                    info.min_rtt = rtt;
                    info.acked = acked;
                });
                conn.handle_tcp_info(tcp, info);
            }
        }
    }

    /// Calls about the session.
    fn use_session(&mut self, kind: u8, side: Side, op: u8, argument: u8) {
        let now = self.pair.now;
        let (app, conn) = self.end(side);
        match kind {
            17 if op & 64 == 0 => app.advertised.extend(conn.advertise(address(argument % 4)).ok()),
            17 => _ = app.advertised.pop().map(|id| conn.withdraw(id)),
            18 if op & 64 == 0 => {
                app.redundant |= argument % 6 == 5;
                conn.set_scheduler(scheduler(argument % 6));
            }
            18 if argument < 128 => _ = conn.send_tcp_option(28, &[argument; 4]),
            18 => self.ask_option(side, argument),
            _ => conn.update_keys(now),
        }
    }

    /// An end asks the other for a TCP option.
    fn ask_option(&mut self, side: Side, argument: u8) {
        let tcp = self.tcp(argument);
        _ = self.end(side).1.ask_tcp_option(tcp, 254, &[argument; 8]);
    }

    /// Calls about one stream.
    fn use_stream(&mut self, kind: u8, side: Side, op: u8, argument: u8, choices: &mut Choices<'_>) {
        let choice = choices.byte();
        let tcp = self.tcp(choice);
        let (app, conn) = self.end(side);
        match kind {
            20 => return app.open(conn),
            21 => return app.accept(conn),
            _ => {}
        }
        let Some(id) = app.stream(argument) else { return };
        match kind {
            22..=24 => app.write(conn, id, choices.pair(), op & 64 == 0),
            25 | 26 => app.read(conn, id, choices.pair().into()),
            27 => app.finish(conn, id),
            28 if op & 64 == 0 => app.reset(conn, id),
            28 => app.stop(conn, id),
            29 => _ = conn.stream(id).set_priority(choice as i8),
            30 => _ = conn.stream(id).attach(tcp),
            _ => _ = conn.stream(id).detach(tcp),
        }
    }

    /// The last token is kept: a client that spends it on a TCP connection that fails could never come back.
    fn join(&mut self, zero_rtt: bool) {
        if self.tcps.len() < MAX_TCPS && self.pair.client().tokens() > 1 {
            self.open_tcp(zero_rtt);
        }
    }

    fn open_tcp(&mut self, zero_rtt: bool) {
        let options = JoinOptions::default().with(|join| join.zero_rtt = zero_rtt);
        self.tcps.extend(self.pair.try_open_tcp(options));
    }

    fn end_session(&mut self, side: Side, error: ErrorCode) {
        self.closed = true;
        self.pair.close(side, error.0, b"as it happens");
    }

    /// Streams that have not arrived at `side` are reset, and the session ends after the others.
    fn drain(&mut self, side: Side) {
        self.closed = true;
        let now = self.pair.now;
        self.pair.conn(side).drain(now, Duration::from_secs(10));
        self.pair.settle();
    }

    /// Delivers everything that both endpoints send now. Returns whether anything happened.
    fn exchange(&mut self) -> bool {
        let sent = SIDES.map(|side| self.pair.step(side));
        self.pair.deliver_all() | sent.contains(&true)
    }

    /// Whether the session was not ended: intentionally, or because the handshake could not be finished, or because the
    /// only TCP connection was lost before the client had a token to come back with.
    fn must_arrive(&mut self) -> bool {
        let mut lives = !self.closed;
        for reason in SIDES.into_iter().filter_map(|side| self.pair.close_reason(side)).collect::<Vec<_>>() {
            let excused = match reason {
                CloseReason::Handshake(_) | CloseReason::HandshakeTimeout | CloseReason::LostInHandshake(_) => true,
                CloseReason::Stranded | CloseReason::OutOfTokens { .. } => !self.had_token(),
                _ => false,
            };
            assert!(excused || self.closed, "the session ended: {reason}\n{}", self.describe());
            lives = false;
        }
        lives
    }

    fn had_token(&mut self) -> bool {
        self.pair.events(Side::Client).iter().any(|event| matches!(event, Event::TokensAvailable { .. }))
    }

    /// Rounds until `done`, or too many of them.
    fn drive(&mut self, done: impl Fn(&mut Self) -> bool) {
        for _ in 0..MAX_ROUNDS {
            for side in SIDES {
                let (app, conn) = self.end(side);
                app.read_all(conn);
            }
            let mut moved = self.exchange();
            if self.pair.client().tcp_connections().next().is_none() {
                let before = self.tcps.len();
                self.open_tcp(true);
                moved |= self.tcps.len() > before;
            }
            if done(self) {
                return;
            }
            if !moved {
                let Some(wait) = self.next_timeout() else { return };
                self.pass(wait);
            }
            self.settle();
        }
    }

    /// Everything that is to arrive has, it was reported, and both ends agree.
    fn has_arrived(&mut self) -> bool {
        if !self.must_arrive() {
            return true;
        }
        let all = SIDES.into_iter().all(|side| {
            let (from, to) = match side {
                Side::Client => (&self.client, &self.server),
                Side::Server => (&self.server, &self.client),
            };
            let arrived = from.streams.iter().all(|(id, (written, _))| to.has_read(*id, written));
            let conn = self.pair.conn(side);
            let quiet = conn.tcp_connections().all(|tcp| !conn.wants_write(tcp));
            arrived && quiet && conn.stats().bytes_to_send == 0 && conn.state() == State::Established
        });
        all && self.pair.live(Side::Client) == self.pair.live(Side::Server)
    }

    fn describe(&mut self) -> String {
        let ends = SIDES.map(|side| {
            let (app, conn) = self.end(side);
            format!("{conn:?} {:?} {:?} {:?}", app.streams, conn.stats(), conn.timeout_reason())
        });
        let roles = self.tcps.iter().map(|tcp| (tcp, SIDES.map(|side| self.pair.role(*tcp, side))));
        format!("{}\n{:?}", ends.join("\n"), roles.collect::<Vec<_>>())
    }

    /// Closes the session, which ends on both sides soon.
    fn close(&mut self) {
        for side in SIDES {
            self.end_session(side, ErrorCode(0));
            self.drive(|run| is_closed(run.pair.events(side)));
        }
        self.client.check_empty(self.pair.end(Side::Client));
        self.server.check_empty(self.pair.end(Side::Server));
    }
}

/// An address that may be set for pipes.
fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 443))
}

fn scheduler(policy: u8) -> Box<dyn Scheduler> {
    match policy {
        0 => Box::new(EarliestDelivery),
        1 => Box::new(Aggregate),
        2 => Box::new(LowestRtt),
        3 => Box::new(RoundRobin),
        4 => Box::new(ActiveStandby),
        _ => Box::new(Redundant),
    }
}
