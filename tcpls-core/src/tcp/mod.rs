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
use self::sent::SentLog;
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

/// Where one direction of a TCP connection stands in the chain of key generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyPosition {
    /// Which generation the next record uses.
    pub(crate) generation: u32,
    /// The AEAD's sequence number for it; back to 0 at each key update (RFC 8446, 5.3).
    pub(crate) aead_seq: u64,
}

/// One live TCP connection; `C` is what its records carry.
pub(crate) struct Tcp<C> {
    pub(crate) id: ConnectionId,
    pub(crate) state: TcpState,
    /// Bytes that go out before anything sealed: handshake flights, hellos.
    pub(crate) raw: Vec<u8>,
    /// Whether sealed records may follow `raw` already.
    pub(crate) may_seal: bool,
    pub(crate) seal: KeyPosition,
    /// The oldest generation that the peer may still need to open its records: that of the first, or a later one that was
    /// acknowledged on it. `None` before the first.
    pub(crate) seal_arrived: Option<u32>,
    /// The first record that was, or will be, sealed with the generation of `seal`.
    pub(crate) seal_since: RecordSeq,
    pub(crate) open: KeyPosition,
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
            seal: KeyPosition::default(),
            seal_arrived: None,
            seal_since: RecordSeq(0),
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
        self.seal_arrived.is_some()
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
