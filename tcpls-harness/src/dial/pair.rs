//! One pair of addresses: its attempts, what is known about it, and the delays between dials.

use std::time::Duration;

use tcpls_core::crypto::rng::Rng;
use tcpls_core::error::TcpFault;
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

use super::lanes::Lane;
use super::{AttemptId, DialOptions, Group, Path};

/// How long a stalled TCP connection may take to answer before another is dialed: most are only slow. It doubles with
/// each replacement, until one has lasted.
pub(super) const GRACE: Duration = Duration::from_millis(200);
/// The shortest delay between two dials of a pair; TCP itself would wait 1 s.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest delay while data waits or moves, or if no TCP connection answers.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The longest delay when none answers and streams are open.
const MAX_URGENT_PAUSE: Duration = Duration::from_secs(1);
/// The delay is the length of the outage divided by this, if no TCP connection answers or data waits or moves: the
/// recovery is detected within 1/40 of the outage.
const PAUSES: u32 = 40;
/// The same if none answers and no stream is open.
const IDLE_PAUSES: u32 = 8;
/// The number of concurrent dials of a pair if no TCP connection answers; otherwise 1.
const MAX_DIALS: u32 = 12;
/// The first delay while another TCP connection answers. While no data moves it doubles with each dial.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_QUIET_PAUSE: Duration = Duration::from_secs(60);
/// TCP retransmits a lost SYN only after 1 s; by then other dials have started.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connected TCP connection may wait for its use; servers close silent ones after a few seconds.
const READY_LIFE: Duration = Duration::from_secs(2);
/// A TCP connection that lived for this time counts as a success.
const SETTLED: Duration = Duration::from_millis(500);
/// The delay after the first that did not; it doubles with each.
const FLAP_PAUSE: Duration = Duration::from_millis(50);
/// The delay after a join without an answer, which cost a token; it doubles with each.
const DOUBT_PAUSE: Duration = Duration::from_millis(500);
const MAX_DOUBT_PAUSE: Duration = Duration::from_secs(60);
/// The same when no TCP connection answers.
const MAX_URGENT_DOUBT_PAUSE: Duration = Duration::from_secs(2);
/// The delay after a join that was closed or refused, when no TCP connection answers.
const REFUSAL_PAUSE: Duration = Duration::from_millis(250);

/// A TCP connection that is part of the session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) tcp: ConnectionId,
    pub(super) since: Time,
    pub(super) silent: bool,
    /// Since when it is not silent.
    pub(super) answers_since: Time,
    pub(super) link: Link,
    /// Whether the session has it as a backup.
    pub(super) backup: bool,
}

impl Live {
    pub(super) fn new(tcp: ConnectionId, now: Time, backup: bool) -> Self {
        Self { tcp, since: now, silent: false, answers_since: now, link: Link::Up, backup }
    }
}

/// What the operating system reports about the link of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing.
    Up,
    /// It was away, or the host was suspended: the TCP connection may be lost. Another is dialed at once.
    Doubted,
    /// Since when this host can send nothing.
    Lost(Time),
    /// The driver closes the TCP connection.
    Closing,
}

/// How urgent a new TCP connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// None answers, and streams are open.
    Urgent,
    /// None answers, and no stream is open.
    Stranded,
    /// Another answers, and carries data.
    Busy,
    /// Another answers, and no data moves.
    Quiet,
}

/// How a join failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer.
    Silence,
    /// TCP ended before any answer, for example at a load balancer whose backend is down.
    Closed,
    /// An answer that costs the token: from a server that does not know the session, or from a middlebox.
    Refused,
}

impl From<TcpFault> for Failure {
    fn from(fault: TcpFault) -> Self {
        match fault {
            TcpFault::JoinTimeout => Self::Silence,
            TcpFault::Fin | TcpFault::Reset | TcpFault::Io | TcpFault::PathDown => Self::Closed,
            _ => Self::Refused,
        }
    }
}

/// What became of the last TCP connection to a remote address, as far as it says whether the server is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// There was an answer, or none in time.
    Unknown,
    /// The number of refused ones in a row.
    Refuses(u32),
    /// The host did not find a way.
    NoRoute,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    /// TCP is connected, and not used yet.
    Ready,
    /// TLS is in progress; `heard` bytes have arrived.
    Handshaking {
        heard: u64,
        overdue: bool,
    },
    /// `tcp` is `None` until the driver has reported it; `backup` is how it joins.
    Joining {
        tcp: Option<ConnectionId>,
        overdue: bool,
        backup: bool,
        purpose: Purpose,
    },
}

/// What a join is for, which decides how long it may go without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The pair is to have a TCP connection. If it is overdue, its data is left to others.
    Keep,
    /// The application wants this one. It is given up for another on its pair alone, or by the session.
    Application,
    /// A question (decision D233). It is not overdue before the session gives it up: another server answers with a full
    /// handshake, and many clients may ask at once.
    Question,
}

/// A TCP connection that is being opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) id: AttemptId,
    /// When this stage began, or bytes last arrived.
    pub(super) since: Time,
    pub(super) stage: Stage,
}

impl Attempt {
    /// Whether no session knows of it.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Connecting | Stage::Ready)
    }

    /// Whether it is a join that the application wants.
    pub(super) fn is_wanted(&self) -> bool {
        matches!(self.stage, Stage::Joining { purpose: Purpose::Application, .. })
    }

    pub(super) fn is_overdue(&self) -> bool {
        matches!(self.stage, Stage::Handshaking { overdue: true, .. } | Stage::Joining { overdue: true, .. })
    }
}

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) path: Path,
    pub(super) live: Option<Live>,
    pub(super) attempts: Vec<Attempt>,
    /// Starting: it has had its chance.
    pub(super) tried: bool,
    /// The earliest next dial.
    pub(super) next: Time,
    pub(super) last_dial: Option<Time>,
    /// Since when the pair does not work.
    pub(super) away_since: Option<Time>,
    /// How often it was dialed since then.
    redials: u32,
    /// Whether a TCP connection was in use on this pair before.
    pub(super) was_used: bool,
    /// How long a stalled TCP connection on this pair may take to answer before another is dialed.
    pub(super) grace: Duration,
    /// How long TCP took to connect when it last did.
    pub(super) rtt: Option<Duration>,
    /// TCP connections in a row that were lost as soon as they had joined.
    flaps: u32,
    /// Joins in a row that failed.
    pub(super) doubts: u32,
    /// The last one was refused.
    pub(super) is_refused: bool,
    /// Whether joins may carry 0-RTT data, which some middleboxes drop.
    pub(super) zero_rtt: bool,
    /// Whether joins carry no 0-RTT data until one succeeds: a token under whose number nothing was sealed can be used
    /// again.
    is_cautious: bool,
    /// Whether a TCP connection got no token in time.
    pub(super) unused: bool,
    /// Whether its TCP connections are backups.
    pub(super) is_backup: bool,
    /// Whether it is dialed only while no other answers.
    pub(super) is_metered: bool,
    /// The pairs with which it shares a bottleneck.
    pub(super) group: Option<Group>,
    /// Whether it leaves the data to another of its group.
    pub(super) yields: bool,
    /// Whether its TCP connection was retired intentionally: it is not replaced.
    pub(super) parked: bool,
    /// Whether the server has withdrawn the address.
    pub(super) withdrawn: bool,
    /// Whether the server advertises the address, and the client may connect to it.
    pub(super) is_offered: bool,
    /// Whether the session began here.
    pub(super) is_origin: bool,
    /// What became of dials while no TCP connection answers.
    pub(super) reach: Reach,
    /// Whether this host has lost the local address: dials would fail.
    pub(super) is_cut: bool,
    /// Its TCP connection without bulk data, beside `live`.
    pub(super) lane: Lane,
}

impl Pair {
    pub(super) fn new(path: Path, now: Time) -> Self {
        Self {
            path,
            live: None,
            attempts: Vec::new(),
            tried: false,
            next: now,
            last_dial: None,
            away_since: None,
            redials: 0,
            was_used: false,
            grace: GRACE,
            rtt: None,
            flaps: 0,
            doubts: 0,
            is_refused: false,
            zero_rtt: true,
            is_cautious: false,
            unused: false,
            is_backup: false,
            is_metered: false,
            group: None,
            yields: false,
            parked: false,
            withdrawn: false,
            is_offered: false,
            is_origin: false,
            reach: Reach::Unknown,
            is_cut: false,
            lane: Lane::default(),
        }
    }

    /// Whether it has an active TCP connection that is not stalled.
    pub(super) fn answers(&self) -> bool {
        self.live.is_some_and(|live| !live.silent)
    }

    /// Whether a TCP connection that joins here is a backup.
    pub(super) fn joins_as_backup(&self) -> bool {
        self.is_backup || self.yields
    }

    /// Whether it has a join in progress that is not overdue.
    pub(super) fn is_joining(&self) -> bool {
        self.attempts.iter().any(|attempt| matches!(attempt.stage, Stage::Joining { overdue: false, .. }))
    }

    /// Whether it has a TCP connection that counts, or will have it.
    pub(super) fn is_taken(&self) -> bool {
        self.answers() || self.is_joining()
    }

    /// Whether `tcp` is the one in use there.
    pub(super) fn is_on(&self, tcp: ConnectionId) -> bool {
        self.live.is_some_and(|live| live.tcp == tcp)
    }

    /// Returns the connected attempt that waits for its use.
    pub(super) fn ready(&self) -> Option<usize> {
        self.attempts.iter().position(|attempt| attempt.stage == Stage::Ready)
    }

    /// Returns when `attempt` is overdue; `None` if that would have no consequence.
    pub(super) fn deadline_of(&self, attempt: &Attempt, options: &DialOptions, join_time: Duration) -> Option<Time> {
        let patience = match attempt.stage {
            _ if attempt.is_overdue() => return None,
            Stage::Joining { purpose: Purpose::Question, .. } => return None,
            Stage::Connecting => self.timeout(attempt.since, options),
            Stage::Ready => READY_LIFE,
            Stage::Handshaking { .. } => (self.rtt.unwrap_or_default() * 2).saturating_add(options.patience),
            Stage::Joining { .. } => {
                (self.rtt.unwrap_or_default() * 2).saturating_add(options.patience).saturating_add(join_time)
            }
        };
        Some(attempt.since + patience)
    }

    /// Returns the time limit of a dial at `now`. It grows with the length of the outage: the pair may have become
    /// slow, and a constant limit might never reach it.
    fn timeout(&self, now: Time, options: &DialOptions) -> Duration {
        let away = self.away_since.map_or(Duration::ZERO, |since| now - since);
        let known = self.rtt.map(|rtt| (rtt * 4).max(MIN_TIMEOUT).max(away));
        known.unwrap_or(options.connect_timeout).min(options.connect_timeout)
    }

    /// Notes a dial, and sets the delay before the next.
    pub(super) fn pause(&mut self, now: Time, haste: Haste, options: &DialOptions, rng: &mut Rng) {
        let away = now - *self.away_since.get_or_insert(now);
        let side_by_side = self.timeout(now, options) / MAX_DIALS;
        let pause = match haste {
            Haste::Urgent => (away / PAUSES).clamp(MIN_PAUSE, MAX_URGENT_PAUSE).max(side_by_side),
            Haste::Stranded => (away / IDLE_PAUSES).clamp(MIN_PAUSE, MAX_PAUSE).max(side_by_side),
            Haste::Busy => busy_pause(away),
            Haste::Quiet => doubled(FIRST_PAUSE, self.redials).min(MAX_QUIET_PAUSE),
        };
        self.redials += 1;
        self.next = now + jitter(pause, rng);
    }

    /// Data waits again: postponed dials are due now, except after failed joins, which cost tokens.
    pub(super) fn note_work(&mut self, now: Time) {
        let away = self.away_since.map_or(Duration::ZERO, |since| now - since);
        let earliest = self.last_dial.map_or(now, |last| last + busy_pause(away));
        if self.doubts == 0 && self.flaps == 0 {
            self.next = self.next.min(earliest.max(now));
        }
    }

    /// Its link has changed: delays from before do not matter.
    pub(super) fn note_link(&mut self, now: Time) {
        self.redials = 0;
        self.next = self.next.min(now);
    }

    /// No TCP connection answers any more: postponed dials are due now.
    pub(super) fn hurry(&mut self, now: Time) {
        let pause = if self.doubts > 0 { DOUBT_PAUSE } else { MIN_PAUSE };
        let earliest = self.last_dial.map_or(now, |last| last + pause);
        self.next = self.next.min(earliest.max(now));
    }

    /// Its TCP connection was lost: dials again at once, unless it has just done so.
    pub(super) fn note_loss(&mut self, now: Time, lost: Live, rng: &mut Rng) {
        self.away_since.get_or_insert(now);
        if lost.silent {
            return; // it is being dialled already
        }
        self.redials = 0;
        if now - lost.since >= SETTLED {
            (self.flaps, self.next) = (0, now);
        } else {
            self.next = now + jitter(doubled(FLAP_PAUSE, self.flaps).min(MAX_PAUSE), rng);
            self.flaps += 1;
        }
    }

    /// A TCP connection has joined.
    pub(super) fn note_success(&mut self) {
        (self.away_since, self.doubts) = (None, 0);
        (self.redials, self.was_used) = (0, true);
        (self.is_refused, self.is_cautious) = (false, false);
        (self.parked, self.unused) = (false, false);
    }

    /// Whether the next join carries 0-RTT data.
    pub(super) fn sends_early(&self) -> bool {
        self.zero_rtt && !self.is_cautious
    }

    /// A join failed. Without an answer, the next join toggles 0-RTT data, which some middleboxes drop; it follows at
    /// once if it is the first and no TCP connection answers. After an answer there is a delay.
    pub(super) fn note_failed_join(&mut self, now: Time, how: Failure, urgent: bool, rng: &mut Rng) {
        self.away_since.get_or_insert(now);
        self.is_refused = how == Failure::Refused;
        if how == Failure::Silence {
            self.zero_rtt = !self.zero_rtt;
        } else {
            self.is_cautious = true;
        }
        let (first, longest) = match how {
            _ if !urgent => (DOUBT_PAUSE, MAX_DOUBT_PAUSE),
            Failure::Silence => (DOUBT_PAUSE, MAX_URGENT_DOUBT_PAUSE),
            Failure::Closed | Failure::Refused => (REFUSAL_PAUSE, MAX_URGENT_DOUBT_PAUSE),
        };
        let at_once = how == Failure::Silence && urgent && self.doubts == 0;
        let pause = doubled(first, self.doubts).min(longest);
        self.next = if at_once { now } else { now + jitter(pause, rng) };
        self.doubts += 1;
    }
}

/// Returns the delay between dials after an outage of `away`, while data moves on other pairs.
fn busy_pause(away: Duration) -> Duration {
    (away / PAUSES).clamp(FIRST_PAUSE, MAX_PAUSE)
}

fn doubled(pause: Duration, times: u32) -> Duration {
    pause * (1 << times.min(10))
}

/// Returns 75 to 125 % of `pause`, so that clients that lost a server at the same time do not return at the same time.
pub(super) fn jitter(pause: Duration, rng: &mut Rng) -> Duration {
    let share = u32::from(u16::from_be_bytes(rng.bytes())) + 3 * (1 << 15);
    pause * share / (1 << 17)
}
