//! `--metrics`: what a server does, in the text format of Prometheus. The counters are those of the process.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tcpls_core::error::JoinRefusal;
use tcpls_core::event::TcpEvent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::Outcome;
use crate::net::{HandOverFault, HandOvers, HandshakeFault, Session};
use crate::proxy::Refusal;

/// Longest head of a request.
const MAX_HEAD: usize = 8 * 1024;
/// Readers that are served at the same time.
const MAX_READERS: usize = 8;
/// How long a reader may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after a socket could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The task that answers readers.
static READERS: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// What this process counts.
pub(crate) static METRICS: Metrics = Metrics(Mutex::new(State::new()));

/// Counters of a server.
#[derive(Debug)]
pub(crate) struct Metrics(Mutex<State>);

#[derive(Debug)]
struct State {
    next: u64,
    open: BTreeMap<u64, Open>,
    /// Of sessions that have ended.
    past: Totals,
    sessions: [u64; 2],
    joins: u64,
    lost: u64,
    stalls: u64,
    failures: BTreeMap<&'static str, u64>,
    refusals: BTreeMap<&'static str, u64>,
    /// Of a server in a farm.
    hand_overs: Option<HandOvers>,
}

impl State {
    const fn new() -> Self {
        let past = Totals { sent: 0, received: 0, stream_sent: 0, stream_received: 0, requeued: 0, joins_refused: 0 };
        Self {
            next: 0,
            open: BTreeMap::new(),
            past,
            sessions: [0; 2],
            joins: 0,
            lost: 0,
            stalls: 0,
            failures: BTreeMap::new(),
            refusals: BTreeMap::new(),
            hand_overs: None,
        }
    }
}

/// A session that is counted as open until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted(u64);

impl Counted {
    /// Returns the number of joins that the session refused.
    pub(crate) fn joins_refused(&self) -> u64 {
        METRICS.state().open.get_mut(&self.0).map_or(0, |open| open.totals().joins_refused)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = METRICS.state();
        if let Some(mut open) = state.open.remove(&self.0) {
            state.past = state.past.combine(open.totals(), u64::saturating_add);
        }
    }
}

/// A session that has not ended.
#[derive(Debug)]
struct Open {
    session: Session,
    /// What was reported. Statistics leave out TCP connections that were lost long ago; a counter must not fall.
    reported: Totals,
}

/// Counters of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    sent: u64,
    received: u64,
    stream_sent: u64,
    stream_received: u64,
    requeued: u64,
    joins_refused: u64,
}

impl Totals {
    fn of(session: &Session) -> Self {
        let stats = session.stats();
        let mut totals = Self { joins_refused: stats.limits.claims_refused, ..Self::default() };
        for tcp in &stats.tcp {
            totals.sent += tcp.counters.bytes_sent;
            totals.received += tcp.counters.bytes_received;
            totals.stream_sent += tcp.counters.stream_bytes_sent;
            totals.stream_received += tcp.counters.stream_bytes_received;
            totals.requeued += tcp.counters.requeued_bytes;
        }
        totals
    }

    fn combine(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            sent: combine(self.sent, other.sent),
            received: combine(self.received, other.received),
            stream_sent: combine(self.stream_sent, other.stream_sent),
            stream_received: combine(self.stream_received, other.stream_received),
            requeued: combine(self.requeued, other.requeued),
            joins_refused: combine(self.joins_refused, other.joins_refused),
        }
    }
}

impl Open {
    fn totals(&mut self) -> Totals {
        self.reported = self.reported.combine(Totals::of(&self.session), u64::max);
        self.reported
    }
}

impl Metrics {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a session that began.
    pub(crate) fn began(&'static self, session: &Session) -> Counted {
        let mut state = self.state();
        state.sessions[usize::from(session.is_tcpls())] += 1;
        state.next += 1;
        let number = state.next;
        state.open.insert(number, Open { session: session.clone(), reported: Totals::default() });
        Counted(number)
    }

    /// Shows the joins that pass between this server and others of its farm.
    pub(crate) fn in_farm(&self, hand_overs: HandOvers) {
        self.state().hand_overs = Some(hand_overs);
    }

    /// Counts an event of a TCP connection.
    pub(crate) fn tcp(&self, event: &TcpEvent) {
        let mut state = self.state();
        match event {
            TcpEvent::Joined { .. } => state.joins += 1,
            TcpEvent::Lost { .. } => state.lost += 1,
            TcpEvent::Stalled { .. } => state.stalls += 1,
            _ => {}
        }
    }

    /// Counts a TCP connection that did not become part of a session.
    pub(crate) fn failed(&self, fault: &HandshakeFault) {
        *self.state().failures.entry(label(fault)).or_default() += 1;
    }

    /// Counts failures whose reason is unknown.
    pub(crate) fn missed(&self, number: u64) {
        if number > 0 {
            *self.state().failures.entry("unknown").or_default() += number;
        }
    }

    /// Counts a request that a proxy refused.
    pub(crate) fn refused(&self, refusal: Refusal) {
        *self.state().refusals.entry(label_of(refusal)).or_default() += 1;
    }

    /// Returns all metrics as text.
    fn text(&self) -> String {
        let mut state = self.state();
        let (mut totals, mut tcp, mut streams) = (state.past, [0_u64; 2], 0);
        for open in state.open.values_mut() {
            totals = totals.combine(open.totals(), u64::saturating_add);
            let stats = open.session.stats();
            streams += stats.streams_open as u64;
            let live = open.session.tcp_connections().len() as u64;
            let stalled = stats.tcp.iter().filter(|tcp| tcp.stalled).count() as u64;
            tcp = [tcp[0] + live.saturating_sub(stalled), tcp[1] + stalled];
        }
        let mut text = Text::default();
        let open = state.open.len() as u64;
        text.one("sessions", "gauge", "Sessions that have not ended.", open);
        let [plain, tcpls] = state.sessions;
        let began = [("protocol=\"tcpls\"", tcpls), ("protocol=\"tls\"", plain)];
        text.all("sessions_total", "counter", "Sessions that began.", &began);
        let states = [("state=\"live\"", tcp[0]), ("state=\"stalled\"", tcp[1])];
        text.all("tcp_connections", "gauge", "TCP connections of sessions.", &states);
        text.one("streams", "gauge", "Open streams.", streams);
        let bytes = [("direction=\"sent\"", totals.sent), ("direction=\"received\"", totals.received)];
        text.all("tcp_bytes_total", "counter", "Bytes given to and taken from sockets.", &bytes);
        let bytes = [("direction=\"sent\"", totals.stream_sent), ("direction=\"received\"", totals.stream_received)];
        text.all("stream_bytes_total", "counter", "Stream data, including what was sent again.", &bytes);
        text.one("requeued_bytes_total", "counter", "Stream data that was requeued after a failure.", totals.requeued);
        text.one("joins_total", "counter", "TCP connections that joined a session.", state.joins);
        text.one("joins_refused_total", "counter", "Joins that a session refused.", totals.joins_refused);
        text.one("tcp_lost_total", "counter", "TCP connections of sessions that ended.", state.lost);
        text.one("stalls_total", "counter", "Times that a TCP connection stalled.", state.stalls);
        if let Some(hand_overs) = &state.hand_overs {
            let help = "Joins of other servers' sessions that are passed on to them.";
            text.one("hand_overs", "gauge", help, hand_overs.open());
            let both = [
                ("direction=\"passed_on\"", hand_overs.passed_on()),
                ("direction=\"accepted\"", hand_overs.accepted()),
            ];
            let help = "Joins that were passed on to other servers, and accepted from them.";
            text.all("hand_overs_total", "counter", help, &both);
            let help = "Bytes of joins that were passed on, in both directions.";
            text.one("hand_over_bytes_total", "counter", help, hand_overs.bytes());
        }
        let help = "Accepted TCP connections that did not become part of a session.";
        text.by_reason("handshake_failures_total", help, &state.failures);
        text.by_reason("requests_refused_total", "Requests to a proxy that it refused.", &state.refusals);
        text.0
    }
}

/// The reason of a failure, one of a few.
fn label(fault: &HandshakeFault) -> &'static str {
    match fault {
        HandshakeFault::Ended { received: 0 } => "no_byte",
        HandshakeFault::Ended { .. } => "ended",
        HandshakeFault::HelloTimeout => "timeout",
        HandshakeFault::ProxyHeader(_) | HandshakeFault::ProxyHeaderTimeout => "proxy_header",
        HandshakeFault::Refused(_) => "refused",
        HandshakeFault::NoSession => "no_session",
        HandshakeFault::Join(refusal) => match refusal {
            JoinRefusal::Token => "join_token",
            JoinRefusal::Crowded => "join_crowded",
            JoinRefusal::Closing => "join_closing",
            JoinRefusal::Hello => "join_hello",
            JoinRefusal::NotTls | JoinRefusal::Malformed => "join_malformed",
            JoinRefusal::NotAuthenticated => "join_not_authenticated",
            JoinRefusal::Overtaken => "join_overtaken",
            JoinRefusal::Timeout => "join_timeout",
            _ => "join_other",
        },
        HandshakeFault::JoinEnded => "join_ended",
        HandshakeFault::JoinEvicted => "join_evicted",
        HandshakeFault::Evicted(_) => "evicted",
        HandshakeFault::Session(_) => "handshake",
        HandshakeFault::HandOver(fault) => match fault {
            HandOverFault::Unknown(_) => "hand_over_unknown",
            HandOverFault::Unreachable(..) => "hand_over_unreachable",
            HandOverFault::Evicted => "hand_over_evicted",
            HandOverFault::ClientTooFast => "hand_over_client_rate",
            HandOverFault::TooFast => "hand_over_rate",
            HandOverFault::NoSocket(_) => "hand_over_no_socket",
            HandOverFault::Misdirected
            | HandOverFault::Stranger
            | HandOverFault::NotOwn
            | HandOverFault::NotAuthentic => "hand_over_refused",
        },
    }
}

/// The reason of a refusal, one of a few.
fn label_of(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Credentials => "credentials",
        Refusal::WrongTooOften { .. } => "wrong_too_often",
        Refusal::Denied => "denied",
        Refusal::Taken => "taken",
        Refusal::TooMany => "too_many",
        Refusal::TooManyNames => "too_many_names",
        Refusal::Overloaded => "overloaded",
        Refusal::Unresolved => "unresolved",
        Refusal::Refused => "refused",
        Refusal::Unreachable => "unreachable",
        Refusal::TimedOut => "timed_out",
        Refusal::BadRequest | Refusal::HeadTooLarge | Refusal::RequestTimeout | Refusal::Method | Refusal::Version => {
            "bad_request"
        }
        _ => "other",
    }
}

/// Metrics in the text format.
#[derive(Default)]
struct Text(String);

impl Text {
    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.all(name, kind, help, &[("", value)]);
    }

    fn by_reason(&mut self, name: &str, help: &str, counts: &BTreeMap<&'static str, u64>) {
        let counts: Vec<(String, u64)> =
            counts.iter().map(|(reason, count)| (format!("reason=\"{reason}\""), *count)).collect();
        let counts: Vec<(&str, u64)> = counts.iter().map(|(label, count)| (label.as_str(), *count)).collect();
        self.all(name, "counter", help, &counts);
    }

    fn all(&mut self, name: &str, kind: &str, help: &str, values: &[(&str, u64)]) {
        // Writing to a string never fails.
        _ = write!(self.0, "# HELP tcpls_{name} {help}\n# TYPE tcpls_{name} {kind}\n");
        for (label, value) in values {
            _ = match *label {
                "" => writeln!(self.0, "tcpls_{name} {value}"),
                label => writeln!(self.0, "tcpls_{name}{{{label}}} {value}"),
            };
        }
    }
}

/// Begins to serve metrics at `address`.
///
/// # Errors
/// The address can't be listened on.
pub(crate) fn start(address: SocketAddr) -> Outcome {
    let task = tokio::spawn(serve(listen(address)?));
    readers().replace(task);
    Ok(())
}

/// Closes the listening socket, so that the process that replaces this one can serve metrics at the same address.
pub(crate) async fn stop() {
    let task = readers().take();
    if let Some(task) = task {
        task.abort();
        _ = task.await;
    }
}

fn readers() -> MutexGuard<'static, Option<JoinHandle<()>>> {
    READERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(address: SocketAddr) -> Outcome<TcpListener> {
    let listener = std::net::TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .and_then(TcpListener::from_std);
    Ok(listener.map_err(|error| format!("can't serve metrics on {address}: {error}"))?)
}

/// Answers readers for ever.
async fn serve(listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_READERS));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(async move {
                    // A reader that is slow or has left gets nothing.
                    _ = tokio::time::timeout(PATIENCE, answer(socket, &METRICS)).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers one request (HTTP/1.1 without keep-alive).
async fn answer(mut socket: TcpStream, metrics: &Metrics) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= MAX_HEAD || socket.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, body) = response(&String::from_utf8_lossy(line), metrics);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await?;
    socket.shutdown().await
}

fn response(request: &str, metrics: &Metrics) -> (&'static str, String) {
    let words: Vec<&str> = request.split(' ').collect();
    match words[..] {
        ["GET", "/metrics" | "/", version] if version.starts_with("HTTP/1.") => ("200 OK", metrics.text()),
        ["GET", _, version] if version.starts_with("HTTP/1.") => ("404 Not Found", "see /metrics\n".to_owned()),
        [_, _, version] if version.starts_with("HTTP/1.") => ("405 Method Not Allowed\r\nAllow: GET", String::new()),
        _ => ("400 Bad Request", String::new()),
    }
}

#[cfg(test)]
mod tests {
    use tcpls_core::wire::ids::ConnectionId;

    use super::*;

    #[test]
    fn requests_other_than_get_metrics_are_refused() {
        let metrics = Metrics(Mutex::new(State::new()));
        for (request, status) in [
            ("GET /metrics HTTP/1.1", "200"),
            ("GET / HTTP/1.0", "200"),
            ("GET /other HTTP/1.1", "404"),
            ("POST /metrics HTTP/1.1", "405"),
            ("GET /metrics", "400"),
            ("GET /metrics HTTP/2", "400"),
            ("", "400"),
        ] {
            assert!(response(request, &metrics).0.starts_with(status), "{request}");
        }
    }

    #[test]
    fn events_and_failures_are_counted_by_kind() {
        let metrics = Metrics(Mutex::new(State::new()));
        let tcp = ConnectionId(1);
        metrics.tcp(&TcpEvent::Joined { tcp });
        metrics.tcp(&TcpEvent::Stalled { tcp });
        metrics.tcp(&TcpEvent::Resumed { tcp });
        metrics.failed(&HandshakeFault::HelloTimeout);
        metrics.failed(&HandshakeFault::HelloTimeout);
        metrics.refused(Refusal::Credentials);
        metrics.refused(Refusal::WrongTooOften { seconds: 3 });
        metrics.missed(3);
        metrics.missed(0);
        let text = metrics.text();
        for line in [
            "tcpls_joins_total 1",
            "tcpls_stalls_total 1",
            "tcpls_tcp_lost_total 0",
            "tcpls_sessions 0",
            "tcpls_handshake_failures_total{reason=\"timeout\"} 2",
            "tcpls_handshake_failures_total{reason=\"unknown\"} 3",
            "tcpls_requests_refused_total{reason=\"credentials\"} 1",
            "tcpls_requests_refused_total{reason=\"wrong_too_often\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "no {line} in {text}");
        }
    }
}
