//! A scenario: a network, what is transferred over it, what goes wrong and when, and what must come of it. Read from and
//! written as TOML; `docs/simulation.md` explains every field. Nothing runs here: `world` does that.

mod check;
mod hostile;
mod paths;
mod quantity;
mod settings;
mod traffic;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::hostile::{Bounds, Flood, FloodKind};
pub use self::paths::{Bottleneck, Burst, Direction, Extension, Fault, FaultKind, Middlebox, Path, Role};
pub use self::quantity::{Rate, Size, Span};
pub use self::settings::{Scheduler, Settings};
pub use self::traffic::{Action, ActionKind, End, Transfer};

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
    /// How many clients, each with a session of its own and with all transfers, over the same paths to the same server.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub clients: usize,
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
    /// What all sessions of the server may hold together.
    #[serde(default, skip_serializing_if = "is_unbounded")]
    pub bounds: Bounds,
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
    /// Hosts that try to exhaust the server's resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flood: Vec<Flood>,
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
    /// Bytes that were sent again after a loss or a stall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requeued: Option<Size>,
    /// TCP connections that the client loses before the session is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lost: Option<usize>,
    /// The client's sessions are over by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_within: Option<Span>,
    /// The least number of the server's sessions that give way to others, attackers' among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evicted: Option<usize>,
    /// There must be no session, of any kind, at either end.
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
            no_session: false,
        }
    }
}

impl Default for Scenario {
    /// No path and nothing to do; two minutes at most.
    fn default() -> Self {
        Self {
            title: String::new(),
            crypto: Crypto::default(),
            transport: Transport::default(),
            keep: Keep::default(),
            clients: 1,
            at_least: Span::default(),
            limit: default_limit(),
            client: Settings::default(),
            server: Settings::default(),
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
}
