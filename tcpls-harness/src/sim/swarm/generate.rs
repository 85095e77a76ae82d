//! Generates a scenario from a seed: a network, transfers, settings, and faults of some kinds, each of which is enabled
//! or disabled for the whole run. The combinations include many that no test author would think of.

use std::fmt;
use std::time::Duration;

use super::extras::add_extras;
use crate::sim::rng::{Purpose, SimRng};
use crate::sim::scenario::{
    Action, ActionKind, Bottleneck, Bounds, Burst, Crypto, Direction, EarlyData, End, Farm, Fault, FaultKind, Goals,
    Keep, Path, Rate, Role, Scenario, Scheduler, Settings, Size, Span, Transfer, Transport,
};

/// What a run must satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Anything may fail at any time; delivered data is correct.
    Safety,
    /// Faults end; then everything must be delivered, within a bound.
    Liveness,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safety => "safety",
            Self::Liveness => "liveness",
        })
    }
}

/// In liveness, the handshake is left alone.
const CALM: u64 = 2_000;

const SCHEDULERS: [Scheduler; 5] =
    [Scheduler::Aggregate, Scheduler::LowestRtt, Scheduler::RoundRobin, Scheduler::Redundant, Scheduler::ActiveStandby];
const FAULTS: [FaultKind; 14] = [
    FaultKind::Forget,
    FaultKind::Reset,
    FaultKind::ResetClient,
    FaultKind::ResetServer,
    FaultKind::Fin,
    FaultKind::BlackHole,
    FaultKind::Down,
    FaultKind::InterfaceDown,
    FaultKind::Suspend,
    FaultKind::Clog,
    FaultKind::Rate,
    FaultKind::Delay,
    FaultKind::Corrupt,
    FaultKind::Shred,
];
const ACTIONS: [ActionKind; 9] = [
    ActionKind::Join,
    ActionKind::Retire,
    ActionKind::Backup,
    ActionKind::Available,
    ActionKind::Attach,
    ActionKind::Detach,
    ActionKind::Scheduler,
    ActionKind::UpdateKeys,
    ActionKind::Ping,
];

/// The scenario of a seed.
pub fn generate(seed: u64, mode: Mode) -> Scenario {
    let mut maker = Maker { rng: SimRng::new(seed, Purpose::Scenario), mode, transport: Transport::Pipes };
    if maker.rng.one_in(12) {
        maker.transport = Transport::Packets;
    }
    let path: Vec<Path> = (0..maker.rng.between(1, 4)).map(|number| maker.path(number)).collect();
    let transfer: Vec<Transfer> = (0..maker.rng.between(1, 6)).map(|_| maker.transfer()).collect();
    let storm = maker.rng.between(CALM, 15_000);
    let fault = maker.faults(&path, storm);
    let action = maker.all_actions(&path, &transfer, storm);
    let keep = match (mode, maker.rng.below(4)) {
        (Mode::Safety, 0) => Keep::Nothing,
        (_, 1) => Keep::Session,
        _ => Keep::Paths,
    };
    let (client, server) = (maker.settings(), maker.settings());
    let limit = bound(&path, &transfer, [&client, &server], storm);
    let mut scenario = Scenario {
        title: format!("{mode} {seed}"),
        crypto: if maker.rng.one_in(64) { Crypto::Tls } else { Crypto::Null },
        early_data: EarlyData::None,
        resumed_joins: false,
        transport: maker.transport,
        keep,
        clients: 1,
        at_least: Span::default(),
        limit: Span(limit),
        client,
        server,
        farm: Farm::default(),
        bounds: Bounds::default(),
        goals: Goals { complete: mode == Mode::Liveness, ..Goals::default() },
        path,
        transfer,
        fault,
        action,
        flood: Vec::new(),
    };
    add_extras(&mut scenario, seed, mode);
    let with_extras = bound(&scenario.path, &scenario.transfer, [&scenario.client, &scenario.server], storm);
    scenario.limit.0 = scenario.limit.0.max(with_extras * scenario.clients as u32);
    scenario
}

/// How long an acknowledgment is held back where a scenario says nothing about it.
const ACK_DELAY: Duration = Duration::from_millis(25);

/// Until when all must be delivered: TCP takes as long as an outage lasted to notice its end, sessions wait for timeouts, and
/// the slowest path may carry everything, several times, in windows of the smallest size, each of which waits for its
/// acknowledgment.
fn bound(paths: &[Path], transfers: &[Transfer], settings: [&Settings; 2], storm: u64) -> Duration {
    let bytes: u64 = transfers.iter().map(|transfer| transfer.send.0 + transfer.receive.0).sum();
    let rates = paths.iter().flat_map(|path| [path.rate, path.up_rate]).flatten().map(|rate| rate.0);
    let pace = transfers.iter().flat_map(|transfer| [transfer.read_rate, transfer.write_rate]).flatten().map(|r| r.0);
    let slowest = rates.chain(pace).min().unwrap_or(u64::MAX).max(1);
    let limits = |s: &&Settings| [s.send_buffer, s.session_window, s.stream_window];
    let window = settings.iter().flat_map(limits).flatten().map(|size| size.0).min().unwrap_or(u64::MAX);
    let round_trip = paths.iter().map(|path| (path.delay.0 + path.jitter.0) * 2).max().unwrap_or_default();
    let held_back =
        settings.iter().map(|s| s.max_ack_delay.map_or(ACK_DELAY, |delay| delay.0)).max().unwrap_or_default();
    let round_trips = u32::try_from(bytes / window.max(1)).unwrap_or(u32::MAX).saturating_mul(2);
    let carrying =
        Duration::from_secs(120 + bytes * 8 / slowest) + (round_trip + held_back).saturating_mul(round_trips);
    Duration::from_millis(3 * storm) + carrying
}

struct Maker {
    rng: SimRng,
    mode: Mode,
    transport: Transport,
}

impl Maker {
    /// A number up to `2^bits`, small ones as likely as large ones.
    fn any_size(&mut self, bits: u64) -> u64 {
        let bits = self.rng.below(bits + 1);
        self.rng.below(1 << bits)
    }

    fn millis(&mut self, low: u64, high: u64) -> Span {
        Span(Duration::from_millis(self.rng.between(low, high)))
    }

    fn sometimes<T>(&mut self, one_in: u64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.rng.one_in(one_in).then(|| make(self))
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.rng.below(all.len() as u64) as usize]
    }

    /// 128 kbit/s to 1 Gbit/s.
    fn rate(&mut self) -> Rate {
        let order = self.rng.between(14, 26);
        Rate(self.rng.between(1 << order, 2 << order))
    }

    fn path(&mut self, number: u64) -> Path {
        let (order, packets) = (self.rng.below(9), self.transport == Transport::Packets);
        Path {
            name: ["a", "b", "c", "d"][number as usize].to_owned(),
            rate: (!self.rng.one_in(6)).then(|| self.rate()),
            up_rate: self.sometimes(6, Self::rate),
            delay: self.millis(0, 1 << order),
            jitter: self.sometimes(4, |maker| maker.millis(0, 40)).unwrap_or_default(),
            queue: self.sometimes(4, |maker| Size(2_000 + maker.any_size(20))),
            bottleneck: Bottleneck::Host,
            loss: if packets && self.rng.one_in(3) { self.rng.below(50) as f64 / 1000.0 } else { 0.0 },
            burst: if packets { self.sometimes(6, |_| Burst { begin: 0.005, end: 0.2, loss: 0.8 }) } else { None },
            reorder: if packets && self.rng.one_in(3) { self.rng.below(50) as f64 / 1000.0 } else { 0.0 },
            mtu: if packets && self.rng.one_in(4) { self.rng.between(576, 9000) as u16 } else { 1500 },
            role: if number == 0 {
                Role::Active
            } else {
                self.one_of(&[Role::Active, Role::Active, Role::Standby, Role::Spare])
            },
            group: None,
            middleboxes: Vec::new(),
        }
    }

    fn transfer(&mut self) -> Transfer {
        let bits = if self.rng.one_in(8) { 21 } else { 17 };
        let receive = if self.rng.one_in(3) { 0 } else { self.any_size(bits) };
        Transfer {
            at: self.millis(0, 6_000),
            by: self.one_of(&[End::Client, End::Client, End::Server]),
            send: Size(if self.rng.one_in(2) { 64 } else { self.any_size(bits) }),
            receive: Size(receive),
            read_rate: self.sometimes(6, |maker| Rate(maker.rng.between(20_000, 400_000))),
            write_rate: self.sometimes(6, |maker| Rate(maker.rng.between(20_000, 400_000))),
            reset_after: self.sometimes(8, |maker| Size(maker.any_size(16))),
            stop_after: self.sometimes(8, |maker| Size(maker.any_size(16))),
            priority: if self.rng.one_in(3) { self.rng.between(0, 4) as i8 - 2 } else { 0 },
        }
    }

    /// Some kinds of faults, as often as the run has it, until `storm` (milliseconds).
    fn faults(&mut self, paths: &[Path], storm: u64) -> Vec<Fault> {
        let fits = |kind: &FaultKind| *kind != FaultKind::Shred || self.transport == Transport::Pipes;
        let kinds: Vec<FaultKind> = FAULTS.into_iter().filter(fits).collect();
        let kinds: Vec<FaultKind> = kinds.into_iter().filter(|_| self.rng.one_in(3)).collect();
        if kinds.is_empty() {
            return Vec::new();
        }
        let from = if self.mode == Mode::Liveness { CALM } else { 0 };
        let count = self.any_size(4);
        (0..count).map(|_| self.fault(&kinds, paths, from, storm)).collect()
    }

    fn fault(&mut self, kinds: &[FaultKind], paths: &[Path], from: u64, storm: u64) -> Fault {
        let kind = self.one_of(kinds);
        let at = self.rng.between(from, storm);
        let length = 20 + self.any_size(13);
        let lasts = matches!(
            kind,
            FaultKind::BlackHole
                | FaultKind::Down
                | FaultKind::InterfaceDown
                | FaultKind::Suspend
                | FaultKind::Clog
                | FaultKind::Rate
                | FaultKind::Delay
                | FaultKind::Shred
        );
        let forever = self.mode == Mode::Safety && self.rng.one_in(8);
        let end = if self.mode == Mode::Liveness { (at + length).min(storm) } else { at + length };
        let clog = kind == FaultKind::Clog;
        let both = !matches!(kind, FaultKind::BlackHole | FaultKind::Clog | FaultKind::Corrupt);
        Fault {
            at: Span(Duration::from_millis(at)),
            until: (lasts && !forever).then_some(Span(Duration::from_millis(end))),
            kind,
            path: (!clog && kind != FaultKind::Suspend)
                .then(|| paths[self.rng.below(paths.len() as u64) as usize].name.clone()),
            tcp: clog.then(|| self.rng.below(paths.len() as u64 + 2)),
            direction: if both { None } else { self.one_of(&[None, Some(Direction::Up), Some(Direction::Down)]) },
            rate: (kind == FaultKind::Rate).then(|| self.rate()),
            delay: (kind == FaultKind::Delay).then(|| self.millis(0, 600)),
        }
    }

    /// What applications do; in liveness, they ask for a sign of life on all paths once the storm is over: nothing else tells
    /// an end that is idle and half open that the other waits for it.
    fn all_actions(&mut self, paths: &[Path], transfers: &[Transfer], storm: u64) -> Vec<Action> {
        let mut actions = self.actions(paths, transfers, storm);
        if self.mode == Mode::Liveness {
            let ping = |path: &Path| Action {
                at: Span(Duration::from_millis(storm)),
                by: End::Client,
                kind: ActionKind::Ping,
                path: Some(path.name.clone()),
                transfer: None,
                scheduler: None,
                limit: None,
            };
            actions.extend(paths.iter().map(ping));
            actions.extend(paths.iter().map(|path| Action { by: End::Server, ..ping(path) }));
        }
        actions
    }

    fn actions(&mut self, paths: &[Path], transfers: &[Transfer], storm: u64) -> Vec<Action> {
        let kinds: Vec<ActionKind> = ACTIONS.into_iter().filter(|_| self.rng.one_in(4)).collect();
        if kinds.is_empty() {
            return Vec::new();
        }
        let count = self.any_size(3);
        let mut actions: Vec<Action> = (0..count).map(|_| self.action(&kinds, paths, transfers, storm)).collect();
        if self.mode == Mode::Safety && self.rng.one_in(8) {
            let at = self.millis(0, storm);
            let by = self.one_of(&[End::Client, End::Server]);
            let close =
                Action { at, by, kind: ActionKind::Close, path: None, transfer: None, scheduler: None, limit: None };
            actions.push(close);
        }
        actions
    }

    fn action(&mut self, kinds: &[ActionKind], paths: &[Path], transfers: &[Transfer], storm: u64) -> Action {
        let kind = self.one_of(kinds);
        let nowhere = matches!(kind, ActionKind::Scheduler | ActionKind::UpdateKeys);
        let attaches = matches!(kind, ActionKind::Attach | ActionKind::Detach);
        Action {
            at: self.millis(500, storm),
            by: if kind == ActionKind::Join { End::Client } else { self.one_of(&[End::Client, End::Server]) },
            kind,
            path: (!nowhere).then(|| paths[self.rng.below(paths.len() as u64) as usize].name.clone()),
            transfer: attaches.then(|| self.rng.below(transfers.len() as u64) as usize),
            scheduler: (kind == ActionKind::Scheduler).then(|| self.one_of(&SCHEDULERS)),
            limit: None,
        }
    }

    /// Often as they are by default; timeouts that end sessions only where that is allowed.
    fn settings(&mut self) -> Settings {
        let safety = self.mode == Mode::Safety;
        let window = |maker: &mut Self| Size(2_000 + maker.any_size(18));
        Settings {
            scheduler: self.sometimes(2, |maker| maker.one_of(&SCHEDULERS)),
            send_buffer: self.sometimes(4, |maker| Size(4_000 + maker.any_size(20))),
            session_window: self.sometimes(4, window),
            stream_window: self.sometimes(4, window),
            max_streams: self.sometimes(6, |maker| maker.rng.between(1, 4) as u32),
            // Long enough for what a slow path holds.
            user_timeout: self.sometimes(3, |maker| maker.millis(if safety { 500 } else { 4_000 }, 10_000)),
            idle_timeout: if safety { self.sometimes(4, |maker| maker.millis(1_000, 30_000)) } else { None },
            session_timeout: if safety { self.sometimes(4, |maker| maker.millis(100, 20_000)) } else { None },
            join_timeout: self.sometimes(4, |maker| maker.millis(1_000, 5_000)),
            max_tcp_connections: self.sometimes(4, |maker| maker.rng.between(1, 8) as u32),
            lanes: None,
            joins_at_advertised_only: None,
            spare_tokens: self.sometimes(4, |maker| maker.rng.between(1, 6) as u32),
            zero_rtt_join: self.sometimes(2, |maker| maker.rng.one_in(2)),
            max_unacknowledged_records: None,
            max_ack_delay: None,
            ack_every_records: None,
            confidentiality_limit: self.sometimes(8, |maker| maker.rng.between(3_000, 6_000)),
        }
    }
}
