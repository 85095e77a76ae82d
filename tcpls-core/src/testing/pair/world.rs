//! The steps of a pair: writing and reading sockets, delivering bytes, deciding claims, advancing time.

use core::time::Duration;

use super::super::{Recordings, seed};
use super::end::End;
use super::pipe::{Flow, Role};
use super::{Pair, SIDES};
use crate::connection::{Claim, Connection, TcpEnd};
use crate::endpoint::{Endpoint, Incoming, Join};
use crate::time::Time;
use crate::wire::ids::{ConnectionId, Side};

/// Rounds after which a pair that never comes to rest counts as livelocked.
const MAX_ROUNDS: usize = 50_000;
/// How long bytes are under way.
const LATENCY: Duration = Duration::from_millis(1);
/// [`Pair::drive`] waits for what will happen within this time; the longer timeouts are for [`Pair::drive_for`].
const PATIENCE: Duration = Duration::from_secs(1);

impl Pair {
    /// Lets one end's application act and fills its sockets. Returns whether anything was sent.
    pub fn step(&mut self, side: Side) -> bool {
        if self.try_end(side).is_none() {
            return false;
        }
        self.end(side).run_application();
        let mut sent = false;
        for number in 0..self.pipes.len() {
            if let Role::Tcp(tcp) = self.pipes[number].role(side) {
                sent |= self.transmit(side, number, tcp);
            }
        }
        self.settle();
        sent
    }

    fn transmit(&mut self, side: Side, number: usize, tcp: ConnectionId) -> bool {
        let (now, buffer) = (self.now, self.socket_buffer);
        let mut out = Vec::new();
        loop {
            let room = buffer.saturating_sub(self.pipes[number].towards(side.peer()).in_flight.len() + out.len());
            let End { conn, oracle, .. } = self.end(side);
            if oracle.transmit(conn, now, tcp, room, &mut out) == 0 {
                break;
            }
        }
        self.pipes[number].towards(side.peer()).send(&out);
        !out.is_empty()
    }

    /// Delivers at most `n` bytes of one direction of a TCP connection, and its end behind the last byte.
    ///
    /// Returns the number of bytes, plus 1 for the end.
    pub fn deliver(&mut self, tcp: ConnectionId, to: Side, n: usize) -> usize {
        let number = self.number(tcp);
        self.deliver_on(number, to, n)
    }

    fn deliver_on(&mut self, number: usize, to: Side, n: usize) -> usize {
        if let Role::Tcp(tcp) = self.pipes[number].role(to)
            && !self.conn(to).wants_read(tcp)
        {
            return 0; // as a driver does
        }
        let arrived = self.pipes[number].towards(to).arrive(n);
        if arrived > 0 {
            self.receive(number, to);
            self.settle();
        }
        if self.pipes[number].towards(to).is_at_end() {
            self.pipes[number].towards(to).end_reported = true;
            let role = self.pipes[number].role(to);
            let how = if self.pipes[number].towards(to).reset { TcpEnd::Reset } else { TcpEnd::Fin };
            self.report_end(to, role, how);
            self.pipes[number].set_role(to, if role == Role::Stranger { role } else { Role::Closed });
            self.pipes[number].towards(to.peer()).finished = true;
            self.settle();
            return arrived + 1;
        }
        arrived
    }

    fn receive(&mut self, number: usize, side: Side) {
        let now = self.now;
        let mut inbox = core::mem::take(&mut self.pipes[number].towards(side).inbox);
        match self.pipes[number].role(side) {
            Role::Tcp(tcp) => self.conn(side).handle_bytes(now, tcp, &mut inbox),
            Role::Claim(claim) => _ = self.conn(side).handle_claim_bytes(now, claim, &mut inbox),
            Role::Incoming(incoming) => {
                let recognised = self.endpoint.handle_bytes(now, incoming, &mut inbox);
                self.pipes[number].towards(side).inbox = inbox;
                return recognised.into_iter().for_each(|incoming| self.recognised(number, incoming));
            }
            Role::Stranger => {}
            Role::Closed => inbox.clear(),
        }
        self.pipes[number].towards(side).inbox = inbox;
    }

    fn recognised(&mut self, number: usize, incoming: Incoming) {
        match incoming {
            Incoming::New(session) => {
                // A pair has one session. A corrupt byte can make a join's ClientHello one without a token.
                let Some(tls) = self.server_handshake.take() else { return self.refuse(number, &[]) };
                let config = self.server_config.clone();
                let tls = self.ledger.watch(tls);
                let recorder = self.recordings.as_ref().map(Recordings::recorder);
                let seed = seed(self.seed ^ 0x5e4);
                let conn = Connection::server_with(self.now, config.clone(), tls, session, seed, recorder);
                self.server = Some(End::new(conn, &config));
                self.pipes[number].set_role(Side::Server, Role::Tcp(ConnectionId::FIRST));
                self.receive(number, Side::Server);
            }
            Incoming::Join(join) => self.claim(number, join),
            Incoming::Foreign(join) => self.refuse(number, &Endpoint::refuse_foreign_join(&join)),
            Incoming::Refused { alert } => self.refuse(number, &alert),
        }
    }

    fn claim(&mut self, number: usize, join: Join) {
        let now = self.now;
        if self.server().session_id() != Some(join.session()) || self.server().turns_away(&join) {
            let inbox = &mut self.pipes[number].towards(Side::Server).inbox;
            return match self.endpoint.decline_join(join, inbox) {
                Ok(session) => self.recognised(number, Incoming::New(session)),
                Err(alert) => self.refuse(number, &alert),
            };
        }
        let claim = self.server().handle_join(now, join);
        self.pipes[number].set_role(Side::Server, Role::Claim(claim));
        self.receive(number, Side::Server);
    }

    fn refuse(&mut self, number: usize, alert: &[u8]) {
        self.pipes[number].down.send(alert);
        self.pipes[number].close(Side::Server);
    }

    /// Decides claims, takes events, closes sockets and checks the oracles.
    ///
    /// Every method of a pair that makes something happen ends with this; call it after calls on a
    /// [`Connection`] of your own.
    pub fn settle(&mut self) {
        self.settle_claims();
        for side in SIDES {
            let Some(end) = self.try_end(side) else { continue };
            let discarded = end.take_events();
            discarded.into_iter().for_each(|tcp| self.discard(side, tcp));
            self.end(side).check();
        }
        assert_eq!(self.ledger.take_repeated(), [""; 0]);
    }

    fn settle_claims(&mut self) {
        for number in 0..self.pipes.len() {
            let Role::Claim(claim) = self.pipes[number].role(Side::Server) else { continue };
            self.receive(number, Side::Server);
            let mut out = Vec::new();
            self.server().poll_claim_transmit(claim, &mut out);
            self.pipes[number].down.send(&out);
            match self.server().claim(claim) {
                Claim::Waiting => {}
                Claim::Authenticated(tcp) => self.pipes[number].set_role(Side::Server, Role::Tcp(tcp)),
                Claim::Refused => self.pipes[number].close(Side::Server),
            }
        }
    }

    /// The driver of an end writes the final bytes and closes the socket.
    fn discard(&mut self, side: Side, tcp: ConnectionId) {
        let Some(number) = (0..self.pipes.len()).find(|&number| self.pipes[number].role(side) == Role::Tcp(tcp)) else {
            return;
        };
        let now = self.now;
        let mut out = Vec::new();
        self.conn(side).poll_transmit(now, tcp, usize::MAX, &mut out);
        self.pipes[number].towards(side.peer()).send(&out);
        self.pipes[number].close(side);
    }

    /// Delivers all bytes that are under way and not stalled. Returns whether there were any.
    pub fn deliver_all(&mut self) -> bool {
        let mut moved = false;
        for number in 0..self.pipes.len() {
            for side in [Side::Server, Side::Client] {
                moved |= self.deliver_on(number, side, usize::MAX) > 0;
            }
        }
        moved
    }

    /// Lets both ends act, 1 ms pass if they sent anything, and everything arrive. Returns whether anything happened.
    pub fn round(&mut self) -> bool {
        let sent = self.step(Side::Client) | self.step(Side::Server);
        if sent {
            self.advance(LATENCY);
        }
        sent | self.deliver_all()
    }

    /// Lets time pass, and the timeouts that are due by then.
    pub fn advance(&mut self, by: Duration) {
        self.now += by;
        let now = self.now;
        for side in SIDES {
            let Some(end) = self.try_end(side) else { continue };
            if end.conn.poll_timeout().is_none_or(|at| at > now) {
                continue;
            }
            end.conn.handle_timeout(now);
            let left = (end.conn.poll_timeout(), end.conn.timeout_reason());
            assert!(
                left.0.is_none_or(|at| at > now),
                "{side:?} at {now:?} is left with a timeout in the past: {left:?}"
            );
        }
        self.endpoint.handle_timeout(now);
        while let Some((incoming, alert)) = self.endpoint.poll_refused() {
            let refused = self.pipes.iter().position(|pipe| pipe.role(Side::Server) == Role::Incoming(incoming));
            refused.into_iter().for_each(|number| self.refuse(number, &alert));
        }
        self.settle();
    }

    fn next_timeout(&mut self) -> Option<Time> {
        SIDES.into_iter().filter_map(|side| self.try_end(side)?.conn.poll_timeout()).min()
    }

    /// Runs rounds, and timeouts that are less than 1 s away, until nothing happens any more.
    ///
    /// Panics if the pair does not come to rest within 50,000 rounds.
    pub fn drive(&mut self) {
        for _ in 0..MAX_ROUNDS {
            if self.round() {
                continue;
            }
            match self.next_timeout() {
                Some(at) if at <= self.now + PATIENCE => self.advance(at - self.now),
                _ => return,
            }
        }
        panic!("the pair does not come to rest");
    }

    /// Runs rounds and timeouts until `time` has passed and nothing is under way.
    ///
    /// Panics if the pair does not come to rest within 50,000 rounds.
    pub fn drive_for(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..MAX_ROUNDS {
            if self.round() {
                continue;
            }
            match self.next_timeout() {
                Some(at) if at <= end => self.advance(at - self.now),
                _ => {
                    let rest = end - self.now;
                    self.advance(rest);
                    while self.round() {}
                    return;
                }
            }
        }
        panic!("the pair does not come to rest");
    }

    /// Returns one direction of a TCP connection: the bytes that are under way to `to`.
    pub fn flow(&mut self, tcp: ConnectionId, to: Side) -> &mut Flow {
        let number = self.number(tcp);
        self.pipes[number].towards(to)
    }
}
