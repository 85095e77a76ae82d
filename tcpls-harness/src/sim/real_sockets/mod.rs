//! The same scenario over real sockets: a server, a client, and a relay for each path. What is delivered must be the same;
//! how long it takes depends on the kernel and on the machine.
//!
//! The relay is no network: it has rates and a delay, and does to TCP connections what a middlebox can. Scenarios that want more
//! are refused.

mod lines;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::{ErrorCode, Side, StreamId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::lines::Lines;
use crate::dial::{Backup, DialOptions, Keep};
use crate::net::{ClientOptions, Listener, Record, ServerOptions, Session, Stream};
use crate::relay::{Break, PathOptions, Relay, Way};
use crate::sim::scenario::{self, Direction, Fault, FaultKind, Role, Scenario, Transfer};
use crate::sim::traffic::pattern::Pattern;
use crate::sim::traffic::transfers::TransferEnd;
use crate::tls::{Identity, Trust};
use crate::trace::qlog::Qlog;
use crate::trace::ring::Ring;
use crate::trace::variant;

/// What is written at once.
const PIECE: u64 = 64 << 10;
/// How long the server's end may take to hear of the end.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What writes down a run over real sockets.
#[derive(Default)]
pub struct RealOptions {
    /// The output of the trace, as JSON lines: the events of both ends, and the paths and faults of the run. Its times have
    /// any origin.
    pub trace: Option<Box<dyn Write + Send>>,
    /// The file that both ends are recorded in.
    pub record: Option<Record>,
    /// What writes a qlog file for each end.
    pub qlog: Option<Qlog>,
    /// What keeps the last part of the trace of each end.
    pub trace_ring: Option<Ring>,
}

/// The outcome of one transfer: bytes read by the end that did not open the stream and by the one that did, how both
/// directions ended, and when, in seconds from the start.
#[derive(Clone, Debug, PartialEq)]
pub struct RealTransfer {
    /// Bytes read.
    pub read: [u64; 2],
    /// How the directions ended, in the words of `TransferReport::ends`.
    pub ends: [Option<String>; 2],
    /// When the last byte arrived.
    pub ended: f64,
}

/// Streams that were opened, and the transfers that they are.
type Opened = Arc<Mutex<BTreeMap<StreamId, usize>>>;

/// What was read, how it ended, and when the last byte arrived.
type Half = (u64, TransferEnd, Duration);

struct RealRun {
    scenario: Scenario,
    start: Instant,
    opened: Opened,
    /// By transfer, and whether it is the direction back.
    outcomes: Mutex<BTreeMap<(usize, bool), Half>>,
    lines: Lines,
}

/// Runs `scenario` over real sockets on loopback. To be called within a tokio runtime.
///
/// # Errors
/// The scenario wants what a relay can't do, or sockets or the session failed.
pub async fn run_real(scenario: &Scenario, writes: RealOptions) -> Outcome<Vec<RealTransfer>> {
    check_real(scenario)?;
    let RealOptions { trace, record, qlog, trace_ring } = writes;
    let identity = Identity::self_signed(&["localhost".to_owned()])?;
    let mut options = ServerOptions::new(identity.server(&[b"sim"])?);
    options.config = Arc::new(scenario.server.config());
    (options.record, options.qlog, options.trace_ring) = (record.clone(), qlog.clone(), trace_ring.clone());
    let mut listener = Listener::bind(&[LOOPBACK], options)?;
    let target = listener.local_addresses()[0];
    let relays: Vec<Relay> = scenario.path.iter().map(|path| relay(path, target)).collect::<Result<_, _>>()?;
    let tls = Trust::Pem(identity.certificate_pem().to_owned()).client(&[b"sim"])?;
    let mut options = ClientOptions::new(tls, "localhost".try_into()?);
    options.config = Arc::new(scenario.client.config());
    (options.record, options.qlog, options.trace_ring) = (record, qlog, trace_ring);
    let keep = match scenario.keep {
        scenario::Keep::Nothing => Keep::Nothing,
        scenario::Keep::Session => Keep::Session,
        scenario::Keep::Paths => Keep::Paths,
    };
    options.dial = DialOptions { keep, ..DialOptions::default() };
    let used = relays.iter().zip(&scenario.path).filter(|(_, path)| path.role != Role::Spare);
    let addresses: Vec<SocketAddr> = used.map(|(relay, _)| relay.address()).collect();
    let standby = relays.iter().zip(&scenario.path).filter(|(_, path)| path.role == Role::Standby);
    options.backups = standby.map(|(relay, _)| Backup::Remote(relay.address())).collect();
    let run = Arc::new(RealRun {
        scenario: scenario.clone(),
        start: Instant::now(),
        opened: Opened::default(),
        outcomes: Mutex::new(BTreeMap::new()),
        lines: Lines::new(trace, scenario),
    });
    let client = Session::connect(&addresses, options).await?;
    let server = tokio::time::timeout(scenario.limit.0, counterpart(&mut listener, &client)).await?;
    let server = server.ok_or("the session ended as it began")?;
    set_schedulers(scenario, &client, &server);
    run.lines.add_to(&client, &server);
    let mut background = JoinSet::new();
    let of_paths: Vec<SocketAddr> = relays.iter().map(Relay::address).collect();
    background.spawn(attach(run.clone(), client.clone(), of_paths));
    background.spawn(answer(run.clone(), client.clone(), Side::Client));
    background.spawn(answer(run.clone(), server.clone(), Side::Server));
    let mut transfers = JoinSet::new();
    for number in 0..scenario.transfer.len() {
        let session = if Side::from(scenario.transfer[number].by) == Side::Client { &client } else { &server };
        transfers.spawn(open(run.clone(), session.clone(), number));
    }
    let all = async {
        tokio::join!(weather(&run, &relays), async { while transfers.join_next().await.is_some() {} });
        run.all_ended().await;
    };
    _ = tokio::time::timeout(scenario.limit.0, all).await;
    client.close(ErrorCode(0), b"").await;
    _ = tokio::time::timeout(PATIENCE, server.closed()).await;
    run.lines.flush();
    Ok((0..scenario.transfer.len()).map(|number| run.outcome(number)).collect())
}

/// The server's end of the client's session. On a busy machine the client may begin a second handshake, and the server then also
/// accepts a session that the client drops: the right one is that on which the client opens a stream.
async fn counterpart(listener: &mut Listener, client: &Session) -> Option<Session> {
    let mut greeting = client.open_stream().await.ok()?;
    greeting.write_chunk(Bytes::from_static(b"hello")).await.ok()?;
    greeting.finish().ok()?;
    let mut accepted = JoinSet::new();
    loop {
        tokio::select! {
            session = listener.accept() => {
                accepted.spawn(async move { session.accept_stream().await.map(|_greeting| session) });
            }
            Some(greeted) = accepted.join_next() => {
                if let Ok(Some(session)) = greeted {
                    return Some(session);
                }
            }
        }
    }
}

/// # Errors
/// The scenario wants what a relay can't do.
pub(crate) fn check_real(scenario: &Scenario) -> Outcome<()> {
    use FaultKind::{BackendAway, Clog, InterfaceDown, Restart, Suspend};
    if scenario.clients > 1 || scenario.path.iter().any(|path| !path.middleboxes.is_empty()) {
        return Err("several clients, and boxes on paths, are for simulations only".into());
    }
    if scenario.path.iter().any(|path| path.group.is_some()) {
        return Err("groups of paths are for simulations only: all relays are reached from one address".into());
    }
    if scenario.bounds.is_set() || !scenario.flood.is_empty() {
        return Err("bounds and floods are for simulations only".into());
    }
    if !scenario.farm.is_alone() {
        return Err("farms are for simulations only".into());
    }
    let beyond_relays = |fault: &&Fault| matches!(fault.kind, Clog | BackendAway | InterfaceDown | Restart | Suspend);
    if let Some(fault) = scenario.fault.iter().find(beyond_relays) {
        return Err(format!("a relay cannot do the fault {} at {}", variant(&fault.kind), fault.at).into());
    }
    let plain = |transfer: &Transfer| {
        transfer.read_rate.is_none()
            && transfer.write_rate.is_none()
            && transfer.reset_after.is_none()
            && transfer.stop_after.is_none()
    };
    if !scenario.transfer.iter().all(plain) || !scenario.action.is_empty() {
        return Err("slow readers and writers, resets and actions are for simulations only".into());
    }
    Ok(())
}

fn relay(path: &scenario::Path, target: SocketAddr) -> std::io::Result<Relay> {
    let [up, down] = usual_rates(path);
    let relay = Relay::start(LOOPBACK, target, PathOptions { rate: down, delay: path.delay.0 })?;
    relay.set_rate(Way::Up, up);
    Ok(relay)
}

/// To the server, and to the client.
fn usual_rates(path: &scenario::Path) -> [Option<u64>; 2] {
    [path.up_rate.or(path.rate), path.rate].map(|rate| rate.map(|rate| rate.0))
}

fn set_schedulers(scenario: &Scenario, client: &Session, server: &Session) {
    for (settings, session) in [(&scenario.client, client), (&scenario.server, server)] {
        settings
            .scheduler
            .into_iter()
            .for_each(|chosen| session.set_scheduler(crate::sim::hosts::driver::scheduler(chosen)));
    }
}

/// The faults, each in its time.
async fn weather(run: &RealRun, relays: &[Relay]) {
    let mut steps: Vec<(Duration, &Fault, bool)> = Vec::new();
    for fault in &run.scenario.fault {
        steps.push((fault.at.0, fault, false));
        steps.extend(fault.until.map(|until| (until.0, fault, true)));
    }
    steps.sort_by_key(|(at, ..)| *at);
    for (at, fault, over) in steps {
        tokio::time::sleep_until(run.start + at).await;
        let path = fault.path.as_deref().and_then(|name| run.scenario.path_number(name)).unwrap_or_default();
        run.lines.fault(fault, over);
        disturb(&relays[path], &run.scenario.path[path], fault, over);
    }
}

/// One fault begins, or is over.
fn disturb(relay: &Relay, usual: &scenario::Path, fault: &Fault, over: bool) {
    let ways = match fault.direction {
        None => &[Way::Up, Way::Down][..],
        Some(Direction::Up) => &[Way::Up],
        Some(Direction::Down) => &[Way::Down],
    };
    let each = |act: &dyn Fn(Way)| ways.iter().for_each(|way| act(*way));
    match fault.kind {
        FaultKind::Reset => relay.end(Break::Reset),
        FaultKind::ResetClient => relay.end(Break::ResetNear),
        FaultKind::ResetServer => relay.end(Break::ResetFar),
        FaultKind::Fin => relay.end(Break::Fin),
        FaultKind::Forget => relay.end(Break::Forget),
        FaultKind::Down if over => relay.resume(),
        FaultKind::Down => relay.take_down(),
        FaultKind::BlackHole => each(&|way| relay.set_stalled(way, !over)),
        FaultKind::Rate => each(&|way| relay.set_rate(way, fault.rate_of(over, usual_rates(usual)[way as usize]))),
        FaultKind::Delay => each(&|way| relay.set_delay(way, fault.delay_of(over, usual.delay.0))),
        FaultKind::Corrupt => each(&|way| relay.corrupt(way)),
        FaultKind::Shred => relay.set_shreds(!over),
        FaultKind::Clog
        | FaultKind::BackendAway
        | FaultKind::InterfaceDown
        | FaultKind::Restart
        | FaultKind::Suspend => {}
    }
}

/// Notes which path each TCP connection of the client goes over.
async fn attach(run: Arc<RealRun>, client: Session, of_paths: Vec<SocketAddr>) {
    let mut events = client.events();
    let note = |tcp| {
        let remote = client.path_of(tcp).map(|path| path.remote);
        let path = of_paths.iter().position(|address| Some(*address) == remote);
        path.into_iter().for_each(|path| run.lines.attached(tcp, path));
    };
    client.tcp_connections().into_iter().for_each(note);
    while let Some(event) = events.next().await {
        if let Event::Tcp(TcpEvent::Joined { tcp }) = event {
            note(tcp);
        }
    }
}

/// The end that opens a stream.
async fn open(run: Arc<RealRun>, session: Session, number: usize) {
    tokio::time::sleep_until(run.start + run.scenario.transfer[number].at.0).await;
    if let Ok(stream) = session.open_stream().await {
        run.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(stream.id(), number);
        run.exchange(stream, number, false).await;
    }
}

/// The end that does not.
async fn answer(run: Arc<RealRun>, session: Session, side: Side) {
    let mut tasks = JoinSet::new();
    while let Some(stream) = session.accept_stream().await {
        let number = run.opened.lock().unwrap_or_else(PoisonError::into_inner).get(&stream.id()).copied();
        let Some(number) = number else { continue };
        debug_assert_ne!(Side::from(run.scenario.transfer[number].by), side);
        let run = run.clone();
        tasks.spawn(async move { run.exchange(stream, number, true).await });
    }
    while tasks.join_next().await.is_some() {}
}

impl RealRun {
    /// Writes one direction and reads the other; `back`: this end did not open the stream.
    async fn exchange(&self, stream: Stream, number: usize, back: bool) {
        let plan = &self.scenario.transfer[number];
        let (own, other) = (Pattern::new(plan, number, back), Pattern::new(plan, number, !back));
        let (mut writer, mut reader) = stream.split();
        let write = async {
            let mut at = 0;
            while at < own.total {
                let piece = own.content(at, PIECE.min(own.total - at));
                at += piece.len() as u64;
                if writer.write_chunk(piece).await.is_err() {
                    return;
                }
            }
            _ = writer.finish();
        };
        let read = async {
            let (mut at, mut last) = (0, self.start.elapsed());
            let end = loop {
                match reader.read_chunk(PIECE as usize).await {
                    Ok(Some(bytes)) if other.fits(at, &bytes) => {
                        (at, last) = (at + bytes.len() as u64, self.start.elapsed());
                    }
                    Ok(None) if at == other.total => break TransferEnd::Whole,
                    Ok(_) => break TransferEnd::Wrong,
                    Err(_) => break TransferEnd::Truncated,
                }
            };
            self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert((number, !back), (at, end, last));
        };
        tokio::join!(write, read);
    }

    /// The ends that did not open streams may still be reading.
    async fn all_ended(&self) {
        while self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).len() < 2 * self.scenario.transfer.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn outcome(&self, number: usize) -> RealTransfer {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let halves = [false, true].map(|back| outcomes.get(&(number, back)));
        RealTransfer {
            read: halves.map(|half| half.map_or(0, |(read, ..)| *read)),
            ends: halves.map(|half| half.map(|(_, end, _)| end.name().to_owned())),
            ended: halves.iter().flatten().map(|(.., at)| at.as_secs_f64()).fold(0.0, f64::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpls_core::ConnectionId;

    use super::*;

    #[tokio::test]
    async fn server_end_is_found_after_a_session_that_the_client_does_not_use() {
        let identity = Identity::self_signed(&["localhost".to_owned()]).unwrap();
        let options = ServerOptions::new(identity.server(&[b"sim"]).unwrap());
        let mut listener = Listener::bind(&[LOOPBACK], options).unwrap();
        let addresses = listener.local_addresses().to_vec();
        let tls = Trust::Pem(identity.certificate_pem().to_owned()).client(&[b"sim"]).unwrap();
        let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
        let _unused = Session::connect(&addresses, options.clone()).await.unwrap();
        let client = Session::connect(&addresses, options).await.unwrap();
        let server = counterpart(&mut listener, &client).await.unwrap();
        assert_eq!(server.peer_address(ConnectionId::FIRST), client.local_address());
    }
}
