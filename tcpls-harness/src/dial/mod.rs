//! Decides which pair of addresses a client dials, and when: a state machine without sockets, clock or randomness of
//! its own. The tokio driver (`net`) and the simulator execute its actions. It knows nothing of the data on TCP
//! connections.
//!
//! | file | subject |
//! | --- | --- |
//! | `local`, `path`, `order` | the types: local ends and addresses; options and actions |
//! | `pair` | one pair of addresses: its attempts, and the delays between them |
//! | `policy` | the interface, for policies of your own |
//! | `start` | before there is a session: TCP connections race, and the first gets the TLS handshake |
//! | `keep` | during the session: joins on other pairs, and replacement of lost and stalled TCP connections |
//! | `group` | paths that share a bottleneck: which of them carries data |
//! | `network` | lost and found local addresses, and the host's sleep |
//! | `ask` | whether a server that refuses joins has died |
//! | `lanes` | TCP connections for interactive streams beside bulk data |
//!
//! The driver reports events with `handle_*`, calls [`Dialer::advance`], executes the actions from [`Dialer::poll_action`],
//! and calls again at [`Dialer::poll_timeout`] at the latest. The same options, seed and calls give the same actions.

mod ask;
mod group;
mod keep;
mod lanes;
pub(crate) mod local;
mod network;
mod order;
mod pair;
mod path;
mod policy;
mod start;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use tcpls_core::connection::JoinOptions;
use tcpls_core::crypto::rng::{Rng, Seed};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

pub use self::group::Group;
pub use self::local::{Device, Local, NoDevice};
pub use self::network::{NetworkChange, report_change};
pub use self::order::{Action, AttemptId, DialOptions, Keep, SessionView};
pub use self::path::{Backup, Path, PathStatus};
pub use self::policy::{DialPolicy, MakeDialPolicy};

use self::pair::{Attempt, Pair, Purpose, Reach, Stage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Over,
}

/// Decides which pair of addresses is dialed when, and for what purpose.
#[derive(Debug)]
pub struct Dialer {
    options: DialOptions,
    rng: Rng,
    phase: Phase,
    pairs: Vec<Pair>,
    backups: Vec<Backup>,
    /// Local ends that were given, with the TCP connections to keep from each.
    locals: Vec<(Local, usize)>,
    /// TCP connections to keep.
    target: usize,
    actions: VecDeque<Action>,
    next_attempt: u64,
    /// When the next pair may be dialed although the pairs before it have not failed.
    next_start: Time,
    view: SessionView,
    /// The time of the last call.
    advanced: Time,
    /// The largest number of unused tokens so far.
    most_tokens: usize,
    /// When delivery was last observed, and the bytes delivered by then.
    moved: (Time, u64),
    /// Whether data waited, or moved, at the last call.
    was_busy: bool,
    /// Since when no TCP connection answers.
    urgent_since: Option<Time>,
    /// When the client may ask for the server where the session began.
    ask_at: Option<Time>,
    /// How long none answers before one is replaced, if the session has reached its limit.
    patience: Duration,
}

impl Dialer {
    /// Creates a dialer for a new session over `paths`, in which pairs may repeat. `seed` is for jitter.
    pub fn new(now: Time, paths: &[Path], options: DialOptions, seed: &Seed) -> Self {
        Self {
            rng: Rng::new(seed, b"tcpls dial"),
            phase: Phase::Starting,
            pairs: paths.iter().map(|path| Pair::new(*path, now)).collect(),
            backups: Vec::new(),
            locals: Vec::new(),
            target: options.wanted.clamp(1, paths.len().max(1)),
            actions: VecDeque::new(),
            next_attempt: 0,
            next_start: now,
            view: SessionView::default(),
            advanced: now,
            most_tokens: 0,
            urgent_since: None,
            ask_at: None,
            moved: (now, 0),
            was_busy: false,
            patience: pair::GRACE,
            options,
        }
    }

    /// Makes the pairs that match, known or not, backups from now on: a TCP connection that joins there is a backup. At
    /// the start they are dialed last.
    pub fn set_backups(&mut self, backups: Vec<Backup>) {
        self.backups = backups;
        self.mark_pairs();
    }

    /// Sets the local ends of the paths. Each gets an equal share of the wanted TCP connections, so that no other
    /// interface takes the place of one that fails. Paths from metered ones are dialed while no other path answers, and
    /// their TCP connections are backups. Of those in a group, one carries data.
    pub fn set_locals(&mut self, locals: &[Local]) {
        let share = self.target.div_ceil(locals.len().max(1));
        self.locals = locals.iter().map(|local| (*local, share)).collect();
        self.mark_pairs();
    }

    fn mark_pairs(&mut self) {
        for pair in &mut self.pairs {
            mark(&self.backups, &self.locals, pair);
        }
        if self.phase == Phase::Starting {
            self.pairs.sort_by_key(|pair| (pair.is_metered, pair.is_backup));
        }
    }

    /// The TCP connections that follow `tcp` on its pair are backups, too, or no more. One that is no more leaves its
    /// group.
    pub fn set_backup(&mut self, tcp: ConnectionId, backup: bool) {
        let Some(pair) = self.pairs.iter_mut().find(|pair| pair.is_on(tcp)) else { return };
        pair.is_backup = backup;
        pair.live.iter_mut().for_each(|live| live.backup = backup);
        if !backup {
            (pair.group, pair.yields) = (None, false);
        }
    }

    /// Returns the options for a join of the application on this pair.
    pub fn join_options(&self, path: Path) -> JoinOptions {
        let known = self.pairs.iter().find(|pair| pair.path == path);
        let backup = known.map_or_else(|| self.pair(path, self.advanced).joins_as_backup(), Pair::joins_as_backup);
        JoinOptions::default().with(|join| {
            join.zero_rtt = self.zero_rtt(path);
            join.backup = backup;
        })
    }

    fn pair(&self, path: Path, now: Time) -> Pair {
        let mut pair = Pair::new(path, now);
        mark(&self.backups, &self.locals, &mut pair);
        pair.yields = pair.group.is_some_and(|group| self.carrier(group).is_some());
        pair.is_offered = self.pairs.iter().any(|other| other.is_offered && other.path.remote == path.remote);
        pair
    }

    /// TCP is connected. Returns false if it is no longer needed: close the socket.
    pub fn handle_connected(&mut self, now: Time, attempt: AttemptId) -> bool {
        if let Some((index, at)) = self.find(attempt) {
            let pair = &mut self.pairs[index];
            pair.rtt = Some(now - pair.attempts[at].since);
            pair.reach = Reach::Unknown;
        }
        self.handle_deferred(now, attempt)
    }

    /// A socket is ready whose TCP connection begins only with what is written first (TCP Fast Open): neither the path nor
    /// its round-trip time is known. Returns false if it is no longer needed: close the socket.
    pub fn handle_deferred(&mut self, now: Time, attempt: AttemptId) -> bool {
        if let Some(is_needed) = self.lane_connected(now, attempt) {
            return is_needed;
        }
        let Some((index, at)) = self.find(attempt) else { return false };
        let pair = &mut self.pairs[index];
        (pair.attempts[at].stage, pair.attempts[at].since) = (Stage::Ready, now);
        self.abandon_where(index, |other| other.id != attempt && other.stage == Stage::Connecting);
        true
    }

    /// TCP did not connect, the handshake failed, or the join could not begin. See also [`Dialer::handle_refused`].
    pub fn handle_failed(&mut self, now: Time, attempt: AttemptId) {
        if self.lane_failed(now, attempt) {
            return;
        }
        let Some((index, at)) = self.find(attempt) else { return };
        let pair = &mut self.pairs[index];
        if pair.attempts.remove(at).stage == Stage::Connecting && !matches!(pair.reach, Reach::Refuses(_)) {
            pair.reach = Reach::NoRoute;
        }
        pair.away_since.get_or_insert(now);
        self.next_start = now; // the next may begin at once
    }

    /// Reports the bytes received on a TCP connection during its handshake.
    pub fn handle_progress(&mut self, now: Time, attempt: AttemptId, bytes: u64) {
        let Some((index, at)) = self.find(attempt) else { return };
        let attempt = &mut self.pairs[index].attempts[at];
        if let Stage::Handshaking { heard, overdue } = &mut attempt.stage
            && *heard < bytes
        {
            (*heard, *overdue, attempt.since) = (bytes, false, now);
        }
    }

    /// This handshake is the first to complete, and its session is used; `tcpls` is false if it is plain TLS.
    pub fn handle_established(&mut self, now: Time, attempt: AttemptId, tcpls: bool) {
        let Some((index, at)) = self.find(attempt) else { return };
        self.pairs[index].attempts.remove(at);
        self.begin_keeping(now, index, tcpls);
    }

    /// The join has begun under this connection ID.
    pub fn handle_joining(&mut self, attempt: AttemptId, tcp: ConnectionId) {
        self.lane_joining(attempt, tcp);
        let Some((index, at)) = self.find(attempt) else { return };
        if let Stage::Joining { tcp: name, .. } = &mut self.pairs[index].attempts[at].stage {
            *name = Some(tcp);
        }
    }

    /// Reports an event of the session.
    pub fn handle_event(&mut self, now: Time, event: &Event) {
        match event {
            Event::Tcp(TcpEvent::Joined { tcp }) => {
                self.note_lane_joined(now, *tcp);
                self.note_joined(now, *tcp);
            }
            Event::Tcp(TcpEvent::Stalled { tcp }) => self.note_silence(now, *tcp, true),
            Event::Tcp(TcpEvent::Resumed { tcp }) => self.note_silence(now, *tcp, false),
            Event::Tcp(TcpEvent::Lost { tcp, fault }) => {
                self.note_lane_lost(now, *tcp);
                self.note_lost(now, *tcp, *fault);
            }
            Event::AddressWithdrawn { address, .. } => self.set_withdrawn(*address, true),
            Event::AddressAdvertised { address, .. } => self.set_withdrawn(*address, false),
            Event::Closed { .. } => self.end(),
            _ => {}
        }
    }

    /// Decides what is due now. Call it after every event, and at [`Dialer::poll_timeout`]; further calls have no
    /// effect. `session` is the default before there is one.
    pub fn advance(&mut self, now: Time, session: SessionView) {
        (self.view, self.advanced) = (session, now);
        self.most_tokens = self.most_tokens.max(session.tokens);
        self.expire(now);
        match self.phase {
            Phase::Starting => self.race(now),
            Phase::Running if session.open => self.keep(now),
            Phase::Running => self.end(),
            Phase::Over => {}
        }
    }

    /// Returns the next action.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if self.actions.is_empty() {
            self.actions = VecDeque::new(); // a session dials seldom
        }
        action
    }

    /// Returns when to call [`Dialer::advance`] without an event before; a future time after each call to it.
    pub fn poll_timeout(&self) -> Option<Time> {
        let attempts = self.pairs.iter().flat_map(|pair| pair.attempts.iter().map(move |attempt| (pair, attempt)));
        let ends = attempts.filter_map(|(pair, attempt)| pair.deadline_of(attempt, &self.options, self.view.join_time));
        let more = match self.phase {
            Phase::Starting => self.start_deadline(),
            Phase::Running => self.keep_deadline().into_iter().chain(self.lanes_deadline()).min(),
            Phase::Over => return None,
        };
        ends.chain(more).min()
    }

    /// The application joins a TCP connection itself: it is kept like the others.
    pub fn adopt(&mut self, now: Time, path: Path, tcp: ConnectionId) {
        let index = self.enlist(now, path);
        self.abandon_where(index, |attempt| attempt.is_idle());
        let id = self.name();
        let backup = self.pairs[index].joins_as_backup();
        let stage = Stage::Joining { tcp: Some(tcp), overdue: false, backup, purpose: Purpose::Application };
        self.pairs[index].attempts.push(Attempt { id, since: now, stage });
    }

    /// The server advertises the remote address of this pair, and the client may connect to it. The pair is an alternative
    /// to the others, not one more to keep. If the server accepts joins only at such addresses
    /// ([`SessionView::advertised_only`]), no other pair is dialed any more, unless the server seems to have died
    /// ([`SessionView::can_ask`]).
    pub fn offer(&mut self, now: Time, path: Path) {
        let is_there = |pair: &Pair| pair.path.remote == path.remote;
        self.pairs.iter_mut().filter(|pair| is_there(pair)).for_each(|pair| pair.is_offered = true);
        if !self.pairs.iter().any(|pair| pair.path == path) {
            self.pairs.reserve_exact(1);
            let mut pair = self.pair(path, now);
            pair.is_offered = true;
            self.pairs.push(pair);
        }
    }

    /// Whether the server accepts no joins at the remote address of this pair.
    fn is_barred(&self, pair: &Pair) -> bool {
        self.view.advertised_only && !pair.is_offered
    }

    /// Keeps one more TCP connection, on this pair.
    pub fn add(&mut self, now: Time, path: Path) {
        self.enlist(now, path);
    }

    /// Returns whether a join on this pair should carry 0-RTT data.
    fn zero_rtt(&self, path: Path) -> bool {
        let fails = |pair: &Pair| pair.path == path && !pair.sends_early();
        self.options.zero_rtt && !self.pairs.iter().any(fails)
    }

    /// The pairs, in the order they were given.
    pub fn paths(&self) -> impl Iterator<Item = PathStatus> + '_ {
        self.pairs.iter().map(|pair| PathStatus {
            path: pair.path,
            tcp: pair.live.map(|live| live.tcp),
            silent: pair.live.is_some_and(|live| live.silent),
            backup: pair.joins_as_backup(),
            metered: pair.is_metered,
        })
    }

    /// Returns the pair of an attempt.
    pub fn path_of(&self, attempt: AttemptId) -> Option<Path> {
        self.find(attempt).map(|(index, _)| self.pairs[index].path).or_else(|| self.lane_path(attempt))
    }

    fn find(&self, attempt: AttemptId) -> Option<(usize, usize)> {
        self.pairs
            .iter()
            .enumerate()
            .find_map(|(index, pair)| pair.attempts.iter().position(|other| other.id == attempt).map(|at| (index, at)))
    }

    fn name(&mut self) -> AttemptId {
        self.next_attempt += 1;
        AttemptId(self.next_attempt)
    }

    fn dial(&mut self, now: Time, index: usize) {
        let attempt = self.name();
        let pair = &mut self.pairs[index];
        pair.tried = true;
        pair.last_dial = Some(now);
        pair.attempts.push(Attempt { id: attempt, since: now, stage: Stage::Connecting });
        self.actions.push_back(Action::Connect { attempt, path: pair.path });
    }

    fn abandon_where(&mut self, index: usize, condition: impl Fn(&Attempt) -> bool) {
        for attempt in self.pairs[index].attempts.extract_if(.., |attempt| condition(attempt)) {
            self.actions.push_back(Action::Abandon { attempt: attempt.id, timed_out: false });
        }
    }

    /// Ends attempts that have taken too long, or starts others next to them.
    fn expire(&mut self, now: Time) {
        let (options, join_time) = (self.options, self.view.join_time);
        for index in 0..self.pairs.len() {
            let pair = &mut self.pairs[index];
            let late = |pair: &Pair, attempt: &Attempt| {
                pair.deadline_of(attempt, &options, join_time).is_some_and(|at| at <= now)
            };
            for at in (0..pair.attempts.len()).rev().filter(|at| late(pair, &pair.attempts[*at])).collect::<Vec<_>>() {
                let attempt = pair.attempts[at];
                match &mut pair.attempts[at].stage {
                    Stage::Handshaking { overdue, .. } | Stage::Joining { overdue, .. } => *overdue = true,
                    Stage::Connecting | Stage::Ready => {
                        pair.attempts.remove(at);
                        let timed_out = attempt.stage == Stage::Connecting;
                        pair.reach = if timed_out { Reach::Unknown } else { pair.reach };
                        // Servers do not wait long for a ClientHello: connect again.
                        (pair.tried, pair.unused) = (timed_out, !timed_out);
                        self.actions.push_back(Action::Abandon { attempt: attempt.id, timed_out });
                    }
                }
            }
            if self.pairs[index].attempts.is_empty() {
                self.pairs[index].attempts = Vec::new(); // a session dials seldom
            }
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Over;
        self.end_lanes();
        (0..self.pairs.len()).for_each(|index| self.abandon_where(index, Attempt::is_idle));
        self.pairs.iter_mut().for_each(|pair| pair.attempts.clear());
    }
}

/// Notes whether TCP connections on `pair` are backups, whether it is metered, and its group.
fn mark(backups: &[Backup], locals: &[(Local, usize)], pair: &mut Pair) {
    let of = |local: &&(Local, usize)| local.0.is_of(&pair.path);
    let (local, _) = locals.iter().find(of).copied().unwrap_or_default();
    pair.is_backup = local.backup || local.metered || backups.iter().any(|backup| backup.names(&pair.path));
    (pair.is_metered, pair.group) = (local.metered, local.group);
}
