//! What a running command says of its sessions, as JSON.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tcpls_core::stats::{TcpPhase, TcpStats};
use tcpls_core::wire::ids::ConnectionId;

use crate::cli::units::bits_per_second;
use crate::links::Host;
use crate::net::{Loss, PathReport, SessionStatus, StreamReport};

/// The version of requests and answers. Fields may be added without another one.
pub(super) const VERSION: u32 = 1;

/// A request: one line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) version: u32,
}

/// An answer that says why there is none: one line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refused {
    pub(super) version: u32,
    pub(super) error: String,
}

/// A running command: one line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Status {
    pub(super) version: u32,
    pub(super) time: String,
    pub(super) pid: u32,
    pub(super) command: String,
    pub(super) uptime_seconds: f64,
    /// How many there are; those with the most traffic are listed.
    pub(super) sessions_open: usize,
    /// Why a client has no session, or no new one.
    #[serde(default)]
    pub(super) no_session: Option<String>,
    pub(super) sessions: Vec<Session>,
}

/// A session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) session: u64,
    /// The user of a proxy that made the latest request.
    #[serde(default)]
    pub(super) user: Option<String>,
    pub(super) tcpls: bool,
    pub(super) age_seconds: Option<f64>,
    /// Whether it has no TCP connection.
    pub(super) stranded: bool,
    /// The time after which it ends without one.
    #[serde(default)]
    pub(super) ends_in_seconds: Option<f64>,
    pub(super) bytes_to_send: usize,
    pub(super) bytes_to_read: usize,
    /// How many there are; the earliest are listed.
    pub(super) streams_open: usize,
    pub(super) paths: Vec<Path>,
    pub(super) streams: Vec<Stream>,
}

/// A path.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Path {
    pub(super) interface: Option<String>,
    pub(super) local: Option<SocketAddr>,
    pub(super) remote: Option<SocketAddr>,
    pub(super) tcp: Option<u32>,
    /// `opening`, `active`, `backup`, `lane`, `stalled`, `retiring`; without a TCP connection `down`, or `metered` if it
    /// is not to have one while another path works.
    pub(super) state: String,
    pub(super) rtt_ms: Option<f64>,
    pub(super) min_rtt_ms: Option<f64>,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    #[serde(flatten)]
    pub(super) rates: Rates,
    pub(super) last_loss: Option<LastLoss>,
}

/// What was sent and received in the last interval; the reader of two answers adds it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Rates {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bits_per_second_sent: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bits_per_second_received: Option<f64>,
}

/// The last failure of a path.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LastLoss {
    pub(super) tcp: u32,
    pub(super) cause: String,
    pub(super) seconds_ago: f64,
}

/// A stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stream {
    pub(super) stream: u32,
    pub(super) target: Option<String>,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    #[serde(flatten)]
    pub(super) rates: Rates,
    pub(super) bytes_unacknowledged: usize,
    pub(super) bytes_unread: usize,
}

impl Session {
    pub(super) fn new(session: u64, status: SessionStatus, host: &Host) -> Self {
        let is_live = |path: &PathReport| path.tcp.is_some();
        let stranded = !status.paths.iter().any(is_live);
        Self {
            session,
            user: status.label,
            tcpls: status.tcpls,
            age_seconds: status.age.map(|age| age.as_secs_f64()),
            stranded,
            ends_in_seconds: status.ends_in.map(|time| time.as_secs_f64()),
            bytes_to_send: status.stats.bytes_to_send,
            bytes_to_read: status.stats.bytes_to_read,
            streams_open: status.stats.streams_open,
            paths: status.paths.iter().map(|path| Path::new(path, stranded, host)).collect(),
            streams: status.streams.into_iter().map(Stream::from).collect(),
        }
    }
}

impl Path {
    fn new(path: &PathReport, stranded: bool, host: &Host) -> Self {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let tcp = path.tcp.as_ref();
        let unconnected = if path.metered && !stranded { "metered" } else { "down" };
        Self {
            interface: path.device.map(|device| device.to_string()).or_else(|| interface(host, path.local?)),
            local: path.local,
            remote: path.remote,
            tcp: tcp.map(|tcp| tcp.tcp.0),
            state: tcp.map_or(unconnected, state).to_owned(),
            rtt_ms: tcp.and_then(|tcp| tcp.smoothed_rtt).map(milliseconds),
            min_rtt_ms: tcp.and_then(|tcp| tcp.min_rtt).map(milliseconds),
            bytes_sent: tcp.map_or(0, |tcp| tcp.counters.bytes_sent),
            bytes_received: tcp.map_or(0, |tcp| tcp.counters.bytes_received),
            rates: Rates::default(),
            last_loss: path.last_loss.map(LastLoss::from),
        }
    }
}

/// The name of the interface that has this address.
fn interface(host: &Host, local: SocketAddr) -> Option<String> {
    host.with_address(local.ip().to_canonical()).map(|interface| interface.device.to_string())
}

fn state(tcp: &TcpStats) -> &'static str {
    match tcp.phase {
        TcpPhase::Opening => "opening",
        TcpPhase::Retiring => "retiring",
        _ if tcp.stalled => "stalled",
        _ if tcp.backup => "backup",
        _ if tcp.lane => "lane",
        _ => "active",
    }
}

impl From<Loss> for LastLoss {
    fn from(loss: Loss) -> Self {
        let ConnectionId(tcp) = loss.tcp;
        Self { tcp, cause: loss.fault.to_string(), seconds_ago: loss.ago.as_secs_f64() }
    }
}

impl From<StreamReport> for Stream {
    fn from(report: StreamReport) -> Self {
        let stats = report.stats;
        Self {
            stream: stats.id.0,
            target: report.label,
            bytes_sent: stats.written,
            bytes_received: stats.received,
            rates: Rates::default(),
            bytes_unacknowledged: stats.unacknowledged,
            bytes_unread: stats.unread,
        }
    }
}

impl Rates {
    /// The rates from one pair of counters, of sent and received bytes, to another.
    fn between(before: (u64, u64), after: (u64, u64), time: Duration) -> Self {
        let rate = |before: u64, after: u64| Some(bits_per_second(after.saturating_sub(before), time));
        Self { bits_per_second_sent: rate(before.0, after.0), bits_per_second_received: rate(before.1, after.1) }
    }

    /// Both directions together.
    pub(super) fn sum(self) -> f64 {
        self.bits_per_second_sent.unwrap_or(0.0) + self.bits_per_second_received.unwrap_or(0.0)
    }
}

impl Status {
    /// Adds the rates since an earlier answer of the same command. What is new began at 0.
    pub(super) fn add_rates(&mut self, before: &Self) {
        let time = Duration::try_from_secs_f64(self.uptime_seconds - before.uptime_seconds).unwrap_or_default();
        for session in &mut self.sessions {
            let old = before.sessions.iter().find(|old| old.session == session.session);
            for path in &mut session.paths {
                let same = |old: &&Path| old.tcp == path.tcp && old.local == path.local && old.remote == path.remote;
                let old = old.and_then(|old| old.paths.iter().find(same));
                let then = old.map_or((0, 0), |old| (old.bytes_sent, old.bytes_received));
                path.rates = Rates::between(then, (path.bytes_sent, path.bytes_received), time);
            }
            for stream in &mut session.streams {
                let old = old.and_then(|old| old.streams.iter().find(|old| old.stream == stream.stream));
                let then = old.map_or((0, 0), |old| (old.bytes_sent, old.bytes_received));
                stream.rates = Rates::between(then, (stream.bytes_sent, stream.bytes_received), time);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::net;
    use crate::sim::{Simulation, scenario};

    /// The names of all fields in a value.
    fn names(value: &Value, all: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                all.push(name.clone());
                names(value, all);
            }),
            Value::Array(list) => list.iter().for_each(|value| names(value, all)),
            _ => {}
        }
    }

    #[test]
    fn report_of_a_session_has_its_user_its_end_and_the_state_of_each_path() {
        let client = async |session: net::Session| {
            let host = Host::new(Vec::new(), Vec::new());
            let mut status = session.monitor().status(1).unwrap();
            let seen = Session::new(3, status.clone(), &host);
            assert_eq!((seen.session, seen.user, seen.ends_in_seconds, seen.stranded), (3, None, None, false));
            let mut shown = |phase, [stalled, backup, lane]: [bool; 3]| {
                let tcp = status.paths[0].tcp.as_mut().unwrap();
                (tcp.phase, tcp.stalled, tcp.backup, tcp.lane) = (phase, stalled, backup, lane);
                Session::new(0, status.clone(), &host).paths[0].state.clone()
            };
            for (phase, flags, expected) in [
                (TcpPhase::Opening, [false; 3], "opening"),
                (TcpPhase::Active, [false; 3], "active"),
                (TcpPhase::Active, [false, true, false], "backup"),
                (TcpPhase::Active, [false, false, true], "lane"),
                (TcpPhase::Active, [true, true, true], "stalled"),
                (TcpPhase::Retiring, [false; 3], "retiring"),
            ] {
                assert_eq!(shown(phase, flags), expected);
            }
            let mut unconnected = PathReport { tcp: None, ..status.paths[0].clone() };
            for (metered, expected) in [(false, "down"), (true, "metered")] {
                unconnected.metered = metered;
                status.paths.truncate(1);
                status.paths.push(unconnected.clone());
                assert_eq!(Session::new(0, status.clone(), &host).paths[1].state, expected);
            }
            status.paths.remove(0);
            (status.ends_in, status.label) = (Some(Duration::from_millis(2500)), Some("ann".to_owned()));
            let away = Session::new(0, status, &host);
            assert_eq!((away.stranded, away.ends_in_seconds, away.user.as_deref()), (true, Some(2.5), Some("ann")));
            assert_eq!(away.paths[0].state, "down", "no other path works, so it is to be connected");
            session.close(Default::default(), b"").await;
            std::io::Result::Ok(())
        };
        let server = |session: net::Session| async move { _ = session.closed().await };
        Simulation::new(1).path(scenario::Path::new("fiber")).server(server).client(client).run().unwrap();
    }

    #[test]
    fn the_page_on_the_status_names_every_field() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/status.md")).unwrap();
        let before: Status = serde_json::from_str(include_str!("testdata/before.json")).unwrap();
        let mut status: Status = serde_json::from_str(include_str!("testdata/after.json")).unwrap();
        status.add_rates(&before);
        let mut all = Vec::new();
        names(&serde_json::to_value(&status).unwrap(), &mut all);
        for part in ["uptime_seconds", "bits_per_second_sent", "last_loss", "cause", "bytes_unread"] {
            assert!(all.iter().any(|name| name == part), "the test data has no {part}");
        }
        for name in all {
            assert!(page.contains(&format!("`{name}`")), "docs/status.md lacks {name}");
        }
    }
}
