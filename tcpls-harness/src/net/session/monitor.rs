//! What a session does, for people: its paths with their last failures, and its streams.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tcpls_core::connection::{self, Connection};
use tcpls_core::error::TcpFault;
use tcpls_core::stats::{Stats, StreamStats, TcpPhase, TcpStats};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::{ConnectionId, Side, StreamId};

use super::Session;
use super::remotes::Ends;
use super::shared::{Shared, State};
use crate::dial::{Device, Path, PathStatus};

/// Paths whose last failure is remembered.
const MAX_PATHS: usize = 16;
/// Longer labels are cut.
const MAX_LABEL: usize = 256;
/// Labels of ended streams are dropped when there are more than this, and then at each doubling.
const FEW_LABELS: usize = 32;

/// Observes a session without keeping it open; from [`Session::monitor`].
///
/// Two are equal if they observe the same session.
#[derive(Clone)]
pub struct Monitor(Weak<Shared>);

impl Session {
    /// Names the session for those who observe it ([`Monitor::status`]), in at most 256 bytes, for example by its user.
    pub fn set_label(&self, label: &str) {
        self.handle().with(|state| state.notes.get_or_insert_default().labels.set_of_session(label));
    }

    /// Returns an observer of the session, which does not keep it open.
    pub fn monitor(&self) -> Monitor {
        Monitor(self.handle().downgrade())
    }
}

impl PartialEq for Monitor {
    fn eq(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl Eq for Monitor {}

impl Monitor {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// Returns what the session does now, with at most `max_streams` streams; `None` once its sockets are closed.
    pub fn status(&self, max_streams: usize) -> Option<SessionStatus> {
        self.0.upgrade()?.access(|state| if state.has_task_ended() { None } else { Some(state.status(max_streams)) })
    }

    /// Returns the bytes of stream data that were delivered or read; 0 once the sockets are closed. Cheaper than
    /// [`Monitor::status`].
    pub fn delivered(&self) -> u64 {
        self.0.upgrade().map_or(0, |shared| shared.access(|state| state.conn.delivered()))
    }

    /// Whether the session's sockets are closed.
    pub fn has_ended(&self) -> bool {
        self.0.upgrade().is_none_or(|shared| shared.access(|state| state.has_task_ended()))
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("has_ended", &self.has_ended()).finish()
    }
}

/// What a session does, from [`Monitor::status`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionStatus {
    /// The time since the handshake was complete; `None` during the handshake.
    pub age: Option<Duration>,
    /// Whether the peer supports TCPLS.
    pub tcpls: bool,
    /// The time after which it ends without a TCP connection; `None` if it has one.
    pub ends_in: Option<Duration>,
    /// What the application calls it ([`Session::set_label`]).
    pub label: Option<String>,
    /// The counters of the session.
    pub stats: Stats,
    /// The live TCP connections; then the paths without one: those that the client dials, and those that failed.
    pub paths: Vec<PathReport>,
    /// Open streams, the earliest first.
    pub streams: Vec<StreamReport>,
}

/// A path of a session, from [`Monitor::status`]. Several TCP connections may share one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PathReport {
    /// The local address; with port 0 where there is no TCP connection.
    pub local: Option<SocketAddr>,
    /// The peer's address; on a server with port 0 where there is no TCP connection.
    pub remote: Option<SocketAddr>,
    /// The interface that TCP connections on it are bound to, if a client binds them to one.
    pub device: Option<Device>,
    /// Whether it is connected only while no other path works: see [`Local::metered`](crate::dial::Local::metered).
    pub metered: bool,
    /// Its TCP connection.
    pub tcp: Option<TcpStats>,
    /// The last failure of a TCP connection between these hosts; on a client, to this port.
    pub last_loss: Option<Loss>,
}

/// Why a TCP connection was lost, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The TCP connection.
    pub tcp: ConnectionId,
    /// Why.
    pub fault: TcpFault,
    /// The time since then.
    pub ago: Duration,
}

/// An open stream, from [`Monitor::status`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamReport {
    /// Its counters.
    pub stats: StreamStats,
    /// What the application calls it ([`Stream::set_label`](super::Stream::set_label)).
    pub label: Option<String>,
}

impl State {
    fn status(&self, max_streams: usize) -> SessionStatus {
        let (now, stats) = (self.now(), self.conn.stats());
        let is_live = |tcp: &&TcpStats| !matches!(tcp.phase, TcpPhase::Lost(_));
        let dialed: Vec<PathStatus> = self.dialer.iter().flat_map(|dialer| dialer.paths()).collect();
        let mut paths: Vec<PathReport> = Vec::new();
        for tcp in stats.tcp.iter().filter(is_live) {
            let Ends { local, remote } = self.remotes.ends(tcp.tcp);
            let status = dialed.iter().find(|status| status.tcp == Some(tcp.tcp));
            let (device, metered) = (status.and_then(|status| status.path.device), status.is_some_and(|s| s.metered));
            paths.push(PathReport { local, remote, device, metered, tcp: Some(tcp.clone()), last_loss: None });
        }
        for PathStatus { path, metered, .. } in dialed.into_iter().filter(|status| status.tcp.is_none()) {
            let Path { local, remote, device } = path;
            paths.push(PathReport { local, remote: Some(remote), device, metered, tcp: None, last_loss: None });
        }
        let notes = self.notes.as_deref();
        for loss in notes.iter().flat_map(|notes| &notes.losses.0) {
            let report = Loss { tcp: loss.tcp, fault: loss.fault, ago: now - loss.at };
            let side = self.conn.side();
            let mut known = false;
            let is_same = |path: &&mut PathReport| loss.key.covers(Key::of(side, path.local, path.remote, path.device));
            for path in paths.iter_mut().filter(is_same) {
                (path.last_loss, known) = (Some(report), true);
            }
            if !known {
                let Key { local, remote, device } = loss.key;
                let local = local.map(|local| SocketAddr::new(local, 0));
                paths.push(PathReport { local, remote, device, metered: false, tcp: None, last_loss: Some(report) });
            }
        }
        let streams = self.conn.stream_stats().take(max_streams);
        let label = |id: StreamId| notes.and_then(|notes| notes.labels.get(id));
        SessionStatus {
            age: self.began().map(|began| now - began),
            tcpls: self.established().is_some_and(|established| established.tcpls),
            ends_in: match self.conn.state() {
                connection::State::Stranded { until } => Some(until.saturating_since(now)),
                _ => None,
            },
            label: notes.and_then(|notes| notes.labels.session.as_deref().map(str::to_owned)),
            streams: streams.map(|stats| StreamReport { stats, label: label(stats.id) }).collect(),
            paths,
            stats,
        }
    }
}

/// What a session remembers only for monitors.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The latest failure on each path.
    losses: Losses,
    /// What the application calls the session and its streams.
    pub(crate) labels: Labels,
}

impl Notes {
    /// A TCP connection was lost. One that was retired, or ended with the session, has not failed.
    pub(crate) fn note_loss(
        notes: &mut Option<Box<Self>>,
        side: Side,
        at: Time,
        (tcp, fault): (ConnectionId, TcpFault),
        ends: Ends,
        device: Option<Device>,
    ) {
        if !fault.was_meant() {
            let key = Key::of(side, ends.local, ends.remote, device);
            notes.get_or_insert_default().losses.note(PathLoss { key, tcp, fault, at });
        }
    }
}

/// What identifies a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    local: Option<IpAddr>,
    /// On a server with port 0: a client uses another one for each TCP connection.
    remote: Option<SocketAddr>,
    /// The interface, if it is known. Its addresses may change.
    device: Option<Device>,
}

impl Key {
    fn of(side: Side, local: Option<SocketAddr>, remote: Option<SocketAddr>, device: Option<Device>) -> Self {
        let remote = remote.map(|remote| match side {
            Side::Client => remote,
            Side::Server => SocketAddr::new(remote.ip(), 0),
        });
        Self { local: local.map(|local| local.ip()), remote, device }
    }

    /// Whether both are the same path.
    fn is(&self, other: Self) -> bool {
        let has_same_begin = match (self.device, other.device) {
            (Some(device), Some(other)) => device == other,
            _ => self.local == other.local,
        };
        self.remote == other.remote && has_same_begin
    }

    /// Whether a path is this one. With neither an interface nor a local address, the routes decide where it begins.
    fn covers(&self, path: Self) -> bool {
        self.is(path) || (self.remote == path.remote && path.local.is_none() && path.device.is_none())
    }
}

/// The last failure on each path.
#[derive(Debug, Default)]
struct Losses(Vec<PathLoss>);

#[derive(Debug)]
struct PathLoss {
    key: Key,
    tcp: ConnectionId,
    fault: TcpFault,
    at: Time,
}

impl Losses {
    fn note(&mut self, loss: PathLoss) {
        self.0.retain(|earlier| !earlier.key.is(loss.key));
        if self.0.len() == MAX_PATHS {
            self.0.remove(0);
        }
        self.0.push(loss);
    }
}

/// What the application calls the session and its streams.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    session: Option<Box<str>>,
    names: BTreeMap<StreamId, Box<str>>,
    /// How many there were after the last time that those of ended streams were dropped.
    kept: usize,
}

impl Labels {
    pub(crate) fn set(&mut self, conn: &Connection, id: StreamId, label: &str) {
        if self.names.len() >= FEW_LABELS.max(2 * self.kept) {
            let open: Vec<StreamId> = conn.stream_stats().map(|stats| stats.id).collect();
            self.names.retain(|id, _| open.binary_search(id).is_ok());
            self.kept = self.names.len();
        }
        self.names.insert(id, cut(label).into());
    }

    pub(crate) fn set_of_session(&mut self, label: &str) {
        if self.session.as_deref() != Some(cut(label)) {
            self.session = Some(cut(label).into());
        }
    }

    /// The memory that they need, in bytes.
    pub(crate) fn memory(&self) -> usize {
        (self.names.len() + usize::from(self.session.is_some())) * MAX_LABEL
    }

    fn get(&self, id: StreamId) -> Option<String> {
        self.names.get(&id).map(|label| label.to_string())
    }
}

/// The begin of a label, at most [`MAX_LABEL`] bytes.
fn cut(label: &str) -> &str {
    let ends = label.char_indices().map(|(at, c)| at + c.len_utf8());
    &label[..ends.take_while(|end| *end <= MAX_LABEL).last().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(local: u8, remote: u8, port: u16) -> Ends {
        let address = |host, port| SocketAddr::from(([192, 0, 2, host], port));
        Ends { local: Some(address(local, port)), remote: Some(address(remote, 443 + port)) }
    }

    #[test]
    fn last_failure_of_each_path_is_kept_and_of_at_most_16() {
        let (mut notes, tcp) = (None, ConnectionId);
        let lose = |notes: &mut Option<_>, side: Side, tcp: u32, fault: TcpFault, ends: Ends| {
            Notes::note_loss(notes, side, Time::ZERO, (ConnectionId(tcp), fault), ends, None);
        };
        lose(&mut notes, Side::Server, 2, TcpFault::SessionClosed, ends(1, 2, 7));
        assert!(notes.is_none(), "it has not failed");
        lose(&mut notes, Side::Server, 0, TcpFault::Reset, ends(1, 2, 5));
        lose(&mut notes, Side::Server, 1, TcpFault::Fin, ends(1, 2, 6));
        lose(&mut notes, Side::Server, 2, TcpFault::SessionClosed, ends(1, 2, 7));
        let kept: Vec<_> = notes.as_ref().unwrap().losses.0.iter().map(|loss| (loss.tcp, loss.fault)).collect();
        assert_eq!(kept, [(tcp(1), TcpFault::Fin)], "a client's port does not matter");
        for host in 10..40 {
            lose(&mut notes, Side::Client, 3, TcpFault::Reset, ends(1, host, 0));
        }
        assert_eq!(notes.unwrap().losses.0.len(), MAX_PATHS);
    }

    #[test]
    fn loss_is_of_the_interface_that_the_path_begins_at() {
        let remote = Some(SocketAddr::from(([192, 0, 2, 1], 443)));
        let local = Some(SocketAddr::from(([192, 0, 2, 7], 50_000)));
        let [wlan, usb] = ["wlan0", "usb0"].map(Device::new);
        let other = Some(SocketAddr::from(([192, 0, 2, 8], 50_000)));
        let key = |local, device| Key::of(Side::Client, local, remote, device);
        let lost = key(local, wlan);
        for path in [key(None, wlan), key(other, wlan), key(local, None), key(None, None)] {
            assert!(lost.covers(path), "{path:?}");
        }
        for path in [key(None, usb), key(local, usb), key(other, None)] {
            assert!(!lost.covers(path), "{path:?}");
        }
    }
}
