//! Limits on what all sessions of the server hold, and attackers that try to use it up.

use serde::{Deserialize, Serialize};
use tcpls_core::budget::{Limits, Resource};

use super::{Size, Span};

/// The limits of the server's account; absent ones do not apply. Without any there is no account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Bounds {
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptors: Option<u64>,
    /// TCP connections whose ClientHello has not come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
    /// Sessions in their handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<u64>,
    /// Sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u64>,
    /// Joins that are not authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<u64>,
    /// All clients, attackers among them, have one address. If not, each client has its own, and the attackers share one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub one_address: bool,
}

impl Bounds {
    /// All limits that there are.
    pub(crate) fn all(&self) -> [(Resource, Option<u64>); Resource::ALL.len()] {
        [
            (Resource::Memory, self.memory.map(|size| size.0)),
            (Resource::Descriptors, self.descriptors),
            (Resource::Pending, self.pending),
            (Resource::Handshakes, self.handshakes),
            (Resource::Sessions, self.sessions),
            (Resource::Claims, self.claims),
            (Resource::HandOvers, None),
        ]
    }

    /// Whether there is any.
    pub(crate) fn is_set(&self) -> bool {
        self.all().iter().any(|(_, limit)| limit.is_some())
    }

    pub(crate) fn limits(&self) -> Limits {
        let all = self.all().into_iter();
        all.fold(Limits::UNLIMITED, |limits, (resource, limit)| limits.with(resource, limit.unwrap_or(u64::MAX)))
    }
}

/// An attacker who opens TCP connections to the server, one after the other, and keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Flood {
    /// When the first is opened.
    pub at: Span,
    /// The time between two.
    pub every: Span,
    /// How many are opened.
    pub count: u32,
    /// The kind of the flood.
    #[serde(default)]
    pub kind: FloodKind,
    /// The path of its TCP connections; the first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Kinds of floods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FloodKind {
    /// Each becomes a session, in which nothing happens.
    #[default]
    Session,
    /// Nothing is sent.
    Silent,
    /// Each sends a copy of the first bytes of a client, the last one that came.
    Replay,
}
