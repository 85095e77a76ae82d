//! A scenario: a network, transfers over it, faults, and goals. It is read from and written as TOML;
//! `docs/simulation.md` explains every field. `world` runs it.

mod check;
mod farm;
mod hostile;
mod paths;
mod quantity;
mod settings;
mod traffic;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::farm::Farm;
pub use self::hostile::{Bounds, Flood, FloodKind};
pub use self::paths::{Bottleneck, Burst, Direction, Extension, Fault, FaultKind, Middlebox, Path, Role};
pub use self::quantity::{Rate, Size, Span};
pub use self::settings::{Lanes, Scheduler, Settings};
pub use self::traffic::{Action, ActionKind, End, Transfer};

/// See the module's description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// A title of one line.
    pub title: String,
    /// Real TLS, or null crypto.
    #[serde(default)]
    pub crypto: Crypto,
    /// Whether clients have been here before, and send early data.
    #[serde(default, skip_serializing_if = "has_no_early_data")]
    pub early_data: EarlyData,
    /// Whether both ends make joins TLS resumptions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed_joins: bool,
    /// The transport: byte pipes or packets.
    #[serde(default)]
    pub transport: Transport,
    /// Which TCP connections the client opens by itself.
    #[serde(default)]
    pub keep: Keep,
    /// How many clients, each with a session of its own and with all transfers, over the same paths to the same server.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub clients: usize,
    /// The earliest end of the run, even if all transfers have ended.
    #[serde(default)]
    pub at_least: Span,
    /// The latest end of the run.
    #[serde(default = "default_limit")]
    pub limit: Span,
    /// Settings of the client's end.
    #[serde(default)]
    pub client: Settings,
    /// Settings of the server's end.
    #[serde(default)]
    pub server: Settings,
    /// The servers behind a load balancer.
    #[serde(default, skip_serializing_if = "Farm::is_alone")]
    pub farm: Farm,
    /// Limits on what all sessions of the server hold together.
    #[serde(default, skip_serializing_if = "is_unbounded")]
    pub bounds: Bounds,
    /// The goals of the run.
    #[serde(default)]
    pub goals: Goals,
    /// The paths between client and server; the first carries the handshake.
    pub path: Vec<Path>,
    /// The transfers.
    #[serde(default)]
    pub transfer: Vec<Transfer>,
    /// The faults.
    #[serde(default)]
    pub fault: Vec<Fault>,
    /// Actions of the applications on TCP connections, keys and the session.
    #[serde(default)]
    pub action: Vec<Action>,
    /// Hosts that try to exhaust the server's resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flood: Vec<Flood>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn has_no_early_data(early_data: &EarlyData) -> bool {
    *early_data == EarlyData::None
}

fn is_unbounded(bounds: &Bounds) -> bool {
    *bounds == Bounds::default()
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(clients: &usize) -> bool {
    *clients == 1
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

/// Whether clients have a ticket of an earlier session, and send with it what their applications write before the
/// handshake is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EarlyData {
    /// They have none.
    #[default]
    None,
    /// They have, and the server accepts early data.
    Accepted,
    /// They have, and the server rejects early data.
    Rejected,
}

/// The transport of TCP connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Byte pipes: fast.
    #[default]
    Pipes,
    /// Real TCP in packets.
    Packets,
}

/// Which TCP connections the client opens by itself: see [`Keep`](crate::dial::Keep).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// None.
    Nothing,
    /// It keeps one: it joins when the last TCP connection is lost.
    Session,
    /// It keeps one on each path: it joins when that is lost or stalled.
    #[default]
    Paths,
}

/// The goals of a run, besides the invariant that delivered data is correct.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Goals {
    /// All transfers are delivered completely (except those that are reset or stopped), and both endpoints have closed
    /// the session.
    pub complete: bool,
    /// All transfers are delivered by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// The longest time that a reader waits between the first and the last byte of its transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_gap: Option<Span>,
    /// Bytes that are reinjected after a loss or a stall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requeued: Option<Size>,
    /// TCP connections that the client loses before the session is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lost: Option<usize>,
    /// The client's sessions have ended by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_within: Option<Span>,
    /// The least number of the server's sessions that give way to others, attackers' among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evicted: Option<usize>,
    /// The least number of joins that one server passes on to another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hand_overs: Option<usize>,
    /// There must be no session, TCPLS or plain, at either end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_session: bool,
}

impl Default for Goals {
    fn default() -> Self {
        Self {
            complete: true,
            within: None,
            max_gap: None,
            max_requeued: None,
            max_lost: None,
            over_within: None,
            evicted: None,
            hand_overs: None,
            no_session: false,
        }
    }
}

impl Default for Scenario {
    /// No path, no transfers, and at most 2 minutes.
    fn default() -> Self {
        Self {
            title: String::new(),
            crypto: Crypto::default(),
            early_data: EarlyData::default(),
            resumed_joins: false,
            transport: Transport::default(),
            keep: Keep::default(),
            clients: 1,
            at_least: Span::default(),
            limit: default_limit(),
            client: Settings::default(),
            server: Settings::default(),
            farm: Farm::default(),
            bounds: Bounds::default(),
            goals: Goals::default(),
            path: Vec::new(),
            transfer: Vec::new(),
            fault: Vec::new(),
            action: Vec::new(),
            flood: Vec::new(),
        }
    }
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// The error, and its place in the file.
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
}
