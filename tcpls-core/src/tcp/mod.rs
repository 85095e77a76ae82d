//! One TCP connection of a session: its life, its record numbers, what its unacknowledged records carried.
//!
//! What the records carry is opaque here (a type parameter): streams are none of this layer's business.

pub(crate) mod acks;
pub(crate) mod commit;
pub(crate) mod deframer;
pub(crate) mod life;
pub(crate) mod probes;
pub(crate) mod rate;
pub(crate) mod rtt;
mod sealing;
pub(crate) mod sent;
pub(crate) mod set;
pub(crate) mod silence;
mod state;

use core::net::SocketAddr;

use self::acks::Received;
use self::commit::Commit;
use self::life::Life;
use self::probes::Probes;
use self::rate::Rate;
use self::rtt::Rtt;
pub(crate) use self::sealing::KeyPosition;
use self::sealing::Sealing;
use self::sent::{Backlog, SentLog};
use self::silence::Silence;
use self::state::{Backup, CloseNotify};
pub(crate) use self::state::{Leave, Opening, TcpState};
use crate::stats::TcpCounters;
use crate::time::Time;
use crate::wire::ids::{ConnectionId, RecordSeq};

/// What is kept of a record until it is acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep<'a, C> {
    /// It elicits no acknowledgment.
    Nothing,
    /// It elicits one.
    Record {
        now: Time,
        /// What goes out again if the TCP connection is lost.
        carried: &'a [C],
        backlog: Backlog,
    },
}

/// One live TCP connection; `C` is what its records carry.
pub(crate) struct Tcp<C> {
    pub(crate) id: ConnectionId,
    state: TcpState,
    /// Bytes that go out before anything sealed: handshake flights, hellos.
    pub(crate) raw: Vec<u8>,
    /// Whether sealed records may follow `raw` already.
    pub(crate) may_seal: bool,
    sealing: Sealing,
    open: KeyPosition,
    pub(crate) sent: SentLog<C>,
    pub(crate) received: Received,
    pub(crate) rtt: Rtt,
    pub(crate) rate: Rate,
    /// How much may be under way.
    pub(crate) commit: Commit,
    backup: Backup,
    /// When bytes last moved.
    pub(crate) life: Life,
    /// What the TCP stack underneath has heard.
    pub(crate) silence: Silence,
    /// It owes an answer for longer than it should.
    pub(crate) stalled: bool,
    /// The peer is still to be notified that it is stalled.
    pub(crate) status_owed: bool,
    /// The last poll left data behind for want of room.
    pub(crate) blocked: bool,
    /// The last poll left data behind because enough is under way.
    pub(crate) held: bool,
    /// A Ping is to go out on it.
    pub(crate) ping: bool,
    close_notify: CloseNotify,
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    /// Since when the session can use it.
    pub(crate) since: Time,
    /// When an authentic record came on it last.
    pub(crate) heard: Time,
    /// When it was asked for a sign of life.
    pub(crate) probes: Probes,
    /// What the least used of the others had carried when it joined: its share is counted from there.
    pub(crate) head_start: u64,
    pub(crate) counters: TcpCounters,
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
            life: Life::new(now),
            silence: Silence::default(),
            stalled: false,
            status_owed: false,
            blocked: false,
            held: false,
            ping: false,
            close_notify: CloseNotify::default(),
            local: None,
            remote: None,
            since: now,
            heard: now,
            probes: Probes::default(),
            head_start: 0,
            counters: TcpCounters::default(),
        }
    }

    /// The handshake is over: the TLS library has sealed and opened so many records with the first generation of keys.
    pub(crate) fn begin_at(&mut self, sealed: u64, opened: u64) {
        (self.sealing.at.aead_seq, self.open.aead_seq) = (sealed, opened);
        self.sent.start_at(RecordSeq(sealed));
        self.received.start_at(RecordSeq(opened));
    }

    /// Its first record uses this generation of this side's keys; no effect once there was one.
    pub(crate) fn begin_with(&mut self, generation: u32) {
        if self.sealing.is_fresh() {
            self.sealing.at.generation = generation;
        }
    }

    /// Makes the next record: `seal` gets its place in the chain of keys, and moves it on; returns its number. `bytes` are those
    /// on the wire.
    // draft I19
    pub(crate) fn seal_next<E>(
        &mut self,
        bytes: usize,
        keep: Keep<'_, C>,
        seal: impl FnOnce(ConnectionId, &mut KeyPosition) -> Result<(), E>,
    ) -> Result<RecordSeq, E>
    where
        C: Copy,
    {
        self.sealing.begin();
        seal(self.id, &mut self.sealing.at)?;
        Ok(self.number_next(bytes, keep))
    }

    /// Gives a number to a record that was sealed elsewhere.
    pub(crate) fn number_next(&mut self, bytes: usize, keep: Keep<'_, C>) -> RecordSeq
    where
        C: Copy,
    {
        self.counters.records_sent += 1;
        match keep {
            Keep::Nothing => self.sent.skip(),
            Keep::Record { now, carried, backlog } => {
                carried.iter().for_each(|item| self.sent.carry(*item));
                self.sent.push(now, bytes as u16, carried.len() as u16, backlog)
            }
        }
    }

    /// The record with this number was a KeyUpdate of this side's.
    pub(crate) fn key_update_sealed(&mut self, number: RecordSeq) {
        self.sealing.step(number);
    }

    /// Opens the peer's next record: `open` gets its place in the chain of keys, and moves it on; returns its number.
    pub(crate) fn open_next<E>(
        &mut self,
        open: impl FnOnce(ConnectionId, &mut KeyPosition) -> Result<(), E>,
    ) -> Result<RecordSeq, E> {
        open(self.id, &mut self.open)?;
        self.counters.records_received += 1;
        Ok(self.received.count())
    }

    /// The peer's KeyUpdate came: `step` moves on to the next generation of its keys.
    pub(crate) fn key_update_opened<E>(
        &mut self,
        step: impl FnOnce(&mut KeyPosition) -> Result<(), E>,
    ) -> Result<(), E> {
        step(&mut self.open)
    }

    /// The generation of this side's keys that its next record uses.
    pub(crate) fn seal_generation(&self) -> u32 {
        self.sealing.at.generation
    }

    /// The generation of the peer's keys that the next record should use.
    pub(crate) fn open_generation(&self) -> u32 {
        self.open.generation
    }

    /// The peer has everything up to `highest`; the generation that it has shown to have, if it is the newest in use here.
    pub(crate) fn confirmed_generation(&mut self, highest: RecordSeq) -> Option<u32> {
        self.sealing.acked(highest)
    }

    /// Whether the peer may still need an older generation than `target` for what is under way.
    pub(crate) fn lags(&self, target: u32) -> bool {
        self.sealing.lags(target)
    }

    /// The peer is authenticated on it: the session can use it from now on.
    pub(crate) fn activate(&mut self, now: Time) {
        self.state = TcpState::Active;
        self.may_seal = true;
        self.since = now;
    }

    /// How far it is.
    pub(crate) fn state(&self) -> &TcpState {
        &self.state
    }

    /// Client: whether its join is not authenticated yet.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.state, TcpState::Opening(_))
    }

    /// The join, as long as it is not authenticated.
    pub(crate) fn opening(&mut self) -> Option<&mut Opening> {
        match &mut self.state {
            TcpState::Opening(opening) => Some(opening),
            _ => None,
        }
    }

    /// When a join counts as failed.
    pub(crate) fn join_deadline(&self) -> Option<Time> {
        match &self.state {
            TcpState::Opening(opening) => Some(opening.deadline(self.life.moved())),
            _ => None,
        }
    }

    /// The ServerHello of a join came: records may follow, after `first` if they did not already.
    pub(crate) fn hello_answered(&mut self, first: &[u8]) {
        self.opening().into_iter().for_each(Opening::answered);
        if !self.may_seal {
            self.raw.extend_from_slice(first);
            self.may_seal = true;
        }
    }

    /// It is left from now on.
    pub(crate) fn retire(&mut self, now: Time) {
        self.state = TcpState::Retiring(Leave { since: now, peer_knows: None });
    }

    /// How far leaving it is.
    pub(crate) fn leave(&self) -> Option<&Leave> {
        match &self.state {
            TcpState::Retiring(leave) => Some(leave),
            _ => None,
        }
    }

    /// This side's close_notify went out on it: nothing more will.
    pub(crate) fn close_notify_sealed(&mut self) {
        self.close_notify.sent = true;
    }

    /// The peer's close_notify came on it: nothing more will.
    pub(crate) fn handle_close_notify(&mut self) {
        self.close_notify.received = true;
    }

    pub(crate) fn close_notify_sent(&self) -> bool {
        self.close_notify.sent
    }

    pub(crate) fn close_notify_received(&self) -> bool {
        self.close_notify.received
    }

    /// This side wants it used only when no other lives, or no longer wants that.
    pub(crate) fn request_backup(&mut self, backup: bool) {
        self.backup.own = backup;
    }

    /// The peer's Connection Status about it came; whether it changes anything.
    pub(crate) fn handle_status(&mut self, backup: bool) -> bool {
        core::mem::replace(&mut self.backup.peer, backup) != backup
    }

    /// A Connection Status about it goes out; whether it says backup.
    pub(crate) fn status_sealed(&mut self) -> bool {
        self.backup.status_in_flight = true;
        self.backup.own || self.stalled || self.leave().is_some()
    }

    /// No Connection Status about it is under way any more. The peer knows what it is to know if that was the latest.
    pub(crate) fn status_has_landed(&mut self, now: Time, is_latest: bool) {
        self.backup.status_in_flight = false;
        if let TcpState::Retiring(leave) = &mut self.state
            && is_latest
        {
            leave.peer_knows = Some(now);
        }
    }

    /// Whether a Connection Status about it is under way.
    pub(crate) fn has_status_in_flight(&self) -> bool {
        self.backup.status_in_flight
    }

    /// Between which addresses it runs, as far as its owner says.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        [self.local, self.remote].into_iter().flatten()
    }

    /// Its owner says between which addresses it runs.
    pub(crate) fn runs_between(&mut self, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
        (self.local, self.remote) = (local, remote);
    }

    /// Bytes given to its socket, and what others had carried before it joined.
    pub(crate) fn share(&self) -> u64 {
        self.head_start + self.counters.bytes_sent
    }

    /// Its memory, in bytes.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.raw.capacity() + self.sent.memory()
    }

    /// Whether any byte came on it, of a record that is not whole too.
    pub(crate) fn has_received(&self) -> bool {
        self.counters.bytes_received > 0 || self.life.partial_at().is_some()
    }

    /// Whether a record was sealed under its number: a nonce is used.
    pub(crate) fn has_sealed(&self) -> bool {
        !self.sealing.is_fresh()
    }

    /// Whether the peer is authenticated on it.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, TcpState::Active | TcpState::Retiring(_))
    }

    /// Whether it is to be used only when no other lives.
    pub(crate) fn is_backup(&self) -> bool {
        self.backup.own || self.backup.peer
    }

    /// Whether new stream data may be put on it when others live.
    pub(crate) fn is_active(&self) -> bool {
        self.state == TcpState::Active && !self.close_notify.sent
    }
}
