//! A world of virtual time: paths of which each has a round-trip time and a nature, and a server behind them.

use std::net::SocketAddr;
use std::time::Duration;

use tcpls_core::connection::{JoinOptions, TcpEnd};
use tcpls_core::crypto::rng::Seed;
use tcpls_core::error::TcpFault;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

use crate::dial::{Action, AttemptId, DialOptions, Dialer, Path, SessionView};

pub(super) const RTT: Duration = Duration::from_millis(20);
pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const FIRST: ConnectionId = ConnectionId::FIRST;

/// The effect of a path on TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    Good,
    /// SYNs wait for longer than ever before.
    Slow,
    /// SYNs vanish.
    Dark,
    /// SYNs are answered with a reset.
    Refusing,
    /// The host has no way there.
    Unroutable,
    /// TCP connects, and what it carries vanishes.
    Swallowing,
    /// TCP connects, and what it carries vanishes if data follows a hello at once.
    DropsEarlyData,
    /// TCP connects and is closed at once: a balancer whose backend is away.
    Closing,
    /// TCP connects, and each join gets an alert in plaintext.
    Alerting,
    /// The TLS handshake fails.
    Untrusted,
}

pub(super) use Nature::{
    Alerting, Closing, Dark, DropsEarlyData, Good, Refusing, Slow, Swallowing, Unroutable, Untrusted,
};

#[derive(Clone, Debug, PartialEq)]
enum News {
    Connected(AttemptId),
    Failed(AttemptId),
    Refused(AttemptId),
    Established(AttemptId),
    Heard(Event),
    JoinFailed(ConnectionId, TcpFault, bool),
    Tokens(usize),
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) natures: Vec<Nature>,
    pub(super) dialer: Dialer,
    pub(super) paths: Vec<Path>,
    news: Vec<(Time, News)>,
    pub(super) view: SessionView,
    /// Whether the server accepts joins only at addresses that it advertises.
    pub(super) advertised_only: bool,
    next_tcp: u32,
    /// Which pair each TCP connection is on, while the client holds it.
    pub(super) on: Vec<(ConnectionId, usize)>,
    pub(super) log: Vec<(Time, Action)>,
    pub(super) established: Option<Time>,
    /// Which TCP connections are backups.
    pub(super) backups: Vec<ConnectionId>,
    /// Which TCP connections became part of the session, and when.
    pub(super) joined: Vec<(Time, ConnectionId)>,
}

pub(super) fn path(number: usize) -> Path {
    Path { remote: SocketAddr::from(([192, 0, 2, number as u8 + 1], 443)), local: None, device: None }
}

impl World {
    pub(super) fn new(natures: &[Nature], options: DialOptions) -> Self {
        Self::over((0..natures.len()).map(path).collect(), natures, options)
    }

    /// Over paths of the test.
    pub(super) fn over(paths: Vec<Path>, natures: &[Nature], options: DialOptions) -> Self {
        let now = Time::from_millis(1000);
        Self {
            now,
            natures: natures.to_vec(),
            dialer: Dialer::new(now, &paths, options, &Seed([1; 32])),
            paths,
            news: Vec::new(),
            view: SessionView::default(),
            advertised_only: false,
            next_tcp: 1,
            on: Vec::new(),
            log: Vec::new(),
            established: None,
            backups: Vec::new(),
            joined: Vec::new(),
        }
    }

    /// A session with a TCP connection on each pair.
    pub(super) fn established(natures: usize, options: DialOptions) -> Self {
        let mut world = Self::new(&vec![Good; natures], options);
        world.run(Duration::from_secs(1));
        assert!(world.established.is_some());
        world.log.clear();
        world
    }

    fn pair_of(&self, attempt: AttemptId) -> usize {
        let path = self.dialer.path_of(attempt).unwrap();
        self.paths.iter().position(|other| *other == path).unwrap()
    }

    fn later(&mut self, delay: Duration, news: News) {
        self.news.push((self.now + delay, news));
    }

    /// Time passes.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..100_000 {
            self.settle();
            let news = self.news.iter().map(|(at, _)| *at).min();
            let due = news.into_iter().chain(self.dialer.poll_timeout()).min();
            match due {
                Some(at) if at <= end => self.now = at.max(self.now),
                _ => {
                    self.now = end;
                    return self.settle();
                }
            }
            while let Some(at) = self.news.iter().position(|(at, _)| *at <= self.now) {
                let (_, news) = self.news.remove(at);
                self.tell(news);
            }
        }
        panic!("the dialer does not come to rest: {:?}", &self.log[self.log.len() - 20..]);
    }

    fn settle(&mut self) {
        self.dialer.advance(self.now, self.view);
        while let Some(action) = self.dialer.poll_action() {
            self.log.push((self.now, action));
            self.obey(action);
        }
        assert!(self.dialer.poll_timeout().is_none_or(|at| at > self.now), "{:?}", self.dialer);
    }

    fn obey(&mut self, action: Action) {
        match action {
            Action::Connect { attempt, .. } => match self.natures[self.pair_of(attempt)] {
                Dark => {}
                Refusing => self.later(RTT, News::Refused(attempt)),
                Unroutable => self.later(Duration::ZERO, News::Failed(attempt)),
                Slow => self.later(Duration::from_secs(2), News::Connected(attempt)),
                _ => self.later(RTT, News::Connected(attempt)),
            },
            Action::Handshake { attempt } => match self.natures[self.pair_of(attempt)] {
                Good | DropsEarlyData => self.later(RTT, News::Established(attempt)),
                Untrusted => self.later(RTT, News::Failed(attempt)),
                _ => {}
            },
            Action::Join { attempt, options } => self.join(attempt, options),
            Action::Reset { tcp, why: TcpEnd::PathDown } => self.lose(tcp, TcpFault::PathDown),
            Action::Reset { tcp, .. } => self.lose(tcp, TcpFault::JoinTimeout),
            Action::Retire { tcp } => self.lose(tcp, TcpFault::Retired),
            Action::SetBackup { tcp, backup } => self.set_backup(tcp, backup),
            Action::Abandon { .. } | Action::GiveUp => {}
        }
    }

    fn set_backup(&mut self, tcp: ConnectionId, backup: bool) {
        assert_ne!(self.backups.contains(&tcp), backup, "it is one already, or none: {tcp:?}");
        if backup { self.backups.push(tcp) } else { self.backups.retain(|other| *other != tcp) }
    }

    fn join(&mut self, attempt: AttemptId, options: JoinOptions) {
        let zero_rtt = options.zero_rtt;
        assert!(self.view.tokens > 0, "no token is spent that is not there");
        let (tcp, pair) = (ConnectionId(self.next_tcp), self.pair_of(attempt));
        self.next_tcp += 1;
        self.backups.extend(options.backup.then_some(tcp));
        self.view.tokens -= 1;
        self.on.push((tcp, pair));
        self.dialer.handle_joining(attempt, tcp);
        let answers = match self.natures[pair] {
            Good | Slow => true,
            DropsEarlyData => !zero_rtt,
            _ => false,
        };
        if answers {
            self.later(RTT, News::Heard(Event::Tcp(TcpEvent::Joined { tcp })));
        }
        let fault = match self.natures[pair] {
            Closing => TcpFault::Fin,
            Alerting => TcpFault::Alert(47),
            _ => return,
        };
        self.later(RTT, News::JoinFailed(tcp, fault, zero_rtt));
    }

    fn tell(&mut self, news: News) {
        match news {
            News::Connected(attempt) => _ = self.dialer.handle_connected(self.now, attempt),
            News::Failed(attempt) => self.dialer.handle_failed(self.now, attempt),
            News::Refused(attempt) => self.dialer.handle_refused(self.now, attempt),
            News::Established(attempt) => self.establish(attempt),
            News::Tokens(count) => self.view.tokens = count.max(self.view.tokens),
            News::Heard(event) => self.hear(&event),
            News::JoinFailed(tcp, fault, zero_rtt) => {
                // As the session does: nothing was sealed under the token's number.
                self.view.tokens += usize::from(fault == TcpFault::Fin && !zero_rtt);
                self.lose(tcp, fault);
            }
        }
    }

    fn establish(&mut self, attempt: AttemptId) {
        if self.dialer.path_of(attempt).is_none() || self.established.is_some() {
            return;
        }
        self.on.push((FIRST, self.pair_of(attempt)));
        self.established = Some(self.now);
        self.joined.push((self.now, FIRST));
        self.view = SessionView { open: true, tokens: 2, tcp_connections: 1, limit: 8, ..SessionView::default() };
        (self.view.streams, self.view.has_data) = (1, true);
        self.view.advertised_only = self.advertised_only;
        self.dialer.handle_established(self.now, attempt, true);
    }

    pub(super) fn hear(&mut self, event: &Event) {
        if let Event::Tcp(TcpEvent::Joined { tcp }) = event {
            if !self.on.iter().any(|(other, _)| other == tcp) {
                return;
            }
            self.joined.push((self.now, *tcp));
            self.later(Duration::ZERO, News::Tokens(2)); // the server replaces the token that was used
        }
        self.dialer.handle_event(self.now, event);
        self.view.tcp_connections = self.on.len();
    }

    /// TCP connection `tcp` is lost. If another is there, it is reported to the server, which sends another token.
    pub(super) fn lose(&mut self, tcp: ConnectionId, fault: TcpFault) {
        self.on.retain(|(other, _)| *other != tcp);
        self.hear(&Event::Tcp(TcpEvent::Lost { tcp, fault }));
        if self.joined.iter().any(|(_, other)| self.on.iter().any(|(on, _)| on == other)) {
            self.later(RTT, News::Tokens(2));
        }
    }

    pub(super) fn set(&mut self, pair: usize, nature: Nature) {
        self.natures[pair] = nature;
    }

    pub(super) fn on_pair(&self, pair: usize) -> Option<ConnectionId> {
        let in_use = |tcp: &ConnectionId| self.joined.iter().any(|(_, other)| other == tcp);
        self.on.iter().rev().find(|(tcp, other)| *other == pair && in_use(tcp)).map(|(tcp, _)| *tcp)
    }

    pub(super) fn times(&self, wanted: impl Fn(&Action) -> bool) -> Vec<Duration> {
        let from = Time::from_millis(1000);
        self.log.iter().filter(|(_, action)| wanted(action)).map(|(at, _)| *at - from).collect()
    }

    pub(super) fn dials(&self, pair: usize) -> Vec<Duration> {
        self.times(|action| matches!(action, Action::Connect { path, .. } if *path == self.paths[pair]))
    }

    pub(super) fn joins(&self) -> usize {
        self.times(|action| matches!(action, Action::Join { .. })).len()
    }

    pub(super) fn since_start(&self) -> Option<Duration> {
        self.established.map(|at| at - Time::from_millis(1000))
    }
}
