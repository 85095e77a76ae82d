//! Transfers and actions of applications.

use serde::{Deserialize, Serialize};
use std::fmt;
use tcpls_core::Side;

use super::{Rate, Scheduler, Size, Span};

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

/// A stream, with a given number of bytes each way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Transfer {
    /// When it is opened; not before the session is established.
    #[serde(default)]
    pub at: Span,
    /// The side that opens the stream.
    #[serde(default)]
    pub by: End,
    /// Bytes that the opener writes.
    #[serde(default = "default_request")]
    pub send: Size,
    /// Bytes that the other end writes, once it has seen the stream.
    #[serde(default)]
    pub receive: Size,
    /// The maximum rate of readers; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_rate: Option<Rate>,
    /// The maximum rate of writers; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_rate: Option<Rate>,
    /// The writer resets the stream instead of writing more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_after: Option<Size>,
    /// The reader stops the stream once it has read more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<Size>,
    /// The stream's priority.
    #[serde(default)]
    pub priority: i8,
}

fn default_request() -> Size {
    Size(64)
}

/// An action of an application, besides transfers.
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
    /// How long open streams may continue; a day if absent: `drain` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Span>,
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
    /// A transfer must no longer use a path.
    Detach,
    /// A scheduler is set.
    Scheduler,
    /// The keys are updated.
    UpdateKeys,
    /// A Ping is sent.
    Ping,
    /// The end's address on a path is advertised to the peer.
    Advertise,
    /// That address is withdrawn.
    Withdraw,
    /// A TCP option is sent to the peer's application.
    TcpOption,
    /// The peer is asked for options of the TCP connections of a path.
    AskOptions,
    /// The session is drained.
    Drain,
    /// The session is closed.
    Close,
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join => "join",
            Self::Retire => "retire",
            Self::Backup => "backup",
            Self::Available => "available",
            Self::Attach => "attach",
            Self::Detach => "detach",
            Self::Scheduler => "scheduler",
            Self::UpdateKeys => "key update",
            Self::Ping => "ping",
            Self::Advertise => "advertise",
            Self::Withdraw => "withdraw",
            Self::TcpOption => "TCP option",
            Self::AskOptions => "request for TCP options",
            Self::Drain => "drain",
            Self::Close => "close",
        })
    }
}
