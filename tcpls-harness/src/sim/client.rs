//! The client's host: connects, starts the session, joins on its paths, keeps them.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tcpls_core::crypto::Handshake;
use tcpls_core::event::Event;
use tcpls_core::{Config, Connection, ConnectionId, Seed, Side, State, Time};

use super::driver::{Driver, Env};
use super::keeper::Keeper;
use super::net::{Opening, SocketId};
use super::oracle::Oracle;
use super::scenario::{Role, Scenario, Scheduler};
use super::trace::Note;

/// How long to wait for a TCP connection to be opened, as `ClientOptions` has it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module's description.
pub(crate) struct Client {
    config: Arc<Config>,
    /// Until there is a TCP connection to use it on.
    tls: Option<(Box<dyn Handshake>, Seed)>,
    pub(crate) driver: Option<Driver>,
    /// Paths that the first TCP connection may still be tried on, the next one last.
    untried: Vec<usize>,
    first: Option<Dial>,
    joins: Vec<Join>,
    roles: Vec<Role>,
    scheduler: Option<Scheduler>,
    keeper: Keeper,
    /// No path could be connected to.
    pub(crate) failed: bool,
}

/// A TCP connection that is being opened.
#[derive(Clone, Copy, Debug)]
struct Dial {
    socket: SocketId,
    path: usize,
    deadline: Time,
}

/// A TCP connection that is to join on a path.
#[derive(Clone, Copy, Debug)]
struct Join {
    path: usize,
    backup: bool,
    dial: Option<Dial>,
}

impl Client {
    pub(crate) fn new(scenario: &Scenario, tls: Box<dyn Handshake>, seed: Seed) -> Self {
        Self {
            config: Arc::new(scenario.client.config()),
            tls: Some((tls, seed)),
            driver: None,
            untried: (0..scenario.path.len()).rev().collect(),
            first: None,
            joins: Vec::new(),
            roles: scenario.path.iter().map(|path| path.role).collect(),
            scheduler: scenario.client.scheduler,
            keeper: Keeper::new(scenario.keep),
            failed: false,
        }
    }

    /// When something is to be done, if nothing happens before.
    pub(crate) fn next(&self, env_next: Option<Time>) -> Option<Time> {
        let dials = self.joins.iter().filter_map(|join| join.dial).chain(self.first).map(|dial| dial.deadline);
        let session = self.driver.as_ref().and_then(|driver| driver.conn.poll_timeout());
        dials.chain(session).chain(self.keeper.next()).chain(env_next).min()
    }

    /// The application wants a TCP connection on a path.
    pub(crate) fn join(&mut self, path: usize, backup: bool) {
        self.joins.push(Join { path, backup, dial: None });
    }

    /// Acts as long as there is anything to do at this moment.
    pub(crate) fn run(&mut self, env: &mut Env<'_>) {
        self.start(env);
        let Some(mut driver) = self.driver.take() else { return };
        loop {
            driver.run(env);
            for event in std::mem::take(&mut driver.heard) {
                self.hear(env, &driver, &event);
            }
            let joined = self.run_joins(env, &mut driver);
            if !self.keeper.run(env, &mut driver) && !joined {
                break;
            }
        }
        self.driver = Some(driver);
    }

    /// The first path that can be connected to carries the handshake.
    fn start(&mut self, env: &mut Env<'_>) {
        while self.driver.is_none() && !self.failed {
            let Some(dial) = self.first else {
                match self.untried.pop() {
                    Some(path) => self.first = Some(dial_on(env, path)),
                    None => self.failed = true,
                }
                continue;
            };
            match outcome(env, &dial) {
                Opening::Waiting => return,
                Opening::Failed => {
                    env.net.reset(env.now, Side::Client, dial.socket);
                    self.first = None;
                }
                Opening::Connected => {
                    self.first = None;
                    self.begin(env, dial);
                }
            }
        }
    }

    fn begin(&mut self, env: &mut Env<'_>, dial: Dial) {
        let Some((tls, seed)) = self.tls.take() else { return };
        let conn = Connection::client(env.now, self.config.clone(), tls, seed);
        let mut driver = Driver::new(conn, Oracle::new(&self.config), self.scheduler);
        driver.attach(env, ConnectionId::FIRST, dial.socket, dial.path, BytesMut::new());
        self.keeper.set(ConnectionId::FIRST, dial.path);
        self.driver = Some(driver);
        for path in (0..self.roles.len()).filter(|path| *path != dial.path) {
            match self.roles[path] {
                Role::Active => self.join(path, false),
                Role::Standby => self.join(path, true),
                Role::Spare => {}
            }
        }
    }

    fn hear(&mut self, env: &Env<'_>, driver: &Driver, event: &Event) {
        self.keeper.hear(env.now, event);
        if matches!(driver.conn.state(), State::Closed | State::Closing) {
            self.joins.clear();
        }
    }

    /// Each path for itself, as soon as the session is there: connect, then spend a token.
    fn run_joins(&mut self, env: &mut Env<'_>, driver: &mut Driver) -> bool {
        if matches!(driver.conn.state(), State::Handshaking) {
            return false;
        }
        let mut progress = false;
        let keeper = &mut self.keeper;
        self.joins.retain_mut(|join| {
            let dial = *join.dial.get_or_insert_with(|| dial_on(env, join.path));
            match outcome(env, &dial) {
                Opening::Waiting => true,
                Opening::Failed => {
                    env.net.reset(env.now, Side::Client, dial.socket);
                    false
                }
                Opening::Connected if driver.conn.tokens() == 0 => dial.deadline > env.now,
                Opening::Connected => {
                    let Ok(tcp) = driver.conn.open_tcp(env.now) else {
                        env.net.reset(env.now, Side::Client, dial.socket);
                        return false;
                    };
                    keeper.set(tcp, join.path);
                    driver.attach(env, tcp, dial.socket, join.path, BytesMut::new());
                    if join.backup {
                        _ = driver.conn.set_backup(tcp, true);
                    }
                    progress = true;
                    false
                }
            }
        });
        progress
    }
}

fn dial_on(env: &mut Env<'_>, path: usize) -> Dial {
    let socket = env.net.connect(env.now, path);
    env.trace.note(env.now, Some(Side::Client), &Note::Connect { socket: socket.0, path });
    Dial { socket, path, deadline: env.now + CONNECT_TIMEOUT }
}

fn outcome(env: &Env<'_>, dial: &Dial) -> Opening {
    match env.net.opening(dial.socket) {
        Opening::Waiting if dial.deadline <= env.now => Opening::Failed,
        opening => opening,
    }
}
