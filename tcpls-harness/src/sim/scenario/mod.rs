//! A scenario: a network, what is transferred over it, what goes wrong and when, and what must come of it. Read from and
//! written as TOML; `docs/simulation.md` explains every field. Nothing runs here: `world` does that.

mod quantity;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tcpls_core::{Config, Side};

pub use self::quantity::{Rate, Size, Span};

/// See the module's description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// What it shows, in a line.
    pub title: String,
    /// Real TLS, or none at all.
    #[serde(default)]
    pub crypto: Crypto,
    /// What TCP is.
    #[serde(default)]
    pub transport: Transport,
    /// What the client does by itself about lost paths.
    #[serde(default)]
    pub keep: Keep,
    /// The run goes on at least until then, even if all transfers are over.
    #[serde(default)]
    pub at_least: Span,
    /// The run ends then at the latest.
    #[serde(default = "default_limit")]
    pub limit: Span,
    /// Settings of the client's end.
    #[serde(default)]
    pub client: Settings,
    /// Settings of the server's end.
    #[serde(default)]
    pub server: Settings,
    /// What must come of it.
    #[serde(default)]
    pub goals: Goals,
    /// The paths between client and server; the first carries the handshake.
    pub path: Vec<Path>,
    /// What is transferred.
    #[serde(default)]
    pub transfer: Vec<Transfer>,
    /// What goes wrong.
    #[serde(default)]
    pub fault: Vec<Fault>,
    /// What the applications do about TCP connections, keys and the session.
    #[serde(default)]
    pub action: Vec<Action>,
}

fn default_limit() -> Span {
    Span(Duration::from_secs(120))
}

/// How records are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crypto {
    /// rustls, with randomness from the seed.
    #[default]
    Tls,
    /// A checksum instead: fast.
    Null,
}

/// What TCP connections are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Byte pipes: fast.
    #[default]
    Pipes,
    /// Real TCP in packets.
    Packets,
}

/// What the client does by itself about lost paths: see `net::Keep`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// It keeps the session: joins when the last TCP connection is lost.
    Session,
    /// It keeps the paths: joins on each whose TCP connection is lost or silent.
    #[default]
    Paths,
}

/// One end's settings; what is absent is as `Config::default()` has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Who carries new stream data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// `send_buffer` and, if that is larger, `stream_send_buffer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_buffer: Option<Size>,
    /// Both of the session's windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_window: Option<Size>,
    /// Both windows of streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_window: Option<Size>,
    /// Streams of the peer's at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_streams: Option<u32>,
    /// `user_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_timeout: Option<Span>,
    /// `idle_timeout`; "0ns" is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,
    /// `session_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_timeout: Option<Span>,
    /// `join_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_timeout: Option<Span>,
    /// `max_tcp_connections`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tcp_connections: Option<u32>,
    /// `spare_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spare_tokens: Option<u32>,
    /// `zero_rtt_join`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_rtt_join: Option<bool>,
    /// `confidentiality_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidentiality_limit: Option<u64>,
}

/// The core's schedulers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is documented in tcpls_core::connection::schedule")]
pub enum Scheduler {
    EarliestDelivery,
    Aggregate,
    LowestRtt,
    RoundRobin,
    Redundant,
    ActiveStandby,
}

/// A path: the client's and the server's address, and a link each way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Path {
    /// By which the rest of the file calls it.
    pub name: String,
    /// Of each link; without limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Of the link to the server, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_rate: Option<Rate>,
    /// From one end to the other.
    #[serde(default)]
    pub delay: Span,
    /// At most so much is added to the delay, at random.
    #[serde(default)]
    pub jitter: Span,
    /// Bytes that wait for a link; 50 ms at its rate if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Size>,
    /// The probability that a packet is lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub loss: f64,
    /// Losses in bursts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
    /// The probability that a packet is overtaken by others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reorder: f64,
    /// The longest packet, in bytes.
    #[serde(default = "default_mtu", skip_serializing_if = "is_default_mtu")]
    pub mtu: u16,
    /// What the client uses it for.
    #[serde(default)]
    pub role: Role,
}

/// A link that is good or bad by turns (Gilbert and Elliott): probabilities, for each packet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// That a good link becomes bad.
    pub begin: f64,
    /// That a bad link becomes good.
    pub end: f64,
    /// That a bad link loses the packet.
    pub loss: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(probability: &f64) -> bool {
    *probability == 0.0
}

const DEFAULT_MTU: u16 = 1500;

fn default_mtu() -> u16 {
    DEFAULT_MTU
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_default_mtu(mtu: &u16) -> bool {
    *mtu == DEFAULT_MTU
}

/// What the client uses a path for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It joins there as soon as it can.
    #[default]
    Active,
    /// The same, as a backup.
    Standby,
    /// It does not, unless an action says so.
    Spare,
}

/// A stream, with a given number of bytes each way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Transfer {
    /// When it is opened; not before the session is established.
    #[serde(default)]
    pub at: Span,
    /// Who opens the stream.
    #[serde(default)]
    pub by: End,
    /// Bytes that the opener writes.
    #[serde(default = "default_request")]
    pub send: Size,
    /// Bytes that the other end writes, once it has seen the stream.
    #[serde(default)]
    pub receive: Size,
    /// Readers take so much at most; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_rate: Option<Rate>,
    /// Writers give so much at most; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_rate: Option<Rate>,
    /// Whoever writes more than that resets the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_after: Option<Size>,
    /// Whoever reads more than that wants no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<Size>,
    /// The stream's priority.
    #[serde(default)]
    pub priority: i8,
}

fn default_request() -> Size {
    Size(64)
}

/// One end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The client.
    #[default]
    Client,
    /// The server.
    Server,
}

impl From<End> for Side {
    fn from(end: End) -> Self {
        match end {
            End::Client => Self::Client,
            End::Server => Self::Server,
        }
    }
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fault {
    /// When it begins.
    pub at: Span,
    /// When it ends; never if absent. Faults that take no time have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Span>,
    /// What.
    pub kind: FaultKind,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// On which of the run's TCP connections, counted from 0 as they are opened: `clog` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<u64>,
    /// Which way; both if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The new rate: `rate` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The new delay: `delay` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The path's TCP connections are reset, and both ends hear it.
    Reset,
    /// The same, but only the client hears it; the server's end hangs.
    ResetClient,
    /// The same, the other way round.
    ResetServer,
    /// Something on the path closes its TCP connections: both ends see a FIN.
    Fin,
    /// Something on the path forgets its TCP connections: nothing of them gets through any more, and nobody is told. New
    /// ones do.
    Forget,
    /// Nothing gets through, and nobody is told.
    BlackHole,
    /// TCP connections are reset and new ones refused.
    Down,
    /// Nothing gets through on one TCP connection.
    Clog,
    /// The path has another rate.
    Rate,
    /// The path has another delay.
    Delay,
    /// One bit of what goes by is flipped.
    Corrupt,
    /// What goes by arrives in pieces of any size.
    Shred,
}

/// One direction of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

/// What an application does, apart from transfers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Action {
    /// When.
    pub at: Span,
    /// At which end.
    #[serde(default)]
    pub by: End,
    /// What.
    pub kind: ActionKind,
    /// Where, if that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The transfer, by number in the file: `attach`, `detach` and `priority`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<usize>,
    /// The new one: `scheduler` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
}

/// Kinds of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// The client connects and joins on a path.
    Join,
    /// The TCP connections of a path are retired.
    Retire,
    /// They become backups.
    Backup,
    /// They are available again.
    Available,
    /// A transfer may use a path.
    Attach,
    /// A transfer may use it no more.
    Detach,
    /// A scheduler is chosen.
    Scheduler,
    /// New keys.
    UpdateKeys,
    /// A sign of life is asked for.
    Ping,
    /// The session is closed.
    Close,
}

/// What must come of a run, beside what must always be: that nothing false is delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Goals {
    /// All transfers are delivered whole (but those that are reset or stopped), and the session is closed on both sides.
    pub complete: bool,
    /// By then all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// No transfer's reader waits longer, between its first byte and its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_gap: Option<Span>,
    /// Bytes that went out again after a loss or a suspicion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requeued: Option<Size>,
    /// TCP connections that the client loses before the session is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lost: Option<usize>,
}

impl Default for Goals {
    fn default() -> Self {
        Self { complete: true, within: None, max_gap: None, max_requeued: None, max_lost: None }
    }
}

impl Settings {
    /// The core's configuration with these settings.
    pub fn config(&self) -> Config {
        let mut config = Config::default();
        if let Some(Size(size)) = self.send_buffer {
            config.send_buffer = usize::try_from(size).unwrap_or(usize::MAX);
            config.stream_send_buffer = config.stream_send_buffer.min(config.send_buffer);
        }
        if let Some(Size(window)) = self.session_window {
            (config.initial_session_window, config.max_session_window) = (window, window);
        }
        if let Some(Size(window)) = self.stream_window {
            (config.initial_stream_window, config.max_stream_window) = (window, window);
        }
        if let Some(idle) = self.idle_timeout {
            config.idle_timeout = (!idle.0.is_zero()).then_some(idle.0);
        }
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut config.max_streams, self.max_streams);
        set(&mut config.user_timeout, self.user_timeout.map(|span| span.0));
        set(&mut config.session_timeout, self.session_timeout.map(|span| span.0));
        set(&mut config.join_timeout, self.join_timeout.map(|span| span.0));
        set(&mut config.max_tcp_connections, self.max_tcp_connections);
        set(&mut config.spare_tokens, self.spare_tokens);
        set(&mut config.zero_rtt_join, self.zero_rtt_join);
        config.confidentiality_limit = self.confidentiality_limit.or(config.confidentiality_limit);
        config
    }
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The scenario as a file.
    pub fn print(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# can't be written as TOML: {error}"))
    }

    /// The number of the path of this name.
    pub(crate) fn path_number(&self, name: &str) -> Option<usize> {
        self.path.iter().position(|path| path.name == name)
    }

    fn check(&self) -> Result<(), String> {
        if self.path.is_empty() {
            return Err("a scenario needs a path".to_owned());
        }
        for (number, path) in self.path.iter().enumerate() {
            let packets = path.loss > 0.0 || path.reorder > 0.0 || path.burst.is_some() || path.mtu != DEFAULT_MTU;
            if packets && self.transport == Transport::Pipes {
                return Err(format!("path {:?}: only packets are lost or reordered, or have a length", path.name));
            }
            if !(576..=9000).contains(&path.mtu) {
                return Err(format!("path {:?}: mtu must be between 576 and 9000", path.name));
            }
            if self.path_number(&path.name) != Some(number) {
                return Err(format!("two paths are called {:?}", path.name));
            }
        }
        self.fault.iter().try_for_each(|fault| self.check_fault(fault))?;
        self.action.iter().try_for_each(|action| self.check_action(action))
    }

    fn check_fault(&self, fault: &Fault) -> Result<(), String> {
        let kind = fault.kind;
        let clog = kind == FaultKind::Clog;
        if kind == FaultKind::Shred && self.transport == Transport::Packets {
            return Err("fault Shred is for pipes: packets are what they are".to_owned());
        }
        let fields = [
            ("path", fault.path.is_some(), !clog),
            ("tcp", fault.tcp.is_some(), clog),
            ("rate", fault.rate.is_some(), kind == FaultKind::Rate),
            ("delay", fault.delay.is_some(), kind == FaultKind::Delay),
        ];
        check_fields(&format!("fault {kind:?} at {}", fault.at), &fields)?;
        if fault.until.is_some_and(|until| until < fault.at) {
            return Err(format!("fault {kind:?} ends at {} before it begins", fault.until.unwrap_or_default()));
        }
        self.check_path(fault.path.as_deref())
    }

    fn check_action(&self, action: &Action) -> Result<(), String> {
        use ActionKind::{Attach, Available, Backup, Close, Detach, Join, Ping, Retire, Scheduler, UpdateKeys};
        let kind = action.kind;
        let fields = [
            ("path", action.path.is_some(), !matches!(kind, Scheduler | UpdateKeys | Close)),
            ("transfer", action.transfer.is_some(), matches!(kind, Attach | Detach)),
            ("scheduler", action.scheduler.is_some(), kind == Scheduler),
        ];
        debug_assert!(matches!(
            kind,
            Join | Retire | Backup | Available | Attach | Detach | Scheduler | UpdateKeys | Ping | Close
        ));
        check_fields(&format!("action {kind:?} at {}", action.at), &fields)?;
        if kind == Join && action.by == End::Server {
            return Err("only clients join".to_owned());
        }
        if action.transfer.is_some_and(|number| number >= self.transfer.len()) {
            return Err(format!("action {kind:?} at {} names a transfer that is not there", action.at));
        }
        self.check_path(action.path.as_deref())
    }

    fn check_path(&self, name: Option<&str>) -> Result<(), String> {
        match name {
            Some(name) if self.path_number(name).is_none() => Err(format!("no path is called {name:?}")),
            _ => Ok(()),
        }
    }
}

/// Each field must be there exactly if the kind wants it: name, is there, is wanted.
fn check_fields(what: &str, fields: &[(&str, bool, bool)]) -> Result<(), String> {
    match fields.iter().find(|(_, there, wanted)| there != wanted) {
        Some((name, _, true)) => Err(format!("{what} needs {name:?}")),
        Some((name, ..)) => Err(format!("{what} has no {name:?}")),
        None => Ok(()),
    }
}
