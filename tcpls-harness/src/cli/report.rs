//! What subcommands print: JSON for programs, bars and tables for people.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tcpls_core::stats::{TcpPhase, TcpStats};

use super::Outcome;
use super::units::{rate, size, time};

/// Prints `value` as one line of JSON on standard output.
pub(crate) fn json<T: Serialize>(value: &T) {
    // What is printed here are structs of numbers and strings: they always serialise.
    // A reader that has gone is no failure of ours.
    _ = writeln!(std::io::stdout(), "{}", serde_json::to_string(value).unwrap_or_default());
}

/// What `--json` prints if there is nothing else to print.
#[derive(Serialize)]
struct Failed {
    error: String,
}

/// Passes `outcome` on; with `json`, an error is printed as an object too, so that standard output always has one.
pub(crate) fn or_error<T>(outcome: Outcome<T>, json: bool) -> Outcome<T> {
    outcome.inspect_err(|error| {
        if json {
            self::json(&Failed { error: error.to_string() });
        }
    })
}

/// A bar that counts bytes on standard error; shows nothing where that is no terminal.
pub(crate) fn bar(total: Option<u64>) -> ProgressBar {
    let bar = match total {
        Some(total) => {
            ProgressBar::new(total).with_style(style("{bar:30} {binary_bytes:>11} / {binary_total_bytes} {msg}"))
        }
        None => ProgressBar::no_length().with_style(style("{binary_bytes:>11} {msg}")),
    };
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A line of text below a bar.
pub(crate) fn line() -> ProgressBar {
    ProgressBar::no_length().with_style(style("  {msg}"))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
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
            state: phase(stats.phase),
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

/// Whether a TCP connection is in use, and if not, why.
pub(crate) fn phase(phase: TcpPhase) -> String {
    match phase {
        TcpPhase::Opening => "opening".to_owned(),
        TcpPhase::Active => "in use".to_owned(),
        TcpPhase::Retiring => "retiring".to_owned(),
        TcpPhase::Lost(fault) => format!("lost: {fault}"),
    }
}

/// The TCP connections of a client that downloaded, as a table: one line each, every line ended.
pub(crate) fn table(rows: &[(TcpStats, String, Option<f64>)]) -> String {
    let mut text =
        format!("{:<8} {:<28} {:>12} {:>14} {:>10}  {}\n", "TCP", "path", "received", "mean rate", "RTT", "state");
    for (stats, path, mean) in rows {
        text += &format!(
            "{:<8} {:<28} {:>12} {:>14} {:>10}  {}\n",
            stats.tcp.to_string(),
            path,
            size(stats.counters.stream_bytes_received),
            mean.map_or("-".to_owned(), rate),
            stats.smoothed_rtt.map_or("-".to_owned(), time),
            phase(stats.phase),
        );
    }
    text
}
