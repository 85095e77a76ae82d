//! What subcommands print of TCP connections and errors: JSON for programs, tables for people.

use serde::Serialize;
use tcpls_core::stats::TcpStats;

use super::units::{rate, size, time};
use super::{Outcome, output};

/// What `--json` prints if there is nothing else to print.
#[derive(Serialize)]
struct Failed {
    error: String,
}

/// Passes `outcome` on; with `json`, an error is printed as an object too, so that standard output always has one.
pub(crate) fn or_error<T>(outcome: Outcome<T>, json: bool) -> Outcome<T> {
    outcome.inspect_err(|error| {
        if json {
            // If that fails, the command's end says so.
            _ = output::result_json(&Failed { error: error.to_string() });
        }
    })
}

/// One TCP connection of a session, as JSON shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TcpReport {
    pub(crate) tcp: u32,
    pub(crate) state: String,
    pub(crate) standby: bool,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) stream_bytes_sent: u64,
    pub(crate) stream_bytes_received: u64,
    pub(crate) requeued_bytes: u64,
    pub(crate) smoothed_rtt_ms: Option<f64>,
}

impl From<&TcpStats> for TcpReport {
    fn from(stats: &TcpStats) -> Self {
        Self {
            tcp: stats.tcp.0,
            state: stats.phase.to_string(),
            standby: stats.backup,
            bytes_sent: stats.counters.bytes_sent,
            bytes_received: stats.counters.bytes_received,
            stream_bytes_sent: stats.counters.stream_bytes_sent,
            stream_bytes_received: stats.counters.stream_bytes_received,
            requeued_bytes: stats.counters.requeued_bytes,
            smoothed_rtt_ms: stats.smoothed_rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
        }
    }
}

/// The TCP connections of a client that downloaded, as a table with a line for each. Where the terminal is too narrow for
/// it, each has two lines that say the same.
pub(crate) fn table(rows: &[(TcpStats, String, Option<f64>)], columns: Option<usize>) -> String {
    let line = |[tcp, path, received, mean, rtt, state]: [&str; 6]| {
        format!("{tcp:<8} {path:<28} {received:>12} {mean:>14} {rtt:>10}  {state}")
    };
    let rows: Vec<[String; 6]> = rows.iter().map(|(stats, path, mean)| cells(stats, path, *mean)).collect();
    let mut lines = vec![line(["TCP", "path", "received", "mean rate", "RTT", "state"])];
    lines.extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str))));
    let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    if columns.is_none_or(|columns| widest <= columns) {
        return lines.join("\n");
    }
    let narrow = |[tcp, path, received, mean, rtt, state]: &[String; 6]| {
        format!("{tcp:<6} {path}: {state}\n       {received} received, mean {mean}, RTT {rtt}")
    };
    rows.iter().map(narrow).collect::<Vec<_>>().join("\n")
}

fn cells(stats: &TcpStats, path: &str, mean: Option<f64>) -> [String; 6] {
    [
        stats.tcp.to_string(),
        path.to_owned(),
        size(stats.counters.stream_bytes_received),
        mean.map_or("-".to_owned(), rate),
        stats.smoothed_rtt.map_or("-".to_owned(), time),
        stats.phase.to_string(),
    ]
}
