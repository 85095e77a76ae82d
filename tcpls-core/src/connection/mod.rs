//! The state machine of one endpoint of a session. [`Connection`] connects the layers; each file here has one subject:
//!
//! | file | subject |
//! | --- | --- |
//! | `input` | splitting the bytes of a TCP connection into records, and decrypting them |
//! | `frames` | processing frames: one function per frame type |
//! | `post_handshake` | alerts, tickets, key updates |
//! | `handshake`, `announce` | the TLS handshake, and the start of the session |
//! | `early` | stream data before the handshake is complete |
//! | `output`, `chunks`, `records` | building records of stream data and control frames when a TCP connection has room, and sealing them |
//! | `carried` | what a record carries, by reference |
//! | `control` | pending control frames, and their acknowledgment or loss; Session Parameters, addresses, TCP options, final ACKs |
//! | `schedule` | policies that choose the TCP connection for new stream data |
//! | `lanes` | when interactive streams need a TCP connection that carries no bulk data |
//! | `lifecycle`, `lost` | how a TCP connection becomes active, retired or lost; what is kept of a lost one |
//! | `failover` | requeuing what a lost TCP connection carried |
//! | `settle` | what follows from any input |
//! | `stall`, `probe` | hedging the data of stalled TCP connections, and Pings on quiet ones |
//! | `joins` | tokens, and both endpoints' part of a join |
//! | `drain` | ending a session whose streams are finished first |
//! | `closing`, `half_close`, `farewell`, `ending` | closing a session, its final records, its end |
//! | `plain` | sessions without TCPLS |
//! | `draft_only` | sessions with only the draft's frames |
//! | `status` | questions about the session as a whole |
//! | `tcp_options` | options of the peer's TCP stack |
//! | `activity`, `keep_alive`, `under_way` | when a session is idle, and what prevents it; the limit on data in flight of a path |
//! | `timers` | deadlines, derived from state |
//! | `trace` | reports of all events to a sink |
//! | `record` | recordings and their replay |
//! | `usage` | what the session holds and has delivered; eviction |
//! | `api` | calls of applications on streams, addresses and TCP connections |
//! | `keys`, `flood` | state with rules of its own |

mod acknowledge;
mod activity;
mod announce;
mod api;
mod carried;
mod chunks;
mod closing;
mod control;
mod draft_only;
mod drain;
mod early;
mod ending;
mod failover;
mod farewell;
mod flood;
mod frames;
mod half_close;
mod handshake;
mod input;
mod joins;
mod keep_alive;
mod keys;
mod lanes;
mod lifecycle;
mod lost;
mod output;
mod plain;
mod post_handshake;
mod probe;
pub mod record;
mod records;
mod renewal;
pub mod schedule;
mod settle;
mod stall;
mod status;
mod tcp_options;
mod timers;
pub mod trace;
mod under_way;
mod usage;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use self::api::Stream;
#[cfg(feature = "testing")]
pub(crate) use self::early::early_terms;
pub use self::joins::{Claim, ClaimId, JoinOptions};
pub use self::timers::TimeoutReason;
pub use crate::stream::{SendProgress, StreamClass};
pub use crate::tcp::silence::TcpInfo;

use self::activity::Activity;
use self::carried::Carried;
use self::control::ControlFrames;
use self::ending::Ending;
use self::flood::Flood;
use self::joins::Joins;
use self::keep_alive::KeepAlive;
use self::keys::Keys;
use self::lanes::Contention;
use self::lost::Lost;
use self::post_handshake::Messages;
use self::probe::ProbeInterval;
use self::record::{Item, Privacy, Recorder};
use self::schedule::{EarliestDelivery, Scheduler};
use self::trace::Tracer;
use crate::config::Config;
use crate::crypto::rng::{Rng, Seed};
use crate::crypto::{Handshake, JoinName};
use crate::endpoint::NewSession;
use crate::error::CloseReason;
use crate::event::{Event, TcpEvent};
use crate::stats::{FrameCounts, LimitCounts};
use crate::stream::Streams;
use crate::tcp::life::Grace;
use crate::tcp::set::TcpSet;
use crate::tcp::{Tcp, TcpState};
use crate::time::Time;
use crate::wire::hello::ExtensionTypes;
use crate::wire::ids::{ConnectionId, Side};

/// How the socket of a TCP connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpEnd {
    /// The peer closed its direction: a read returned 0 bytes.
    Fin,
    /// The peer, or a middlebox on the path, reset it.
    Reset,
    /// The operating system reported another error.
    Error(std::io::ErrorKind),
    /// The driver reset it, because this host can send nothing there: its interface is down, or its local address was
    /// removed. See [`Connection::handle_path_down`].
    PathDown,
    /// The driver reset it, because its join got no answer in time.
    JoinTimeout,
}

impl From<std::io::ErrorKind> for TcpEnd {
    /// Converts the error of a read or a write.
    fn from(kind: std::io::ErrorKind) -> Self {
        match kind {
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => Self::Reset,
            kind => Self::Error(kind),
        }
    }
}

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The TLS handshake is not complete, or the peer's Session Parameters have not arrived.
    Handshaking,
    /// TCPLS is in use.
    Established,
    /// The peer does not support TCPLS: plain TLS 1.3, one TCP connection, one stream.
    Plain,
    /// No TCP connection is left; a join before `until` recovers the session. A client without a token is `Closed`
    /// instead.
    Stranded {
        /// When the session ends.
        until: Time,
    },
    /// Either endpoint is closing the session.
    Closing,
    /// The session has ended.
    Closed,
}

/// The results of the handshake that joins and the application need.
#[derive(Clone, Debug, Default)]
struct Identity {
    application_protocol: Option<Vec<u8>>,
    alpn: Option<Vec<u8>>,
    server_name: Option<String>,
    join_name: JoinName,
    peer_certificates: Vec<Vec<u8>>,
    suite: u16,
}

/// One endpoint of a session. `handle_*` report input to it, `poll_*` return output; every order, number of calls and
/// content of bytes is valid. No call blocks.
///
/// It has no clock, no randomness of its own, no sockets and no locks: the same configuration, seed and calls give the
/// same bytes.
pub struct Connection {
    side: Side,
    config: Arc<Config>,
    rng: Rng,
    extensions: ExtensionTypes,

    /// Present until the handshake is complete.
    handshake: Option<Box<dyn Handshake>>,
    handshake_deadline: Grace,
    established: bool,
    early: early::Early,
    plain: bool,
    plain_state: plain::PlainState,
    identity: Identity,
    keys: Option<Keys>,

    /// Live TCP connections.
    tcps: TcpSet<Carried>,
    /// Lost ones, the newest few.
    lost: BTreeMap<ConnectionId, Lost>,
    /// Final bytes for sockets that are to be closed.
    final_bytes: BTreeMap<ConnectionId, Vec<u8>>,
    stranded_until: Option<Time>,
    joins: Joins,

    streams: Streams,
    control: ControlFrames,
    /// The shorter of both endpoints' idle timeouts.
    idle_timeout: Option<Duration>,
    probe_interval: ProbeInterval,
    contention: Contention,
    scheduler: Box<dyn Scheduler>,

    /// When this endpoint closes the session that it drains.
    drained_by: Option<Time>,
    ending: Ending,
    messages: Messages,
    flood: Flood,
    last_heard: Time,
    activity: Activity,
    keep_alive: KeepAlive,
    events: VecDeque<Event>,
    frames_sent: FrameCounts,
    frames_received: FrameCounts,
    limits: LimitCounts,
    key_updates: (u32, u32),
    renewal: renewal::Renewal,
    trace: Tracer,
    /// Kept between calls so that building a record allocates nothing.
    scratch: output::Scratch,
}

impl Connection {
    /// Creates the client's endpoint of a new session. `tls` comes from a provider such as [`RustlsClient`]; TCP
    /// connection [`ConnectionId::FIRST`] exists from now on and carries the handshake. `seed` must be unpredictable
    /// and used only once. A configuration that [`Config::validate`] refuses ends the session at once, with
    /// [`CloseReason::Config`].
    ///
    /// [`RustlsClient`]: crate::crypto::rustls::RustlsClient
    pub fn client(now: Time, config: Arc<Config>, tls: Box<dyn Handshake>, seed: Seed) -> Self {
        Self::client_with(now, config, tls, seed, None)
    }

    /// Does the same, and records the session if there is a recorder.
    pub fn client_with(
        now: Time,
        config: Arc<Config>,
        tls: Box<dyn Handshake>,
        seed: Seed,
        recorder: Option<Recorder>,
    ) -> Self {
        let call = |_: &Privacy| Item::Client { now, config: Box::new(config.as_ref().clone()) };
        let (tls, recorder) = record::begin(recorder, tls, call);
        let mut conn = Self::new(Side::Client, now, config, tls, Joins::client(), &seed);
        recorder.into_iter().for_each(|recorder| conn.set_recorder(recorder, now));
        conn.flush_handshake();
        conn.note_shown_name();
        conn.begin_early();
        conn
    }

    /// Creates the server's endpoint of a new session that an [`Endpoint`] recognized; pass it the same bytes as TCP
    /// connection [`ConnectionId::FIRST`]. An invalid configuration ends the session at once, as for a client.
    ///
    /// [`Endpoint`]: crate::endpoint::Endpoint
    pub fn server(now: Time, config: Arc<Config>, tls: Box<dyn Handshake>, session: NewSession, seed: Seed) -> Self {
        Self::server_with(now, config, tls, session, seed, None)
    }

    /// Does the same, and records the session if there is a recorder.
    pub fn server_with(
        now: Time,
        config: Arc<Config>,
        tls: Box<dyn Handshake>,
        session: NewSession,
        seed: Seed,
        recorder: Option<Recorder>,
    ) -> Self {
        let call = |privacy: &Privacy| Item::Server {
            now,
            config: Box::new(config.as_ref().clone()),
            session: privacy.session(session.id),
            cover: session.cover.as_ref().map(|cover| privacy.cover(cover)),
        };
        let (tls, recorder) = record::begin(recorder, tls, call);
        let instance = session.instance;
        let mut conn = Self::new(Side::Server, now, config, tls, Joins::server(session), &seed);
        recorder.into_iter().for_each(|recorder| conn.set_recorder(recorder, now));
        let instance = conn.trace.judge_instance(instance);
        conn.control.name_instance(instance);
        conn.set_early_terms();
        conn
    }

    fn new(side: Side, now: Time, config: Arc<Config>, tls: Box<dyn Handshake>, joins: Joins, seed: &Seed) -> Self {
        let first = Tcp::new(ConnectionId::FIRST, TcpState::Handshaking, now);
        let mut conn = Self {
            side,
            rng: Rng::new(seed, b"tcpls session"),
            extensions: ExtensionTypes::default(),
            handshake: Some(tls),
            handshake_deadline: Grace::new(
                now,
                config.handshake_timeout,
                config.handshake_timeout.saturating_mul(Grace::MOST),
            ),
            established: false,
            early: early::Early::default(),
            plain: false,
            plain_state: plain::PlainState::default(),
            identity: Identity::default(),
            keys: None,
            tcps: TcpSet::of(first),
            lost: BTreeMap::new(),
            final_bytes: BTreeMap::new(),
            stranded_until: None,
            joins,
            streams: Streams::new(side, &config),
            control: ControlFrames::default(),
            idle_timeout: config.idle_timeout,
            probe_interval: ProbeInterval::new(&config, config.idle_timeout),
            contention: Contention::default(),
            scheduler: Box::new(EarliestDelivery),
            drained_by: None,
            ending: Ending::default(),
            messages: Messages::default(),
            flood: Flood::new(config.overhead_budget, now),
            last_heard: now,
            activity: Activity::new(now),
            keep_alive: KeepAlive::default(),
            events: VecDeque::new(),
            frames_sent: FrameCounts::default(),
            frames_received: FrameCounts::default(),
            limits: LimitCounts::default(),
            key_updates: (0, 0),
            renewal: renewal::Renewal::default(),
            trace: Tracer::default(),
            scratch: output::Scratch::default(),
            config,
        };
        if side == Side::Server && conn.handshake.as_ref().is_some_and(|tls| tls.resumes_joins()) {
            conn.control.take_resumed_joins();
        }
        if let Err(error) = conn.config.validate() {
            conn.conclude(CloseReason::Config(error));
        }
        conn
    }

    /// Returns the next event; [`Event::Closed`] comes once, as the last.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.trace.call(|_| Item::PollEvent {});
        let event = self.next_event();
        self.trace.took_event(event.as_ref());
        event
    }

    fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            if let Event::Tcp(TcpEvent::Discarded { tcp }) = event {
                self.joins.release(tcp);
            }
            return Some(event);
        }
        if let Some(event) = self.streams.poll_event() {
            return Some(Event::Stream(event));
        }
        self.ending.take_closed_event().map(|reason| Event::Closed { reason })
    }
}

impl core::fmt::Debug for Connection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connection")
            .field("side", &self.side)
            .field("state", &self.state())
            .field("tcp_connections", &self.tcps.ids().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
