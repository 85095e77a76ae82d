//! Two endpoints, and any calls on both in any order, over pipes that deliver, stall, corrupt and break as the input
//! determines. Properties: received data is the written data; when the faults have ended, everything arrives, or the
//! session was ended intentionally; an ended session holds nothing.
//!
//! The input is a configuration, then operations. `world` has the pipes, `end` the applications.

mod end;
mod world;

use core::net::SocketAddr;
use core::time::Duration;

use tcpls_core::connection::TcpInfo;
use tcpls_core::connection::schedule::{
    ActiveStandby, Aggregate, EarliestDelivery, LowestRtt, Redundant, RoundRobin, Scheduler,
};
use tcpls_core::error::CloseReason;
use tcpls_core::{Config, ErrorCode, Side, State};

use self::world::World;
use crate::choices::Choices;

/// TCP connections in a run, including lost ones.
const MAX_PIPES: usize = 24;
/// Rounds after which all that was written must have arrived. A round delivers everything, or lets time pass.
const MAX_ROUNDS: usize = 3000;
const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// The target `ops`: see above.
pub fn ops(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut run = Run::new(&mut choices);
    while let Some(op) = choices.next() {
        run.step(op, &mut choices);
        run.world.settle();
    }
    run.heal();
    if run.must_arrive() {
        run.drive(|run| run.has_arrived());
        assert!(run.has_arrived(), "after {MAX_ROUNDS} rounds: {}", run.describe());
        SIDES.into_iter().for_each(|side| run.world.end(side).check_thrift());
    }
    run.close();
}

struct Run {
    world: World,
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
        Self { world: World::new(&config), closed: false }
    }

    fn step(&mut self, op: u8, choices: &mut Choices<'_>) {
        let (kind, side) = (op & 31, if op & 32 == 0 { Side::Client } else { Side::Server });
        let argument = choices.byte();
        let at = usize::from(argument) % self.world.pipes.len();
        match kind {
            0..=2 => self.world.deliver(at, side, usize::from(choices.pair())),
            3 | 4 => self.world.pump(side),
            5 | 6 => self.exchange(),
            7 if op & 64 == 0 => self.join(argument & 1 == 0),
            7 | 8 => self.world.cut(at),
            9 => self.world.stall(at, op & 64 == 0),
            10 => self.world.spoil(at, side, choices.pair().into()),
            11 => self.world.pass(Duration::from_millis(1 << (argument % 12))),
            12 => self.world.pass(self.world.next_timeout().unwrap_or_default().min(Duration::from_secs(20))),
            13 if argument == 0xff => self.end_session(side, ErrorCode(u32::from(op >> 6))),
            13..=16 => self.use_tcp(kind, side, op, argument, at),
            17..=19 => self.use_session(kind, side, op, argument),
            _ => self.use_stream(kind, side, op, argument, choices),
        }
    }

    /// Calls about one TCP connection.
    fn use_tcp(&mut self, kind: u8, side: Side, op: u8, argument: u8, at: usize) {
        let Some(tcp) = self.world.pipes[at].name(side) else { return };
        let now = self.world.now;
        let conn = &mut self.world.end(side).conn;
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
        let now = self.world.now;
        let end = self.world.end(side);
        match kind {
            17 if op & 64 == 0 => end.advertised.extend(end.conn.advertise(address(argument % 4)).ok()),
            17 => _ = end.advertised.pop().map(|id| end.conn.withdraw(id)),
            18 if op & 64 == 0 => {
                end.redundant |= argument % 6 == 5;
                end.conn.set_scheduler(scheduler(argument % 6));
            }
            18 => _ = end.conn.send_tcp_option(28, &[argument; 4]),
            _ => end.conn.update_keys(now),
        }
    }

    /// Calls about one stream.
    fn use_stream(&mut self, kind: u8, side: Side, op: u8, argument: u8, choices: &mut Choices<'_>) {
        let choice = choices.byte();
        let tcp = self.world.pipes[usize::from(choice) % self.world.pipes.len()].name(side);
        let end = self.world.end(side);
        match kind {
            20 => return end.open(),
            21 => return end.accept(),
            _ => {}
        }
        let Some(id) = end.stream(argument) else { return };
        match kind {
            22..=24 => end.write(id, choices.pair(), op & 64 == 0),
            25 | 26 => end.read(id, choices.pair().into()),
            27 => end.finish(id),
            28 if op & 64 == 0 => end.reset(id),
            28 => end.stop(id),
            29 => _ = end.conn.stream(id).set_priority(choice as i8),
            _ => {
                let Some(tcp) = tcp else { return };
                let mut stream = end.conn.stream(id);
                _ = if kind == 30 { stream.attach(tcp) } else { stream.detach(tcp) };
            }
        }
    }

    /// The last token is kept: a client that spends it on a TCP connection that fails could never come back.
    fn join(&mut self, zero_rtt: bool) {
        if self.world.pipes.len() < MAX_PIPES && self.world.client.conn.tokens() > 1 {
            self.world.join(zero_rtt);
        }
    }

    fn end_session(&mut self, side: Side, error: ErrorCode) {
        self.closed = true;
        let now = self.world.now;
        self.world.end(side).conn.close(now, error, b"as it happens");
    }

    /// Delivers everything that both endpoints send now.
    fn exchange(&mut self) {
        for side in SIDES {
            self.world.pump(side);
        }
        for at in 0..self.world.pipes.len() {
            for side in SIDES {
                self.world.deliver(at, side, usize::MAX);
                self.world.settle();
            }
        }
    }

    /// No more faults.
    fn heal(&mut self) {
        (0..self.world.pipes.len()).for_each(|at| self.world.stall(at, false));
        self.exchange();
    }

    /// Whether the session was not ended: intentionally, or because the handshake could not be finished, or because the
    /// only TCP connection was lost before the client had a token to come back with.
    fn must_arrive(&self) -> bool {
        let ends = [&self.world.client.conn, &self.world.server.conn];
        let mut lives = !self.closed;
        for reason in ends.iter().filter_map(|conn| conn.close_reason()) {
            let excused = match reason {
                CloseReason::Handshake(_) | CloseReason::HandshakeTimeout | CloseReason::LostInHandshake(_) => true,
                CloseReason::Stranded | CloseReason::OutOfTokens { .. } => !self.world.client.had_token,
                _ => false,
            };
            assert!(excused || self.closed, "the session ended: {reason}\n{}", self.describe());
            lives = false;
        }
        lives
    }

    /// Rounds until `done`, or too many of them.
    fn drive(&mut self, done: impl Fn(&mut Self) -> bool) {
        for _ in 0..MAX_ROUNDS {
            let moved = self.world.moved;
            SIDES.into_iter().for_each(|side| self.world.end(side).read_all());
            self.exchange();
            if self.world.client.conn.tcp_connections().next().is_none() {
                self.world.join(true);
            }
            if done(self) {
                return;
            }
            if self.world.moved == moved {
                let Some(wait) = self.world.next_timeout() else { return };
                self.world.pass(wait);
                self.world.settle();
            }
        }
    }

    /// Everything that is to arrive has, it was reported, and both ends agree.
    fn has_arrived(&mut self) -> bool {
        let World { client, server, .. } = &self.world;
        if !self.must_arrive() {
            return true;
        }
        let all = [(client, server), (server, client)].into_iter().all(|(from, to)| {
            let arrived = from.streams.iter().all(|(id, (written, _))| to.has_read(*id, written));
            let quiet = from.conn.tcp_connections().all(|tcp| !from.conn.wants_write(tcp));
            arrived && quiet && from.conn.stats().bytes_to_send == 0 && from.conn.state() == State::Established
        });
        all && client.conn.tcp_connections().eq(server.conn.tcp_connections())
    }

    fn describe(&self) -> String {
        let end = |end: &end::End| format!("{:?} {:?} {:?}", end.conn, end.streams, end.conn.stats());
        let World { client, server, pipes, .. } = &self.world;
        format!("{}\n{}\n{pipes:?}\n{:?}", end(client), end(server), self.world.reasons())
    }

    /// Closes the session, which ends on both sides soon.
    fn close(&mut self) {
        self.end_session(Side::Client, ErrorCode(0));
        self.drive(|run| run.world.client.closed);
        self.end_session(Side::Server, ErrorCode(0));
        self.drive(|run| run.world.server.closed);
        SIDES.into_iter().for_each(|side| self.world.end(side).check_empty());
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
