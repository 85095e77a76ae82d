//! The outcome of a run: measurements, and whether the goals were reached.

use std::time::Duration;

use serde::Serialize;
use tcpls_core::Time;
use tcpls_core::error::CloseReason;
use tcpls_core::stats::{TcpPhase, TcpStats};

use crate::sim::hosts::driver::Driver;
use crate::sim::scenario::{Goals, Path, Scenario, Span};
pub use crate::sim::trace::Metric;
use crate::sim::trace::seconds;
use crate::sim::traffic::transfers::{TransferState, Transfers};

/// The width of a column of [`Meter`].
pub const BIN: Duration = Duration::from_millis(50);

/// The outcome of a run. Times are in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's title.
    pub title: String,
    /// The run's seed.
    pub seed: u64,
    /// When it ended.
    pub ended: f64,
    /// Each client's session.
    pub sessions: Vec<SessionReport>,
    /// The hash of what the hosts sent and received; empty if the run made none.
    pub trace: String,
    /// Violated invariants.
    pub wrong: Vec<String>,
    /// Sessions of the server that gave way to others, attackers' among them.
    pub evicted: usize,
    /// Joins that one server of a farm passed on to another.
    #[serde(skip_serializing_if = "is_zero")]
    pub hand_overs: usize,
    /// How often an end of a session had its turn: the work of the run.
    #[serde(skip)]
    pub turns: u64,
    /// TCP connections that middleboxes ended, and why.
    pub killed: Vec<String>,
    /// Goals that were not reached.
    pub missed: Vec<String>,
    /// What applications recorded with [`Runtime::metric`](crate::net::Runtime::metric), in order of time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// Bytes over time.
    #[serde(skip)]
    pub meter: Meter,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The outcome of one client's session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionReport {
    /// The transfers, in the scenario's order.
    pub transfers: Vec<TransferReport>,
    /// How the session ended for the client and the server; `None`: it did not.
    pub closed: [Option<String>; 2],
    /// The client's TCP connections, and the server's.
    pub tcp: [Vec<TcpReport>; 2],
    /// There was a session: a path that loses all SYNs for long enough gives none.
    pub began: bool,
    /// The client lost its last TCP connection and had no token for another: every token that it was given went with a TCP
    /// connection that failed. Such a session cannot recover.
    pub starved: bool,
    /// The session gave way to others at the server.
    pub evicted: bool,
    /// Goals that were not reached here.
    pub missed: Vec<String>,
}

/// One transfer.
#[derive(Clone, Debug, Serialize)]
pub struct TransferReport {
    /// When it was due.
    pub started: Option<f64>,
    /// When the last byte was read, at either end.
    pub ended: Option<f64>,
    /// Bytes read, by the end that did not open the stream and by the one that did.
    pub read: [u64; 2],
    /// How both directions ended.
    pub ends: [Option<String>; 2],
    /// The longest time between two reads, and when it began.
    pub gap: (f64, f64),
}

/// One TCP connection at one end.
#[derive(Clone, Debug, Serialize)]
pub struct TcpReport {
    /// Its connection ID.
    pub tcp: u32,
    /// Its state when the session was closed, or the run ended: in use, stalled, or lost and why.
    pub state: String,
    /// Stream bytes that it carried, duplicates included, and those that went out again because of it.
    pub sent: u64,
    /// The same, received.
    pub received: u64,
    /// Stream bytes that went out again on others.
    pub requeued: u64,
}

/// Bytes over time: a row for every [`BIN`].
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// What the columns are: what applications read, then what arrived on each path.
    pub columns: Vec<String>,
    /// Bytes by time and column.
    pub rows: Vec<Vec<u64>>,
    /// When what was done or went wrong.
    pub marks: Vec<(f64, String)>,
}

impl Meter {
    pub(crate) fn new(paths: &[Path]) -> Self {
        let names = paths.iter().map(|path| path.name.clone());
        Self { columns: std::iter::once("delivered".to_owned()).chain(names).collect(), ..Self::default() }
    }

    pub(crate) fn count(&mut self, now: Time, delivered: u64, carried: &[u64]) {
        if delivered == 0 && carried.iter().all(|bytes| *bytes == 0) {
            return;
        }
        let row = usize::try_from(now.as_nanos() / BIN.as_nanos() as u64).unwrap_or(usize::MAX - 1);
        if self.rows.len() <= row {
            self.rows.resize(row + 1, vec![0; self.columns.len()]);
        }
        for (sum, bytes) in self.rows[row].iter_mut().zip(std::iter::once(&delivered).chain(carried)) {
            *sum += bytes;
        }
    }

    pub(crate) fn mark(&mut self, now: Time, what: String) {
        self.marks.push((seconds(now), what));
    }

    /// The rows as comma-separated values, with a heading.
    pub fn csv(&self) -> String {
        let mut text = format!("seconds,{}\n", self.columns.join(","));
        for (number, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().map(u64::to_string).collect();
            text += &format!("{:.2},{}\n", BIN.as_secs_f64() * number as f64, cells.join(","));
        }
        text
    }
}

/// The data that a report is made from.
pub(crate) struct RunResult<'a> {
    pub(crate) seed: u64,
    pub(crate) now: Time,
    /// The applications of each client's session, and its ends.
    pub(crate) sessions: Vec<(&'a Transfers, [Option<&'a Driver>; 2])>,
    /// The server had a session whose handshake was over.
    pub(crate) established: bool,
    pub(crate) evicted: usize,
    pub(crate) hand_overs: usize,
    pub(crate) turns: u64,
    pub(crate) meter: Meter,
    pub(crate) trace: String,
    pub(crate) wrong: Vec<String>,
    pub(crate) killed: Vec<String>,
    pub(crate) metrics: Vec<Metric>,
}

impl Report {
    pub(crate) fn new(scenario: &Scenario, result: RunResult<'_>) -> Self {
        let RunResult { seed, now, sessions, established, evicted, hand_overs, turns, .. } = result;
        let RunResult { meter, trace, wrong, killed, metrics, .. } = result;
        let session = |(transfers, ends)| SessionReport::new(&scenario.goals, transfers, ends);
        let sessions: Vec<SessionReport> = sessions.into_iter().map(session).collect();
        let mut missed: Vec<String> = sessions.iter().flat_map(|session| session.missed.clone()).collect();
        if scenario.goals.no_session && (established || sessions.iter().any(|session| session.began)) {
            missed.push("there is a session".to_owned());
        }
        if scenario.goals.evicted.is_some_and(|least| evicted < least) {
            missed.push(format!("{evicted} sessions gave way"));
        }
        if scenario.goals.hand_overs.is_some_and(|least| hand_overs < least) {
            missed.push(format!("{hand_overs} joins were passed on"));
        }
        let (title, ended) = (scenario.title.clone(), seconds(now));
        Self { title, seed, ended, sessions, trace, wrong, evicted, hand_overs, turns, killed, missed, metrics, meter }
    }

    /// Returns the values that applications recorded under this name, in order of time.
    pub fn metric(&self, name: &str) -> impl Iterator<Item = f64> {
        self.metrics.iter().filter(move |metric| metric.name == name).map(|metric| metric.value)
    }

    /// Whether nothing was wrong and all goals were reached.
    pub fn is_good(&self) -> bool {
        self.wrong.is_empty() && self.missed.is_empty()
    }
}

impl SessionReport {
    fn new(goals: &Goals, transfers: &Transfers, ends: [Option<&Driver>; 2]) -> Self {
        let reason = |driver: Option<&Driver>| driver?.conn.close_reason().map(ToString::to_string);
        let stranded = |driver: &&Driver| {
            matches!(driver.conn.close_reason(), Some(CloseReason::Stranded | CloseReason::OutOfTokens { .. }))
        };
        let mut report = Self {
            transfers: transfers.list.iter().map(transfer_report).collect(),
            closed: ends.map(reason),
            tcp: ends.map(|driver| driver.map(tcp_reports).unwrap_or_default()),
            began: ends[0].is_some(),
            starved: ends[0].is_some_and(|driver| driver.conn.tokens() == 0) && ends.iter().flatten().any(stranded),
            evicted: ends[1].is_some_and(|driver| driver.conn.close_reason() == Some(&CloseReason::Evicted)),
            missed: Vec::new(),
        };
        report.missed = report.missed_goals(goals, transfers, ends);
        report
    }

    fn missed_goals(&self, goals: &Goals, transfers: &Transfers, sides: [Option<&Driver>; 2]) -> Vec<String> {
        let [client, server] = sides;
        let mut missed = Vec::new();
        let mut demand = |reached: bool, what: String| missed.extend((!reached).then_some(what));
        for (number, (transfer, reported)) in transfers.list.iter().zip(&self.transfers).enumerate() {
            let cut = transfer.is_to_be_cut() && (transfer.is_over() || transfers.is_drained());
            let done = transfer.is_whole() || cut || transfers.is_turned_away(transfer);
            demand(!goals.complete || done, format!("transfer {number} is not complete: {}", both(&reported.ends)));
            let within = goals.within.is_none_or(|span| reported.ended.is_some_and(|at| at <= span.0.as_secs_f64()));
            demand(within, {
                let ended = reported.ended.map_or("has not ended".to_owned(), |at| format!("ended at {at:.3} s"));
                format!("transfer {number} {ended}")
            });
            let (gap, at) = reported.gap;
            let short = goals.max_gap.is_none_or(|span| gap <= span.0.as_secs_f64());
            demand(short, format!("transfer {number} stood still for {gap:.3} s at {at:.3} s"));
        }
        // A server that was restarted has no end.
        let closed = self.closed[0].is_some() && (self.closed[1].is_some() || server.is_none());
        demand(!goals.complete || closed, format!("the session is not closed: {}", ends(&self.closed)));
        let over = |span: Span| client.and_then(|driver| driver.closed_at).is_some_and(|at| at <= Time::ZERO + span.0);
        demand(goals.over_within.is_none_or(over), "the session is not over in time".to_owned());
        let requeued: u64 = self.tcp.iter().flatten().map(|tcp| tcp.requeued).sum();
        demand(goals.max_requeued.is_none_or(|size| requeued <= size.0), format!("{requeued} bytes went out again"));
        let lost = client.map_or(0, |driver| driver.lost);
        demand(goals.max_lost.is_none_or(|most| lost <= most), format!("{lost} TCP connections were lost"));
        missed
    }
}

fn transfer_report(transfer: &TransferState) -> TransferReport {
    let halves = &transfer.halves;
    let gap = halves.iter().map(|half| half.gap).max().unwrap_or_default();
    TransferReport {
        started: transfer.started.map(seconds),
        ended: halves.iter().filter_map(|half| half.last).max().map(seconds),
        read: [halves[0].read, halves[1].read],
        ends: [0, 1].map(|half| halves[half].end.map(|end| end.name().to_owned())),
        gap: (gap.0.as_secs_f64(), seconds(gap.1)),
    }
}

fn tcp_reports(driver: &Driver) -> Vec<TcpReport> {
    let is_stalled = |stats: &TcpStats| stats.stalled && stats.phase == TcpPhase::Active;
    let report = |stats: &TcpStats| TcpReport {
        tcp: stats.tcp.0,
        state: if is_stalled(stats) { "stalled".to_owned() } else { stats.phase.to_string() },
        sent: stats.counters.stream_bytes_sent,
        received: stats.counters.stream_bytes_received,
        requeued: stats.counters.requeued_bytes,
    };
    driver.stats().tcp.iter().map(report).collect()
}

/// How both directions of a transfer ended.
pub(crate) fn both([there, back]: &[Option<String>; 2]) -> String {
    let end = |end: &Option<String>| end.clone().unwrap_or("not ended".to_owned());
    format!("opener to peer: {}, peer to opener: {}", end(there), end(back))
}

/// How a session ended at both ends.
fn ends([client, server]: &[Option<String>; 2]) -> String {
    let end = |end: &Option<String>| end.clone().unwrap_or("not closed".to_owned());
    format!("client: {}, server: {}", end(client), end(server))
}
