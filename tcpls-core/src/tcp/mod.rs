//! One TCP connection of a session: its state, its record numbers, the contents of its unacknowledged records.
//!
//! The contents of records are opaque here (a type parameter): this layer knows no streams.

pub(crate) mod acks;
pub(crate) mod commit;
pub(crate) mod deframer;
mod lane;
pub(crate) mod life;
mod liveness;
mod probes;
pub(crate) mod rate;
mod reading;
pub(crate) mod rtt;
mod sealing;
pub(crate) mod sent;
pub(crate) mod set;
pub(crate) mod silence;
mod state;

use core::net::SocketAddr;
use core::time::Duration;

use self::acks::{AckPolicy, Received};
use self::commit::Commit;
use self::lane::Lane;
use self::liveness::Liveness;
use self::rate::Rate;
use self::reading::Reading;
use self::rtt::Rtt;
use self::sealing::Sealing;
pub(crate) use self::sealing::{Keep, KeyPosition};
use self::sent::{Acked, Route, SentLog};
use self::state::{Backup, CloseNotify};
pub(crate) use self::state::{Opening, TcpState};
use crate::error::Violation;
use crate::stats::TcpCounters;
use crate::time::Time;
use crate::wire::ids::{ConnectionId, RecordSeq};

/// One live TCP connection; `C` is what its records carry.
pub(crate) struct Tcp<C> {
    id: ConnectionId,
    state: TcpState,
    /// Bytes that go out before anything sealed: handshake flights, hellos.
    raw: Vec<u8>,
    /// Whether sealed records may follow `raw` already.
    may_seal: bool,
    sealing: Sealing,
    open: KeyPosition,
    sent: SentLog<C>,
    received: Received,
    rtt: Rtt,
    rate: Rate,
    /// The limit on data in flight.
    commit: Commit,
    backup: Backup,
    lane: Lane,
    liveness: Liveness,
    reading: Reading,
    /// The last poll left data behind for want of room.
    blocked: bool,
    /// The last poll left data behind because enough is under way.
    held: bool,
    close_notify: CloseNotify,
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    /// Since when the session can use it.
    since: Time,
    /// Bytes that the least used other one had carried when it joined: its share counts from there.
    head_start: u64,
    counters: TcpCounters,
}

impl<C> Tcp<C> {
    pub(crate) fn new(id: ConnectionId, state: TcpState, now: Time) -> Self {
        Self {
            id,
            state,
            raw: Vec::new(),
            may_seal: false,
            sealing: Sealing::default(),
            open: KeyPosition::default(),
            sent: SentLog::default(),
            received: Received::default(),
            rtt: Rtt::default(),
            rate: Rate::default(),
            commit: Commit::default(),
            backup: Backup::default(),
            lane: Lane::default(),
            liveness: Liveness::new(now),
            reading: Reading::default(),
            blocked: false,
            held: false,
            close_notify: CloseNotify::default(),
            local: None,
            remote: None,
            since: now,
            head_start: 0,
            counters: TcpCounters::default(),
        }
    }

    /// Its name.
    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Bytes that go out before anything sealed: handshake flights, hellos.
    pub(crate) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.raw
    }

    /// Whether there are any.
    pub(crate) fn has_raw(&self) -> bool {
        !self.raw.is_empty()
    }

    /// Whether sealed records may follow them already.
    pub(crate) fn may_seal(&self) -> bool {
        self.may_seal
    }

    /// Records follow the hello of a join at once.
    pub(crate) fn seal_early(&mut self) {
        self.may_seal = true;
    }

    /// Nothing of the session is sent on it any more.
    pub(crate) fn withhold(&mut self) {
        self.may_seal = false;
    }

    /// The contents of this endpoint's records.
    pub(crate) fn sent(&self) -> &SentLog<C> {
        &self.sent
    }

    /// The acknowledgments owed to the peer.
    pub(crate) fn received(&self) -> &Received {
        &self.received
    }

    pub(crate) fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    pub(crate) fn rate(&self) -> &Rate {
        &self.rate
    }

    /// The limit on data in flight.
    pub(crate) fn commit(&self) -> &Commit {
        &self.commit
    }

    /// Signs of life.
    pub(crate) fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// The same, to say what happened.
    pub(crate) fn live(&mut self) -> &mut Liveness {
        &mut self.liveness
    }

    pub(crate) fn counters(&self) -> &TcpCounters {
        &self.counters
    }

    /// It may be expected to carry this much, in bytes per second, until it has shown more.
    pub(crate) fn expect_rate(&mut self, rate: Option<u64>) {
        self.commit.expect(rate);
    }

    /// An answer may be expected to take as long as one before it was part of the session.
    pub(crate) fn expect_rtt(&mut self, took: Duration) {
        self.rtt.expect(took);
    }

    /// The driver's buffer had `before` bytes, of which `left` are the beginning of a record.
    pub(crate) fn handle_bytes(&mut self, now: Time, before: usize, left: usize) {
        self.counters.bytes_received += (before - left) as u64;
        self.liveness.came(now, before, left);
    }

    /// Its socket took `written` bytes. `blocked`: it left data behind for want of room, or did not, if that is known. `held`: data
    /// was left behind because enough is under way.
    pub(crate) fn handle_poll(&mut self, now: Time, written: usize, blocked: Option<bool>, held: bool) {
        self.blocked = blocked.unwrap_or(self.blocked);
        self.held = held;
        self.counters.bytes_sent += written as u64;
        if written > 0 {
            self.liveness.wrote(now);
        }
        self.liveness.set_full(now, self.blocked);
    }

    /// The last poll left data behind for want of room.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The last poll left data behind, for want of room or because enough is under way: the sender is as fast as the path.
    pub(crate) fn is_full(&self) -> bool {
        self.blocked || self.held
    }

    /// Stream data went out on it.
    pub(crate) fn data_sealed(&mut self, bytes: u64) {
        self.counters.stream_bytes_sent += bytes;
        self.liveness.carried_data();
    }

    /// Stream data arrived on it.
    pub(crate) fn handle_data(&mut self, bytes: usize) {
        self.counters.stream_bytes_received += bytes as u64;
        self.liveness.carried_data();
    }

    /// The peer has everything up to `highest`; `acked` is called for what that carried.
    #[inline]
    pub(crate) fn handle_ack(
        &mut self,
        now: Time,
        highest: RecordSeq,
        route: Route,
        acked: impl FnMut(C),
    ) -> Result<Acked, Violation> {
        self.counters.acks_received += 1;
        let outcome = self.sent.ack(now, highest, route, self.liveness.judged_at(), acked)?;
        outcome.rtt.into_iter().for_each(|rtt| self.rtt.sample(rtt));
        if let Some(rate) = outcome.rate {
            self.rate.sample(now, rate);
            self.commit.sample(rate, outcome.had_more, self.sent.delivered(), self.sent.bytes());
        }
        Ok(outcome)
    }

    /// The TLS library sealed this ahead of all records: the first acknowledgment covers it.
    pub(crate) fn carry_early(&mut self, now: Time, bytes: usize, carried: &[C])
    where
        C: Copy,
    {
        carried.iter().for_each(|item| self.sent.carry(*item));
        self.sent.push_ahead(now, bytes as u16, carried.len() as u16);
    }

    /// A record of the peer's wants to be acknowledged.
    pub(crate) fn owe_ack(&mut self, now: Time, policy: AckPolicy, ping: bool) {
        self.received.owe(now, policy, ping);
    }

    /// An acknowledgment may not have arrived.
    pub(crate) fn owe_ack_again(&mut self) {
        self.received.owe_again();
    }

    /// Time has passed: an acknowledgment that was held back may be due.
    pub(crate) fn expire_ack_delay(&mut self, now: Time) {
        self.received.expire(now);
    }

    /// The record that an ACK frame names now.
    pub(crate) fn take_ack(&mut self) -> Option<RecordSeq> {
        let highest = self.received.take()?;
        self.counters.acks_sent += 1;
        Some(highest)
    }

    /// Returns the contents of its unacknowledged records that were not returned before.
    pub(crate) fn requeue(&mut self) -> impl Iterator<Item = &C> {
        self.sent.requeue()
    }

    /// The same, and what this returned before is not returned again; but [`Tcp::requeue`] returns it.
    pub(crate) fn examine(&mut self) -> impl Iterator<Item = &mut C> {
        self.sent.examine()
    }

    /// Counts bytes of stream data that were requeued.
    pub(crate) fn requeued(&mut self, bytes: u64) {
        self.counters.requeued_bytes += bytes;
    }

    /// Frees memory that is kept for the contents of further records.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.sent.shrink_to_fit();
    }

    /// Sets the bytes that the least used other one had carried when it joined.
    pub(crate) fn start_behind(&mut self, share: u64) {
        self.head_start = share;
    }

    /// Its addresses, if the driver has set them.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        [self.local, self.remote].into_iter().flatten()
    }

    /// Its local address.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Its remote address.
    pub(crate) fn remote_address(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Sets its addresses.
    pub(crate) fn runs_between(&mut self, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
        (self.local, self.remote) = (local, remote);
    }

    /// Bytes written to its socket, plus those of the least used other one when it joined.
    pub(crate) fn share(&self) -> u64 {
        self.head_start + self.counters.bytes_sent
    }

    /// Its memory, in bytes.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.raw.capacity() + self.sent.memory()
    }

    /// Whether any byte arrived on it, of a record that is not complete too.
    pub(crate) fn has_received(&self) -> bool {
        self.counters.bytes_received > 0 || self.liveness.partial_at().is_some()
    }
}
