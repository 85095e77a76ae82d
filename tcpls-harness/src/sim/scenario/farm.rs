//! Servers behind a load balancer.

use serde::{Deserialize, Serialize};

use super::Span;

/// Servers with one token secret behind a load balancer, which selects one of them by chance for each TCP connection. A
/// server passes a join of another's session on to that server (`docs/farms.md`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Farm {
    /// How many servers there are. One has no balancer.
    pub servers: u16,
    /// How long a server takes to connect to another. What follows takes no longer than without the hop.
    pub connect: Span,
}

impl Default for Farm {
    fn default() -> Self {
        Self { servers: 1, connect: Span::default() }
    }
}

impl Farm {
    /// Whether there is one server.
    pub(crate) fn is_alone(&self) -> bool {
        self.servers == 1
    }
}
