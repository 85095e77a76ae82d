//! Paths, and faults on them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Rate, Size, Span};

/// A path: the client's and the server's address, and a link each way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Path {
    /// The name that the rest of the file uses.
    pub name: String,
    /// The rate of each link; without limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The rate of the link to the server, if it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_rate: Option<Rate>,
    /// The one-way delay.
    #[serde(default)]
    pub delay: Span,
    /// The maximum of a random addition to the delay.
    #[serde(default)]
    pub jitter: Span,
    /// Bytes that wait for a link; 50 ms at its rate if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Size>,
    /// The place of that queue.
    #[serde(default, skip_serializing_if = "Bottleneck::is_default")]
    pub bottleneck: Bottleneck,
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
    /// The client's use of it.
    #[serde(default)]
    pub role: Role,
    /// The paths with which it shares a bottleneck: see [`Local::group`](crate::dial::Local::group).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The middleboxes on it, from the client to the server.
    #[serde(default, rename = "box", skip_serializing_if = "Vec::is_empty")]
    pub middleboxes: Vec<Middlebox>,
}

impl Path {
    /// A path of this name without delay and without a limit to its rate.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            rate: None,
            up_rate: None,
            delay: Span::default(),
            jitter: Span::default(),
            queue: None,
            bottleneck: Bottleneck::default(),
            loss: 0.0,
            burst: None,
            reorder: 0.0,
            mtu: DEFAULT_MTU,
            role: Role::default(),
            group: None,
            middleboxes: Vec::new(),
        }
    }

    /// Sets the rate of both links, in bits per second.
    #[must_use]
    pub fn rate(mut self, bits_per_second: u64) -> Self {
        self.rate = Some(Rate(bits_per_second / 8));
        self
    }

    /// Sets the delay from one end to the other.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Span(delay);
        self
    }

    /// Sets the size of the queue of each link, in bytes.
    #[must_use]
    pub fn queue(mut self, bytes: u64) -> Self {
        self.queue = Some(Size(bytes));
        self
    }

    /// Sets the probability that a packet is lost; for [`Transport::Packets`](super::Transport::Packets).
    #[must_use]
    pub fn loss(mut self, probability: f64) -> Self {
        self.loss = probability;
        self
    }

    /// Puts it into a group of paths, of which one carries data.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.group = Some(name.into());
        self
    }

    /// Sets what the client uses the path for.
    #[must_use]
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }
}

/// The place of a link's queue, which determines what happens when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bottleneck {
    /// In the sending host: TCP waits until there is room.
    #[default]
    Host,
    /// In a router: packets that do not fit are dropped (drop-tail), and TCP has to repair the loss.
    Router,
}

impl Bottleneck {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A middlebox on a path, from the beginning to the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub enum Middlebox {
    /// Resets TCP connections, on both sides, that do not look like TLS 1.3.
    TlsAware,
    /// Removes an extension from ClientHellos.
    Strip {
        /// Which.
        extension: Extension,
    },
    /// Terminates TCP and opens a new TCP connection: bytes keep their order, but no boundaries.
    Proxy {
        /// The longest time that bytes wait for others.
        hold: Span,
        /// The number of bytes that do not wait.
        most: Size,
    },
}

/// An extension that can be removed from a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extension {
    /// Application protocols, `tcpls` among them.
    Alpn,
    /// The draft's own, which joins have.
    Tcpls,
}

/// A link that alternates between good and bad (Gilbert and Elliott): probabilities for each packet.
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

/// Ethernet's.
pub(super) const DEFAULT_MTU: u16 = 1500;

fn default_mtu() -> u16 {
    DEFAULT_MTU
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_default_mtu(mtu: &u16) -> bool {
    *mtu == DEFAULT_MTU
}

/// The client's use of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It joins there as soon as possible.
    #[default]
    Active,
    /// The same, as a backup.
    Standby,
    /// As a backup, while no other path answers: see [`Local::metered`](crate::dial::Local::metered).
    Metered,
    /// It does not join, except by an action.
    Spare,
}

/// A fault.
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
    /// The direction; both if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The new rate: `rate` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The new delay: `delay` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
}

impl Fault {
    /// A fault that begins at `at` and does not end; some kinds need a path, a rate or a delay.
    pub fn new(kind: FaultKind, at: Duration) -> Self {
        Self { at: Span(at), until: None, kind, path: None, tcp: None, direction: None, rate: None, delay: None }
    }

    /// Sets the path.
    #[must_use]
    pub fn on(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Sets the end.
    #[must_use]
    pub fn until(mut self, end: Duration) -> Self {
        self.until = Some(Span(end));
        self
    }

    /// What the rate of a link is during the fault, or after it, that is `usual` bytes a second. `None`: no limit.
    pub(crate) fn rate_of(&self, over: bool, usual: Option<u64>) -> Option<u64> {
        self.rate.filter(|_| !over).map_or(usual, |rate| Some(rate.0.max(1)))
    }

    /// The same for its delay.
    pub(crate) fn delay_of(&self, over: bool, usual: Duration) -> Duration {
        self.delay.filter(|_| !over).map_or(usual, |delay| delay.0)
    }
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The path's TCP connections are reset at both ends.
    Reset,
    /// The same, but only at the client's end; the server's end hangs.
    ResetClient,
    /// The same, the other way round.
    ResetServer,
    /// A middlebox closes the TCP connections: both ends see a FIN.
    Fin,
    /// A middlebox drops the state of its TCP connections: their bytes no longer pass, without a sign to the ends. New
    /// ones work.
    Forget,
    /// Nothing gets through, silently.
    BlackHole,
    /// TCP connections are reset and new ones refused.
    Down,
    /// The clients' interface is down: nothing gets through, and their operating systems report it.
    InterfaceDown,
    /// The clients' hosts are suspended: they do nothing and receive nothing. Afterwards their operating systems report
    /// it. Their clocks run on, as not all do.
    Suspend,
    /// A load balancer on the path has lost its backend: TCP connections end with a FIN, new ones are accepted and
    /// closed at once.
    BackendAway,
    /// The server's process is replaced: its TCP connections are reset, and it knows none of its sessions.
    Restart,
    /// Nothing gets through on one TCP connection.
    Clog,
    /// The path has another rate.
    Rate,
    /// The path has another delay.
    Delay,
    /// One bit of the passing bytes is flipped.
    Corrupt,
    /// Bytes arrive in pieces of random sizes.
    Shred,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "reset",
            Self::ResetClient => "reset at the client",
            Self::ResetServer => "reset at the server",
            Self::Fin => "FIN",
            Self::Forget => "forgotten",
            Self::BlackHole => "black hole",
            Self::Down => "down",
            Self::InterfaceDown => "interface down",
            Self::Suspend => "suspended",
            Self::BackendAway => "backend away",
            Self::Restart => "restart",
            Self::Clog => "clogged",
            Self::Rate => "other rate",
            Self::Delay => "other delay",
            Self::Corrupt => "corrupted bit",
            Self::Shred => "shredded",
        })
    }
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
