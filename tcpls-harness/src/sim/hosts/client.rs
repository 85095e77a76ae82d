//! The client's host. It executes the actions of the same dialer (`dial`) as real sockets, like `net::client` and
//! `net::task`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::rc::Rc;

use bytes::BytesMut;
use tcpls_core::{AddressId, Connection, ConnectionId, ErrorCode, Side, State, Time};
use tokio::sync::oneshot;

use super::account::SocketOwner;
use super::driver::{Driver, TcpOrder};
use super::env::Env;
use super::setup::Setup;
use super::tls::Identity;
use crate::dial::{
    Action, AttemptId, Backup, DialOptions, DialPolicy, Dialer, Group, Keep, Local, MakeDialPolicy, NetworkChange,
    Path, SessionView, report_change,
};
use crate::net::AddTcpError;
use crate::net::session::Opened;
use crate::sim::network::{Opening, SocketId, addresses};
use crate::sim::rng::SimRng;
use crate::sim::scenario::{self, Role, Scenario};
use crate::sim::trace::Host;

const SIDE: Side = Side::Client;

/// See the module's description.
pub(crate) struct Client {
    /// Counted from 0.
    number: usize,
    setup: Setup,
    identity: Rc<Identity>,
    rng: SimRng,
    dialer: Box<dyn DialPolicy>,
    dials: BTreeMap<AttemptId, Dial>,
    /// To begin again with, if a session with early data ends before its handshake is complete.
    spare: Option<Box<dyn DialPolicy>>,
    /// Sessions that began with early data.
    pub(crate) early_sessions: usize,
    /// The attempt of the session, while its handshake is not complete: the dialer does not know of it yet.
    early: Option<AttemptId>,
    /// Sessions whose handshakes are under way.
    candidates: BTreeMap<AttemptId, (Driver, SocketId)>,
    /// The one whose handshake was over first.
    pub(crate) driver: Option<Driver>,
    /// The socket that carried its handshake.
    pub(crate) first: Option<SocketId>,
    /// Addresses that the server advertises, of which the dialer knows.
    offered: Vec<AddressId>,
    /// What the application joins by itself.
    joins: Vec<Join>,
    connect_timeout: std::time::Duration,
    /// There will be no session.
    pub(crate) failed: bool,
}

/// A TCP connection that is being opened.
#[derive(Clone, Copy, Debug)]
struct Dial {
    socket: SocketId,
    path: usize,
    connected: bool,
}

/// A TCP connection that the application opens and joins.
#[derive(Debug)]
struct Join {
    path: usize,
    dial: Option<(SocketId, Time)>,
    /// Whether the application waits for this; that of a scenario waits only for a token.
    answer: Option<oneshot::Sender<Opened>>,
}

impl Join {
    fn new(path: usize) -> Self {
        Self { path, dial: None, answer: None }
    }

    /// The application does not wait any more.
    fn is_cancelled(&self) -> bool {
        self.answer.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    fn fail(&mut self, error: AddTcpError) {
        if let Some(answer) = self.answer.take() {
            _ = answer.send(Err(error));
        }
    }
}

fn group_of(scenario: &Scenario, path: usize) -> Option<Group> {
    scenario.path[path].group.as_deref().and_then(Group::new)
}

impl Client {
    pub(crate) fn new(
        scenario: &Scenario,
        number: usize,
        setup: Setup,
        policy: Option<&MakeDialPolicy>,
        identity: Rc<Identity>,
        mut rng: SimRng,
    ) -> Self {
        let keep = match scenario.keep {
            scenario::Keep::Nothing => Keep::Nothing,
            scenario::Keep::Session => Keep::Session,
            scenario::Keep::Paths => Keep::Paths,
        };
        let options = DialOptions { keep, zero_rtt: setup.config.zero_rtt_join, ..DialOptions::default() };
        let used: Vec<usize> =
            (0..scenario.path.len()).filter(|path| scenario.path[*path].role != Role::Spare).collect();
        let pairs: Vec<_> = used.iter().map(|path| addresses(*path)).collect();
        let joins = used.iter().skip(1).filter(|_| keep != Keep::Paths).map(|path| Join::new(*path));
        let new_dialer = |rng: &mut SimRng| -> Box<dyn DialPolicy> {
            let mut dialer = Dialer::new(Time::ZERO, &pairs, options, &rng.seed());
            let standby = (0..scenario.path.len()).filter(|path| scenario.path[*path].role == Role::Standby);
            dialer.set_backups(standby.map(|path| Backup::Remote(addresses(path).remote)).collect());
            if scenario.path.iter().any(|path| path.group.is_some() || path.role == Role::Metered) {
                let local = |path: &usize| Local {
                    group: group_of(scenario, *path),
                    metered: scenario.path[*path].role == Role::Metered,
                    ..Local::of(&addresses(*path))
                };
                dialer.set_locals(&used.iter().map(local).collect::<Vec<_>>());
            }
            match policy {
                Some(policy) => policy.make(dialer),
                None => Box::new(dialer),
            }
        };
        let dialer = new_dialer(&mut rng);
        let spare = (scenario.early_data != scenario::EarlyData::None).then(|| new_dialer(&mut rng));
        Self {
            number,
            identity,
            dialer,
            spare,
            early_sessions: 0,
            early: None,
            rng,
            dials: BTreeMap::new(),
            candidates: BTreeMap::new(),
            driver: None,
            first: None,
            offered: Vec::new(),
            joins: joins.collect(),
            connect_timeout: options.connect_timeout,
            failed: false,
            setup,
        }
    }

    /// Returns the next deadline.
    pub(crate) fn next(&self, env_next: Option<Time>) -> Option<Time> {
        let joins = self.joins.iter().filter_map(|join| join.dial).map(|(_, deadline)| deadline);
        let candidates = self.candidates.values().filter_map(|(driver, _)| driver.conn.poll_timeout());
        let session = self.driver.as_ref().and_then(|driver| driver.conn.poll_timeout());
        let dialer = self.dialer.poll_timeout().filter(|_| self.early.is_none() && !self.failed);
        joins.chain(candidates).chain(session).chain(dialer).chain(env_next).min()
    }

    /// The operating system reports that the interface of a path is down, or up.
    pub(crate) fn note_interface(&mut self, now: Time, path: usize, is_up: bool) {
        let Some(local) = addresses(path).local else { return };
        let change = if is_up { NetworkChange::AddressFound } else { NetworkChange::AddressLost };
        self.note_change(now, change(local.ip()));
    }

    /// The operating system reports that the host was suspended.
    pub(crate) fn note_resumed(&mut self, now: Time) {
        self.note_change(now, NetworkChange::Resumed);
    }

    fn note_change(&mut self, now: Time, change: NetworkChange) {
        match &mut self.driver {
            Some(driver) => report_change(now, change, &mut driver.conn, Some(&mut *self.dialer)),
            None => self.dialer.handle_network(now, change, &[]),
        }
    }

    /// The application wants a TCP connection on a path.
    pub(crate) fn join(&mut self, path: usize) {
        self.joins.push(Join::new(path));
    }

    /// The application has its turn: the session, and what decides about dialing, are in its hands.
    pub(crate) fn lend(&mut self) {
        let Some(driver) = &mut self.driver else { return };
        driver.lend();
        driver.handles.iter_mut().for_each(|handles| handles.swap_dialer(&mut self.dialer));
    }

    /// The application had its turn.
    pub(crate) fn take_back(&mut self, env: &mut Env) {
        let Some(driver) = &mut self.driver else { return };
        driver.handles.iter_mut().for_each(|handles| handles.swap_dialer(&mut self.dialer));
        for TcpOrder { path, answer } in driver.take_back(env) {
            let number = env.known_path(&path);
            let mut join = Join { answer: Some(answer), ..Join::new(number.unwrap_or_default()) };
            match number {
                Some(_) => self.joins.push(join),
                None => join.fail(AddTcpError::Tcp(path.remote, ErrorKind::NetworkUnreachable.into())),
            }
        }
    }

    /// Acts until nothing is left to do at this time.
    pub(crate) fn run(&mut self, env: &mut Env) {
        loop {
            self.poll_dials(env);
            self.run_candidates(env);
            self.run_session(env);
            let joined = self.run_joins(env);
            if self.early.is_some() || self.failed {
                return;
            }
            let view = self.driver.as_ref().map_or(SessionView::default(), |driver| SessionView::of(&driver.conn));
            self.dialer.advance(env.now, view);
            let actions: Vec<Action> = std::iter::from_fn(|| self.dialer.poll_action()).collect();
            if actions.is_empty() && !joined {
                return;
            }
            actions.into_iter().for_each(|action| self.execute(env, action));
        }
    }

    fn poll_dials(&mut self, env: &mut Env) {
        let waiting: Vec<AttemptId> =
            self.dials.iter().filter(|(_, dial)| !dial.connected).map(|(attempt, _)| *attempt).collect();
        for attempt in waiting {
            let Some(dial) = self.dials.get_mut(&attempt) else { continue };
            match env.net.opening(dial.socket) {
                Opening::Waiting => {}
                Opening::Connected => {
                    dial.connected = true;
                    if !self.dialer.handle_connected(env.now, attempt) {
                        self.abandon(env, attempt);
                    }
                }
                Opening::Failed => {
                    let path = addresses(dial.path);
                    self.note_failure(path, ErrorKind::ConnectionRefused);
                    self.abandon(env, attempt);
                    self.dialer.handle_refused(env.now, attempt);
                }
            }
        }
    }

    fn note_failure(&mut self, path: Path, error: ErrorKind) {
        let handles = self.driver.as_mut().and_then(|driver| driver.handles.as_mut());
        handles.into_iter().for_each(|handles| handles.note_failure(path, error));
    }

    fn abandon(&mut self, env: &mut Env, attempt: AttemptId) {
        if let Some(dial) = self.dials.remove(&attempt) {
            env.net.reset(env.now, SIDE, dial.socket);
        }
        if let Some((mut driver, _)) = self.candidates.remove(&attempt) {
            driver.conn.close(env.now, ErrorCode(0), b"");
            driver.run(env);
        }
    }

    /// The first session to complete its handshake is used; the others are dropped.
    fn run_candidates(&mut self, env: &mut Env) {
        let names: Vec<AttemptId> = self.candidates.keys().copied().collect();
        for attempt in names {
            let Some((driver, _)) = self.candidates.get_mut(&attempt) else { continue };
            driver.run(env);
            let heard = driver.conn.tcp_stats(ConnectionId::FIRST).map_or(0, |stats| stats.counters.bytes_received);
            self.dialer.handle_progress(env.now, attempt, heard);
            match driver.conn.state() {
                State::Handshaking => {}
                State::Closed => {
                    self.candidates.remove(&attempt);
                    self.dialer.handle_failed(env.now, attempt);
                }
                _ => self.choose(env, attempt),
            }
        }
    }

    fn choose(&mut self, env: &mut Env, attempt: AttemptId) {
        let Some((mut driver, first)) = self.candidates.remove(&attempt) else { return };
        self.dialer.handle_established(env.now, attempt, true);
        driver.serves = Some(self.number);
        (self.driver, self.first) = (Some(driver), Some(first));
        self.run_session(env);
    }

    fn run_session(&mut self, env: &mut Env) {
        let Some(driver) = &mut self.driver else { return };
        driver.run(env);
        // With early data, the application has it before its handshake is complete.
        if self.early.is_some() && driver.conn.state() == State::Closed && !driver.established {
            return self.start_over(env);
        }
        if !driver.established && self.early.is_some() {
            return;
        }
        if let Some(attempt) = self.early.take() {
            self.dialer.handle_established(env.now, attempt, true);
        }
        for event in std::mem::take(&mut driver.events) {
            self.dialer.handle_event(env.now, &event);
        }
        self.offer_advertised(env);
    }

    /// If the server accepts joins only at addresses that it advertises, they may go there: any address will do.
    fn offer_advertised(&mut self, env: &Env) {
        let Some(conn) = self.driver.as_ref().map(|driver| &driver.conn).filter(|conn| conn.joins_at_advertised_only())
        else {
            return;
        };
        let new = conn.peer_addresses().filter(|(id, _)| !self.offered.contains(id));
        let new: Vec<_> = new.collect();
        for (id, address) in new {
            self.offered.push(id);
            let path = env.known_path(&Path::from(address)).map(addresses);
            path.into_iter().for_each(|path| self.dialer.offer(env.now, path));
        }
    }

    /// The session ended with its handshake, and with it what was sent early: the applications begin again in another one.
    /// Those of users see that, and have no other.
    fn start_over(&mut self, env: &mut Env) {
        self.early = None;
        let Some(dialer) = self.spare.take_if(|_| self.driver.as_ref().is_some_and(|old| old.handles.is_none())) else {
            self.failed = true;
            return;
        };
        (self.driver, self.first, self.dialer) = (None, None, dialer);
        let dials = std::mem::take(&mut self.dials).into_values().map(|dial| dial.socket);
        // What the application joins by itself, it joins to the other session.
        let joins = self.joins.iter_mut().filter_map(|join| join.dial.take()).map(|(socket, _)| socket);
        for socket in dials.chain(joins) {
            env.net.reset(env.now, SIDE, socket);
        }
        env.transfers[self.number].start_over();
    }

    fn execute(&mut self, env: &mut Env, action: Action) {
        match action {
            Action::Connect { attempt, path } => {
                let Some(path) = env.known_path(&path) else {
                    self.note_failure(path, ErrorKind::NetworkUnreachable);
                    return self.dialer.handle_failed(env.now, attempt);
                };
                let socket = env.connect(path, SocketOwner::Client(self.number));
                self.dials.insert(attempt, Dial { socket, path, connected: false });
            }
            Action::Abandon { attempt, timed_out } => {
                let path = self.dials.get(&attempt).filter(|_| timed_out).map(|dial| addresses(dial.path));
                path.into_iter().for_each(|path| self.note_failure(path, ErrorKind::TimedOut));
                self.abandon(env, attempt);
            }
            Action::Handshake { attempt } => self.start_handshake(env, attempt),
            Action::Join { attempt, options } => {
                let Some(dial) = self.dials.remove(&attempt) else { return };
                let Some(driver) = &mut self.driver else { return };
                match driver.conn.open_tcp_with(env.now, options) {
                    Ok(tcp) => {
                        self.dialer.handle_joining(attempt, tcp);
                        driver.attach(env, tcp, dial.socket, dial.path, BytesMut::new());
                    }
                    Err(_) => {
                        self.dialer.handle_failed(env.now, attempt);
                        env.net.reset(env.now, SIDE, dial.socket);
                    }
                }
            }
            Action::Reset { tcp, why } => self.driver.iter_mut().for_each(|driver| driver.reset(env, tcp, why)),
            Action::Retire { tcp } => {
                // There may be no other left, and then it is the one to stay.
                self.driver.iter_mut().for_each(|driver| _ = driver.conn.retire_tcp(env.now, tcp));
            }
            Action::SetBackup { tcp, backup } => {
                self.driver.iter_mut().for_each(|driver| _ = driver.conn.set_backup(tcp, backup));
            }
            Action::GiveUp => self.failed = true,
        }
    }

    fn start_handshake(&mut self, env: &mut Env, attempt: AttemptId) {
        let Some(dial) = self.dials.remove(&attempt) else { return };
        if self.early.is_some() {
            return env.net.reset(env.now, SIDE, dial.socket);
        }
        env.begin_copy(dial.socket);
        let tls = self.identity.client(&mut self.rng, self.spare.is_some());
        let (config, recorder) = (self.setup.config.clone(), self.setup.recorder());
        let conn = Connection::client_with(env.now, config, tls, self.rng.seed(), recorder);
        let place = Host::Client(self.number).session(dial.socket);
        let mut driver = Driver::new(env, place, conn, &self.setup).with_handles(env.handles());
        driver.attach(env, ConnectionId::FIRST, dial.socket, dial.path, BytesMut::new());
        let is_early = driver.conn.early_data() > 0;
        if !is_early {
            driver.run(env);
        }
        self.candidates.insert(attempt, (driver, dial.socket));
        if is_early {
            self.begin_early(env, attempt);
        }
    }

    /// The applications have the session before its handshake is complete. There is no other one, in which early data would
    /// be sent again.
    fn begin_early(&mut self, env: &mut Env, attempt: AttemptId) {
        let Some((mut driver, first)) = self.candidates.remove(&attempt) else { return };
        driver.serves = Some(self.number);
        (self.driver, self.first, self.early) = (Some(driver), Some(first), Some(attempt));
        self.early_sessions += 1;
        self.run_session(env);
    }

    /// What the application joins by itself: connect, then spend a token. Whether any was spent.
    fn run_joins(&mut self, env: &mut Env) -> bool {
        let Some(driver) = &mut self.driver else { return false };
        if matches!(driver.conn.state(), State::Closing | State::Closed) {
            for (socket, _) in self.joins.drain(..).filter_map(|join| join.dial) {
                env.net.reset(env.now, SIDE, socket);
            }
        }
        let mut progress = false;
        let (dialer, timeout, owner) = (&mut self.dialer, self.connect_timeout, SocketOwner::Client(self.number));
        self.joins.retain_mut(|join| {
            let remote = addresses(join.path).remote;
            if join.dial.is_none() && !driver.conn.may_join_at(remote) {
                join.fail(AddTcpError::NoJoins(remote));
                return false;
            }
            let (socket, deadline) =
                *join.dial.get_or_insert_with(|| (env.connect(join.path, owner), env.now + timeout));
            let (opening, path) = (env.net.opening(socket), addresses(join.path));
            if opening == Opening::Connected && (driver.conn.tokens() > 0 || join.answer.is_some()) {
                match driver.conn.open_tcp_with(env.now, dialer.join_options(path)) {
                    Ok(tcp) => {
                        dialer.adopt(env.now, path, tcp);
                        driver.attach(env, tcp, socket, join.path, BytesMut::new());
                        if let (Some(answer), Some(handles)) = (join.answer.take(), &mut driver.handles) {
                            _ = answer.send(Ok((tcp, handles.expect_join(tcp))));
                        }
                        progress = true;
                        return false;
                    }
                    Err(error) if join.answer.is_some() => {
                        join.fail(AddTcpError::Session(error));
                        env.net.reset(env.now, SIDE, socket);
                        return false;
                    }
                    Err(_) => {}
                }
            }
            let has_failed = opening == Opening::Failed;
            let waits = !has_failed && deadline > env.now && !join.is_cancelled();
            if !waits {
                let why = if has_failed { ErrorKind::ConnectionRefused } else { ErrorKind::TimedOut };
                join.fail(AddTcpError::Tcp(path.remote, why.into()));
                env.net.reset(env.now, SIDE, socket);
            }
            waits
        });
        progress
    }
}
