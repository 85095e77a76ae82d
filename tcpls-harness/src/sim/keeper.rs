//! The client's redial policy: `net::keeper`, which is a task that sleeps, as a state machine in virtual time. The
//! bookkeeping (`net::paths`) is the same; the numbers here must be those there.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::{ConnectionId, Side, State, Time};

use super::driver::{Driver, Env};
use super::net::{Opening, SocketId};
use super::scenario;
use crate::net::Keep;
use crate::net::paths::{Path, Paths, Redial};

const GRACE: Duration = Duration::from_millis(200);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const EAGER_ATTEMPTS: u32 = 50;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_ATTEMPTS: usize = 12;

/// The addresses of path number `path`.
pub(crate) fn addresses(path: usize) -> Path {
    let address = |host| SocketAddr::from((Ipv4Addr::new(10, 0, path as u8, host), if host == 1 { 443 } else { 0 }));
    Path { remote: address(1), local: Some(address(2)) }
}

fn number(path: &Path) -> usize {
    match path.remote {
        SocketAddr::V4(address) => usize::from(address.ip().octets()[2]),
        SocketAddr::V6(_) => 0,
    }
}

/// See the module's description.
pub(crate) struct Keeper {
    keep: Keep,
    paths: Paths,
    tasks: Vec<Task>,
}

/// One path that is being tried.
struct Task {
    redial: Redial,
    count: u32,
    pause: Duration,
    next: Time,
    attempts: Vec<(SocketId, Time)>,
    joining: Option<(ConnectionId, Option<bool>)>,
    done: bool,
}

impl Keeper {
    pub(crate) fn new(keep: scenario::Keep) -> Self {
        let keep = match keep {
            scenario::Keep::Nothing => Keep::Nothing,
            scenario::Keep::Session => Keep::Session,
            scenario::Keep::Paths => Keep::Paths,
        };
        Self { keep, paths: Paths::default(), tasks: Vec::new() }
    }

    /// `tcp` runs on path number `path`.
    pub(crate) fn set(&mut self, tcp: ConnectionId, path: usize) {
        self.paths.set(tcp, addresses(path));
    }

    pub(crate) fn hear(&mut self, now: Time, event: &Event) {
        self.paths.hear(event);
        for redial in self.paths.take_due() {
            let next = if redial.silent.is_some() { now + GRACE } else { now };
            let task =
                Task { redial, count: 0, pause: FIRST_PAUSE, next, attempts: Vec::new(), joining: None, done: false };
            self.tasks.push(task);
        }
        let (tcp, joined) = match event {
            Event::Tcp(TcpEvent::Joined { tcp }) => (*tcp, true),
            Event::Tcp(TcpEvent::Lost { tcp, .. }) => (*tcp, false),
            _ => return,
        };
        for (_, outcome) in self.tasks.iter_mut().filter_map(|task| task.joining.as_mut()).filter(|(of, _)| *of == tcp)
        {
            outcome.get_or_insert(joined);
        }
    }

    /// When there is something to do.
    pub(crate) fn next(&self) -> Option<Time> {
        let waiting = self.tasks.iter().filter(|task| task.joining.is_none());
        waiting.flat_map(|task| task.attempts.iter().map(|(_, end)| *end).chain([task.next])).min()
    }

    /// Does what is due; whether a TCP connection was given to the session, or left.
    pub(crate) fn run(&mut self, env: &mut Env<'_>, driver: &mut Driver) -> bool {
        let mut progress = false;
        for task in &mut self.tasks {
            progress |= task.run(env, driver, &mut self.paths, self.keep);
        }
        for task in self.tasks.extract_if(.., |task| task.done) {
            task.attempts.iter().for_each(|(socket, _)| env.net.close(env.now, Side::Client, *socket));
            self.paths.dialed(task.redial.path);
        }
        progress
    }
}

impl Task {
    fn run(&mut self, env: &mut Env<'_>, driver: &mut Driver, paths: &mut Paths, keep: Keep) -> bool {
        match self.joining {
            Some((_, None)) => return false,
            Some((_, Some(true))) => {
                if let Some(silent) = self.redial.silent {
                    paths.replaced(silent);
                    _ = driver.conn.retire_tcp(env.now, silent);
                }
                self.done = true;
                return true;
            }
            Some((_, Some(false))) => self.fail(env.now),
            None => {}
        }
        self.joining = None;
        if let Some(socket) = self.first_connected(env) {
            if self.join(env, driver, paths, keep, socket) {
                return true;
            }
            env.net.reset(env.now, Side::Client, socket);
            self.fail(env.now);
        }
        if self.next <= env.now {
            if !paths.wants(&driver.conn, &self.redial, keep) {
                self.done = true;
                return false;
            }
            self.attempt(env);
        }
        false
    }

    /// TCP gets through and TCPLS does not: each attempt costs a token.
    fn fail(&mut self, now: Time) {
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn attempt(&mut self, env: &mut Env<'_>) {
        if self.attempts.len() < MAX_ATTEMPTS {
            let socket = env.net.connect(env.now, number(&self.redial.path));
            self.attempts.push((socket, env.now + ATTEMPT_TIMEOUT));
        }
        self.next = env.now + self.pause;
        self.count += 1;
        if self.count > EAGER_ATTEMPTS {
            self.pause = (self.pause * 5 / 4).min(LONGEST_PAUSE);
        }
    }

    /// Drops attempts that failed or took too long; the first that succeeded.
    fn first_connected(&mut self, env: &mut Env<'_>) -> Option<SocketId> {
        let now = env.now;
        let over = |net: &dyn super::net::Network, (socket, end): &(SocketId, Time)| {
            net.opening(*socket) == Opening::Failed || (net.opening(*socket) == Opening::Waiting && *end <= now)
        };
        let dropped: Vec<_> = self.attempts.extract_if(.., |attempt| over(env.net, attempt)).collect();
        dropped.into_iter().for_each(|(socket, _)| env.net.reset(now, Side::Client, socket));
        let at = self.attempts.iter().position(|(socket, _)| env.net.opening(*socket) == Opening::Connected)?;
        Some(self.attempts.remove(at).0)
    }

    /// The last token is kept for when nothing else lives.
    fn join(
        &mut self,
        env: &mut Env<'_>,
        driver: &mut Driver,
        paths: &mut Paths,
        keep: Keep,
        socket: SocketId,
    ) -> bool {
        let stranded = matches!(driver.conn.state(), State::Stranded { .. });
        if !paths.wants(&driver.conn, &self.redial, keep) || (driver.conn.tokens() < 2 && !stranded) {
            return false;
        }
        let Ok(tcp) = driver.conn.open_tcp(env.now) else { return false };
        paths.set(tcp, self.redial.path);
        driver.attach(env, tcp, socket, number(&self.redial.path), BytesMut::new());
        self.joining = Some((tcp, None));
        true
    }
}
