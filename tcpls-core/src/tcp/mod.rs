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

use core::net::SocketAddr;

use self::acks::Received;
use self::commit::Commit;
use self::life::{Grace, Life};
use self::probes::Probes;
use self::rate::Rate;
use self::rtt::Rtt;
pub(crate) use self::sealing::KeyPosition;
use self::sealing::Sealing;
use self::sent::{Backlog, SentLog};
use self::silence::Silence;
use crate::stats::TcpCounters;
use crate::time::Time;
use crate::wire::ids::{ConnectionId, RecordSeq};

/// How far a TCP connection is. What is lost is not in this table any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpState {
    /// It carries the TLS handshake.
    Handshaking,
    /// Client: the join's hello is out, nothing authentic has come back.
    Opening {
        /// When the join counts as failed.
        deadline: Grace,
    },
    /// A record of the peer's opened on it.
    Active,
    /// To be left: nothing new is put on it, what it has is waited for.
    Retiring,
}

/// When leaving a TCP connection on purpose began, and when the peer had heard of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leave {
    pub(crate) since: Time,
    pub(crate) told: Option<Time>,
}

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
    pub(crate) state: TcpState,
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
    /// This side asked that it be used only when no other lives.
    pub(crate) own_backup: bool,
    /// The peer asked for that.
    pub(crate) peer_backup: bool,
    /// When bytes last moved.
    pub(crate) life: Life,
    /// What the TCP stack underneath has heard.
    pub(crate) silence: Silence,
    /// It owes an answer for longer than it should.
    pub(crate) stalled: bool,
    /// How far leaving it is.
    pub(crate) leave: Leave,
    /// The peer is still to be notified that it is stalled.
    pub(crate) status_owed: bool,
    /// The last poll left data behind for want of room.
    pub(crate) blocked: bool,
    /// The last poll left data behind because enough is under way.
    pub(crate) held: bool,
    /// A Ping is to go out on it.
    pub(crate) ping: bool,
    /// This side's close_notify went out on it: nothing more will.
    pub(crate) close_notify_sent: bool,
    /// The peer's close_notify came on it: nothing more will.
    pub(crate) close_notify_received: bool,
    /// Client: bytes of the apparent handshake seen so far, which are bounded.
    pub(crate) hello_bytes: usize,
    /// A record of the apparent handshake that is allowed once came.
    pub(crate) hello_seen: bool,
    /// The session ID that the ServerHello of a join must echo.
    pub(crate) hello_session_id: [u8; 32],
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    /// Since when the session can use it.
    pub(crate) since: Time,
    /// When an authentic record came on it last.
    pub(crate) heard: Time,
    /// When it was asked for a sign of life.
    pub(crate) probes: Probes,
    /// A Connection Status about it is under way: the next waits until it has arrived, or it could be overtaken.
    pub(crate) status_in_flight: bool,
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
            own_backup: false,
            peer_backup: false,
            life: Life::new(now),
            silence: Silence::default(),
            stalled: false,
            leave: Leave::default(),
            status_owed: false,
            blocked: false,
            held: false,
            ping: false,
            close_notify_sent: false,
            close_notify_received: false,
            hello_bytes: 0,
            hello_seen: false,
            hello_session_id: [0; 32],
            local: None,
            remote: None,
            since: now,
            heard: now,
            probes: Probes::default(),
            status_in_flight: false,
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

    /// Opens the peer's next record: `open` gets its place in the chain of keys, and moves it on.
    pub(crate) fn open_next<E>(
        &mut self,
        open: impl FnOnce(ConnectionId, &mut KeyPosition) -> Result<(), E>,
    ) -> Result<(), E> {
        open(self.id, &mut self.open)?;
        self.received.count();
        self.counters.records_received += 1;
        Ok(())
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

    /// The peer has proven itself on it: the session can use it from now on.
    pub(crate) fn activate(&mut self, now: Time) {
        self.state = TcpState::Active;
        self.may_seal = true;
        self.since = now;
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

    /// Whether the peer has proven itself on it.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, TcpState::Active | TcpState::Retiring)
    }

    /// Whether it is to be used only when no other lives.
    pub(crate) fn is_backup(&self) -> bool {
        self.own_backup || self.peer_backup
    }

    /// Whether new stream data may be put on it when others live.
    pub(crate) fn is_active(&self) -> bool {
        self.state == TcpState::Active && !self.close_notify_sent
    }
}
